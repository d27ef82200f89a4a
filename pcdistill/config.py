"""One typed configuration per command, shared by the Python API, the flags and TOML files."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from pcdistill.allocation import FLOAT32_CLOUD, Sharing
from pcdistill.errors import InputError
from pcdistill.evaluation import parse_views
from pcdistill.expansion import Expansion
from pcdistill.losses import SoftLoss
from pcdistill.matching import objectives
from pcdistill.matching.base import merged
from pcdistill.models import STUDENTS
from pcdistill.registry import nearest
from pcdistill.storage import CodedPoints, storages
from pcdistill.storage.base import check_bits
from pcdistill.teaching import OnPolicyOptions
from pcdistill.teaching.adaptation import How

Positional = Field(json_schema_extra={"positional": True})


class Config(BaseModel):
    """Base of all commands' configurations; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def by_key(cls) -> dict[str, FieldInfo]:
        """The fields under the names that flags, TOML files and keywords have for them."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def checked(
        cls, values: Mapping[str, Any], place: object = "configuration", places: Mapping[str, object] | None = None
    ) -> Self:
        """The configuration with `values`; `places` says where a key came from if that is not `place`.

        Raises:
            InputError: naming the first key that is unknown (with a suggestion), missing or ill-typed.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            if isinstance(cause := first.get("ctx", {}).get("error"), InputError):
                raise cause from None
            key = ".".join(map(str, first["loc"])) or "values"
            where = (places or {}).get(key, place)
            if first["type"] == "extra_forbidden":
                raise InputError(where, f"unknown key {nearest(key, cls.by_key())}") from None
            if first["type"] == "missing":
                raise InputError(where, f"'{key}' is missing") from None
            wanted = first["msg"].removeprefix("Input should be ")
            raise InputError(where, f"{key} = {first['input']!r}", wanted) from None


def read_toml(path: Path, kind: type[Config]) -> dict[str, Any]:
    """The values of a TOML file for a configuration of this kind; types are taken strictly: 400 is no text.

    Raises:
        InputError: not TOML, an unknown key (with a suggestion), or a value of the wrong type.
        OSError: unreadable.
    """
    try:
        with path.open("rb") as stream:
            values = tomllib.load(stream)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"not TOML ({error})") from None
    fields = kind.by_key()
    for key, value in values.items():
        if key not in fields:
            raise InputError(path, f"unknown key {nearest(key, fields)}")
        annotation: Any = fields[key].annotation
        try:
            TypeAdapter(annotation).validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as error:
            wanted = error.errors()[0]["msg"].removeprefix("Input should be ")
            raise InputError(path, f"{key} = {value!r}", wanted) from None
    return values


def presets() -> dict[str, Path]:
    """Names of the settings that come with the package, and their files."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.toml"))}


def preset(name: str) -> dict[str, Any]:
    """The values of a preset: keys of `DistillConfig`.

    Raises:
        InputError: unknown name.
    """
    known = presets()
    if name not in known:
        raise InputError("preset", nearest(name, known), "one of " + ", ".join(known))
    return tomllib.loads(known[name].read_text())


Root = Annotated[Path | None, Field(description="folder of data sets (default: PCDISTILL_DATA, else ./data)")]
Streamed = Annotated[bool, Field(description="read the set batch by batch: for sets larger than memory")]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="of everything random")]
Workers = Annotated[int, Field(ge=1, description="jobs at work on a machine, which share its threads")]
Engine = Annotated[
    Literal["local", "ray"], Field(description="who does the jobs: processes of this machine, or a Ray cluster")
]


Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False, description="that the teacher's logits are divided by")]
Networks = Annotated[
    tuple[Path, ...], BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value])
]


class TaughtConfig(Config):
    """What networks are told while they are trained, besides the labels of their training set."""

    teacher: Annotated[
        Networks,
        Field(description="network (.safetensors), or several, that label every cloud as the student sees it"),
    ] = ()
    temperature: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="that logits of teacher and student are divided by (default: that of the set's labels, else 1)",
        ),
    ] = None
    soft_loss: Annotated[
        SoftLoss | None, Field(description="under soft labels: kl (default), or mse between logits")
    ] = None
    hard: Annotated[
        float | None, Field(ge=0, le=1, description="weight of the hard label beside a soft one (default: 0)")
    ] = None
    policy: Annotated[
        dict[str, Any],
        Field(
            description="let the teacher label clouds that the student is unsure of, a share of every batch: "
            "kind=mix (or relabel, augment, move) choose=entropy share=0.5 warm=0.2 candidates=2 epsilon=0.05"
        ),
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        if self.policy and not self.teacher:
            raise InputError("policy", "given, but no teacher", "--teacher")
        self.on_policy()
        return self

    def on_policy(self) -> OnPolicyOptions | None:
        """What `policy` asks for; None if that is nothing.

        Raises:
            InputError: an unknown option or a value out of range.
        """
        return OnPolicyOptions.checked(self.policy) if self.policy else None

    def loss(self) -> dict[str, Any]:
        """What is given of the recipe's loss."""
        fields = {name: getattr(self, name) for name in ("temperature", "soft_loss", "hard")}
        return {name: value for name, value in fields.items() if value is not None}


