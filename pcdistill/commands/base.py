"""What a command is."""

from abc import abstractmethod

from pcdistill.core.log import LOG
from pcdistill.core.options import Options
from pcdistill.core.progress import Say


class Command(Options):
    """A job of the command line: its fields are flags and keys of TOML files, `run` does it.

    A command is one file here, whose class has its name with a capital, and one line in `commands.COMMANDS`.
    """

    @abstractmethod
    def run(self, say: Say) -> None:
        """Do it, and say what was done: what is said goes to standard output, line by line.

        Raises:
            InputError, OSError: bad input, as early as it can be known.
        """


def tell(*sets: object) -> None:
    """Lines on how data sets were read: what was filled up, left out, taken for something. Of anything else none."""
    # Commands that read no clouds start without torch.
    from pcdistill.clouds import PointClouds
    from pcdistill.data import StreamedClouds, remarks, skipped

    read = [one for one in sets if isinstance(one, PointClouds | StreamedClouds)]
    for line in [*remarks(*read), *(f"left out: {line}" for line in skipped(*read))]:
        warn(line)


def warn(text: str) -> None:
    """A line for people that is no part of the output."""
    LOG.warning("%s", text)
