"""`pcdistill show`: what is in an artefact or a network."""

import json
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
            say(f"  {key:12} {_plain(value)}")

    def _artefact(self, say: Say) -> None:
        artefact = Artefact.load(self.source)
        facts = artefact.metadata.model_dump(mode="json")
        sizes = artefact.sizes(self.source)._asdict()
        if self.json_:
            say(json.dumps({**facts, "sizes": sizes}))
            return
        say(summary(artefact))
        parts = (f"{name.removesuffix('_bytes')} {value:,}" for name, value in sizes.items())
        say(f"  sizes      {', '.join(parts)}")
        for key in FACTS:
            say(f"  {key:10} {_plain(facts[key])}")
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


def _plain(value: JsonValue) -> str:
    """A value of a file as text that does nothing to a terminal."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
