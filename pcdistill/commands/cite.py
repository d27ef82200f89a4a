"""`pcdistill cite`: BibTeX of an artefact."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.citing import cite
from pcdistill.commands.base import Command
from pcdistill.core.options import Positional
from pcdistill.core.progress import Say


class Cite(Command):
    """Print BibTeX of the methods, networks and data that an artefact stands on."""

    source: Annotated[Path, Positional, Field(description="artefact")]

    def run(self, say: Say) -> None:
        say(cite(Artefact.load(self.source).metadata))
