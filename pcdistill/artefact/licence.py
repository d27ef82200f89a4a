"""Under which licence an artefact may be passed on: that of the data it was made from."""

import re

from pcdistill.artefact.metadata import Metadata
from pcdistill.data.catalog import CATALOG, licence_for

FREE = {r"CC0\b": "cc0-1.0", r"CC BY 4\.0\b": "cc-by-4.0"}
"""Licences that allow passing on what was made of the data, and how the Hugging Face Hub calls them."""


def licence_of(metadata: Metadata) -> str:
    """What the owners of the source allow, as the catalog says it of a set that it has, else the set's file."""
    known = licence_for(metadata.dataset)
    stated = known if metadata.dataset in CATALOG else metadata.source.get("licence") or known
    return stated if isinstance(stated, str) and stated.strip() else "none stated"


def identifier(licence: str) -> str:
    """Its name on the hub."""
    return next((name for pattern, name in FREE.items() if re.match(pattern, licence)), "other")


def forbidden(metadata: Metadata) -> bool:
    """Whether it was made of a published set whose licence does not allow to pass it on."""
    stated = licence_for(metadata.dataset)
    return stated is not None and identifier(stated) == "other"
