"""`pcdistill card`: a page on an artefact."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from pydantic import Field

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.places import ZOO, located
from pcdistill.commands.base import Command
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_other, check_output, sha256_file
from pcdistill.core.limits import MOST_TEXT, read_whole
from pcdistill.core.options import Force, Positional
from pcdistill.core.progress import Say
from pcdistill.results.record import Record, read_records
from pcdistill.results.set_card import Carded, card
from pcdistill.viewing import gallery

COLUMNS, TILE, COLOURS = 4, 72, 32  # of the picture


class Card(Command):
    """Write the card of an artefact: size, accuracy from records, licence, checksum, BibTeX; and a picture."""

    source: Annotated[str, Positional, Field(description="artefact: file, zoo:NAME or hf:USER/NAME")]
    output: Annotated[
        Path | None, Field(description="page to write (.md), its picture (.png) beside it (default: print the page)")
    ] = None
    name: Annotated[str | None, Field(description="by which its readers will open it (default: the source)")] = None
    records: Annotated[
        tuple[Path, ...], Field(description="records (.jsonl), as of compare and evaluate --output, of it and others")
    ] = ()
    audit: Annotated[Path | None, Field(description="what `pcdistill audit --output` wrote of it (.json)")] = None
    force: Force = False

    def run(self, say: Say) -> None:
        artefact, file = Artefact.load(self.source), located(self.source)
        picture = None if self.output is None else self._checked(self.output, file).with_suffix(".png")
        text = self._text(artefact, file, None if picture is None else picture.name)
        if self.output is None or picture is None:
            say(text.rstrip("\n"))
            return
        _draw(artefact, picture)
        with atomic(self.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
        say(f"wrote {self.output} and {picture}")

    def _text(self, artefact: Artefact, file: Path, picture: str | None) -> str:
        """The card: of the zoo the one that comes with the package, as it was measured, unless something is added."""
        if self.source.startswith(ZOO) and not (self.records or self.audit or self.name):
            packaged = file.with_suffix(".md").read_text(encoding="utf-8")
            drawn = file.with_suffix(".png").name
            if picture is None:
                return re.sub(rf"!\[[^]]*\]\({re.escape(drawn)}\)\n\n", "", packaged)
            return packaged.replace(f"]({drawn})", f"]({picture})")
        return card(Carded(
            self.name or self.source, artefact, sha256_file(file), file.stat().st_size, self._records(),
            None if self.audit is None else _audit(self.audit), picture,
        ))  # fmt: skip

    def _records(self) -> list[Record]:
        return [record for file in self.records for record in read_records(file)]

    def _checked(self, output: Path, source: Path) -> Path:
        if output.suffix != ".md":
            raise InputError("output", str(output), "a name that ends in .md")
        for path in (output, output.with_suffix(".png")):
            check_other(path, source)
            check_output(path, self.force)
        return output


def _draw(artefact: Artefact, picture: Path) -> None:
    """Some clouds of every class, in few colours: a card is passed on with a file of some kilobytes."""
    gallery(artefact.clouds, picture, columns=COLUMNS, tile=TILE, renderer="builtin")
    with Image.open(picture) as drawn:
        few = drawn.convert("RGB").quantize(COLOURS)
    with atomic(picture) as temporary:
        few.save(temporary, "PNG", optimize=True)


def _audit(path: Path) -> dict[str, Any]:
    """What an audit found.

    Raises:
        InputError: no JSON, or not of an audit.
    """
    try:
        found = json.loads(read_whole(path, MOST_TEXT))
        [(cloud["near"], cloud["traced"]) for cloud in found["clouds"]]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(path, f"no audit ({type(error).__name__})", "what `pcdistill audit --output` wrote") from None
    return dict(found)
