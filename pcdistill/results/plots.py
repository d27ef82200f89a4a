"""Accuracy against size or another quantity, and as bars, and losses, drawn with matplotlib (the extra `plots`)."""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcdistill.results.record import Record

# Okabe & Ito's palette, which the colour-blind tell apart, without its yellow, too faint for a line; markers
# and styles go on where it ends.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
STYLES = ("-", "--", ":", "-.")
STORAGES = ("voxels", "coded", "points")  # whose lines are solid, dashed, ... where they are compared; others follow
METHODS = (
    "krr", "random", "herding", "kcenter", "medoid", "dm", "tm",
    "gm", "facility", "thrift", "ccs", "el2n", "aum", "window",
    "quantile", "dc", "dsa", "idm", "m3d", "cafe", "datadam",
    "sadm", "sadm-paper",
)  # fmt: skip
"""Methods in the order of their colours, so that each has the same one in all plots; those in a column share it."""
WIDTH = 5.4  # inches of a plot: what is written in it can be read where a telephone shows it
LEFT, RIGHT = 0.62, 0.12  # inches that its axes leave for words, and so on
BELOW, KEY, WORDS = 0.58, 0.165, 0.15
WIDE = 12.0  # inches that bars may take before those of further groups stand below
DOTS = 400  # of a line at most


class Curve(NamedTuple):
    """One line of the plot: per size the mean and the standard deviation of accuracies (fractions)."""

    label: str
    sizes: Sequence[float]  # bytes per class, or what the plot's axis is, ascending
    means: Sequence[float]
    deviations: Sequence[float]
    method: str = ""  # that decides over the colour, where a plot compares methods
    storage: str = ""  # that decides over the style, where a plot compares storages


class Look(NamedTuple):
    """How a line is drawn."""

    colour: str
    marker: str
    style: str
    face: str  # of the marker


PRINTED = "printed in papers"
NEAR = 0.15  # of a budget, what sets that were made for it may take less


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
            own[0].arm,
            own[0].storage or "",
        )
        (levels if own[0].clouds_per_class is None else curves).append(curve)
    return curves, levels


