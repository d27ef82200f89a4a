"""Accuracy against size or another quantity, and as bars, and losses, drawn with matplotlib (the extra `plots`)."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcdistill.results.record import Record

# Okabe & Ito's palette, which the colour-blind tell apart, without its yellow, too faint for a line; markers
# and styles go on where it ends.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
STYLES = ("-", "--", ":")
LINE = 11.5  # height of a line of a label in points, and
GAP = 1.5  # the space between two labels
ROOM = 18  # characters of a line beside a plot
BELOW, ABOVE = 0.765, 0.45  # inches of a plot that its axes leave for words
WIDE = 12.0  # inches that bars may take before those of further groups stand below
DOTS = 400  # of a line at most


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


def curves_of(records: Sequence[Record], names: Sequence[str]) -> tuple[list[Curve], list[Curve]]:
    """A curve for every name, in order, by bytes per class; and levels, whose records have no clouds per class."""
    groups: dict[str, list[Record]] = {name: [] for name in names}
    for record, name in zip(records, names, strict=True):
        groups[name].append(record)
    curves: list[Curve] = []
    levels: list[Curve] = []
    for name, group in groups.items():
        own = sorted(group, key=lambda record: record.bytes_per_class)
        curve = Curve(
            name,
            [record.bytes_per_class for record in own],
            [record.accuracy_mean for record in own],
            [record.accuracy_std for record in own],
        )
        (levels if own[0].clouds_per_class is None else curves).append(curve)
    return curves, levels


def wrapped(label: str) -> str:
    """A label in as many lines as it takes beside a plot; after a comma there is a new one."""
    return "\n".join(line for part in label.split(", ") for line in textwrap.wrap(part, ROOM))


def literal(text: str) -> str:
    """Text as matplotlib draws it sign by sign: names come from files, and `$` would begin a formula."""
    shown = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in text)
    return shown.replace("$", r"\$")


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
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
    from matplotlib.transforms import ScaledTranslation

    figure, axes = _beside([curve.label for curve in (*curves, *levels)])
    ends: list[End] = []
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        # A little to the side of one another, so that error bars at one size do not hide each other.
        aside = ScaledTranslation(3.5 * (number - (len(curves) - 1) / 2) / 72, 0, figure.dpi_scale_trans)
        means = [100 * mean for mean in curve.means]
        axes.errorbar(
            curve.sizes, means, [100 * deviation for deviation in curve.deviations], color=colour,
            marker=MARKERS[number % len(MARKERS)], markersize=5, markeredgecolor="white", markeredgewidth=0.5,
            linestyle=_style(number), linewidth=1.6, elinewidth=1, capsize=2.5, transform=axes.transData + aside,
        )  # fmt: skip
        ends.append(End(curve.sizes[-1], means[-1], axes.transData + aside, curve.label, colour))
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
        ends.append(End(1.0, mean, axes.get_yaxis_transform(), level.label, "#555555"))
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
    _percent(axes)
    _dress(axes, title, note)
    _name(axes, ends)
    save(figure, path)


def loss_plot(losses: Mapping[str, Sequence[float]], path: Path, title: str = "", note: str = "") -> None:
    """Draw losses against steps as a PNG or SVG, after the ending of `path`.

    The scale is logarithmic where all losses are positive and span more than a decade. Of many steps a dot is the mean
    of a few that follow one another.

    Args:
        losses: by name, one line each, at least one step.
        path: file to write.
        title, note: above and, small, below the axes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    figure, axes = _beside(list(losses))
    ends: list[End] = []
    lines = {name: averaged(own) for name, own in losses.items()}
    for number, (name, (steps, values)) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number % len(MARKERS)] if len(steps) == 1 else ""
        axes.plot(steps, values, marker=marker, markersize=5, color=colour, linestyle=_style(number), linewidth=1.2)
        ends.append(End(steps[-1], values[-1], axes.transData, name, colour))
    drawn = [value for _, values in lines.values() for value in values]
    if 0 < 10 * min(drawn) < max(drawn):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylabel("loss (log scale)")
    else:
        axes.set_ylabel("loss")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.set_xlabel("step")
    _dress(axes, title, note)
    _name(axes, ends)
    save(figure, path)


