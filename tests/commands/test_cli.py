"""Every command on real files, in this process, and the installed command in one of its own."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pcdistill as pcd
from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.commands import demo
from pcdistill.core.errors import InputError
from pcdistill.data import load, write_hdf5
from pcdistill.data.procedural import shapes
from pcdistill.evaluation import subject
from tests.conftest import of_class

REPOSITORY = Path(__file__).parents[2]
SMALL = ("--clouds-per-class", "2", "--points", "16")


class Commands:
    """Runs command lines that have to succeed; gives what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str], data: Path) -> None:
        self.capsys = capsys
        self.data = data

    def __call__(self, *words: object) -> str:
        self.capsys.readouterr()
        assert main([str(word) for word in words]) == 0
        shown = self.capsys.readouterr()
        assert shown.err == ""
        return shown.out

    def select(self, output: Path, *more: object) -> str:
        return self("select", "--data", self.data, *SMALL, "--output", output, *more)

    def distill(self, output: Path, *more: object) -> str:
        few = ("--objective", "dm", "--members", 1, "--steps", 3)
        return self("distill", "--data", self.data, *SMALL, *few, "--output", output, *more)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(capsys, tiny_file)


def test_data_list_names_every_set_and_where_it_is(run: Commands, tmp_path: Path) -> None:
    lines = run("data", "list", "--root", tmp_path).splitlines()
    assert [line.split()[0] for line in lines][:2] == ["modelnet10", "modelnet40"]
    assert all("not found" in line for line in lines if not line.startswith("shapes"))
    assert lines[-1].endswith("built in")
    assert len({line.index(" classes ") for line in lines}) == 1  # in columns


def test_data_info_counts_what_is_in_a_set(run: Commands) -> None:
    facts = json.loads(run("data", "info", run.data, "--json"))
    assert facts["classes"] == ["ball", "box", "ring"]
    assert facts["splits"]["train"]["per_class"] == {"ball": 8, "box": 8, "ring": 8}
    assert (facts["splits"]["test"]["clouds"], facts["splits"]["test"]["points"]) == (12, 1024)


def test_data_convert_keeps_the_clouds(run: Commands) -> None:
    assert run("data", "convert", run.data, "--points", 100, "--output", "new/some.h5") == (
        "wrote new/some.h5: 24 + 12 clouds x 100 points\n"
    )
    for split in ("train", "test"):
        before, after = load(run.data, split, points=100), load("new/some.h5", split)
        assert torch.equal(before.labels, after.labels)
        assert (before.points - after.points).abs().max() < 2e-3  # float16 twice, normalised again


def test_data_convert_turns_a_folder_of_meshes_into_a_file(run: Commands) -> None:
    for label, corner in (("flat", "0 1 0"), ("steep", "0 1 9")):
        for number in range(2):
            path = Path("meshes", label, f"{number}.off")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"OFF\n3 1 0\n0 0 {number}\n1 0 0\n{corner}\n3 0 1 2\n")
    run("data", "convert", "meshes", "--points", 32, "--output", "meshes.h5")
    train = load("meshes.h5", "train")
    assert (train.class_names, train.points_per_cloud) == (("flat", "steep"), 32)
    run.data = Path("meshes")
    run.select(Path("chosen.h5"), "--clouds-per-class", 1)
    assert Artefact.load("chosen.h5").metadata.dataset == "meshes"


def test_select_writes_real_clouds_at_the_budget(run: Commands, tmp_path: Path) -> None:
    shown = run.select(tmp_path / "a.h5", "--bits", 32, "--method", "herding")
    assert shown == f"wrote {tmp_path}/a.h5: 3 classes x 2 clouds x 16 points at 32 bits, 384 bytes per class\n"
    found = Artefact.load(tmp_path / "a.h5")
    assert not found.metadata.distilled
    assert found.metadata.selection == {"method": "herding", "features": "raw", "seed": 0}
    real = load(run.data, "train")
    for cloud, label in zip(found.clouds.points, found.clouds.labels, strict=True):
        points = of_class(real, int(label)).points
        found_in = (cloud[None, :, None] == points[:, None]).all(3).any(2).all(1)
        assert found_in.sum() == 1


