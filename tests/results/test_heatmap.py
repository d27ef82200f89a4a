"""Confusion matrices as pictures: the cells' colours and numbers, and what is too much to write."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from pcdistill.results.heatmap import NUMBERED, confusion_plot, row_shares

matplotlib = pytest.importorskip("matplotlib")


def counts(classes: int) -> np.ndarray:
    random = np.random.default_rng(0)
    true = random.integers(0, classes, 500)
    guessed = np.where(random.random(500) < 0.7, true, random.integers(0, classes, 500))
    return confusion_matrix(true, guessed, labels=range(classes))


def test_shares_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    true, guessed = random.integers(0, 4, (2, 100))
    wanted = confusion_matrix(true, guessed, normalize="true")
    assert row_shares(confusion_matrix(true, guessed).tolist()) == pytest.approx(wanted)
    assert np.isnan(row_shares([[0, 0], [1, 3]])[0]).all()


def test_cells_are_as_dark_as_their_shares_and_hold_their_numbers(tmp_path: Path) -> None:
    matrix = [[3, 1, 0], [0, 0, 0], [50, 0, 150]]
    path = tmp_path / "map.png"
    confusion_plot(matrix, ["cup", "chair", "bed"], path, "krr")
    with Image.open(path) as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    blues = matplotlib.colormaps["Blues"]
    for share in (0.75, 0.25):  # the diagonal and below it, none of the others
        colour = np.array(blues(share, bytes=True)[:3], dtype=int)
        cells = np.argwhere(abs(shown - colour).max(2) <= 3)
        assert len(cells) > 1000
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        confusion_plot(matrix, ["cup", "chair", "bed"], path.with_suffix(".svg"), "krr", "a note")
    words = re.findall(r">([^<>]+)</text>", path.with_suffix(".svg").read_text())
    assert sorted(word for word in words if word.isdigit()) == sorted(["75", "25", "25", "75", "0", "50", "100"])
    assert {"cup", "chair", "bed", "krr", "a note", "taken for"} <= set(words)


def test_numbers_can_be_read_on_their_colours(tmp_path: Path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        confusion_plot([[9, 1], [4, 6]], ["a", "b"], tmp_path / "map.svg")
    drawn = (tmp_path / "map.svg").read_text()
    inks = {
        word: "#ffffff" in style for style, word in re.findall(r"<text style=\"([^\"]*)\"[^>]*>(\d+)</text>", drawn)
    }
    assert (inks["90"], inks["10"], inks["40"]) == (True, False, False)


def test_of_many_classes_names_alone_are_written(tmp_path: Path) -> None:
    names = [f"class number {i}" for i in range(40)]
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        confusion_plot(counts(40).tolist(), names, tmp_path / "map.svg", "word " * 60)
    words = re.findall(r">([^<>]+)</text>", (tmp_path / "map.svg").read_text())
    assert all(words.count(name) == 2 for name in names)
    assert {word for word in words if word.isdigit()} == {"0", "50", "100"}
    assert NUMBERED == 15


def test_names_are_cut_and_nothing_leaves_the_picture(tmp_path: Path) -> None:
    names = ["x" * 100, "$a$ and $", "c\x00"]
    confusion_plot(counts(3).tolist(), names, tmp_path / "map.png", "a title " * 30, "note")
    with Image.open(tmp_path / "map.png") as picture:
        shown = np.asarray(picture.convert("RGB"))
    edge = np.concatenate([shown[:2].ravel(), shown[-2:].ravel(), shown[:, :2].ravel(), shown[:, -2:].ravel()])
    assert (edge == 255).all()
