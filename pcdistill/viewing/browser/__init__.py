"""The page for the browser, alone, live and in notebooks."""
