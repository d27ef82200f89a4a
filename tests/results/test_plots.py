"""Accuracy against size: that everything is drawn, inside the picture, and that labels do not hide each other."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.optimize import minimize

from pcdistill.results.plots import (
    COLOURS,
    Curve,
    _apart,
    _limits,
    accuracy_bars,
    accuracy_plot,
    averaged,
    legible,
    literal,
    loss_plot,
    luminance,
    spread,
    wrapped,
)

pytest.importorskip("matplotlib")

RISING = Curve("random", [100.0, 400.0, 1600.0], [0.5, 0.6, 0.7], [0.02, 0.01, 0.01])
HIGHER = Curve("preset:krr", [100.0, 400.0], [0.6, 0.75], [0.02, 0.0])
WHOLE = Curve("whole set\n98,304 bytes", [98304.0], [0.92], [0.0])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (1152, 720)
        return np.asarray(picture.convert("RGB")).astype(int)


def inked(picture: np.ndarray, colour: str, tolerance: int = 8) -> np.ndarray:
    """Rows and columns of the pixels of a colour, `(N, 2)`."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.argwhere(abs(picture - wanted).max(2) <= tolerance)


def test_every_curve_has_ink_of_its_colour_and_the_frame_stays_white(tmp_path: Path) -> None:
    accuracy_plot([RISING, HIGHER], [WHOLE], tmp_path / "plot.png", "tiny, pointnet", "Mean over n = 2 networks.")
    picture = pixels(tmp_path / "plot.png")
    for colour in (*COLOURS[:2], "#555555"):
        assert len(inked(picture, colour)) > 100
    assert not len(inked(picture, COLOURS[2]))
    edge = np.concatenate([picture[:3].ravel(), picture[-3:].ravel(), picture[:, :3].ravel(), picture[:, -3:].ravel()])
    assert (edge == 255).all()  # nothing is cut off


def test_higher_accuracies_are_drawn_higher(tmp_path: Path) -> None:
    accuracy_plot([RISING, HIGHER], [WHOLE], tmp_path / "plot.png")
    picture = pixels(tmp_path / "plot.png")[:, :890]  # without the labels
    low, high = (inked(picture, colour) for colour in COLOURS[:2])
    level = inked(picture, "#555555")
    level = level[(level[:, 0] > 80) & (level[:, 0] < 580) & (level[:, 1] > 120)]
    assert level[:, 0].max() < high[:, 0].min() < low[:, 0].min()
    left = low[low[:, 1] < low[:, 1].min() + 20, 0].mean()
    right = low[low[:, 1] > low[:, 1].max() - 20, 0].mean()
    assert right < left  # rises


@pytest.mark.parametrize(
    ("curves", "levels"),
    [([], [WHOLE]), ([Curve("one", [100.0], [0.5], [0.0])], []), ([RISING._replace(means=[0.5] * 3)], [])],
    ids=["whole set only", "one point", "flat"],
)
def test_little_is_drawn_too(curves: list[Curve], levels: list[Curve], tmp_path: Path) -> None:
    accuracy_plot(curves, levels, tmp_path / "plot.png", "costs $5 or $6_")  # no formula
    picture = pixels(tmp_path / "plot.png")
    assert len(inked(picture, COLOURS[0] if curves else "#555555")) > 50
    assert (picture[:, :3] == 255).all()


def test_the_axis_of_accuracies_holds_all_that_is_drawn() -> None:
    low, high = _limits([RISING, HIGHER], [WHOLE])
    assert low < 48
    assert 92 < high <= 101
    assert _limits([Curve("all", [1.0], [1.0], [0.0])], []) == (98.0, 101.0)
    assert _limits([Curve("none", [1.0], [0.0], [0.0])], [])[0] == 0.0


def test_sizes_that_are_close_share_a_number() -> None:
    assert _apart([100, 105, 1000, 1050, 10000]) == [100, 1000, 10000]
    assert _apart([5]) == [5]


