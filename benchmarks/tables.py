"""Write the tables in README.md and benchmarks/README.md from the committed records, or check that they agree.

python benchmarks/tables.py           # rewrite the marked blocks
python benchmarks/tables.py --check   # exit 1 if a block differs from its records
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from pcdistill.evaluation import Record, accuracy_cell, markdown_table, mean_std, read_records
from pcdistill.files import atomic
from pcdistill.matching import objectives
from pcdistill.matrices import Column, Row, columns_of, rows_of, values
from pcdistill.teaching.ladder import MEASURES, Rung, correlations

HERE = Path(__file__).parent
FILES = (HERE.parent / "README.md", HERE / "README.md")
NAMES = {"modelnet10": "ModelNet10", "modelnet40": "ModelNet40", "shapes": "shapes"}
MODELNETS = ("modelnet10", "modelnet40")
METHODS = {
    "random": "random", "herding": "herding", "kcenter": "k-center", "medoid": "medoids", "sadm": "SADM",
    "quantile": "quantile", "gm": "gradient", "tm": "trajectory", "krr": "regression",
}  # fmt: skip
ORDER = ("random", "herding", "kcenter", "medoid", *objectives, "whole")
NETWORKS = {
    "pointnet": "PointNet", "pointnet-tiny": "PointNet-tiny", "pointnet2": "PointNet++", "dgcnn": "DGCNN",
    "pointconv": "PointConv", "point-transformer": "Point Transformer", "pointmlp-elite": "PointMLP-elite",
    "pointnext-s": "PointNeXt-S",
}  # fmt: skip
SETS = {"random": "random", "herding": "herding", "kcenter": "k-center", "medoid": "medoids", "krr": "distilled",
        "quantile": "distilled, quantile", "krr-pool": "distilled, pool", "whole": "whole set"}  # fmt: skip
LOOKED_AT = {**SETS, "dc": "DC", "sadm": "SADM"}
LABELS = ("hard", "static", "views", "online")
LESSONS = {"hard": "hard", "online": "online", "relabel": "relabel", "unchosen": "mix, any", "mix": "mix, unsure",
           "move": "move"}  # fmt: skip
STAGES = 3  # of `incremental.py`
PARTS = {"half": "half", "one": "one set", "uniform": "two halves", "focused": "second half focused",
         "again": "one set, focused"}  # fmt: skip
STUDENTS = {"pointnet-nano": "nano", "pointnet-tiny": "tiny", "pointnet-light": "light", "pointnet": "PointNet"}
PRINTED = " Printed: on sets distilled with PointNet under the paper's own protocol, clouds per class not stated.\n"
NOTHING = "Not measured yet.\n"
Size = tuple[str, int, int, int | None]


def summary(records: list[Record], protocol: str) -> str:
    """Accuracy per budget under a protocol: one line per data set and size, one column per arm that has a record."""
    own = [r for r in records if r.protocol.split(" ")[0] == protocol]
    sizes = sorted({size for r in own if (size := _size(r))})
    arms = [arm for arm in METHODS if any(r.arm == arm for r in own)]
    lines = []
    for size in sizes:
        cells = {r.arm: r for r in own if _size(r) in (size, None) and r.dataset == size[0]}
        dataset, clouds, points, bits = size
        line = [f"{NAMES.get(dataset, dataset)}, {clouds} x {points}, {bits} bits"]
        line.append(f"{next(r for r in own if _size(r) == size).bytes_per_class:,.0f}")
        lines.append(line + [accuracy_cell(cells[arm]) if arm in cells else "–" for arm in (*arms, "whole")])
    header = ["clouds x points per class", "bytes per class", *(METHODS[arm] for arm in arms), "whole set"]
    return markdown_table(header, lines)


def _size(record: Record) -> Size | None:
    if record.clouds_per_class is None:
        return None
    return record.dataset, record.clouds_per_class, record.points, record.bits


def costs(lines: list[dict[str, Any]]) -> str:
    """What a step of every objective costs."""
    rows = []
    for line in lines:
        where = ", ".join(f"{name.removeprefix('aten::')} {100 * share:.0f} %" for name, share in
                          list(line["operations"].items())[:3])  # fmt: skip
        name = " ".join([line["objective"], *line["options"]])
        rows.append([name, f"{line['seconds_per_step']:.3f}", str(line["steps"]), f"{line['prepare_seconds']:.0f}",
                     str(line["prepare_peak_mib"]), str(line["peak_mib"]), where])  # fmt: skip
    header = ["objective", "s / step", "steps", "prepare s", "MiB before", "peak MiB", "most time in"]
    return markdown_table(header, rows)


def frontier(records: list[Record], papers: list[dict[str, Any]]) -> str:
    """Accuracy at equal bytes: selections, distilled, the best that papers print at these bytes, and the whole set."""
    own = [r for r in records if r.arm != "whole"]
    rows = []
    for dataset, size, protocol in sorted({(r.dataset, r.variant, r.protocol) for r in own}, key=_by_size):
        cells = {r.arm: r for r in own if (r.dataset, r.variant, r.protocol) == (dataset, size, protocol)}
        cells |= {r.arm: r for r in records if (r.dataset, r.arm, r.protocol) == (dataset, "whole", protocol)}
        shape = next(iter(cells.values()))
        printed = {one["method"]: f"{100 * one['accuracy']:.1f}" for one in papers
                   if (one["dataset"], str(one["bytes_per_class"])) == (dataset, size)}  # fmt: skip
        clouds = max(r.clouds_per_class or 0 for r in cells.values())
        rows.append([
            f"{NAMES.get(dataset, dataset)}, {int(size):,}", protocol, f"{clouds:.0f} x {shape.points} @ {shape.bits}",
            *(accuracy_cell(cells[arm]) if arm in cells else "–" for arm in ("random", "herding", "kcenter", "medoid")),
            f"**{accuracy_cell(cells['krr'])}**" if "krr" in cells else "–",
            printed.get("SADM", "–"), printed.get("3DDP", "–"),
            accuracy_cell(cells["whole"]) if "whole" in cells else "–",
        ])  # fmt: skip
    header = ["bytes per class", "protocol", "clouds x points @ bits", "random", "herding", "k-center", "medoids",
              "distilled", "SADM", "3DDP", "whole set"]  # fmt: skip
    return markdown_table(header, rows) if rows else ""


def _by_size(place: tuple[str, str, str]) -> tuple[str, str, int]:
    dataset, size, protocol = place
    return protocol, dataset, int(size)


def networks(records: list[Record], papers: list[dict[str, Any]], only: tuple[str, ...] = ()) -> str:
    """What every network learns from every set; of sets of one size the best of a column is bold.

    Args:
        records: of `networks.py`; those on a validation split are left out.
        papers: of other networks, as printed.
        only: the sizes that are shown, beside whole sets; all of them where there are none.
    """
    own: dict[tuple[str, str, str, str], Record] = {}
    for record in records:
        arm, size, validation = str((record.model_extra or {}).get("variant")).split()
        if validation == "validation=False" and arm in SETS and (not only or size in (*only, "None")):
            own[record.dataset, size, arm, record.network] = record
    datasets = sorted({place[0] for place in own if not only or place[0] in MODELNETS})
    printed = {(one["dataset"], one["method"], one["network"]): one for one in papers if one["dataset"] in datasets}
    columns = [name for name in NETWORKS if any(place[-1] == name for place in (*own, *printed))]
    rows = []
    for dataset in datasets:
        sizes = sorted(
            {place[1] for place in own if place[0] == dataset}, key=lambda size: (size == "None", size.zfill(9))
        )
        for size in sizes:
            rows += _of_size({place[2:]: r for place, r in own.items() if place[:2] == (dataset, size)}, columns)
        for method in dict.fromkeys(place[1] for place in printed if place[0] == dataset):
            line = [_printed(printed.get((dataset, method, name))) for name in columns]
            rows.append([NAMES[dataset], f"{method}, printed", *line])
    if not rows:
        return ""
    header = ["bytes per class", "trained on", *(NETWORKS[name] for name in columns)]
    return markdown_table(header, rows) + "\n" + _protocols(list(own.values())).rstrip() + PRINTED


def teaching(records: list[Record], student: str | None = "pointnet-tiny", long: bool = False) -> str:
    """Accuracy by labels, one row per set and student; of a row the best is bold.

    Args:
        records: of `teaching.py`.
        student: the only one that is shown; None shows all others, and this one on the same sets.
        long: those trained for more steps than the others.
    """
    own = {}
    for record in records:
        more = record.model_extra or {}
        arm, size, labels, *steps = str(more["variant"]).split()
        if bool(steps) != long:
            continue
        own[record.dataset, int(size), arm, record.network, labels] = record
    light = {place[:3] for place in own if place[3] != "pointnet-tiny"}
    shown = LABELS if student and not long else ("hard", "online")
    places = dict.fromkeys(
        place[:4] for place in own if (place[3] == student if student else place[:3] in light)
    )  # fmt: skip
    order = sorted(places, key=lambda p: (p[0], p[1] or 10**9, list(SETS).index(p[2]), list(STUDENTS).index(p[3])))
    rows = []
    for place in order:
        found = {labels: own[(*place, labels)] for labels in shown if (*place, labels) in own}
        best = max(record.accuracy_mean for record in found.values())
        cells = []
        for labels in shown:
            cell = accuracy_cell(found[labels]) if labels in found else "–"
            cells.append(f"**{cell}**" if labels in found and found[labels].accuracy_mean == best else cell)
        first = next(iter(found.values()))
        size = f"{NAMES.get(place[0], place[0])}, {_bytes(first)}"
        rows.append([size, SETS[place[2]], *([] if student else [STUDENTS[place[3]]]), *cells])
    if not rows:
        return ""
    header = ["bytes per class", "trained on", *([] if student else ["student"]), *shown]
    return markdown_table(header, rows) + "\n" + _protocols([own[key] for key in own if key[:4] in places])


def teachers(records: list[Record]) -> str:
    """What teachers cost, by data set."""
    rows = {}
    for record in records:
        more = record.model_extra or {}
        if (
            more.get("labels") == "online"
            and len(more["variant"].split()) == 3
            and record.network == "pointnet-tiny"
            and record.dataset not in rows
        ):
            hard = next(
                (one for one in records if one.dataset == record.dataset and one.network == record.network
                 and (one.model_extra or {})["labels"] == "hard"), record,
            )  # fmt: skip
            rows[record.dataset] = [
                NAMES.get(record.dataset, record.dataset), f"{more['teacher_seconds']:.0f}",
                f"{more['teacher_gflops']:,.0f}", f"{more['labelling_gflops']:,.0f}",
                f"{more['student_gflops']:,.0f}", f"{hard.train_seconds:.0f}", f"{record.train_seconds:.0f}",
                *(_gain(records, record.dataset, arm) for arm in ("random", "krr")),
            ]  # fmt: skip
    header = ["data", "teacher, s", "teacher, GFLOP", "labels online, GFLOP", "student, GFLOP", "student, s",
              "student taught online, s", "random, 1,229, hard to online", "distilled"]  # fmt: skip
    return markdown_table(header, list(rows.values())) if rows else ""


def _gain(records: list[Record], dataset: str, arm: str) -> str:
    found = {str((r.model_extra or {})["variant"]): r for r in records
             if (r.dataset, r.network) == (dataset, "pointnet-tiny")}  # fmt: skip
    pair = [found.get(f"{arm} 1229 {labels}") for labels in ("hard", "online")]
    return " to ".join("–" if one is None else f"{100 * one.accuracy_mean:.1f}" for one in pair)


def by_part(records: list[Record], field: str, names: dict[str, str]) -> str:
    """Accuracy of arms that differ in one field, one row per data set, split and set; of a row the best is bold."""
    found: dict[tuple[str, bool, str], dict[str, Record]] = {}
    for record in records:
        more = record.model_extra or {}
        place = record.dataset, more["split"] != "test", record.arm
        found.setdefault(place, {})[str(more[field])] = record
    rows = []
    for (dataset, validation, arm), own in sorted(found.items()):
        best = max(record.accuracy_mean for record in own.values())
        cells = [accuracy_cell(own[name]) if name in own else "–" for name in names]
        bold = [name in own and own[name].accuracy_mean == best for name in names]
        where = NAMES.get(dataset, dataset) + (", validation" if validation else "")
        rows.append([where, SETS[arm], *(f"**{c}**" if b else c for c, b in zip(cells, bold, strict=True))])
    return markdown_table(["", "trained on", *names.values()], rows) + "\n" + _protocols(records) if rows else ""


def ladder(records: list[Record]) -> str:
    """Students by their teacher's accuracy, on validation; then the chosen and the strongest one on the test set."""
    parts = {(r.dataset, r.arm, str((r.model_extra or {})["part"])): r for r in records}
    places = [place[:2] for place in parts if place[2] == "choose"]
    facts: dict[str, dict[str, Any]] = {}
    reached: dict[tuple[str, tuple[str, str]], float] = {}  # by the best temperature
    for place in places:
        for one in (parts[*place, "choose"].model_extra or {})["ladder"]:
            facts.setdefault(one["teacher"], one)
            key, student = (one["teacher"], place), 100 * mean_std(one["student_accuracy"])[0]
            reached[key] = max(student, reached.get(key, 0.0))
    names = [f"{NAMES.get(d, d)}, {SETS[arm]}" for d, arm in places]
    rows = []
    for teacher, one in sorted(facts.items(), key=lambda item: float(item[1]["teacher_accuracy"])):
        cells = [f"{reached[teacher, place]:.1f}" if (teacher, place) in reached else "–" for place in places]
        cost = [f"{one['train_seconds']:.0f}", f"{one['train_gflops']:,.0f}", f"{one['label_gflops']:,.0f}"]
        rows.append([teacher, f"{100 * one['teacher_accuracy']:.1f}", *cells, *cost])
    header = ["teacher @ steps", "its accuracy", *(f"best student, {name}" for name in names)]
    text = markdown_table([*header, "training, s", "training, GFLOP", "labels, GFLOP"], rows)
    tests, ranks = [], []
    for place, name in zip(places, names, strict=True):
        more = parts[*place, "choose"].model_extra or {}
        cells = [accuracy_cell(parts[*place, part]) if (*place, part) in parts else "–"
                 for part in ("hard", "strongest", "chosen")]  # fmt: skip
        tests.append([name, cells[0], more["strongest"]["teacher"], cells[1], more["chosen"]["teacher"],
                      f"{more['chosen']['temperature']:g}", cells[2]])  # fmt: skip
        rungs = [Rung.model_validate(one) for one in more["ladder"]]
        done = [rung for rung in rungs if rung.steps >= more["strongest"]["steps"]]
        for which, own in (("all", rungs), ("trained to the end", done)):
            teachers = len({rung.teacher for rung in own})
            cells = [f"{value:+.2f}" if value == value else "–" for value in correlations(own).values()]
            ranks.append([f"{name}, {which} ({teachers})", *cells])
    if not tests:
        return ""
    text += "\n" + markdown_table(["test set", "hard", "strongest", "its student", "chosen", "T", "its student"], tests)
    header = [name.replace("_", " ") for name in MEASURES]
    return text + "\n" + markdown_table(["rank correlation with the student", *header], ranks)


