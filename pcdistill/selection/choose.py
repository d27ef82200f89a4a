"""`select`: a coreset of a labelled set, class by class."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds, Provenance
from pcdistill.errors import InputError
from pcdistill.geometry import farthest_point_sample, gather_points
from pcdistill.selection.base import selectors
from pcdistill.selection.features import raw_descriptor


def select(
    clouds: PointClouds,
    method: str,
    per_class: int | Sequence[int],
    *,
    features: Tensor | None = None,
    features_name: str = "given",
    points: int | None = None,
    seed: int = 0,
) -> PointClouds:
    """Real clouds from every class, and of each as many points as wanted.

    The choice in a class depends on nothing but that class's features, the method, and the seed
    (which only random choice uses). Coordinates stay as they are: nothing is normalised anew.

    Args:
        clouds: the set to choose from; soft labels count by their most probable class.
        method: a name in `selectors`.
        per_class: clouds of every class, at least 1; or one number for each class.
        features: `(N, D)`, a row per cloud, such as `network_descriptor`'s; None: `raw_descriptor`.
        features_name: what to call given features in the provenance, such as the network and its seed.
        points: points per cloud, by farthest point sampling; None keeps all.
        seed: at least 0.

    Returns:
        Clouds of the first class in order of choice, then of the second, and so on; the
        provenance gains `selection`, `selection_seed` and `selection_features`.

    Raises:
        InputError: unknown method, a class with too few clouds (named), features that do not fit,
            too many points.
    """
    selector = selectors[method]
    place = clouds.provenance.get("name", "point clouds")
    wanted = [per_class] * clouds.num_classes if isinstance(per_class, int) else list(per_class)
    _check_counts(clouds, wanted, place)
    if points is not None and not 1 <= points <= clouds.points_per_cloud:
        raise InputError(place, f"{points} points per cloud asked for", f"1 to {clouds.points_per_cloud}")
    if seed < 0:
        raise InputError("seed", str(seed), "0 or more")
    if features is None:
        features, features_name = raw_descriptor(clouds), "raw"
    elif len(features) != len(clouds):
        raise InputError(place, f"features of {len(features)} clouds", f"of all {len(clouds)}")
    chosen = []
    for label, count in enumerate(wanted):
        members = (clouds.hard_labels == label).nonzero()[:, 0].cpu()
        chosen.append(members[selector(features[members], count, _generator(seed, label))])
    result = _thinned(clouds[torch.cat(chosen)], points)
    origin: Provenance = {
        "selection": method,
        "selection_seed": seed,
        "selection_features": features_name,
    }
    return replace(result, provenance={**clouds.provenance, **origin})


def _check_counts(clouds: PointClouds, wanted: Sequence[int], place: object) -> None:
    if len(wanted) != clouds.num_classes:
        raise InputError(place, f"numbers of clouds for {len(wanted)} classes", f"for {clouds.num_classes}")
    if min(wanted) < 1:
        raise InputError(place, f"{min(wanted)} clouds per class asked for", "at least 1")
    for name, held, count in zip(clouds.class_names, clouds.class_counts.tolist(), wanted, strict=True):
        if held < count:
            raise InputError(place, f"class '{name}' has {held} clouds", f"at least {count}")


def _generator(seed: int, label: int) -> torch.Generator:
    """A stream of its own for every class: its choice does not hang on the other classes."""
    state = np.random.SeedSequence([seed, label]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


def _thinned(clouds: PointClouds, points: int | None) -> PointClouds:
    if points is None:
        return clouds
    return clouds.with_points(gather_points(clouds.points, farthest_point_sample(clouds.points, points)))
