"""Folders as people have them, through the commands: clouds of unequal size, odd names, broken files."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.core.options import Reading
from pcdistill.data import load
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
                seed = 10 * stretch + number + 100 * (split == "test")
                save(tmp_path / "set" / split / name / f"{number}.npy", points, seed, 3 * stretch)
    return tmp_path / "set"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def selected(data: object, *more: object) -> int:
    return run(
        "select", "--data", data, "--clouds-per-class", 1, "--method", "random", "--force", "--output", "s.h5", *more
    )


def test_unequal_clouds_go_through(unequal, capsys):
    assert selected(unequal, "--points", 64) == 0
    err = capsys.readouterr().err
    assert err == "pcdistill: 4 of 6 clouds filled up to 1024 points by repeats, the smallest has 10 (--least-points)\n"
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
    assert clouds_to_test(source, Reading()).points_per_cloud == 50
    assert training_set(source, Reading())[0].points_per_cloud == 50


def test_info_says_the_range(unequal, capsys):
    assert run("data", "info", unequal, "--points", 32, "--json") == 0
    facts = json.loads(capsys.readouterr().out)["splits"]["train"]
    assert (facts["points"], facts["provenance"]["least_points"], facts["provenance"]["most_points"]) == (32, 10, 2000)


def test_a_whole_set_has_nothing_wrong(unequal, capsys):
    assert run("data", "check", unequal) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "train: 6 clouds of 10 to 2000 points: ball 3, stick 3"
    done = "2 larger sampled down to a random subset, 4 smaller filled up by repeats"
    assert out[1] == f"read as clouds of 1024 points (--points): {done}"
    assert out[2].endswith("--least-points 32 --skip-bad goes on without): train/ball/0.npy 10, train/stick/0.npy 10")
    assert out[-1] == "nothing wrong"
    assert not any("taken for testing" in line for line in out)


@pytest.mark.parametrize("name", ["folder", "set.h5"])
def test_a_test_part_that_is_drawn_is_told(tmp_path, capsys, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points = np.random.default_rng(0).normal(size=(10, 40, 3))
    for number, cloud in enumerate(points):
        path = Path("folder", "ball" if number % 2 else "stick", f"{number}.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, cloud)
    with h5py.File("set.h5", "w") as file:
        file["data"], file["label"] = points, np.arange(10) % 2
    assert run("data", "check", name) == 0
    assert capsys.readouterr().out.count("no train and test parts: 20% of every class are taken for testing\n") == 1


@pytest.mark.parametrize(
    ("numbers", "points", "said"),
    [
        ([50, 50], None, ""),
        ([50, 50], 50, ""),
        ([50, 50], 60, "60 points (--points): 4 smaller filled up by repeats"),
        ([50, 80], None, "1024 points (--points): 4 smaller filled up by repeats"),
        (
            [50, 80],
            60,
            "60 points (--points): 2 larger sampled down to a random subset, 2 smaller filled up by repeats",
        ),
        (["mesh", 1024], None, ""),
        (["mesh", 1025], None, "1024 points (--points): 2 larger sampled down to a random subset"),
    ],
)
def test_what_is_said_of_numbers_of_points_is_what_the_reader_does(numbers, points, said, tmp_path, capsys):
    for name in ("ball", "stick"):
        for place, number in enumerate(numbers):
            path = tmp_path / "set" / "train" / name / f"{place}.npy"
            if number == "mesh":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_suffix(".off").write_text(f"OFF\n3 1 0\n0 0 0\n1 0 0\n0 {len(name)} 0\n3 0 1 2\n")
            else:
                save(path, number, 10 * place + len(name))
    assert run("data", "check", "set", *(() if points is None else ("--points", points))) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("read as clouds of ")]
    assert lines == ([f"read as clouds of {said}"] if said else [])
    clouds = load("set", "train", points=points)
    assert f"{clouds.provenance.get('filled', 0)} smaller" in said or "filled" not in clouds.provenance
    assert said == "" or said.startswith(f"{clouds.points_per_cloud} ")


def test_all_that_is_wrong_is_said_at_once(unequal, capsys):
    (unequal / "train/ball/0.npy").write_text("nothing")
    (unequal / "test/stick/1.npy").write_bytes(b"")
    np.save(unequal / "test/ball/nan.npy", np.full((5, 3), np.nan))
    np.save(unequal / "train/ball/point.npy", np.ones((5, 3)))
    (unequal / "train/ball/notes.md").write_text("x")
    same = (unequal / "train/ball/2.npy").read_bytes()
    (unequal / "test/ball/copy.npy").write_bytes(same)
    (unequal / "train/stick/copy.npy").write_bytes(same)
    (unequal / "train/ball/again.npy").write_bytes(same)
    save(unequal / "train/Ring/0.npy", 30, 0)
    save(unequal / "test/ring/0.npy", 30, 1)
    assert run("data", "check", unequal) == 2
    said = capsys.readouterr()
    wrong = [line for line in said.out.splitlines() if line.startswith("wrong: ")]
    for part in ("train/ball/0.npy: ", "test/stick/1.npy: ", "nan.npy: 5 of 5 points with NaN",
                 "point.npy: all points",
                 "ring: no such folder, but 'Ring'", "Ring: no such folder, but 'ring'",
                 "train/stick/copy.npy: the same as train/ball/2.npy of another class",
                 "test/ball/copy.npy (test): the same as"):  # fmt: skip
        assert sum(part in line for line in wrong) == 1, part
    assert "no objects, left out: 1 .md" in said.out
    assert "copies of a cloud of the same class and split: 1" in said.out
    assert said.err.count("\n") == 1


def test_checked_arrays(unequal, capsys):
    assert run("data", "convert", unequal, "--points", 32, "--output", "c.h5") == 0
    with h5py.File("c.h5", "r+") as file:
        file["train/points"][1, 31] = np.nan
        file["train/points"][4] = 0
        file["test/points"][2, 0] = np.inf
    capsys.readouterr()
    assert run("data", "check", "c.h5") == 2
    out = capsys.readouterr().out
    for part in (
        "train/points: cloud 1 has NaN",
        "train/points: all points of cloud 4",
        "test/points: cloud 2 has NaN",
    ):
        assert f"wrong: c.h5 {part}" in out
    assert run("data", "check", "shapes") == 0


def test_bad_files_can_be_left_out(unequal, capsys):
    (unequal / "train/ball/0.npy").write_text("nothing")
    (unequal / "test/stick/1.npy").write_bytes(b"")
    convert = ("data", "convert", unequal, "--points", 16, "--output", "c.h5")
    assert run(*convert) == 2
    assert run(*convert, "--skip-bad") == 0
    said = capsys.readouterr()
    assert "wrote c.h5: 5 + 5 clouds x 16 points, without 2 that cannot be used" in said.out
    assert said.err.count("pcdistill: left out: ") == 2
    assert run("data", "check", unequal) == 2
    assert f"wrong: {unequal}/train/ball/0.npy: " in capsys.readouterr().out
    assert run("data", "check", unequal, "--skip-bad", "--least-points", 11) == 0
    assert capsys.readouterr().out.count("left out: ") == 5  # two are broken, three of the four with ten points are not


def test_train_alone(unequal, capsys):
    (unequal / "test").rename("elsewhere")
    assert selected(unequal, "--points", 16) == 0
    assert run("data", "convert", unequal, "--output", "c.h5") == 0
    assert "wrote c.h5: 6 clouds" in capsys.readouterr().out
    assert selected("c.h5", "--points", 16) == 0
    for source, message in ((unequal, "no test part, only train"), ("c.h5", "c.h5 test: no such group")):
        capsys.readouterr()
        assert run("data", "info", source, "--json") == 0
        assert list(json.loads(capsys.readouterr().out)["splits"]) == ["train"]
        assert run("evaluate", "s.h5", "--test-data", source) == 2
        assert message in capsys.readouterr().err


def test_up_axis_of_folders(tmp_path):
    for number, name in enumerate(("ball", "stick")):
        for cloud in range(3):
            save(tmp_path / "set" / name / f"{cloud}.npy", 64, cloud, 1 + 8 * number)  # long along z
    assert run("data", "convert", "set", "--up-axis", "y", "--output", "y.h5") == 0
    assert run("data", "convert", "set", "--up-axis", "z", "--output", "z.h5") == 0
    longest = {}
    for axis in "yz":
        with h5py.File(f"{axis}.h5") as file:
            assert file.attrs["up_axis"] == "z"
            cloud = file["train/points"][-1]
            longest[axis] = int((cloud.max(0) - cloud.min(0)).argmax())
    assert longest == {"y": 1, "z": 2}
    assert selected("set", "--points", 16, "--up-axis", "y") == 0
    training = ("--network", "pointnet-tiny", "--train-steps", 1, "--train-seeds", 1)
    assert run("evaluate", "s.h5", "--test-data", "set", "--up-axis", "y", *training) == 0


def test_predictions_of_a_folder_and_of_few_points(unequal, capsys):
    training = ("--network", "pointnet-tiny", "--train-steps", 1)
    assert run("train", unequal, "--points", 32, *training, "--output", "n.safetensors") == 0
    capsys.readouterr()
    assert run("predict", "n.safetensors", unequal / "test/ball") == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3
    assert "of 3 files have fewer points than the 1024 looked at" in said.err
    assert "0.npy 10" in said.err
    (unequal / "empty").mkdir()
    assert run("predict", "n.safetensors", unequal / "empty") == 2
    assert "empty: no object files" in capsys.readouterr().err


def test_unlike_axes_are_told(unequal, capsys):
    assert selected(unequal, "--points", 16) == 0
    assert run("data", "convert", unequal, "--up-axis", "z", "--output", "z.h5") == 0
    training = ("--network", "pointnet-tiny", "--train-steps", 1, "--train-seeds", 1)
    assert run("evaluate", "s.h5", "--test-data", "z.h5", *training) == 0
    told = "made of clouds whose up axis is unspecified, tested on clouds whose up axis is z (--up-axis)"
    assert told in capsys.readouterr().err


def test_every_command_goes_on_without_bad_clouds_and_lists_them_once(unequal, capsys):
    (unequal / "train/ball/0.npy").write_text("nothing")
    (unequal / "test/stick/1.npy").write_bytes(b"")
    (unequal / "notes").mkdir()
    skipping = ("--skip-bad", "--least-points", 11)
    assert selected(unequal, "--points", 16) == 2
    assert "train/ball/0.npy: no array" in capsys.readouterr().err
    assert selected(unequal, "--points", 16, *skipping) == 0
    assert capsys.readouterr().err.count("left out: ") == 2
    source = Artefact.load("s.h5").metadata.source
    assert source["skipped"] == 2
    assert str(unequal) not in json.dumps(source)
    training = ("--network", "pointnet-nano", "--train-steps", 1)
    test_bad, train_bad = (2, 2)  # the broken ones, and those of ten points
    for words, bad in (
        (("train", unequal, *training, "--points", 32, "--output", "n.safetensors"), train_bad),
        (("evaluate", unequal, *training, "--train-seeds", 1), train_bad + test_bad + 1),
        (("evaluate", "n.safetensors"), test_bad + 1),
        (("view", unequal, "--png", "v.png", "--renderer", "builtin", "--columns", 1, "--up-axis", "y"), train_bad),
        (("export", unequal, "--output", "c.npz", "--up-axis", "y"), train_bad),
        (("adapt", "n.safetensors", "--new", unequal, "--train-steps", 1, "--output", "m.safetensors"), train_bad),
    ):
        assert run(*words, *skipping) == 0, words
        said = capsys.readouterr().err
        assert said.count("left out: ") == bad, said
        assert said.count("passed over, as no classes: notes") <= 1, said