def incremental(records: list[Record]) -> str:
    """Accuracy over all classes seen after every stage, and of another domain, by memory."""
    found: dict[tuple[str, str, int, str], dict[int, Record]] = {}
    for record in records:
        more = record.model_extra or {}
        found.setdefault((more["scenario"], more["how"], more["budget"], record.arm), {})[more["stage"]] = record
    text = ""
    for scenario, stages in (("classes", STAGES), ("domain", 1)):
        rows = []
        for (kind, how, budget, arm), own in found.items():
            if kind != scenario or stages not in own:
                continue
            last = own[stages].model_extra or {}
            cells = [accuracy_cell(own[stage]) for stage in range(1, stages + 1)] if scenario == "classes" else []
            cells += [_spread(last[name]) for name in ("old_accuracy", "new_accuracy")]
            size = f"{budget:,}" if budget else "–"
            rows.append([{"none": "none", "all": "all clouds"}.get(arm, SETS.get(arm, arm)), size, how,
                         f"{last['memory_kb']:,.1f}", *cells])  # fmt: skip
        seen = [f"{10 + 10 * stage} classes" for stage in range(1, stages + 1)]
        shown = [*seen, "of these old", "new"] if scenario == "classes" else ["clean", "lidar"]
        if rows:
            text += markdown_table(["memory", "bytes per class", "trained", "kB", *shown], rows) + "\n"
    return text.removesuffix("\n")


