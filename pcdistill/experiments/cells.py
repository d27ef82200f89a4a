"""The cells of a grid, how each is made and tested, and the keys under which what was done is kept.

A set is one method at one budget with one seed, a cell one network trained on it. The key of either holds a digest of
every setting and of the data that its result follows from; which grid asks for it is none of them.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pcdistill.artefact.artefact import set_name
from pcdistill.condense.plan import objective_of, protocol_of, storage_of
from pcdistill.condense.spec import BudgetSpec, DistillSpec, SelectSpec
from pcdistill.core.environment import versions
from pcdistill.core.errors import InputError
from pcdistill.evaluation import parse_conditions
from pcdistill.experiments.budgets import budget_text, class_bytes, parse_budget
from pcdistill.experiments.spec import HARD, READING, Arm, GridSpec, Labels, Product, TeacherSpec
from pcdistill.models import check_network
from pcdistill.results.record import PRESET, WHOLE
from pcdistill.training.augment import Poses
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.recipe import protocol as protocol_named


class Source(NamedTuple):
    """Where clouds come from: a data set, and what of it is held out, which is what networks are then tested on."""

    data: str
    protocol: str
    validation: float | None
    validation_clouds: int | None
    test_points: int | None

    @property
    def points(self) -> int:
        """Of a cloud, at most in training, and exactly in tests."""
        return self.test_points or protocol_named(self.protocol).test_points


@dataclass(frozen=True)
class Cell:
    """A training set of a grid, and a network that is trained on it: `budget` is None for the whole set.

    Attributes:
        grid: number of its product in the grid.
        number: of the set, from 0; the seeds of its networks follow from it.
    """

    grid: int
    product: Product
    data: str
    arm: str
    budget: BudgetSpec | None
    labels: str
    network: str
    number: int

    @property
    def source(self) -> Source:
        """Where its clouds come from."""
        one = self.product
        return Source(self.data, one.protocol, one.validation, one.validation_clouds, one.test_points)

    @property
    def size(self) -> str:
        """Its budget as a text."""
        return "" if self.budget is None else budget_text(self.budget)

    def words(self) -> list[str]:
        """What tells it from cells beside it, but for its number."""
        storage = (self.budget.storage if self.budget else None) or ""
        named = [set_name(self.data), self.arm, self.size, storage, self.labels if self.labels != HARD else ""]
        return [word for word in named if word]

    def __str__(self) -> str:
        return f"{' '.join(self.words())} seed {self.number} on {self.network}"

    @property
    def place(self) -> tuple[int, str, str]:
        """What cells share that differ in their number alone."""
        return self.grid, " ".join(self.words()), self.network

    def protocol(self, spec: GridSpec) -> EvaluationProtocol:
        """How its network is trained and tested; a changed recipe is called `NAME*`."""
        one, labels = self.product, spec.label(self.labels)
        check_network(self.network)  # refused here
        protocol = protocol_named(one.protocol, self.network)
        changes: dict[str, Any] = {} if labels is None else labels.loss()
        if one.train_steps is not None:
            changes["steps"] = one.train_steps
        changes["augmentation"] = one.shown(protocol.recipe.augmentation)
        return protocol.changed(**changes).model_copy(update={"thin": one.thin, "test_points": self.source.points})

    def record_facts(self) -> dict[str, str]:
        """What the grid wants to stand in its record."""
        values = {
            "arm": self.arm.removeprefix(PRESET), "budget": self.size, "labels": self.labels,
            "data": set_name(self.data), "bytes": None if self.budget is None else class_bytes(self.budget),
        }  # fmt: skip
        try:
            return {name: text.format(**values) for name, text in self.product.facts.items()}
        except (KeyError, ValueError, IndexError) as error:
            offered = ", ".join(f"{{{name}}}" for name in values)
            raise InputError("facts", f"a text with {error}", f"some of {offered}") from None


def cells(spec: GridSpec) -> list[Cell]:
    """All cells that are asked for, in the order of the grid; of the whole set there is one, as nothing is drawn."""
    products = spec.products()
    for product in products:
        _check_conditions(product)
    listed = [cell for grid, product in enumerate(products) for cell in _cells_of(grid, product, spec)]
    if not spec.only:
        return listed
    kept = [cell for cell in listed if any(_is_meant(cell, words.split()) for words in spec.only)]
    if not kept:
        raise InputError("only", f"no cell of '{spec.only[0]}'", f"words of one as in '{listed[0]}'")
    return kept


def _check_conditions(product: Product) -> None:
    if any(condition.dataset for condition in parse_conditions(product.conditions)):
        raise InputError("conditions", "another data set", "conditions of the same clouds")
    if product.conditions and protocol_named(product.protocol).grid is not None:
        raise InputError("conditions", f"with protocol {product.protocol}, which chooses recipes", "another protocol")


def _is_meant(cell: Cell, words: list[str]) -> bool:
    names = [*cell.words(), cell.labels, cell.network, cell.product.protocol, str(cell.product.train_steps)]
    return set(words) <= {*names, cell.arm.removeprefix(PRESET)}


def _cells_of(grid: int, product: Product, spec: GridSpec) -> Iterator[Cell]:
    names = product.networks or (protocol_named(product.protocol).network,)
    for data in product.data:
        for name in product.methods:
            arm = spec.arm(name)
            whole = arm.method == WHOLE
            budgets = [None] if whole else [parse_budget(text) for text in arm.budgets or product.budgets]
            sized = [
                None if budget is None else budget.model_copy(update={"storage": storage})
                for budget in budgets
                for storage in (product.storages if product.storages and not whole else (None,))
            ]
            for budget in sized:
                for labels in product.labels:
                    for number in range(1 if whole else product.distill_seeds):
                        for network in names:
                            yield Cell(grid, product, data, name, budget, labels, network, number)


@dataclass(frozen=True)
class Teacher:
    """A network that labels, trained on what a source has for training."""

    source: Source
    spec: TeacherSpec
    poses: Poses
    settings: dict[str, Any]

    def __str__(self) -> str:
        return f"teacher {self.spec.network} of {set_name(self.source.data)}"

    @property
    def key(self) -> str:
        """Name of its files."""
        return _key(str(self), self.settings)

    def protocol(self) -> EvaluationProtocol:
        """How it is trained."""
        protocol = protocol_named("tuned", self.spec.network)
        shown = self.poses.shown(protocol.recipe.augmentation)
        return protocol.changed(steps=self.spec.steps, augmentation=shown).model_copy(update={"thin": True})


@dataclass(frozen=True)
class SetTask:
    """A training set to be made, with the settings that decide over it.

    Attributes:
        focus: the set whose student it complements.
        teacher: who gives it its labels.
    """

    cell: Cell
    given: SelectSpec | DistillSpec
    settings: dict[str, Any]
    focus: "SetTask | None"
    teacher: Teacher | None

    def __str__(self) -> str:
        words = [word for word in self.cell.words() if word != self.cell.labels or self.teacher is not None]
        return f"{' '.join(words)} seed {self.cell.number}"

    @cached_property
    def key(self) -> str:
        """Name of its files: by what it is made of and how, whatever the arm is called."""
        method = self.given.method if isinstance(self.given, SelectSpec) else self.given.objective
        text = f"{set_name(self.cell.data)} {method} {self.cell.size} seed {self.given.seed}"
        return _key(text, self.settings)

    @property
    def bank(self) -> str | None:
        """What is equal for sets that need the same networks of the real set; None if it needs none, or its own."""
        bank = self.settings.get("objective", {}).get("bank")
        if bank is None or self.focus is not None:
            return None
        return json.dumps([self.settings["data"], bank], sort_keys=True)


@dataclass(frozen=True)
class CellTask:
    """A network to be trained on a set and tested, with the settings that decide over the result.

    Attributes:
        made: the set; None for the whole one.
        beside: the other half of it.
        teacher: who labels while the network is trained.
    """

    cell: Cell
    protocol: EvaluationProtocol
    settings: dict[str, Any]
    made: SetTask | None
    beside: SetTask | None
    teacher: Teacher | None

    def __str__(self) -> str:
        return str(self.cell)

    @cached_property
    def key(self) -> str:
        """Name of the result's file."""
        return _key(str(self.cell), self.settings)


