"""Trained networks as files: weights, and what is needed to use them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from pydantic import ConfigDict, Field, JsonValue, field_validator
from torch import Tensor

from pcdistill.clouds import PartNames
from pcdistill.core.environment import hardware, versions
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from pcdistill.core.limits import read_whole
from pcdistill.core.options import Options
from pcdistill.core.sealed import sealed, unsealed
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
        source_fingerprint: of the training clouds of that set (`PointClouds.fingerprint`); empty where it is not known.
        part_names: of a network that labels points, in the order of its logits.
        versions: of what wrote the file that it was read from; empty where there is none.
    """

    network: Network
    class_names: tuple[str, ...]
    protocol: EvaluationProtocol
    dataset: str
    points: int | None
    seed: int | None = None
    taught: Mapping[str, JsonValue] = {}
    digest: str = ""
    source_fingerprint: str = ""
    part_names: PartNames | None = None
    versions: Mapping[str, str] = {}

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
    part_names: JsonValue = None
    source_fingerprint: str = ""
    versions: dict[str, str] = Field(default_factory=dict)

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
        "source_fingerprint": json.dumps(trained.source_fingerprint),
        "versions": json.dumps(versions()),
        "hardware": hardware(str(next((value.device for value in trained.network.parameters()), "cpu"))),
    }
    if trained.part_names is not None:
        facts["part_names"] = json.dumps(trained.part_names.facts())
    with atomic(path) as temporary:
        temporary.write_bytes(sealed(trained.network.state_dict(), facts))


def load_network(path: Path) -> Trained:
    """A network written by `save_network`.

    What is allocated is at most as large as the file: the network is built when its weights are known to fit it.

    Raises:
        InputError: not such a file, a damaged one, or weights that do not fit its network or are not finite.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "a trained network")
    content = read_whole(path)
    try:
        tensors, texts = unsealed(content, path, "a network of this package")
        if texts.get("format") != FORMAT:
            raise InputError(path, f"format {texts.get('format')!r:.80}", f"'{FORMAT}'")
        protocol = EvaluationProtocol.from_json(texts["protocol"], f"{path}: protocol")
        facts = _Facts.checked({key: json.loads(texts[key]) for key in _Facts.model_fields if key in texts}, path)
        names, part_names = facts.class_names, None
        if facts.part_names is not None:
            part_names = PartNames.of_facts(facts.part_names, len(names), f"{path}: part_names")
        parts = 0 if part_names is None else len(part_names)
        _check_weights(protocol.network, len(names), parts, tensors, path)
        network = build(protocol.network, len(names), 0, parts)
        network.load_state_dict(tensors)
        network.bf16 = protocol.recipe.bf16  # as it was trained, so that it is tested as `evaluate` tests it
        return Trained(
            network.eval(), facts.class_names, protocol, texts["dataset"], facts.points, facts.seed, facts.taught,
            hashlib.sha256(content).hexdigest(), facts.source_fingerprint, part_names, facts.versions,
        )  # fmt: skip
    except InputError:
        raise
    except (KeyError, RecursionError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(path, f"not a network of this package ({' '.join(str(error).split())[:120]})") from None


def _check_weights(name: str, classes: int, parts: int, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Before the network is built: it may be much larger than a file that only says its name and classes.

    Raises:
        InputError: tensors of other names or shapes than the network's, or with values that are not finite.
    """
    with torch.device("meta"):
        wanted = {key: value.shape for key, value in build(name, classes, 0, parts).state_dict().items()}
    found = {key: value.shape for key, value in tensors.items()}
    if found != wanted:
        key = min(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        shapes = [str(tuple(shape[key])) if key in shape else "none" for shape in (found, wanted)]
        raise InputError(
            path, f"weights {key!r:.80} of shape {shapes[0]}", f"{shapes[1]} for {name} of {classes} classes"
        )
    for key, value in tensors.items():
        if not value.isfinite().all():
            raise InputError(path, f"weights {key} with NaN or infinity", "finite ones")