def _spread(values: list[float]) -> str:
    mean, deviation = mean_std(values)
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def quality(records: list[Record], facts: dict[str, Any]) -> str:
    """Quality of sets beside their accuracy, means over sets; then test clouds in their place."""
    rows = []
    for record in sorted(records, key=lambda record: (record.dataset, list(LOOKED_AT).index(record.arm))):
        found = (record.model_extra or {})["quality"]
        name = f"{NAMES.get(record.dataset, record.dataset)}, {LOOKED_AT[record.arm]}"
        rows.append([name, accuracy_cell(record), *_looks(found)])
    for place, part in facts.items():
        dataset, name = place.split()
        if name == "test":
            rows.append([f"{NAMES.get(dataset, dataset)}, test clouds", "–", *_looks(part["lines"])])
    header = ["trained on", "accuracy", "Chamfer", "EMD", "as near as copies %", "traced %", "to its start %",
              "authentic %", "unevenness", "covered", "matching"]  # fmt: skip
    return markdown_table(header, rows) if rows else ""


def _looks(found: list[dict[str, Any]]) -> list[str]:
    """Cells of sets of one kind; distances times a thousand."""

    def mean(values: list[Any], times: float, digits: int) -> str:
        return "–" if None in values else f"{times * sum(values) / len(values):.{digits}f}"

    made = [one["made"] for one in found]
    return [
        mean([one["chamfer"] for one in made], 1000, 1),
        mean([one["emd"] for one in made], 1000, 0),
        *(mean([one[name] for one in made], 100, 0) for name in ("near", "traced")),
        mean([one.get("from_start") for one in found], 100, 0),
        mean([one["authentic"] for one in made], 100, 0),
        mean([one["uneven"] for one in made], 1, 2),
        f"{mean([one['covered'] for one in found], 1, 0)} of {mean([one['coverable'] for one in found], 1, 0)}",
        mean([one["mmd"] for one in found], 1000, 1),
    ]


