"""How different two pictures look."""

import numpy as np
from PIL import Image

CELL = 4  # pixels: what lies within is mixed, as in an eye a step away, so that edges may be smoothed in any way


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB in [0, 1], `(..., 3)`."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = rgb @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def linear(rgb: np.ndarray) -> np.ndarray:
    """Of sRGB in [0, 1]."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def differences(first: Image.Image, second: Image.Image) -> np.ndarray:
    """Delta E (CIE 1976) of every cell of two pictures of one size, over white or black paper, where it is more."""
    return np.max([_over(paper, first, second) for paper in ("white", "black")], axis=0)


def _over(paper: str, first: Image.Image, second: Image.Image) -> np.ndarray:
    seen = []
    for picture in (first, second):
        page = Image.new("RGBA", picture.size, paper)
        page.alpha_composite(picture.convert("RGBA"))
        light = linear(np.asarray(page.convert("RGB")) / 255)
        light = np.pad(light, ((0, -len(light) % CELL), (0, -light.shape[1] % CELL), (0, 0)), mode="edge")
        height, width = len(light) // CELL, light.shape[1] // CELL
        seen.append(lab(light.reshape(height, CELL, width, CELL, 3).mean((1, 3))))
    return np.linalg.norm(seen[0] - seen[1], axis=2)


# Measured on galleries of 110 pixels a cloud, white and dark. What may differ: Open3D's picture of the same clouds
# (mean 0.18, most 6.0), three instead of two samples a pixel (0.14, 4.4). What may not: a light from the other side
# (0.46, 12), a camera turned by 2 degrees (0.73, 29) or 5 (1.7, 51), no haze (0.36, 15), a colour map shifted by an
# eighth (1.4, 18), names of two classes exchanged.
MEAN, MOST = 0.27, 9.0


def alike(first: Image.Image, second: Image.Image) -> bool:
    """Whether nobody would tell the pictures apart who does not lay them side by side."""
    if first.size != second.size or ("A" in first.getbands()) != ("A" in second.getbands()):
        return False
    found = differences(first, second)
    return bool(found.mean() < MEAN and found.max() < MOST)
