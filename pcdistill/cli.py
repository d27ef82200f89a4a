"""The command line: one command per job. It parses, calls `pcdistill.jobs`, and prints; no logic."""

import argparse
import json
import math
import os
import sys
import tomllib
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

import torch
from pydantic import JsonValue
from pydantic.fields import FieldInfo

from pcdistill import jobs
from pcdistill.adapt import run_adapt
from pcdistill.audit import facts, run_audit, summary
from pcdistill.audit import per_class as audited_classes
from pcdistill.compare import run_compare
from pcdistill.config import (
    AdaptConfig,
    AuditConfig,
    CiteConfig,
    CompareConfig,
    Config,
    DataConfig,
    DemoConfig,
    DistillConfig,
    EvaluateConfig,
    ExpertsConfig,
    ExportConfig,
    PredictConfig,
    ReportConfig,
    SelectConfig,
    ShowConfig,
    TeachConfig,
    TrainConfig,
    ViewConfig,
    read_toml,
)  # fmt: skip
from pcdistill.data import catalog, info, load, write_hdf5
from pcdistill.demo import run_demo
from pcdistill.deploy import run_export, run_latency, run_predict
from pcdistill.environment import versions
from pcdistill.errors import InputError
from pcdistill.evaluation import mean_std
from pcdistill.export import Written, card_in
from pcdistill.files import check_writable
from pcdistill.matching.base import merged
from pcdistill.matrices import per_class, run_matrix
from pcdistill.references import cite
from pcdistill.registry import nearest
from pcdistill.report import run_report
from pcdistill.report_page import run_page
from pcdistill.storage import Artefact
from pcdistill.teach import run_teach
from pcdistill.view import run_view


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        command, config = parse([argument for argument in arguments if argument != "--debug"])
        COMMANDS[command][1](config)
        return 0
    except (InputError, OSError) as error:
        if debug:
            raise
        print(f"pcdistill: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        hint = " (the same command with --resume goes on from there)" if "saved" in str(stop) else ""
        print(f"pcdistill: {str(stop) or 'interrupted'}{hint}", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str]) -> tuple[str, Config]:
    """The command and its configuration: defaults, then the TOML file of `--config`, then flags."""
    word = next((argument for argument in arguments if not argument.startswith("-")), None)
    if word is not None and word not in COMMANDS:
        raise InputError("pcdistill", f"unknown command {nearest(word, COMMANDS)}", "one of " + ", ".join(COMMANDS))
    parser = _Parser(prog="pcdistill", description="Condense labelled sets of 3D point clouds.")
    parser.add_argument("--version", action="version", version=f"pcdistill {versions()['pcdistill']}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (kind, _) in COMMANDS.items():
        text = " ".join((kind.__doc__ or "").split())
        _add_fields(commands.add_parser(name, help=text, description=text), kind)
    found = vars(parser.parse_args(arguments))
    command = found.pop("command")
    if command is None:
        parser.print_help()
        raise SystemExit(2)
    kind = COMMANDS[command][0]
    tables = {key for key, field in kind.by_key().items() if _is_table(field)}
    for key in tables & found.keys():
        found[key] = nested(found[key], _flag(key))
    file = found.pop("config", None)
    values = {} if file is None else read_toml(Path(file), kind)
    places = dict.fromkeys(values.keys() - found.keys(), file)
    for key in tables & values.keys() & found.keys():
        found[key] = merged(values[key], found[key])
    return command, kind.checked({**values, **found}, f"pcdistill {command}", places)


def show_data(config: DataConfig) -> None:
    """`pcdistill data`."""
    if config.action == "list":
        for row in catalog(config.root):
            where = row.found or "not found (see datasets/)"
            print(f"{row.name:27} {row.classes:3} classes {row.train:6} train {row.test:6} test   {where}")
        return
    if config.name is None:
        raise InputError(f"data {config.action}", "no data set named", "a catalog name, file or folder")
    if config.action == "info":
        print(json.dumps(info(config.name, config.root), indent=2))
        return
    if config.output is None:
        raise InputError("data convert", "no --output", "the HDF5 file to write")
    check_writable(config.output)
    train, test = (
        load(config.name, split, root=config.root, points=config.points, seed=config.seed)
        for split in ("train", "test")
    )
    write_hdf5(train, test, config.output)
    print(f"wrote {config.output}: {len(train)} + {len(test)} clouds x {train.points_per_cloud} points")


def show_artefact(config: ShowConfig) -> None:
    """`pcdistill show`."""
    if config.source.suffix in jobs.NETWORK_FILES:
        _show_network(config)
        return
    artefact = Artefact.load(config.source)
    facts = artefact.metadata.model_dump(mode="json")
    sizes = artefact.sizes(config.source)
    if config.json_:
        print(json.dumps({**facts, "sizes": sizes._asdict()}))
        return
    print(_summary(artefact))
    print(
        "  sizes      "
        + ", ".join(f"{name.removesuffix('_bytes')} {value:,}" for name, value in sizes._asdict().items())
    )
    for key in (
        "arm",
        "dataset",
        "storage",
        "selection",
        "objective",
        "settings",
        "seed",
        "created",
        "versions",
        "hardware",
    ):
        print(f"  {key:10} {_plain(facts[key])}")
    plan = facts["protocol"]
    print(f"  protocol   {plan.get('name')} v{plan.get('version')}, network {plan.get('network')}")
    if artefact.expansion is not None:
        print(f"  expansion  {json.dumps(facts['expansion'])}: up to {artefact.expansion.times} clouds for each")
    if artefact.losses:
        print(f"  loss       {artefact.losses[0]:.4g} -> {artefact.losses[-1]:.4g} in {len(artefact.losses)} steps")


def _show_network(config: ShowConfig) -> None:
    """The model card of a network."""
    card = card_in(config.source).model_dump(mode="json")
    facts = {"file_bytes": config.source.stat().st_size, **card}
    if config.json_:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        print(f"  {key:12} {_plain(value)}")


def select(config: SelectConfig) -> None:
    """`pcdistill select`."""
    print(f"wrote {config.output}: {_summary(jobs.run_select(config))}")


def distill(config: DistillConfig) -> None:
    """`pcdistill distill`."""
    artefact = jobs.run_distill(config, partial(print, flush=True))
    facts = artefact.metadata
    print(f"wrote {config.output}: {_summary(artefact)}")
    prepared = f"{facts.prepare_seconds:.0f} s for networks or experts, which are kept for next time"
    print(f"  {facts.distill_seconds:.0f} s distilling, {prepared}")


def experts(config: ExpertsConfig) -> None:
    """`pcdistill experts`."""
    print(f"recorded in {jobs.run_experts(config, print):.0f} s")


def train(config: TrainConfig) -> None:
    """`pcdistill train`."""
    losses = jobs.run_train(config, print)
    print(f"wrote {config.output}: {len(losses)} steps, loss {losses[-1]:.4g}")


def teach(config: TeachConfig) -> None:
    """`pcdistill teach`."""
    run_teach(config, print)


def adapt(config: AdaptConfig) -> None:
    """`pcdistill adapt`."""
    done = run_adapt(config)
    print(f"wrote {config.output}: {len(done.trained.class_names)} classes, {done.added} of them new")
    for name, part in (("memory", done.memory), ("new", done.new)):
        if part is not None:
            print(f"  {name:7} {part.clouds} clouds of {part.classes} classes, {100 * part.accuracy:.1f} % right")


def evaluate(config: EvaluateConfig) -> None:
    """`pcdistill evaluate`."""
    if config.ranking:
        _ranking(config)
        return
    if not config.plain:
        records = run_matrix(config, (lambda _: None) if config.json_ else print)
        if config.json_:
            print(json.dumps([record.model_dump(mode="json") for record in records]))
        elif config.per_class:
            for record in records:
                more = record.model_extra or {}
                print(f"\n{record.network}, {more['view']}:\n{per_class(more['confusion'], more['class_names'])}")
        return
    found = jobs.run_evaluate(config)
    if config.json_:
        # A class without test clouds has no accuracy: null, as JSON has no NaN.
        runs = [{**vars(run), "per_class": [None if math.isnan(a) else a for a in run.per_class]} for run in found.runs]
        sweep = {} if found.choice is None else {"sweep": found.choice.facts()}
        told = {} if found.labelled is None else {"labelled": found.labelled}
        print(json.dumps({"seeds": found.seeds, "seconds": found.train_seconds, "runs": runs, **sweep, **told}))
        return
    print(f"accuracy           {_percent(found.accuracies)}")
    print(f"class accuracy     {_percent([run.class_accuracy for run in found.runs])}")
    print(f"calibration error  {_percent([run.ece for run in found.runs])}")
    print(f"networks           {len(found.runs)}, {found.train_seconds:.0f} s")
    if found.labelled is not None:
        print(f"teacher            {found.labelled['clouds']:,} clouds labelled in {found.labelled['seconds']:.1f} s")
    if found.choice is not None:
        chosen, tried = found.choice.protocol.recipe, len(found.choice.trials)
        print(f"recipe             lr {chosen.lr:g}, {chosen.steps} steps: best of {tried} on held-out training clouds")
    if config.per_class:
        print(per_class(torch.tensor([run.confusion for run in found.runs]).sum(0).tolist(), found.class_names))


def _ranking(config: EvaluateConfig) -> None:
    ranking, ratio = jobs.run_ranking(config)
    if config.json_:
        scores = {name: getattr(ranking, name) for name in ("lrs", "ars", "hlr", "ior", "recovery")}
        print(json.dumps({**scores, "compression": ratio._asdict(), "accuracies": vars(ranking)}))
        return
    rows = {
        "the set": ranking.made, "with hard labels": ranking.made_hard, "random clouds, equal bytes": ranking.random,
        "the set, unaugmented": ranking.made_plain, "random, unaugmented": ranking.random_plain,
        "the whole set": ranking.real_hard,
    }  # fmt: skip
    for name, accuracies in rows.items():
        print(f"{name:28} {_percent(accuracies)}")
    print(f"{'recovery':28} {100 * ranking.recovery:.1f} % of the whole set's accuracy")
    print(f"{'label-robust score':28} {ranking.lrs:.3f} (0.269: no better than random, no worse than the whole set)")
    print(f"{'augmentation-robust score':28} {ranking.ars:.3f} (0.269: no better than random)")
    print(
        f"{'the whole set is':28} {ratio.clouds:.3g} x the clouds, {ratio.points:.3g} x the points, "
        f"{ratio.nbytes:.3g} x the bytes, {ratio.steps:.3g} x the training steps"
    )


def audit(config: AuditConfig) -> None:
    """`pcdistill audit`."""
    audited = run_audit(config)
    if not audited.same:
        print(f"pcdistill: {config.source} was not made from '{audited.real}' as it is here", file=sys.stderr)
    if config.json_:
        print(json.dumps(facts(audited)))
        return
    if config.per_class:
        print(audited_classes(audited))
    print(summary(audited))
    if config.output is not None:
        print(f"wrote {config.output}")


def export(config: ExportConfig) -> None:
    """`pcdistill export`."""
    done = run_export(config)
    if isinstance(done, Written):
        what = f"{done.clouds:,} clouds x {done.points} points"
        if done.kind == config.format:
            what = f"{done.files:,} {done.kind.upper()} files"
        print(f"wrote {config.output}: {what}, {done.nbytes:,} bytes")
        return
    card = done.card
    tuned = ", fine-tuned under rounding" if card.tuned else ""
    print(f"wrote {config.output}: {done.nbytes:,} bytes, {card.parameters:,} parameters in {card.precision}{tuned}")
    print(f"  float32 logits differ by at most {card.parity:.1g} from the network's")
    if card.difference is not None:
        print(f"  rounding to int8 moves logits by {card.difference:.2g} on average")


def guess(config: PredictConfig) -> None:
    """`pcdistill predict`."""
    guesses = run_predict(config)
    speed = run_latency(config) if config.latency else None
    if config.json_:
        timed = {} if speed is None else {"latency": speed._asdict()}
        print(json.dumps({"guesses": [each._asdict() for each in guesses], **timed}))
        return
    width = max((len(each.file) for each in guesses), default=0)
    for each in guesses:
        likely = list(each.probabilities.items())[: config.top]
        shares = "   ".join(f"{name} {100 * share:.1f} %" for name, share in likely)
        print(f"{each.file:{width}}   {shares}")
    if speed is not None:
        print(f"{speed.points} points on one thread: {speed.p50_ms:.2f} ms (p50), {speed.p99_ms:.2f} ms (p99)")
        print(
            f"file {speed.nbytes:,} bytes; peak memory {speed.peak_mib:.0f} MiB, of which Python and the runtime "
            f"take {speed.runtime_mib:.0f}"
        )


def view(config: ViewConfig) -> None:
    """`pcdistill view`."""
    run_view(config, print)


def compare(config: CompareConfig) -> None:
    """`pcdistill compare`."""
    run_compare(config, print)


def report(config: ReportConfig) -> None:
    """`pcdistill report`."""
    if config.html is not None:
        written = run_page(config)
        text, skipped = "", written.skipped
        print(f"wrote {written.page}: {written.page.stat().st_size:,} bytes, its figures in {written.figures}")
    else:
        text, skipped = run_report(config)
    if config.output is None:
        print(text, end="")
    else:
        print(f"wrote {config.output}")
    for file in skipped:
        print(f"left out, as it holds no records: {file}", file=sys.stderr)


def cite_artefact(config: CiteConfig) -> None:
    """`pcdistill cite`."""
    print(cite(Artefact.load(config.source).metadata), end="")


def demo(config: DemoConfig) -> None:
    """`pcdistill demo`."""
    run_demo(config, print)


COMMANDS: dict[str, tuple[type[Config], Callable[[Any], None]]] = {
    "data": (DataConfig, show_data),
    "select": (SelectConfig, select),
    "distill": (DistillConfig, distill),
    "experts": (ExpertsConfig, experts),
    "train": (TrainConfig, train),
    "teach": (TeachConfig, teach),
    "adapt": (AdaptConfig, adapt),
    "evaluate": (EvaluateConfig, evaluate),
    "audit": (AuditConfig, audit),
    "export": (ExportConfig, export),
    "predict": (PredictConfig, guess),
    "view": (ViewConfig, view),
    "show": (ShowConfig, show_artefact),
    "compare": (CompareConfig, compare),
    "report": (ReportConfig, report),
    "cite": (CiteConfig, cite_artefact),
    "demo": (DemoConfig, demo),
}


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with a suggestion for unknown flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = getattr(found, "command", None)
            fields = COMMANDS[command][0].by_key() if command else {}
            flags = [_flag(key) for key, field in fields.items() if not _positional(field)]
            word = nearest(unknown[0].partition("=")[0], [*flags, "--config", "--debug"])
            raise InputError(f"pcdistill {command or ''}".strip(), f"unknown argument {word}")
        return found

    def error(self, message: str) -> NoReturn:
        raise InputError(self.prog, message)


def nested(words: Sequence[str], place: str = "--options") -> dict[str, Any]:
    """`["ridge=0.2", "bank.networks=5"]` as `{"ridge": 0.2, "bank": {"networks": 5}}`; values as in TOML, else text."""
    options: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(place, f"'{word}'", "name=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *outer, last = key.split(".")
        table = options
        for name in outer:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise InputError(place, f"'{word}'", f"one value or nested ones for '{name}', not both")
        table[last] = value
    return options


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _positional(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("positional"))


def _is_table(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is dict


def _add_fields(parser: argparse.ArgumentParser, kind: type[Config]) -> None:
    for key, field in kind.by_key().items():
        silent = field.default is None or field.default is False or field.default == () or field.default_factory
        default = "" if silent else f" (default: {field.default})"
        note = " (required)" if field.is_required() else default
        keywords: dict[str, Any] = {"help": f"{field.description or ''}{note}".replace("%", "%%")}
        keywords["default"] = argparse.SUPPRESS
        if _positional(field):
            # Never required here: a TOML file may give it.
            several = get_origin(field.annotation) is tuple
            parser.add_argument(key, nargs="*" if several else "?", metavar=key.upper(), **keywords)
        elif _is_table(field):
            parser.add_argument(_flag(key), dest=key, nargs="+", metavar="NAME=VALUE", **keywords)
        elif get_origin(field.annotation) in (tuple, list):
            word = _metavar(get_args(field.annotation)[0])
            parser.add_argument(_flag(key), dest=key, nargs="+", metavar=word, **keywords)
        elif field.annotation is bool:
            parser.add_argument(_flag(key), dest=key, action="store_true", **keywords)
        else:
            parser.add_argument(_flag(key), dest=key, metavar=_metavar(field.annotation), **keywords)
    parser.add_argument(
        "--config", metavar="TOML", default=argparse.SUPPRESS, help="file with any of these keys; flags win"
    )
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "{" + ",".join(map(str, get_args(annotation))) + "}"
    if get_origin(annotation) in (types.UnionType, Union):
        return _metavar(get_args(annotation)[0])
    return {int: "N", float: "X", Path: "PATH"}.get(annotation, "NAME")


def _plain(value: JsonValue) -> str:
    """A value of a file as text that does nothing to a terminal."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def _summary(artefact: Artefact) -> str:
    facts = artefact.metadata
    coded = " (entropy-coded)" if facts.storage == "coded" else ""
    return (
        f"{len(facts.class_names)} classes x {round(facts.clouds_per_class, 1):g} clouds x {facts.points} points "
        f"at {facts.bits} bits, {artefact.bytes_per_class:,.0f} bytes per class{coded}"
    )


def _percent(fractions: Sequence[float]) -> str:
    mean, deviation = mean_std(fractions)
    spread = f" ± {100 * deviation:.1f}" if len(fractions) > 1 else ""
    return f"{100 * mean:.1f} %{spread}"


def _one_line(error: InputError | OSError) -> str:
    if isinstance(error, InputError):
        return str(error)
    reason = error.strerror or " ".join(str(error).split())
    return f"{os.fspath(error.filename)}: {reason}" if error.filename else reason


if __name__ == "__main__":
    sys.exit(main())
