"""`pcdistill adapt` through the real command line: from two classes to three, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pcdistill.cli import main
from pcdistill.data import load, write_hdf5
from pcdistill.evaluation import of_classes
from pcdistill.training.trained import load_network

Run = Callable[..., str]


@pytest.fixture(scope="module")
def place(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sets of two classes, memories of them, and a network that knows them."""
    folder = tmp_path_factory.mktemp("adapt")
    train, test = (load(tiny_file, split) for split in ("train", "test"))
    write_hdf5(of_classes(train, [1, 0]), of_classes(test, [1, 0]), folder / "two.h5")
    write_hdf5(of_classes(train, [2, 0]), of_classes(test, [2, 0]), folder / "other.h5")
    for name, data, points in (("memory", "two", 32), ("few", "two", 16), ("strange", "other", 32)):
        words = ["select", "--data", folder / f"{data}.h5", "--clouds-per-class", 2, "--points", points,
                 "--output", folder / f"{name}.h5"]  # fmt: skip
        assert main([str(word) for word in words]) == 0
    words = [
        "train",
        folder / "memory.h5",
        "--network",
        "pointnet-tiny",
        "--train-steps",
        40,
        "--output",
        folder / "net.safetensors",
    ]
    assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command line that has to succeed, in the folder; what it prints."""
    monkeypatch.chdir(place)
    capsys.readouterr()

    def call(*words: object) -> str:
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        assert (code, shown.err) == (0, "")
        return shown.out

    return call


@pytest.mark.parametrize("how", ["whole", "head", "lora"])
def test_a_class_is_added(how: str, run: Run, place: Path, tiny_file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.safetensors"
    said = run("adapt", "net.safetensors", "--memory", "memory.h5", "--new", tiny_file, "--classes", "ring",
               "--shots", 3, "--how", how, "--train-steps", 60, "--output", new)  # fmt: skip
    assert said.startswith(f"wrote {new}: 3 classes, 1 of them new\n")
    assert re.search(
        r"memory  4 clouds of 2 classes, \d+\.\d % right, of those that it was trained on\n"
        r"  new     3 clouds of 1 classes, \d+",
        said,
    )
    made = load_network(new)
    assert made.class_names == ("box", "ball", "ring")
    assert (made.points, made.dataset) == (32, "two.h5 and tiny.h5")
    assert made.protocol.recipe.steps == 60
    # The set has its classes in another order, and the other set only two of them.
    scores = json.loads(run("evaluate", new, "--test-data", tiny_file, "--json"))["runs"][0]
    assert scores["accuracy"] > 0.7
    assert scores["per_class"][2] > 0.7
    (part,) = json.loads(run("evaluate", new, "--test-data", "two.h5", "--json"))["runs"]
    assert part["per_class"] == [*scores["per_class"][:2], None]
    assert sum(map(sum, part["confusion"])) == 8
    shown = json.loads(run("evaluate", new, "--test-data", tiny_file, "--conditions", "32", "--json"))
    assert [one["condition"] for one in shown] == ["clean", "32"]
    assert shown[0]["accuracy"] == [scores["accuracy"]]


def test_a_new_domain_and_the_same_file_again(run: Run, tmp_path: Path) -> None:
    words = ("adapt", "net.safetensors", "--memory", "memory.h5", "memory.h5", "--new", "memory.h5", "--train-steps", 3)
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert "2 classes, 0 of them new\n  memory  8 clouds" in run(*words, "--output", first)
    run(*words, "--output", second)
    ours, theirs = (load_network(path).network.state_dict() for path in (first, second))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert load_network(first).dataset == "two.h5"


def test_without_a_memory(run: Run, tiny_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    said = run("adapt", "net.safetensors", "--new", tiny_file, "--classes", "ring", "--train-steps", 2, "--output", out)
    assert "memory " not in said
    assert load_network(out).points == 32


REFUSED = {
    "classes of the memory": (("--memory", "strange.h5"),
                              "strange.h5: classes ring, expected some of the network's: box, ball"),
    "points of the new": (("--memory", "few.h5", "--new", "memory.h5"),
                          "memory.h5: 32 points per cloud, expected 16 as in the memory or the network"),
    "points of two memories": (("--memory", "memory.h5", "few.h5"), "few.h5: 16 points per cloud, expected 32 as in"),
    "a data set as memory": (("--memory", "two.h5"), "two.h5: an HDF5 file, but no artefact"),
    "missing memory": (("--memory", "none.h5"), "none.h5: no such file"),
    "missing new": (("--new", "none.h5"), "none.h5"),
    "unknown class": (("--classes", "bal"), "classes: 'bal' (did you mean 'ball'?), expected some of box, ball"),
    "too many shots": (("--shots", 9), "class 'box'"),
    "rank of a head": (("--how", "head", "--rank", 2), "rank: with --how head, expected --how lora"),
    "no network": (("--output", "out.pt"), "output: out.pt, expected a name that ends in .safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(
    name: str, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    more, message = REFUSED[name]
    given = ["--new", "two.h5"] if "--new" not in more else []
    output = ["--output", "out.safetensors"] if "--output" not in more else []
    before = sorted(place.iterdir())
    capsys.readouterr()
    assert main([str(word) for word in ("adapt", "net.safetensors", *given, *output, *more)]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert sorted(place.iterdir()) == before


def test_classes_that_a_network_does_not_know(place: Path, tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(place / "net.safetensors"), "--test-data", str(tiny_file)]) == 2
    assert "test set: classes ball, box, ring, expected those of training: box, ball" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "never.safetensors"
    words = [
        "adapt",
        place / "net.safetensors",
        "--new",
        place / "memory.h5",
        "--lr",
        1e30,
        "--train-steps",
        9,
        "--output",
        out,
    ]
    assert main([str(word) for word in words]) == 2
    assert "loss nan, expected a finite one (lower the lr)" in capsys.readouterr().err
    assert not out.exists()
    assert torch.isfinite(load_network(place / "net.safetensors").network.head[0].linear.weight).all()