class BudgetConfig(Config):
    """How large a synthetic or selected set is; clouds or bytes, not both."""

    clouds_per_class: Annotated[int | None, Field(ge=1, description="clouds per class")] = None
    bytes_per_class: Annotated[
        int | None, Field(ge=1, description="bytes per class, as stored: as many clouds as fit")
    ] = None
    bytes_: Annotated[int | None, Field(alias="bytes", ge=1, description="bytes of all classes, as stored")] = None
    ppc: Annotated[
        float | None,
        Field(gt=0, allow_inf_nan=False, description="bytes in float32 clouds of 1024 points per class (12,288 each)"),
    ] = None
    ratio: Annotated[
        float | None, Field(gt=0, le=1, description="bytes as a fraction of the whole set's in float32")
    ] = None
    points: Annotated[
        int | None, Field(ge=1, description="points per cloud (default: 128; of bytes, what is expected to serve best)")
    ] = None
    bits: Annotated[
        int | None,
        Field(description="per coordinate: 2 to 12, 16 (float16) or 32 (float32) (default: 8; of bytes, see points)"),
    ] = None
    storage: Annotated[
        str | None, Field(description="parameterisation (default: points; of bytes at up to 12 bits, coded)")
    ] = None
    sharing: Annotated[
        Sharing, Field(description="of bytes between classes: even, proportional to their sizes, or to the root")
    ] = "even"
    auto: Annotated[
        Literal["fitted", "measured"],
        Field(description="how points and bits are chosen for bytes: a fitted frontier, or a validation split"),
    ] = "fitted"

    def check_budget(self) -> None:
        """Refuse what can be refused before the data are read.

        Raises:
            InputError: no budget or several, a number of bits that is not offered, an unknown storage.
        """
        given = [name for name in SIZES if self._given(name) is not None]
        if len(given) != 1:
            found = f"{' and '.join(given)} given" if given else "no size given"
            raise InputError("budget", found, "one of " + ", ".join(SIZES))
        if self.bits is not None:
            check_bits(self.bits)
        if self.storage is not None and storages[self.storage] is CodedPoints and (self.bits or BITS) > 12:
            raise InputError("bits", f"{self.bits} in storage 'coded'", "2 to 12: only fixed-point codes are coded")
        if self.clouds_per_class is not None and self.sharing != "even":
            raise InputError("sharing", f"{self.sharing} of clouds_per_class", "a budget in bytes")
        if self.auto == "measured" and (self.clouds_per_class or self.points or self.bits):
            raise InputError("auto", "measured, with clouds, points or bits given", "a budget in bytes alone")

    def total_bytes(self, classes: int, float32_bytes: int) -> int | None:
        """The budget in bytes of all classes; None for one in clouds. `float32_bytes` are those of the whole set."""
        if self.bytes_ is not None:
            return self.bytes_
        if self.bytes_per_class is not None:
            return self.bytes_per_class * classes
        if self.ppc is not None:
            return int(self.ppc * FLOAT32_CLOUD * classes)
        return None if self.ratio is None else int(self.ratio * float32_bytes)

    def _given(self, name: str) -> float | None:
        value: float | None = getattr(self, "bytes_" if name == "bytes" else name)
        return value


# Of budgets in clouds.
POINTS, BITS = 128, 8
SIZES = ("clouds_per_class", "bytes_per_class", "bytes", "ppc", "ratio")


