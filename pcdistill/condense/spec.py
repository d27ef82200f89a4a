"""What is asked of a set: its size, its labels, how it is made. No data, no output: names and numbers alone."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pcdistill.artefact.expansion import Expansion
from pcdistill.core.errors import InputError
from pcdistill.core.options import Options, Paths, Seed, merged
from pcdistill.core.registry import nearest
from pcdistill.matching import objectives
from pcdistill.selection import selectors
from pcdistill.storage.base import check_bits
from pcdistill.storage.budget import FLOAT32_CLOUD
from pcdistill.training.augment import Poses


def presets() -> dict[str, Path]:
    """Names of the settings that come with the package, and their files."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.toml"))}


def preset(name: str) -> dict[str, Any]:
    """The values of a preset: keys of `DistillSpec`.

    Raises:
        InputError: unknown name.
    """
    known = presets()
    if name not in known:
        raise InputError("preset", nearest(name, known), "one of " + ", ".join(known))
    return tomllib.loads(known[name].read_text(encoding="utf-8"))


class BudgetSpec(Options):
    """How large a synthetic or selected set is; clouds or bytes, not both."""

    heading: ClassVar[str] = "size"
    renamed: ClassVar[Mapping[str, str]] = {"sharing": "quota"}

    clouds_per_class: Annotated[int | None, Field(ge=1, description="clouds per class, on average")] = None
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
        int | None,
        Field(
            ge=1,
            description="points per cloud (default: 128), or those that voxels are decoded to (default: 256)",
        ),
    ] = None
    bits: Annotated[
        int | None,
        Field(description="per coordinate: 2 to 12, 16 (float16) or 32 (float32) (default: 8; voxels have none)"),
    ] = None
    side: Annotated[
        int | None,
        Field(
            ge=4, le=64, description="cells a side of voxels (default: 10; of bytes, what is expected to serve best)"
        ),
    ] = None
    storage: Annotated[
        str | None,
        Field(description="parameterisation (default: of bytes voxels, coded if bits are given; of clouds points)"),
    ] = None
    quota: Annotated[
        Literal["even", "root", "proportional", "gain"],
        Field(
            description="shares of the classes: even, by their sizes, by the root of these, or by what one more cloud "
            "gains"
        ),
    ] = "even"
    auto: Annotated[
        Literal["fitted", "measured"],
        Field(description="how a side, or points and bits, are chosen for bytes: by a fit, or on a validation split"),
    ] = "fitted"

    def check_budget(self) -> None:
        """Refuse what can be refused before the data are read.

        Raises:
            InputError: no budget or several, or a number of bits that is not offered.
        """
        given = [name for name in SIZES if self._given(name) is not None]
        if len(given) != 1:
            found = f"{' and '.join(given)} given" if given else "no size given"
            raise InputError("budget", found, "one of " + ", ".join(SIZES))
        if self.bits is not None:
            check_bits(self.bits)
        if self.storage == "coded" and (self.bits or BITS) > 12:
            raise InputError("bits", f"{self.bits} in storage 'coded'", "2 to 12: only fixed-point codes are coded")
        if self.auto == "measured" and any((self.clouds_per_class, self.points, self.bits, self.side)):
            raise InputError("auto", "measured, with clouds, points, bits or side given", "a budget in bytes alone")

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
POINTS, BITS, SIDE = 128, 8, 10
SIZES = ("clouds_per_class", "bytes_per_class", "bytes", "ppc", "ratio")


class SetSpec(BudgetSpec, Poses):
    """How the clouds of a set are labelled; soft labels take a byte per cloud and class, or are coded."""

    heading: ClassVar[str] = "labels and use"

    labels: Annotated[
        Literal["hard", "learned", "teacher", "network"],
        Field(
            description="one class a cloud, or probabilities: learned, or a teacher's for the final clouds, or those "
            "that the teacher itself, kept in the file, gives while networks are trained"
        ),
    ] = "hard"
    teacher: Annotated[
        Paths,
        Field(
            description="network (.safetensors), or several, that give soft labels, or the first of learned ones; or "
            "one to be kept in the file"
        ),
    ] = ()
    temperature: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="that the teacher's logits are divided by")
    ] = 1.0
    expand: Annotated[
        dict[str, Any],
        Field(
            description="what networks are trained on besides, made of the stored clouds at no byte: interpolate=1 "
            "mixup=1"
        ),
    ] = Field(default_factory=dict)

    protocol: Annotated[
        str, Field(description="how it is meant to be evaluated: tuned, converged, published or sweep")
    ] = "tuned"
    seed: Seed = 0

    @model_validator(mode="after")
    def _check_expansion(self) -> Self:
        if (expansion := self.expansion()) is not None:
            expansion.check(1, self.points or (1 if self.clouds_per_class is None else POINTS), 1, "expand")
        return self

    def expansion(self) -> Expansion | None:
        """What `expand` asks for, with the set's seed unless it names its own; None if that is nothing.

        Raises:
            InputError: an unknown option or a value out of range.
        """
        found = Expansion.checked({"seed": self.seed, **self.expand}, "expand")
        return None if found.nothing else found


class SelectSpec(SetSpec):
    """Choose real clouds (a coreset) and store them at the same budget as a synthetic set."""

    heading: ClassVar[str] = "selection"

    labels: Annotated[
        Literal["hard", "teacher", "network"],
        Field(
            description="one class a cloud, or the probabilities that a teacher gives it, or those that the teacher "
            "itself, kept in the file, gives while networks are trained"
        ),
    ] = "hard"
    method: Annotated[str, Field(description=", ".join(selectors))] = "medoid"
    features: Annotated[
        str | None,
        Field(
            description="what clouds are compared by: 'raw' descriptors, 'trained' features, or a network with random "
            "weights (default: as the method likes)"
        ),
    ] = None
    skip: Annotated[
        float | None,
        Field(
            ge=0,
            lt=1,
            description="share of every class, its hardest, left out by ccs and window (default: as each likes)",
        ),
    ] = None


class DistillSpec(SetSpec):
    """Condense a data set into synthetic clouds."""

    heading: ClassVar[str] = "method"
    renamed: ClassVar[Mapping[str, str]] = {**SetSpec.renamed, "networks": "members"}
    later: ClassVar[tuple[str, ...]] = ("freeze",)

    init: Annotated[str, Field(description="selection that the clouds start from: " + ", ".join(selectors))] = "medoid"
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
    members: Annotated[
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
    freeze: Annotated[
        float, Field(ge=0, lt=1, description="share of every class that stays real: the clouds that --init ranks first")
    ] = 0.0
    snapshots: Annotated[int, Field(ge=0, description="clouds kept from along the way, for pictures")] = 0

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
