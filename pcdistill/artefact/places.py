"""Where artefacts lie that have names: in this package (`zoo:NAME`), or on the Hugging Face Hub (`hf:USER/NAME`)."""

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from pcdistill.core.errors import InputError
from pcdistill.core.registry import nearest

ZOO, HUB = "zoo:", "hf:"
FILE = "set.h5"
"""Of an artefact in a repository of the hub, beside its card."""
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FOLDER = Path(__file__).parent / "zoo"


class NoArtefactError(InputError):
    """A repository of the hub that is there and holds no artefact, but perhaps a data set."""


def zoo() -> dict[str, Path]:
    """Artefacts that come with the package, by name; beside each lies its card (.md) and its picture (.png)."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.h5"), key=_by_size)}


def _by_size(path: Path) -> tuple[str, int]:
    name, _, size = path.stem.rpartition("-")
    return name, int(size) if size.isdigit() else 0


def located(name: str | os.PathLike[str]) -> Path:
    """The file that a name stands for: one of the zoo, one of the hub, which is fetched, or else the path itself.

    Raises:
        InputError: none of that name in the zoo; no such repository or file on the hub, or no way to it.
    """
    text = Path(name).as_posix()
    if text.startswith(ZOO):
        known = zoo()
        if (short := text.removeprefix(ZOO)) not in known:
            raise InputError("zoo", nearest(short, known), "one of " + ", ".join(known))
        return known[short]
    if text.startswith(HUB):
        return _fetched(text.removeprefix(HUB))
    return Path(name)


def repository(name: str) -> str:
    """`USER/NAME` of `hf:USER/NAME`.

    Raises:
        InputError: something else.
    """
    if not name.startswith(HUB) or not REPOSITORY.fullmatch(found := name.removeprefix(HUB)):
        raise InputError("hub", f"'{name}'", "hf:USER/NAME")
    return found


def hub() -> Any:
    """The package `huggingface_hub`.

    Raises:
        InputError: it is not installed.
    """
    try:
        found = import_module("huggingface_hub")
    except ImportError:
        raise InputError("hub", "huggingface_hub is not installed", "pip install 'pcdistill[hub]'") from None
    found.logging.set_verbosity_error()  # it tells of every retry
    return found


def _fetched(name: str) -> Path:
    """The artefact of a repository, from the hub's own cache if it is there as it is now."""
    found, library = repository(HUB + name), hub()
    try:
        return Path(library.hf_hub_download(found, FILE, repo_type="dataset"))
    except library.errors.RemoteEntryNotFoundError:
        raise NoArtefactError(HUB + name, f"no file {FILE}", "an artefact that `pcdistill push` published") from None
    except (OSError, ValueError) as error:  # the library's own are of these
        raise InputError(HUB + name, reason(error), "a repository of data on the Hugging Face Hub") from None


def reason(error: Exception) -> str:
    """Why something did not come, in a line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
