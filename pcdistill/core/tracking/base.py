"""What a tracker is: who is told of the losses, pictures and results of a long command."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pcdistill.core.errors import InputError
from pcdistill.core.registry import Registry

Facts = Mapping[str, Any]  # values that JSON has


class Tracker:
    """Is told what comes of one run, as it comes; it keeps it, or passes it on.

    Args:
        folder: of the run (`--log`), which is there; what a tracker keeps on this machine lies in it.
        settings: of the command, as JSON has them.
        goes_on: whether the run continues the one that the folder is of.

    Raises:
        InputError: a package that it needs is missing.
    """

    def __init__(self, folder: Path, settings: Facts, goes_on: bool) -> None:
        self.folder, self.settings, self.goes_on = folder, settings, goes_on

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Losses of step number `step`, from 1, by their names."""

    def picture(self, step: int, path: Path) -> None:
        """The clouds after a step, in a PNG within the folder."""

    def result(self, name: str, facts: Facts) -> None:
        """What came out, once it is known: of a set, a network, a cell of a grid."""

    def close(self, finished: bool) -> None:
        """The run is over: finished, or stopped on the way. Called in any case, and last."""


trackers: Registry[type[Tracker]] = Registry("tracker", group="pcdistill.trackers")


def needed(module: str, package: str) -> Any:
    """A module that a tracker needs, imported only when that one is asked for.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise InputError("trackers", f"{package} is not installed", f"pip install {package}") from None


def run_id(folder: Path, name: str, goes_on: bool, fresh: Callable[[], str]) -> str:
    """What a service knows a run by: kept in the folder, so that a run that goes on is the same one there."""
    kept = folder / f"{name}.id"
    if not (goes_on and kept.is_file()):
        kept.write_text(fresh() + "\n", encoding="utf-8")
    return kept.read_text(encoding="utf-8").strip()


def only_numbers(facts: Facts) -> dict[str, float]:
    """Those of the facts that are numbers, for who draws curves and columns of them."""
    return {key: float(value) for key, value in facts.items() if isinstance(value, int | float)}
