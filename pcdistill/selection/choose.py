"""`select`: a coreset of a labelled set, class by class."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, Provenance
from pcdistill.core.errors import InputError
from pcdistill.geometry import thinned
from pcdistill.models import build
from pcdistill.selection.base import Selector, asked_by, check_skip, selectors, usual_features
from pcdistill.selection.dynamics import NETWORK, NETWORKS, Dynamics, watch
from pcdistill.selection.features import BATCH, network_descriptor, raw_descriptor

# Of a class with more clouds than this, the choice is from a random subset of this size: medoids take some four n x n
# matrices (half a GiB here), and the descriptors of millions of clouds would be a large set themselves.
CANDIDATES = 4096

SCORES = ("el2n", "aum")  # fields of `Dynamics` that a method may ask for

T = TypeVar("T")

Describe = Callable[[CloudSource], Tensor]
Watch = Callable[[CloudSource], Dynamics]


def describer(features: str, classes: int, seed: int, watched: Watch, device: str = "cpu") -> tuple[Describe, str]:
    """What makes features `(n, D)` of the clouds of a set, and what a provenance calls them.

    Args:
        features: `raw`, `trained` (those in `watched`), or a registered network, with random weights by the seed.
        classes: of the network.
        seed: of networks.
        watched: what trainings tell of every cloud of a set.
        device: of the network.
    """
    if features == "raw":
        return raw_descriptor, features
    if features == "trained":
        return lambda part: watched(part).features, f"{NETWORK}, {NETWORKS} trained ones, seed {seed}"
    network = build(features, classes, seed).to(device)
    return partial(network_descriptor, network=network), f"{features}, random weights, seed {seed}"


def remembered(describe: Callable[[CloudSource], T]) -> Callable[[CloudSource], T]:
    """What is chosen from depends on labels and seed alone, so that it need not be described again for other counts."""
    memo: dict[int, T] = {}

    def described(part: CloudSource) -> T:
        key = len(part.labels)
        if key not in memo:
            memo[key] = describe(part)
        return memo[key]

    return described


def select(
    clouds: CloudSource,
    method: str,
    per_class: int | Sequence[int],
    *,
    features: Tensor | Describe | None = None,
    features_name: str = "given",
    costs: Describe | None = None,
    watched: Watch | None = None,
    skip: float | None = None,
    points: int | None = None,
    seed: int = 0,
) -> PointClouds:
    """Real clouds from every class, and of each as many points as wanted.

    The choice in a class depends on nothing but that class's features (and what else the method asks for), the method,
    and the seed, which random choice and the training of networks use. Coordinates stay as they are: nothing is
    normalised anew.

    A set on disk is read in batches, and only the chosen clouds are loaded. Where a class has more clouds than
    `CANDIDATES` (or than `per_class`, if that is more), the choice is from a random subset of that many, drawn by the
    seed, whatever the method and wherever the set lies; others are not described.

    Args:
        clouds: the set to choose from; soft labels count by their most probable class.
        method: a name in `selectors`.
        per_class: clouds of every class, at least 1; or one number for each class.
        features: `(N, D)`, a row per cloud, such as `network_descriptor`'s, or a function that makes a row for every
            cloud of a set, called with the candidates, in order; None: what the method likes, by name (`describer`).
        features_name: what to call given features in the provenance, such as the network and its seed.
        costs: makes a number for every cloud of a set, `(n,)`: what storing it takes. Called as `features`, if the
            method asks.
        watched: what trainings tell of every cloud of a set. Called as `features`, if the method asks; None: `watch`
            with the seed.
        skip: of every class, the share of the hardest clouds that methods which ask for it leave out; None: as they
            like.
        points: points per cloud, by farthest point sampling; None keeps all.
        seed: at least 0.

    Returns:
        Clouds of the first class in order of choice, then of the second, and so on; the
        provenance gains `selection`, `selection_seed` and `selection_features`, and where a class was too large
        `selection_candidates`, the size of the subsets.

    Raises:
        InputError: unknown method, a class with too few clouds (named), features that do not fit,
            too many points.
    """
    selector = selectors[method]
    place = clouds.provenance.get("name", "point clouds")
    labels, names = clouds.hard_labels.cpu(), clouds.class_names
    wanted = [per_class] * len(names) if isinstance(per_class, int) else list(per_class)
    _check_counts(labels, names, wanted, place)
    if points is not None and not 1 <= points <= clouds.points_per_cloud:
        raise InputError(place, f"{points} points per cloud asked for", f"1 to {clouds.points_per_cloud}")
    if seed < 0:
        raise InputError("seed", str(seed), "0 or more")
    check_skip(method, skip)
    said = remembered(watched or partial(watch, seed=seed))
    if features is None:
        features, features_name = describer(usual_features(selector), len(names), seed, said)
    elif isinstance(features, Tensor) and len(features) != len(labels):
        raise InputError(place, f"features of {len(features)} clouds", f"of all {len(labels)}")
    most = max(*wanted, CANDIDATES)
    candidates = _candidates(labels, len(names), most, seed)
    part = _Part(clouds, candidates)
    described = features[candidates] if isinstance(features, Tensor) else features(part)
    if len(described) != len(candidates):
        raise InputError(place, f"features of {len(described)} clouds", f"of all {len(candidates)}")
    facts = _facts(part, selector, said, costs)
    settings = {} if skip is None else {"skip": skip}
    chosen = []
    for label, count in enumerate(wanted):
        members = (labels[candidates] == label).nonzero()[:, 0]
        generator = _generator(seed, label)
        own = {name: fact[members] for name, fact in facts.items()}
        places = selector(described[members], count, generator, **own, **settings)
        chosen.append(candidates[members[places]])
    origin: Provenance = {
        "selection": method,
        "selection_seed": seed,
        "selection_features": features_name,
        **({"selection_candidates": most} if len(candidates) < len(labels) else {}),
    }
    result = thinned(_loaded(clouds, torch.cat(chosen)), points)
    before = {name: value for name, value in clouds.provenance.items() if name != "selection_candidates"}
    return replace(result, provenance={**before, **origin})


def _facts(part: CloudSource, selector: Selector, said: Watch, costs: Describe | None) -> dict[str, Tensor]:
    """What a method asks for of the clouds of a set, `(n,)` each."""
    asked = asked_by(selector)
    facts = {name: getattr(said(part), name) for name in SCORES if name in asked}
    if costs is not None and "costs" in asked:
        facts["costs"] = costs(part)
    return facts


def candidates_of(clouds: CloudSource, seed: int) -> CloudSource:
    """The clouds of a set that `select` chooses from, where it is asked for no more than `CANDIDATES` of a class."""
    return _Part(clouds, _candidates(clouds.hard_labels.cpu(), len(clouds.class_names), CANDIDATES, seed))


class _Part:
    """The clouds of a set at some of its places, ascending, as a set of its own: a `CloudSource`."""

    def __init__(self, whole: CloudSource, places: Tensor) -> None:
        self.whole, self.places = whole, places
        self.class_names, self.points_per_cloud = whole.class_names, whole.points_per_cloud
        self.labels, self.hard_labels = whole.labels[places], whole.hard_labels[places]
        self.provenance = whole.provenance

    def batch(self, index: Tensor) -> Tensor:
        return self.whole.batch(self.places[index])

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.whole.fingerprint().encode())
        digest.update(self.places.numpy().data)
        return digest.hexdigest()


def _candidates(labels: Tensor, classes: int, most: int, seed: int) -> Tensor:
    """Ascending places of all clouds of the classes that have up to `most`, of others of a random `most`."""
    kept = []
    for label in range(classes):
        own = (labels == label).nonzero()[:, 0]
        if len(own) > most:
            own = own[torch.randperm(len(own), generator=_generator(seed, label, 1))[:most]]
        kept.append(own)
    return torch.cat(kept).sort().values


def _loaded(clouds: CloudSource, index: Tensor) -> PointClouds:
    """The clouds at `index`, in its order; of a set on disk a batch at a time."""
    if isinstance(clouds, PointClouds):
        return clouds[index]
    points = torch.empty(len(index), clouds.points_per_cloud, 3)
    for part in index.argsort().split(BATCH):
        points[part] = clouds.batch(index[part])
    return PointClouds(points, clouds.labels[index], clouds.class_names, clouds.provenance)


def _check_counts(labels: Tensor, names: tuple[str, ...], wanted: Sequence[int], place: object) -> None:
    if len(wanted) != len(names):
        raise InputError(place, f"numbers of clouds for {len(wanted)} classes", f"for {len(names)}")
    if min(wanted) < 1:
        raise InputError(place, f"{min(wanted)} clouds per class asked for", "at least 1")
    held = torch.bincount(labels, minlength=len(names)).tolist()
    for name, there, count in zip(names, held, wanted, strict=True):
        if there < count:
            raise InputError(place, f"class '{name}' has {there} clouds", f"at least {count}")


def _generator(seed: int, *place: int) -> torch.Generator:
    """A stream of its own for every class (and purpose): its choice does not hang on the other classes."""
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))
