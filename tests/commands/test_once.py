"""What a command names is looked up once and what it reads is read once: files, data sets, protocol, objective."""

import builtins
import io
import os
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pcdistill.commands.adapt import Adapt
from pcdistill.commands.base import Command
from pcdistill.commands.distill import Distill
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.rank import Rank
from pcdistill.commands.select import Select
from pcdistill.commands.train import Train
from pcdistill.data.project import H5Clouds
from pcdistill.matching.krr import KernelRidgeRegression as Krr
from pcdistill.training.recipe import RECIPES, Recipe, protocol

Counted = Callable[[Command], Counter[str]]


class Asked(dict[str, Recipe]):
    """The recipes, which note the names that are looked up."""

    def __init__(self, recipes: dict[str, Recipe], seen: Counter[str]) -> None:
        super().__init__(recipes)
        self.seen = seen

    def __getitem__(self, name: str) -> Recipe:
        self.seen[f"protocol {name}"] += 1
        return super().__getitem__(name)


@pytest.fixture
def counted(place: Path, short_recipes: None, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Runs a command; how often protocols were looked up, objectives made, and files of `place` and splits read."""
    seen = Counter[str]()
    real_open, real_clouds, real_objective = io.open, H5Clouds.__init__, Krr.__init__

    def opened(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        if isinstance(file, str | os.PathLike) and Path(file).parent == place and "r" in mode and "+" not in mode:
            seen[Path(file).name] += 1
        return real_open(file, mode, *more, **named)

    def read(clouds: H5Clouds, path: Path, split: str, *more: Any, **named: Any) -> None:
        seen[f"{Path(path).name} {split}"] += 1
        real_clouds(clouds, path, split, *more, **named)

    def made(objective: Krr, *words: Any, **named: Any) -> None:
        seen["objective"] += 1
        real_objective(objective, *words, **named)

    def run(command: Command) -> Counter[str]:
        seen.clear()
        command.run([].append)
        return Counter(seen)

    monkeypatch.setattr(import_module("pcdistill.training.recipe"), "RECIPES", Asked(RECIPES, seen))
    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(H5Clouds, "__init__", read)
    monkeypatch.setattr(Krr, "__init__", made)
    return run


@pytest.fixture(scope="module")
def place(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, an artefact of it, two networks, and sets and networks of it under a grid."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "set.h5").write_bytes(tiny_file.read_bytes())
    data: dict[str, Any] = {"data": str(folder / "set.h5"), "clouds_per_class": 2, "points": 16, "method": "random"}
    Select(**data, output=folder / "a.h5").run([].append)
    Select(**data, output=folder / "swept.h5", protocol="sweep").run([].append)
    for name in ("one", "two"):
        output = folder / f"{name}.safetensors"
        Train(source=data["data"], output=output, points=32, student="nano", train_steps=2).run([].append)
    return folder


def test_distilling_with_a_teacher_and_a_focus(counted: Counted, place: Path, tmp_path: Path) -> None:
    command = Distill(
        data=str(place / "set.h5"), output=tmp_path / "made.h5", clouds_per_class=1, points=16, steps=2, members=1,
        surrogate="pointnet-nano", options={"bank": {"trained_steps": (0, 0)}}, init="random", labels="teacher",
        teacher=[place / "one.safetensors"], focus=place / "two.safetensors", protocol="published",
    )  # fmt: skip
    assert counted(command) == {
        "protocol published": 1, "objective": 1, "one.safetensors": 1, "two.safetensors": 1, "set.h5 train": 1,
    }  # fmt: skip


@pytest.mark.parametrize("networks", [(), ("pointnet-small", "pointnet-nano")])
def test_evaluating_an_artefact_with_a_teacher(networks: tuple[str, ...], counted: Counted, place: Path) -> None:
    command = Evaluate(
        source=str(place / "a.h5"), test_data=str(place / "set.h5"), networks=networks, train_seeds=1, train_steps=1,
        teacher=[place / "one.safetensors"], conditions=["z"] if networks else [],
    )  # fmt: skip
    found = counted(command)
    assert found == {"a.h5": 1, "one.safetensors": 1, "set.h5 test": 1}  # it says how it is to be evaluated


def test_evaluating_under_a_grid(counted: Counted, place: Path) -> None:
    given: dict[str, Any] = {
        "test_data": str(place / "set.h5"), "network": "pointnet-nano", "train_seeds": 1, "train_steps": 1,
    }  # fmt: skip
    both, named = {"set.h5 train": 1, "set.h5 test": 1}, {"set.h5": 1}  # looked at, whether it is an artefact
    assert counted(Evaluate(source=str(place / "swept.h5"), **given)) == {"swept.h5": 1, **both}
    found = counted(Evaluate(source=str(place / "set.h5"), protocol="sweep", **given))
    assert found == {"protocol sweep": 1, **named, **both}
    assert counted(Rank(source=str(place / "swept.h5"), **given)) == {"swept.h5": 1, **both}


def test_evaluating_a_network(counted: Counted, place: Path) -> None:
    command = Evaluate(source=str(place / "one.safetensors"), test_data=str(place / "set.h5"))
    assert counted(command) == {"one.safetensors": 1, "set.h5 test": 1}


def test_training_with_teachers(counted: Counted, place: Path, tmp_path: Path) -> None:
    command = Train(
        source=str(place / "set.h5"), output=tmp_path / "net.safetensors", student="nano", protocol="tuned", watch=1,
        teacher=[place / "one.safetensors", place / "two.safetensors"], policy={"kind": "mix"},
    )  # fmt: skip
    teachers = {"one.safetensors": 1, "two.safetensors": 1}
    assert counted(command) == {"protocol tuned": 1, "set.h5": 1, "set.h5 train": 1, **teachers}


def test_adapting(counted: Counted, place: Path, tmp_path: Path) -> None:
    command = Adapt(
        source=place / "one.safetensors", new=str(place / "set.h5"), output=tmp_path / "net.safetensors", train_steps=1
    )
    assert counted(command) == {"one.safetensors": 1, "set.h5": 1, "set.h5 train": 1}


def test_the_count_can_tell(counted: Counted, place: Path) -> None:
    class Twice(Command):
        def run(self, say: Callable[[str], None]) -> None:
            for _ in range(2):
                protocol("tuned")
                (place / "a.h5").read_bytes()

    assert counted(Twice()) == {"protocol tuned": 2, "a.h5": 2}
