"""What a network that labels points is worth: accuracies of points, and intersections over unions of parts.

As ShapeNetPart's published code has it (Yi et al. 2016; Qi et al. 2017): a point is given the likeliest part of its
cloud's class; the IoU of a cloud is the mean over *all* parts of its class, where one that neither truth nor guess has
counts as 1; of these means, that over clouds is instance mIoU, and that over the means of classes is class mIoU.
"""

import torch
from torch import Tensor

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.models import Segmenter
from pcdistill.training.loop import predict

BATCH = 64  # clouds at a time: logits of all points of a large test set do not fit into memory


def guessed(network: Segmenter, points: Tensor, classes: Tensor, names: PartNames) -> tuple[Tensor, Tensor]:
    """The likeliest part `(N, P)` of every point of `(N, P, 3)` clouds among those of their class, and its probability.

    The network is told the classes `(N,)`.
    """
    table, guesses, confidence = names.table(), list[Tensor](), list[Tensor]()
    for part, own in zip(points.split(BATCH), classes.split(BATCH), strict=True):
        logits = predict(network, part, BATCH, own).masked_fill(~table[own][:, None], -torch.inf)
        shares, found = logits.softmax(2).max(2)
        guesses.append(found)
        confidence.append(shares)
    return torch.cat(guesses), torch.cat(confidence)


def shape_ious(guesses: Tensor, parts: Tensor, classes: Tensor, names: PartNames) -> Tensor:
    """`(N,)` float64: of every cloud the mean IoU of guesses and truth `(N, P)` over the parts of its class."""
    ious = torch.empty(len(parts), dtype=torch.float64)
    for label in classes.unique().tolist():
        mine = classes == label
        own = torch.tensor(names.of_class[label])
        guess, truth = (values[mine][..., None] == own for values in (guesses, parts))
        both, either = (guess & truth).sum(1).double(), (guess | truth).sum(1).double()
        ious[mine] = torch.where(either > 0, both / either.clamp_min(1), 1.0).mean(1)
    return ious


def check_parts(test: PointClouds, part_names: PartNames | None) -> None:
    """Refuse a test set whose parts are not those of training.

    Raises:
        InputError: naming both.
    """
    if test.part_names != part_names:
        found, wanted = (
            "points without parts" if names is None else f"{len(names)} parts {', '.join(names.names)!s:.80}"
            for names in (test.part_names, part_names)
        )
        raise InputError("test set", found, f"those of training: {wanted}")


def part_shares(clouds: PointClouds) -> Tensor:
    """`(C, L)` float64: of the points of every class the share of each part; zeros of a class without clouds.

    Raises:
        InputError: points without parts.
    """
    if clouds.parts is None or clouds.part_names is None:
        raise InputError(
            str(clouds.provenance.get("name", "point clouds")), "points without parts", "points with parts"
        )
    count, classes = len(clouds.part_names), clouds.num_classes
    keys = (clouds.hard_labels[:, None] * count + clouds.parts).flatten()
    counts = torch.bincount(keys, minlength=classes * count).view(classes, count).double()
    return counts / counts.sum(1, keepdim=True).clamp_min(1)
