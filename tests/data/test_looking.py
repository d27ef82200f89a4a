"""What checks keep of single files, and files read by several processes."""

import multiprocessing
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcdistill.commands.cache import ENTRY
from pcdistill.core.files import cache_root
from pcdistill.data import looking
from pcdistill.data.looking import Look, look_at, looks
from pcdistill.data.objects import original

FEW = 6
LOOK = partial(look_at, up_axis="z")


@pytest.fixture
def files(tmp_path: Path, own_cache: Path) -> list[Path]:
    """Clouds of 10, 11, ... points."""
    found = [tmp_path / "set" / f"{number}.npy" for number in range(FEW)]
    found[0].parent.mkdir()
    for number, file in enumerate(found):
        np.save(file, np.random.default_rng(number).normal(size=(10 + number, 3)))
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that this process reads."""
    names: list[str] = []

    def recorded(file: Path) -> Any:
        names.append(file.name)
        return original(file)

    monkeypatch.setattr(looking, "original", recorded)
    return names


def seen(files: list[Path], up_axis: str = "z") -> list[Look | str]:
    return list(looks(files, files[0].parent, up_axis, "looking"))


def told(found: Look | str) -> Any:
    return found if isinstance(found, str) else (found.digest, found.points, found.spread.tolist())


def test_only_what_has_changed_is_read_again(files: list[Path], read: list[str]) -> None:
    files[2].write_text("nothing")
    before = seen(files)
    assert read == [file.name for file in files]
    assert [found.points for found in before if isinstance(found, Look)] == [10, 11, 13, 14, 15]
    assert "2.npy: no array" in str(before[2])
    read.clear()
    assert list(map(told, seen(files))) == list(map(told, before))
    assert read == ["2.npy"]  # what is wrong is looked at every time
    read.clear()
    np.save(files[2], np.ones((5, 3)) * np.arange(5)[:, None])
    np.save(files[4], np.load(files[4])[::-1])  # of the same size
    after = seen(files[1:])
    assert read == ["2.npy", "4.npy"]
    assert [place for place in range(1, FEW) if told(after[place - 1]) != told(before[place])] == [2, 4]
    read.clear()
    seen(files)
    assert read == ["0.npy"]  # not of the set for a while
    read.clear()
    seen(files, "y")
    assert len(read) == FEW


def test_what_was_read_before_an_end_is_kept_and_damage_is_read_anew(files: list[Path], read: list[str]) -> None:
    begun = looks(files, files[0].parent, "z", "looking")
    for _ in range(4):
        next(begun)
    begun.close()
    read.clear()
    seen(files)
    assert read == ["4.npy", "5.npy"]
    (kept,) = (cache_root() / "looks").iterdir()
    assert ENTRY.fullmatch(kept.name)  # which `pcdistill cache clear` removes
    content = bytearray(kept.read_bytes())
    content[-9] ^= 1
    kept.write_bytes(content)
    read.clear()
    seen(files)
    assert len(read) == FEW


def test_processes_see_the_same_and_one_that_is_killed_is_made_up_for(
    files: list[Path], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files[3].write_text("nothing")
    alone = list(map(told, seen(files)))
    monkeypatch.setattr(looking, "cores", lambda: 2)
    monkeypatch.setattr(looking, "ALONE", 0.0)
    monkeypatch.setattr(looking, "WORTH", 0.0)
    read.clear()
    many = looking._read(files * 500, LOOK)
    found = [next(many) for _ in range(FEW)]
    assert list(map(told, found)) == alone
    assert read == []
    multiprocessing.active_children()[0].kill()
    assert list(map(told, many)) == alone * 499
    assert 0 < len(read) < FEW * 500 / 2
    assert multiprocessing.active_children() == []
    begun = looking._read(files * 500, LOOK)
    next(begun)
    begun.close()  # as Ctrl-C does
    assert multiprocessing.active_children() == []


def test_without_a_process_files_are_read_here(
    files: list[Path], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: SpawnProcess) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(SpawnProcess, "start", refused)
    assert len(list(looking._read_by(2, files, LOOK))) == len(read) == FEW
