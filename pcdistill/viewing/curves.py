"""Accuracy against size or another quantity, and as bars, drawn with matplotlib (the extra `plots`)."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

# Okabe & Ito's palette, which the colour-blind tell apart, without its yellow, too faint for a line; markers
# and styles go on where it ends.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
STYLES = ("-", "--", ":")
LINE = 11.5  # height of a line of a label in points, and
GAP = 1.5  # the space between two labels


class Curve(NamedTuple):
    """One line of the plot: per size the mean and the standard deviation of accuracies (fractions)."""

    label: str
    sizes: Sequence[float]  # bytes per class, or what the plot's axis is, ascending
    means: Sequence[float]
    deviations: Sequence[float]


class Point(NamedTuple):
    """A single accuracy (a fraction) that somebody else has reported."""

    label: str
    size: float  # bytes per class
    accuracy: float


def accuracy_plot(
    curves: Sequence[Curve],
    levels: Sequence[Curve],
    path: Path,
    title: str = "",
    note: str = "",
    points: Sequence[Point] = (),
    axis: str = "bytes per class",
    log: bool = True,
) -> None:
    """Draw accuracy in per cent against bytes per class (log scale) as a PNG or SVG, after the ending of `path`.

    Args:
        curves: one line with error bars each, named at its right end in its own colour.
        levels: horizontal lines, of which the first mean counts: the whole set.
        path: file to write.
        title, note: above and, small, below the axes.
        points: crosses with their names beside them.
        axis: what `sizes` are.
        log: whether on a log scale, for positive sizes, or else a linear one.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
    from matplotlib.transforms import ScaledTranslation, Transform

    figure = Figure(figsize=(7.2, 4.5), dpi=160)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.17, 0.70, 0.73))
    ends: list[tuple[float, float, Transform, str, str]] = []  # x and y, in what, text, colour
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        # A little to the side of one another, so that error bars at one size do not hide each other.
        aside = ScaledTranslation(3.5 * (number - (len(curves) - 1) / 2) / 72, 0, figure.dpi_scale_trans)
        means = [100 * mean for mean in curve.means]
        axes.errorbar(
            curve.sizes, means, [100 * deviation for deviation in curve.deviations], color=colour,
            marker=MARKERS[number % len(MARKERS)], markersize=5, markeredgecolor="white", markeredgewidth=0.5,
            linestyle=STYLES[number // len(COLOURS) % len(STYLES)], linewidth=1.6, elinewidth=1, capsize=2.5,
            transform=axes.transData + aside,
        )  # fmt: skip
        ends.append((curve.sizes[-1], means[-1], axes.transData + aside, curve.label, colour))
    for number, point in enumerate(sorted(points, key=lambda point: (point.size, point.accuracy))):
        where, side = (point.size, 100 * point.accuracy), 1 if number % 2 else -1  # names of neighbours stand apart
        axes.plot(*where, "x", color="#777777", markersize=5, markeredgewidth=1.2, zorder=1)
        axes.annotate(
            point.label, where, xytext=(5 * side, 0), textcoords="offset points", va="center", fontsize=7,
            ha="left" if side > 0 else "right", color="#777777",
        )  # fmt: skip
    sizes = sorted({size for curve in curves for size in curve.sizes} | {point.size for point in points})
    for level in levels:
        mean = 100 * level.means[0]
        axes.axhline(mean, color="#555555", linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        ends.append((1.0, mean, axes.get_yaxis_transform(), level.label, "#555555"))
    if log:
        axes.set_xscale("log")
    if sizes:
        margin = 0.08 * (sizes[-1] - sizes[0]) or 1.0
        axes.set_xlim(*((sizes[0] / 1.35, sizes[-1] * 1.35) if log else (sizes[0] - margin, sizes[-1] + margin)))
        crowded = not log and any(16 * (b - a) < sizes[-1] - sizes[0] for a, b in pairwise(sizes))
        axes.xaxis.set_major_locator(MaxNLocator(6) if crowded else FixedLocator(_apart(sizes) if log else sizes))
        axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.0f}")
    else:
        axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(*_limits(curves, levels, points))
    axes.set_xlabel(f"{axis} (log scale)" if log else axis)
    _dress(axes, title, note)
    canvas.draw()  # type: ignore[no-untyped-call]  # settles the scales that labels are placed by
    height = axes.bbox.height * 72 / figure.dpi
    bottom, top = axes.get_ylim()
    wanted = [(y - bottom) / (top - bottom) * height for _, y, *_ in ends]
    labels = [LINE * (1 + text.count("\n")) + GAP for *_, text, _ in ends]
    for (x, y, coordinates, text, colour), place in zip(ends, spread(wanted, labels, height), strict=True):
        axes.annotate(
            text, (x, y), xycoords=coordinates, xytext=(1.035, place / height), textcoords="axes fraction",
            color=colour, fontsize=9, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 5},
        )  # fmt: skip
    _save(figure, path)


