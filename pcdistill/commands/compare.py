"""`pcdistill compare`: carry out a grid."""

from typing import Annotated

from pydantic import Field

from pcdistill.commands.base import Command
from pcdistill.core.progress import Say
from pcdistill.experiments.grid import plan_grid, run_grid
from pcdistill.experiments.spec import GridSpec


class Compare(GridSpec, Command):
    """Compare methods at several budgets; the same command again goes on where it was stopped."""

    dry_run: Annotated[bool, Field(description="say what would be made and trained, and do nothing")] = False

    def run(self, say: Say) -> None:
        (plan_grid if self.dry_run else run_grid)(self, say)
