"""A page of results that stands alone: tables, plots and artefacts, its figures also as files."""

import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pcdistill.artefact.artefact import Artefact
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_writable
from pcdistill.core.progress import progress
from pcdistill.results import arms, artefacts
from pcdistill.results.arms import NEAR, Row
from pcdistill.results.confusion import Confusion
from pcdistill.results.document import Markup, element, escaped, page
from pcdistill.results.figures import Folder, Plot, check_replaceable, put, quiet
from pcdistill.results.heatmap import NUMBERED, confusion_plot
from pcdistill.results.plots import COLOURS, Curve, accuracy_bars, accuracy_plot, curves_of
from pcdistill.results.record import WHOLE
from pcdistill.results.statistics import clear_best
from pcdistill.results.table import Table, note_of, per_cent

OPEN = 4  # confusion matrices that are shown without being asked for


class Written(NamedTuple):
    """The folder of a page's figures, and .jsonl files that hold no records."""

    figures: Path
    skipped: list[str]


def write_page(html: Path, results: Sequence[Path], by: Sequence[str] = (), against: str | None = None) -> Written:
    """Write the page `html` and, in a folder of its name, every figure as SVG and PNG and its numbers as CSV.

    The same records and artefacts give the same bytes. Figures of an older report in the folder are replaced.

    Args:
        html: file to write, ending in .html.
        results: files of records, artefacts, and folders of both.
        by, against: as in `arms.tables_of`.

    Raises:
        InputError: nothing to report, as `arms.tables_of` says it; no matplotlib; or a folder of that name that holds
            something else.
        OSError: a file that cannot be read or written; the old ones are then as they were.
    """
    figures = _checked(html)
    files = artefacts.among(results)
    placed, skipped = arms.gathered([path for path in results if not Artefact.is_one(path)])
    if not placed and not files:
        raise InputError(" ".join(map(str, results)), "no records and no artefacts", "at least one")
    tables = arms.tables_of(placed, by, against)
    check_writable(html)
    with tempfile.TemporaryDirectory(dir=html.parent, prefix=f".{figures.name}.") as made, quiet():
        folder = Folder(Path(made) / "figures", quote(os.fsencode(figures.name)))
        folder.path.mkdir()
        sections = _sections(tables, files, by, against, folder)
        text = _page(sections, _origin(tables, files, results), skipped, tables)
        with atomic(html) as temporary:
            temporary.write_text(text, encoding="utf-8")
            put(folder.path, figures, Path(made) / "old")
    return Written(figures, skipped)


