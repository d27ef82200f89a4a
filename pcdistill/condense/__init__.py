"""Making sets: what is asked (`spec`), resolved (`plan`), begun (`start`), timed (`schedule`), made (`make`, `loop`).

>>> import pcdistill as pcd
>>> real = pcd.load("shapes", "train", points=64)[::10]
>>> pcd.select(real, method="random", bytes_per_class=200).clouds
PointClouds(shapes random: 100 clouds x 256 points, 10 classes)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import CloudSource
from pcdistill.condense import make
from pcdistill.condense.loop import Follower
from pcdistill.condense.outcome import Outcome
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import DistillSpec, SelectSpec
from pcdistill.core.log import LOG


def select(real: CloudSource, *, device: str = "cpu", **asked: Any) -> Artefact:
    """A coreset: real clouds chosen, and stored at a budget.

    Args:
        real: the training set.
        device: where networks are: cpu, cuda, cuda:1, mps, or auto.
        asked: fields of `SelectSpec`: a size as `bytes_per_class=1229` or `clouds_per_class=4`, `method`, `seed`, ...

    Raises:
        InputError: an unknown option or name, or an impossible size.
    """
    return make.select(real, resolve(SelectSpec.checked(asked, "select"), device))


def distill(
    real: CloudSource,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    followers: Sequence[Follower] = (),
    device: str = "cpu",
    **asked: Any,
) -> Artefact:
    """A set condensed into synthetic clouds; a warning of the logger `pcdistill` says if its loss has not fallen.

    Args:
        real: the training set.
        checkpoint: file that the state is written to on Ctrl-C, every two minutes and at the end.
        resume: go on from the checkpoint, if there is one.
        followers: told of every step, as `loop.Follower`.
        device: where networks and what is learned are: cpu, cuda, cuda:1, mps, or auto.
        asked: fields of `DistillSpec`: a size as `bytes_per_class=1229`, `objective`, `steps`, `preset`, `seed`, ...

    Raises:
        InputError: an unknown option or name, or an impossible size.
        Interrupted: Ctrl-C, after the state was saved.
    """
    plan, outcome = resolve(DistillSpec.checked(asked, "distill"), device), Outcome()
    made = make.distill(real, plan, checkpoint=checkpoint, resume=resume, followers=[*followers, outcome])
    if outcome.worse:
        LOG.warning("distill: %s (a lower lr may help)", outcome.worse)
    return made


__all__ = ["DistillSpec", "Follower", "SelectSpec", "distill", "select"]
