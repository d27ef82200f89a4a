"""What an artefact says of itself."""

import datetime
import json
from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from pcdistill.core.options import Options

Json = dict[str, JsonValue]
PerClass = Annotated[int, Field(ge=1)] | Annotated[float, Field(ge=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Metadata(Options):
    """What an artefact was made from, how, and how it is meant to be evaluated.

    Attributes:
        arm: `random`, `herding`, ... for a selection, else the objective's name.
        distilled: whether anything was learned.
        dataset: catalog name or file name that the user gave, without folders.
        source_fingerprint, source: digest (`PointClouds.fingerprint`) and provenance of the training set.
        storage, layout: the parameterisation and the integers it needs to read its arrays.
        class_names: in the order of the labels.
        clouds_per_class, points, bits: the size; the number of clouds on average, where classes differ.
        selection: how the first guess was chosen: method, seed, features; with soft labels, where they come from.
        objective, settings: of the distillation (its name with `Objective.describe`, `DistillSettings`).
        protocol: `EvaluationProtocol`, as JSON.
        seed: that selection, objective and settings were derived from.
        prepare_seconds, distill_seconds: wall-clock time.
        versions, hardware, created: with what, on what, when (UTC date, ISO 8601).
        parts: names of the parts that points belong to, and which class has which (`PartNames`); None without.
        expansion: `Expansion`, as JSON: what networks are trained on besides the stored clouds; None for nothing.
        teacher: `TeacherFacts`, as JSON: of the network in the file that labels while others are trained; None: none.
    """

    model_config = ConfigDict(strict=True)
    later: ClassVar[tuple[str, ...]] = ("parts", "teacher")

    arm: str
    distilled: bool
    dataset: str
    source_fingerprint: str
    source: Json
    storage: str
    layout: dict[str, int]
    class_names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    clouds_per_class: PerClass
    points: int = Field(ge=1)
    bits: int
    selection: Json
    objective: Json | None
    settings: Json | None
    protocol: Json
    seed: int
    prepare_seconds: Seconds
    distill_seconds: Seconds
    versions: dict[str, str]
    hardware: str
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]
    parts: Json | None = None
    expansion: Json | None = None
    teacher: Json | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("two classes have the same name")
        self.to_json().encode()
        return self

    def to_json(self) -> str:
        """Compact JSON; NaN and infinity, which JSON has not, are a `ValueError`.

        Without an expansion there is no key for it, as in files from before there were any.
        """
        facts = self.model_dump(warnings=False, exclude={"expansion"} if self.expansion is None else None)
        return json.dumps(facts, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def utc_now() -> str:
    """Today's date in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
