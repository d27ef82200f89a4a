"""Trained networks as files: weights, and what is needed to use them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised

from pcdistill.environment import hardware, versions
from pcdistill.errors import InputError
from pcdistill.files import atomic
from pcdistill.models import Network, build
from pcdistill.training import Protocol

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
    """

    network: Network
    class_names: tuple[str, ...]
    protocol: Protocol
    dataset: str
    points: int | None
    seed: int | None = None
    taught: Mapping[str, JsonValue] = {}


class _Facts(BaseModel):
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
            raise ValueError("two classes have the same name")
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
    try:
        with safe_open(path, "pt") as stored:
            facts = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if facts.get("format") != FORMAT:
            raise InputError(path, f"format {facts.get('format')!r}", f"'{FORMAT}'")
        plan = Protocol.model_validate_json(facts["protocol"])
        known = _Facts.model_validate({key: json.loads(facts[key]) for key in _Facts.model_fields if key in facts})
        names = known.class_names
        network = build(plan.network, len(names), 0)
        network.load_state_dict(tensors)
        network.bf16 = plan.recipe.bf16  # as it was trained, so that it is tested as `evaluate` tests it
        return Trained(network.eval(), names, plan, facts["dataset"], known.points, known.seed, known.taught)
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(path, f"not a network of this package ({' '.join(str(error).split())[:120]})") from None
