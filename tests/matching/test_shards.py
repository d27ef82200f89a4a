"""The pass over the real set in shards: the sums of the single pass, whatever happens to who passes them."""

import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdistill.cli import main
from pcdistill.clouds import PointClouds, Weighted, placed
from pcdistill.core.engine import ALONE, Job, Lost, Team
from pcdistill.core.errors import InputError
from pcdistill.data import load, open_streamed, write_hdf5
from pcdistill.data.procedural.shapes import generate
from pcdistill.matching import Bank, BankConfig, bank, shards
from pcdistill.matching.gathering import BankRequest
from tests.conftest import interrupted_when

Configure = Callable[..., BankConfig]
TWO = Team(workers=2)
ALL: dict[str, float] = {"moments": True, "attention": 2.0, "map_samples": 3}


class Watched:
    """A set that leaves a line for all that is read of it, and does what a folder tells it where a shard begins."""

    def __init__(self, clouds: PointClouds, folder: Path, trouble: str = "", at: int = 64) -> None:
        self.clouds, self.folder, self.trouble, self.at = clouds, folder, trouble, at
        self.labels = self.hard_labels = clouds.labels
        self.class_names, self.points_per_cloud = clouds.class_names, clouds.points_per_cloud
        self.provenance: dict[str, Any] = {}
        self.parent = os.getpid()

    def fingerprint(self) -> str:
        return self.clouds.fingerprint()

    def batch(self, index: Tensor) -> Tensor:
        with (self.folder / "read").open("a") as lines:
            lines.write(f"{os.getpid()} {int(index[0])} {len(index)}\n")
        if os.getpid() != self.parent and int(index[0]) == self.at:
            self._do()
        return self.clouds.batch(index)

    def _do(self) -> None:
        first = not (self.folder / "met").exists()
        (self.folder / "met").write_text("")
        if self.trouble == "once" and first:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "waits" and first:
            time.sleep(100)

    def passes(self) -> list[tuple[int, int]]:
        """Process and first place of the batches of passes; those for training networks are larger."""
        lines = (self.folder / "read").read_text().splitlines()
        read = [tuple(map(int, line.split())) for line in lines]
        return [(process, first) for process, first, count in read if count == 32]


@pytest.fixture(scope="module")
def clouds() -> PointClouds:
    """96 clouds x 32 points of ten classes: three shards of one batch."""
    made = generate("train", 10, 32, 0)
    return made[torch.randperm(100, generator=torch.Generator().manual_seed(1))[:96]]


