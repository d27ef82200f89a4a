"""`pcdistill zoo`: the artefacts that come with the package."""

from typing import Annotated, Literal

from pydantic import Field

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.licence import licence_of
from pcdistill.artefact.places import ZOO, zoo
from pcdistill.commands.base import Command
from pcdistill.core.options import Positional
from pcdistill.core.progress import Say
from pcdistill.results.set_card import measured_in
from pcdistill.results.table import Table


class Zoo(Command):
    """List the artefacts that come with the package. Commands and Python open them as `zoo:NAME`."""

    action: Annotated[Literal["list"], Positional, Field(description="list")]

    def run(self, say: Say) -> None:
        rows = []
        for name, path in zoo().items():
            artefact, card = Artefact.load(path), path.with_suffix(".md")
            rows.append([
                ZOO + name, artefact.metadata.arm, len(artefact.metadata.class_names), len(artefact.storage),
                f"{artefact.nbytes:,}", measured_in(card.read_text(encoding="utf-8")),
                licence_of(artefact.metadata).partition(";")[0],
            ])  # fmt: skip
        header = ["name", "made by", "classes", "clouds", "bytes", "accuracy, %", "licence"]
        say(Table(header, rows).text())
