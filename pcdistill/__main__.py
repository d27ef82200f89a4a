"""`python -m pcdistill`: the command line."""

import sys

from pcdistill.cli import main

if __name__ == "__main__":
    sys.exit(main())
