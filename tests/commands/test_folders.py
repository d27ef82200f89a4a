"""Folders as people have them, through the commands: clouds of unequal size, odd names, broken files."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcdistill.cli import main
from pcdistill.experiments.cells import Source
from pcdistill.experiments.sources import clouds_to_test, training_set


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def save(path: Path, points: int, seed: int, stretch: float = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(seed).normal(size=(points, 3)) * (1, 1, stretch))


@pytest.fixture
def unequal(tmp_path: Path) -> Path:
    """Two classes of three clouds of 10, 100 and 2000 points in both splits."""
    for split in ("train", "test"):
        for stretch, name in enumerate(("ball", "stick"), 1):
            for number, points in enumerate((10, 100, 2000)):
                save(tmp_path / "set" / split / name / f"{number}.npy", points, number, 3 * stretch)
    return tmp_path / "set"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def selected(data: object, *more: object) -> int:
    return run("select", "--data", data, "--clouds-per-class", 1, "--method", "random", "--output", "s.h5", *more)


def test_unequal_clouds_go_through(unequal, capsys):
    assert selected(unequal, "--points", 64) == 0
    err = capsys.readouterr().err
    assert err == "pcdistill: 4 of 6 clouds filled up to 1024 points by repeats, the smallest has 10\n"
    assert selected(unequal, "--points", 1500) == 0
    assert "4 of 6 clouds filled up to 1500 points" in capsys.readouterr().err
    training = ("--network", "pointnet-tiny", "--train-steps", 2)
    assert run("train", unequal, "--points", 32, *training, "--output", "n.safetensors") == 0
    assert "2 of 6 clouds filled up to 32 points" in capsys.readouterr().err
    assert run("evaluate", "s.h5", "--test-data", unequal, *training, "--train-seeds", 1, "--test-points", 2000) == 0
    assert "4 of 6 clouds filled up to 2000 points" in capsys.readouterr().err
    assert run("evaluate", "n.safetensors", "--test-data", unequal) == 0


def test_converted_sets_say_what_clouds_had(unequal, capsys):
    assert run("data", "convert", unequal, "--output", "c.h5") == 0
    said = capsys.readouterr()
    assert "wrote c.h5: 6 + 6 clouds x 1024 points" in said.out
    assert "8 of 12 clouds filled up to 1024 points by repeats, the smallest has 10" in said.err
    with h5py.File("c.h5") as file:
        assert file["test/true_points"][()].tolist() == [10, 100, 2000] * 2
    assert run("data", "info", "c.h5") == 0


def test_small_test_sets_are_tested_at_what_they_have(tmp_path, capsys):
    for stretch, name in enumerate(("ball", "stick"), 1):
        for number in range(4):
            save(tmp_path / "set" / name / f"{number}.npy", 50, number, 3 * stretch)
    training = ("--network", "pointnet-tiny", "--train-steps", 2, "--train-seeds", 1)
    assert run("evaluate", "set", *training) == 0
    assert "tested at 50 points, all that test clouds have; 1024 are usual" in capsys.readouterr().err
    assert run("data", "convert", "set", "--output", "c.h5") == 0
    assert run("evaluate", "c.h5", *training) == 0
    assert "tested at 50 points" in capsys.readouterr().err
    assert run("evaluate", "c.h5", *training, "--test-points", 60) == 2
    assert capsys.readouterr().err.endswith("test_points: 60 of 50 stored, expected at most as many\n")
    grid = ("compare", "--data", "c.h5", "--methods", "random", "--budgets", "1x16@32", "--networks", *training[1:],
            "--output", "grid")  # fmt: skip
    assert run(*grid) == 2
    assert "c.h5: test clouds of 50 points, expected --test-points 50" in capsys.readouterr().err
    source = Source("c.h5", "tuned", None, None, 50)
    assert clouds_to_test(source, None).points_per_cloud == 50
    assert training_set(source, None)[0].points_per_cloud == 50


def test_info_says_the_range(unequal, capsys):
    assert run("data", "info", unequal, "--points", 32) == 0
    facts = json.loads(capsys.readouterr().out)["splits"]["train"]
    assert (facts["points"], facts["provenance"]["least_points"], facts["provenance"]["most_points"]) == (32, 10, 2000)