def copies(facts: dict[str, Any]) -> str:
    """What is found of clouds that are known to be copies, and of clouds that are known to be none."""
    rows = []
    for place, part in facts.items():
        dataset, name = place.split()
        for line in part["lines"] if name == "copies" else []:
            found = [f"{100 * line['copies'][name]:.0f} ({100 * line['fresh'][name]:.0f})"
                     for name in ("near", "traced", "either", "copied")]  # fmt: skip
            apart = [f"{line['auc'][name]:.3f}" for name in ("chamfer", "surface", "margin")]
            rows.append([f"{NAMES.get(dataset, dataset)}, {line['way']}", *apart, *found])
    header = [
        "copies",
        "Chamfer",
        "surface",
        "margin",
        "as near as copies %",
        "traced %",
        "either %",
        "not authentic %",
    ]
    return markdown_table(header, rows) if rows else ""


def deployed(lines: dict[str, Any]) -> str:
    """Files for devices: size, accuracy and time."""
    rows = []
    for line in lines.values():
        cells = [
            f"{100 * line['spread'][kind]['mean']:.1f} ± {100 * line['spread'][kind]['std']:.1f}"
            for kind in ("float32", "int8", "tuned")
        ]
        times = [f"{line['latency']['int8']['1024'][name]:.2f}" for name in ("p50_ms", "p99_ms")]
        sizes = [f"{line['file_bytes'][kind] / 1000:.0f}" for kind in ("float32", "int8")]
        rows.append([
            NAMES.get(line["dataset"], line["dataset"]) + f", {SETS[line['arm']]}, {line['bytes_per_class']:,.0f}",
            line["network"].removeprefix("pointnet-") + (", taught" if line["taught"] else ""), *sizes, *cells,
            " / ".join(times), f"{max(line['parity']):.0e}", f"{line['latency']['int8']['1024']['peak_mib']:.0f}",
        ])  # fmt: skip
    header = ["trained on, bytes per class", "student", "float32 kB", "int8 kB", "float32 %", "int8 %",
              "int8, fine-tuned %", "ms, p50 / p99", "parity", "peak MiB"]  # fmt: skip
    return markdown_table(header, sorted(rows)) if rows else ""