def test_classes_of_few_clouds_are_used_up_and_counted_on_average(run: Commands) -> None:
    """8 clouds, 2 and 1 of the three classes; the budget holds them all."""
    real, test = load(run.data, "train"), load(run.data, "test")
    index = torch.tensor([*range(8), 8, 9, 16])
    write_hdf5(real[index], test, Path("few.h5"))
    words = ("--bytes-per-class", 2000, "--points", 16, "--method", "medoid", "--output", "all.h5")
    assert run("select", "--data", "few.h5", *words).startswith("wrote all.h5: 3 classes x 3.7 clouds x 16 points in ")
    assert Artefact.load("all.h5").clouds.class_counts.tolist() == [8, 2, 1]
    run.data = Path("few.h5")
    run.distill(Path("one.h5"), "--clouds-per-class", 1)
    assert Artefact.load("one.h5").clouds.class_counts.tolist() == [1, 1, 1]


def test_bytes_and_toml_reach_the_artefact(run: Commands) -> None:
    Path("run.toml").write_text(
        f"data = '{run.data}'\nbytes_per_class = 100\npoints = 16\nbits = 8\nstorage = 'points'\n"
        "method = 'random'\nseed = 5\n"
    )
    run("select", "--config", "run.toml", "--output", "a.h5", "--seed", 6)
    facts = Artefact.load("a.h5").metadata
    assert (facts.clouds_per_class, facts.points, facts.seed) == (2, 16, 6)
    assert facts.selection["seed"] == 6


def test_distil_show_train_evaluate_and_view(run: Commands, tmp_path: Path, short_recipes: None) -> None:
    """The way of a user through the commands, each on the file of the one before."""
    shown = run.distill(Path("a.h5"), "--snapshots", 1)
    assert shown.startswith("wrote a.h5: 3 classes x 2 clouds x 16 points at 8 bits, 96 bytes per class\n")
    made = Artefact.load("a.h5")
    assert (len(made.losses), len(made.snapshots)) == (3, 3)

    text = run("show", "a.h5")
    assert text.startswith("3 classes x 2 clouds x 16 points at 8 bits, 96 bytes per class\n")
    for part in (
        "arm        dm",
        "dataset    tiny.h5",
        "training 288",
        "protocol   tuned v",
        "in 3 steps",
    ):
        assert part in text
    facts = json.loads(run("show", "a.h5", "--json"))
    assert facts["sizes"]["file_bytes"] == Path("a.h5").stat().st_size
    assert facts["objective"]["bank"]["networks"] == 1
    assert facts["settings"]["steps"] == 3

    network = ("--network", "pointnet-small")
    assert run("train", "a.h5", "--output", "net.safetensors", *network).startswith(
        "wrote net.safetensors: 3 steps, loss"
    )
    trained = json.loads(run("evaluate", "net.safetensors", "--test-data", run.data, "--json"))
    fresh = json.loads(run("evaluate", "a.h5", "--test-data", run.data, "--train-seeds", 1, *network, "--json"))
    assert trained["runs"] == fresh["runs"]  # one network, seed 0, either way
    fresh = json.loads(run("evaluate", "a.h5", "--test-data", run.data, "--train-seeds", 2, *network, "--json"))
    assert fresh["seeds"] == [0, 1]
    assert len(fresh["runs"]) == 2
    assert "accuracy        " in run("evaluate", "a.h5", "--test-data", run.data, "--train-seeds", 1, *network)
    whole = json.loads(run("evaluate", run.data, "--train-seeds", 1, *network, "--json"))
    assert len(whole["runs"]) == 1

    assert (
        run("view", "a.h5", "--renderer", "builtin", "--initial", "--columns", 1) == "wrote a.png (renderer: builtin)\n"
    )
    with Image.open("a.png") as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    run("view", run.data, "--renderer", "builtin", "--split", "test", "--columns", 1, "--png", "set.png")
    assert {path.name for path in tmp_path.iterdir()} == {"a.h5", "a.png", "net.safetensors", "set.png"}


def test_view_names_its_picture_after_a_folder_however_it_is_called(run: Commands) -> None:
    for label in "ab":
        Path("set", label).mkdir(parents=True)
        for number in range(2):
            np.save(Path("set", label, f"{number}.npy"), np.random.default_rng(number).normal(size=(9, 3)))
    os.chdir("set")  # undone with the fixture's own
    run("view", ".", "--renderer", "builtin", "--columns", 1)
    assert Path("set.png").is_file()


