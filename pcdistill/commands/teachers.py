"""`pcdistill teachers`: find the teacher that suits a student and a set."""

from pcdistill.commands.base import Command
from pcdistill.core.progress import Say
from pcdistill.experiments.search import TeachersSpec
from pcdistill.experiments.teachers import search


class Teachers(TeachersSpec, Command):
    """Find the teacher that suits a student and a set, among networks, snapshots and temperatures."""

    def run(self, say: Say) -> None:
        with self.tracking() as told:
            search(self, say, told)