def test_labels_that_have_room_stay() -> None:
    assert spread([30, 10, 90], [10, 10, 10], 100) == pytest.approx([30, 10, 90])
    assert spread([], [], 100) == []


def test_labels_move_apart_evenly_and_stay_inside() -> None:
    assert spread([50, 50], [10, 20], 100) == pytest.approx([42.5, 57.5])  # equal moves, 15 between the centres
    assert spread([98, 99], [10, 10], 100) == pytest.approx([85, 95])
    assert spread([0, -5], [10, 20], 100) == pytest.approx([25, 10])
    assert spread([50, 50, 50], [40, 40, 40], 100) == pytest.approx([20, 60, 100])  # too many: on above


labels = st.lists(st.tuples(st.floats(0, 100), st.floats(1, 12)), min_size=1, max_size=7)


@given(labels)
def test_labels_never_overlap_nor_leave(pairs: list[tuple[float, float]]) -> None:
    wanted, sizes = (list(values) for values in zip(*pairs, strict=True))
    places = spread(wanted, sizes, 100)
    order = np.argsort(places)
    low, high = np.array(places) - np.array(sizes) / 2, np.array(places) + np.array(sizes) / 2
    assert (high[order][:-1] <= low[order][1:] + 1e-6).all()
    assert low.min() >= -1e-6
    assert high.max() <= 100 + 1e-6
    assert all(places[i] <= places[j] for i in order for j in order if wanted[i] < wanted[j])


def test_labels_move_as_little_as_a_solver_finds() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        wanted, sizes = np.sort(random.uniform(0, 100, 5)), random.uniform(5, 15, 5)
        apart = (sizes[:-1] + sizes[1:]) / 2
        found = minimize(
            lambda x, wanted=wanted: ((x - wanted) ** 2).sum(),
            np.cumsum(sizes),
            jac=lambda x, wanted=wanted: 2 * (x - wanted),
            method="SLSQP",
            constraints=[{"type": "ineq", "fun": lambda x, apart=apart: np.diff(x) - apart}],
            bounds=[(size / 2, 100 - size / 2) for size in sizes],
        )
        assert spread(list(wanted), list(sizes), 100) == pytest.approx(found.x, abs=1e-3)


def test_a_linear_axis_is_even_and_may_start_at_nought(tmp_path: Path) -> None:
    """Under its own name."""
    steps = Curve("falling", [0.0, 1.0, 2.0, 3.0], [0.9, 0.8, 0.7, 0.6], [0.0] * 4)
    accuracy_plot([steps], [], tmp_path / "plot.svg", axis="severity of it", log=False)
    drawn = (tmp_path / "plot.svg").read_text()
    assert "severity of it" in drawn
    assert "log scale" not in drawn
    accuracy_plot([steps], [], tmp_path / "plot.png", axis="severity", log=False)
    rows, columns = inked(pixels(tmp_path / "plot.png")[:, :900], COLOURS[0]).T
    assert np.corrcoef(columns, rows)[0, 1] > 0.999  # equal steps fall on one straight line


def test_bars_stand_in_groups_and_are_as_high_as_accuracies(tmp_path: Path) -> None:
    bars = [Curve("one", range(2), [0.9, 0.5], [0.0, 0.1]), Curve("two", range(2), [0.3, 0.6], [0.0, 0.0])]
    accuracy_bars(["lidar", "gaussian"], bars, tmp_path / "bars.png", "tiny", "a note")
    picture = pixels(tmp_path / "bars.png")[150:]  # without the legend
    first, second = (inked(picture, colour) for colour in COLOURS[:2])
    middle = 600
    heights = [
        np.ptp(ink[side(ink[:, 1])][:, 0])
        for ink in (first, second)
        for side in (lambda c: c < middle, lambda c: c > middle)
    ]
    assert np.array(heights) / heights[0] == pytest.approx(np.array([0.9, 0.5, 0.3, 0.6]) / 0.9, abs=0.02)
    assert first[first[:, 1] < middle, 1].max() <= second[second[:, 1] < middle, 1].min()
    assert (pixels(tmp_path / "bars.png")[:, :3] == 255).all()