def test_a_test_class_without_clouds_is_null_in_json(
    run: Commands, short_recipes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.select(Path("a.h5"))
    whole = load(run.data, "test")
    monkeypatch.setattr(subject, "read", lambda *_, **__: whole[whole.labels != 1])
    shown = run(
        "evaluate", "a.h5", "--test-data", run.data, "--train-seeds", 1, "--network", "pointnet-small", "--json"
    )

    def refused(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(shown, parse_constant=refused)["runs"][0]["per_class"][1] is None


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8 are of Linux")
def test_a_set_whose_name_is_no_text(run: Commands, tiny_file: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"b\xffd.h5")
    odd.write_bytes(tiny_file.read_bytes())
    run("select", "--data", odd, *SMALL, "--output", "a.h5")
    assert Artefact.load("a.h5").metadata.dataset == "b\\udcffd.h5"


def test_the_same_command_writes_the_same_arrays(run: Commands) -> None:
    for name in ("a.h5", "b.h5"):
        run.distill(Path(name), "--seed", 3)
    first, second = (Artefact.load(name) for name in ("a.h5", "b.h5"))
    assert first.storage.arrays()["codes"].tobytes() == second.storage.arrays()["codes"].tobytes()
    assert first.losses == second.losses
    run.distill(Path("c.h5"), "--seed", 4)
    assert Artefact.load("c.h5").losses != first.losses


def test_debug_shows_where_an_error_came_from(run: Commands) -> None:
    for words in (["--debug", "show", "none.h5"], ["show", "none.h5", "--debug"]):
        with pytest.raises(InputError, match=r"none\.h5: no such file"):
            main(words)


def test_no_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "distill" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["distil"], []])
def test_what_needs_no_network_is_answered_without_torch(words: list[str]) -> None:
    """Nothing heavy is imported before a command is known."""
    program = "import sys, pcdistill.cli; pcdistill.cli.main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment)
    loaded = set(done.stderr.split())
    assert "pcdistill.cli" in loaded
    assert not {"torch", "numpy", "pydantic", "rich", "h5py", "scipy"} & loaded


def test_the_demonstration_compares_and_draws(
    run: Commands, tmp_path: Path, short_recipes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few clouds, steps and networks; all else as for a user."""
    monkeypatch.setattr(shapes, "TRAIN_PER_CLASS", 3)
    monkeypatch.setattr(shapes, "TEST_PER_CLASS", 1)
    monkeypatch.setattr(demo, "STEPS", 3)
    monkeypatch.setattr(pcd, "protocol", functools.partial(pcd.protocol, network="pointnet-small"))
    monkeypatch.setattr(pcd, "gallery", functools.partial(pcd.gallery, renderer="builtin", tile=64))
    monkeypatch.setattr(pcd, "distill", functools.partial(pcd.distill, steps=2, members=1, objective="dm"))
    lines = run("demo", "--output", "there", "--seed", 3).splitlines()
    rows = [line for line in lines if line.endswith(" %")]
    assert [row.split()[0].rstrip(",") for row in rows] == ["random", "medoid", "distilled", "whole"]
    assert all(0 <= float(row.split()[-2]) <= 100 for row in rows)
    made = Artefact.load("there/shapes.h5")
    assert made.metadata.seed == 3
    assert len({row.split()[-3] for row in rows[:3]}) == 1  # equal bytes
    assert f"{made.bytes_per_class:,.0f}" in rows[2].split()
    with Image.open("there/shapes.png") as picture:
        assert picture.format == "PNG"
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"shapes.h5", "shapes.png"}


def installed() -> list[str]:
    """The console script beside this interpreter, or what it does where the package is not installed."""
    script = Path(sys.executable).with_name("pcdistill")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "pcdistill.cli"]


def called(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [*installed(), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, **more)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Unix")
def test_an_output_that_nobody_reads_is_one_line() -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "pcdistill.cli", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    ran = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (2, "pcdistill: error: nobody reads the output any more\n")


def test_the_installed_command(tiny_file: Path, tmp_path: Path) -> None:
    done = called("select", "--data", tiny_file, *SMALL, "--output", "a.h5", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote a.h5: 3 classes x 2 clouds")
    assert Artefact.load(tmp_path / "a.h5").metadata.dataset == "tiny.h5"


def test_the_installed_command_shows_a_traceback_if_asked_to(tmp_path: Path) -> None:
    done = called("show", "none.h5", "--debug", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.startswith("Traceback")
    assert "none.h5: no such file" in done.stderr.splitlines()[-1]


def test_what_a_file_says_does_nothing_to_a_terminal(run: Commands) -> None:
    run.distill(Path("a.h5"))
    made = Artefact.load("a.h5")
    Artefact(made.storage, made.metadata.model_copy(update={"dataset": "a\x1b[2J\nb"}), made.losses).save("b.h5")
    shown = run("show", "b.h5")
    assert "\x1b" not in shown
    assert r'dataset    "a\u001b[2J\nb"' in shown