def _of_size(own: dict[tuple[str, str], Record], columns: list[str]) -> list[list[str]]:
    """Rows of the sets of one size, by set and network."""
    found, rows = [arm for arm in SETS if any(place[0] == arm for place in own)], []
    for arm in found:
        of_arm = [r for place, r in own.items() if place[0] == arm]
        size = f"{NAMES.get(of_arm[0].dataset, of_arm[0].dataset)}, {_bytes(of_arm[0])}"
        line = []
        for name in columns:
            rivals = [r.accuracy_mean for place, r in own.items() if place[1] == name]
            record = own.get((arm, name))
            best = record is not None and len(rivals) > 1 and record.accuracy_mean == max(rivals)
            cell = "–" if record is None else accuracy_cell(record)
            line.append(f"**{cell}**" if best else cell)
        rows.append([size, SETS[arm], *line])
    return rows


def _bytes(record: Record) -> str:
    """The budget of a set, or the bytes of a whole one."""
    size = str((record.model_extra or {}).get("variant")).split()[1]
    return f"{int(size) if size.isdigit() and int(size) else record.bytes_per_class:,.0f}"


def _printed(one: dict[str, Any] | None) -> str:
    return "–" if one is None else f"{100 * one['accuracy']:.1f} ± {100 * one['std']:.1f}"


