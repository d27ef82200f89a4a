"""`pcdistill evaluate` on more than one network or view: a record for each of both, a table of them, and plots.

With an output folder every record is written when its view is scored, and what stands there with the same settings, a
digest of all that a result follows from, is not done again. Records of other sources in the folder stay, and show;
those of the same column that were trained otherwise (other seeds, steps, or another set under the same name) go.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pcdistill import jobs
from pcdistill.clouds import PointClouds
from pcdistill.config import EvaluateConfig
from pcdistill.data import load
from pcdistill.environment import revision, versions
from pcdistill.errors import InputError
from pcdistill.evaluation import (
    Evaluation,
    Record,
    Run,
    View,
    as_run,
    chosen,
    evaluate_views,
    markdown_table,
    mean_std,
    parse_views,
    parts_of,
    peak_mib,
    read_records,
    score_views,
    summed_up,
    view_label,
    write_records,
)
from pcdistill.evaluation.views import VIEW_SEED
from pcdistill.files import atomic, check_writable, sha256_file
from pcdistill.geometry import MODELNET_C, POINTCLOUD_C, SEVERITIES
from pcdistill.models import networks
from pcdistill.progress import progress
from pcdistill.storage import Artefact
from pcdistill.training import Protocol
from pcdistill.viewing import Curve, accuracy_bars, accuracy_plot
from pcdistill.viewing.curves import wrapped

Say = Callable[[str], None]
Scored = Iterator[tuple[View, Evaluation]]
BENCHMARK = "evaluate"  # of the records
ROTATED = {"none": "trained unrotated", "z": "trained turned about z", "so3": "trained turned about any axis"}
CORRUPTED = {"ModelNet40-C": MODELNET_C, "PointCloud-C": POINTCLOUD_C}
PLOTS = ("plot-severities", "plot-kinds", "plot-resolutions")
FILES = ("records.jsonl", "table.md", *(f"{plot}.{ending}" for plot in PLOTS for ending in ("png", "svg")))


class Tests(NamedTuple):
    """What networks are tested on: the clean set, its views, and other data sets by name."""

    clean: PointClouds
    views: list[View]
    others: dict[str, PointClouds]


class Column(NamedTuple):
    """One network of a table: what it was trained on, how, and its records by view."""

    label: str
    rotation: str
    records: Mapping[str, Record]


class Row(NamedTuple):
    """Views that a table shows the mean of."""

    label: str
    views: Sequence[str]
    rotation: str | None = None  # of training; None for any


def run_matrix(config: EvaluateConfig, say: Say = lambda _: None) -> list[Record]:
    """Train what is missing, score it on all views, and say (with an output, also write) the table and plots.

    Returns:
        A record per network and view of this call, in their order.

    Raises:
        InputError, OSError: before any training if the configuration is at fault.
    """
    if config.network is not None and config.networks:
        raise InputError("evaluate", "--network and --networks", "one of them")
    jobs.check_evaluation(config)
    for name in config.networks:
        networks[name]  # refused before the first is trained
    if config.source.endswith(jobs.NETWORK_FILES):
        found = _of_trained(config)
    else:
        found = [record for network in config.networks or (config.network,) for record in _of_fresh(config, network)]
    everything = found
    if config.output is not None:
        everything = [one for one in read_records(config.output / "records.jsonl") if one.benchmark == BENCHMARK]
    text = table(everything)
    say(text.rstrip("\n"))
    if config.output is not None:
        with atomic(config.output / "table.md") as temporary:
            temporary.write_text(text)
        _draw(everything, config.output, say)
    return found


def _of_fresh(config: EvaluateConfig, network: str | None) -> list[Record]:
    """Records of networks that are trained here, of one kind."""
    source, lesson = jobs.taught(jobs.source_to_train_on(config, network), config)
    if lesson is not None and any(view.dataset for view in parse_views(config.views)):
        raise InputError("views", "of other data sets, with --teacher", "views of the same classes")
    source, validation = jobs.held_out(source, config)
    made = source.clouds if source.artefact is None else source.artefact
    tests, seeds, plan = _tests(config, source.dataset), range(config.seeds), source.protocol
    parts_of(source.clouds, tests.clean, tests.views, plan, tests.others)  # refuses what does not fit

    def of_missing(missing: Sequence[View]) -> Scored:
        parts = parts_of(source.clouds, tests.clean, missing, plan, tests.others)
        # The plan itself, unless it has a grid.
        choice = chosen(plan, source.clouds, validation, seeds[:1], device=config.device, lesson=lesson)
        total = sum(choice.protocol.recipe.total_steps(len(part.training)) for part in parts) * len(seeds)
        with progress(f"{plan.network} of {jobs.set_name(config.source)}", total) as report:
            for view, found in evaluate_views(parts, choice.protocol, seeds, report, config.device, lesson):
                yield view, replace(found, choice=choice if plan.grid is not None else None)

    seed = made.metadata.seed if isinstance(made, Artefact) else 0
    trained_on = source.clouds.fingerprint() if source.artefact is None else sha256_file(config.source)
    told = [] if lesson is None else lesson.describe()
    chosen_on = None if validation is None else validation.fingerprint()
    facts = _facts(config, tests, plan, [trained_on, chosen_on, list(seeds), told])
    return _records(config, source.dataset, facts, tests, plan, of_missing, partial(as_run, made, seed=seed))


def _of_trained(config: EvaluateConfig) -> list[Record]:
    """Records of one network that was trained before."""
    trained = jobs.network_to_test(config)
    tests, plan = _tests(config, trained.dataset), trained.protocol
    tests = tests._replace(clean=jobs.among(tests.clean, trained.class_names))

    def of_missing(missing: Sequence[View]) -> Scored:
        names, points = trained.class_names, trained.points
        return score_views(trained.network, names, tests.clean, missing, plan, points, tests.others)

    def run(found: Evaluation) -> Run:
        (only,) = found.runs
        return Run(
            arm="network", distilled=False, objective=None, storage=None, clouds_per_class=None,
            points=trained.points or plan.test_points, bits=32, bytes_per_class=0.0, distill_network=None,
            distill_seed=0, train_seeds=[], accuracy=found.accuracies, class_accuracy=[only.class_accuracy],
            ece=[only.ece], right=[only.right], confusion=[list(row) for row in only.confusion], distill_seconds=0.0,
            prepare_seconds=0.0, train_seconds=found.train_seconds, peak_mib=peak_mib(),
            class_names=list(found.class_names), test_set=found.test_set,
        )  # fmt: skip

    facts = _facts(config, tests, plan, [sha256_file(config.source)])
    return _records(config, trained.dataset, facts, tests, plan, of_missing, run)


def _tests(config: EvaluateConfig, dataset: str) -> Tests:
    clean = jobs.test_set(config, dataset)
    views = parse_views(config.views, clean.points_per_cloud)
    names = [view.dataset for view in views if view.dataset is not None]
    return Tests(clean, views, {name: load(name, "test", root=config.root) for name in names})


def _facts(config: EvaluateConfig, tests: Tests, plan: Protocol, training: Sequence[Any]) -> str:
    """A digest of all that the accuracies of a column follow from: its training, and the clean set."""
    named = [jobs.set_name(config.source), jobs.set_name(config.data or "")]
    clean, version = tests.clean.fingerprint(), versions()["pcdistill"]
    return _digest([*named, *training, plan.model_dump(mode="json"), VIEW_SEED, version, clean])


def _digest(facts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _records(
    config: EvaluateConfig,
    dataset: str,
    facts: str,
    tests: Tests,
    plan: Protocol,
    of_missing: Callable[[Sequence[View]], Scored],
    as_run_of: Callable[[Evaluation], Run],
) -> list[Record]:
    """A record per view: those that are there, and those of what is missing, written one by one."""
    others = {name: clouds.fingerprint() for name, clouds in tests.others.items()}
    digests = {view.name: _digest([facts, view.name, others.get(view.dataset or "")]) for view in tests.views}
    path = None if config.output is None else config.output / "records.jsonl"
    there = {(more.model_extra or {}).get("settings"): more for more in (read_records(path) if path else [])}
    found = {name: there[known] for name, known in digests.items() if known in there}
    missing = [view for view in tests.views if view.name not in found]
    scored: Scored = of_missing(missing) if missing else iter(())
    if config.output is not None and missing:
        for name in FILES:
            check_writable(config.output / name)
    for view, evaluation in scored:
        record = summed_up(
            BENCHMARK, jobs.set_name(config.data or dataset), plan, [as_run_of(evaluation)], _command(config),
            revision(), variant=jobs.set_name(config.source), view=view.name,
            train_rotation=plan.recipe.augmentation.rotate, trained=facts, settings=digests[view.name],
        )  # fmt: skip
        if path is not None:
            _keep(path, record)
        found[view.name] = record
    return [found[view.name] for view in tests.views]


def _keep(path: Path, record: Record) -> None:
    """Add a record; what stands in its column and was trained otherwise goes, as a column is of one training."""

    def stays(one: Record) -> bool:
        if one.benchmark != BENCHMARK or _column(one) != _column(record):
            return True
        mine, its = (more.model_extra or {} for more in (record, one))
        return bool(mine["trained"] == its.get("trained") and mine["view"] != its["view"])

    write_records(path, [*filter(stays, read_records(path)), record])


def _command(config: EvaluateConfig) -> str:
    """The command line, without what does not matter for the numbers and the folders of whoever ran it."""
    words = ["pcdistill", "evaluate", jobs.set_name(config.source)]
    for key, value in config.model_dump(by_alias=True, mode="json", exclude_defaults=True).items():
        if key in ("source", "root", "output", "json", "per_class"):
            continue
        value = jobs.set_name(value) if key == "data" else value
        flag = "--" + key.replace("_", "-")
        words += [flag] if value is True else [flag, *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def table(records: Sequence[Record]) -> str:
    """Views as rows and networks as columns, in Markdown: accuracies, then calibration errors."""
    columns = columns_of(records)
    rows = rows_of(columns)
    first = records[0]
    header = ["view", *(column.label for column in columns)]
    counts = sorted({len(record.accuracy) for record in records})
    count = " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1]))))

    def part(what: str, field: str) -> str:
        cells = [[row.label, *(_cell(row, column, field) for column in columns)] for row in rows]
        return f"{what} in per cent; mean ± standard deviation over n = {count} networks.\n\n" + markdown_table(
            header, cells
        )

    accuracies = part(f"{first.dataset}, protocol {first.protocol}: test accuracy", "accuracy")
    return accuracies + "\n" + part("Expected calibration error", "ece")


def columns_of(records: Sequence[Record]) -> list[Column]:
    """Networks by what tells them apart."""
    groups: dict[tuple[str, ...], dict[str, Record]] = {}
    for record in records:
        groups.setdefault(_column(record), {})[str((record.model_extra or {})["view"])] = record
    told = [0, *(place for place in range(1, 6) if len({key[place] for key in groups}) > 1)]
    return [
        Column(", ".join(key[place] for place in told), _rotation(next(iter(own.values()))), own)
        for key, own in groups.items()
    ]


def _rotation(record: Record) -> str:
    """Of training clouds: none, z or so3."""
    return str((record.model_extra or {})["train_rotation"])


def _column(record: Record) -> tuple[str, ...]:
    more = record.model_extra or {}
    return (
        record.network, str(more["variant"]), record.dataset, record.protocol,
        ROTATED[_rotation(record)], "thinned" if more["thin"] else "not thinned",
    )  # fmt: skip


def rows_of(columns: Sequence[Column]) -> list[Row]:
    """Every view that some network has; all severities of a kind in one row, and kinds of a benchmark on average."""
    views = list(dict.fromkeys(view for column in columns for view in column.records))
    rotations = list(dict.fromkeys(column.rotation for column in columns))
    rows = [Row("clean", ["clean"])]
    rows += [Row(view_label(v, trained), [v], trained) for v in ("z", "so3") if v in views for trained in rotations]
    rows += [Row(view_label(view, ""), [view]) for view in sorted(filter(str.isdigit, views), key=int)]
    for benchmark, kinds in CORRUPTED.items():
        own = {kind: [f"{kind}:{s}" for s in SEVERITIES if f"{kind}:{s}" in views] for kind in kinds}
        own = {kind: names for kind, names in own.items() if names}
        rows += [Row(names[0] if len(names) == 1 else kind, names) for kind, names in own.items()]
        if len(own) > 1:
            rows += [
                Row(f"{benchmark}, severity {s}", degree)
                for s in SEVERITIES
                if (degree := [f"{kind}:{s}" for kind in own if f"{kind}:{s}" in views])
            ]
            rows.append(Row(f"{benchmark}, mean", [name for names in own.values() for name in names]))
    return [*rows, *(Row(view, [view]) for view in views if view.startswith("data:"))]


def values(row: Row, column: Column, field: str = "accuracy") -> list[float] | None:
    """Of every network the mean over the row's views; None where a view is missing or training was another."""
    if row.rotation not in (None, column.rotation) or any(view not in column.records for view in row.views):
        return None
    runs = [getattr(column.records[view], field) for view in row.views]
    return torch.tensor(runs, dtype=torch.float64).mean(0).tolist()


