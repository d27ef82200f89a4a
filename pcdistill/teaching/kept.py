"""A teacher that is kept in the file of a set: one network, its weights as int8 codes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.core.options import Options
from pcdistill.models import Network, build
from pcdistill.teaching.teacher import Teacher
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.trained import Trained

TOP = 127  # of codes: -128 is not used, so that a weight and its opposite are codes of one size
SMALLEST = float(np.finfo(np.float16).tiny)  # scale of a row: smaller numbers have fewer digits

Codes = NDArray[np.int8]
Halves = NDArray[np.float16]


class TeacherFacts(Options):
    """What a file says of its teacher besides the weights.

    Attributes:
        name, sha256: of the file that it was read from.
        dataset, points, seed: as in `Trained`.
        protocol: that it was trained by; its network is the teacher's.
        temperature: that its logits are divided by.
    """

    name: str
    sha256: str
    dataset: str
    points: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    protocol: EvaluationProtocol
    temperature: float = Field(gt=0, allow_inf_nan=False)


@dataclass(frozen=True, eq=False)
class KeptTeacher:
    """A network in as few bytes as it teaches well with.

    Weights of two dimensions and more are symmetric int8 codes in units of a scale for each output channel, as int8
    runtimes have them (Jacob et al., CVPR 2018); scales, biases and what belongs to norms are float16. Both are in the
    order of the network's state.

    Attributes:
        facts: what else is known of it.
        codes: `(n,)` of all weights, row by row.
        floats: `(m,)`: of every weight the scales of its rows, and what is no weight as it is.
    """

    facts: TeacherFacts
    codes: Codes
    floats: Halves

    @classmethod
    def of(cls, teacher: Teacher) -> "KeptTeacher":
        """The teacher as a file holds it.

        Raises:
            InputError: an ensemble, or values beyond float16.
        """
        if len(teacher.members) > 1:
            raise InputError("teacher", f"{len(teacher.members)} networks to be kept in the file", "one")
        (member,) = teacher.members
        name, digest = (each[0] if each else "" for each in (teacher.names, teacher.digests))
        facts = TeacherFacts(
            name=name, sha256=digest, dataset=member.dataset, points=member.points, seed=member.seed,
            protocol=member.protocol, temperature=teacher.temperature,
        )  # fmt: skip
        codes, floats = _packed(member.network)
        if not np.isfinite(floats).all():
            raise InputError("teacher", "weights beyond float16", f"up to {np.finfo(np.float16).max:g}")
        return cls(facts, codes, floats)

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.floats.nbytes

    def teacher(self, class_names: tuple[str, ...]) -> Teacher:
        """The teacher that the file holds: rounded. It is not trusted.

        Raises:
            InputError: an unknown network, arrays that do not fit it, values that are not finite or that no encoder
                writes.
        """
        network = self._network(len(class_names))
        facts = self.facts
        member = Trained(
            network, class_names, facts.protocol, facts.dataset, facts.points, facts.seed, digest=facts.sha256
        )
        return Teacher((member,), facts.temperature, (facts.name,), (facts.sha256,))

    def _network(self, classes: int) -> Network:
        name = self.facts.protocol.network
        with torch.device("meta"):  # built when its weights are known to be there
            planned = dict(_floating(build(name, classes, 0).state_dict()))
        weights = [value for value in planned.values() if value.ndim > 1]
        wanted = (
            sum(value.numel() for value in weights),
            sum(len(value) if value.ndim > 1 else value.numel() for value in planned.values()),
        )
        if (self.codes.shape, self.floats.shape) != ((wanted[0],), (wanted[1],)):
            found = f"{self.codes.size} codes and {self.floats.size} floats"
            raise InputError("teacher", found, f"{wanted[0]} and {wanted[1]}, those of {name} of {classes} classes")
        if not np.isfinite(self.floats).all():
            raise InputError("teacher", "NaN or infinity", "finite weights")
        network = build(name, classes, 0)
        state = network.state_dict()
        codes = torch.from_numpy(self.codes.astype(np.float32))
        floats = torch.from_numpy(self.floats.astype(np.float32))
        for key, value in _floating(state):
            size = len(value) if value.ndim > 1 else value.numel()
            own, floats = floats[:size], floats[size:]
            if value.ndim > 1:
                rows, codes = codes[: value.numel()].view(len(value), -1), codes[value.numel() :]
                own = rows * own[:, None]
            state[key] = own.view(value.shape)
        network.load_state_dict(state)
        again = _packed(network)
        if (again[0].tobytes(), again[1].tobytes()) != (self.codes.tobytes(), self.floats.tobytes()):
            raise InputError("teacher", "values that no encoder writes", "codes and scales of weights")
        return network.eval()


def _packed(network: Network) -> tuple[Codes, Halves]:
    codes, floats = [torch.zeros(0, dtype=torch.int8)], [torch.zeros(0, dtype=torch.float16)]
    for _, value in _floating(network.state_dict()):
        if value.ndim < 2:
            floats.append(value.cpu().half().flatten())
            continue
        rows = value.cpu().float().flatten(1)
        scales = (rows.abs().amax(1) / TOP).clamp_min(SMALLEST).half()
        codes.append((rows / scales.float()[:, None]).round().clamp(-TOP, TOP).to(torch.int8).flatten())
        floats.append(scales)
    return torch.cat(codes).numpy(), torch.cat(floats).numpy()


def _floating(state: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Of a network's state all but counts of batches, which nobody asks for in evaluation mode."""
    return ((key, value) for key, value in state.items() if value.is_floating_point())