class LabelledConfig(BudgetConfig):
    """How the clouds of a set are labelled; soft labels take a byte per cloud and class, or are coded."""

    labels: Annotated[
        Literal["hard", "learned", "teacher", "views"],
        Field(
            description="one class a cloud, or probabilities: learned, a teacher's for the final clouds, or those for "
            "all that --expand makes of them (views)"
        ),
    ] = "hard"
    teacher: Annotated[
        Networks,
        Field(description="network (.safetensors), or several, that give soft labels, or the first of learned ones"),
    ] = ()
    temperature: Temperature = 1.0
    expand: Annotated[
        dict[str, Any],
        Field(
            description="what networks are trained on besides, made of the stored clouds at no byte: "
            "mirror=true jitter=1 interpolate=1 mixup=1 views=1 densify=1024"
        ),
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_expansion(self) -> Self:
        if (expansion := self.expansion(0)) is not None:
            expansion.check(1, self.points or (1 if self.clouds_per_class is None else POINTS), 1, "expand")
        if self.labels == "views" and (expansion is None or not expansion.single or expansion.times == 1):
            raise InputError("labels", "views without any", "--expand views=K, jitter=K or mirror=true")
        return self

    def expansion(self, seed: int) -> Expansion | None:
        """What `expand` asks for, with this seed unless it names its own; None if that is nothing.

        Raises:
            InputError: an unknown option or a value out of range.
        """
        found = Expansion.checked({"seed": seed, **self.expand}, "expand")
        return None if found.nothing else found


class SelectConfig(LabelledConfig):
    """Choose real clouds (a coreset) and store them at the same budget as a synthetic set."""

    data: Annotated[str, Field(description="catalog name, HDF5 file or folder")]
    output: Annotated[Path, Field(description="artefact to write (.h5)")]
    root: Root = None
    labels: Annotated[
        Literal["hard", "teacher", "views"],
        Field(
            description="one class a cloud, or the probabilities that a teacher gives it, or all that --expand makes "
            "of it (views)"
        ),
    ] = "hard"
    stream: Streamed = False
    method: Annotated[str, Field(description="random, herding, kcenter or medoid")] = "medoid"
    features: Annotated[str, Field(description="'raw' descriptors, or the network whose features are compared")] = "raw"
    protocol: Annotated[str, Field(description="how it is meant to be evaluated: tuned, published or sweep")] = "tuned"
    seed: Seed = 0


class DistillConfig(LabelledConfig):
    """Condense a data set into synthetic clouds."""

    data: Annotated[str, Field(description="catalog name, HDF5 file or folder")]
    output: Annotated[Path, Field(description="artefact to write (.h5)")]
    root: Root = None
    stream: Streamed = False
    init: Annotated[str, Field(description="selection that the clouds start from")] = "medoid"
    focus: Annotated[
        Path | None, Field(description="student (.safetensors): real clouds count by its loss, to complement it")
    ] = None
    preset: Annotated[
        str | None, Field(description="named settings, found on validation splits; what is given besides wins")
    ] = None
    objective: Annotated[str, Field(description="matching objective: " + ", ".join(objectives))] = "krr"
    options: Annotated[
        dict[str, Any], Field(description="of the objective, as in its Options: ridge=0.2 bank.networks=5")
    ] = Field(default_factory=dict)
    steps: Annotated[
        int | None,
        Field(
            ge=0, description="of the outer loop (default: as the objective likes, fewer the more clouds a step has)"
        ),
    ] = None
    lr: Annotated[
        float | None,
        Field(
            gt=0, allow_inf_nan=False, description="of coordinates (default: 0.02 over the root of clouds per class)"
        ),
    ] = None
    batch: Annotated[
        int | None, Field(ge=1, description="clouds per step (default: 40 of every class, 480 at least)")
    ] = None
    networks: Annotated[
        int | None, Field(ge=1, description="surrogate networks or experts (default: as the objective likes)")
    ] = None
    surrogate: Annotated[
        str | None,
        Field(description="surrogate network; several, with commas, take turns (default: as the objective likes)"),
    ] = None
    ema: Annotated[float, Field(ge=0, lt=1, description="decay per step of the averaged clouds; 0: the last")] = 0.0
    rate: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="weight in the loss of a bit per point (storage coded)")
    ] = 0.0
    snapshots: Annotated[int, Field(ge=0, description="clouds kept from along the way, for pictures")] = 0
    watch: Annotated[
        int | None,
        Field(
            ge=0, le=65535,
            description="port of this machine at which a browser sees the run, renewed twenty times (0: a free one)",
        ),
    ] = None  # fmt: skip
    protocol: Annotated[str, Field(description="how it is meant to be evaluated: tuned, published or sweep")] = "tuned"
    seed: Seed = 0
    resume: Annotated[bool, Field(description="go on from the checkpoint beside the output")] = False
    log: Annotated[Path | None, Field(description="folder for log.jsonl and, where installed, TensorBoard events")] = (
        None
    )

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What the preset says, under what is given besides it."""
        if values.get("preset") is None:
            return values
        filled = preset(values["preset"])
        options = merged(filled.get("options", {}), values.get("options", {}))
        expansion = merged(filled.get("expand", {}), values.get("expand", {}))
        return {**filled, **values, "options": options, "expand": expansion}


class ExpertsConfig(Config):
    """Record the expert trajectories of `tm` in the cache, where `distill` with the same settings finds them."""

    data: Annotated[str, Field(description="catalog name, HDF5 file or folder")]
    root: Root = None
    preset: Annotated[str | None, Field(description="named settings, of which the experts' count")] = None
    options: Annotated[
        dict[str, Any], Field(description="of the objective tm: bank.steps=200 bank.interval=5 bank.bits=16")
    ] = Field(default_factory=dict)
    networks: Annotated[int | None, Field(ge=1, description="experts (default: as the objective likes)")] = None
    surrogate: Annotated[str | None, Field(description="network (default: as the objective likes)")] = None
    seed: Seed = 0
    workers: Workers = 1
    engine: Engine = "local"

    def distilling(self) -> DistillConfig:
        """The same as settings of a distillation."""
        given = self.model_dump(exclude={"workers", "engine"})
        wanted = {key: value for key, value in given.items() if value is not None}
        needed = {"objective": "tm", "output": Path("unwritten.h5"), "clouds_per_class": 1}
        return DistillConfig.checked({**wanted, **needed}, "pcdistill experts")


class TrainConfig(TaughtConfig):
    """Train one network on an artefact or a whole data set."""

    source: Annotated[str, Positional, Field(description="artefact, or data set to train on whole")]
    output: Annotated[Path, Field(description="network to write (.safetensors)")]
    root: Root = None
    points: Annotated[int | None, Field(ge=1, description="points per cloud of a data set (default: 1024)")] = None
    network: Annotated[str | None, Field(description="network (default: the artefact's protocol's, else pointnet)")] = (
        None
    )
    student: Annotated[
        str | None,
        Field(description="light network by its size: " + ", ".join(STUDENTS) + " (for --network pointnet-SIZE)"),
    ] = None
    protocol: Annotated[str | None, Field(description="tuned or published (default: the artefact's, else tuned)")] = (
        None
    )
    steps: Annotated[int | None, Field(ge=1, description="of training, in place of the recipe's")] = None
    watch: Annotated[
        int | None,
        Field(ge=1, description="note every so many steps how student and teacher agree, in a file beside the network"),
    ] = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_watch(self) -> Self:
        if self.watch is not None and not self.teacher:
            raise InputError("watch", "given, but no teacher", "--teacher")
        return self

    @property
    def network_name(self) -> str | None:
        """Registered name of what is trained, if it is given.

        Raises:
            InputError: a student of no known size, or beside a network.
        """
        if self.student is not None and self.network is not None:
            raise InputError("student", f"{self.student} and network {self.network}", "one of the two")
        if self.student is not None and self.student not in STUDENTS:
            raise InputError("student", nearest(self.student, STUDENTS), "one of " + ", ".join(STUDENTS))
        return self.network if self.student is None else f"pointnet-{self.student}"


class TeachConfig(Config):
    """Find the teacher that suits a student and a set: a ladder of networks, snapshots and temperatures."""

    source: Annotated[str, Positional, Field(description="artefact, or data set, that the student is trained on")]
    output: Annotated[Path, Field(description="folder for teachers, records, table, plot and the chosen teacher")]
    data: Annotated[
        str | None, Field(description="data set that teachers are trained on (default: the one it was made from)")
    ] = None
    root: Root = None
    student: Annotated[str, Field(description="light network by its size: " + ", ".join(STUDENTS))] = "tiny"
    teachers: Annotated[tuple[str, ...], Field(min_length=1, description="networks to try")] = (
        "pointnet-nano", "pointnet-tiny", "pointnet", "dgcnn",
    )  # fmt: skip
    snapshots: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...],
        Field(min_length=1, description="shares of a teacher's training after which it is kept"),
    ] = (0.05, 0.1, 0.2, 0.5, 1.0)
    temperatures: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...],
        Field(min_length=1, description="first that of all snapshots; the best three are tried at the others"),
    ] = (1.0, 2.0, 4.0)
    steps: Annotated[int, Field(ge=1, description="of every teacher's training")] = 600
    seeds: Annotated[int, Field(ge=1, description="students per teacher and temperature")] = 1
    protocol: Annotated[str, Field(description="that teachers are trained by: tuned or published")] = "tuned"
    cheap: Annotated[
        bool, Field(description="choose by agreement with a student on hard labels; train no other student")
    ] = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.student not in STUDENTS:
            raise InputError("student", nearest(self.student, STUDENTS), "one of " + ", ".join(STUDENTS))
        return self


class AdaptConfig(Config):
    """Teach a trained network new classes, or a new domain, from few clouds and a memory of what it knows."""

    source: Annotated[Path, Positional, Field(description="trained network (.safetensors)")]
    memory: Annotated[
        Networks, Field(description="artefact of classes that the network knows, or several: what it must not forget")
    ] = ()
    new: Annotated[str, Field(description="artefact or data set of new classes, or of known ones in a new domain")]
    output: Annotated[Path, Field(description="network to write (.safetensors)")]
    root: Root = None
    how: Annotated[
        How, Field(description="train the whole network, its head alone, or low-rank updates of its weights (lora)")
    ] = "whole"
    rank: Annotated[int | None, Field(ge=1, description="of low-rank updates (default: 4)")] = None
    steps: Annotated[int, Field(ge=1, description="of training")] = 300
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False, description="learning rate")] = 2e-3
    shots: Annotated[
        int | None, Field(ge=1, description="new clouds of every class, drawn by the seed (default: all)")
    ] = None
    classes: Annotated[tuple[str, ...], Field(description="of the new set that are learned (default: all)")] = ()
    seed: Seed = 0


class EvaluateConfig(TaughtConfig):
    """Train networks on an artefact or a whole data set and measure their test accuracy, or a trained network's."""

    source: Annotated[
        str, Positional, Field(description="artefact, data set, or trained network (.safetensors, .onnx)")
    ]
    data: Annotated[str | None, Field(description="data set to test on (default: the one it was made from)")] = None
    root: Root = None
    network: Annotated[str | None, Field(description="network (default: the protocol's)")] = None
    networks: Annotated[
        tuple[str, ...], Field(description="several kinds of network in place of one; prints a table")
    ] = ()
    protocol: Annotated[
        str | None, Field(description="tuned, published or sweep (default: the artefact's, else tuned)")
    ] = None
    views: Annotated[
        tuple[str, ...],
        Field(
            description="changed test sets to test on besides the clean one: rotations, resolutions, corruptions, "
            "pointcloud-c, all; or singly: z so3 512 (points) gaussian (five severities) gaussian:3 data:modelnet40"
        ),
    ] = ()
    train_rotation: Annotated[
        Literal["none", "z", "so3"] | None,
        Field(description="axis about which training clouds are turned (default: the recipe's)"),
    ] = None
    steps: Annotated[int | None, Field(ge=1, description="of training, in place of the recipe's")] = None
    thin: Annotated[bool, Field(description="thin test clouds to as many points as were trained on")] = False
    seeds: Annotated[int, Field(ge=1, description="number of networks trained, of each kind")] = 3
    device: Annotated[str, Field(description="where networks are trained, as torch names it: cpu, cuda, cuda:1")] = (
        "cpu"
    )
    output: Annotated[
        Path | None, Field(description="folder for records.jsonl, table.md and plots; goes on where it was stopped")
    ] = None
    ranking: Annotated[
        bool,
        Field(
            description="DD-Ranking's scores of an artefact: trains random clouds and the whole set as well; "
            "--teacher is who labelled it"
        ),
    ] = False
    per_class: Annotated[bool, Field(description="print every class's accuracy and what is mistaken for what")] = False
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_views(self.views)
        if twice := next((name for name in self.networks if self.networks.count(name) > 1), None):
            raise InputError("networks", f"'{twice}' twice", "each once")
        return self

    @property
    def plain(self) -> bool:
        """One network on the clean test set, and nothing written."""
        return not (self.views or self.networks or self.output)


