"""What both renderers share: the camera, the colours, the light and the size of a point.

Frames. World: z up. View: x to the right, y up, z towards the eye, which sits at `(0, 0, DISTANCE)`.
A view point `(x, y, z)` lands at `focal * (x, y) / (DISTANCE - z)`, in half tiles from the tile's centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

DISTANCE = 5.0  # in units of the largest cloud's half extent: a weak perspective
HAZE = 0.25  # how much of its colour the farthest point loses to the paper
MARGIN = 0.93  # share of a tile that the largest cloud may fill
SUPERSAMPLING = 2
DARKEST = 0.02  # of what is drawn, in sRGB: black marks the pixels that Open3D left empty
_SHADOW_PIXELS = 96
# Of parts, sRGB: hues that stay apart when spheres are lit, on white and on dark, and from the grey of real clouds. The
# first six begin with those of Okabe & Ito, which the colour-blind tell apart.
PART_COLOURS = np.array(
    [
        [0, 114, 178], [240, 140, 20], [0, 158, 115], [211, 60, 38], [204, 121, 167], [86, 180, 233],
        [123, 63, 228], [98, 192, 31], [224, 47, 208], [138, 90, 58], [205, 196, 28], [142, 38, 112],
    ],
    dtype=np.float32,
) / np.float32(255)  # fmt: skip
AZIMUTH, ELEVATION = np.deg2rad(-58.0), np.deg2rad(24.0)  # of the eye, three quarters to the front


def _unit(x: float, y: float, z: float) -> Floats:
    vector = np.array([x, y, z], dtype=np.float32)
    return vector / np.linalg.norm(vector)


LIGHT = _unit(-0.45, 0.75, 0.65)  # view frame: over the viewer's left shoulder
HALFWAY = _unit(*(LIGHT + np.array([0.0, 0.0, 1.0])))


@dataclass(frozen=True)
class Tile:
    """One cloud ready to be drawn: spheres in the view frame.

    Args:
        points: `(P, 3)` float32, centred on the middle of the cloud's extent.
        colours: `(P, 3)` float32 sRGB in [0, 1].
        radius: of every sphere, in the unit of `points`.
        floor: level of the lowest sphere's underside along `UP`, where the shadow falls.
    """

    points: Floats
    colours: Floats
    radius: float
    floor: float


def view_rotation() -> Floats:
    """`(3, 3)` matrix that takes world vectors (z up) to the view frame."""
    backward = np.array([np.cos(ELEVATION) * np.cos(AZIMUTH), np.cos(ELEVATION) * np.sin(AZIMUTH), np.sin(ELEVATION)])
    right = np.array([-np.sin(AZIMUTH), np.cos(AZIMUTH), 0.0])
    return np.stack([right, np.cross(backward, right), backward]).astype(np.float32)


UP = view_rotation()[:, 2]  # the world's z axis in the view frame


def point_radius(points: int) -> float:
    """Sphere radius, in half extents of the cloud, that lets `points` of them read as a surface."""
    return float(np.clip(0.40 * points**-0.4, 0.006, 0.075))


@dataclass(frozen=True)
class Framing:
    """How clouds are placed before the camera, the same for all pictures of an animation, so that nothing jumps.

    Args:
        middles: `(N, 3)` in the view frame, unit of the clouds: what stands in the middle of each tile.
        extent: in the same unit; what becomes 1 in a `Tile`.
        floors: per cloud the level of the floor along `UP`, in units of `extent`.
        focal: the one focal length that fits all.
    """

    middles: Floats
    extent: float
    floors: tuple[float, ...]
    focal: float


def framed(paths: Sequence[Floats]) -> Framing:
    """The framing of clouds `(P, 3)`, z up, that stand still or of paths `(T, P, 3)` that they take."""
    rotation = view_rotation()
    views = [np.atleast_2d(path).reshape(-1, path.shape[-2], 3) @ rotation.T for path in paths]
    middles = np.stack([(view.min((0, 1)) + view.max((0, 1))) / 2 for view in views])
    # A set of coincident points has no extent; any positive unit shows it as a single sphere.
    extent = max(float(np.abs(view - middle).max()) for view, middle in zip(views, middles, strict=True)) or 1.0
    floors, focal = [], MARGIN * DISTANCE
    for view, middle in zip(views, middles, strict=True):
        points, radius = (view - middle) / extent, point_radius(view.shape[1])
        floors.append(float((points @ UP).min()) - radius)
        outline = np.abs(points[..., :2]).max(-1) + radius
        focal = min(focal, MARGIN / float((outline / (DISTANCE - points[..., 2])).max()))
    return Framing(middles.astype(np.float32), extent, tuple(floors), focal)


def make_tiles(
    clouds: Sequence[Floats],
    paper: tuple[int, int, int] = (255, 255, 255),
    colours: Sequence[Floats] | None = None,
    framing: Framing | None = None,
) -> tuple[list[Tile], float]:
    """Tiles of world clouds `(P, 3)`, z up, and the one focal length that fits them all.

    All clouds keep their relative size; each is centred on the middle of its extent. What lies behind
    fades a little into the paper's colour.

    Args:
        clouds: `(P, 3)` float32 each.
        paper: sRGB.
        colours: `(P, 3)` sRGB in [0, 1] of each; those of the height within the cloud if not given.
        framing: of these clouds, if not their own.
    """
    framing = framed(clouds) if framing is None else framing
    colours = [height_colours(cloud[:, 2]) for cloud in clouds] if colours is None else colours
    rotation, haze = view_rotation(), np.array([level / 255 for level in paper], dtype=np.float32)
    tiles = []
    for cloud, paint, middle, floor in zip(clouds, colours, framing.middles, framing.floors, strict=True):
        points = (cloud @ rotation.T - middle) / np.float32(framing.extent)
        behind = np.clip((0.6 - points[:, 2:]) / 1.2, 0, 1)
        tiles.append(Tile(points, paint + HAZE * behind * (haze - paint), point_radius(len(points)), floor))
    return tiles, framing.focal


def height_colours(height: Floats) -> Floats:
    """`(P, 3)` sRGB colours of `(P,)` heights, from deep blue (lowest) to yellow (highest)."""
    low, high = float(height.min()), float(height.max())
    return colour_map((height - low) / max(high - low, 1e-12))


def colour_map(share: Floats) -> Floats:
    """sRGB in [0, 1] for shares in [0, 1]: `(P,)` to `(P, 3)`.

    Lightness and hue grow evenly at constant chroma in OKLab (Ottosson 2020, "A perceptual color space for
    image processing"), so equal steps look equal.
    """
    lightness = 0.42 + 0.44 * share
    hue = np.deg2rad(285.0 - 190.0 * share)
    lab = np.stack([lightness, 0.135 * np.cos(hue), 0.135 * np.sin(hue)], axis=-1)
    to_cone = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_cone.T) ** 3 @ to_rgb.T, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(rgb, dtype=np.float32)


def shade(colours: Floats, normals: Floats) -> Floats:
    """sRGB of lit spheres, clipped to [0, 1]: colours and view-frame unit normals `(..., 3)`.

    A wrapped diffuse light, a darker rim that sets neighbouring spheres apart, and a soft highlight.
    """
    gain, gloss = light(normals)
    return np.asarray(np.clip(colours * gain[..., None] + gloss[..., None], DARKEST, 1.0), dtype=np.float32)


def light(normals: Floats) -> tuple[Floats, Floats]:
    """What a colour is multiplied by and what is added, at view-frame unit normals `(..., 3)`."""
    diffuse = 0.5 + 0.5 * (normals @ LIGHT)
    rim = 0.70 + 0.30 * np.clip(normals[..., 2], 0, 1)
    return (0.42 + 0.72 * diffuse) * rim, 0.22 * np.clip(normals @ HALFWAY, 0, 1) ** 24


def shadow(tile: Tile, focal: float, size: int) -> Floats:
    """Darkness `(size, size)` in [0, 1] of the soft shadow under a cloud, light straight from above."""
    if size > _SHADOW_PIXELS:  # it is soft: a smaller one is as good, and blurring grows with the cube
        small = Image.fromarray(shadow(tile, focal, _SHADOW_PIXELS))
        return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC)).clip(0, 1)
    fallen = tile.points - ((tile.points @ UP) - tile.floor)[:, None] * UP
    image = focal * size / 2 * fallen[:, :2] / (DISTANCE - fallen[:, 2:])
    where = (size / 2 + image * np.array([1, -1])).astype(np.int64)
    where = where[((where >= 0) & (where < size)).all(1)]
    density = np.zeros((size, size), dtype=np.float32)
    np.add.at(density, (where[:, 1], where[:, 0]), size**2 / len(tile.points))
    across, along = _blur(size, size / 20), _blur(size, size / 28)
    blurred = along @ density @ across
    edge = np.clip(np.minimum(np.arange(size) + 0.5, size - 0.5 - np.arange(size)) / (0.1 * size), 0, 1)
    return np.asarray(0.5 * blurred / (blurred + 10.0) * edge * edge[:, None], dtype=np.float32)


@cache
def _blur(size: int, sigma: float) -> Floats:
    """Matrix `(size, size)` that blurs by a Gaussian, zero outside."""
    steps = np.arange(size)
    bell = np.exp(-0.5 * ((steps[:, None] - steps) / sigma) ** 2)
    return np.asarray(bell / (sigma * np.sqrt(2 * np.pi)), dtype=np.float32)


def shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average the `SUPERSAMPLING`-fold picture `(k*S, k*S, 4)` down to `(S, S, 4)`."""
    side = len(image) // SUPERSAMPLING
    total = np.full((side, side, 4), SUPERSAMPLING**2 // 2, dtype=np.uint16)
    for row in range(SUPERSAMPLING):
        for column in range(SUPERSAMPLING):
            total += image[row::SUPERSAMPLING, column::SUPERSAMPLING]
    return (total // SUPERSAMPLING**2).astype(np.uint8)
