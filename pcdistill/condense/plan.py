"""From what is asked to what is done: names become objects, files are read, and bad input ends here.

This is the only place of `condense` that looks names up; below it nothing is looked up or read a second time.
"""

from dataclasses import dataclass
from typing import Any, overload

from pcdistill.artefact.expansion import Expansion
from pcdistill.condense.spec import BudgetSpec, DistillSpec, SelectSpec, SetSpec
from pcdistill.core.devices import resolved
from pcdistill.core.engine import ALONE, Team
from pcdistill.core.errors import InputError
from pcdistill.core.options import merged
from pcdistill.matching import Objective, objectives
from pcdistill.matching.surrogates import check_networks
from pcdistill.selection import check_features, check_skip, selectors, usual_features
from pcdistill.storage import Storage, storages
from pcdistill.teaching import Focus, KeptTeacher, Teacher, read_teacher
from pcdistill.training.recipe import EvaluationProtocol, protocol


@dataclass(frozen=True)
class SelectPlan:
    """How real clouds are chosen and stored.

    Attributes:
        spec: the numbers that were asked for.
        protocol: how networks trained on the set are to be evaluated.
        storage: the parameterisation.
        method, features: how clouds are chosen, of `selectors`, and what they are compared by: `raw`, `trained`, or a
            network.
        skip: of every class, the share of the hardest clouds that is left out; None: as the method likes.
        teacher: who gives soft labels; None for hard ones, or learned ones that start from their class.
        expansion: what networks are trained on besides; None for nothing.
        kept: the teacher as the file will hold it; None for none.
        device: where networks and what is learned are.
    """

    spec: SetSpec
    protocol: EvaluationProtocol
    storage: type[Storage]
    method: str
    features: str
    skip: float | None
    teacher: Teacher | None
    expansion: Expansion | None
    kept: KeptTeacher | None
    device: str


@dataclass(frozen=True)
class DistillPlan(SelectPlan):
    """How a set is distilled, from what is chosen as in `SelectPlan`. For one set: the objective carries its state.

    Attributes:
        objective: not yet prepared.
        focus: the student that the set is to complement; None for none.
    """

    spec: DistillSpec
    objective: Objective
    focus: Focus | None


@overload
def resolve(spec: SelectSpec, device: str = "cpu") -> SelectPlan: ...
@overload
def resolve(spec: DistillSpec, device: str = "cpu", team: Team = ALONE) -> DistillPlan: ...
def resolve(spec: SelectSpec | DistillSpec, device: str = "cpu", team: Team = ALONE) -> SelectPlan | DistillPlan:
    """All that `spec` names, to be computed on a device; `team` shares the pass of a distillation over the real set.

    Raises:
        InputError: an unknown name, an impossible size, settings that exclude one another, a file that is missing or
            not what it should be.
    """
    spec.check_budget()
    device = resolved(device)
    storage, teacher, expansion = storage_of(spec), teacher_of(spec, device), spec.expansion()
    kept = KeptTeacher.of(teacher) if teacher is not None and spec.labels == "network" else None
    if isinstance(spec, SelectSpec):
        features = spec.features or usual_features(selectors[spec.method])
        check_features(features)
        check_skip(spec.method, spec.skip)
        return SelectPlan(
            spec, protocol_of(spec), storage, spec.method, features, spec.skip, teacher, expansion, kept, device
        )  # fmt: skip
    features = usual_features(selectors[spec.init])
    if spec.rate and storage.rate is Storage.rate:
        raise InputError("rate", f"of storage {storage.name}", "storage coded: its size depends on its points")
    if spec.freeze and storage.kept is Storage.kept:
        raise InputError(
            "freeze", f"in storage {storage.name}, whose clouds share numbers", "one that stores each alone"
        )
    team.check(device)
    objective = objective_of(spec)
    objective.team = team
    return DistillPlan(
        spec, protocol_of(spec), storage, spec.init, features, None, teacher, expansion, kept, device,
        objective, focus_of(spec, device),
    )  # fmt: skip


def protocol_of(spec: SetSpec) -> EvaluationProtocol:
    """The protocol that is named, in the poses that are asked for.

    Raises:
        InputError: an unknown name.
    """
    named = protocol(spec.protocol)
    return named.changed(augmentation=spec.shown(named.recipe.augmentation))


def storage_of(spec: BudgetSpec) -> type[Storage]:
    """The storage that is named, or the one that serves the budget.

    Raises:
        InputError: an unknown name; bits of a storage of grids, or cells of one of points; classes of unequal
            numbers of clouds in one whose clouds share numbers.
    """
    found = storages[spec.storage or _serving(spec)]
    if spec.quota != "even" and found.kept is Storage.kept:
        raise InputError("quota", f"{spec.quota} in storage {found.name!r}", "even")
    if found.dense and spec.bits is not None:
        raise InputError("bits", f"{spec.bits} in storage {found.name!r}", "--side: how fine a grid is")
    if not found.dense and spec.side is not None:
        raise InputError("side", f"{spec.side} in storage {found.name!r}", "storage 'voxels'")
    return found


def _serving(spec: BudgetSpec) -> str:
    """Name of the storage for what is said of its size: grids, unless it is said in points and bits."""
    if spec.side is not None:
        return "voxels"
    if spec.clouds_per_class is not None or (spec.bits or 0) > 12:
        return "points"
    return "voxels" if spec.bits is None else "coded"


def teacher_of(spec: SetSpec, device: str) -> Teacher | None:
    """The teacher that labels a set, if one is named.

    Raises:
        InputError: one that is missing, not wanted or not readable; a temperature without one.
    """
    if not spec.teacher:
        if spec.labels in ("teacher", "network"):
            raise InputError("labels", f"{spec.labels!r} and no --teacher", "a network written by pcdistill train")
        if spec.temperature != 1:
            raise InputError("temperature", f"{spec.temperature} and no --teacher", "both or neither")
        return None
    if spec.labels == "hard":
        found = f"{', '.join(map(str, spec.teacher))} with hard labels"
        raise InputError("teacher", found, "--labels teacher or network (or, distilling, learned)")
    return read_teacher(spec.teacher, spec.temperature, device)


def focus_of(spec: DistillSpec, device: str) -> Focus | None:
    """The student that a set is to complement, if one is named.

    Raises:
        InputError: one that is missing or not readable.
    """
    return None if spec.focus is None else Focus(read_teacher([spec.focus], 1.0, device))


def objective_of(spec: DistillSpec) -> Objective:
    """The objective that is named, with its options, not yet prepared.

    Raises:
        InputError: an unknown objective, option or network; learned labels for an objective that sees classes only.
    """
    kind = objectives[spec.objective]
    if "seed" in spec.options:
        raise InputError("options", "seed", "--seed")
    if spec.labels == "learned" and not kind.learns_labels:
        able = ", ".join(name for name in objectives if objectives[name].learns_labels)
        raise InputError(
            "labels", f"learned with objective {spec.objective}, which sees classes only", f"one of {able}"
        )
    given = {"networks": spec.members, "network": spec.surrogate, "seed": spec.seed}
    bank: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    usual: Any = kind.Options()
    poses = spec.asked()
    if poses and hasattr(usual.bank, "augmentation"):  # networks that see the real set see it so, too
        bank["augmentation"] = poses
    turned = {"augmentation": poses} if poses and hasattr(usual, "augmentation") else {}
    own = kind.partial if spec.freeze else {}
    made = kind(seed=spec.seed, **merged({**own, "bank": bank, **turned}, spec.options))
    check_networks(made.options.bank.network)
    return made
