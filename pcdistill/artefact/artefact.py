"""The artefact: a storage, what it was made from and how, in one file. docs/format.md describes the file."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.artefact.container import is_sealed, read, read_if_sealed, seal, unseal
from pcdistill.artefact.expansion import Expansion, expand
from pcdistill.artefact.metadata import Metadata
from pcdistill.artefact.places import NoArtefactError, located
from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError, harmless
from pcdistill.core.files import atomic
from pcdistill.core.limits import check_room
from pcdistill.geometry import knn
from pcdistill.storage.base import Arrays, Budget, Storage, storages
from pcdistill.teaching import KeptTeacher, Online, TeacherFacts
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.viewing.exhibit import Exhibit, standing, upright

if TYPE_CHECKING:
    from pcdistill.viewing import Embedded

ARRAYS = "arrays/"
EXPANSION = "metadata 'expansion'"
TEACHER = "metadata 'teacher'"
CODES, FLOATS = "teacher_codes", "teacher_floats"


class Sizes(NamedTuple):
    """Where the bytes of an artefact's file are."""

    file_bytes: int
    training_bytes: int  # the storage's arrays and a teacher: all that a network is trained on
    history_bytes: int  # losses and snapshots
    overhead_bytes: int  # header, metadata and the structure of HDF5, whatever the number of clouds


