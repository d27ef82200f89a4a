"""Labels for all points of an object, however many, by a network that was trained on clouds of some."""

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.core.registry import nearest
from pcdistill.models import Segmenter
from pcdistill.training.loop import predict
from pcdistill.training.trained import Trained


def class_called(trained: Trained, name: str | None) -> int | None:
    """The number of a class that a network that labels points knows; None of no name.

    Raises:
        InputError: an unknown name.
    """
    if name is None or name in trained.class_names:
        return None if name is None else trained.class_names.index(name)
    raise InputError("class", nearest(name, trained.class_names), "one of " + ", ".join(trained.class_names))


def label_points(trained: Trained, cloud: Tensor, size: int, label: int | None, seed: int) -> Tensor:
    """The likeliest part of every point of a cloud: of its class, if that is known, else of all classes.

    Points are shared out at random among clouds of `size`, each of which is a sample of the object as those are that
    the network was trained on; the last one is filled up with others.

    Args:
        trained: a network that labels points.
        cloud: `(M, 3)`, the whole object in the frame of training clouds.
        size: points of a cloud that the network sees at once.
        label: class of the object.
        seed: of what is drawn.

    Returns:
        `(M,)` int64.
    """
    names, network = trained.part_names, trained.network
    assert names is not None
    assert isinstance(network, Segmenter)
    count, generator = len(cloud), torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    size = min(size, count)
    places = order[torch.arange(-(-count // size) * size) % count].view(-1, size)
    classes = None if label is None else torch.full((len(places),), label)
    logits = predict(network, trained.seen(cloud[places]), classes=classes)
    if label is not None:
        logits = logits.masked_fill(~names.table()[label], -torch.inf)
    found = torch.empty(count, dtype=torch.int64)
    flat = places.flatten()[:count]  # each point once: those that fill up come last
    found[flat] = logits.argmax(2).flatten()[:count]
    return found
