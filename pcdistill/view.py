"""`pcdistill view`: what there is to see of an artefact or data set, handed to whoever draws it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pcdistill.config import ViewConfig
from pcdistill.data import load
from pcdistill.errors import InputError
from pcdistill.evaluation import accuracy_cell, read_records
from pcdistill.files import check_other, check_writable
from pcdistill.storage import Artefact
from pcdistill.trained import Trained, load_network
from pcdistill.viewing import (
    Exhibit,
    Judge,
    Scores,
    check_animation,
    chosen,
    evolution,
    exhibit_of,
    open_window,
    picture,
    shades,
    standing,
    turntable,
    write_page,
)

COLUMNS = 8


def run_view(config: ViewConfig, say: Callable[[str], None]) -> None:
    """Write what was asked for, and open the window at last.

    Raises:
        InputError: nothing to show, or not as asked.
        OSError: a file that cannot be read or written.
    """
    films = [(path, film) for path, film in ((config.turntable, turntable), (config.evolution, evolution)) if path]
    png = config.png
    if not (png or config.html or films or config.window):
        png = Path((Path(config.source).resolve().stem or "clouds") + ".png")
    outputs = [path for path in (png, config.html, config.turntable, config.evolution) if path is not None]
    for path, ending in ((png, ".png"), (config.html, ".html")):
        if path is not None and path.suffix.lower() != ending:
            raise InputError(ending[1:], str(path), f"a name that ends in {ending}")
    for number, path in enumerate(outputs):
        check_other(path, config.source, *outputs[:number])
        check_writable(path)
    for path, _ in films:
        check_animation(path, config.background, config.renderer)
    if config.records is not None and config.html is None:
        raise InputError("records", f"{config.records} without --html", "a page that shows them")
    scores = _scores(config.records)
    exhibit = open_view(config)
    if config.html is not None:
        size = write_page(exhibit, config.html, colour=config.colour, scores=scores)
        say(f"wrote {config.html}: {len(exhibit.clouds):,} clouds, {size / 1e6:.1f} MB")
    drawn: dict[str, Any] = {
        "colouring": config.colour, "initial": config.initial, "background": config.background,
        "renderer": config.renderer, **({"tile": config.tile} if config.tile else {}),
    }  # fmt: skip
    few = exhibit.only(chosen(exhibit.clouds, (), config.columns or COLUMNS))
    if png is not None:
        say(f"wrote {png} (renderer: {picture(few, png, **drawn)})")
    for path, film in films:
        used = film(few.only(chosen(few.clouds, (), config.columns or 1)), path, **drawn)
        say(f"wrote {path} (renderer: {used})")
    if config.window:
        open_window(few, say, colouring=config.colour, initial=config.initial)


def open_view(config: ViewConfig) -> Exhibit:
    """The clouds of an artefact or a data set that are to be shown, with all that was asked for besides.

    Raises:
        InputError: no such source, class or colouring, or an artefact without snapshots where they are needed.
    """
    artefact = Artefact.load(config.source) if Artefact.is_one(config.source) else None
    exhibit = _data(config) if artefact is None else _artefact(artefact, config)
    if config.real is not None:
        exhibit = exhibit.beside(load(config.real, "train", root=config.root), config.real)
    if config.model is not None:
        exhibit = replace(exhibit, judge=_judge(exhibit, load_network(config.model), config.model))
    shades(exhibit.only(torch.tensor([0])), config.colour)  # says what is missing
    return exhibit


def _artefact(artefact: Artefact, config: ViewConfig) -> Exhibit:
    if (config.initial or config.evolution) and not artefact.snapshots:
        raise InputError(config.source, "no snapshots", "an artefact distilled with --snapshots 1 or more")
    exhibit = exhibit_of(artefact)
    return exhibit.only(chosen(exhibit.clouds, config.class_, config.columns or _most(config)))


def _data(config: ViewConfig) -> Exhibit:
    if config.initial or config.evolution:
        option = "--initial" if config.initial else "--evolution"
        raise InputError(config.source, f"a data set with {option}", "an artefact")
    clouds = load(config.source, config.split, root=config.root)
    clouds = standing(clouds[chosen(clouds, config.class_, config.columns or _most(config))])
    return Exhibit(f"{config.source}, {config.split}", clouds, (clouds.points,))


def _most(config: ViewConfig) -> int:
    return COLUMNS if config.html is None else 64


def _judge(exhibit: Exhibit, trained: Trained, path: Path) -> Judge:
    missing = [name for name in exhibit.clouds.class_names if name not in trained.class_names]
    if missing:
        raise InputError(path, f"a network without class '{missing[0]}'", "one that knows all classes of the clouds")
    labels = exhibit.clouds.with_classes(trained.class_names).hard_labels
    return Judge(trained.network, labels)


def _scores(records: Path | None) -> Scores | None:
    """The accuracies of records as a table."""
    if records is None:
        return None
    if not records.is_file():
        raise InputError(records, "no such file", "records (.jsonl)")
    found = read_records(records)
    if not found:
        raise InputError(records, "no records", "at least one")
    head = ["trained on", "bytes per class", "network", "accuracy, %", "n"]
    rows = [
        [one.arm, f"{one.bytes_per_class:,.0f}", one.network, accuracy_cell(one), str(len(one.accuracy))]
        for one in found
    ]
    return Scores("Accuracy of networks trained on it and others", head, rows)
