"""`pcdistill report --html`: tables, plots and artefacts as a page that stands alone, its figures also as files."""

import contextlib
import csv
import io
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import Image

from pcdistill.clouds import PointClouds
from pcdistill.config import ReportConfig
from pcdistill.errors import InputError
from pcdistill.files import atomic, check_writable
from pcdistill.progress import progress
from pcdistill.report import (
    DASH,
    NEAR,
    Confusion,
    Row,
    cells,
    check_fields,
    confusion_of,
    csv_text,
    gathered,
    header,
    heading,
    per_cent,
    recipe_digest,
    tables_of,
)
from pcdistill.storage import Artefact
from pcdistill.viewing import Curve, accuracy_bars, accuracy_plot, confusion_plot, curves_of, gallery, loss_plot
from pcdistill.viewing.curves import COLOURS, wrapped
from pcdistill.viewing.document import Markup, element, escaped, page, picture, plot, table
from pcdistill.viewing.heatmap import NUMBERED

SHOWN = 12  # artefacts
CLASSES, CLOUDS, TILE = 10, 4, 112  # of an artefact's picture, and the side of a cloud in pixels
COLOURED = 128  # colours of it
OPEN = 4  # confusion matrices that are shown without being asked for
FIGURE = re.compile(r"(table|frontier|classes|confusion|losses|gallery)-\d+(-\d+)?\.(csv|png|svg)")


class Written(NamedTuple):
    """The page, the folder of its figures, and .jsonl files that hold no records."""

    page: Path
    figures: Path
    skipped: list[str]


class Folder(NamedTuple):
    """Where figures are written, and what it is called by the page."""

    path: Path
    link: str

    def files(self, name: str, *endings: str) -> Markup:
        """Links to the files of a figure."""
        links = [element("a", f"{name}.{ending}", href=f"{self.link}/{name}.{ending}") for ending in endings]
        return Markup(" · ".join(links))


class Plot(NamedTuple):
    """What is drawn, as words, and as numbers: lines of a CSV file, the first its header."""

    name: str
    draw: Callable[[Path], None]
    title: str
    description: str
    lines: Iterable[Sequence[object]]


class Shown(NamedTuple):
    """An artefact, its file, and what it is called."""

    artefact: Artefact
    path: Path
    name: str


def run_page(config: ReportConfig) -> Written:
    """Write the page `config.html` and, in a folder of its name, every figure as SVG and PNG and its numbers as CSV.

    The same records and artefacts give the same bytes. Figures of an older report in the folder are replaced.

    Raises:
        InputError: as `run_report`, but artefacts are enough; no matplotlib; or a folder of that name that holds
            something else.
        OSError: a file that cannot be read or written; the old ones are then as they were.
    """
    assert config.html is not None
    figures = _checked(config, config.html)
    artefact_files = found_artefacts(config.results)
    placed, skipped = gathered([path for path in config.results if not Artefact.is_one(path)])
    if not placed and not artefact_files:
        raise InputError(" ".join(map(str, config.results)), "no records and no artefacts", "at least one")
    tables = tables_of(placed, config)
    check_writable(config.html)
    with tempfile.TemporaryDirectory(dir=config.html.parent, prefix=f".{figures.name}.") as made, _quiet():
        folder = Folder(Path(made) / "figures", quote(os.fsencode(figures.name)))
        folder.path.mkdir()
        text = _page(config, tables, artefact_files, skipped, folder)
        with atomic(config.html) as temporary:
            temporary.write_text(text, encoding="utf-8")
            _put(folder.path, figures, Path(made) / "old")
    return Written(config.html, figures, skipped)


