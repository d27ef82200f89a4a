"""The program, `python -m pcdistill` as well: Ctrl-C while it is imported ends it with one line."""

import sys

from pcdistill.core.signals import leaving_at_once

with leaving_at_once():
    from pcdistill.cli import main

if __name__ == "__main__":
    sys.exit(main())
