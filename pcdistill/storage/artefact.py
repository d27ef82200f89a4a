"""The artefact: a storage, what it was made from and how, in one file. docs/format.md describes the file."""

import datetime
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.expansion import Expansion, by_cloud, expand, in_order
from pcdistill.files import atomic
from pcdistill.storage.base import Arrays, Budget, Storage, storages
from pcdistill.storage.container import is_sealed, read, seal, unseal
from pcdistill.storage.labels import SoftStorage
from pcdistill.training import Protocol

if TYPE_CHECKING:
    from pcdistill.viewing import Embedded

ARRAYS = "arrays/"
EXPANSION = "metadata 'expansion'"
Json = dict[str, JsonValue]
PerClass = Annotated[int, Field(ge=1)] | Annotated[float, Field(ge=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Metadata(BaseModel):
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
        protocol: `Protocol`, as JSON.
        seed: that selection, objective and settings were derived from.
        prepare_seconds, distill_seconds: wall-clock time.
        versions, hardware, created: with what, on what, when (UTC date, ISO 8601).
        expansion: `Expansion`, as JSON: what networks are trained on besides the stored clouds; None for nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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
    expansion: Json | None = None

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

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`; trusts nothing.

        Raises:
            InputError: naming the first field that is missing, unknown or of the wrong type.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise InputError(f"metadata '{field}'"[:80] if field else "metadata", first["msg"][:200]) from None


class Sizes(NamedTuple):
    """Where the bytes of an artefact's file are."""

    file_bytes: int
    training_bytes: int  # the storage's arrays: all that a network is trained on
    history_bytes: int  # losses and snapshots
    overhead_bytes: int  # header, metadata and the structure of HDF5, whatever the number of clouds


@dataclass(frozen=True, eq=False)
class Artefact:
    """A condensed set with its history, as one file holds it.

    Args:
        storage: the set.
        metadata: has to agree with `storage`.
        losses: of every step; kept as float32.
        snapshots: decoded points `(clouds, points, 3)` on the way from the first guess to the end; kept as float16.

    Raises:
        InputError: naming what does not agree or is not finite.
    """

    storage: Storage
    metadata: Metadata
    losses: Sequence[float] = ()
    snapshots: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        # As a file gives it back: `model_copy` leaves changed fields unchecked, and JSON makes tuples lists.
        metadata = Metadata.from_json(self.metadata.to_json())
        losses = np.asarray(self.losses, dtype=np.float32)
        snapshots = tuple(snapshot.detach().to(torch.float16, copy=True) for snapshot in self.snapshots)
        object.__setattr__(self, "metadata", metadata)
        object.__setattr__(self, "losses", tuple(losses.tolist()))
        object.__setattr__(self, "snapshots", snapshots)
        self._check_metadata()
        _check_finite("losses", losses)
        for number, snapshot in enumerate(snapshots):
            if snapshot.shape != (len(self.storage), metadata.points, 3):
                wanted = f"({len(self.storage)}, {metadata.points}, 3)"
                raise InputError(f"snapshots[{number}]", f"shape {tuple(snapshot.shape)}", wanted)
            _check_finite(f"snapshots[{number}]", snapshot.numpy())

    def _check_metadata(self) -> None:
        clouds = self.clouds
        facts: dict[str, Any] = {
            "storage": self.storage.name,
            "layout": self.storage.layout(),
            "class_names": clouds.class_names,
            "clouds_per_class": len(clouds) / clouds.num_classes,
            "points": clouds.points_per_cloud,
            "bits": self.storage.layout().get("bits", self.metadata.bits),
        }
        for field, fact in facts.items():
            if getattr(self.metadata, field) != fact:
                found = f"{getattr(self.metadata, field)!r:.80}"
                raise InputError(f"metadata '{field}'", found, f"{fact!r:.80} as in the storage")
        if self.expansion is not None:
            self.expansion.check(len(clouds), clouds.points_per_cloud, clouds.num_classes, EXPANSION)
        views = self.metadata.layout.get("label_views", 1)
        made = self.expansion if self.expansion is not None else Expansion()
        if views > 1 and not (made.single and views == made.times):
            found = f"{made.times} of each cloud, {'single' if made.single else 'or mixed'}"
            raise InputError(EXPANSION, found, f"{views} single ones, as there are labels")

    @property
    def clouds(self) -> PointClouds:
        """Decoded clouds, class by class, detached from the storage; in the frame of the training set."""
        with torch.no_grad():
            decoded = self.storage.decode()
        name = f"{self.metadata.dataset} {self.metadata.arm}"
        facts = {"name": name, "source": f"artefact of {name}", "split": "synthetic"}
        if isinstance(up := self.metadata.source.get("up_axis"), str):
            facts["up_axis"] = up
        return replace(decoded, provenance=facts)

    @property
    def expansion(self) -> Expansion | None:
        """How `training_clouds` are made of the stored ones; None if they are those."""
        facts = self.metadata.expansion
        return None if facts is None else Expansion.checked(facts, EXPANSION)

    @property
    def training_clouds(self) -> PointClouds:
        """What networks are trained on: `clouds`, expanded if the metadata say so. Made anew at every call."""
        return trained_on(self.storage, self.clouds, self.expansion)

    def taught(self, plan: Protocol) -> Protocol:
        """`plan` with its student at the temperature of the teacher's labels, if there are such.

        Raises:
            InputError: a temperature that is no positive number.
        """
        told = self.metadata.selection.get("labels")
        if not isinstance(told, dict) or told.get("kind") not in ("teacher", "views"):
            return plan
        temperature = told.get("temperature", 1.0)
        if not isinstance(temperature, int | float) or not 0 < temperature < float("inf"):
            raise InputError("metadata 'selection'", f"labels of temperature {temperature!r:.80}", "a positive number")
        return plan.changed(temperature=float(temperature))

    @property
    def budget(self) -> Budget:
        """The size as it is asked for; soft labels count a byte per class, of which coded ones take less."""
        facts = self.metadata
        soft = len(facts.class_names) if facts.layout.get("soft_labels") else 0
        counts = tuple(torch.bincount(self.storage.labels).tolist())
        same = counts[0] if len(set(counts)) == 1 else counts
        return Budget(same, facts.points, facts.bits, self.storage.side_bytes + soft)

    @property
    def bytes_per_class(self) -> float:
        """Bytes of the storage's arrays over the number of classes: history and fixed overhead apart."""
        return self.storage.nbytes / len(self.metadata.class_names)

    def to_bytes(self) -> bytes:
        """The file that `save` writes; same content and same h5py, same bytes."""
        datasets: Arrays = {ARRAYS + name: array for name, array in self.storage.arrays().items()}
        return seal(self.metadata.to_json(), datasets | self._history())

    def _history(self) -> Arrays:
        history: Arrays = {}
        if self.losses:
            history["losses"] = np.array(self.losses, dtype=np.float32)
        if self.snapshots:
            history["snapshots"] = torch.stack(list(self.snapshots)).numpy()
        return history

    def sizes(self, path: str | os.PathLike[str]) -> Sizes:
        """Sizes in the file at `path` that this was loaded from or saved to."""
        whole = Path(path).stat().st_size
        training = self.storage.nbytes
        history = sum(array.nbytes for array in self._history().values())
        return Sizes(whole, training, history, whole - training - history)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: it cannot be written; an old file at `path` is then as it was.
        """
        content = self.to_bytes()
        with atomic(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file without trust: nothing in it is executed, and it decides over no allocation beyond its size.

        Raises:
            InputError: one line that names file and field.
        """
        content = read(Path(path))
        try:
            text, datasets = unseal(content)
            metadata = Metadata.from_json(text)
            storage = _restored(metadata, datasets)
            losses = _popped(datasets, "losses", np.float32, 1)
            snapshots = _popped(datasets, "snapshots", np.float16, 4)
            if datasets:
                raise InputError(min(datasets), "unknown dataset", "metadata, arrays, losses or snapshots")
            return cls(storage, metadata, losses.tolist(), list(torch.from_numpy(snapshots)))
        except InputError as error:
            raise InputError(path, str(error)) from None

    def plot(
        self, *, columns: int = 8, colour: str = "height", real: PointClouds | None = None, height: int = 640
    ) -> "Embedded":
        """The clouds to turn and compare in a cell of Jupyter or VS Code: the page of `view --html`.

        Args:
            columns: most clouds of a class; every one adds to the size of the notebook.
            colour: one of `viewing.COLOURINGS`.
            real: a real set whose nearest clouds are shown beside.
            height: of the cell in pixels.

        Raises:
            InputError: an unknown colouring, or one that needs more than there is.
        """
        from pcdistill.viewing import Embedded, chosen, exhibit_of, html_page

        exhibit = exhibit_of(self)
        exhibit = exhibit.only(chosen(exhibit.clouds, (), columns))
        if real is not None:
            exhibit = exhibit.beside(real, str(real.provenance.get("name", "the real set")))
        return Embedded(html_page(exhibit, colour=colour), height)

    def _repr_html_(self) -> str:
        return self.plot()._repr_html_()

    @staticmethod
    def is_one(path: str | os.PathLike[str]) -> bool:
        """Whether `path` is a file that begins like an artefact, of any version and in any state."""
        return is_sealed(Path(path))


def trained_on(storage: Storage, clouds: PointClouds, expansion: Expansion | None) -> PointClouds:
    """What `expansion` makes of the clouds that `storage` decodes to, with labels of their own where it has them."""
    if expansion is None:
        return clouds
    expanded, labels = expand(clouds, expansion), _view_labels(storage)
    return expanded if labels is None else replace(expanded, labels=in_order(labels, storage.labels))


def soften_by(
    storage: Storage, label: Callable[[Tensor], Tensor], views: Expansion | None = None, *, learn: bool = False
) -> None:
    """Give a storage the soft labels of its clouds as they are read, and of all that `views` make of them.

    Args:
        storage: of hard or soft labels.
        label: probabilities `(B, C)` of clouds `(B, P, 3)`.
        views: an expansion of single clouds; None for a label a cloud.
        learn: see `Storage.soften`.
    """
    with torch.no_grad():
        clouds = storage.decode()
    if views is None:
        storage.soften(label(clouds.points), learn=learn)
        return
    hard = replace(clouds, labels=storage.labels, classes=None)
    storage.soften(by_cloud(label(expand(hard, views).points), storage.labels, views.times), learn=learn)


def _view_labels(storage: Storage) -> Tensor | None:
    return storage.view_labels() if isinstance(storage, SoftStorage) else None


def utc_now() -> str:
    """Today's date in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _restored(metadata: Metadata, datasets: Arrays) -> Storage:
    """Take the storage's arrays out of `datasets`; they have to be the ones that the storage would write."""
    names = [name for name in datasets if name.startswith(ARRAYS)]
    arrays = {name.removeprefix(ARRAYS): datasets.pop(name) for name in names}
    storage = storages[metadata.storage].from_arrays(arrays, metadata.layout, metadata.class_names)
    again = storage.arrays()
    if again.keys() != arrays.keys():
        raise InputError("arrays", f"{sorted(arrays)}"[:200], f"{sorted(again)} for storage '{metadata.storage}'")
    for name, array in again.items():
        if array.dtype != arrays[name].dtype or array.tobytes() != arrays[name].tobytes():
            raise InputError(ARRAYS + name, "values that no encoder writes", f"those of storage '{metadata.storage}'")
    return storage


def _popped(datasets: Arrays, name: str, dtype: type, dimensions: int) -> np.ndarray[Any, Any]:
    """Take dataset `name` out of `datasets`; an absent one is empty."""
    array = datasets.pop(name, np.empty((0,) * dimensions, dtype))
    if array.dtype != dtype or array.ndim != dimensions:
        found = f"{array.dtype} of {array.ndim} dimensions"
        raise InputError(name, found, f"{np.dtype(dtype)} of {dimensions}")
    return array


def _check_finite(name: str, values: np.ndarray[Any, Any]) -> None:
    if not np.isfinite(values).all():
        raise InputError(name, "NaN or infinity", "finite values")