def _protocols(records: list[Record]) -> str:
    """A line on how records were made."""
    extras = [record.model_extra or {} for record in records]

    def listed(found: set[str]) -> str:
        return " or ".join(sorted(found, key=lambda text: (len(text), text)))

    protocols = listed({f"`{record.protocol}`" for record in records})
    steps = listed({str(extra["recipe"]["steps"]) for extra in extras})
    points = listed({str(record.points) if extra["thin"] else str(extra["test_points"])
                     for record, extra in zip(records, extras, strict=True)})  # fmt: skip
    runs = listed({str(len(record.accuracy)) for record in records})
    return f"Protocol {protocols}, {steps} steps; training and test clouds of {points} points; n = {runs}.\n"


def robustness(records: list[Record]) -> str:
    """Accuracy under other conditions: views as rows, training sets as columns; a table per data set and network."""
    places: dict[tuple[str, str, str], dict[tuple[int, float], list[Record]]] = {}
    for record in records:
        if record.arm in ORDER:
            sets = places.setdefault((record.dataset, record.network, _conditions(record)), {})
            sets.setdefault((ORDER.index(record.arm), record.bytes_per_class), []).append(record)
    parts = []
    for (dataset, network, conditions), sets in sorted(places.items()):
        columns = {place: columns_of(sets[place]) for place in sorted(sets)}
        arms = [ORDER[arm] for arm, _ in columns]
        labels = [f"{SETS.get(arm, arm)}, {size:,.0f} bytes" for arm, (_, size) in zip(arms, columns, strict=True)]
        rows = []
        for row in rows_of([column for group in columns.values() for column in group]):
            line = [_view_cell(row, group) for group in columns.values()]
            rows += [[row.label, *line]] if set(line) != {"–"} else []
        runs = " or ".join(sorted({str(len(r.accuracy)) for group in sets.values() for r in group}))
        title = f"{NAMES.get(dataset, dataset)}, {NETWORKS.get(network, network)}, {conditions}, n = {runs}:\n\n"
        parts.append(title + markdown_table(["view", *labels], rows))
    return "\n".join(parts)


def _conditions(record: Record) -> str:
    """How a record's networks were trained and tested, but for rotations in training, which rows tell apart."""
    more = record.model_extra or {}
    steps = more["recipe"]["steps"]
    protocol = f"protocol `{record.protocol.replace('*', '')}`" + (f" at {steps} steps" if steps else "")
    return protocol + (", test clouds thinned" if more["thin"] else "")


def _view_cell(row: Row, columns: list[Column]) -> str:
    """Of the networks trained under the row's rotation; where it has none, of those trained as the recipe says."""
    for column in sorted(columns, key=lambda column: (column.rotation != "none", -len(column.records))):
        found = values(row, column)
        if found is not None:
            mean, deviation = mean_std(found)
            return f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if len(found) > 1 else "")
    return "–"


