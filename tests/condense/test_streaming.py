"""`select` and `distill --stream`: what they write is what they write of the loaded set, from small reads only."""

import hashlib
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.condense import make
from pcdistill.condense.make import distill
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.errors import InputError
from pcdistill.data import StreamedClouds, load, open_streamed, write_hdf5
from pcdistill.selection import Watch, choose, dynamics, raw_descriptor, select, selectors
from pcdistill.selection.base import asked_by

FEW = ["--clouds-per-class", 2, "--points", 16]


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock: what is left in a file is what was computed."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(make, "utc_now", lambda: "2026-01-01")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all batches that are asked for and of all parts that are read."""
    sizes: list[int] = []
    for name in ("batch", "_read"):
        usual = getattr(StreamedClouds, name)

        def counted(self, which, usual=usual):
            found = usual(self, which)
            sizes.append(len(found))
            return found

        monkeypatch.setattr(StreamedClouds, name, counted)
    monkeypatch.setattr(StreamedClouds, "load", lambda self: pytest.fail("loaded whole"))
    return sizes


def called(*words: object) -> int:
    return main([str(word) for word in words])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("more", [["--method", "medoid"], ["--method", "random", "--seed", 3], ["--bits", 32],
                                  ["--method", "herding", "--features", "pointnet-small"],
                                  ["--method", "facility", "--features", "trained"], ["--method", "el2n"],
                                  ["--method", "thrift", "--storage", "voxels", "--side", 8]])  # fmt: skip
def test_select_writes_the_same_bytes(
    more: list[object], tiny_file: Path, tmp_path: Path, frozen: None, reads: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(dynamics, "RECIPE", dynamics.RECIPE.model_copy(update={"steps": 12}))
    for name, flag in (("whole.h5", []), ("streamed.h5", ["--stream"])):
        monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / f"cache of {name}"))  # nothing is read from the other's
        assert called("select", "--data", tiny_file, *FEW, *more, *flag, "--output", tmp_path / name) == 0
        assert bool(reads) == bool(flag)
    assert digest(tmp_path / "whole.h5") == digest(tmp_path / "streamed.h5")


@pytest.mark.parametrize("more", [["--quota", "gain"], ["--quota", "root", "--method", "thrift"]])
def test_budgets_in_bytes_are_filled_the_same_way(
    more: list[object], tiny_file: Path, tmp_path: Path, frozen: None, reads: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(dynamics, "RECIPE", dynamics.RECIPE.model_copy(update={"steps": 12}))
    for name, flag in (("whole.h5", []), ("streamed.h5", ["--stream"])):
        monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / f"cache of {name}"))
        assert called("select", "--data", tiny_file, "--bytes-per-class", 200, *more, *flag,
                      "--output", tmp_path / name) == 0  # fmt: skip
        assert bool(reads) == bool(flag)
    assert digest(tmp_path / "whole.h5") == digest(tmp_path / "streamed.h5")


def test_pack_writes_the_same_bytes(tiny_file: Path, tmp_path: Path, frozen: None, reads: list[int]) -> None:
    for name, flag in (("whole.h5", []), ("streamed.h5", ["--stream"])):
        assert called("pack", tiny_file, "--side", 8, "--points", 32, *flag, "--output", tmp_path / name) == 0
        assert bool(reads) == bool(flag)
    assert digest(tmp_path / "whole.h5") == digest(tmp_path / "streamed.h5")


