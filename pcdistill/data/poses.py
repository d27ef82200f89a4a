"""Whether the clouds of a class stand alike, told by what their spreads have in common."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pcdistill.data.prepare import Floats

LEAST = 3  # clouds of a class that are compared
SHARE = 1 / 3  # of what tells directions apart that has to be common, for poses to be alike
FAINT = 0.02  # mean square below which shapes do not tell directions apart, or no more than a draw of few points does


def spread(points: Floats) -> NDArray[np.float64]:
    """Covariance `(3, 3)` of the points `(P, 3)` of a cloud, of trace 1; zeros where all coincide."""
    wide = points.astype(np.float64)
    wide /= max(np.abs(wide).max(), np.finfo(np.float64).tiny)
    wide -= wide.mean(axis=0)
    found: NDArray[np.float64] = wide.T @ wide
    found /= max(np.trace(found), np.finfo(np.float64).tiny)
    return found


def turned(spreads: Sequence[NDArray[np.float64]], labels: Sequence[str]) -> Literal["none", "z", "so3"]:
    """The rotations that clouds of the same class differ by, as far as spreads show it.

    Of a class that stands alike, spreads are alike: their mean has all of what tells directions apart. Under random
    rotations it has none. What is looked at is z against x and y, which rotations about any axis average out, and x
    against y, which rotations about z do.

    Args:
        spreads: of clouds, z up.
        labels: of their classes.
    """
    stacked, names = np.reshape(spreads, (-1, 3, 3)), np.array(labels)
    upright = 2 * (stacked[:, 2, 2] - 1 / 3)  # as large as what a draw of points makes of `level`
    level = stacked[:, 0, 0] - stacked[:, 1, 1] + 2j * stacked[:, 0, 1]
    if _apart(upright, names):
        return "so3"
    return "z" if _apart(level, names) else "none"


def _apart(values: NDArray[np.inexact], names: NDArray[np.str_]) -> bool:
    """Whether values of the same class have little in common: the square of their mean beside their mean square."""
    common = total = count = 0.0
    for name in np.unique(names):
        own = values[names == name]
        size, squares = len(own), float((np.abs(own) ** 2).sum())
        if size >= LEAST:
            # Without what each value has in common with itself.
            common += (float(np.abs(own.sum()) ** 2) - squares) / (size - 1)
            total, count = total + squares, count + size
    return total > FAINT * count and common < SHARE * total
