"""Labels of any kind as numbers of classes or probabilities, and the names of the classes."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.clouds.point_clouds import checked_names
from pcdistill.core.errors import InputError
from pcdistill.core.registry import nearest

MOST_CLASSES = 10_000  # without names: labels beyond are numbers in a catalogue, as those of WordNet
KINDS = "a number, a name, or probabilities of all classes"


def as_array(values: Any) -> NDArray[Any]:
    """Values of a tensor, wherever it is, or of anything that NumPy takes; bfloat16 becomes float32.

    Raises:
        ValueError: rows of unequal length.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    return np.asarray(values)


def coded_labels(
    labels: Any, clouds: int, class_names: Sequence[str] | None, place: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as `PointClouds` has them, and their classes.

    Args:
        labels: one a cloud, in an array, a tensor or a sequence: numbers of classes from 0; other things, such as
            strings, whose class is named by `str`; or probabilities `(N, C)`.
        clouds: N.
        class_names: in the order of the numbers or columns. None: of numbers and probabilities "0", "1", ...; of
            other things their names, sorted.
        place: for messages.

    Returns:
        `(N,)` int64 or `(N, C)` float32, and C names.

    Raises:
        InputError: naming the cloud: no label, NaN, a part of a number, below 0 or beyond the names, an unknown name;
            labels of different kinds, or other than N.
    """
    if class_names is not None:
        class_names = checked_names(class_names, place)
    values = _one_a_cloud(labels, place)
    if len(values) != clouds:
        raise InputError(place, f"{len(values)} labels for {clouds} clouds", "one a cloud")
    if isinstance(values, list):
        return _of_names(values, class_names, place)
    if values.ndim == 1:
        return _of_numbers(values, class_names, place)
    names = map(str, range(values.shape[1])) if class_names is None else class_names
    return torch.from_numpy(values.astype(np.float32)), tuple(names)


def _one_a_cloud(labels: Any, place: str) -> NDArray[Any] | list[Any]:
    """Numbers `(N,)`, probabilities `(N, C)`, or a list of N names."""
    if isinstance(labels, str | bytes | Mapping | Set) or not isinstance(labels, Iterable):
        raise InputError(place, f"labels {labels!r:.40}", "one a cloud")
    if isinstance(labels, Tensor | np.ndarray):
        values = as_array(labels)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim not in (1, 2):
            raise InputError(place, f"labels of shape {values.shape}", "(clouds,) or (clouds, classes)")
        if values.dtype.kind in "biuf":
            return values
        labels = values.tolist()
    each = [_single(label) for label in labels]
    sizes = [len(label) if isinstance(label, np.ndarray) else 0 for label in each]
    for cloud, size in enumerate(sizes):
        if size != sizes[0]:
            kinds = (f"{size} numbers" if size else "one" for size in (size, sizes[0]))
            raise InputError(place, "label of cloud {}: {}, but {} of cloud 0".format(cloud, *kinds), "one kind")
    numeric = all(isinstance(label, bool | int | float | np.ndarray) for label in each)
    found = np.array(each if numeric else ())
    return found if len(each) and found.dtype.kind in "biuf" and len(found) else each  # 2**70 is a name


def _single(label: Any) -> Any:
    """A label as a Python value, or, of several numbers, a vector: of tensors, arrays, lists and tuples of numbers."""
    several = isinstance(label, list | tuple) and all(isinstance(each, int | float) for each in label)
    if not (several or isinstance(label, Tensor | np.ndarray | np.generic)):
        return label
    values = as_array(label)
    return values.item() if values.size == 1 else values.reshape(-1)


def _of_numbers(values: NDArray[Any], class_names: Sequence[str] | None, place: str) -> tuple[Tensor, tuple[str, ...]]:
    most = MOST_CLASSES if class_names is None else len(class_names)
    known = f"0 to {most - 1}" + (", or class_names" if class_names is None else f" for {most} classes")
    for wrong, expected in (
        (~np.isfinite(values) | (values != np.floor(values)), KINDS),
        ((values < 0) | (values >= most), known),
    ):
        if wrong.any():
            cloud = int(wrong.argmax())
            raise InputError(place, f"label {values[cloud]} of cloud {cloud}", expected)
    names = map(str, range(int(values.max()) + 1)) if class_names is None else class_names
    return torch.from_numpy(values.astype(np.int64)), tuple(names)


def _of_names(values: list[Any], class_names: Sequence[str] | None, place: str) -> tuple[Tensor, tuple[str, ...]]:
    for cloud, value in enumerate(values):
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        if missing or not isinstance(value, Hashable) or not (named := _name(value)):
            raise InputError(place, f"label {value!r} of cloud {cloud}", KINDS)
        if class_names is not None and named not in class_names:
            found = f"label {nearest(named, class_names)} of cloud {cloud}"
            raise InputError(place, found, f"one of {', '.join(class_names)}")
    texts = [_name(value) for value in values]
    names = sorted(set(texts)) if class_names is None else list(class_names)
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[text] for text in texts]), tuple(names)


def _name(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
