"""What short trainings tell of every cloud of a set: features that tell classes apart, and how hard each cloud is.

A few small networks are trained on the whole set, for a tenth of the time that networks are usually trained. On the way
all clouds are looked at several times. One pass gives all that selectors ask for, and is kept by the set's content.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.core.cache import cached
from pcdistill.core.progress import progress
from pcdistill.models import Network, build
from pcdistill.selection.features import BATCH, network_descriptor
from pcdistill.training.loop import predict, train
from pcdistill.training.recipe import recipe

FORMAT = 1  # raise when what is computed changes, so that old caches are not read
NETWORK, NETWORKS = "pointnet-tiny", 3
POINTS = 128  # of a cloud, the first ones
LOOKS = 10  # at all clouds, along a training
RECIPE = recipe("tuned", epochs=10, least_steps=200, most_steps=1500, label_smoothing=0)


class Dynamics(NamedTuple):
    """Of each of n clouds.

    Attributes:
        features: `(n, F)` float32: global features of all networks, each network's scaled to norm 1.
        el2n: `(n,)` float32: norm of the error of the probabilities, mean over networks and looks.
        aum: `(n,)` float32: area under the margin, the mean over networks and looks of the logit of the own class less
            the largest other one.
    """

    features: Tensor
    el2n: Tensor
    aum: Tensor


def watch(clouds: CloudSource, seed: int, device: str = "cpu") -> Dynamics:
    """What trainings tell of every cloud of a set, from the cache if it is known.

    Args:
        clouds: the set; soft labels count by their most probable class.
        seed: of the networks, the order of the clouds and their augmentation.
        device: where networks are trained. What one device has found is not read on another.

    Raises:
        InputError: a single cloud.
    """
    there = "" if device == "cpu" else f" on {torch.device(device).type}"
    facts = f"{FORMAT} {NETWORKS} {NETWORK} {POINTS} {LOOKS} {seed} {RECIPE.model_dump_json()} {clouds.fingerprint()}"
    found, _ = cached(
        "dynamics", facts + there, lambda: _watched(clouds, seed, device)._asdict(), lambda found: Dynamics(**found)
    )
    return found


def error_norm(logits: Tensor, labels: Tensor) -> Tensor:
    """`(n,)` EL2N scores of logits `(n, C)`: how far probabilities are from the class (Paul et al. 2021)."""
    exact = torch.nn.functional.one_hot(labels, logits.shape[1])
    scores: Tensor = (logits.softmax(1) - exact).norm(dim=1)
    return scores


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """`(n,)` logits of the class less the largest other one, of `(n, C)` (Pleiss et al. 2020); 0 if there is none."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return (own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)).nan_to_num(posinf=0.0)


def _watched(clouds: CloudSource, seed: int, device: str) -> Dynamics:
    places = torch.arange(len(clouds.labels)).split(BATCH)
    points = torch.cat([clouds.batch(index)[:, :POINTS].contiguous() for index in places])  # a view would keep all
    real = PointClouds(points, clouds.hard_labels, clouds.class_names)
    total = RECIPE.total_steps(len(real))
    looks = {-(-total * number // LOOKS) for number in range(1, LOOKS + 1)}
    features, el2n, aum = [], torch.zeros(len(real)), torch.zeros(len(real))
    with progress("training networks to select by", NETWORKS * total) as report:
        for number in range(NETWORKS):
            network = build(NETWORK, real.num_classes, seed * 1000 + number).to(device)

            def look(step: int, loss: float, number: int = number, network: Network = network) -> None:
                report(number * total + step, "")
                if step in looks:
                    logits = predict(network, points, BATCH)
                    network.train()
                    el2n.add_(error_norm(logits, real.labels))
                    aum.add_(margin(logits, real.labels))

            train(network, real, RECIPE, seed * 1000 + number, look)
            features.append(network_descriptor(real, network))
    shared = NETWORKS * len(looks)
    return Dynamics(torch.cat(features, dim=1), el2n / shared, aum / shared)
