"""`pcdistill show`: what is in an artefact or a network."""

import json
import textwrap
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue

from pcdistill.artefact.artefact import Artefact
from pcdistill.commands.base import Command
from pcdistill.commands.making import summary
from pcdistill.core.options import Positional
from pcdistill.core.progress import Say
from pcdistill.export import NETWORK_FILES, card_in

FACTS = (
    "arm", "dataset", "storage", "selection", "objective", "settings", "seed", "created", "versions", "hardware",
)  # fmt: skip
WIDTH = 100


class Show(Command):
    """Print what is in an artefact, a trained network or an exported one."""

    source: Annotated[Path, Positional, Field(description="artefact, or network (.safetensors, .onnx)")]
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False

    def run(self, say: Say) -> None:
        if self.source.suffix in NETWORK_FILES:
            self._network(say)
        else:
            self._artefact(say)

    def _network(self, say: Say) -> None:
        """The model card of a network."""
        card = card_in(self.source).model_dump(mode="json")
        facts = {"file_bytes": self.source.stat().st_size, **card}
        if self.json_:
            say(json.dumps(facts))
            return
        for key, value in facts.items():
            say(_line(key, value, 12))

    def _artefact(self, say: Say) -> None:
        artefact = Artefact.load(self.source)
        facts = artefact.metadata.model_dump(mode="json")
        sizes = artefact.sizes(self.source)._asdict()
        if self.json_:
            say(json.dumps({**facts, "sizes": sizes}))
            return
        say(summary(artefact))
        parts = {name.removesuffix("_bytes"): f"{value:,}" for name, value in sizes.items()}
        for key, value in {"bytes": parts, **{key: facts[key] for key in FACTS}}.items():
            say(_line(key, value, 10))
        protocol = facts["protocol"]
        say(f"  protocol   {protocol.get('name')} v{protocol.get('version')}, network {protocol.get('network')}")
        if artefact.teacher is not None:
            kept = artefact.teacher
            say(
                f"  teacher    {kept.facts.protocol.network} in the file, {kept.nbytes:,} bytes, temperature "
                f"{kept.facts.temperature:g}"
            )
        if artefact.expansion is not None:
            say(f"  expansion  {json.dumps(facts['expansion'])}: up to {artefact.expansion.times} clouds for each")
        if artefact.losses:
            say(f"  loss       {artefact.losses[0]:.4g} -> {artefact.losses[-1]:.4g} in {len(artefact.losses)} steps")


def _line(key: str, value: JsonValue, width: int) -> str:
    """A row of the table, wrapped under itself."""
    return textwrap.fill(
        _plain(value), WIDTH, initial_indent=f"  {key:{width}} ", subsequent_indent=" " * (width + 3),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _plain(value: JsonValue) -> str:
    """A value of a file as text that does nothing to a terminal; mappings as names and values, inner in brackets."""
    if isinstance(value, dict):
        inner = (
            (_plain(key), f"({_plain(part)})" if isinstance(part, dict) else _plain(part))
            for key, part in value.items()
        )
        return ", ".join(f"{key} {part}" for key, part in inner) or "-"
    if isinstance(value, list):
        return " ".join(map(_plain, value)) or "-"
    if value is None:
        return "-"
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
