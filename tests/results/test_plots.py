"""Accuracy against size: that everything is drawn, inside the picture, and that labels do not hide each other."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcdistill.matching import objectives
from pcdistill.results.plots import (
    COLOURS,
    METHODS,
    Curve,
    Point,
    _limits,
    _sides,
    accuracy_bars,
    accuracy_plot,
    averaged,
    literal,
    looks,
    loss_plot,
    luminance,
    measured,
)
from pcdistill.selection import selectors

pytest.importorskip("matplotlib")

RISING = Curve("random", [100.0, 400.0, 1600.0], [0.5, 0.6, 0.7], [0.02, 0.01, 0.01])
DATA = 630  # rows of a picture down to the axis of sizes, under a title of one line
HIGHER = Curve("preset:krr", [100.0, 400.0], [0.6, 0.75], [0.02, 0.0])
WHOLE = Curve("whole set, 98,304 bytes", [98304.0], [0.92], [0.0])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] == 1080
        return np.asarray(picture.convert("RGB")).astype(int)


def picture_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
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
    picture = pixels(tmp_path / "plot.png")[:DATA]
    low, high = (inked(picture, colour) for colour in COLOURS[:2])
    level = inked(picture, "#555555")
    level = level[(level[:, 0] < 600) & (level[:, 1] > 150)]
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


def test_ticks_stand_at_what_was_measured() -> None:
    assert measured([1122, 1188, 1225, 12208, 12251]) == [1225, 12251]
    assert measured([100, 105, 1000, 1050, 10000]) == [105, 1050, 10000]
    assert measured([5]) == [5]
    assert len(measured([float(1.2**i) for i in range(40)])) <= 9


def test_budgets_that_nothing_was_measured_at_have_no_tick(tmp_path: Path) -> None:
    near = Curve("random", [118.0, 1220.0], [0.5, 0.6], [0.0, 0.0])
    accuracy_plot([near], [], tmp_path / "plot.svg", ticks=(123, 369, 1229))
    drawn = (tmp_path / "plot.svg").read_text()
    assert all(f"<!-- {size} -->" in drawn for size in ("123", "1,229"))
    assert not any(f"<!-- {size} -->" in drawn for size in ("369", "118", "1,220"))


def test_a_method_has_one_colour_in_all_plots() -> None:
    """Whatever stands beside it; storages of one method are told apart by dashes."""
    assert set(METHODS) >= {*objectives, *selectors}
    (alone,) = looks(["medoid"])
    assert looks(["krr", "medoid", "random"])[1] == alone
    first, second = looks(["random", "random"])
    assert first.colour == second.colour
    assert (first.style, first.face) != (second.style, second.face)
    assert len({(look.colour, look.style) for look in looks(METHODS)}) == len(METHODS)


def test_a_storage_has_one_style_in_plots_that_compare_storages() -> None:
    """Whichever methods stand beside it: a line is dashed though no other has its colour."""
    random, coded, voxels = looks(["random", "krr", "krr"], ["voxels", "coded", "voxels"])
    assert (random.style, voxels.style, coded.style) == ("-", "-", "--")
    assert looks(["random", "krr"], ["voxels", "coded"]) == [random, coded]
    assert coded.face == "white"
    assert coded.colour == voxels.colour == voxels.face
    assert [look.style for look in looks(["random", "krr"], ["coded", "coded"])] == ["-", "-"]
    assert [look.style for look in looks(["krr", "krr"], ["coded", "coded"])] == ["-", "--"]


def test_lines_of_one_method_alone_have_colours_of_their_own() -> None:
    assert len({look.colour for look in looks(["krr"] * 5)}) == 5
    mixed = looks(["none", "medoid", "all"])
    assert mixed[1] == looks(["medoid"])[0]
    assert len({look.colour for look in mixed}) == 3


def test_nothing_but_data_stands_among_the_data(tmp_path: Path) -> None:
    """Names are below; no line leads from data to them."""
    one = Curve("a method with a long name", [100.0], [0.5], [0.0], "random")
    far = Curve("other", [100.0, 10_000.0], [0.9, 0.9], [0.0, 0.0], "krr")
    accuracy_plot([one, far], [], tmp_path / "plot.png")
    ink = inked(pixels(tmp_path / "plot.png")[:DATA], COLOURS[1], 60)
    assert np.ptp(ink[:, 1]) < 40


def test_a_linear_axis_is_even_and_may_start_at_nought(tmp_path: Path) -> None:
    """Under its own name."""
    steps = Curve("falling", [0.0, 1.0, 2.0, 3.0], [0.9, 0.8, 0.7, 0.6], [0.0] * 4)
    accuracy_plot([steps], [], tmp_path / "plot.svg", axis="severity of it", log=False)
    drawn = (tmp_path / "plot.svg").read_text()
    assert "severity of it" in drawn
    assert "log scale" not in drawn
    accuracy_plot([steps], [], tmp_path / "plot.png", axis="severity", log=False)
    rows, columns = inked(pixels(tmp_path / "plot.png")[:DATA], COLOURS[0]).T
    assert np.corrcoef(columns, rows)[0, 1] > 0.999  # equal steps fall on one straight line


def test_bars_stand_in_groups_and_are_as_high_as_accuracies(tmp_path: Path) -> None:
    bars = [Curve("one", range(2), [0.9, 0.5], [0.0, 0.1]), Curve("two", range(2), [0.3, 0.6], [0.0, 0.0])]
    accuracy_bars(["lidar", "gaussian"], bars, tmp_path / "bars.png", "tiny", "a note")
    picture = picture_of(tmp_path / "bars.png")[150:]  # without the legend
    first, second = (inked(picture, colour) for colour in COLOURS[:2])
    middle = 600
    heights = [
        np.ptp(ink[side(ink[:, 1])][:, 0])
        for ink in (first, second)
        for side in (lambda c: c < middle, lambda c: c > middle)
    ]
    assert np.array(heights) / heights[0] == pytest.approx(np.array([0.9, 0.5, 0.3, 0.6]) / 0.9, abs=0.02)
    assert first[first[:, 1] < middle, 1].max() <= second[second[:, 1] < middle, 1].min()
    assert (picture_of(tmp_path / "bars.png")[:, :3] == 255).all()


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
    rows, columns = inked(shown[:DATA], COLOURS[0]).T
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
    many = [Curve(f"arm {i} of many", [100.0], [0.5], [0.0]) for i in range(20)]
    accuracy_plot(many, [], tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size[0] == 1080
        assert picture.size[1] > 700 + 7 * 30
        shown = np.asarray(picture.convert("RGB"))
    assert (shown[:3] == 255).all()  # nothing is cut off
    assert (shown[-3:] == 255).all()


def test_names_are_drawn_sign_by_sign() -> None:
    assert literal("a $x$ \x07\ud800\n") == "a \\$x\\$ \ufffd\ufffd\n"


def test_luminance_is_that_of_wcag() -> None:
    assert luminance([1, 1, 1]) == pytest.approx(1)
    assert luminance([0.5, 0.5, 0.5]) == pytest.approx(0.2140, abs=1e-4)


def test_names_of_points_near_one_another_stand_on_both_sides() -> None:
    points = [Point(name, size, height) for name, size, height in (("a", 1, 0.5), ("b", 1, 0.52), ("c", 1, 0.9))]
    other = Point("d", 3, 0.53)
    assert [(point.label, side) for point, side in _sides([*points, other], 0.04)] == [
        ("a", 1), ("b", -1), ("c", 1), ("d", 1),
    ]  # fmt: skip
