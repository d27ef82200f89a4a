"""What there is to see of a set: its clouds on the way from the first guess to the end, and what is known of points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.registry import nearest as closest
from pcdistill.geometry import knn
from pcdistill.geometry.nearest import Nearest, nearest_real
from pcdistill.models import Network
from pcdistill.viewing.scene import PART_COLOURS, Floats, colour_map

# What points can be coloured by, and what it needs besides the clouds.
COLOURINGS = {
    "height": "",
    "part": "parts of its points",
    "moved": "snapshots",
    "real": "a real set",
    "critical": "a network",
    "gradient": "a network",
}
_AT_ONCE = 64  # clouds that a network sees together


class Real(NamedTuple):
    """The real cloud nearest to each synthetic one, z up."""

    nearest: Nearest
    dense: Tensor  # (N, Q, 3): with all its points
    parts: Tensor | None = None  # (N, P) of the points of `nearest`, where it has those of the synthetic clouds


class Judge(NamedTuple):
    """A network in evaluation mode that says which points matter, and its label of every cloud `(N,)`."""

    network: Network
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A set to be looked at.

    Args:
        title: one line.
        clouds: the set, in the order of its classes, z up.
        frames: `(N, P, 3)` float32 each, from the first guess to the end, z up, point j the same in all; of a set
            without history its clouds alone. The last frame holds the points of `clouds`; if these have parts, in the
            same order.
        steps: of the outer loop at which the frames were taken.
        real: the nearest real clouds, where a real set is at hand.
        judge: who says which points matter.
        losses: of every step after step `before`, which is 0 unless a run went on from a checkpoint.
        total: steps of a run that is not at its end; None where it is.
        bits: of a coordinate as it is stored.
        nbytes: that the whole set takes as it is stored; None of a data set.
        facts: what is told beside the clouds: name to text.
    """

    title: str
    clouds: PointClouds
    frames: tuple[Tensor, ...]
    steps: tuple[int, ...] = (0,)
    real: Real | None = None
    judge: Judge | None = None
    losses: tuple[float, ...] = ()
    before: int = 0
    total: int | None = None
    bits: int = 32
    nbytes: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def colourings(self) -> list[str]:
        """Those of `COLOURINGS` that this set has what it takes for."""
        has = {"": True, "parts of its points": self.clouds.parts is not None, "snapshots": len(self.frames) > 1,
               "a real set": self.real is not None, "a network": self.judge is not None}  # fmt: skip
        return [name for name, needed in COLOURINGS.items() if has[needed]]

    def only(self, index: Tensor) -> "Exhibit":
        """The clouds at `index` alone."""
        real = self.real
        if real is not None:
            near = real.nearest
            near = Nearest(near.index[index], near.distance[index], near.points[index], near.emd[index])
            real = Real(near, real.dense[index], None if real.parts is None else real.parts[index])
        judge = None if self.judge is None else Judge(self.judge.network, self.judge.labels[index])
        frames = tuple(frame[index] for frame in self.frames)
        return replace(self, clouds=self.clouds[index], frames=frames, real=real, judge=judge)

    def beside(self, real: PointClouds, name: str) -> "Exhibit":
        """The same with the nearest clouds of a real set called `name`, and what is saved of its bytes.

        Raises:
            InputError: the set has no cloud of a class, or its clouds have fewer points.
        """
        real = standing(real)
        found = nearest_real(self.clouds.with_points(self.frames[-1]), real)
        facts = dict(self.facts)
        if self.nbytes is not None:
            whole = real.points.numel() * 4
            facts["compression"] = f"{whole / self.nbytes:,.0f} times: {name} takes {whole / 1e6:,.1f} MB as float32"
        dense, parts = real.points[found.index], None
        if real.parts is not None and _names(real) == _names(self.clouds):
            _, at = knn(found.points, dense, 1)
            parts = real.parts[found.index].gather(1, at[..., 0])
        return replace(self, real=Real(found, dense, parts), facts=facts)