class AuditConfig(Config):
    """Compare an artefact's clouds with real ones: how near they are, what they cover, and whether they are copies."""

    source: Annotated[Path, Positional, Field(description="artefact")]
    real: Annotated[
        str | None, Field(description="data set to compare with (default: the one that it was made from)")
    ] = None
    root: Root = None
    per_class: Annotated[bool, Field(description="print every class")] = False
    output: Annotated[Path | None, Field(description="file to write, with every cloud's distances (.json)")] = None
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False


class ViewConfig(Config):
    """Show clouds: pictures, an animation, a page for the browser, or an interactive window.

    Without any of them, a picture is written that is named like the source.
    """

    source: Annotated[str, Positional, Field(description="artefact or data set")]
    png: Annotated[Path | None, Field(description="picture to write: classes are rows, clouds are columns")] = None
    html: Annotated[
        Path | None, Field(description="page to write: one file that shows all in a browser, without a network")
    ] = None
    turntable: Annotated[
        Path | None, Field(description="animation to write, of clouds that turn (.gif, .webp, .mp4)")
    ] = None
    evolution: Annotated[
        Path | None, Field(description="animation to write, from first guess to distilled (needs snapshots)")
    ] = None
    window: Annotated[bool, Field(description="open the interactive Open3D viewer")] = False
    root: Root = None
    split: Annotated[Literal["train", "test"], Field(description="of a data set")] = "train"
    class_: Annotated[tuple[str, ...], Field(alias="class", description="classes to show (default: all)")] = ()
    columns: Annotated[int | None, Field(ge=1, description="clouds per class (default: 8; animation 1, page 64)")] = (
        None
    )
    colour: Annotated[
        str,
        Field(description="what points are coloured by: height, moved, real (distance to the nearest real cloud), "
                          "critical or gradient (which points matter to a network)"),
    ] = "height"  # fmt: skip
    real: Annotated[
        str | None, Field(description="data set whose training clouds the nearest ones are shown of, and compared with")
    ] = None
    model: Annotated[Path | None, Field(description="trained network (.safetensors) that says which points matter")] = (
        None
    )
    records: Annotated[
        Path | None, Field(description="records (.jsonl), as of evaluate --output, whose accuracies a page shows")
    ] = None
    renderer: Annotated[Literal["auto", "open3d", "builtin"], Field(description="who draws")] = "auto"
    background: Annotated[Literal["white", "dark", "transparent"], Field(description="of pictures")] = "white"
    tile: Annotated[
        int | None, Field(ge=32, le=2048, description="pixels of a cloud's side (default: 220; animation 160)")
    ] = None
    initial: Annotated[bool, Field(description="show where each distilled cloud started (needs snapshots)")] = False


