"""Artefacts that are made, saved and loaded as they should be; damaged ones are in `test_untrusted`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.metadata import Metadata, utc_now
from pcdistill.clouds import PointClouds
from pcdistill.condense import select
from pcdistill.core.errors import InputError
from pcdistill.data.procedural import shapes
from pcdistill.storage import Budget, Storage, storages
from pcdistill.storage.voxels import VoxelClouds

Make = Callable[..., Artefact]


@pytest.mark.parametrize("bits", [2, 6, 8, 12, 16, 32])
@pytest.mark.parametrize(("steps", "snapshots"), [(0, 0), (5, 0), (5, 3)])
def test_a_file_gives_everything_back(
    make_artefact: Make, tmp_path: Path, bits: int, steps: int, snapshots: int
) -> None:
    made = make_artefact(bits=bits, steps=steps, snapshots=snapshots)
    made.save(tmp_path / "a.h5")
    loaded = Artefact.load(tmp_path / "a.h5")
    assert loaded.metadata == made.metadata
    assert loaded.losses == made.losses
    assert len(loaded.losses) == steps
    assert len(loaded.snapshots) == snapshots
    assert all(torch.equal(a, b) for a, b in zip(loaded.snapshots, made.snapshots, strict=True))
    assert loaded.clouds.points.numpy().tobytes() == made.clouds.points.numpy().tobytes()
    assert torch.equal(loaded.clouds.labels, made.clouds.labels)
    assert loaded.clouds.provenance == made.clouds.provenance
    assert loaded.to_bytes() == made.to_bytes() == (tmp_path / "a.h5").read_bytes()


def test_the_clouds(make_artefact: Make) -> None:
    made = make_artefact(classes=2, each=3, points=7)
    assert made.clouds.points.shape == (6, 7, 3)
    assert made.clouds.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert made.clouds.class_names == ("class 0", "class 1")
    assert not made.clouds.points.requires_grad
    assert made.clouds.provenance["up_axis"] == "z"
    assert made.clouds.provenance["name"] == "tiny quantile"
    assert "up_axis" not in make_artefact(source={}).clouds.provenance
    assert made.budget == Budget(clouds_per_class=3, points=7, bits=8)


def test_it_is_shown_in_one_line(make_artefact: Make) -> None:
    made = make_artefact(classes=2, each=3, points=7)
    assert repr(made) == "Artefact(tiny quantile: 2 classes x 3 clouds x 7 points, 63 bytes per class)"


@pytest.mark.parametrize("bits", [8, 32])
def test_the_clouds_are_a_copy(make_artefact: Make, bits: int) -> None:
    made = make_artefact(bits=bits)
    before = made.clouds
    kept = before.points.clone()
    with torch.no_grad():
        for value in made.storage.learned().values():
            value.zero_()
    assert torch.equal(before.points, kept)
    assert made.clouds.points.abs().max() < 0.01


def test_history_is_kept_in_single_and_half_precision(make_artefact: Make) -> None:
    made = make_artefact(steps=3, snapshots=2)
    assert made.losses == (1.0, 0.5, float(np.float32(1 / 3)))
    assert {snapshot.dtype for snapshot in made.snapshots} == {torch.float16}


def test_sizes(make_artefact: Make, tmp_path: Path) -> None:
    made = make_artefact(classes=4, each=5, points=16, bits=6, steps=7, snapshots=2)
    made.save(tmp_path / "a.h5")
    sizes = made.sizes(tmp_path / "a.h5")
    assert sizes.training_bytes == made.storage.nbytes == 4 * 5 * (16 * 3 * 6 // 8)
    assert sizes.history_bytes == 7 * 4 + 2 * 4 * 5 * 16 * 3 * 2
    assert sizes.file_bytes == (tmp_path / "a.h5").stat().st_size == sum(sizes[1:])
    assert made.bytes_per_class == 5 * 36


def test_overhead_is_small_and_does_not_grow(make_artefact: Make, tmp_path: Path) -> None:
    """Beside the metadata, what docs/format.md says, to the byte the same for 2 clouds as for 2,000."""
    overheads = []
    for size in ({"each": 1, "points": 1, "steps": 1}, {"each": 1000, "points": 128, "steps": 5000}):
        made = make_artefact(classes=2, bits=8, **size)
        made.save(tmp_path / "a.h5")
        overheads.append(made.sizes(tmp_path / "a.h5").overhead_bytes - len(made.metadata.to_json()))
    assert overheads[0] == overheads[1] < 2000
    plain = make_artefact(steps=0, snapshots=0)
    plain.save(tmp_path / "b.h5")
    assert plain.sizes(tmp_path / "b.h5").overhead_bytes - len(plain.metadata.to_json()) < 1450


def test_same_content_same_bytes(make_artefact: Make) -> None:
    assert make_artefact().to_bytes() == make_artefact().to_bytes()
    assert make_artefact().to_bytes() != make_artefact(seed=1).to_bytes()


def test_datasets_are_contiguous_and_listed_in_full(make_artefact: Make, tmp_path: Path) -> None:
    made = make_artefact()
    made.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"metadata", "arrays", "losses", "snapshots"}
        assert not file.attrs
        for data in (file["metadata"], file["losses"], file["snapshots"], *file["arrays"].values()):
            assert data.chunks is None
            assert data.id.get_storage_size() == data.nbytes
        assert json.loads(file["metadata"][()]) == json.loads(made.metadata.to_json())


def test_names_in_any_script_survive(make_artefact: Make, tmp_path: Path) -> None:
    made = make_artefact(classes=1, dataset="Möbel 家具")
    made.save(tmp_path / "ü.h5")
    assert Artefact.load(tmp_path / "ü.h5").metadata.dataset == "Möbel 家具"


def test_one_is_known_by_its_first_bytes(make_artefact: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    assert not Artefact.is_one(path)
    assert not Artefact.is_one(tmp_path)
    make_artefact().save(path)
    assert Artefact.is_one(path)
    path.write_bytes(path.read_bytes()[:100])
    assert Artefact.is_one(str(path))
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    assert not Artefact.is_one(path)


# --- metadata has to agree with the storage


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("storage", "other"),
        ("layout", {"bits": 8, "points": 11}),
        ("class_names", ("a", "b", "c")),
        ("clouds_per_class", 3),
        ("points", 11),
        ("bits", 6),
    ],
)
def test_metadata_of_another_storage(make_artefact: Make, field: str, value: object) -> None:
    made = make_artefact()
    with pytest.raises(InputError, match=rf"^metadata '{field}': .*, expected .* as in the storage$"):
        Artefact(made.storage, made.metadata.model_copy(update={field: value}))


def test_tuples_become_what_the_file_gives_back(make_artefact: Make) -> None:
    made = make_artefact()
    facts = made.metadata.model_copy(update={"objective": {"name": "quantile", "trained": (20, 200)}})
    assert Artefact(made.storage, facts).metadata.objective == {"name": "quantile", "trained": [20, 200]}


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("created", "yesterday", "should match pattern"),
        ("seed", "0", "valid integer"),
        ("seed", True, "valid integer"),
        ("clouds_per_class", 0, "greater than or equal to 1"),
        ("class_names", (), "at least 1 item"),
        ("class_names", ("a", "a"), "two classes have the same name"),
        ("class_names", ("a", ""), "at least 1 character"),
        ("class_names", ("a", 1), "valid string"),
        ("prepare_seconds", -1.0, "greater than or equal to 0"),
        ("distill_seconds", float("nan"), "finite number"),
        ("source", {"scale": float("inf")}, "not JSON compliant"),
        ("hardware", "\udcff", "surrogates not allowed"),
        ("versions", {"torch": 2}, "valid string"),
        ("layout", {"bits": 8.5}, "valid integer"),
        ("colour", "red", "Extra inputs are not permitted"),
    ],
)
def test_metadata_that_no_file_may_hold(make_artefact: Make, field: str, value: object, found: str) -> None:
    with pytest.raises(ValidationError, match=found):
        make_artefact(**{field: value})


def test_metadata_has_a_limit(make_artefact: Make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^metadata: \d+ bytes, expected at most 1048576$"):
        make_artefact(hardware="x" * (1 << 20)).save(tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_history_that_does_not_fit(make_artefact: Make) -> None:
    made = make_artefact()
    with pytest.raises(InputError, match=r"^losses: NaN or infinity, expected finite values$"):
        Artefact(made.storage, made.metadata, [1.0, float("nan")])
    with pytest.raises(InputError, match=r"^snapshots\[1\]: shape \(6, 9, 3\), expected \(6, 10, 3\)$"):
        Artefact(made.storage, made.metadata, [], [torch.zeros(6, 10, 3), torch.zeros(6, 9, 3)])
    with pytest.raises(InputError, match=r"^snapshots\[0\]: NaN or infinity"):
        Artefact(made.storage, made.metadata, [], [torch.full((6, 10, 3), 1e9)])


def test_today_is_a_date_that_metadata_accepts(make_artefact: Make) -> None:
    assert make_artefact(created=utc_now()).metadata.created == utc_now()


# --- other storages


def test_another_storage_needs_no_change_here(
    make_artefact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two arrays, one of them a table, and points that are stored once and mirrored."""

    class Mirrored(Storage):
        name = "mirrored"

        def __init__(self, half: torch.Tensor, signs: torch.Tensor, class_names: tuple[str, ...]) -> None:
            self.half, self.signs, self.class_names = half.requires_grad_(), signs, class_names
            self.labels = torch.arange(len(class_names)).repeat_interleave(len(half) // len(class_names))

        @classmethod
        def from_clouds(cls, initial, budget):
            return cls(initial.points[:, : budget.points // 2].clone(), torch.tensor([-1.0, 1, 1]), initial.class_names)

        @classmethod
        def from_arrays(cls, arrays, layout, class_names):
            return cls(torch.from_numpy(arrays["half"]), torch.from_numpy(arrays["signs"]), class_names)

        def arrays(self):
            return {"half": self.half.detach().numpy(), "signs": self.signs.numpy()}

        def layout(self):
            return {}

        def learned(self):
            return {"half": self.half}

        def decode(self, index=None):
            points = torch.cat([self.half, self.half * self.signs], dim=1)
            return PointClouds(points, self.labels, self.class_names)

    monkeypatch.setattr(storages, "_entries", {**storages._entries, "mirrored": Mirrored})
    made = make_artefact()
    storage = Mirrored.from_clouds(made.clouds, made.budget)
    facts = made.metadata.model_copy(update={"storage": "mirrored", "layout": {}})
    Artefact(storage, facts).save(tmp_path / "a.h5")
    loaded = Artefact.load(tmp_path / "a.h5")
    assert isinstance(loaded.storage, Mirrored)
    assert torch.equal(loaded.clouds.points, Artefact(storage, facts).clouds.points)
    assert loaded.sizes(tmp_path / "a.h5").training_bytes == 6 * 5 * 3 * 4 + 3 * 4


# --- whole or not at all


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes fails half-way, as on a full disk."""
    resource = pytest.importorskip("resource", reason="no limit on the size of files on Windows")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("old", [None, b"something older"])
def test_no_room_on_the_disk(make_artefact: Make, tmp_path: Path, old: bytes | None) -> None:
    path, made = tmp_path / "a.h5", make_artefact()
    if old is not None:
        path.write_bytes(old)
    with largest_file(len(made.to_bytes()) // 2), pytest.raises(OSError, match="File too large"):
        made.save(path)
    assert [found.name for found in tmp_path.iterdir()] == ([] if old is None else ["a.h5"])
    assert old is None or path.read_bytes() == old


def test_interrupted_before_the_last_moment(
    make_artefact: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    make_artefact().save(path)
    before = path.read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_artefact(seed=5).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place(make_artefact: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_artefact().save(tmp_path / "file" / "a.h5")
    with pytest.raises(IsADirectoryError):
        make_artefact().save(tmp_path)


def test_metadata_is_frozen(make_artefact: Make) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_artefact().metadata.seed = 1
    facts = make_artefact(expansion={"mixup": 1}).metadata
    assert set(Metadata.model_fields) - {"parts", "teacher"} == set(json.loads(facts.to_json()))


def test_sets_with_parts_come_back_from_files(tmp_path: Path) -> None:
    real = shapes.generate("train", 4, 96, parts=True)
    for asked in ({"bytes_per_class": 120}, {"bytes_per_class": 300, "bits": 5}, {"clouds_per_class": 1, "points": 32}):
        made = select(real, **asked)
        assert made.metadata.protocol["network"] == "pointnet-seg"
        made.save(tmp_path / "a.h5")
        read = Artefact.load(tmp_path / "a.h5")
        assert read.clouds.part_names == real.part_names
        assert torch.equal(read.clouds.parts, made.clouds.parts)
        assert torch.equal(read.clouds.points, made.clouds.points)
        assert read.to_bytes() == made.to_bytes()
        assert made.bytes_per_class <= asked.get("bytes_per_class", 1e9)
        assert made.storage.arrays()["parts"].nbytes > 0
    wrong = made.metadata.model_copy(update={"parts": {"names": ["a"], "of_class": [[0]] * 10}})
    with pytest.raises(InputError, match="metadata 'parts'"):
        Artefact(made.storage, wrong)
    for asked, message in (
        ({"storage": "morphed"}, "storage: 'morphed' of points with parts"),
        ({"expand": {"mixup": 1}}, "expand: mixup of points with parts"),
    ):
        with pytest.raises(InputError, match=message):
            select(real, clouds_per_class=1, points=32, **asked)


@pytest.mark.parametrize(("classes", "clouds"), [(14, 232), (7, 29)])
def test_clouds_that_classes_share_unequally_are_counted_whole(classes: int, clouds: int, tmp_path: Path) -> None:
    """Clouds per class are a fraction, and times the classes that may miss the whole number by its last bit."""
    assert classes * (clouds / classes) != clouds
    labels = (torch.arange(clouds) % classes).sort().values
    names = tuple(f"class {number}" for number in range(classes))
    real = PointClouds(torch.randn(clouds, 24, 3), labels, names, {})
    made = select(real, method="random", clouds_per_class=1, points=16)
    stored = VoxelClouds.of_all(real, 6, 16)
    facts = made.metadata.model_copy(
        update={
            "storage": "voxels",
            "clouds_per_class": clouds / classes,
            "points": 16,
            "bits": 3,
            "layout": stored.layout(),
        }
    )
    Artefact(stored, facts).save(tmp_path / "a.h5")
    assert len(Artefact.load(tmp_path / "a.h5").storage) == clouds