def accuracy_bars(
    groups: Sequence[str], bars: Sequence[Curve], path: Path, title: str = "", note: str = "", least: float = 0.0
) -> None:
    """Draw accuracies in per cent as groups of bars with error bars, as a PNG or SVG, after the ending of `path`.

    Args:
        groups: their names, written below them at a slant.
        bars: per kind of bar its name, and at place i the mean and deviation in group i; sizes are not looked at.
        path: file to write.
        title, note: above and, small, below.
        least: accuracy (a fraction) that the axis starts at.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(7.2, 1.5 + 0.16 * len(groups) * (len(bars) + 1)), 4.5), dpi=160)
    axes = figure.add_axes((0.09, 0.31, 0.88, 0.53))
    width = 0.8 / len(bars)
    for number, bar in enumerate(bars):
        axes.bar(
            [place + (number - (len(bars) - 1) / 2) * width for place in range(len(groups))],
            [100 * mean for mean in bar.means], width, yerr=[100 * deviation for deviation in bar.deviations],
            color=COLOURS[number % len(COLOURS)], label=bar.label, error_kw={"elinewidth": 0.8}, capsize=1.5,
        )  # fmt: skip
    axes.set_ylim(100 * least, 101)
    axes.set_xticks(range(len(groups)), groups, rotation=40, ha="right", fontsize=8)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=min(4, len(bars)), frameon=False, fontsize=8)
    _dress(axes, title, note)
    _save(figure, path)


def _dress(axes: Any, title: str, note: str) -> None:
    """What all plots have: the axis of accuracies, its grid, words above and below."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.set_ylabel("accuracy in per cent")
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)  # a file's name may hold any sign
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.text(0.09, 0.02, note, fontsize=7.5, color="#555555")


def _save(figure: Any, path: Path) -> None:
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "pcdistill"}):  # same numbers, same file
        figure.savefig(path, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)


def spread(wanted: Sequence[float], sizes: Sequence[float], height: float) -> list[float]:
    """Centres of labels `sizes` high, in the order of those wanted and as near to them as can be without overlap.

    All lie within 0 to `height` if they fit, else they go on above it. The sum of squared moves is the least: in places
    less the room of what lies below, not to overlap is not to fall, so that it is an isotonic regression, solved by
    pooling neighbours that would fall (Barlow & Brunk 1972), and bounds only clip its solution.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    below, total = [], 0.0
    for i in order:
        below.append(total + sizes[i] / 2)
        total += sizes[i]
    pools: list[tuple[float, int]] = []  # mean and number
    for i, room in zip(order, below, strict=True):
        mean, count = wanted[i] - room, 1
        while pools and pools[-1][0] > mean:
            lower, members = pools.pop()
            mean, count = (mean * count + lower * members) / (count + members), count + members
        pools.append((mean, count))
    free = [min(max(mean, 0.0), max(height - total, 0.0)) for mean, count in pools for _ in range(count)]
    found = [0.0] * len(wanted)
    for i, place, room in zip(order, free, below, strict=True):
        found[i] = place + room
    return found


def _apart(sizes: Sequence[float]) -> list[float]:
    """Those of the sizes whose numbers have room beside one another."""
    room = (sizes[-1] / sizes[0]) ** (1 / 7)
    kept: list[float] = []
    for size in sizes:
        if not kept or size >= kept[-1] * room:
            kept.append(size)
    return kept


def _limits(curves: Sequence[Curve], levels: Sequence[Curve], points: Sequence[Point] = ()) -> tuple[float, float]:
    """Of the accuracy axis, in per cent: what is drawn and a margin, within 0 and 100."""
    drawn = [(curve.means[i], curve.deviations[i]) for curve in curves for i in range(len(curve.sizes))]
    drawn += [(level.means[0], 0.0) for level in levels] + [(point.accuracy, 0.0) for point in points]
    low, high = 100 * min(m - d for m, d in drawn), 100 * max(m + d for m, d in drawn)
    margin = max(2.0, 0.06 * (high - low))
    return max(0.0, low - margin), min(101.0, high + margin)