def _checked(config: ReportConfig, html: Path) -> Path:
    """The folder of figures, if the page can be made."""
    for flag, given in (("--csv", config.csv), ("--output", config.output is not None)):
        if given:
            raise InputError("report", f"--html with {flag}", "one of them")
    check_fields(config)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError("html", "matplotlib is not installed", "pip install 'pcdistill[plots]'") from None
    if html.suffix not in (".html", ".htm"):
        raise InputError("html", f"'{html}'", "a file that ends in .html")
    figures = html.with_suffix("")
    if figures.exists():
        # Nothing but figures may be replaced: the folder could be that of the results.
        other = next((name for name in sorted(os.listdir(figures)) if not FIGURE.fullmatch(name)), None)
        if other is not None:
            raise InputError(figures, f"'{other}', which is no figure of a report", "another name for the page")
    return figures


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Text of plots stays text, which a page can be searched for, and shows if matplotlib's own font lacks a sign."""
    from matplotlib import rc_context

    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _put(new: Path, target: Path, aside: Path) -> None:
    """Rename a folder to `target`; what stands there goes `aside`, and comes back if that fails."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(aside)
    try:
        new.rename(target)
    except BaseException:  # Ctrl-C too
        aside.rename(target)
        raise


def found_artefacts(results: Sequence[Path]) -> list[Path]:
    """All artefacts among files and in folders, each once."""
    files = [file for path in results for file in (sorted(path.rglob("*.h5")) if path.is_dir() else [path])]
    return list({file.resolve(): file for file in reversed(files) if Artefact.is_one(file)}.values())[::-1]


def _page(
    config: ReportConfig, tables: Sequence[list[Row]], files: Sequence[Path], skipped: Sequence[str], folder: Folder
) -> str:
    sections: list[tuple[str, str]] = []  # id and heading
    parts: list[Markup] = []
    with progress("drawing", len(tables) + bool(files)) as report:
        for number, own in enumerate(tables, 1):
            title = heading(own[0].record, config.by)
            sections.append((f"results-{number}", title))
            parts.append(_results(own, number, title, config.against, folder))
            report(number, title)
        if files:
            sections.append(("artefacts", "Artefacts"))
            parts.append(_artefacts(files, folder))
    datasets = dict.fromkeys(row.record.dataset for own in tables for row in own)
    counts = [f"{_count(sum(map(len, tables)), 'record')} in {_count(len(tables), 'table')}"] if tables else []
    counts += [_count(len(files), "artefact")] if files else []
    intro = [element("p", f"{' and '.join(counts)}, from {', '.join(map(str, config.results))}.")]
    if skipped:
        intro.append(element("p", f"Left out, as they hold no records: {', '.join(skipped)}.", class_="note"))
    if len(sections) > 1:
        links = [element("li", element("a", title, href=f"#{name}")) for name, title in sections]
        intro.append(element("nav", element("ol", *links), aria_label="Contents"))
    return page(f"Results on {', '.join(datasets)}" if datasets else "Artefacts", [*intro, *parts])


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _results(own: Sequence[Row], number: int, title: str, against: str | None, folder: Folder) -> Markup:
    """The section of one table: its numbers, plots of them, and where they come from."""
    parts = [element("h2", title), _accuracies(own, number, title, against, folder)]
    drawn = [row for row in own if _can_be_drawn(row)]
    if any(row.record.clouds_per_class is not None for row in drawn):  # levels alone are no frontier
        parts.append(_figure(_frontier(drawn, number), folder))
    found = [(row, confusion) for row in own if (confusion := confusion_of(row.record, row.place))]
    if bars := _class_bars(found, number):
        parts += [element("h3", "Accuracy by class"), *(_figure(one, folder) for one in bars)]
    if found:
        maps = [_figure(_confusion(row, known, number, i), folder) for i, (row, known) in enumerate(found, 1)]
        summary = element("summary", element("h3", f"Confusion matrices ({len(maps)})"))
        words = "What test clouds of a class (line) are taken for, in per cent, all networks of a record together."
        told = element("p", words, class_="note")
        shown = {"open": ""} if len(maps) <= OPEN else {}
        large = max(len(known.class_names) for _, known in found) > NUMBERED
        maps_beside = element("div", *maps, class_="figures large" if large else "figures")
        parts.append(element("details", summary, told, maps_beside, **shown))
    parts.append(_origins(own))
    return element("section", *parts, id=f"results-{number}")


def _accuracies(own: Sequence[Row], number: int, title: str, against: str | None, folder: Folder) -> Markup:
    best = _best(own)
    lines: list[list[object]] = []
    for place, row in enumerate(own):
        line: list[object] = list(cells(row, against))
        if place in best:
            told = element("span", " (best at its budget)", class_="unseen")
            line[4] = Markup(element("strong", line[4]) + told)
        lines.append(line)
    name = f"table-{number}"
    (folder.path / f"{name}.csv").write_text(csv_text(own), encoding="utf-8", errors="replace")
    caption = "In per cent: mean ± standard deviation over n networks."
    if best:
        caption += f" Bold: the best of those at equal bytes (within {100 * NEAR:.0f} %)."
    if against is not None:
        caption += f" Last column: difference to {against} at equal bytes, paired 95 % interval."
    files = element("p", folder.files(name, "csv"), class_="files")
    return Markup(table(title, caption, header(against), lines) + files)


def budgets_of(own: Sequence[Row]) -> list[list[int]]:
    """Places of lines by bytes that are nearly equal; whole sets, and networks that have none, are left out."""
    groups: list[list[int]] = []
    for place, row in enumerate(own):
        if row.record.clouds_per_class is None:
            continue
        least = own[groups[-1][0]].record.bytes_per_class if groups else math.inf
        if least <= row.record.bytes_per_class <= (1 + NEAR) * least:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _best(own: Sequence[Row]) -> set[int]:
    """Places of the best of every budget that more than one line has."""
    found: set[int] = set()
    for group in budgets_of(own):
        top = max(own[place].record.accuracy_mean for place in group)
        if len(group) > 1:
            found |= {place for place in group if own[place].record.accuracy_mean == top}
    return found


def _can_be_drawn(row: Row) -> bool:
    """Not so a record without a number, and one without bytes, which no logarithm takes."""
    record = row.record
    sized = record.clouds_per_class is None or record.bytes_per_class > 0
    return sized and math.isfinite(record.accuracy_mean) and math.isfinite(record.accuracy_std)


def _frontier(own: Sequence[Row], number: int) -> Plot:
    several = {row.name for row in own if len({other.record.storage for other in own if other.name == row.name}) > 1}
    names = [f"{row.name}, {row.record.storage}" if row.name in several else row.name for row in own]
    curves, levels = curves_of([row.record for row in own], names)
    kinds = {name: row.record.arm for name, row in zip(names, own, strict=True)}
    levels = [_level(level, kinds[level.label]) for level in levels]
    curves = [curve._replace(label=wrapped(curve.label)) for curve in curves]
    first = own[0].record
    title = f"{first.dataset}, {first.network}, protocol {first.protocol}"
    top = max(own, key=lambda row: row.record.accuracy_mean)
    told = [
        f"{name}: {per_cent(row.record.accuracy_mean)} at {row.record.bytes_per_class:,.0f} bytes"
        for name, row in zip(names, own, strict=True)
    ]
    return Plot(
        f"frontier-{number}",
        lambda path: accuracy_plot(curves, levels, path, title, _note(own)),
        f"Accuracy against bytes per class: {title}",
        f"Highest: {top.title}, {per_cent(top.record.accuracy_mean)} per cent. " + "; ".join(told) + ".",
        [
            ["arm", "bytes_per_class", "accuracy_mean", "accuracy_std", "n"],
            *(
                [name, one.bytes_per_class, one.accuracy_mean, one.accuracy_std, len(one.accuracy)]
                for name, one in zip(names, (row.record for row in own), strict=True)
            ),
        ],
    )


def _level(level: Curve, arm: str) -> Curve:
    """The whole set with its bytes; others have none that count."""
    name = level.label.replace("whole", "whole set", 1) if arm == "whole" else level.label
    size = f"\n{level.sizes[0]:,.0f} bytes" if level.sizes[0] else ""
    return level._replace(label=wrapped(name) + size)


def _note(own: Sequence[Row]) -> str:
    counts = sorted({len(row.record.accuracy) for row in own})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Mean ± standard deviation over n = {number} networks."


def _class_bars(found: Sequence[tuple[Row, Confusion]], number: int) -> list[Plot]:
    """Plots of at most as many records as there are colours, those of a budget in the same one if they can be."""
    plots: list[Plot] = []
    for names in dict.fromkeys(tuple(known.class_names) for _, known in found):
        own = [(row, known) for row, known in found if tuple(known.class_names) == names]
        packed = _packed(_by_budget(own))
        for part in packed:
            plots.append(_bars(part, names, f"classes-{number}-{len(plots) + 1}"))
    return plots


def _by_budget(found: Sequence[tuple[Row, Confusion]]) -> list[list[tuple[Row, Confusion]]]:
    groups = [[found[place] for place in group] for group in budgets_of([row for row, _ in found])]
    return [*groups, *([one] for one in found if one[0].record.clouds_per_class is None)]


def _packed(groups: Sequence[list[Any]]) -> list[list[Any]]:
    most, packed = len(COLOURS), list[list[Any]]()
    for group in groups:
        for part in (group[start : start + most] for start in range(0, len(group), most)):
            if packed and len(packed[-1]) + len(part) <= most:
                packed[-1] += part
            else:
                packed.append(list(part))
    return packed


def _bars(part: Sequence[tuple[Row, Confusion]], names: Sequence[str], name: str) -> Plot:
    recalls = [known.recalls for _, known in part]
    bars = [
        Curve(row.title, range(len(names)), own, [math.nan] * len(names))
        for (row, _), own in zip(part, recalls, strict=True)
    ]
    first = part[0][0].record
    title = f"{first.dataset}, {first.network}, protocol {first.protocol}"
    return Plot(
        name,
        lambda path: accuracy_bars(names, bars, path, title, "All networks of a record together."),
        f"Accuracy by class: {', '.join(bar.label for bar in bars)}",
        " ".join(f"{bar.label}: {_range(own, names)}." for bar, own in zip(bars, recalls, strict=True)),
        [["class", *(bar.label for bar in bars)], *([n, *own] for n, *own in zip(names, *recalls, strict=True))],
    )


def _range(recalls: Sequence[float], names: Sequence[str]) -> str:
    known = [(recall, name) for recall, name in zip(recalls, names, strict=True) if not math.isnan(recall)]
    if not known:
        return "no test clouds"
    (low, worst), (high, best) = min(known), max(known)
    return f"from {per_cent(low)} ({worst}) to {per_cent(high)} per cent ({best})"


def _confusion(row: Row, known: Confusion, number: int, place: int) -> Plot:
    names, matrix = known.class_names, known.matrix
    mistakes = [f"{names[i]} for {names[j]} ({per_cent(share)})" for share, i, j in known.mistakes()[:3]]
    often = f" Most often mistaken, in per cent: {', '.join(mistakes)}." if mistakes else ""
    return Plot(
        f"confusion-{number}-{place}",
        lambda path: confusion_plot(matrix, names, path, row.title),
        f"Confusion matrix: {row.title}",
        f"Right: {_range(known.recalls, names)}.{often}",
        [["class", *names], *([name, *line] for name, line in zip(names, matrix, strict=True))],
    )


def _origins(own: Sequence[Row]) -> Markup:
    """Where every number of a table comes from."""
    names = ["arm", "command", "commit", "date", "seeds of sets", "seeds of networks", "protocol", "recipe", "hardware",
             "versions", "record"]  # fmt: skip
    lines = []
    for row in own:
        record = row.record
        lines.append([
            row.title, _command(record.command), element("code", record.commit), record.date,
            _listed(record.distill_seeds), _listed(record.train_seeds), record.protocol,
            recipe_digest(record) or DASH, record.hardware,
            ", ".join(f"{key} {value}" for key, value in record.versions.items()) or DASH, row.place,
        ])  # fmt: skip
    long = [name in ("command", "versions") for name in names]
    summary = element("summary", element("h3", "Where the numbers come from"))
    caption = "What every record was measured with."
    return element("details", summary, table("Where the numbers come from", caption, names, lines, long))


def _command(words: str) -> Markup:
    """Lines of it may end at spaces, but not at a hyphen."""
    return element("code", Markup(" <wbr>".join(map(escaped, words.split(" ")))))


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or DASH


def _figure(one: Plot, folder: Folder) -> Markup:
    """Draw a plot, write its files, and show it."""
    svg = folder.path / f"{one.name}.svg"
    for path in (svg, svg.with_suffix(".png")):
        one.draw(path)
    svg.with_suffix(".csv").write_text(_lines(one.lines), encoding="utf-8", errors="replace")
    caption = folder.files(one.name, "svg", "png", "csv")
    return plot(svg.read_text(encoding="utf-8"), one.name, one.title, one.description, caption)


def _lines(values: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(values)
    return stream.getvalue()


def _artefacts(files: Sequence[Path], folder: Folder) -> Markup:
    """Sizes and sources of artefacts, their losses, and a picture of each."""
    chosen = _spread(files)
    names = _short_names(chosen)
    shown = [Shown(Artefact.load(path), path, names[path]) for path in chosen]
    parts = [element("h2", "Artefacts")]
    if left := len(files) - len(shown):
        parts.append(element("p", f"{len(shown)} of {len(files)} are shown, evenly from the list of their names; "
                                  f"{left} are left out.", class_="note"))  # fmt: skip
    parts.append(_facts(shown))
    if any(one.artefact.losses for one in shown):
        parts += [element("h3", "Losses"), _figure(_losses(shown), folder)]
    pictures = [_gallery(one, number, folder) for number, one in enumerate(shown, 1)]
    parts += [element("h3", "Pictures"), element("div", *pictures, class_="pictures")]
    return element("section", *parts, id="artefacts")


def _spread(files: Sequence[Path]) -> list[Path]:
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
            name, facts.arm, facts.storage, f"{facts.clouds_per_class:g} x {facts.points} @ {facts.bits}",
            f"{artefact.bytes_per_class:,.0f}", f"{sizes.file_bytes:,}", f"{sizes.training_bytes:,}",
            f"{sizes.history_bytes:,}", _source(facts.dataset, facts.source, facts.source_fingerprint), facts.seed,
            facts.created, facts.hardware, ", ".join(f"{key} {value}" for key, value in facts.versions.items()),
        ])  # fmt: skip
    long = [name in ("made of", "versions") for name in names]
    return table("Artefacts", "What the artefacts hold, and what they were made of.", names, lines, long)


def _source(dataset: str, source: Mapping[str, object], fingerprint: str) -> str:
    known = [f"{key} {source[key]}" for key in ("split", "source", "licence") if source.get(key)]
    return ", ".join([dataset, *known, f"fingerprint {fingerprint[:16]}"])


def _losses(shown: Sequence[Shown]) -> Plot:
    losses = {one.name: one.artefact.losses for one in shown if one.artefact.losses}
    told = [f"{name}: {own[0]:.4g} to {own[-1]:.4g} in {len(own):,} steps" for name, own in losses.items()]
    return Plot(
        "losses-1",
        lambda path: loss_plot(
            {wrapped(name): own for name, own in losses.items()}, path, "Losses",
            "Losses of different objectives cannot be compared. Of many steps a dot is the mean of some.",
        ),
        "Losses of the artefacts against steps",
        "; ".join(told) + ".",
        [["artefact", "step", "loss"],
         *([name, step, loss] for name, own in losses.items() for step, loss in enumerate(own, 1))],
    )  # fmt: skip


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
    told = [one.name, f"{facts.arm}, {facts.clouds_per_class:g} x {facts.points} @ {facts.bits}"]
    told += [f"the first {CLASSES} of {len(facts.class_names)} classes"] if left else []
    caption = Markup(element("span", "; ".join(told)) + "<br>" + folder.files(path.stem, "png"))
    return picture(path.read_bytes(), alt, caption)
