"""A reader for every layout of files in use."""