class Shades(NamedTuple):
    """A quantity of every point, to be coloured by `scene.colour_map`; or its part, by `scene.PART_COLOURS`.

    Attributes:
        shares: `(T, N, P)` float32 in [0, 1], a frame each; of parts numbers of colours.
        label: what it is.
        low, high: what 0 and 1 stand for, in words.
        unit: the value that 1 stands for, in units of the coordinates; NaN where it differs from cloud to cloud.
        names: of all parts that clouds have, in their order, each with the number of its colour.
    """

    shares: Tensor
    label: str
    low: str = ""
    high: str = ""
    unit: float = float("nan")
    names: tuple[tuple[str, int], ...] = ()

    def painted(self, shares: Floats) -> Floats:
        """sRGB in [0, 1] `(..., 3)` of values such as `shares`."""
        return PART_COLOURS[np.rint(shares).astype(np.int64)] if self.names else colour_map(shares)


def chosen(clouds: PointClouds, classes: Sequence[str], columns: int) -> Tensor:
    """Indices of the first `columns` clouds of the named classes (all without a name), class by class.

    Raises:
        InputError: an unknown class, none of these classes has a cloud, or `columns` below 1.
    """
    if columns < 1:
        raise InputError("columns", str(columns), "at least 1")
    for name in classes:
        if name not in clouds.class_names:
            raise InputError("class", closest(name, clouds.class_names), "one of " + ", ".join(clouds.class_names))
    wanted = [clouds.class_names.index(name) for name in dict.fromkeys(classes)] or range(clouds.num_classes)
    found = torch.cat([(clouds.hard_labels == label).nonzero()[:columns, 0] for label in wanted])
    if not len(found):
        raise InputError("class", "no cloud of " + ", ".join(classes), "a class with clouds")
    return found


def upright(points: Tensor, up: str) -> Tensor:
    """Points `(..., 3)` turned so that the named axis points along +z; a rotation, so nothing is mirrored.

    Raises:
        InputError: no axis of that name.
    """
    x, y, z = points.unbind(-1)
    if up in ("z", "unspecified"):  # nothing is known of a folder of one's own: as it stands
        return points
    if up == "y":
        return torch.stack([x, -z, y], -1)
    if up == "x":
        return torch.stack([-z, y, x], -1)
    raise InputError("up_axis", f"'{up}'", "x, y or z")


def standing(clouds: PointClouds) -> PointClouds:
    """The clouds with z up, from the frame that their provenance names."""
    points = upright(clouds.points, str(clouds.provenance.get("up_axis", "z")))
    return replace(clouds, points=points, provenance={**clouds.provenance, "up_axis": "z"})


def shades(exhibit: Exhibit, colouring: str) -> Shades:
    """The values of one of `COLOURINGS` for all points of all frames, on one scale.

    `height`: within the cloud. `part`: the colour of the part that a point belongs to, the same in all classes.
    `moved`: distance from the first guess. `real`: distance to the nearest point of the nearest real cloud, with
    all its points. `critical`: how many of a PointNet's pooled channels a point decides, as a share of the most in
    its cloud (the critical points of Qi et al. 2017). `gradient`: length of the gradient of the cross-entropy with
    respect to the point, as a share of the longest in its cloud (Zheng et al., "PointCloud saliency maps", 2019,
    use its radial part).

    Raises:
        InputError: an unknown colouring, or the set has not what it needs.
    """
    if colouring not in COLOURINGS:
        raise InputError("colour", closest(colouring, COLOURINGS), "one of " + ", ".join(COLOURINGS))
    if colouring not in exhibit.colourings:
        hint = {"parts of its points": "a set that has them, such as shapes_parts",
                "snapshots": "an artefact distilled with --snapshots", "a real set": "--real DATASET",
                "a network": "--model NETWORK"}[COLOURINGS[colouring]]  # fmt: skip
        raise InputError("colour", f"'{colouring}' without {COLOURINGS[colouring]}", hint)
    frames = torch.stack(exhibit.frames)
    if colouring == "height":
        return Shades(_within(frames[..., 2], lowest=True), "height", "lowest", "highest")
    if colouring == "part":
        return _by_part(exhibit)
    if colouring == "moved":
        return _scaled((frames - frames[0]).norm(dim=-1), "distance moved")
    if colouring == "real":
        assert exhibit.real is not None
        dense = exhibit.real.dense
        away = torch.stack([knn(frame, dense, 1)[0][..., 0].clamp(min=0).sqrt() for frame in frames])
        return _scaled(away, "distance to real")
    assert exhibit.judge is not None
    network, labels = exhibit.judge
    if colouring == "critical":
        found = torch.stack([_critical(network, frame) for frame in frames])
        return Shades(_within(found), "critical points", "decide nothing", "most")
    found = torch.stack([_gradient(network, frame, labels) for frame in frames])
    return Shades(_within(found), "gradient of loss", "0", "longest")


