"""Tensors kept in the user's cache: made once, made again when damaged, and never a reason to fail."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from pcdistill.core.cache import Tensors, cached, is_cached


class Maker:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Tensors:
        self.calls += 1
        return {"a": torch.arange(6.0).view(2, 3).T, "b/c": torch.ones(2, dtype=torch.float16)}


def test_made_once_and_read_again(own_cache: Path) -> None:
    make = Maker()
    assert not is_cached("things", "facts")
    first, seconds = cached("things", "facts", make, dict)
    assert is_cached("things", "facts")
    again, same = cached("things", "facts", make, dict)
    assert (make.calls, same) == (1, seconds)
    assert all(torch.equal(again[name], value) and again[name].dtype == value.dtype for name, value in first.items())
    assert [path.parent.name for path in own_cache.rglob("*.safetensors")] == ["things"]


def test_other_facts_and_kinds_are_made_anew(own_cache: Path) -> None:
    make = Maker()
    for kind, facts in (("things", "facts"), ("things", "other"), ("others", "facts")):
        assert not is_cached(kind, facts)
        cached(kind, facts, make, dict)
    assert make.calls == 3


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "folder", "no seconds", "a bit", "no digest"])
def test_damaged_is_made_again(damage: str, own_cache: Path) -> None:
    make = Maker()
    expected, _ = cached("things", "facts", make, dict)
    (path,) = own_cache.rglob("*.safetensors")
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"truncated": content[:-5], "empty": b"", "text": b"not tensors" * 9,
                          "no seconds": content.replace(b"seconds", b"minutes"),
                          "a bit": content[:-1] + bytes([content[-1] ^ 1]),
                          "no digest": save(load(content), {"seconds": "1.0"})}[damage])  # fmt: skip
    found, _ = cached("things", "facts", make, dict)
    assert make.calls == 2
    assert torch.equal(found["a"], expected["a"])
    cached("things", "facts", make, dict)
    assert make.calls == (3 if damage == "folder" else 2)  # a folder in its place cannot be written over


def test_made_again_where_nothing_can_be_made_of_it(own_cache: Path) -> None:
    """Whole, but not the tensors that are expected: as after a change of what is computed."""
    make = Maker()
    cached("things", "facts", make, dict)
    read: list[Tensors] = []

    def second(tensors: Tensors) -> Tensor:
        read.append(tensors)
        if len(read) == 1:
            raise KeyError("b/d")
        return tensors["b/c"]

    value, _ = cached("things", "facts", make, second)
    assert (make.calls, len(read)) == (2, 2)
    assert torch.equal(value, torch.ones(2, dtype=torch.float16))
    with pytest.raises(KeyError, match="b/d"):  # of what was just made it is a defect
        cached("things", "other", make, lambda tensors: tensors["b/d"])


def test_unwritable_cache_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "file"))
    make = Maker()
    for calls in (1, 2):
        found, seconds = cached("things", "facts", make, dict)
        assert (make.calls, len(found)) == (calls, 2)
        assert seconds >= 0
    assert not is_cached("things", "facts")


def test_nothing_is_kept_of_what_fails(own_cache: Path) -> None:
    def fail() -> Tensors:
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        cached("things", "facts", fail, dict)
    assert not is_cached("things", "facts")