def speed(found: dict[str, Any]) -> str:
    """Seeds one by one and at once, the share of the matrix-product peak, and torch.compile, as far as measured."""
    parts: dict[str, list[list[str]]] = {"seeds": [], "peak": [], "compile": []}
    for name, facts in found.items():
        part, threads = name.split()
        for line in facts["lines"]:
            precision = "bfloat16" if line.get("bf16") else "float32"
            if part == "seeds":
                cells = [line["network"], precision, threads, str(line["points"]), str(line["at_once"]),
                         f"{line['sequential_ms']:.1f}", f"{line['stacked_ms']:.1f}",
                         f"{line['speedup']:.2f} x"]  # fmt: skip
            elif part == "peak":
                cells = [line["network"], precision, threads, str(line["points"]), f"{line['step_ms']:.0f}",
                         f"{line['peak_gflops']:.0f}", f"{100 * line['fraction_of_peak']:.0f} %",
                         f"{100 * line['dense_fraction_of_peak']:.0f} %"]  # fmt: skip
            else:
                cells = [
                    line["way"],
                    threads,
                    str(line["points"]),
                    f"{line['first_step_s']:.1f}",
                    f"{line['step_ms']:.0f}",
                ]
            parts[part].append(cells)
    headers = {
        "seeds": ["seeds", "precision", "threads", "points", "at once", "one by one ms", "stacked ms", "speed-up"],
        "peak": ["peak", "precision", "threads", "points", "step ms", "peak GFLOP/s", "of the peak", "dense"],
        "compile": ["compile", "threads", "points", "first step s", "step ms"],
    }
    return "\n".join(markdown_table(headers[part], rows) for part, rows in parts.items() if rows)


def browser(found: dict[str, Any]) -> str:
    """Size and speed of the page for the browser."""
    if not found:
        return ""
    loads = mean_std(found["load_seconds"])
    names = {"132": "clouds of the usual size", "64": "smallest clouds", "one cloud": "one cloud alone"}
    header = ["in sight", "points drawn", "frames per second"]
    rows = [
        [name, f"{found['cells'][key]['points_in_sight']:,}", f"{found['cells'][key]['fps']:.0f}"]
        for key, name in names.items()
    ]
    return markdown_table(header, rows) + (
        f"\n{found['classes']} classes, {found['clouds']:,} clouds x {found['points']} points, "
        f"{found['frames_of_a_cloud']} of each (snapshots and the nearest real one): {found['bytes'] / 1e6:.1f} MB, on "
        f"screen after {loads[0]:.1f} ± {loads[1]:.1f} s. Chromium {found['chromium'].partition('.')[0]} without a "
        f"screen or graphics card, {found['hardware']}.\n"
    )


def codecs(found: dict[str, Any]) -> str:
    """Bytes per point of ours and of others."""
    names = [name for name in found["rows"][0]["bytes_per_point"] if not name.endswith("seconds")]
    rows = []
    for row in found["rows"]:
        sizes = row["bytes_per_point"]
        shape = f"{row['arm']}, {row['clouds_per_class']} x {row['points']} @ {row['bits']}"
        saved = f"{100 * (1 - sizes['ours'] / sizes['raw']):.0f} %"
        rows.append([shape, *(f"{sizes[name]:.2f}" for name in names), saved])
    return markdown_table(["clouds per class x points @ bits", *names, "below raw"], rows)


def growth(lines: list[dict[str, Any]]) -> str:
    """How time and memory of condensing grow; nothing where nothing was measured."""
    sizes = ("real_clouds", "classes", "clouds_per_class", "points")
    own = sorted((line for line in lines if line["dataset"] == "growth"), key=lambda line: [line[n] for n in sizes])
    rows = [
        [
            *(f"{line[name]:,}" for name in sizes),
            f"{line['fingerprint_seconds'] + line['select_seconds']:.1f}", f"{line['prepare_seconds']:.1f}",
            f"{line['distill_seconds']:.1f}", f"{line['distill_seconds'] / line['steps']:.3f}",
            str(line["networks"]), str(line["start_mib"]), str(line["peak_mib"]), f"{line['file_mib']:,}",
        ]
        for line in own
    ]  # fmt: skip
    header = ["real clouds", "classes", "clouds / class", "points", "select s", "prepare s", "distil s", "s / step",
              "networks", "MiB before", "peak MiB", "file MiB"]  # fmt: skip
    return markdown_table(header, rows) if rows else ""


