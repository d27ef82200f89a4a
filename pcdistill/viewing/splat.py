"""The builtin renderer: spheres splatted into a z-buffer with NumPy, nothing else needed."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pcdistill.viewing.scene import DISTANCE, SUPERSAMPLING, Floats, Tile, shade, shrink

_EMPTY = np.uint64(2**64 - 1)
_DOWNWARDS = np.array([1, -1], dtype=np.float32)  # rows of a picture count down, y counts up
_PIXELS_AT_ONCE = 1_000_000


def render(tiles: Sequence[Tile], focal: float, size: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures `(size, size, 4)` of the tiles: RGBA, colours premultiplied by alpha."""
    for tile in tiles:
        yield shrink(_draw(tile, focal, size * SUPERSAMPLING))


def _draw(tile: Tile, focal: float, side: int) -> NDArray[np.uint8]:
    # In a fixed order of points, ties in depth are decided alike however the cloud is permuted.
    order = np.lexsort(np.concatenate([tile.points, tile.colours], axis=1).T)
    points, colours = tile.points[order], tile.colours[order]
    scale = np.float32(focal * side / 2) / (DISTANCE - points[:, 2])
    centre = np.float32(side / 2) + points[:, :2] * scale[:, None] * _DOWNWARDS
    radius = tile.radius * scale

    nearest = np.full(side * side, _EMPTY)
    window = int(np.ceil(2 * radius.max())) + 1
    step = max(1, _PIXELS_AT_ONCE // window**2)
    for first in range(0, len(points), step):
        part = slice(first, first + step)
        pixel, bulge, owner = _covered(centre[part], radius[part], window, side)
        owner += first
        depth = DISTANCE - points[owner, 2] - tile.radius * bulge
        np.minimum.at(nearest, pixel, _key(depth, owner))

    hit = np.flatnonzero(nearest != _EMPTY)
    owner = (nearest[hit] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    normals = _normals(hit, centre[owner], radius[owner], side)
    image = np.zeros((side * side, 4), dtype=np.uint8)
    image[hit, :3] = shade(colours[owner], normals) * 255 + 0.5
    image[hit, 3] = 255
    return image.reshape(side, side, 4)


def _covered(
    centre: Floats, radius: Floats, window: int, side: int
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Every (pixel, sphere) pair where the sphere covers the pixel's middle.

    Returns flat pixel indices, the sphere's height over its own disc (0 at the rim, 1 in the middle)
    and its index.
    """
    corner = np.floor(centre - radius[:, None]).astype(np.int64)
    steps = np.arange(window)
    x, y = corner[:, 0, None] + steps, corner[:, 1, None] + steps
    across = ((x + 0.5 - centre[:, 0, None]) / radius[:, None]) ** 2
    down = ((y + 0.5 - centre[:, 1, None]) / radius[:, None]) ** 2
    across[(x < 0) | (x >= side)] = 2.0
    down[(y < 0) | (y >= side)] = 2.0
    inside = 1 - across[:, None, :] - down[:, :, None]
    owner, row, column = np.nonzero(inside > 0)
    pixel = y[owner, row] * side + x[owner, column]
    return pixel, np.sqrt(inside[owner, row, column]), owner


def _key(depth: Floats, owner: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Sortable key: depth first (positive floats order like their bits), then the point's index."""
    bits = depth.astype(np.float32).view(np.uint32).astype(np.uint64)
    return (bits << np.uint64(32)) | owner.astype(np.uint64)


def _normals(pixel: NDArray[np.int64], centre: Floats, radius: Floats, side: int) -> Floats:
    x = (pixel % side + 0.5 - centre[:, 0]) / radius
    y = (centre[:, 1] - (pixel // side + 0.5)) / radius
    return np.stack([x, y, np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))], axis=1).astype(np.float32)
