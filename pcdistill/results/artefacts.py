"""What a page of results shows of artefacts: sizes and sources, losses, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.files import visible
from pcdistill.results.document import Markup, element, picture
from pcdistill.results.figures import Folder, Plot
from pcdistill.results.plots import loss_plot
from pcdistill.results.table import Table, size_of
from pcdistill.viewing import gallery

SHOWN = 12  # artefacts
CLASSES, CLOUDS, TILE = 10, 4, 112  # of an artefact's picture, and the side of a cloud in pixels
COLOURED = 128  # colours of it


class Shown(NamedTuple):
    """An artefact, its file, and what it is called."""

    artefact: Artefact
    path: Path
    name: str


def among(results: Sequence[Path]) -> list[Path]:
    """All artefacts among files and in folders, each once."""
    files = [file for path in results for file in (visible(path, ".h5") if path.is_dir() else [path])]
    return list({file.resolve(): file for file in reversed(files) if Artefact.is_one(file)}.values())[::-1]


def section(files: Sequence[Path], folder: Folder) -> Markup:
    """Sizes and sources of artefacts, their losses, and a picture of each."""
    chosen = _evenly(files)
    names = _short_names(chosen)
    shown = [Shown(Artefact.load(path), path, names[path]) for path in chosen]
    parts = [element("h2", "Artefacts")]
    if left := len(files) - len(shown):
        parts.append(element("p", f"{len(shown)} of {len(files)} are shown, evenly from the list of their names; "
                                  f"{left} are left out.", class_="note"))  # fmt: skip
    parts.append(_facts(shown))
    if any(one.artefact.losses for one in shown):
        parts += [element("h3", "Losses"), _losses(shown).figure(folder)]
    pictures = [_gallery(one, number, folder) for number, one in enumerate(shown, 1)]
    parts += [element("h3", "Pictures"), element("div", *pictures, class_="pictures")]
    return element("section", *parts, id="artefacts")


def _evenly(files: Sequence[Path]) -> list[Path]:
    """At most so many as are shown, from the whole list."""
    number = min(SHOWN, len(files))
    return [files[place * len(files) // number] for place in range(number)]


def _short_names(files: Sequence[Path]) -> dict[Path, str]:
    """Files by their names, with folders where these are the same."""
    stems, longer = [path.stem for path in files], [path.with_suffix("") for path in files]
    return {
        path: path.stem if stems.count(path.stem) == 1 else str(short if longer.count(short) == 1 else path)
        for path, short in zip(files, longer, strict=True)
    }


def _facts(shown: Sequence[Shown]) -> Markup:
    names = ["artefact", "arm", "storage", "clouds x points @ bits", "bytes per class", "bytes of the file",
             "of which clouds", "history", "made of", "seed", "made on", "hardware", "versions"]  # fmt: skip
    lines = []
    for artefact, path, name in shown:
        facts, sizes = artefact.metadata, artefact.sizes(path)
        lines.append([
            name, facts.arm, facts.storage, size_of(facts),
            f"{artefact.bytes_per_class:,.0f}", f"{sizes.file_bytes:,}", f"{sizes.training_bytes:,}",
            f"{sizes.history_bytes:,}", _source(facts.dataset, facts.source, facts.source_fingerprint), facts.seed,
            facts.created, facts.hardware, ", ".join(f"{key} {value}" for key, value in facts.versions.items()),
        ])  # fmt: skip
    caption = "What the artefacts hold, and what they were made of."
    return Table(names, lines).html("Artefacts", caption, long=("made of", "versions"))


def _source(dataset: str, source: Mapping[str, object], fingerprint: str) -> str:
    facts = [f"{key} {source[key]}" for key in ("split", "source", "licence") if source.get(key)]
    return ", ".join([dataset, *facts, f"fingerprint {fingerprint[:16]}"])


def _losses(shown: Sequence[Shown]) -> Plot:
    losses = {one.name: one.artefact.losses for one in shown if one.artefact.losses}
    words = [f"{name}: {own[0]:.4g} to {own[-1]:.4g} in {len(own):,} steps" for name, own in losses.items()]
    return Plot(
        "losses-1",
        lambda path: loss_plot(
            losses,
            path,
            "Losses",
            "Losses of different objectives cannot be compared. Of many steps a dot is the mean of some.",
            [one.artefact.metadata.arm for one in shown if one.artefact.losses],
        ),
        "Losses of the artefacts against steps",
        "; ".join(words) + ".",
        Table(
            ["artefact", "step", "loss"],
            [[name, step, loss] for name, own in losses.items() for step, loss in enumerate(own, 1)],
        ),
    )


def _gallery(one: Shown, number: int, folder: Folder) -> Markup:
    """Clouds of an artefact, and above those of a class what they were at first if the artefact knows it."""
    clouds, snapshots = one.artefact.clouds, one.artefact.snapshots
    some = clouds.hard_labels < CLASSES
    initial: PointClouds | None = clouds.with_points(snapshots[0].float())[some] if snapshots else None
    path = folder.path / f"gallery-{number}.png"
    # The builtin renderer: the same bytes whether or not there is Open3D.
    gallery(clouds[some], path, columns=CLOUDS, renderer="builtin", initial=initial, tile=TILE)
    with Image.open(path) as drawn:  # a palette is a third of the size
        drawn.quantize(COLOURED, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)
    facts = one.artefact.metadata
    names = facts.class_names[:CLASSES]
    kinds = "first guesses and what became of them, " if snapshots else ""
    alt = f"Clouds of {one.name}, {kinds}by class: {', '.join(names)}."
    left = len(facts.class_names) - len(names)
    words = [one.name, f"{facts.arm}, {size_of(facts)}"]
    words += [f"the first {CLASSES} of {len(facts.class_names)} classes"] if left else []
    caption = Markup(element("span", "; ".join(words)) + "<br>" + folder.files(path.stem, "png"))
    return picture(path.read_bytes(), alt, caption)