def _key(text: str, settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9@]+', '-', text)}-{digest[:10]}"


class Digests(NamedTuple):
    """Fingerprints of the clouds of a source."""

    real: str
    test: str
    validation: str | None  # that a protocol with a grid chooses recipes on


def task_of(cell: Cell, spec: GridSpec, digests: Digests) -> CellTask:
    """What a cell takes: its settings are JSON values of everything that its result follows from."""
    arm, labels, protocol = spec.arm(cell.arm), spec.label(cell.labels), cell.protocol(spec)
    teacher = None if labels is None else _teacher(cell, spec, digests)
    made = None if cell.budget is None else set_task(cell, spec, digests)
    beside = None if arm.beside is None else set_task(_other(cell, arm.beside, spec), spec, digests)
    settings = {
        "set": digests.real if made is None else made.settings,
        "whole points": cell.product.whole_points if made is None else None,
        "beside": None if beside is None else beside.settings,
        "tested on": [digests.test, digests.validation, list(cell.product.conditions)],
        "protocol": protocol.model_dump(mode="json"),
        "seeds": [cell.number, cell.product.train_seeds],
        "labels": None if labels is None else labels.model_dump(mode="json"),
        "teacher": None if teacher is None else teacher.settings,
    }
    return CellTask(cell, protocol, settings, made, beside, teacher)