def _cell(row: Row, column: Column, field: str) -> str:
    found = values(row, column, field)
    if found is None:
        return "–"
    mean, deviation = mean_std(found)
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}" if len(found) > 1 else f"{100 * mean:.1f}"


def per_class(confusion: Sequence[Sequence[int]], class_names: Sequence[str], most: int = 10) -> str:
    """Every class's accuracy, and the pairs that are mistaken most often, as text.

    Args:
        confusion: test clouds of class i taken for class j at [i][j], of all networks.
        class_names: of these.
        most: pairs at most.
    """
    width = max(map(len, class_names))
    lines = []
    for label, row in enumerate(confusion):
        total = sum(row)
        lines.append(f"  {class_names[label]:{width}}  " + (f"{100 * row[label] / total:5.1f} %" if total else "    –"))
    pairs = [
        (count / sum(row), i, j) for i, row in enumerate(confusion) for j, count in enumerate(row) if i != j and count
    ]
    if pairs:
        lines.append("taken for another class most often:")
    for share, i, j in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:most]:
        lines.append(f"  {class_names[i]:{width}}  {100 * share:5.1f} % for {class_names[j]}")
    return "\n".join(lines)


def _draw(records: Sequence[Record], folder: Path, say: Say) -> None:
    """The plots that there are views for; those of an older run that there are none for are removed."""
    first, columns = records[0], columns_of(records)
    title = f"{first.dataset}, protocol {first.protocol}"
    note = "Mean ± standard deviation over networks"
    kinds = [row for row in rows_of(columns) if row.label in (*MODELNET_C, *POINTCLOUD_C)]
    bars = [bar for column in columns if (bar := _bar(kinds, column))]
    drawings: dict[str, Callable[[Path], None] | None] = dict.fromkeys(PLOTS)
    if severities := _curves(columns, _severities(columns)):
        words = (title, f"{note}, of each the mean over kinds of corruption; 0: clean.")
        drawings[PLOTS[0]] = lambda path: accuracy_plot(severities, [], path, *words, axis="severity", log=False)
    if kinds and bars:
        words_below = f"{note}, of each the mean over severities."
        drawings[PLOTS[1]] = lambda path: accuracy_bars([row.label for row in kinds], bars, path, title, words_below)
    sizes = {int(view): [view] for column in columns for view in column.records if view.isdigit()}
    if resolutions := _curves(columns, dict(sorted(sizes.items()))):
        drawings[PLOTS[2]] = lambda path: accuracy_plot(
            resolutions, [], path, title, note + ".", axis="points per test cloud"
        )
    written = ["records.jsonl", "table.md"]
    paths = [(folder / f"{name}.{ending}", draw) for name, draw in drawings.items() for ending in ("png", "svg")]
    for path, _ in paths:
        path.unlink(missing_ok=True)
    for path, draw in paths:
        if draw is None:
            continue
        try:
            with atomic(path) as temporary:
                draw(temporary)
            written.append(path.name)
        except ImportError:
            say("no plots: matplotlib is not installed (pip install 'pcdistill[plots]')")
            return
    say(f"wrote {', '.join(written)} to {folder}")


