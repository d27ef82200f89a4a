"""Trained networks as files: weights, and what is needed to use them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import ConfigDict, Field, JsonValue, field_validator
from safetensors import SafetensorError
from safetensors.torch import load as deserialised
from safetensors.torch import save as serialised
from torch import Tensor

from pcdistill.core.environment import hardware, versions
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from pcdistill.core.options import Options
from pcdistill.geometry import normalise
from pcdistill.models import Network, build
from pcdistill.training.recipe import EvaluationProtocol

FORMAT = "pcdistill network 1"


class Trained(NamedTuple):
    """A network with what it was trained on and how.

    Attributes:
        network: in evaluation mode.
        class_names: in the order of its logits.
        protocol: that it was trained by.
        dataset: name of the set that its training clouds come from.
        points: of every cloud that it was trained on; None in files of version 0.1.
        seed: of weights, order and augmentation; None in files of version 0.1.
        taught: what is known of its teachers (`teaching.Teacher.describe`), nothing without one.
        digest: SHA-256 of the file that it was read from; empty where there is none.
    """

    network: Network
    class_names: tuple[str, ...]
    protocol: EvaluationProtocol
    dataset: str
    points: int | None
    seed: int | None = None
    taught: Mapping[str, JsonValue] = {}
    digest: str = ""

    def seen(self, points: Tensor) -> Tensor:
        """Clouds `(N, P, 3)` as the network saw those that it was trained on: normalised, if its recipe does that."""
        return normalise(points) if self.protocol.recipe.normalise else points


class _Facts(Options):
    """What a file says of its network, which is not trusted."""

    model_config = ConfigDict(strict=True)

    class_names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)]
    points: Annotated[int | None, Field(ge=1)] = None
    seed: Annotated[int | None, Field(ge=0)] = None
    taught: dict[str, JsonValue] = Field(default_factory=dict)

    @field_validator("class_names")
    @classmethod
    def _differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("names that differ")
        return names


def save_network(path: Path, trained: Trained) -> None:
    """Write a network as safetensors, whole or not at all."""
    facts = {
        "format": FORMAT,
        "class_names": json.dumps(trained.class_names),
        "protocol": trained.protocol.model_dump_json(),
        "dataset": trained.dataset,
        "seed": json.dumps(trained.seed),
        "points": json.dumps(trained.points),
        "taught": json.dumps(dict(trained.taught)),
        "versions": json.dumps(versions()),
        "hardware": hardware(),
    }
    weights = {name: value.contiguous() for name, value in trained.network.state_dict().items()}
    with atomic(path) as temporary:
        temporary.write_bytes(serialised(weights, facts))


def load_network(path: Path) -> Trained:
    """A network written by `save_network`.

    Raises:
        InputError: not such a file, or its weights do not fit its network.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "a trained network")
    content = path.read_bytes()
    try:
        tensors = deserialised(content)
        texts = _metadata(content)
        if texts.get("format") != FORMAT:
            raise InputError(path, f"format {texts.get('format')!r:.80}", f"'{FORMAT}'")
        protocol = EvaluationProtocol.from_json(texts["protocol"], f"{path}: protocol")
        facts = _Facts.checked({key: json.loads(texts[key]) for key in _Facts.model_fields if key in texts}, path)
        network = build(protocol.network, len(facts.class_names), 0)
        network.load_state_dict(tensors)
        network.bf16 = protocol.recipe.bf16  # as it was trained, so that it is tested as `evaluate` tests it
        return Trained(
            network.eval(), facts.class_names, protocol, texts["dataset"], facts.points, facts.seed, facts.taught,
            hashlib.sha256(content).hexdigest(),
        )  # fmt: skip
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(path, f"not a network of this package ({' '.join(str(error).split())[:120]})") from None


def _metadata(content: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file that was found to be one."""
    size = int.from_bytes(content[:8], "little")
    texts: dict[str, str] = json.loads(content[8 : 8 + size]).get("__metadata__") or {}
    return texts
