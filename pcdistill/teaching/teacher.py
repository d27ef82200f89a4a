"""Trained networks that label clouds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import JsonValue
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.geometry import normalise
from pcdistill.training.loop import predict
from pcdistill.training.trained import Trained, load_network


class Teacher(NamedTuple):
    """One network or an ensemble that labels clouds with probabilities (Hinton et al. 2015).

    Attributes:
        members: the networks, of the same classes.
        temperature: that their logits are divided by.
        names: of their files.
        digests: SHA-256 of these; empty for networks that were not read from one.
    """

    members: tuple[Trained, ...]
    temperature: float = 1.0
    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.members[0].class_names

    def check(self, class_names: tuple[str, ...]) -> None:
        """Raise `InputError` unless every member names these classes, in this order."""
        for number, member in enumerate(self.members):
            place = self.names[number] if self.names else "teacher"
            if member.part_names is not None:
                raise InputError(place, "a network that labels points", "one that names objects")
            if member.class_names != class_names:
                expected = f"those of the data: {', '.join(class_names)}"
                raise InputError(place, f"classes {', '.join(member.class_names)}", expected)

    def to(self, device: str) -> "Teacher":
        """The same, its networks moved to a device."""
        for member in self.members:
            member.network.to(device)
        return self

    def logits(self, points: Tensor) -> Tensor:
        """Of clouds `(N, P, 3)`, `(members, N, classes)`."""
        seen = {False: points}
        if any(member.protocol.recipe.normalise for member in self.members):
            seen[True] = normalise(points)
        return torch.stack([predict(one.network, seen[one.protocol.recipe.normalise]) for one in self.members])

    def probabilities(self, points: Tensor) -> Tensor:
        """Of clouds `(N, P, 3)`, `(N, classes)`: the softmax of logits over the temperature, averaged over members."""
        return (self.logits(points) / self.temperature).softmax(2).mean(0)

    def describe(self) -> dict[str, JsonValue]:
        """What an artefact, a record or a student's file says of it: no folders."""
        return {
            "teacher": ", ".join(self.names),
            "sha256": ", ".join(self.digests),
            "network": ", ".join(member.protocol.network for member in self.members),
            "temperature": self.temperature,
        }


def read_teacher(paths: Sequence[Path], temperature: float, device: str = "cpu") -> Teacher:
    """The teacher made of networks in files, at least one, on a device.

    Raises:
        InputError: not such files, or networks of different classes.
    """
    members = tuple(load_network(path) for path in paths)
    names, digests = tuple(path.name for path in paths), tuple(member.digest for member in members)
    teacher = Teacher(members, temperature, names, digests)
    teacher.check(members[0].class_names)
    return teacher.to(device)
