"""Accuracy against size, drawn with matplotlib (the extra `plots`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Okabe & Ito's palette, which the colour-blind tell apart, without its yellow, too faint for a line; markers
# and styles go on where it ends.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
STYLES = ("-", "--", ":")
GAP = 13.0  # points between the baselines of two labels


class Curve(NamedTuple):
    """One line of the plot: per size the mean and the standard deviation of accuracies (fractions)."""

    label: str
    sizes: Sequence[float]  # bytes per class, ascending
    means: Sequence[float]
    deviations: Sequence[float]


def accuracy_plot(
    curves: Sequence[Curve], levels: Sequence[Curve], path: Path, title: str = "", note: str = ""
) -> None:
    """Draw accuracy in per cent against bytes per class (log scale) as a PNG.

    Args:
        curves: one line with error bars each, named at its right end in its own colour.
        levels: horizontal lines, of which the first mean counts: the whole set.
        path: file to write.
        title, note: above and, small, below the axes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator
    from matplotlib.transforms import ScaledTranslation

    figure = Figure(figsize=(7.2, 4.5), dpi=160)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.09, 0.17, 0.70, 0.73))
    ends: list[tuple[float, float, str, str]] = []  # x, y, text, colour
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
        ends.append((curve.sizes[-1], means[-1], curve.label, colour))
    sizes = sorted({size for curve in curves for size in curve.sizes})
    for level in levels:
        mean = 100 * level.means[0]
        axes.axhline(mean, color="#555555", linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)
        ends.append((0.0, mean, level.label, "#555555"))
    axes.set_xscale("log")
    if sizes:
        axes.set_xlim(sizes[0] / 1.35, sizes[-1] * 1.35)
        axes.xaxis.set_major_locator(FixedLocator(_apart(sizes)))
        axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.0f}")
    else:
        axes.xaxis.set_major_locator(NullLocator())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(*_limits(curves, levels))
    axes.set_xlabel("bytes per class (log scale)")
    axes.set_ylabel("accuracy in per cent")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.09, 0.02, note, fontsize=7.5, color="#555555")
    canvas.draw()  # type: ignore[no-untyped-call]  # settles the scales that labels are placed by
    height = axes.bbox.height * 72 / figure.dpi
    bottom, top = axes.get_ylim()
    wanted = [(y - bottom) / (top - bottom) * height for _, y, _, _ in ends]
    for (x, y, text, colour), place in zip(ends, spread(wanted, GAP, height), strict=True):
        axes.annotate(
            text, (x, y) if x else (1.0, y), xycoords="data" if x else axes.get_yaxis_transform(),
            xytext=(1.035, place / height), textcoords="axes fraction", color=colour, fontsize=9, va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 1, "shrinkB": 5},
        )  # fmt: skip
    figure.savefig(path, format="png")


def spread(wanted: Sequence[float], gap: float, height: float) -> list[float]:
    """Places in the order of those wanted, near them, at least `gap` apart and, if they fit, within 0 to `height`."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [wanted[i] for i in order]
    for _ in range(200):  # push neighbours apart until none is too close
        moved = False
        for low in range(len(places) - 1):
            lack = gap - (places[low + 1] - places[low])
            if lack > 1e-6:
                places[low] -= lack / 2
                places[low + 1] += lack / 2
                moved = True
        if not moved:
            break
    if places:
        shift = max(0.0, -places[0]) - max(0.0, places[-1] - height)
        places = [place + shift for place in places]
    found = [0.0] * len(wanted)
    for i, place in zip(order, places, strict=True):
        found[i] = place
    return found


def _apart(sizes: Sequence[float]) -> list[float]:
    """Those of the sizes whose numbers have room beside one another."""
    room = (sizes[-1] / sizes[0]) ** (1 / 7)
    kept: list[float] = []
    for size in sizes:
        if not kept or size >= kept[-1] * room:
            kept.append(size)
    return kept


def _limits(curves: Sequence[Curve], levels: Sequence[Curve]) -> tuple[float, float]:
    """Of the accuracy axis, in per cent: what is drawn and a margin, within 0 and 100."""
    drawn = [(curve.means[i], curve.deviations[i]) for curve in curves for i in range(len(curve.sizes))]
    drawn += [(level.means[0], 0.0) for level in levels]
    low, high = 100 * min(m - d for m, d in drawn), 100 * max(m + d for m, d in drawn)
    margin = max(1.0, 0.06 * (high - low))
    return max(0.0, low - margin), min(101.0, high + margin)