@dataclass(frozen=True, eq=False)
class Artefact:
    """A condensed set with its history, as one file holds it.

    Args:
        storage: the set.
        metadata: has to agree with `storage`.
        losses: of every step; kept as float32.
        snapshots: decoded points `(clouds, points, 3)` on the way from the first guess to the end; kept as float16. As
            many of a cloud as it decodes to, or, of a `dense` storage, as are learned.
        teacher: that labels every cloud as a network in training sees it; None: nobody does.

    Raises:
        InputError: naming what does not agree or is not finite.
    """

    storage: Storage
    metadata: Metadata
    losses: Sequence[float] = ()
    snapshots: Sequence[Tensor] = ()
    teacher: KeptTeacher | None = None

    def __post_init__(self) -> None:
        # As a file gives it back: `model_copy` leaves changed fields unchecked, and JSON makes tuples lists.
        metadata = Metadata.from_json(self.metadata.to_json(), "metadata")
        losses = np.asarray(self.losses, dtype=np.float32)
        snapshots = tuple(snapshot.detach().to(torch.float16, copy=True) for snapshot in self.snapshots)
        object.__setattr__(self, "metadata", metadata)
        object.__setattr__(self, "losses", tuple(losses.tolist()))
        object.__setattr__(self, "snapshots", snapshots)
        self._check_metadata()
        _check_finite("losses", losses)
        for number, snapshot in enumerate(snapshots):
            points = snapshots[0].shape[1:2] if self.storage.dense else (metadata.points,)
            if snapshot.shape != (len(self.storage), *points, 3):
                wanted = f"({', '.join(map(str, (len(self.storage), *points)))}, 3)"
                raise InputError(f"snapshots[{number}]", f"shape {tuple(snapshot.shape)}", wanted)
            _check_finite(f"snapshots[{number}]", snapshot.numpy())

    def __repr__(self) -> str:
        facts = self.metadata
        sizes = f"{len(facts.class_names)} classes x {facts.clouds_per_class:.4g} clouds x {facts.points} points"
        return f"Artefact({facts.dataset} {facts.arm}: {sizes}, {self.bytes_per_class:,.0f} bytes per class)"

    def _check_metadata(self) -> None:
        clouds = self.clouds
        facts: dict[str, Any] = {
            "storage": self.storage.name,
            "layout": self.storage.layout(),
            "class_names": clouds.class_names,
            "parts": None if clouds.part_names is None else clouds.part_names.facts(),
            "clouds_per_class": len(clouds) / clouds.num_classes,
            "points": clouds.points_per_cloud,
            "bits": self.storage.layout().get("bits", self.metadata.bits),
        }
        for field, fact in facts.items():
            if getattr(self.metadata, field) != fact:
                found = f"{getattr(self.metadata, field)!r:.80}"
                raise InputError(f"metadata '{field}'", found, f"{fact!r:.80} as in the storage")
        kept = None if self.teacher is None else self.teacher.facts.model_dump(mode="json")
        if self.metadata.teacher != kept:
            raise InputError(TEACHER, f"{self.metadata.teacher!r:.80}", f"{kept!r:.80} as of the teacher")
        if self.expansion is not None:
            self.expansion.check(len(clouds), clouds.points_per_cloud, clouds.num_classes, EXPANSION)

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
        if facts is None:
            return None
        # Files of an earlier release name options that are gone; where these make nothing, nothing is missing.
        known = {key: value for key, value in facts.items() if value or key in Expansion.model_fields}
        return Expansion.checked(known, EXPANSION)

    @property
    def training_clouds(self) -> PointClouds:
        """What networks are trained on: `clouds`, expanded if the metadata say so. Made anew at every call."""
        return self.clouds if self.expansion is None else expand(self.clouds, self.expansion)

    @property
    def supervision(self) -> Online | None:
        """The teacher in the file, who labels while networks are trained; None without one.

        Raises:
            InputError: arrays that are none of its network.
        """
        return None if self.teacher is None else Online(self.teacher.teacher(self.metadata.class_names))

    @property
    def label_temperature(self) -> float | None:
        """That a teacher's labels were made at, or are; None of labels that are none.

        Raises:
            InputError: a temperature that is no positive number.
        """
        if self.teacher is not None:
            return self.teacher.facts.temperature
        labels = self.metadata.selection.get("labels")
        if not isinstance(labels, dict) or labels.get("kind") != "teacher":
            return None
        temperature = labels.get("temperature", 1.0)
        if not isinstance(temperature, int | float) or not 0 < temperature < float("inf"):
            raise InputError("metadata 'selection'", f"labels of temperature {temperature!r:.80}", "a positive number")
        return float(temperature)

    def with_label_temperature(self, protocol: EvaluationProtocol) -> EvaluationProtocol:
        """`protocol` with its student at the temperature of the teacher's labels, if there are such.

        Raises:
            InputError: as `label_temperature`.
        """
        temperature = self.label_temperature
        return protocol if temperature is None else protocol.changed(temperature=temperature)

    @property
    def budget(self) -> Budget:
        """The size as it is asked for; soft labels count a byte per class, of which coded ones take less."""
        facts = self.metadata
        soft = len(facts.class_names) if facts.layout.get("soft_labels") else 0
        counts = tuple(torch.bincount(self.storage.labels).tolist())
        same = counts[0] if len(set(counts)) == 1 else counts
        return Budget(same, facts.points, facts.bits, self.storage.side_bytes + soft, facts.layout.get("side", 0))

    @property
    def nbytes(self) -> int:
        """Bytes of the storage's arrays, and of a teacher's: history and fixed overhead apart."""
        return self.storage.nbytes + (0 if self.teacher is None else self.teacher.nbytes)

    @property
    def bytes_per_class(self) -> float:
        """`nbytes` over the number of classes."""
        return self.nbytes / len(self.metadata.class_names)

    def to_bytes(self) -> bytes:
        """The file that `save` writes; same content and same h5py, same bytes."""
        datasets: Arrays = {ARRAYS + name: array for name, array in self.storage.arrays().items()}
        if self.teacher is not None:
            datasets |= {CODES: self.teacher.codes, FLOATS: self.teacher.floats}
        return seal(self.metadata.to_json(), datasets | self._history())

    def _history(self) -> Arrays:
        history: Arrays = {}
        if self.losses:
            history["losses"] = np.array(self.losses, dtype=np.float32)
        if self.snapshots:
            history["snapshots"] = torch.stack(list(self.snapshots)).numpy()
        return history

    @property
    def digest(self) -> str:
        """SHA-256 of the file that `save` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def sizes(self, path: str | os.PathLike[str]) -> Sizes:
        """Sizes in the file at `path` that this was loaded from or saved to."""
        whole = located(path).stat().st_size
        training = self.nbytes
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

        Args:
            path: of the file; or `zoo:NAME`, which came with the package, or `hf:USER/NAME`, which is fetched from the
                Hugging Face Hub.

        Raises:
            InputError: one line that names file and field.
        """
        return cls._of(read(located(path)), path)

    @classmethod
    def load_if_one(cls, path: str | os.PathLike[str]) -> Self | None:
        """As `load`; None where `path` is no file that begins like an artefact (`is_one`)."""
        try:
            content = read_if_sealed(located(path))
        except NoArtefactError:
            return None
        return None if content is None else cls._of(content, path)

    @classmethod
    def _of(cls, content: bytes, path: str | os.PathLike[str]) -> Self:
        try:
            text, datasets = unseal(content)
            metadata = Metadata.from_json(text, "metadata")
            _check_claims(metadata, len(content))
            storage = _restored(metadata, datasets)
            teacher = _teacher(metadata, datasets)
            losses = _popped(datasets, "losses", np.float32, 1)
            snapshots = _popped(datasets, "snapshots", np.float16, 4)
            if datasets:
                raise InputError(min(datasets), "unknown dataset", "metadata, arrays, losses, snapshots or a teacher")
            made = cls(storage, metadata, losses.tolist(), list(torch.from_numpy(snapshots)), teacher)
            if made.expansion is not None:
                check_room(made.expansion.nbytes(len(made.storage), metadata.points), len(content), EXPANSION)
            return made
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
        from pcdistill.viewing import Embedded, chosen, html_page

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
        try:
            return is_sealed(located(path))
        except NoArtefactError:
            return False