def details(records: list[Record]) -> str:
    """Every record: accuracy, spread, seeds, cost."""

    def place(record: Record) -> tuple[str, int, str, int]:
        return record.dataset, record.clouds_per_class or 10**6, record.protocol, ORDER.index(record.arm)

    rows = [
        [
            NAMES.get(r.dataset, r.dataset), r.arm, "all" if r.clouds_per_class is None else str(r.clouds_per_class),
            str(r.points), str(r.bits), f"{r.bytes_per_class:,.0f}", r.protocol, accuracy_cell(r), str(len(r.accuracy)),
            f"{100 * r.class_accuracy_mean:.1f}", f"{r.distill_seconds:.0f}", f"{r.prepare_seconds:.0f}",
            f"{r.train_seconds:.0f}", str(r.peak_mib),
        ]
        for r in sorted(records, key=place)
    ]  # fmt: skip
    header = ["data", "arm", "clouds / class", "points", "bits", "bytes / class", "protocol", "accuracy %", "runs",
              "class mean %", "distil s", "bank s", "train s", "peak MiB"]  # fmt: skip
    return markdown_table(header, rows)


def filled(text: str, records: list[Record]) -> str:
    """`text` with every `<!-- table: NAME -->` block made anew."""
    folder = HERE / "results"
    cost, codec, printed = (_read(folder / f"{name}.json") for name in ("cost", "codec", "published"))
    grown, crossed = folder / "growth.jsonl", read_records(folder / "networks.jsonl")
    looks = _read(folder / "quality.json")
    papers, taught = printed.get("networks", []), read_records(folder / "teaching.jsonl")
    tables = {
        "summary": summary(records, "tuned"),
        "published": summary(records, "published"),
        "details": details(records),
        "frontier": frontier(read_records(folder / "frontier.jsonl"), printed.get("points", [])),
        "codecs": codecs(codec) if codec else "",
        "costs": costs(cost) if cost else "",
        "growth": growth([json.loads(line) for line in grown.read_text().splitlines()] if grown.exists() else []),
        "networks": networks(crossed, papers) or NOTHING,
        "networks_short": networks(crossed, [one for one in papers if one["method"] == "SADM"], only=("1229", "12288"))
        or NOTHING,
        "robustness": robustness(read_records(folder / "robustness.jsonl")) or NOTHING,
        "teaching": teaching(taught) or NOTHING,
        "teaching_short": teaching([r for r in taught if " 1229 " in str((r.model_extra or {})["variant"])]) or NOTHING,
        "students": teaching(taught, None) or NOTHING,
        "patient": teaching(taught, long=True) or NOTHING,
        "teachers": teachers(taught) or NOTHING,
        "deployed": deployed(_read(folder / "deploy.json")) or NOTHING,
        "ladder": ladder(read_records(folder / "ladder.jsonl")) or NOTHING,
        "onpolicy": by_part(read_records(folder / "onpolicy.jsonl"), "lesson", LESSONS) or NOTHING,
        "knowledge": by_part(read_records(folder / "knowledge.jsonl"), "part", PARTS) or NOTHING,
        "incremental": incremental(read_records(folder / "incremental.jsonl")) or NOTHING,
        "quality": quality(read_records(folder / "quality.jsonl"), looks) or NOTHING,
        "copies": copies(looks) or NOTHING,
        "page": browser(_read(folder / "page.json")) or NOTHING,
        "speed": speed(_read(folder / "speed.json")) or NOTHING,
    }
    pattern = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda match: match[1] + tables[match[2]] + match[3], text)


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> int:
    """Rewrite or check the files that hold tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    records = read_records(HERE / "results" / "modelnet.jsonl")
    stale = [file for file in FILES if filled(file.read_text(), records) != file.read_text()]
    for file in stale:
        if check:
            print(f"{file}: tables differ from benchmarks/results; run python benchmarks/tables.py")
            continue
        with atomic(file) as temporary:
            temporary.write_text(filled(file.read_text(), records))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