class ExportConfig(Config):
    """Write a trained network for a device, ONNX in float32 or int8 or ExecuTorch, or clouds for other tools."""

    source: Annotated[str, Positional, Field(description="trained network (.safetensors), artefact or data set")]
    output: Annotated[
        Path,
        Field(description="to write; of a network .onnx or .pte, of clouds .npz, .h5 (ModelNet's layout) or a folder"),
    ]
    int8: Annotated[bool, Field(description="round weights and activations to 8 bits (.onnx)")] = False
    tune: Annotated[
        bool, Field(description="fine-tune the network under that rounding first (quantisation-aware training)")
    ] = False
    clouds: Annotated[
        str | None,
        Field(description="artefact or data set that the network was trained on: the rounding is fitted to it"),
    ] = None
    split: Annotated[Literal["train", "test"], Field(description="of a data set")] = "train"
    format: Annotated[Literal["ply", "pcd", "xyz"] | None, Field(description="of clouds, in a folder")] = None
    colour: Annotated[Literal["height", "none"], Field(description="of the points of clouds")] = "height"
    root: Root = None
    seed: Seed = 0


class PredictConfig(Config):
    """Say what objects are: class probabilities of clouds or meshes in files."""

    model: Annotated[Path, Positional, Field(description="network (.onnx or .safetensors)")]
    files: Annotated[
        tuple[Path, ...], Positional, Field(description="OFF, OBJ, STL, PLY, PCD, XYZ, NPY or NPZ, an object each")
    ] = ()
    points: Annotated[
        int | None, Field(ge=1, description="points of every object that are looked at (default: the protocol's)")
    ] = None
    up_axis: Annotated[Literal["z", "y"], Field(description="up axis of the files")] = "z"
    top: Annotated[int, Field(ge=1, description="classes printed of every file, the most probable")] = 3
    latency: Annotated[bool, Field(description="measure time and memory of an .onnx file at one thread")] = False
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False
    seed: Seed = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.files and not self.latency:
            raise InputError("predict", "no files", "clouds or meshes, or --latency")
        return self