def _checked(html: Path) -> Path:
    """The folder of figures, if the page can be made."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError("html", "matplotlib is not installed", "pip install 'pcdistill[plots]'") from None
    if html.suffix not in (".html", ".htm"):
        raise InputError("html", f"'{html}'", "a file that ends in .html")
    figures = html.with_suffix("")
    check_replaceable(figures)
    return figures


class Section(NamedTuple):
    """A part of the page that can be jumped to."""

    name: str
    title: str
    content: Markup


def _sections(
    tables: Sequence[list[Row]], files: Sequence[Path], by: Sequence[str], against: str | None, folder: Folder
) -> list[Section]:
    sections = []
    with progress("drawing", len(tables) + bool(files)) as report:
        for number, own in enumerate(tables, 1):
            title = arms.heading(own[0].record, by)
            sections.append(Section(f"results-{number}", title, _results(own, number, title, against, folder)))
            report(number, title)
        if files:
            sections.append(Section("artefacts", "Artefacts", artefacts.section(files, folder)))
    return sections


def _page(sections: Sequence[Section], origin: str, skipped: Sequence[str], tables: Sequence[list[Row]]) -> str:
    intro = [element("p", origin)]
    if skipped:
        intro.append(element("p", f"Left out, as they hold no records: {', '.join(skipped)}.", class_="note"))
    if len(sections) > 1:
        links = [element("li", element("a", one.title, href=f"#{one.name}")) for one in sections]
        intro.append(element("nav", element("ol", *links), aria_label="Contents"))
    datasets = dict.fromkeys(row.record.dataset for own in tables for row in own)
    title = f"Results on {', '.join(datasets)}" if datasets else "Artefacts"
    return page(title, [*intro, *(one.content for one in sections)])


def _origin(tables: Sequence[list[Row]], files: Sequence[Path], results: Sequence[Path]) -> str:
    counts = [f"{_count(sum(map(len, tables)), 'record')} in {_count(len(tables), 'table')}"] if tables else []
    counts += [_count(len(files), "artefact")] if files else []
    return f"{' and '.join(counts)}, from {', '.join(map(str, results))}."


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _results(own: Sequence[Row], number: int, title: str, against: str | None, folder: Folder) -> Markup:
    """The section of one table: its numbers, plots of them, and where they come from."""
    parts = [element("h2", title), _accuracies(own, number, title, against, folder)]
    drawn = [row for row in own if _can_be_drawn(row)]
    if any(row.record.clouds_per_class is not None for row in drawn):  # levels alone are no frontier
        parts.append(_frontier(drawn, number).figure(folder))
    confused = [(row, confusion) for row in own if (confusion := Confusion.of(row.record))]
    if confused:
        bars = [one.figure(folder) for one in _class_bars(confused, number)]
        maps = [_confusion(*one, f"confusion-{number}-{i}").figure(folder) for i, one in enumerate(confused, 1)]
        large = max(len(confusion.class_names) for _, confusion in confused) > NUMBERED
        parts += [element("h3", "Accuracy by class"), *bars, _matrices(maps, large)]
    parts.append(_origins(own))
    return element("section", *parts, id=f"results-{number}")


def _matrices(maps: Sequence[Markup], large: bool) -> Markup:
    summary = element("summary", element("h3", f"Confusion matrices ({len(maps)})"))
    words = "What test clouds of a class (line) are taken for, in per cent, all networks of a record together."
    beside = element("div", *maps, class_="figures large" if large else "figures")
    return element("details", summary, element("p", words, class_="note"), beside,
                   **({"open": ""} if len(maps) <= OPEN else {}))  # fmt: skip


def _accuracies(own: Sequence[Row], number: int, title: str, against: str | None, folder: Folder) -> Markup:
    best, shown = _best(own) if against is None else set(), arms.table(own, against)
    rows = [_bold(row, shown.header.index("accuracy")) if i in best else row for i, row in enumerate(shown.rows)]
    caption = "In per cent: mean ± standard deviation."
    if best:
        caption += (
            f" Bold: better than all others at equal bytes (within {100 * NEAR:.0f} %), by paired 95 % intervals."
        )
    if against is not None:
        caption += (
            f" Last column: difference to {against} at equal bytes, paired 95 % interval; bold where that is above 0."
        )
    folder.write(f"table-{number}", arms.raw_table(own))
    files = element("p", folder.files(f"table-{number}", "csv"), class_="files")
    return Markup(Table(shown.header, rows).html(title, caption) + files)


def _bold(row: Sequence[object], place: int) -> list[object]:
    """A row with one cell in bold, also for those who do not see it."""
    unseen = element("span", " (best at its budget)", class_="unseen")
    return [*row[:place], Markup(element("strong", row[place]) + unseen), *row[place + 1 :]]


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
    """Places of those that are clearly better than all others of their budget."""
    best: set[int] = set()
    for group in budgets_of(own):
        top = clear_best([own[place].record for place in group])
        best |= {place for place in group if own[place].record is top}
    return best


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
    first = own[0].record
    title = f"{first.dataset}, {first.network}, protocol {first.protocol}"
    top = max(own, key=lambda row: row.record.accuracy_mean)
    words = [
        f"{name}: {per_cent(row.record.accuracy_mean)} at {row.record.bytes_per_class:,.0f} bytes"
        for name, row in zip(names, own, strict=True)
    ]
    return Plot(
        f"frontier-{number}",
        lambda path: accuracy_plot(curves, levels, path, title, f"{note_of(row.record for row in own)}."),
        f"Accuracy against bytes per class: {title}",
        f"Highest: {top.title}, {per_cent(top.record.accuracy_mean)} per cent. " + "; ".join(words) + ".",
        Table(
            ["arm", "bytes_per_class", "accuracy_mean", "accuracy_std", "n"],
            [
                [name, one.bytes_per_class, one.accuracy_mean, one.accuracy_std, len(one.accuracy)]
                for name, one in zip(names, (row.record for row in own), strict=True)
            ],
        ),
    )


def _level(level: Curve, arm: str) -> Curve:
    """The whole set with its bytes; others have none that count."""
    name = level.label.replace(WHOLE, "whole set", 1) if arm == WHOLE else level.label
    size = f", {level.sizes[0]:,.0f} bytes" if level.sizes[0] else ""
    return level._replace(label=name + size)


def _class_bars(confused: Sequence[tuple[Row, Confusion]], number: int) -> list[Plot]:
    """Plots of at most as many records as there are colours, those of a budget in the same one if they can be."""
    plots: list[Plot] = []
    for names in dict.fromkeys(tuple(confusion.class_names) for _, confusion in confused):
        own = [one for one in confused if tuple(one[1].class_names) == names]
        for part in _packed(_by_budget(own)):
            plots.append(_bars(part, names, f"classes-{number}-{len(plots) + 1}"))
    return plots


def _by_budget(confused: Sequence[tuple[Row, Confusion]]) -> list[list[tuple[Row, Confusion]]]:
    groups = [[confused[place] for place in group] for group in budgets_of([row for row, _ in confused])]
    return [*groups, *([one] for one in confused if one[0].record.clouds_per_class is None)]


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
    recalls = [confusion.recalls for _, confusion in part]
    bars = [
        Curve(row.title, range(len(names)), own, [math.nan] * len(names), row.record.arm)
        for (row, _), own in zip(part, recalls, strict=True)
    ]
    first = part[0][0].record
    title = f"{first.dataset}, {first.network}, protocol {first.protocol}"
    return Plot(
        name,
        lambda path: accuracy_bars(names, bars, path, title, "All networks of a record together."),
        f"Accuracy by class: {', '.join(bar.label for bar in bars)}",
        " ".join(f"{bar.label}: {_range(own, names)}." for bar, own in zip(bars, recalls, strict=True)),
        Table(["class", *(bar.label for bar in bars)], list(zip(names, *recalls, strict=True))),
    )


def _range(recalls: Sequence[float], names: Sequence[str]) -> str:
    tested = [(recall, name) for recall, name in zip(recalls, names, strict=True) if not math.isnan(recall)]
    if not tested:
        return "no test clouds"
    (low, worst), (high, best) = min(tested), max(tested)
    return f"from {per_cent(low)} ({worst}) to {per_cent(high)} per cent ({best})"


def _confusion(row: Row, confusion: Confusion, name: str) -> Plot:
    mistakes = [f"{label} for {other} ({per_cent(share)})" for share, label, other in confusion.mistakes()[:3]]
    often = f" Most often mistaken, in per cent: {', '.join(mistakes)}." if mistakes else ""
    return Plot(
        name,
        lambda path: confusion_plot(confusion.matrix, confusion.class_names, path, row.title),
        f"Confusion matrix: {row.title}",
        f"Right: {_range(confusion.recalls, confusion.class_names)}.{often}",
        confusion.table(),
    )


def _origins(own: Sequence[Row]) -> Markup:
    """Where every number of a table comes from."""
    header = ["arm", "command", "commit", "date", "seeds of sets", "seeds of networks", "protocol", "recipe",
              "hardware", "versions", "record"]  # fmt: skip
    lines = []
    for row in own:
        record = row.record
        lines.append([
            row.title, _command(record.command), element("code", record.commit), record.date,
            _listed(record.distill_seeds), _listed(record.train_seeds), record.protocol,
            arms.recipe_digest(record) or None, record.hardware,
            _listed(f"{name} {version}" for name, version in record.versions.items()), row.place,
        ])  # fmt: skip
    title = "Where the numbers come from"
    made = Table(header, lines).html(title, "What every record was measured with.", long=("command", "versions"))
    return element("details", element("summary", element("h3", title)), made)


def _command(words: str) -> Markup:
    """Lines of it may end at spaces, but not at a hyphen."""
    return element("code", Markup(" <wbr>".join(map(escaped, words.split(" ")))))


def _listed(values: Iterable[object]) -> str | None:
    return ", ".join(map(str, values)) or None
