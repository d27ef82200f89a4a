"""The artefact file: a storage, what it was made from and how, what is made of it, and what to cite for it."""

from pcdistill.artefact.artefact import Artefact, Sizes, exhibit_of
from pcdistill.artefact.expansion import Expansion, expand
from pcdistill.artefact.loading import load
from pcdistill.artefact.metadata import Metadata

__all__ = ["Artefact", "Expansion", "Metadata", "Sizes", "exhibit_of", "expand", "load"]