class ShowConfig(Config):
    """Print what is in an artefact, a trained network or an exported one."""

    source: Annotated[Path, Positional, Field(description="artefact, or network (.safetensors, .onnx)")]
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False


class DataConfig(Config):
    """List the data sets of the catalog, describe one, or convert one to the project's HDF5 file."""

    action: Annotated[Literal["list", "info", "convert"], Positional, Field(description="list, info or convert")]
    name: Annotated[str | None, Positional, Field(description="catalog name, file or folder")] = None
    output: Annotated[Path | None, Field(description="HDF5 file to write (convert)")] = None
    root: Root = None
    points: Annotated[int | None, Field(ge=1, description="points per cloud (convert)")] = None
    seed: Seed = 0


class DemoConfig(Config):
    """Condense the built-in shapes, compare with selection and the whole set, and draw the result."""

    output: Annotated[Path, Field(description="folder for artefacts and pictures")] = Path("demo")
    seed: Seed = 0


class CompareConfig(Config):
    """Compare methods at several budgets on one data set; the same command again goes on where it was stopped."""

    data: Annotated[str, Field(description="catalog name, HDF5 file or folder")]
    output: Annotated[Path, Field(description="folder for cells, artefacts, records.jsonl, table.md and plot.png")]
    root: Root = None
    methods: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="selections, objectives, preset:NAME, and 'whole' for the whole set"),
    ]
    budgets: Annotated[
        tuple[str, ...], Field(min_length=1, description="clouds per class x points @ bits, as in 4x128@8")
    ]
    distill_seeds: Annotated[int, Field(ge=1, description="sets made by every method at every budget")] = 1
    train_seeds: Annotated[int, Field(ge=1, description="networks trained on every set")] = 3
    protocol: Annotated[str, Field(description="how networks are trained: tuned, published or sweep")] = "tuned"
    network: Annotated[str | None, Field(description="network (default: the protocol's)")] = None
    networks: Annotated[
        tuple[str, ...], Field(default_factory=tuple, description="several networks, each trained on every set")
    ]
    validation: Annotated[
        float | None, Field(gt=0, lt=1, description="test on this fraction of the train split, held out of it")
    ] = None
    steps: Annotated[int | None, Field(ge=0, description="of every distillation (default: as the method likes)")] = None
    train_steps: Annotated[
        int | None, Field(ge=1, description="of every training, in place of the recipe's, then called NAME*")
    ] = None
    workers: Workers = 1
    engine: Engine = "local"


