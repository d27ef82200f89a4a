"""`pcdistill compare`: carry out a grid."""

from pcdistill.commands.base import Command
from pcdistill.core.progress import Say
from pcdistill.experiments.grid import run_grid
from pcdistill.experiments.spec import GridSpec


class Compare(GridSpec, Command):
    """Compare methods at several budgets; the same command again goes on where it was stopped."""

    def run(self, say: Say) -> None:
        run_grid(self, say)
