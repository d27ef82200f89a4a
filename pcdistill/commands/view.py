"""`pcdistill view`: what there is to see of an artefact or data set, handed to whoever draws it."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from pcdistill.artefact.artefact import Artefact, exhibit_of
from pcdistill.commands.base import Command, tell
from pcdistill.core.errors import InputError
from pcdistill.core.files import check_other, check_output
from pcdistill.core.options import Force, Positional, Reading
from pcdistill.core.progress import Say
from pcdistill.data.reading import read
from pcdistill.evaluation.subject import open_set
from pcdistill.results.record import read_records
from pcdistill.results.table import accuracy_cell
from pcdistill.training.trained import Trained, load_network
from pcdistill.viewing import (
    Exhibit,
    Judge,
    Scores,
    check_animation,
    chosen,
    evolution,
    open_window,
    picture,
    shades,
    standing,
    turntable,
    write_page,
)

COLUMNS = 8  # clouds per class in pictures


class View(Reading, Command):
    """Show clouds: pictures, an animation, a page for the browser, or an interactive window.

    Without any of them, a picture is written that is named like the source.
    """

    source: Annotated[str, Positional, Field(description="artefact or data set")]
    png: Annotated[Path | None, Field(description="picture to write: classes are rows, clouds are columns")] = None
    html: Annotated[
        Path | None, Field(description="page to write: one file that shows all in a browser, without a network")
    ] = None
    turntable: Annotated[
        Path | None, Field(description="animation to write, of clouds that turn (.gif, .webp, .mp4)")
    ] = None
    evolution: Annotated[
        Path | None, Field(description="animation to write, from first guess to distilled (needs snapshots)")
    ] = None
    window: Annotated[bool, Field(description="open the interactive Open3D viewer")] = False
    split: Annotated[Literal["train", "test"], Field(description="of a data set")] = "train"
    class_: Annotated[tuple[str, ...], Field(alias="class", description="classes to show (default: all)")] = ()
    columns: Annotated[int | None, Field(ge=1, description="clouds per class (default: 8; animation 1, page 64)")] = (
        None
    )
    colour: Annotated[
        str,
        Field(description="what points are coloured by: height, part (of sets whose points have parts), moved, real "
                          "(distance to the nearest real cloud), critical or gradient (which points matter to a "
                          "network)"),
    ] = "height"  # fmt: skip
    real: Annotated[
        str | None, Field(description="data set whose training clouds the nearest ones are shown of, and compared with")
    ] = None
    model: Annotated[Path | None, Field(description="trained network (.safetensors) that says which points matter")] = (
        None
    )
    records: Annotated[
        Path | None, Field(description="records (.jsonl), as of evaluate --output, whose accuracies a page shows")
    ] = None
    renderer: Annotated[Literal["auto", "open3d", "builtin"], Field(description="who draws")] = "auto"
    background: Annotated[Literal["white", "dark", "transparent"], Field(description="of pictures")] = "white"
    tile: Annotated[
        int | None, Field(ge=32, le=2048, description="pixels of a cloud's side (default: 220; animation 160)")
    ] = None
    initial: Annotated[bool, Field(description="show where each distilled cloud started (needs snapshots)")] = False
    force: Force = False

    def run(self, say: Say) -> None:
        films = [(path, film) for path, film in ((self.turntable, turntable), (self.evolution, evolution)) if path]
        png = self.png
        if not (png or self.html or films or self.window):
            png = Path((Path(self.source.rpartition(":")[2]).resolve().stem or "clouds") + ".png")
        self._check(png)
        scores = None if self.records is None else _scores(self.records)
        exhibit = self.exhibit()
        if self.html is not None:
            size = write_page(exhibit, self.html, colour=self.colour, scores=scores)
            say(f"wrote {self.html}: {len(exhibit.clouds):,} clouds, {size / 1e6:.1f} MB")
        drawn: dict[str, Any] = {
            "colouring": self.colour, "initial": self.initial, "background": self.background,
            "renderer": self.renderer, **({"tile": self.tile} if self.tile else {}),
        }  # fmt: skip
        few = exhibit.only(chosen(exhibit.clouds, (), self.columns or COLUMNS))
        if png is not None:
            say(f"wrote {png} (renderer: {picture(few, png, **drawn)})")
        for path, film in films:
            used = film(few.only(chosen(few.clouds, (), self.columns or 1)), path, **drawn)
            say(f"wrote {path} (renderer: {used})")
        if self.window:
            open_window(few, say, colouring=self.colour, initial=self.initial)

    def _check(self, png: Path | None) -> None:
        """Refuse files that cannot be written, before there is something to write."""
        outputs = [path for path in (png, self.html, self.turntable, self.evolution) if path is not None]
        for path, ending in ((png, ".png"), (self.html, ".html")):
            if path is not None and path.suffix.lower() != ending:
                raise InputError(ending[1:], str(path), f"a name that ends in {ending}")
        for number, path in enumerate(outputs):
            check_other(path, self.source, *outputs[:number])
            check_output(path, self.force)
        for film in (self.turntable, self.evolution):
            if film is not None:
                check_animation(film, self.background, self.renderer)
        if self.records is not None and self.html is None:
            raise InputError("records", f"{self.records} without --html", "a page that shows them")

    def exhibit(self) -> Exhibit:
        """The clouds that are to be shown, with all that is asked for besides.

        Raises:
            InputError: no such source, class or colouring, or an artefact without snapshots where they are needed.
        """
        made = open_set(self.source, self, self.split)
        if isinstance(made, Artefact):
            exhibit = self._artefact(made)
        else:
            tell(made)
            self._check_plain()
            clouds = standing(made[chosen(made, self.class_, self._columns)])
            exhibit = Exhibit(f"{self.source}, {self.split}", clouds, (clouds.points,))
        if self.real is not None:
            real = read(self, self.real)
            tell(real)
            exhibit = exhibit.beside(real, self.real)
        if self.model is not None:
            exhibit = replace(exhibit, judge=_judge(exhibit, load_network(self.model), self.model))
        shades(exhibit.only(torch.tensor([0])), self.colour)  # says what is missing
        return exhibit

    def _artefact(self, artefact: Artefact) -> Exhibit:
        if (self.initial or self.evolution) and not artefact.snapshots:
            raise InputError(self.source, "no snapshots", "an artefact distilled with --snapshots 1 or more")
        exhibit = exhibit_of(artefact)
        return exhibit.only(chosen(exhibit.clouds, self.class_, self._columns))

    def _check_plain(self) -> None:
        """Refuse what a data set has not."""
        if self.initial or self.evolution:
            option = "--initial" if self.initial else "--evolution"
            raise InputError(self.source, f"a data set with {option}", "an artefact")

    @property
    def _columns(self) -> int:
        return self.columns or (COLUMNS if self.html is None else 64)


def _judge(exhibit: Exhibit, trained: Trained, path: Path) -> Judge:
    missing = [name for name in exhibit.clouds.class_names if name not in trained.class_names]
    if missing:
        raise InputError(path, f"a network without class '{missing[0]}'", "one that knows all classes of the clouds")
    labels = exhibit.clouds.with_classes(trained.class_names).hard_labels
    return Judge(trained.network, labels)


def _scores(records: Path) -> Scores:
    """The accuracies of records as a table."""
    if not records.is_file():
        raise InputError(records, "no such file", "records (.jsonl)")
    arms = read_records(records)
    if not arms:
        raise InputError(records, "no records", "at least one")
    head = ["trained on", "bytes per class", "network", "accuracy, %", "n"]
    rows = [
        [one.arm, f"{one.bytes_per_class:,.0f}", one.network, str(accuracy_cell(one)), str(len(one.accuracy))]
        for one in arms
    ]
    return Scores("Accuracy of networks trained on it and others", head, rows)
