"""A page for the browser: one file with all clouds of a set, that turns them without a server or a network.

`web/` holds its parts: `page.html`, `viewer.css`, and `viewer.bundle.js`, which `make web` makes of three.js and the
scripts beside it.
"""

import base64
import gzip
import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.core.files import atomic, check_writable
from pcdistill.viewing.exhibit import Exhibit, Shades, real_shades, shades
from pcdistill.viewing.pictures import GREY
from pcdistill.viewing.scene import AZIMUTH, DISTANCE, ELEVATION, HALFWAY, HAZE, LIGHT, PART_COLOURS, point_radius
from pcdistill.viewing.sheet import readable, scale

WEB = Path(__file__).with_name("web")
_GREY = 255 - len(PART_COLOURS)  # place of the grey in the palette: behind the scale, before the colours of parts
_LOSSES = 400  # points of the curve
_REACH = 1.04  # of a cloud in its cell, seen from the front
Codes = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Scores:
    """A table of accuracies, as text."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_page(
    exhibit: Exhibit, path: str | os.PathLike[str], *, colour: str = "height", scores: Scores | None = None
) -> int:
    """Write the page, whole or not at all; returns its size in bytes.

    Raises:
        InputError: an unknown colouring, or the set has not what it needs.
        OSError: it cannot be written.
    """
    check_writable(path)
    content = html_page(exhibit, colour=colour, scores=scores).encode()
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return len(content)


def html_page(exhibit: Exhibit, *, colour: str = "height", scores: Scores | None = None) -> str:
    """The page as text: HTML, which holds script, style and data and asks for nothing from elsewhere.

    All clouds are drawn by one camera, in the frame of the pictures: z up, each about the middle of its own extent.
    Coordinates are kept in 8 bits where the set is stored in 8 or fewer, else in 16.

    Raises:
        InputError: an unknown colouring, or the set has not what it needs.
    """
    meta, data = content(exhibit, colour, scores)
    return filled(meta, data)


def filled(meta: Mapping[str, Any], data: str, connect: str = "'none'") -> str:
    """The page of `content`; `connect` is what its script may ask for, by a content security policy."""
    parts = {name: (WEB / name).read_text(encoding="utf-8") for name in ("page.html", "viewer.css", "viewer.bundle.js")}
    return Template(parts["page.html"]).substitute(
        title=html.escape(str(meta["title"])), style=parts["viewer.css"], script=parts["viewer.bundle.js"],
        meta=_script_json(meta), data=data, connect=connect,
    )  # fmt: skip


def content(exhibit: Exhibit, colour: str = "height", scores: Scores | None = None) -> tuple[dict[str, Any], str]:
    """What `main.js` shows: a description that JSON can hold, and the arrays: gzipped, in base64."""
    clouds = exhibit.clouds
    drawn = {name: shades(exhibit, name) for name in exhibit.colourings}
    if colour not in drawn:
        shades(exhibit, colour)  # says what is missing
    frames = torch.stack(exhibit.frames)
    way = frames - _middle(frames[-1])
    real = None if exhibit.real is None else exhibit.real.nearest.points
    if real is not None:
        real = real - _middle(real)
    span = 2 * max(float(part.abs().max()) for part in (way, real) if part is not None) or 1.0
    kind = np.uint8 if exhibit.bits <= 8 else np.uint16
    arrays: dict[str, Codes] = {"way": _codes(way, span, kind)}
    if real is not None:
        arrays["real"] = _codes(real, span, kind)
    for name, found in drawn.items():
        if name not in ("height", "moved"):  # the page finds these by itself
            arrays[f"shade:{name}"] = _places_in_palette(found, found.shares)
            if exhibit.real is not None and (beside := real_shades(exhibit, name)) is not None:
                arrays[f"real:{name}"] = _places_in_palette(found, beside)
    layout, block = _packed(arrays)
    # A few clouds may reach beyond their cells, so that the others are not small for their sake.
    reach = float(way.norm(dim=-1).amax(2).quantile(0.75, dim=1).max()) or 1.0
    radius = point_radius(clouds.points_per_cloud) * reach
    meta = {
        "title": exhibit.title,
        "classes": [readable(name) for name in clouds.class_names],
        "labels": clouds.hard_labels.tolist(),
        **_places(clouds.hard_labels, clouds.num_classes),
        "points": clouds.points_per_cloud,
        "steps": list(exhibit.steps),
        "total": exhibit.steps[-1] if exhibit.total is None else exhibit.total,
        "arrays": layout,
        "span": span,
        "moved": drawn["moved"].unit if "moved" in drawn else 1.0,
        "map": _palette(),
        "grey": _GREY,
        "radius": radius,
        "distance": DISTANCE * reach,
        "focal": _REACH * DISTANCE,
        "haze": HAZE,
        "light": LIGHT.tolist(),
        "halfway": (HALFWAY / np.linalg.norm(HALFWAY)).tolist(),
        "azimuth": float(AZIMUTH),
        "elevation": float(ELEVATION),
        "colour": colour,
        "colourings": [
            {"name": name, "label": found.label, "low": found.low, "high": found.high, "parts": _places_of_names(found)}
            for name, found in drawn.items()
        ],
        "nearest": _nearest(exhibit),
        "soft": _soft(exhibit),
        "facts": list(exhibit.facts.items()),
        "scores": None if scores is None else vars(scores),
        "losses": [float(f"{loss:.4g}") for loss in _some(exhibit.losses)],
        "lossSteps": [exhibit.before, exhibit.before + len(exhibit.losses)],
    }
    return meta, base64.b64encode(gzip.compress(block, mtime=0)).decode()


def _places_in_palette(told: Shades, shares: Tensor) -> NDArray[np.uint8]:
    places = shares + (_GREY + 1) if told.names else shares * (_GREY - 1) + 0.5
    found: NDArray[np.uint8] = places.to(torch.uint8).numpy()
    return found


def _places_of_names(told: Shades) -> list[tuple[str, int]]:
    """Parts and the places of their colours; none of a scale."""
    return [(readable(name), _GREY + 1 + hue) for name, hue in told.names]


def _palette() -> list[int]:
    """sRGB, 0 to 255, of 256 shades: the colour map, the grey of what a colouring says nothing of, colours of parts."""
    fixed = np.rint(255 * np.concatenate([[GREY], PART_COLOURS])).astype(int)
    return [*scale(_GREY).flatten().tolist(), *fixed.flatten().tolist()]


def _middle(points: Tensor) -> Tensor:
    """`(N, 1, 3)`: of the extent of each cloud."""
    return (points.amin(1, keepdim=True) + points.amax(1, keepdim=True)) / 2


def _codes(points: Tensor, span: float, kind: type[np.unsignedinteger[Any]]) -> Any:
    """`(x / span + 1/2)` of the largest integer of the kind, rounded."""
    full = int(np.iinfo(kind).max)
    return ((points.double().numpy() / span + 0.5) * full + 0.5).clip(0, full).astype(kind)


def _packed(arrays: Mapping[str, Codes]) -> tuple[dict[str, dict[str, Any]], bytes]:
    """Where each array begins in the block, and the block: little endian, wide items first, so that all are aligned."""
    layout: dict[str, dict[str, Any]] = {}
    block = bytearray()
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        layout[name] = {"type": f"u{array.itemsize}", "offset": len(block), "length": array.size}
        block += array.astype(array.dtype.newbyteorder("<")).tobytes()
    return layout, bytes(block)


def _places(labels: Tensor, classes: int) -> dict[str, Any]:
    """The clouds of every class, and the place of every cloud in its own."""
    rows = [(labels == label).nonzero()[:, 0].tolist() for label in range(classes)]
    places = [0] * len(labels)
    for row in rows:
        for place, cloud in enumerate(row):
            places[cloud] = place
    return {"rows": rows, "places": places}


def _nearest(exhibit: Exhibit) -> dict[str, list[str]] | None:
    if exhibit.real is None:
        return None
    found = exhibit.real.nearest
    return {
        "chamfer": [f"{distance:.4f}" for distance in found.distance.tolist()],
        "emd": [f"{distance:.3f}" for distance in found.emd.tolist()],
        "index": [str(index) for index in found.index.tolist()],
    }


def _soft(exhibit: Exhibit) -> list[str] | None:
    """The three most probable classes of every cloud with a soft label."""
    labels = exhibit.clouds.labels
    if labels.ndim == 1:
        return None
    share, at = labels.topk(min(3, labels.shape[1]))
    names = [readable(name) for name in exhibit.clouds.class_names]
    return [
        ", ".join(f"{names[label]} {100 * value:.0f} %" for value, label in zip(*pair, strict=True))
        for pair in zip(share.tolist(), at.tolist(), strict=True)
    ]


def _some(values: Sequence[float]) -> list[float]:
    """At most `_LOSSES` of the values, evenly spread, the first and the last among them."""
    if len(values) <= _LOSSES:
        return list(values)
    return [values[round(i * (len(values) - 1) / (_LOSSES - 1))] for i in range(_LOSSES)]


def _script_json(value: Mapping[str, Any]) -> str:
    """JSON that cannot end the `<script>` element it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