def averaged(losses: Sequence[float], most: int = DOTS) -> tuple[list[float], list[float]]:
    """At most so many dots of a line: the mean step, from 1 on, and the mean loss of equally many steps each.

    >>> averaged([4.0, 2.0, 1.0], most=2)
    ([1.5, 3.0], [3.0, 1.0])
    """
    starts = np.arange(0, len(losses), -(-len(losses) // most))
    counts = np.diff(starts, append=len(losses))
    steps = np.add.reduceat(np.arange(1.0, len(losses) + 1), starts) / counts
    return steps.tolist(), (np.add.reduceat(np.asarray(losses, np.float64), starts) / counts).tolist()


def accuracy_bars(
    groups: Sequence[str], bars: Sequence[Curve], path: Path, title: str = "", note: str = "", least: float = 0.0
) -> None:
    """Draw accuracies in per cent as groups of bars with error bars, as a PNG or SVG, after the ending of `path`.

    Where a line of bars would be too wide, further groups stand below in lines of their own.

    Args:
        groups: their names, written below them at a slant.
        bars: per kind of bar its name, and at place i the mean and deviation in group i (NaN for none); sizes are not
            looked at.
        path: file to write.
        title, note: above and, small, below.
        least: accuracy (a fraction) that the axis starts at.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    room = max(1, int((WIDE - 1.5) / (0.16 * (len(bars) + 1))))  # groups in a line
    lines = -(-len(groups) // room)
    room = -(-len(groups) // lines)
    wide = max(7.2, 1.5 + 0.16 * room * (len(bars) + 1))
    columns = max(1, min(4, len(bars), int(14 * wide / (8 + max(len(bar.label) for bar in bars)))))
    legend = 0.18 * -(-len(bars) // columns)  # inches, and so on
    names = 0.4 + 0.055 * max(map(len, groups))
    tall = 3.78 - names if lines == 1 else 2.2
    high = 0.54 + legend + lines * (tall + names)
    figure = Figure(figsize=(wide, high), dpi=160)
    width = 0.8 / len(bars)
    for line in range(lines):
        bottom = (lines - line) * names + (lines - line - 1) * tall
        axes = figure.add_axes((0.648 / wide, bottom / high, 1 - 0.864 / wide, tall / high))
        own = slice(line * room, (line + 1) * room)
        for number, bar in enumerate(bars):
            means, deviations = list(bar.means)[own], list(bar.deviations)[own]
            axes.bar(
                [place + (number - (len(bars) - 1) / 2) * width for place in range(len(means))],
                [100 * mean for mean in means], width, yerr=[100 * deviation for deviation in deviations],
                color=COLOURS[number % len(COLOURS)], label=literal(bar.label), error_kw={"elinewidth": 0.8},
                capsize=1.5,
            )  # fmt: skip
        axes.set_ylim(100 * least, 101)
        axes.set_xlim(-0.6, room - 0.4)
        axes.set_xticks(range(len(groups[own])), map(literal, groups[own]), rotation=40, ha="right", fontsize=8)
        _percent(axes)
        _dress(axes, "" if line else title, note if line == lines - 1 else "", 72 * legend)
    figure.axes[0].legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=8, borderaxespad=0.2
    )
    save(figure, path)


class End(NamedTuple):
    """Where a line ends that is to be named, in which coordinates, and its name and colour."""

    x: float
    y: float
    coordinates: Any
    label: str
    colour: str


def _beside(labels: Sequence[str]) -> tuple[Any, Any]:
    """A figure and its axes with room at their right for these labels: higher than usual if there are many."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    high = max(4.5, sum(map(_height, labels)) / 72 + BELOW + ABOVE)
    figure = Figure(figsize=(7.2, high), dpi=160)
    FigureCanvasAgg(figure)
    return figure, figure.add_axes((0.09, BELOW / high, 0.70, 1 - (BELOW + ABOVE) / high))


def _height(label: str) -> float:
    """Of a label beside a plot, in points."""
    return LINE * (1 + label.count("\n")) + GAP


def _name(axes: Any, ends: Sequence[End]) -> None:
    """Write the names of lines beside their ends, apart from one another."""
    figure = axes.figure
    figure.canvas.draw()  # settles the scales that labels are placed by
    height = axes.bbox.height * 72 / figure.dpi
    # In the scale's own terms, which may be logarithms.
    inside = axes.transAxes.inverted()
    wanted = [inside.transform(end.coordinates.transform((end.x, end.y)))[1] * height for end in ends]
    for end, place in zip(ends, spread(wanted, [_height(end.label) for end in ends], height), strict=True):
        axes.annotate(
            literal(end.label), (end.x, end.y), xycoords=end.coordinates, xytext=(1.035, place / height),
            textcoords="axes fraction", color=legible(end.colour), fontsize=9, va="center", annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": end.colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 5,
            },
        )  # fmt: skip


def luminance(colour: Sequence[float]) -> float:
    """Of a colour (sRGB in [0, 1]), from 0 for black to 1 for white, as WCAG 2 reckons it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def legible(colour: str) -> str:
    """A colour, darkened as far as small text on white needs: a contrast of 4.5 (WCAG 2)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    while 1.05 / (luminance(parts) + 0.05) < 4.5:
        parts = [0.97 * part for part in parts]
    return "#" + "".join(f"{int(255 * part):02x}" for part in parts)


def _style(number: int) -> Any:
    """Of the line with this number: colours come again in another style."""
    return STYLES[number // len(COLOURS) % len(STYLES)]


def _percent(axes: Any) -> None:
    """Have the axis of accuracies in whole per cent."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.set_ylabel("accuracy in per cent")


def _dress(axes: Any, title: str, note: str, legend: float = 0.0) -> None:
    """What all plots have: a grid, words above (a legend of so many points between) and below."""
    axes.set_title(literal(title), loc="left", fontsize=11, pad=6 + legend)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    wide, high = axes.figure.get_size_inches()
    axes.figure.text(0.648 / wide, 0.09 / high, literal(note), fontsize=7.5, color="#555555")


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG or SVG: same numbers, same file."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "pcdistill"}):
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