@pytest.mark.parametrize("objective", [
    ["krr", "--options", "bank.trained_steps=[0, 2]", "bank.pooled_samples=4"],
    ["dm", "--options", "bank.trained_steps=[0, 2]"],
    ["dc", "--options", "real_clouds=4", "real_points=32"],
    ["tm", "--options", "bank.steps=4", "bank.interval=2", "bank.points=32", "start=[0, 1]", "length=1",
     "student_steps=2"],
])  # fmt: skip
def test_distill_writes_the_same_bytes(
    objective: list[object], tiny_file: Path, tmp_path: Path, frozen: None, reads: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    surrogates = [] if objective[0] == "dc" else ["--members", 1]
    for name, flag in (("whole", []), ("streamed", ["--stream"])):
        monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache" / name))  # nothing is read from the other's
        assert called("distill", "--data", tiny_file, *FEW, "--objective", *objective, *surrogates, "--steps", 2,
                      *flag, "--output", tmp_path / f"{name}.h5") == 0  # fmt: skip
        assert bool(reads) == bool(flag)
    assert digest(tmp_path / "whole.h5") == digest(tmp_path / "streamed.h5")


def test_a_run_on_the_loaded_set_goes_on_streamed(tiny_file: Path, tmp_path: Path) -> None:
    """The checkpoint knows the set by its fingerprint, which is the same."""
    words = ["distill", "--data", tiny_file, *FEW, "--objective", "dm", "--members", 1, "--steps", 2]
    plan = resolve(DistillSpec(clouds_per_class=2, points=16, objective="dm", members=1, steps=2))
    whole = distill(load(tiny_file), plan, checkpoint=tmp_path / "b.h5.checkpoint")
    assert called(*words, "--stream", "--resume", "--output", tmp_path / "b.h5") == 0
    assert torch.equal(Artefact.load(tmp_path / "b.h5").clouds.points, whole.clouds.points)


@pytest.mark.parametrize("method", list(selectors))
def test_large_classes_are_chosen_from_a_random_part(
    method: str, tiny_clouds: PointClouds, told: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two classes of eight clouds are cut to five; the one of four is not."""
    clouds = tiny_clouds[torch.tensor([*range(16), *range(16, 20)])]
    monkeypatch.setattr(choose, "CANDIDATES", 5)
    found = select(clouds, method, 2, seed=4, watched=told)
    assert found.provenance["selection_candidates"] == 5
    assert "selection_candidates" not in select(clouds[torch.arange(0, 20, 2)], method, 2, watched=told).provenance
    asked = asked_by(selectors[method])
    expected = []
    for label, first, count in ((0, 0, 8), (1, 8, 8), (2, 16, 4)):
        own = torch.arange(first, first + count)
        if count > 5:
            random = torch.Generator().manual_seed(
                int(np.random.SeedSequence([4, label, 1]).generate_state(1, np.uint64)[0])
            )
            own = own[torch.randperm(count, generator=random)[:5]].sort().values
        random = torch.Generator().manual_seed(int(np.random.SeedSequence([4, label]).generate_state(1, np.uint64)[0]))
        said = {name: value for name, value in told(clouds[own])._asdict().items() if name in asked - {"features"}}
        expected.append(clouds.points[own[selectors[method](raw_descriptor(clouds[own]), 2, random, **said)]])
    assert torch.equal(found.points, torch.cat(expected))
    given = select(clouds, method, 2, features=raw_descriptor(clouds), watched=told, seed=4)
    assert torch.equal(given.points, found.points)
    write_hdf5(clouds, clouds, tmp_path / "set.h5", dtype="float32")
    with open_streamed(tmp_path / "set.h5") as stream:
        streamed = select(stream, method, 2, seed=4, watched=told)
        loaded = select(load(tmp_path / "set.h5"), method, 2, seed=4, watched=told)
        assert streamed.fingerprint() == loaded.fingerprint()
    with pytest.raises(InputError, match="features of 20 clouds, expected of all 14"):  # and not of the candidates
        select(clouds, method, 2, features=lambda part: raw_descriptor(clouds), seed=4)
    monkeypatch.setattr(choose, "CANDIDATES", 1)  # less than are wanted: then of as many as these
    assert len(select(clouds, method, 3, watched=told)) == 9


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 clouds x 64 points of three classes, written 1,000 at a time: 30 MB as float64."""
    path = tmp_path_factory.mktemp("large") / "large.h5"
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for split, clouds in (("train", 20_000), ("test", 6)):
            points = file.create_dataset(f"{split}/points", (clouds, 64, 3), "float16")
            for low in range(0, clouds, 1000):
                count = min(1000, clouds - low)
                points[low : low + count] = random.standard_normal((count, 64, 3), np.float32)
            file[f"{split}/labels"] = np.arange(clouds) % 3
        file.attrs["class_names"] = ["a", "b", "c"]
    return path


def test_memory_does_not_grow_with_the_set(large: Path, tmp_path: Path, reads: list[int]) -> None:
    made = tmp_path / "made.h5"
    assert called("select", "--data", large, "--stream", "--method", "herding", *FEW, "--output", made) == 0
    assert max(reads) <= 512
    described = sum(reads)  # batches and the parts that they are read in
    assert described < 3 * 20_000 + 6 * 4096
    facts = Artefact.load(made).metadata
    assert facts.selection == {"method": "herding", "features": "raw", "seed": 0, "candidates": 4096}
    reads.clear()
    assert called("distill", "--data", large, "--stream", *FEW, "--init", "random", "--members", 1, "--steps", 1,
                  "--options", "bank.trained_steps=[0, 0]", "--force", "--output", made) == 0  # fmt: skip
    assert max(reads) <= 512
    assert Artefact.load(made).metadata.selection["candidates"] == 4096


def test_modelnet_streamed_by_its_name_gives_the_same_file(
    data_root: Path, tmp_path: Path, frozen: None, reads: list[int]
) -> None:
    if not (data_root / "modelnet10_2048.h5").exists():
        pytest.skip(f"no modelnet10_2048.h5 in {data_root}")
    for name, flag in (("whole.h5", []), ("streamed.h5", ["--stream"])):
        assert called("select", "--data", "modelnet10", "--root", data_root, *FEW, *flag,
                      "--output", tmp_path / name) == 0  # fmt: skip
    assert digest(tmp_path / "whole.h5") == digest(tmp_path / "streamed.h5")
    assert max(reads) <= 512
    assert str(data_root) not in Artefact.load(tmp_path / "streamed.h5").metadata.to_json()


@pytest.mark.parametrize("command", ["select", "distill"])
def test_what_cannot_be_streamed_is_refused_in_one_line(
    command: str, tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Path(shutil.copy(tiny_file, tmp_path / "damaged.h5"))
    with h5py.File(damaged) as file:
        at = file["train/points"].id.get_chunk_info(0).byte_offset
    content = bytearray(damaged.read_bytes())
    content[at : at + 400] = bytes(400)  # the first chunk is no longer what gzip wrote
    damaged.write_bytes(content)
    cut = tmp_path / "cut.h5"
    cut.write_bytes(tiny_file.read_bytes()[:9000])
    (tmp_path / "tree").mkdir()
    cases = {
        "shapes": "stream: 'shapes', which is made in memory, expected a project HDF5 file",
        str(tmp_path / "tree"): "",
        str(tmp_path / "gone.h5"): "gone.h5: no such file or folder",
        str(cut): "cut.h5: unreadable",
        str(damaged): "damaged.h5: damaged",
    }
    for data, message in cases.items():
        assert called(command, "--data", data, "--stream", *FEW, "--output", tmp_path / "out.h5") == 2
        shown = capsys.readouterr().err
        assert shown.startswith("pcdistill: error: ")
        assert shown.count("\n") == 1
        assert message in shown
    assert not (tmp_path / "out.h5").exists()
