"""`pcdistill cache`: what is kept for next time, and how to be rid of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pcdistill.commands.base import Command
from pcdistill.core.files import cache_root
from pcdistill.core.options import Positional
from pcdistill.core.progress import Say

ENTRY = re.compile(r"\.?[0-9a-f]{32,64}\.(safetensors|h5)(\..*)?")
"""Names that this package gives to what it keeps, and to what is left of a write that was killed."""


class Cache(Command):
    """List what is kept for next time (networks, experts, converted data), or remove it."""

    action: Annotated[Literal["list", "clear"], Positional, Field(description="list or clear")]

    def run(self, say: Say) -> None:
        found = {folder.name: entries for folder in _folders() if (entries := list(_entries(folder)))}
        sizes = {name: sum(file.stat().st_size for file in files) for name, files in found.items()}
        for name, files in found.items():
            say(f"{name:12} {len(files):6,} files {sizes[name] / 1e6:10,.1f} MB")
        if self.action == "clear":
            for files in found.values():
                for file in files:
                    file.unlink(missing_ok=True)
        done = "removed" if self.action == "clear" else "in all"
        say(f"{done:12} {sum(map(len, found.values())):6,} files {sum(sizes.values()) / 1e6:10,.1f} MB  {cache_root()}")


def _folders() -> list[Path]:
    root = cache_root()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _entries(folder: Path) -> Iterator[Path]:
    """Files of ours: whatever else lies there is not touched."""
    return (file for file in sorted(folder.iterdir()) if ENTRY.fullmatch(file.name) and file.is_file())
