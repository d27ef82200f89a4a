"""`--log` and `--trackers`: the flags of long commands, and all trackers of a run as one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from pcdistill.core.errors import InputError
from pcdistill.core.log import LOG
from pcdistill.core.options import Options
from pcdistill.core.tracking.base import Facts, Tracker, trackers
from pcdistill.core.tracking.lines import Lines


class Tracking:
    """What a run tells all its trackers; none where nothing is to be kept.

    A line that cannot be written to the folder ends the run. Of other trackers, whose servers may be away, one that
    fails is told of once and left out from then on.

    Args:
        folder: of the run; None without trackers.
        told: who is told, by name.
    """

    def __init__(self, folder: Path | None = None, told: Mapping[str, Tracker] | None = None) -> None:
        self.folder, self.told = folder, dict(told or {})

    def __bool__(self) -> bool:
        return bool(self.told)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """As `Tracker.numbers`, and so on."""
        self._tell(lambda one: one.numbers(step, values))

    def loss(self, step: int, loss: float, name: str = "loss") -> None:
        """A single loss."""
        self.numbers(step, {name: loss})

    def picture(self, step: int, path: Path) -> None:
        self._tell(lambda one: one.picture(step, path))

    def result(self, name: str, facts: Facts) -> None:
        said = {key: None if value != value else value for key, value in facts.items()}  # JSON has no NaN
        self._tell(lambda one: one.result(name, said))

    def close(self, finished: bool) -> None:
        self._tell(lambda one: one.close(finished))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for name, one in list(self.told.items()):
            try:
                what(one)
            except Exception as error:
                if isinstance(one, Lines):
                    raise
                del self.told[name]
                LOG.warning("tracker %s: left out from here (%s: %s)", name, type(error).__name__, error)


class Tracked(Options):
    """A command whose losses, pictures and results are kept, and told to others, if that is asked for."""

    heading: ClassVar[str] = "what is kept of the run"

    log: Annotated[
        Path | None,
        Field(description="folder for log.jsonl, results.jsonl and what trackers keep"),
    ] = None
    trackers: Annotated[
        tuple[str, ...],
        Field(
            description="who is told besides: tensorboard, wandb, mlflow, or one of another package (default: "
            "tensorboard where it is installed)"
        ),
    ] = ()

    @model_validator(mode="after")
    def _check_trackers(self) -> Self:
        if self.trackers and self.log is None:
            raise InputError("trackers", f"{', '.join(self.trackers)}, and no folder", "--log FOLDER")
        for name in self.trackers:
            trackers[name]
        return self

    @contextmanager
    def tracking(self, goes_on: bool = False, part: str = "") -> Iterator[Tracking]:
        """Who is told of the run in this block.

        Args:
            goes_on: whether it continues the one that the folder is of.
            part: of a run of many parts the folder of this one within the run's.

        Raises:
            InputError: a tracker that cannot begin.
            OSError: the folder cannot be made.
        """
        if self.log is None:
            yield Tracking()
            return
        folder = self.log / part
        folder.mkdir(parents=True, exist_ok=True)
        names = self.trackers or (("tensorboard",) if find_spec("tensorboard") else ())
        tracking, finished = Tracking(folder), False
        try:
            self._begin(tracking, folder, ["lines", *names], goes_on)
            yield tracking
            finished = True
        finally:
            tracking.close(finished)

    def _begin(self, tracking: Tracking, folder: Path, names: Sequence[str], goes_on: bool) -> None:
        settings = self.model_dump(mode="json", by_alias=True)
        for name in dict.fromkeys(names):
            try:
                tracking.told[name] = trackers[name](folder, settings, goes_on)
            except (InputError, OSError):
                raise
            except Exception as error:
                found = f"{name} cannot begin ({type(error).__name__}: {error})"
                raise InputError("trackers", found, "an account, a server, or its offline mode") from error