def test_further_groups_of_bars_stand_below(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(40)]
    heights = [0.2 + 0.02 * i for i in range(40)]
    bars = [Curve("one", range(40), heights, [float("nan")] * 40), Curve("two", range(40), heights, [0.1] * 40)]
    accuracy_bars(names, bars, tmp_path / "bars.png")
    with Image.open(tmp_path / "bars.png") as picture:
        assert picture.size[0] <= 12 * 160
        shown = np.asarray(picture.convert("RGB")).astype(int)
    ink = inked(shown, COLOURS[0])
    ink = ink[ink[:, 0] > 150]  # without the legend
    tops = [column[:, 0].min() for column in np.split(ink, np.flatnonzero(np.diff(ink[:, 0]) > 40) + 1)]
    assert len(tops) == 2  # lines of 20 groups
    upper, lower = (ink[(ink[:, 0] >= top) & (ink[:, 0] < top + 400)] for top in tops)
    assert len(upper) < len(lower)  # the second half of the classes is better
    accuracy_bars(names, bars, tmp_path / "bars.svg")
    assert all(f"class {i} -->" in (tmp_path / "bars.svg").read_text() for i in range(40))


def test_losses_fall_from_left_to_right_on_a_scale_that_shows_it(tmp_path: Path) -> None:
    falling = {"krr": [10.0 ** (-0.01 * step) for step in range(300)], "dm": [0.5] * 10}
    loss_plot(falling, tmp_path / "loss.png", "tiny", "a note")
    with Image.open(tmp_path / "loss.png") as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    rows, columns = inked(shown[:, :900], COLOURS[0]).T
    assert np.corrcoef(columns, rows)[0, 1] > 0.999  # an exponential is a straight line: the scale is logarithmic
    assert len(inked(shown, COLOURS[1])) > 15
    loss_plot(falling, tmp_path / "loss.svg")
    assert "log scale" in (tmp_path / "loss.svg").read_text()
    for losses in ({"one": [3.0, 2.0, 1.0]}, {"below": [3.0, -2.0]}, {"single": [0.1]}, {"none": [0.0, 5.0, 100.0]}):
        loss_plot(losses, tmp_path / "loss.svg")
        assert "log scale" not in (tmp_path / "loss.svg").read_text()


def test_long_losses_are_averaged() -> None:
    losses = np.random.default_rng(0).normal(size=1003).tolist()
    steps, means = averaged(losses, 100)
    assert len(steps) == len(means) <= 100
    assert means[:2] == pytest.approx([np.mean(losses[:11]), np.mean(losses[11:22])])
    assert (steps[0], steps[-1]) == (6, 1002.5)
    assert averaged(losses[:5], 5) == ([1, 2, 3, 4, 5], losses[:5])


def test_many_names_make_a_plot_higher(tmp_path: Path) -> None:
    many = [Curve(f"arm {i}\nof two lines", [100.0], [0.5], [0.0]) for i in range(20)]
    accuracy_plot(many, [], tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size == (1152, picture.size[1])
        assert picture.size[1] > 20 * 2 * 11.5 / 72 * 160
        shown = np.asarray(picture.convert("RGB"))
    assert (shown[:3] == 255).all()  # nothing is cut off
    assert (shown[-3:] == 255).all()


def test_names_are_drawn_sign_by_sign_and_wrapped() -> None:
    assert literal("a $x$ \x07\ud800\n") == "a \\$x\\$ \ufffd\ufffd\n"
    assert wrapped("whole set of it all, pointnet") == "whole set of it\nall\npointnet"


@pytest.mark.parametrize("colour", COLOURS)
def test_small_text_has_contrast(colour: str) -> None:
    found = [int(legible(colour)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    assert 1.05 / (luminance(found) + 0.05) >= 4.5
    assert luminance([1, 1, 1]) == pytest.approx(1)
    assert luminance([0.5, 0.5, 0.5]) == pytest.approx(0.2140, abs=1e-4)