def looks(methods: Sequence[str], storages: Sequence[str] = ()) -> list[Look]:
    """Of every line: its colour by its method, others have the colours that are left; its style by its storage.

    All have colours that are left where methods do not tell the lines of a plot apart. A line that would look like
    one before it has the next style. Markers of lines that are not solid are hollow.
    """
    told = all(methods.count(one) <= len(STYLES) for one in methods if one in METHODS)
    places = [METHODS.index(one) if told and one in METHODS else None for one in methods]
    taken = {place % len(COLOURS) for place in places if place is not None}
    left = cycle([number for number in range(len(COLOURS)) if number not in taken] or range(len(COLOURS)))
    kinds = sorted(set(storages), key=lambda one: (STORAGES.index(one) if one in STORAGES else len(STORAGES), one))
    first = [kinds.index(one) for one in storages] or [0] * len(methods)
    found, used = list[Look](), set[tuple[str, str]]()
    for place, kind in zip((next(left) if place is None else place for place in places), first, strict=True):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        styles = [STYLES[(kind + again) % len(STYLES)] for again in range(len(STYLES))]
        style = next((one for one in styles if (colour, one) not in used), styles[0])
        used.add((colour, style))
        found.append(Look(colour, marker, style, colour if style == STYLES[0] else "white"))
    return found


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
    ticks: Sequence[float] = (),
) -> None:
    """Draw accuracy in per cent against bytes per class (log scale) as a PNG or SVG, after the ending of `path`.

    Names stand below, highest line first, so that nothing among the data is anything else.

    Args:
        curves: one line with error bars each.
        levels: horizontal lines, of which the first mean counts: the whole set.
        path: file to write.
        title, note: above and, small, below the axes.
        points: crosses with their names beside them.
        axis: what `sizes` are.
        log: whether on a log scale, for positive sizes, or else a linear one.
        ticks: budgets that sizes were measured at, more or less; else the sizes themselves. Those without a size near
            them are left out.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
    from matplotlib.transforms import ScaledTranslation

    labels = [line.label for line in (*curves, *levels)] + [PRINTED] * bool(points)
    figure, axes = _above_a_key(labels, title, note)
    drawn: list[tuple[float, str, Any]] = []
    shown = looks([curve.method for curve in curves], [curve.storage for curve in curves])
    for number, (curve, look) in enumerate(zip(curves, shown, strict=True)):
        # A little to the side of one another, so that error bars at one size do not hide each other.
        aside = ScaledTranslation(2.5 * (number - (len(curves) - 1) / 2) / 72, 0, figure.dpi_scale_trans)
        means = [100 * mean for mean in curve.means]
        line = axes.errorbar(
            curve.sizes, means, [100 * deviation for deviation in curve.deviations], color=look.colour,
            marker=look.marker, markersize=5, markerfacecolor=look.face,
            markeredgecolor=look.colour if look.face == "white" else "white",
            markeredgewidth=1 if look.face == "white" else 0.5, linestyle=look.style, linewidth=1.6, elinewidth=1,
            capsize=2.5, transform=axes.transData + aside,
        )  # fmt: skip
        drawn.append((means[-1], curve.label, line))
    for level in levels:
        mean = 100 * level.means[0]
        line = axes.axhline(mean, color="#555555", linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        drawn.append((mean, level.label, line))
    named = [(label, line) for _, label, line in sorted(drawn, key=lambda one: -one[0])]
    low, high = _limits(curves, levels, points)
    for number, (point, side) in enumerate(_sides(points, 0.0004 * (high - low))):
        where = (point.size, 100 * point.accuracy)
        (cross,) = axes.plot(*where, "x", color="#777777", markersize=5, markeredgewidth=1.2, zorder=1)
        axes.annotate(
            literal(point.label), where, xytext=(5 * side, 0), textcoords="offset points", va="center", fontsize=7,
            ha="left" if side > 0 else "right", color="#777777",
        )  # fmt: skip
        named += [] if number else [(PRINTED, cross)]
    sizes = sorted({size for curve in curves for size in curve.sizes} | {point.size for point in points})
    if log:
        axes.set_xscale("log")
    if sizes:
        more = 1.8 if points else 1.35  # names of crosses stand beside them
        margin = 0.08 * (sizes[-1] - sizes[0]) or 1.0
        axes.set_xlim(*((sizes[0] / 1.35, sizes[-1] * more) if log else (sizes[0] - margin, sizes[-1] + margin)))
        own = sorted({size for curve in curves for size in curve.sizes}) or sizes
        near = [tick for tick in ticks if any(abs(size / tick - 1) < NEAR for size in sizes)]
        crowded = not log and any(16 * (b - a) < sizes[-1] - sizes[0] for a, b in pairwise(sizes))
        places = near or (measured(own) if log else own)
        axes.xaxis.set_major_locator(MaxNLocator(6) if crowded else FixedLocator(places))
        axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.0f}")
    else:
        axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)
    axes.set_xlabel(f"{axis} (log scale)" if log else axis)
    _percent(axes)
    _dress(axes, title, note)
    _key(axes, named, note)
    save(figure, path)


def loss_plot(
    losses: Mapping[str, Sequence[float]],
    path: Path,
    title: str = "",
    note: str = "",
    methods: Sequence[str] = (),
) -> None:
    """Draw losses against steps as a PNG or SVG, after the ending of `path`.

    The scale is logarithmic where all losses are positive and span more than a decade. Of many steps a dot is the mean
    of a few that follow one another.

    Args:
        losses: by name, one line each, at least one step.
        path: file to write.
        title, note: above and, small, below the axes.
        methods: of every line, which decide over colours.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    figure, axes = _above_a_key(list(losses), title, note)
    lines, named = {name: averaged(own) for name, own in losses.items()}, list[tuple[str, Any]]()
    for (name, (steps, values)), look in zip(lines.items(), looks(methods or [""] * len(lines)), strict=True):
        marker = look.marker if len(steps) == 1 else ""
        (line,) = axes.plot(
            steps, values, marker=marker, markersize=5, color=look.colour, linestyle=look.style, linewidth=1.2
        )
        named.append((name, line))
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
    _key(axes, named, note)
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
    width, shown = 0.8 / len(bars), looks([bar.method for bar in bars])
    for line in range(lines):
        bottom = (lines - line) * names + (lines - line - 1) * tall
        axes = figure.add_axes((0.648 / wide, bottom / high, 1 - 0.864 / wide, tall / high))
        own = slice(line * room, (line + 1) * room)
        for number, bar in enumerate(bars):
            means, deviations = list(bar.means)[own], list(bar.deviations)[own]
            axes.bar(
                [place + (number - (len(bars) - 1) / 2) * width for place in range(len(means))],
                [100 * mean for mean in means], width, yerr=[100 * deviation for deviation in deviations],
                color=shown[number].colour, label=literal(bar.label), error_kw={"elinewidth": 0.8},
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


def _above_a_key(labels: Sequence[str], title: str, note: str) -> tuple[Any, Any]:
    """A figure and its axes, with room below for the names of lines and above for the title."""
    from matplotlib.figure import Figure

    above = 0.12 + 0.2 * len(_title(title).splitlines())
    below = _below(labels, note)
    high = above + 2.9 + below
    figure = Figure(figsize=(WIDTH, high), dpi=200)
    return figure, figure.add_axes((LEFT / WIDTH, below / high, 1 - (LEFT + RIGHT) / WIDTH, 2.9 / high))


def _columns(labels: Sequence[str]) -> int:
    """That names of lines stand in."""
    longest = max(map(len, labels), default=1)
    return max(1, min(3, len(labels), int(WIDTH / (0.45 + 0.075 * longest))))


def _below(labels: Sequence[str], note: str) -> float:
    """Inches below the axes."""
    return BELOW + KEY * -(-len(labels) // _columns(labels)) + WORDS * len(_words(note).splitlines()) + 0.1


def _key(axes: Any, named: Sequence[tuple[str, Any]], note: str) -> None:
    """The names of lines, below the axes."""
    wide, high = axes.figure.get_size_inches()
    labels = [label for label, _ in named]
    top = _below(labels, note) - BELOW + 0.05
    legend = axes.figure.legend(
        [line for _, line in named], ["-"] * len(named), loc="upper left", bbox_to_anchor=(0.1 / wide, top / high),
        ncols=_columns(labels), frameon=False, fontsize=8.5, borderaxespad=0, borderpad=0, handlelength=2.2,
        columnspacing=1.2, labelspacing=0.35,
    )  # fmt: skip
    for text, label in zip(legend.get_texts(), labels, strict=True):  # it would leave out those that begin with _
        text.set_text(literal(label))


def _title(title: str) -> str:
    return "\n".join(textwrap.wrap(title, 58))


def _words(note: str) -> str:
    return "\n".join(textwrap.wrap(note, 92))


def luminance(colour: Sequence[float]) -> float:
    """Of a colour (sRGB in [0, 1]), from 0 for black to 1 for white, as WCAG 2 reckons it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _percent(axes: Any) -> None:
    """Have the axis of accuracies in whole per cent."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    axes.set_ylabel("accuracy in per cent")


def _dress(axes: Any, title: str, note: str, legend: float = 0.0) -> None:
    """What all plots have: a grid, words above (a legend of so many points between) and below."""
    wide, high = axes.figure.get_size_inches()
    narrow = wide == WIDTH
    axes.set_title(literal(_title(title) if narrow else title), loc="left", fontsize=10, pad=6 + legend)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    words = literal(_words(note) if narrow else note)
    axes.figure.text(0.1 / wide if narrow else 0.648 / wide, 0.09 / high, words, fontsize=7.5, color="#555555")


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG or SVG: same numbers, same file."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "pcdistill"}):
        figure.savefig(path, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)


def measured(sizes: Sequence[float]) -> list[float]:
    """Of ascending sizes those that budgets are told by: of near ones the largest, where numbers have room."""
    groups: list[list[float]] = []
    for size in sizes:
        if groups and size * (1 - NEAR) < groups[-1][0]:
            groups[-1].append(size)
        else:
            groups.append([size])
    return _apart([group[-1] for group in groups])


def _apart(sizes: Sequence[float]) -> list[float]:
    """Those of the sizes whose numbers have room beside one another."""
    room = (sizes[-1] / sizes[0]) ** (1 / 8)
    kept: list[float] = []
    for size in sizes:
        if not kept or size >= kept[-1] * room:
            kept.append(size)
    return kept


def _sides(points: Sequence[Point], room: float) -> Iterator[tuple[Point, int]]:
    """Points, ascending, and on which side their names stand: right (1), or left (-1) of one that is `room` below."""
    below: dict[tuple[float, int], float] = {}  # the last accuracy, by size and side
    for point in sorted(points, key=lambda point: (point.size, point.accuracy)):
        right, left = (below.get((point.size, side), -math.inf) for side in (1, -1))
        side = 1 if point.accuracy - right > room or right <= left else -1
        below[point.size, side] = point.accuracy
        yield point, side


def _limits(curves: Sequence[Curve], levels: Sequence[Curve], points: Sequence[Point] = ()) -> tuple[float, float]:
    """Of the accuracy axis, in per cent: what is drawn and a margin, within 0 and 100."""
    drawn = [(curve.means[i], curve.deviations[i]) for curve in curves for i in range(len(curve.sizes))]
    drawn += [(level.means[0], 0.0) for level in levels] + [(point.accuracy, 0.0) for point in points]
    low, high = 100 * min(m - d for m, d in drawn), 100 * max(m + d for m, d in drawn)
    margin = max(2.0, 0.06 * (high - low))
    return max(0.0, low - margin), min(101.0, high + margin)
