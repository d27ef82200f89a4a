"""A confusion matrix as a picture, drawn with matplotlib (the extra `plots`)."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.results.plots import literal, luminance, save

NUMBERED = 15  # classes of which the cells have room for their numbers
LONGEST = 24  # characters of a class name


def confusion_plot(
    matrix: Sequence[Sequence[int]], class_names: Sequence[str], path: Path, title: str = "", note: str = ""
) -> None:
    """Draw what the clouds of a class (line) are taken for (column) in per cent, as a PNG or SVG after `path`'s ending.

    Numbers stand in the cells of at most 15 classes, but for those that are nought.

    Args:
        matrix: counts `(C, C)`.
        class_names: of lines and columns.
        path: file to write.
        title, note: above and, small, below.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    shares, classes = 100 * row_shares(matrix), len(class_names)
    names = [literal(_short(name)) for name in class_names]
    numbered = classes <= NUMBERED
    cell = 0.4 if numbered else 0.19  # inches, and so on
    size = 8 if numbered else 7
    words = 0.25 + 0.0095 * size * max(map(len, names))  # room for the longest name
    side = max(2.2, cell * classes)
    wide = words + side + 0.65
    above = textwrap.wrap(title, int(11 * wide)) or [""]
    top = 0.2 + 0.19 * len(above)
    below = words + (0.45 if note else 0.2)
    high = top + side + below
    figure = Figure(figsize=(wide, high), dpi=120)
    axes = figure.add_axes((words / wide, below / high, side / wide, side / high))
    colours = colormaps["Blues"]
    image = axes.imshow(shares, cmap=colours, vmin=0, vmax=100, interpolation="none")
    axes.set_xticks(range(classes), names, rotation=90, fontsize=size)
    axes.set_yticks(range(classes), names, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_color("#bbbbbb")
    axes.set_xlabel("taken for", fontsize=size + 1)
    if numbered:
        for i, j in np.argwhere(np.asarray(matrix) > 0):
            axes.text(
                j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=8,
                color=_ink(colours(shares[i, j] / 100)),
            )  # fmt: skip
    scale = figure.add_axes(((words + side + 0.12) / wide, below / high, 0.12 / wide, side / high))
    figure.colorbar(image, cax=scale, ticks=[0, 50, 100]).ax.tick_params(labelsize=size, length=2)
    figure.text(0.1 / wide, 1 - 0.08 / high, literal("\n".join(above)), fontsize=10, va="top")
    figure.text(0.1 / wide, 0.08 / high, literal(note), fontsize=7.5, color="#555555")
    save(figure, path)


def row_shares(matrix: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Of counts `(C, C)` the fraction of each in its line; NaN in lines without any."""
    counts = np.asarray(matrix, dtype=np.float64)
    totals = counts.sum(1, keepdims=True)
    shares = np.full_like(counts, np.nan)
    np.divide(counts, totals, out=shares, where=totals > 0)
    return shares


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 3] + "..."


def _ink(colour: Sequence[float]) -> str:
    """Black or white, whichever has more contrast on a colour."""
    return "black" if luminance(colour) > 0.179 else "white"