class ReportConfig(Config):
    """Join records of compare, evaluate --output and benchmarks into a table: a line per arm and budget.

    What does not belong into one table is refused, unless --by says which field makes tables of their own.
    """

    results: Annotated[
        tuple[Path, ...], Positional, Field(min_length=1, description="files of records (.jsonl), or folders of them")
    ]
    output: Annotated[Path | None, Field(description="file to write (default: print)")] = None
    html: Annotated[
        Path | None,
        Field(
            description="page to write instead, whole in one file: tables, plots, confusions, and artefacts that are "
            "found; its figures also in a folder of its name"
        ),
    ] = None
    csv: Annotated[bool, Field(description="comma-separated values, fractions instead of per cent")] = False
    against: Annotated[
        str | None,
        Field(
            description="arm, as medoid, that the others are compared with at equal bytes (within 5 %), "
            "with a paired 95 % interval"
        ),
    ] = None
    by: Annotated[
        tuple[str, ...],
        Field(
            description="a table for every value of these fields: dataset, split, view, test_points, thin, "
            "network, protocol, test_set"
        ),
    ] = Field(default_factory=tuple)
    per_class: Annotated[bool, Field(description="accuracy by class and confusions, where they are recorded")] = False


class CiteConfig(Config):
    """Print BibTeX of the methods, networks and data that an artefact stands on."""

    source: Annotated[Path, Positional, Field(description="artefact")]
