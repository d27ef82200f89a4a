"""Where sets were read on this machine, by fingerprint.

Files that are passed on say nothing of their maker's folders, and choose nothing that is opened: an artefact and a
network know the fingerprint of their set, and the machine knows where it has met it.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from pcdistill.core.files import atomic, cache_root

FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def remember(fingerprint: str, name: str) -> None:
    """Note the path of a set that was read, if it has one: names of the catalog have none.

    Args:
        fingerprint: of its training clouds, as they were read.
        name: as it was asked for.
    """
    path = Path(name)
    if path.exists():
        with suppress(OSError), atomic(_note(fingerprint)) as temporary:  # it is convenience, and may be lost
            temporary.write_bytes(os.fsencode(path.absolute()))


def remembered(fingerprint: str) -> str | None:
    """Where a set of this fingerprint was read last, if there is still something; of other texts None."""
    if not FINGERPRINT.fullmatch(fingerprint):
        return None
    try:
        found = os.fsdecode(_note(fingerprint).read_bytes())
        return found if Path(found).exists() else None
    except (OSError, ValueError):
        return None


def _note(fingerprint: str) -> Path:
    return cache_root() / "places" / fingerprint