def _severities(columns: Sequence[Column]) -> dict[int, list[str]]:
    """The views of every severity that all kinds have which occur; the clean one is severity 0."""
    views = {view for column in columns for view in column.records if ":" in view and not view.startswith("data:")}
    kinds = {view.partition(":")[0] for view in views}
    found = {s: sorted(f"{kind}:{s}" for kind in kinds) for s in SEVERITIES}
    whole = {s: names for s, names in found.items() if names and views.issuperset(names)}
    return {0: ["clean"], **whole} if whole else {}


def _curves(columns: Sequence[Column], places: Mapping[int, Sequence[str]]) -> list[Curve]:
    """A curve per network that has any of the places, where it has all their views."""
    curves = []
    for column in columns:
        found = {place: values(Row("", views), column) for place, views in places.items()}
        own = {place: mean_std(accuracies) for place, accuracies in found.items() if accuracies is not None}
        if any(place > 0 for place in own):
            curves.append(
                Curve(wrapped(column.label), list(own), [m for m, _ in own.values()], [d for _, d in own.values()])
            )
    return curves


def _bar(kinds: Sequence[Row], column: Column) -> Curve | None:
    found: list[Any] = [values(row, column) for row in kinds]
    if any(accuracies is None for accuracies in found):
        return None
    scores = [mean_std(accuracies) for accuracies in found]
    return Curve(column.label, range(len(kinds)), [mean for mean, _ in scores], [deviation for _, deviation in scores])
