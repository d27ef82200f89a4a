"""What a grid compares: data sets, ways to make sets, sizes, labels, networks and seeds. Names and numbers alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pcdistill.condense.spec import presets
from pcdistill.core.errors import InputError
from pcdistill.core.options import Device, Engine, Options, Reading, Workers, merged
from pcdistill.core.registry import nearest
from pcdistill.core.tracking import Tracked
from pcdistill.experiments.budgets import budget_text, parse_budget
from pcdistill.matching import objectives
from pcdistill.results.record import PRESET, WHOLE, Record
from pcdistill.selection import selectors
from pcdistill.teaching import OnPolicyOptions
from pcdistill.training.augment import Poses
from pcdistill.training.losses import SoftLoss

READING = tuple(name for name in Reading.model_fields if name != "root")
"""What decides over the clouds that are read, besides where they lie."""
HARD = "hard"
"""Labels of one class a cloud, which need no table of their own."""


class Arm(Options):
    """A way to make sets that takes more words than the name of a method.

    Attributes:
        method: a selection, an objective, preset:NAME, or `whole`.
        settings: of `pcdistill select` or `distill`: init, surrogate, options.ridge, expand.mixup, ...
        budgets: in place of the grid's.
        first_seed: of the first set; the others follow.
        focus: an arm; real clouds count by the loss of a student of its set of the same number (`distill --focus`).
        beside: an arm whose set of the same number is trained on as well, and counted.
    """

    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    budgets: tuple[str, ...] = ()
    first_seed: int = Field(default=0, ge=0)
    focus: str | None = None
    beside: str | None = None

    @property
    def selects(self) -> bool:
        """Whether its sets are real clouds, chosen."""
        return self.method in selectors


class Labels(Options):
    """What networks learn from, where that is more than one class a cloud.

    Attributes:
        by: whether the teacher's labels are stored with the set, at its bytes, or given to every cloud as the network
            sees it: by a teacher beside the set (`train --teacher`), or by one in its file, at its bytes.
        policy: the teacher labels clouds that the network is unsure of (`train --policy`).
        temperature, soft_loss, hard: as those of `train`.
    """

    by: Literal["stored", "online", "file"] = "online"
    policy: dict[str, Any] = Field(default_factory=dict)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    soft_loss: SoftLoss | None = None
    hard: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.policy and self.by != "online":
            raise InputError("policy", f"given with by = {self.by}", "a teacher beside the set: by = online")
        self.on_policy()
        return self

    def on_policy(self) -> OnPolicyOptions | None:
        """What `policy` asks for; None if that is nothing."""
        return OnPolicyOptions.checked(self.policy, "policy") if self.policy else None

    def loss(self) -> dict[str, Any]:
        """What of the recipe changes."""
        fields = {name: getattr(self, name) for name in ("temperature", "soft_loss", "hard")}
        return {name: value for name, value in fields.items() if value is not None}


class TeacherSpec(Options):
    """The network that labels: trained once on a training set, thinned as a whole set is, with seed 0."""

    network: str = "pointnet"
    steps: int = Field(default=1500, ge=1)


class Product(Poses):
    """Everything against everything: data sets, methods, budgets, storages, labels, networks and seeds."""

    heading: ClassVar[str] = "what is compared"
    renamed: ClassVar = {"network": "networks", "views": "conditions", "train_rotation": "rotate"}

    data: Annotated[tuple[str, ...], Field(description="catalog names, HDF5 files or folders")] = ()
    methods: Annotated[
        tuple[str, ...],
        Field(description="selections, objectives, preset:NAME, names of [arms], and 'whole' for the whole set"),
    ] = ()
    budgets: Annotated[
        tuple[str, ...],
        Field(
            description="of a class: clouds x points @ bits as in 4x128@8, or bytes as in 1229B, 0.1ppc, 1229B@128x5"
        ),
    ] = ()
    storages: Annotated[tuple[str, ...], Field(description="parameterisations (default: as the budget likes)")] = ()
    labels: Annotated[
        tuple[str, ...], Field(min_length=1, description="what networks learn from: hard, and names of [supervision]")
    ] = (HARD,)
    networks: Annotated[
        tuple[str, ...], Field(description="networks, each trained on every set (default: the protocol's)")
    ] = ()
    distill_seeds: Annotated[int, Field(ge=1, description="sets made by every method at every budget")] = 3
    train_seeds: Annotated[int, Field(ge=1, description="networks trained on every set")] = 3
    protocol: Annotated[str, Field(description="how networks are trained: tuned, converged, published or sweep")] = (
        "tuned"
    )
    steps: Annotated[int | None, Field(ge=0, description="of every distillation (default: as the method likes)")] = None
    train_steps: Annotated[
        int | None, Field(ge=1, description="of every training, in place of the recipe's, then called NAME*")
    ] = None
    thin: Annotated[bool, Field(description="thin test clouds to the points of the training clouds")] = False
    test_points: Annotated[
        int | None, Field(ge=1, description="points of a test cloud that are looked at (default: 1024)")
    ] = None
    whole_points: Annotated[
        int | None, Field(ge=1, description="thin the whole set, and what a teacher is trained on, to so many points")
    ] = None
    validation: Annotated[
        float | None, Field(gt=0, lt=1, description="test on the last ones of every class of train, held out of it")
    ] = None
    validation_clouds: Annotated[int | None, Field(ge=1, description="of a class, at most, that are tested on")] = None
    conditions: Annotated[
        tuple[str, ...], Field(description="test under these, too: rotations, resolutions, corruptions, gaussian:3")
    ] = ()
    facts: Annotated[
        dict[str, str],
        Field(description="fields of records, as texts with {arm} {bytes} {budget} {labels} {data}; '' leaves one out"),
    ] = Field(default_factory=dict)


class GridSpec(Reading, Tracked, Product):
    """Compare methods at several budgets; the same command again goes on where it was stopped."""

    heading: ClassVar[str] = "how it is carried out"

    output: Annotated[Path, Field(description="folder for cells, artefacts, records.jsonl, table.md and plot.png")]
    sets: Annotated[
        Path | None, Field(description="folder where sets and teachers are kept (default: artefacts in the output)")
    ] = None
    records: Annotated[
        Path | None, Field(description="file (.jsonl) whose records are renewed besides, those of other arms left")
    ] = None
    benchmark: Annotated[str, Field(description="what records call it")] = "compare"
    only: Annotated[
        tuple[str, ...],
        Field(description="cells that have all words of one of these: 'modelnet10 random 1229B@128x5' (default: all)"),
    ] = ()
    arms: Annotated[
        dict[str, Any],
        Field(description="ways to make sets, by name: pool.method=preset:krr pool.settings.surrogate=dgcnn"),
    ] = Field(default_factory=dict)
    supervision: Annotated[
        dict[str, Any], Field(description="labels, by name: online.soft_loss=mse static.by=stored static.temperature=4")
    ] = Field(default_factory=dict)
    teacher: Annotated[dict[str, Any], Field(description="who labels: network=pointnet steps=1500, the default")] = (
        Field(default_factory=dict)
    )
    grids: Annotated[
        tuple[dict[str, Any], ...],
        Field(description="several, each with keys of its own", json_schema_extra={"file": True}),
    ] = ()
    device: Device = "cpu"
    workers: Workers = 1
    engine: Engine = "local"

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.arms:
            self.arm(name)
        for name in self.supervision:
            self.label(name)
        TeacherSpec.checked(self.teacher, "teacher")
        for product in self.products():
            _check_product(product, self)
        return self

    def products(self) -> list[Product]:
        """One per table in `grids`, with what stands outside of them; without any, one.

        Raises:
            InputError: an unknown key, or an ill-typed value.
        """
        shared = {key: getattr(self, key) for key in Product.by_key() if key in self.model_fields_set}
        given = self.grids or ({},)
        return [
            Product.checked(merged(dict(shared), one), f"grids, number {number}") for number, one in enumerate(given, 1)
        ]

    def arm(self, name: str) -> Arm:
        """How the sets of an arm are made."""
        values = self.arms.get(name)
        arm = Arm(method=name) if values is None else Arm.checked(values, f"arm {name}")
        methods = [*selectors, *objectives, WHOLE, *(PRESET + preset for preset in presets())]
        if arm.method not in methods:
            raise InputError("methods", nearest(arm.method, [*methods, *self.arms]), "some of " + ", ".join(methods))
        for other in (arm.focus, arm.beside):
            if other is not None and (other not in self.arms or self.arm(other).focus or self.arm(other).beside):
                raise InputError(f"arm {name}", f"'{other}'", "another arm, which stands alone")
        return arm

    def label(self, name: str) -> Labels | None:
        """What networks learn from; None for one class a cloud."""
        if name == HARD:
            return None
        if name not in self.supervision:
            names = [HARD, *self.supervision]
            raise InputError("labels", nearest(name, names), "some of " + ", ".join(names))
        return Labels.checked(self.supervision[name], f"supervision {name}")


def _check_product(product: Product, spec: GridSpec) -> None:
    """Refuse names and numbers before anything is looked up or read.

    Raises:
        InputError: an unknown name, something that is no budget, the same twice, or nothing of a kind.
    """
    arms = [spec.arm(name) for name in product.methods]
    for kind, values in (("data", product.data), ("methods", product.methods)):
        if not values:
            raise InputError("compare", f"'{kind}' is missing")
    budgets = [budget_text(parse_budget(text)) for text in product.budgets]
    for kind, values in (
        ("data", product.data), ("methods", product.methods), ("budgets", tuple(budgets)),
        ("storages", product.storages), ("labels", product.labels), ("networks", product.networks),
    ):  # fmt: skip
        _check_once(kind, values)
    for arm in arms:
        for text in arm.budgets:
            parse_budget(text)
        if arm.method != WHOLE and not (arm.budgets or budgets):
            raise InputError("compare", "'budgets' is missing")
    for labels in map(spec.label, product.labels):
        if labels is not None and labels.by != "online" and any(arm.method == WHOLE for arm in arms):
            raise InputError("labels", f"by = {labels.by} for the whole set", "labels given online")
        if labels is not None and labels.by == "file" and any(arm.beside for arm in arms):
            raise InputError("labels", "by = file for two sets beside one another", "labels given online")
        if labels is not None and labels.by == "file" and any(arm.focus for arm in arms):
            raise InputError("labels", "by = file with an arm that has a focus", "labels given online")
    if odd := next((name for name in product.facts if name not in Record.model_fields), None):
        raise InputError("facts", nearest(odd, Record.model_fields), "a field of records")


def _check_once(kind: str, values: Sequence[str]) -> None:
    if twice := next((value for value in values if list(values).count(value) > 1), None):
        raise InputError(kind, f"'{twice}' twice", "each once")