def real_shades(exhibit: Exhibit, colouring: str) -> Tensor | None:
    """Shares `(N, P)` of the nearest real clouds; None where a colouring compares with them or with the first guess.

    They are drawn grey then, as they are by part where they have none or others.
    """
    assert exhibit.real is not None
    if colouring in ("moved", "real"):
        return None
    if colouring == "part":
        parts, names = exhibit.real.parts, exhibit.clouds.part_names
        return None if parts is None or names is None else part_hues(names)[parts].float()
    judged = Exhibit("", exhibit.clouds, (exhibit.real.nearest.points,), judge=exhibit.judge)
    return shades(judged, colouring).shares[0]


def part_hues(parts: PartNames) -> Tensor:
    """The number of the colour in `PART_COLOURS` `(L,)` int64 of every part.

    Of more parts than colours some share one: each in turn takes that which fewest have, of those that no part has yet
    which a class has together with it, as long as there is one.
    """
    table, hues = parts.table(), list[int]()
    for part in range(len(parts)):
        together = (table[:, :part] & table[:, part : part + 1]).any(0).tolist()
        used = [hue for hue, met in zip(hues, together, strict=True) if met]
        hues.append(min(range(len(PART_COLOURS)), key=lambda hue: (used.count(hue), hues.count(hue), hue)))
    return torch.tensor(hues)


def _names(clouds: PointClouds) -> tuple[str, ...]:
    return () if clouds.part_names is None else clouds.part_names.names


def _by_part(exhibit: Exhibit) -> Shades:
    parts, names = exhibit.clouds.parts, exhibit.clouds.part_names
    assert parts is not None
    assert names is not None
    hues = part_hues(names)
    real = parts[:0] if exhibit.real is None or exhibit.real.parts is None else exhibit.real.parts
    told = tuple((names.names[part], int(hues[part])) for part in torch.cat([parts, real]).unique().tolist())
    shares = hues[parts].float().expand(len(exhibit.frames), *parts.shape)
    return Shades(shares, "part", names=told)


def _within(values: Tensor, lowest: bool = False) -> Tensor:
    """Shares of the largest of a cloud; from its lowest if so, else from zero."""
    low = values.amin(-1, keepdim=True) if lowest else torch.zeros_like(values[..., :1])
    return (values - low) / (values.amax(-1, keepdim=True) - low).clamp(min=1e-12)


def _scaled(values: Tensor, label: str) -> Shades:
    """On one scale for all clouds and frames, whose top few outliers do not set."""
    ordered = values.flatten().sort().values
    top = max(float(ordered[int(0.995 * (len(ordered) - 1))]), 1e-6)
    return Shades((values / top).clamp(max=1), label, "0", f"{top:.2g}", top)


@torch.no_grad()
def _critical(network: Network, points: Tensor) -> Tensor:
    """`(N, P)`: how many channels of the global feature each point decides."""
    counts = torch.zeros(points.shape[:2])
    for part, own in zip(points.split(_AT_ONCE), counts.split(_AT_ONCE), strict=True):
        features = network.point_features(part)[-1]
        if features.shape[1] != points.shape[1]:
            raise InputError("colour", "'critical' of a network that pools groups of points", "a PointNet")
        top, at = features.max(1)
        own.scatter_add_(1, at, (top > 0).float())  # what ReLU cuts off decides nothing
    return counts


def _gradient(network: Network, points: Tensor, labels: Tensor) -> Tensor:
    found = []
    for part, own in zip(points.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True):
        leaf = part.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(network.classify(network.pooled(leaf)), own, reduction="sum")
        found.append(torch.autograd.grad(loss, leaf)[0].norm(dim=-1))
    return torch.cat(found)