def set_task(cell: Cell, spec: GridSpec, digests: Digests) -> SetTask:
    """What the set of a cell takes."""
    arm, labels = spec.arm(cell.arm), spec.label(cell.labels)
    given = _given(cell, arm, labels)
    settings: dict[str, Any] = {
        "data": digests.real,
        "spec": given.model_dump(mode="json", by_alias=True),
        "protocol": protocol_of(given).model_dump(mode="json"),
        "version": versions()["pcdistill"],
    }
    if isinstance(given, DistillSpec):
        objective = objective_of(given)
        settings |= {"objective": objective.describe(), "steps": objective.steps}
    focus = teacher = None
    if arm.focus is not None:
        focus = set_task(_other(cell, arm.focus, spec), spec, digests)
        settings["focus"] = [focus.settings, cell.protocol(spec).model_dump(mode="json")]
    if labels is not None and labels.by != "online":
        teacher = _teacher(cell, spec, digests)
        settings["teacher"] = [teacher.settings, labels.temperature, *(["file"] if labels.by == "file" else [])]
    return SetTask(cell, given, settings, focus, teacher)


def _given(cell: Cell, arm: Arm, labels: Labels | None) -> SelectSpec | DistillSpec:
    """How the set is made, but for files that are not there yet: a teacher's, or a student's."""
    assert cell.budget is not None
    values: dict[str, Any] = {
        **cell.budget.model_dump(by_alias=True, exclude_defaults=True), "protocol": cell.product.protocol,
        "seed": arm.first_seed + cell.number, **cell.product.asked(), **arm.settings,
    }  # fmt: skip
    place = f"arm {cell.arm}"
    if arm.selects:
        given: SelectSpec | DistillSpec = SelectSpec.checked({**values, "method": arm.method}, place)
    else:
        if cell.product.steps is not None:
            values.setdefault("steps", cell.product.steps)
        named = arm.method.startswith(PRESET)
        values["preset" if named else "objective"] = arm.method.removeprefix(PRESET)
        given = DistillSpec.checked(values, place)
    given.check_budget()
    storage_of(given)  # refused here
    return given


def _other(cell: Cell, name: str, spec: GridSpec) -> Cell:
    """The cell of another arm of the same number: at the budget of its own, if it has one."""
    budgets = spec.arm(name).budgets
    budget = parse_budget(budgets[0]) if budgets else cell.budget
    return Cell(cell.grid, cell.product, cell.data, name, budget, HARD, cell.network, cell.number)


def _teacher(cell: Cell, spec: GridSpec, digests: Digests) -> Teacher:
    teacher = TeacherSpec.checked(spec.teacher, "teacher")
    check_network(teacher.network)  # refused here
    poses = Poses(**cell.product.asked())
    untrained = Teacher(cell.source, teacher, poses, {})
    protocol = untrained.protocol().model_dump(mode="json")
    points = cell.product.whole_points
    return Teacher(cell.source, teacher, poses, {"data": digests.real, "points": points, "protocol": protocol})


def command(cell: Cell, spec: GridSpec) -> str:
    """The command line that measures what this cell and its other seeds add up to, and nothing else.

    Without what does not matter for the numbers, and the folders of whoever ran it.
    """
    words = ["pcdistill", "compare"]
    values: dict[str, Any] = {
        **{key: getattr(cell.product, key) for key in Product.by_key()},
        **{key: getattr(spec, key) for key in READING},
        "data": [set_name(cell.data)], "methods": [cell.arm], "labels": [cell.labels], "budgets": [], "storages": [],
        "networks": [cell.network] if cell.product.networks else [], "facts": {}, "output": spec.output.resolve().name,
        "device": spec.device,
    }  # fmt: skip
    if cell.budget is not None:
        values["budgets"] = [cell.size]
        values["storages"] = [cell.budget.storage] if cell.budget.storage is not None else []
    values |= {"arms": _used_arms(cell, spec), "supervision": {}, "teacher": {}}
    if cell.labels != HARD:
        values |= {"supervision": {cell.labels: spec.supervision[cell.labels]}, "teacher": spec.teacher}
    for key, value in values.items():
        default = GridSpec.by_key()[key].get_default(call_default_factory=True)
        if value != (list(default) if isinstance(value, list) else default):
            words += ["--" + key.replace("_", "-"), *([] if value is True else _words(value))]
    return shlex.join(words)


def _used_arms(cell: Cell, spec: GridSpec) -> dict[str, Any]:
    arm = spec.arm(cell.arm)
    names = [name for name in (cell.arm, arm.focus, arm.beside) if name in spec.arms]
    return {name: spec.arms[name] for name in names if name is not None}


def _words(value: Any, place: str = "") -> list[str]:
    """A value as words after a flag: a table as `inner.name=value`, as TOML has them."""
    if isinstance(value, Mapping):
        return [word for key, inner in value.items() for word in _words(inner, f"{place}.{key}" if place else str(key))]
    if place:
        return [f"{place}={json.dumps(value)}"]
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