def _check_claims(metadata: Metadata, nbytes: int) -> None:
    """Refuse clouds that a file of `nbytes` cannot hold, before any of them is decoded.

    Raises:
        InputError: more than `core.limits` allows, or a layout that says something else than the metadata.
    """
    clouds = round(len(metadata.class_names) * metadata.clouds_per_class)  # which may be a rounded share
    check_room(4 * 3 * clouds * metadata.points, nbytes, "metadata 'clouds_per_class' and 'points'")
    told: dict[str, tuple[float, ...]] = {"points": (metadata.points,), "clouds": (metadata.clouds_per_class, clouds)}
    for field, known in told.items():
        if field in metadata.layout and metadata.layout[field] not in known:
            found = str(metadata.layout[field])[:40]
            raise InputError(f"layout '{field}'", found, f"{known[0]:g} as in the metadata")


def _restored(metadata: Metadata, datasets: Arrays) -> Storage:
    """Take the storage's arrays out of `datasets`; they have to be the ones that the storage would write."""
    names = [name for name in datasets if name.startswith(ARRAYS)]
    arrays = {name.removeprefix(ARRAYS): datasets.pop(name) for name in names}
    kind, named = storages[metadata.storage], list[PartNames]()
    if metadata.parts is not None:
        if not kind.keeps_parts:
            raise InputError("metadata 'parts'", f"of storage '{metadata.storage}'", "none: it keeps no parts")
        named = [PartNames.of_facts(metadata.parts, len(metadata.class_names), "metadata 'parts'")]
    storage = kind.from_arrays(arrays, metadata.layout, metadata.class_names, *named)
    again = storage.arrays()
    if again.keys() != arrays.keys():
        raise InputError("arrays", f"{sorted(arrays)}"[:200], f"{sorted(again)} for storage '{metadata.storage}'")
    for name, array in again.items():
        if array.dtype != arrays[name].dtype or array.tobytes() != arrays[name].tobytes():
            raise InputError(ARRAYS + name, "values that no encoder writes", f"those of storage '{metadata.storage}'")
    return storage


def _teacher(metadata: Metadata, datasets: Arrays) -> KeptTeacher | None:
    """Take the teacher's arrays out of `datasets`; they have to be the ones of the network that the metadata name."""
    if metadata.teacher is None:
        return None
    facts = TeacherFacts.checked(metadata.teacher, TEACHER)
    kept = KeptTeacher(facts, _popped(datasets, CODES, np.int8, 1), _popped(datasets, FLOATS, np.float16, 1))
    kept.teacher(metadata.class_names)  # refused here
    return kept