@pytest.fixture
def small(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD", 32)


def tensors(found: Bank | list[Any]) -> dict[str, Tensor]:
    return bank._to_tensors(found.members if isinstance(found, Bank) else found)


def made(real: Any, configure: Configure, team: Team = ALONE, **asked: float) -> dict[str, Tensor]:
    config = configure(points=32, pooled_points=32, pooled_samples=4, trained_clouds=6, networks=2)
    return tensors(Bank.of(real, BankRequest.of(config, **asked), team))


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


@pytest.mark.parametrize("most", [32, 64, 40])
def test_shards_give_the_single_pass_to_rounding(
    most: int, clouds: PointClouds, configure: Configure, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums to some units in the last place, single clouds bit for bit."""
    whole = made(clouds, configure, **ALL)
    monkeypatch.setattr(shards, "SHARD", most)
    monkeypatch.setenv("PCDISTILL_CACHE", str(own_cache / "other"))
    found = made(clouds, configure, **ALL)
    assert found.keys() == whole.keys()
    single = [name for name in whole if "/network/" in name or name.endswith(("pooled", "maps"))]
    assert_same({name: found[name] for name in single}, {name: whole[name] for name in single})
    for name in whole.keys() - set(single):
        torch.testing.assert_close(
            found[name], whole[name], rtol=2e-5, atol=2e-6, msg=lambda said, of=name: f"{of} {said}"
        )
    assert list((own_cache / "other").iterdir()) == [own_cache / "other" / "banks"] or not list(
        (own_cache / "other" / "shards").iterdir()
    )  # what is in the bank need not be kept


def test_weights_count_in_every_shard(clouds: PointClouds, configure: Configure, own_cache: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    weights = torch.rand(96, generator=torch.Generator().manual_seed(2)) + 0.1
    whole = made(Weighted(clouds, weights), configure, moments=True)
    monkeypatch.setattr(shards, "SHARD", 32)
    monkeypatch.setenv("PCDISTILL_CACHE", str(own_cache / "other"))
    found = made(Weighted(clouds, weights), configure, moments=True)
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("clouds_of", "expected"), [(5, [5]), (32, [32]), (33, [32, 1]), (96, [32, 32, 32]),
                                                     (100, [32, 32, 32, 4])])  # fmt: skip
def test_shards_are_runs_of_whole_batches(clouds_of: int, expected: list[int]) -> None:
    """All but the last equally long, so that two workers have as much to do."""
    places: Any = torch.arange(clouds_of)
    real: Any = None
    work = shards.Pass(real=real, networks=[], config=BankRequest(), passed=places, shares=None, pooled=places,
                       mapped=[], facts="", most=32)  # fmt: skip
    assert [len(part) for part in work.shards()] == expected
    assert torch.equal(torch.cat(work.shards()), places)


def test_two_processes_give_the_bits_of_one(
    small: None, clouds: PointClouds, configure: Configure, own_cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """From a file, which every process opens for itself; the parent passes nothing."""
    write_hdf5(clouds, None, tmp_path / "set.h5")
    alone = made(load(tmp_path / "set.h5"), configure, **ALL)
    monkeypatch.setenv("PCDISTILL_CACHE", str(own_cache / "other"))
    with open_streamed(tmp_path / "set.h5") as stream:
        monkeypatch.setattr(shards.Pass, "gathered", lambda *_: pytest.fail("passed here"))
        assert_same(made(stream, configure, TWO, **ALL), alone)


def test_the_shard_of_a_killed_worker_is_read_again(
    small: None, clouds: PointClouds, configure: Configure, own_cache: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    alone = made(clouds, configure)
    monkeypatch.setenv("PCDISTILL_CACHE", str(own_cache / "other"))
    real = Watched(clouds, tmp_path, "once")
    assert_same(made(real, configure, TWO), alone)
    assert sorted(first for _, first in real.passes()) == [0, 32, 64, 64]
    assert "shard 3 of 3 is read again: its process ended with code -9" in caplog.text


class Here:
    """In place of `carried_out`: does jobs in this process, but the last, which ends as it is told."""

    def __init__(self, last: str | None) -> None:
        self.last, self.asked = last, list[tuple[Any, ...]]()

    def __call__(self, jobs: list[Job], *who: object) -> Iterator[tuple[Job, str | None]]:
        self.asked.append((*who, [job.name for job in jobs]))
        for job in jobs:
            if job.name != "2":
                job.work(*job.arguments)
            yield job, self.last if job.name == "2" else None


def test_a_worker_that_always_dies_is_one_line(
    small: None, clouds: PointClouds, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the others have done stays."""
    here = Here(Lost("its process ended with code -9"))
    monkeypatch.setattr(shards, "carried_out", here)
    real = Watched(clouds, tmp_path)
    with pytest.raises(InputError, match=r"^real set: shard 3 of 3: lost 3 times, its process ended with code -9, "
                       r"expected memory for every worker \(fewer --workers\)$"):  # fmt: skip
        made(real, configure, TWO)
    assert here.asked == [("local", 2, "cpu", names) for names in (["0", "1", "2"], ["2"], ["2"])]
    made(real, configure)
    assert [first for _, first in real.passes()] == [0, 32, 64]


@pytest.mark.parametrize(("reason", "said"), [
    ("set.h5: damaged, expected a whole HDF5 file", r"set\.h5: damaged, expected a whole HDF5 file$"),
    (None, "done, but not in the cache here: PCDISTILL_CACHE has to be a folder of all workers$"),
])  # fmt: skip
def test_what_no_other_try_would_mend_is_said_at_once(
    reason: str | None, said: str, small: None, clouds: PointClouds, configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    here = Here(reason)
    monkeypatch.setattr(shards, "carried_out", here)
    with pytest.raises(InputError, match="^real set: shard 3 of 3: " + said):
        made(clouds, configure, TWO)
    assert len(here.asked) == 1


def test_a_file_of_another_machine_is_waited_for(
    small: None, clouds: PointClouds, configure: Configure, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last shard is there only when the network drive says so."""
    expected = made(clouds, configure)
    monkeypatch.setenv("PCDISTILL_CACHE", str(own_cache / "other"))
    looked: list[str] = []

    class Later(Here):
        def __call__(self, jobs: list[Job], *who: object) -> Iterator[tuple[Job, str | None]]:
            self.hidden = jobs[-1]
            return super().__call__(jobs, *who)

    here = Later(None)

    def sleep(seconds: float) -> None:
        looked.append("waited")
        here.hidden.work(*here.hidden.arguments)

    monkeypatch.setattr(shards, "carried_out", here)
    monkeypatch.setattr(time, "sleep", sleep)
    assert_same(made(clouds, configure, Team("ray", 2)), expected)
    assert looked == ["waited"]


def test_shards_need_no_cache(
    small: None, clouds: PointClouds, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = made(clouds, configure)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "file"))
    assert_same(made(clouds, configure), expected)


def test_ctrl_c_ends_the_workers_and_keeps_what_is_done(
    small: None, clouds: PointClouds, configure: Configure, tmp_path: Path
) -> None:
    real = Watched(clouds, tmp_path, "waits")

    with interrupted_when(tmp_path / "met"):
        made(real, configure, TWO)
    assert not multiprocessing.active_children()
    before = real.passes()
    found = made(real, configure)
    again = real.passes()[len(before) :]
    assert 64 in [first for _, first in again]
    assert len(again) < 3
    assert {process for process, _ in again} == {os.getpid()}
    assert_same(found, made(clouds, configure))


def test_a_pass_goes_on_after_the_shards_that_are_there(
    small: None, clouds: PointClouds, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: interrupted in the third shard."""
    usual = shards._Gathering.add

    def add(self: Any, points: Tensor, labels: Tensor, index: Tensor, share: Tensor | None = None) -> None:
        if int(index[0]) == 64:
            raise KeyboardInterrupt
        usual(self, points, labels, index, share)

    monkeypatch.setattr(shards._Gathering, "add", add)
    real = Watched(clouds, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        made(real, configure)
    monkeypatch.setattr(shards._Gathering, "add", usual)
    made(real, configure)
    assert [first for _, first in real.passes()] == [0, 32, 64, 64]


def test_the_command_says_who_passes_the_set(
    small: None, clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_hdf5(clouds, clouds, tmp_path / "set.h5")
    here = Here("set.h5: damaged")
    monkeypatch.setattr(shards, "carried_out", here)
    words = ["distill", "--data", str(tmp_path / "set.h5"), "--objective", "dm", "--members", "1", "--steps", "2",
             "--clouds-per-class", "1", "--points", "16", "--init", "random"]  # fmt: skip
    assert main([*words, "--workers", "3", "--output", str(tmp_path / "out.h5")]) == 2
    assert here.asked == [("local", 3, "cpu", ["0", "1", "2"])]


def test_ray_is_missed_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["distill", "--data", "nowhere.h5", "--clouds-per-class", "1", "--engine", "ray", "--output"]
    assert main([*words, str(tmp_path / "out.h5")]) == 2
    assert "engine: ray, which is not installed" in capsys.readouterr().err


def test_a_set_on_a_device_travels_without_its_points(clouds: PointClouds) -> None:
    real = placed(clouds, "meta")
    real.batch(torch.arange(3))
    there = pickle.loads(pickle.dumps(real))
    assert there._points is None
    assert there.whole.points.equal(clouds.points)
    assert there.batch(torch.arange(3)).device.type == "meta"


@pytest.mark.slow
def test_ray_shares_the_pass_and_reads_a_lost_shard_again(
    cluster: Any, small: None, clouds: PointClouds, configure: Configure, own_cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    alone = made(clouds, configure, **ALL)
    monkeypatch.setenv("PCDISTILL_CACHE", str(own_cache / "other"))
    real = Watched(clouds, tmp_path, "once")
    assert_same(made(real, configure, Team("ray", 2), **ALL), alone)
    assert sorted(first for _, first in real.passes()) == [0, 32, 64, 64]
    assert os.getpid() not in {process for process, _ in real.passes()}
