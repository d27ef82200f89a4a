"""What would be made, and how long it takes, without making it."""

from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple, TypeVar

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import CloudSource, placed
from pcdistill.condense import loop, make
from pcdistill.condense.loop import DistillSettings
from pcdistill.condense.plan import DistillPlan, SelectPlan
from pcdistill.condense.schedule import schedule
from pcdistill.selection import selectors
from pcdistill.selection.base import asked_by

TIMED = 3  # steps
Plan = TypeVar("Plan", bound=SelectPlan)


class Preview(NamedTuple):
    """Of a set that is not made.

    Attributes:
        artefact: the set as it would be, or as it would begin.
        standing_in: whether random clouds stand in for those that trained networks would choose.
        settings: of distilling; None for a selection.
        seconds: of distilling, about; None where that is not known, as what it needs of the real set is not there yet.
    """

    artefact: Artefact
    standing_in: bool
    settings: DistillSettings | None = None
    seconds: float | None = None


def preview(real: CloudSource, plan: SelectPlan) -> Preview:
    """What `make.select` or `make.distill` would make of `real`; nothing is trained, and nothing kept.

    A few steps are timed where what they need is in the cache.

    Raises:
        InputError: as `make.select`, and settings that do not suit the set.
    """
    cheap = _cheap(plan)
    first = make.select(real, cheap)
    if not isinstance(plan, DistillPlan):
        return Preview(first, cheap is not plan)
    storage, objective = deepcopy(first.storage), plan.objective
    settings = schedule(plan.spec, objective, storage)
    seen = real if plan.focus is None else plan.focus.on(real)
    seconds = None
    if objective.prepared(placed(seen, plan.device)):
        trial = settings.model_copy(update={"steps": min(TIMED, settings.steps), "snapshots": 0})
        done = loop.distill(seen, storage, objective, trial, device=plan.device)
        seconds = done.seconds * settings.steps / max(1, trial.steps)
    return Preview(first, cheap is not plan, settings, seconds)


def _cheap(plan: Plan) -> Plan:
    """The plan itself, or where networks would have to be trained for it one of random clouds and fitted shapes."""
    spec = plan.spec
    looked_at = {"el2n", "aum"} & asked_by(selectors[plan.method])
    if plan.features != "trained" and not looked_at and spec.quota != "gain" and spec.auto == "fitted":
        return plan
    quota = "even" if spec.quota == "gain" else spec.quota
    fitted = spec.model_copy(update={"quota": quota, "auto": "fitted"})
    return replace(plan, spec=fitted, method="random", features="raw", skip=None)