def _popped(datasets: Arrays, name: str, dtype: type, dimensions: int) -> np.ndarray[Any, Any]:
    """Take dataset `name` out of `datasets`; an absent one is empty."""
    array = datasets.pop(name, np.empty((0,) * dimensions, dtype))
    if array.dtype != dtype or array.ndim != dimensions:
        found = f"{array.dtype} of {array.ndim} dimensions"
        raise InputError(name, found, f"{np.dtype(dtype)} of {dimensions}")
    if len(array) and not array.size:  # any number of them takes no bytes
        raise InputError(name, f"shape {array.shape}", "some values")
    return array


def _check_finite(name: str, values: np.ndarray[Any, Any]) -> None:
    if not np.isfinite(values).all():
        raise InputError(name, "NaN or infinity", "finite values")


def stored_protocol(artefact: Artefact, place: object) -> EvaluationProtocol:
    """The protocol that an artefact is meant to be evaluated by.

    Raises:
        InputError: none that this release knows.
    """
    return EvaluationProtocol.checked(artefact.metadata.protocol, f"{place}: metadata 'protocol'")


def set_name(name: str) -> str:
    """A data set's catalog name or file name: files that are passed on say nothing of their maker's folders.

    What is no UTF-8 in it, as names of files may hold, is escaped: no file could say it otherwise.
    """
    return harmless(Path(name).resolve().name if Path(name).exists() else name)


def exhibit_of(artefact: Artefact) -> Exhibit:
    """An artefact to be looked at, with its history."""
    facts, clouds = artefact.metadata, _followed(artefact)
    up = str(clouds.provenance.get("up_axis", "z"))
    frames = [*(snapshot.float() for snapshot in artefact.snapshots[:-1]), clouds.points]
    steps = [0]
    if len(frames) > 1:
        total = len(artefact.losses)
        steps = [round(total * i / (len(frames) - 1)) for i in range(len(frames))]
    title = f"{facts.dataset}: {facts.arm}, {artefact.bytes_per_class:,.0f} bytes per class"
    return Exhibit(
        title, standing(clouds), tuple(upright(frame, up) for frame in frames), tuple(steps),
        losses=tuple(artefact.losses), bits=facts.bits, nbytes=artefact.nbytes,
        facts=_facts(artefact),
    )  # fmt: skip


def _followed(artefact: Artefact) -> PointClouds:
    """The stored clouds, their points in the order of the last snapshot, which holds them in float16."""
    clouds = artefact.clouds
    if not artefact.snapshots:
        return clouds
    _, index = knn(artefact.snapshots[-1].float(), clouds.points, 1)
    return clouds.at_points(index[..., 0])


def finesse(artefact: Artefact) -> str:
    """How finely places are stored, in words."""
    side = artefact.metadata.layout.get("side")
    return f"at {artefact.metadata.bits} bits" if side is None else f"in grids of {side} cells a side"


def _facts(artefact: Artefact) -> dict[str, str]:
    facts = artefact.metadata
    settings, plan = facts.settings or {}, facts.protocol
    found = {
        "clouds": f"{len(artefact.storage):,} of {len(facts.class_names)} classes",
        "points": f"{facts.points} each {finesse(artefact)}",
        "bytes per class": f"{artefact.bytes_per_class:,.0f}, all that networks are trained on",
        "made by": f"{facts.arm} of {facts.dataset}, storage {facts.storage}, seed {facts.seed}",
    }
    if artefact.teacher is not None:
        found["taught by"] = f"{artefact.teacher.facts.protocol.network} in the file, {artefact.teacher.nbytes:,} bytes"
    if facts.distilled:
        seconds = f"{facts.distill_seconds:,.0f} s, and {facts.prepare_seconds:,.0f} s for networks or experts"
        found["distilled"] = f"{settings.get('steps')} steps in {seconds}"
    found["meant for"] = f"protocol {plan.get('name')} v{plan.get('version')}, network {plan.get('network')}"
    found["written"] = f"{facts.created}, pcdistill {facts.versions.get('pcdistill', '?')}"
    return found
