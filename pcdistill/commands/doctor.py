"""`pcdistill doctor`: what works here, and what is missing for the rest."""

import json
import os
from collections.abc import Iterator
from importlib import import_module
from typing import Annotated, Any

import torch
from pydantic import Field

from pcdistill.commands.base import Command
from pcdistill.core.environment import EXTRAS, hardware, memory, version_of, versions
from pcdistill.core.files import cache_root
from pcdistill.core.options import Root
from pcdistill.core.progress import Say
from pcdistill.data import catalog
from pcdistill.data.catalog import data_root


class Doctor(Command):
    """Say what works here: versions, processor and devices, data sets that are found, extras that load."""

    root: Root = None
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False

    def run(self, say: Say) -> None:
        facts = self._facts()
        if self.json_:
            say(json.dumps(facts))
            return
        for key in ("versions", "hardware", "memory_gb", "devices", "data", "found", "cache"):
            value = facts[key]
            words = ", ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, dict) else value
            say(f"{key.replace('_', ' '):10} {', '.join(words) if isinstance(words, list) else words}")
        say("")
        for name, found in facts["extras"].items():
            say(f"{name:12} {found['use']:58} {found['state']}")

    def _facts(self) -> dict[str, Any]:
        return {
            "versions": versions(),
            "hardware": hardware(),
            "memory_gb": f"{memory() / 2**30:.1f}",
            "devices": list(_devices()),
            "data": os.fspath(data_root(self.root)),
            "found": [row.name for row in catalog(self.root) if row.found],
            "cache": os.fspath(cache_root()),
            "extras": {name: {"use": extra.use, "state": _state(name)} for name, extra in EXTRAS.items()},
        }


def _devices() -> Iterator[str]:
    """What networks can be trained on, as `--device` names it."""
    yield "cpu"
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        yield f"cuda:{number} ({torch.cuda.get_device_name(number)})"
    if torch.backends.mps.is_available():
        yield "mps"


def _state(name: str) -> str:
    """Its version; or why it does not load, or how to install it."""
    extra = EXTRAS[name]
    try:
        module = import_module(extra.module)
    except ModuleNotFoundError as error:
        if error.name == extra.module.partition(".")[0]:
            return f"missing: pip install 'pcdistill[{name}]'"
        return f"does not load: {error}"
    except (ImportError, OSError) as error:  # a library of the system is missing
        return f"does not load: {' '.join(str(error).split())[:120]}"
    return str(getattr(module, "__version__", version_of(extra.package)))
