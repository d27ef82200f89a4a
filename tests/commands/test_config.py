"""One configuration, three ways in: defaults, then a TOML file, then flags; Python's keywords mean the same."""

import re
from pathlib import Path
from typing import Any

import pytest

from pcdistill.artefact.expansion import Expansion
from pcdistill.cli import main
from pcdistill.commands import COMMANDS, RENAMED, command
from pcdistill.commands.base import Command
from pcdistill.commands.distill import Distill
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.flags import in_files_only, is_positional, read
from pcdistill.commands.select import Select
from pcdistill.condense import spec as configuration
from pcdistill.condense.plan import objective_of, storage_of
from pcdistill.condense.spec import BudgetSpec
from pcdistill.core.errors import InputError
from pcdistill.core.options import read_toml

# Every field of every command at a value that is not its default.
EVERY: dict[str, dict[str, Any]] = {
    "data": {
        "force": True, "action": "convert", "name": "set", "output": "out.h5", "root": "data", "points": 32, "seed": 7,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "json": True,
    },
    "select": {
        "dry_run": True,
        "force": True,
        "clouds_per_class": 3, "bytes_per_class": 999, "points": 16, "bits": 6, "data": "set", "output": "out.h5",
        "root": "data", "stream": True, "method": "random", "features": "pointnet", "protocol": "published", "seed": 7,
        "skip": 0.25,
        "labels": "teacher", "teacher": ["net.safetensors"], "temperature": 2.0,
        "expand": {"interpolate": 1, "mixup": 2},
        "storage": "other", "bytes": 5, "ppc": 0.5, "ratio": 0.25, "quota": "root", "auto": "measured", "side": 7,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "rotate": "so3", "partial": 0.25, "device": "cpu:0",
    },
    "pack": {
        "force": True,
        "data": "set", "output": "all.h5", "root": "data", "side": 7, "points": 16, "protocol": "published",
        "stream": True,
        "up_axis": "y", "least_points": 9, "skip_bad": True,
    },
    "distill": {
        "trackers": ["wandb", "mlflow"], "dry_run": True,
        "force": True,
        "clouds_per_class": 3, "bytes_per_class": 999, "points": 16, "bits": 6, "data": "set", "output": "out.h5",
        "root": "data", "stream": True, "init": "random", "storage": "other", "objective": "dm", "steps": 5, "lr": 0.5,
        "batch": 2, "focus": "net.safetensors",
        "members": 3, "surrogate": "pointnet", "snapshots": 2, "live": 8765, "protocol": "published", "seed": 7,
        "resume": True, "freeze": 0.5,
        "log": "logs", "preset": "krr", "ema": 0.5, "options": {"ridge": 0.2, "bank": {"points": 7}},
        "labels": "learned", "teacher": ["net.safetensors"], "temperature": 2.0,
        "expand": {"interpolate": 3, "mixup": 1},
        "bytes": 5, "ppc": 0.5, "ratio": 0.25, "quota": "root", "auto": "measured", "rate": 0.5, "side": 7,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "rotate": "so3", "partial": 0.25,
        "device": "cpu:0", "workers": 2, "engine": "ray",
    },
    "experts": {
        "log": "log", "trackers": ["wandb", "mlflow"],
        "data": "set", "root": "data", "preset": "tm", "options": {"length": 2, "bank": {"steps": 9}}, "members": 3,
        "surrogate": "pointnet", "seed": 7, "workers": 2, "engine": "ray",
        "up_axis": "y", "least_points": 9, "skip_bad": True, "device": "cpu:0",
    },
    "train": {
        "log": "log", "trackers": ["wandb", "mlflow"],
        "force": True,
        "source": "set", "output": "net.safetensors", "root": "data", "points": 16, "network": "pointnet-small",
        "protocol": "published", "seed": 7, "teacher": ["a.safetensors", "b.safetensors"], "temperature": 3.0,
        "soft_loss": "mse", "hard": 0.5, "train_steps": 9, "student": "tiny", "policy": {"kind": "move", "warm": 0.5},
        "watch": 5, "stream": True,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "rotate": "so3", "partial": 0.25,
        "device": "cpu:0",
    },
    "teachers": {
        "source": "a.h5", "output": "there", "data": "set", "root": "data", "student": "nano", "teachers": ["pointnet"],
        "shares": [0.5, 1.0], "temperatures": [3.0], "train_steps": 9, "train_seeds": 2, "protocol": "published",
        "cheap": True,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "rotate": "so3", "partial": 0.25,
        "device": "cpu:0",
        "log": "log", "trackers": ["wandb", "mlflow"],
    },
    "adapt": {
        "log": "log", "trackers": ["wandb", "mlflow"],
        "force": True,
        "source": "net.safetensors", "memory": ["a.h5", "b.h5"], "new": "set", "output": "new.safetensors",
        "root": "data", "how": "lora", "rank": 2, "train_steps": 9, "lr": 0.5, "shots": 3, "classes": ["bed", "sofa"],
        "seed": 7,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "device": "cpu:0",
    },
    "evaluate": {
        "source": "a.h5", "test_data": "set", "root": "data", "network": "pointnet-small", "protocol": "published",
        "networks": ["pointnet", "pointnet-small"], "conditions": ["so3", "gaussian:3"], "rotate": "z",
        "train_steps": 3, "thin": True, "train_seeds": 1, "output": "out", "per_class": True, "json": True,
        "device": "cpu:0", "teacher": ["net.safetensors"], "temperature": 3.0, "soft_loss": "mse", "hard": 0.5,
        "policy": {"kind": "relabel", "share": 0.25}, "test_points": 512, "stream": True,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "partial": 0.25,
        "log": "log", "trackers": ["wandb", "mlflow"],
    },
    "rank": {
        "source": "a.h5", "test_data": "set", "root": "data", "network": "pointnet-small", "protocol": "published",
        "rotate": "z", "train_steps": 3, "thin": True, "train_seeds": 1, "device": "cpu:0",
        "teacher": ["net.safetensors"], "json": True, "test_points": 512,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "partial": 0.25,
        "log": "log", "trackers": ["wandb", "mlflow"],
    },
    "audit": {
        "force": True,
        "source": "a.h5", "real": "set", "root": "data", "per_class": True, "output": "a.json", "json": True,
        "up_axis": "y", "least_points": 9, "skip_bad": True,
        "device": "cpu:0",
    },
    "export": {
        "force": True,
        "source": "net.safetensors", "output": "net.onnx", "int8": True, "tune": True, "training_set": "a.h5",
        "root": "data", "seed": 7, "split": "test", "format": "pcd", "colour": "none",
        "up_axis": "y", "least_points": 9, "skip_bad": True,
    },
    "predict": {
        "force": True,
        "model": "net.onnx", "files": ["a.off", "b.npy"], "points": 16, "up_axis": "y", "top": 2, "latency": True,
        "json": True, "seed": 7, "output": "labelled", "class": "chair",
        "least_points": 9, "skip_bad": True, "device": "cpu:0",
    },
    "view": {
        "force": True,
        "source": "a.h5", "png": "a.png", "html": "a.html", "window": True, "root": "data", "split": "test",
        "class": ["chair", "sofa"], "columns": 2, "colour": "moved", "real": "set", "model": "net.safetensors",
        "records": "r.jsonl", "renderer": "builtin", "background": "dark", "initial": True,
        "turntable": "a.gif", "evolution": "a.webp", "tile": 64,
        "up_axis": "y", "least_points": 9, "skip_bad": True,
    },
    "show": {"source": "a.h5", "json": True},
    "card": {
        "source": "a.h5", "output": "card.md", "name": "hf:a/b", "records": ["r.jsonl"], "audit": "a.json",
        "force": True,
    },
    "zoo": {"action": "list"},
    "push": {
        "source": "a.h5", "target": "hf:a/b", "records": ["r.jsonl"], "audit": "a.json", "private": True,
        "allowed": True,
    },
    "doctor": {"root": "data", "json": True},
    "cache": {"action": "clear"},
    "completion": {"shell": "fish"},
    "compare": {
        "log": "log", "trackers": ["wandb", "mlflow"],
        "dry_run": True,
        "data": ["set", "other"], "output": "there", "root": "data", "methods": ["random", "preset:krr", "few"],
        "budgets": ["1x64@8", "1229B"], "distill_seeds": 2, "train_seeds": 4, "protocol": "published",
        "networks": ["pointnet", "pointnet-small"], "validation": 0.25, "validation_clouds": 3, "steps": 5,
        "train_steps": 6, "rotate": "z", "thin": True, "whole_points": 64, "storages": ["points", "coded"],
        "labels": ["hard", "soft"], "conditions": ["so3"], "facts": {"variant": "{arm}"}, "sets": "sets",
        "records": "records.jsonl", "benchmark": "mine", "only": ["random set"],
        "arms": {"few": {"method": "medoid", "settings": {"seed": 1}}}, "supervision": {"soft": {"hard": 0.5}},
        "teacher": {"network": "dgcnn", "steps": 9}, "grids": [{"train_seeds": 2}], "workers": 2, "engine": "ray",
        "device": "cpu:0",
        "test_points": 512,
        "up_axis": "y", "least_points": 9, "skip_bad": True, "partial": 0.25,
    },
    "report": {
        "force": True,
        "results": ["a.jsonl", "grid"], "output": "table.md", "csv": True, "against": "medoid",
        "by": ["network", "dataset"], "per_class": True, "html": "out.html",
    },
    "cite": {"source": "a.h5"},
    "demo": {"force": True, "output": "there", "seed": 7},
}  # fmt: skip
KINDS = {name: command(name) for name in COMMANDS}
FIELDS = [
    (name, key) for name, kind in KINDS.items() for key, field in kind.by_key().items() if not in_files_only(field)
]


def parse(words: list[str]) -> Command:
    """As the command line reads it."""
    return read(words[0], KINDS[words[0]], words[1:])


def toml(folder: Path, values: dict[str, Any]) -> str:
    path = folder / "run.toml"
    path.write_text("".join(f"{key} = {toml_value(value)}\n" for key, value in values.items()))
    return str(path)


def toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_value(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def assignments(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Nested values as `--options` takes them."""
    words = []
    for key, value in values.items():
        words += (
            assignments(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}={toml_value(value)}"]
        )
    return words


def flags(command: str, values: dict[str, Any]) -> list[str]:
    """Values as a user would type them."""
    fields = KINDS[command].by_key()
    words = [command]
    for key, value in values.items():
        if in_files_only(fields[key]):
            continue
        if is_positional(fields[key]):
            words += map(str, value) if isinstance(value, list) else [str(value)]
        elif value is True:
            words.append("--" + key.replace("_", "-"))
        elif isinstance(value, dict):
            words += ["--" + key, *assignments(value)]
        elif isinstance(value, list):
            words += ["--" + key, *map(str, value)]
        else:
            words += ["--" + key.replace("_", "-"), str(value)]
    return words


def test_every_field_is_tried_at_another_value_than_its_default() -> None:
    assert set(EVERY) == set(COMMANDS)
    for name, values in EVERY.items():
        fields = KINDS[name].by_key()
        assert set(values) == set(fields)
        assert all(str(fields[key].default) != str(value) for key, value in values.items())


@pytest.mark.parametrize("command", list(COMMANDS))
def test_keywords_flags_and_toml_give_the_same_configuration(command: str, tmp_path: Path) -> None:
    expected = KINDS[command](**EVERY[command])
    in_file = {key: value for key, value in EVERY[command].items() if in_files_only(KINDS[command].by_key()[key])}
    assert parse([*flags(command, EVERY[command]), "--config", toml(tmp_path, in_file)]) == expected
    assert parse([command, "--config", toml(tmp_path, EVERY[command])]) == expected
    assert set(expected.model_dump(by_alias=True)) == set(EVERY[command])


def test_flags_win_over_toml_and_toml_over_defaults(tmp_path: Path) -> None:
    file = toml(tmp_path, {"data": "from file", "output": "file.h5", "steps": 11, "lr": 1, "seed": 3})
    found = parse(["distill", "--config", file, "--seed", "5", "--output", "flag.h5"])
    assert isinstance(found, Distill)
    assert (found.seed, found.output) == (5, Path("flag.h5"))
    assert (found.steps, found.lr, found.data) == (11, 1.0, "from file")
    assert (found.batch, found.points) == (None, None)


@pytest.mark.parametrize(("command", "key"), FIELDS)
def test_every_field_is_described_and_in_the_help(
    command: str, key: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    field = KINDS[command].by_key()[key]
    assert field.description
    name = key.upper() if is_positional(field) else "--" + key.replace("_", "-")
    # Nothing, an unset flag and no words at all are not worth a mention; a number 0 is.
    default = field.default
    silent = default is None or default is False or default == () or field.default_factory or field.is_required()
    words = " ".join(map(str, default)) if isinstance(default, tuple) else default
    text = field.description + ("" if silent else f" (default: {words})")
    assert re.search(rf"\s{name}( \S+)*? {re.escape(text)}( |$)", shown)
    required = shown.partition(" required: ")[2]
    assert not field.is_required() or f"{name} " in required


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('steps = "400"', "a valid integer"),
        ("steps = 400.0", "a valid integer"),
        ("steps = [1]", "a valid integer"),
        ("seed = true", "a valid integer"),
        ("resume = 1", "a valid boolean"),
        ('resume = "no"', "a valid boolean"),
        ('lr = "0.1"', "a valid number"),
        ("data = 5", "a valid string"),
        ("output = 5", "a valid string"),
        ("clouds_per_class = true", "a valid integer"),
    ],
)
def test_types_in_toml_are_strict(line: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=rf"run\.toml: {line.split(' = ')[0]} = .*, expected .*{expected}"):
        read_toml(path, Distill)


@pytest.mark.parametrize(
    ("key", "nearest"), [("stepz", "steps"), ("clouds-per-class", "clouds_per_class"), ("sead", "seed")]
)
def test_unknown_toml_keys_are_errors_with_a_suggestion(key: str, nearest: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"run\.toml: unknown option '{key}' \(did you mean '{nearest}'\?\)"):
        read_toml(Path(toml(tmp_path, {key: 1})), Distill)


def test_suggestions_are_names_that_a_user_may_write(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'json'\?"):
        read_toml(Path(toml(tmp_path, {"jsn": True})), Evaluate)
    with pytest.raises(InputError, match=r"unknown option 'jsn' \(did you mean 'json'\?\)"):
        Evaluate.checked({"source": "a.h5", "jsn": True})


def test_an_error_is_blamed_on_where_the_value_came_from(tmp_path: Path) -> None:
    file = toml(tmp_path, {"data": "set", "output": "out.h5", "steps": -1, "batch": 0})
    with pytest.raises(InputError, match=r"^\S*run\.toml: steps = -1, expected greater than or equal to 0$"):
        parse(["distill", "--config", file])
    with pytest.raises(InputError, match=r"^\S*run\.toml: batch = 0"):
        parse(["distill", "--config", file, "--steps", "3"])
    with pytest.raises(InputError, match=r"^pcdistill distill: batch = '-2'"):
        parse(["distill", "--config", file, "--steps", "3", "--batch", "-2"])
    with pytest.raises(InputError, match=r"^pcdistill select: 'output' is missing$"):
        parse(["select", "--data", "set"])


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As some editors of Windows write it."""
    (tmp_path / "run.toml").write_bytes(b'\xef\xbb\xbfdata = "shapes"\r\n')
    assert read_toml(tmp_path / "run.toml", Distill) == {"data": "shapes"}


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"run\.toml: not TOML"):
        read_toml(path, Distill)
    path.write_text("steps = = 3")
    with pytest.raises(InputError, match=r"run\.toml: not TOML .*line 1"):
        read_toml(path, Distill)
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "none.toml", Distill)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_settings_do_not_change(name: str) -> None:
    kind = KINDS[name]
    config = kind(**EVERY[name])
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, next(iter(kind.model_fields)), None)


def test_sizes_in_bytes() -> None:
    """Of three classes, in a set of 10,000 float32 bytes."""
    for values, expected in (
        ({"bytes_per_class": 100}, 300), ({"bytes": 100}, 100), ({"ppc": 1}, 3 * 12288), ({"ppc": 0.1}, 3686),
        ({"ratio": 0.5}, 5000), ({"clouds_per_class": 4}, None),
    ):  # fmt: skip
        config = BudgetSpec(**values)
        config.check_budget()
        assert config.total_bytes(3, 10_000) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "budget: no size given, expected one of clouds_per_class, bytes_per_class, bytes, ppc, ratio"),
        ({"clouds_per_class": 1, "bytes": 384}, "budget: clouds_per_class and bytes given"),
        ({"clouds_per_class": 1, "bits": 13}, "bits: 13, expected 2 to 12"),
        ({"bytes_per_class": 384, "bits": 1}, "bits: 1, expected 2 to 12"),
        ({"ppc": 1, "auto": "measured", "bits": 5}, "auto: measured, with clouds, points, bits or side given"),
    ],
)
def test_budgets_that_cannot_be_kept(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BudgetSpec(**values).check_budget()


def test_an_unknown_storage_is_refused() -> None:
    with pytest.raises(InputError, match=r"^storage: 'point' \(did you mean 'points'\?\)"):
        storage_of(BudgetSpec(ppc=1, storage="point"))


def test_seeds_fit_the_generators() -> None:
    assert Select.checked({"data": "x", "output": "y", "seed": 2**32 - 1}).seed == 2**32 - 1
    with pytest.raises(InputError, match=r"seed = 4294967296, expected less than"):
        Select.checked({"data": "x", "output": "y", "seed": 2**32})


# Options of objectives, and presets

DISTILL = ("distill", "--data", "set", "--output", "out.h5", "--clouds-per-class", "1")


def distilled(*words: str) -> Distill:
    found = parse([*DISTILL, *words])
    assert isinstance(found, Distill)
    return found


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("ridge=0.2", {"ridge": 0.2}),
        ("distance=cosine", {"distance": "cosine"}),
        ("distance='cosine'", {"distance": "cosine"}),
        ("joint=true", {"joint": True}),
        ("start=[0, 5]", {"start": [0, 5]}),
        ("bank.networks=5", {"bank": {"networks": 5}}),
        ("bank.augmentation.tilt=8", {"bank": {"augmentation": {"tilt": 8}}}),
        ("name=a=b", {"name": "a=b"}),
        ("name=", {"name": ""}),
    ],
)
def test_options_are_values_as_in_toml_or_text(word: str, expected: dict[str, Any]) -> None:
    assert distilled("--options", word).options == expected


def test_options_nest_side_by_side(tmp_path: Path) -> None:
    words = ("--options", "bank.networks=5", "ridge=1", "bank.points=7")
    assert distilled(*words).options == {"bank": {"networks": 5, "points": 7}, "ridge": 1}
    file = toml(tmp_path, {"options": {"bank": {"networks": 2, "seed": 3}, "weight": 4}})
    assert distilled("--config", file, *words).options == {
        "bank": {"networks": 5, "seed": 3, "points": 7}, "ridge": 1, "weight": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ridge"], r"--options: 'ridge', expected name=value"),
        (["=3"], r"--options: '=3', expected name=value"),
        (["bank.=3"], r"--options: 'bank\.=3', expected name=value"),
        ([".networks=3"], r"--options: '\.networks=3', expected name=value"),
        (["bank=3", "bank.networks=5"], r"--options: 'bank.networks=5', expected .* for 'bank', not both"),
    ],
)
def test_options_that_are_none(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        distilled("--options", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ridg=0.2"], r"objective krr: unknown option 'ridg' \(did you mean 'ridge'\?\)"),
        (["bank.network_=5"], r"objective krr: unknown option 'bank.network_' \(did you mean 'bank.networks?'\?\)"),
        (["ridge=much"], r"objective krr: ridge = 'much', expected .*number.*"),
        (["bank.networks=0"], r"objective krr: bank.networks = 0, expected greater than or equal to 1"),
        (["bank=5"], r"objective krr: bank = 5, expected a valid dictionary.*"),
        (["bank.map_samples=2"], r"objective krr: unknown option 'bank.map_samples' \(did you mean .*"),
    ],
)  # fmt: skip
def test_options_that_an_objective_refuses(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        objective_of(distilled("--objective", "krr", "--options", *words))


def test_options_reach_the_objective() -> None:
    words = ("--objective", "tm", "--seed", "4", "--members", "3", "--surrogate", "pointnet-small-groupnorm")
    found = objective_of(distilled(*words, "--options", "bank.networks=5", "bank.augmentation.tilt=1", "start=[2,3]"))
    options = found.describe()
    assert (options["seed"], options["start"]) == (4, [2, 3])
    bank = options["bank"]
    assert (bank["networks"], bank["network"], bank["seed"]) == (5, "pointnet-small-groupnorm", 4)
    assert bank["augmentation"]["tilt"] == 1
    assert bank["augmentation"]["stretch"] == 1.3  # what is not named stays


def test_expansions_are_options_of_their_own(tmp_path: Path) -> None:
    file = toml(tmp_path, {"expand": {"interpolate": 1, "mixup": 2}})
    found = distilled("--config", file, "--expand", "mixup=1", "--options", "ridge=1")
    assert (found.expand, found.options) == ({"interpolate": 1, "mixup": 1}, {"ridge": 1})
    assert found.expansion() == Expansion(interpolate=1, mixup=1)
    assert distilled("--expand", "mixup=1", "seed=7").expansion() == Expansion(mixup=1, seed=7)
    assert distilled("--expand", "mixup=1", "--seed", "4").expansion() == Expansion(mixup=1, seed=4)
    assert distilled("--expand", "mixup=0").expansion() is None
    assert distilled().expansion() is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("mixup", r"--expand: 'mixup', expected name=value"),
        ("mixap=1", r"expand: unknown option 'mixap' \(did you mean 'mixup'\?\)"),
        ("mixup=yes", r"expand: mixup = 'yes', expected a valid integer"),
        ("mixup=1.0", r"expand: mixup = 1\.0, expected a valid integer"),
        ("mixup=true", r"expand: mixup = True, expected a valid integer"),
        ("mixup=-1", r"expand: mixup = -1, expected greater than or equal to 0"),
        ("mixup.share=1", r"expand: mixup = \{'share': 1\}, expected a valid integer"),
        ("interpolate=64", r"expand: interpolate = 64, expected less than 64"),
    ],
)
@pytest.mark.parametrize("way", ["flag", "toml"])
def test_expansions_that_are_none(word: str, message: str, way: str, tmp_path: Path) -> None:
    if way == "flag":
        with pytest.raises(InputError, match=f"^{message}$"):
            distilled("--expand", word)
    elif "=" in word:
        path = tmp_path / "run.toml"
        path.write_text(f"expand.{word.replace('yes', repr('yes'))}\n")
        with pytest.raises(InputError, match=f"^{message}$"):
            distilled("--config", str(path))


def test_an_expansion_over_that_of_a_preset(fast: Path) -> None:
    fast.write_text("objective = 'gm'\nexpand = {interpolate = 1, mixup = 3}\n")
    assert distilled("--preset", "fast", "--expand", "mixup=1").expand == {"interpolate": 1, "mixup": 1}


@pytest.fixture
def fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A preset of this name among those of the package."""
    path = tmp_path / "fast.toml"
    path.write_text(
        'objective = "gm"\nsteps = 7\nlr = 0.5\n[options]\ndistance = "mse"\nbank = {networks = 2, points = 9}\n'
    )
    known = {**configuration.presets(), "fast": path}
    monkeypatch.setattr(configuration, "presets", lambda: known)
    return path


def test_what_is_given_wins_over_the_preset(fast: Path, tmp_path: Path) -> None:
    found = distilled("--preset", "fast", "--steps", "3", "--options", "bank.networks=5", "joint=true")
    assert (found.objective, found.steps, found.lr) == ("gm", 3, 0.5)
    assert found.options == {"distance": "mse", "joint": True, "bank": {"networks": 5, "points": 9}}
    plain = distilled("--preset", "fast")
    assert plain.options == {"distance": "mse", "bank": {"networks": 2, "points": 9}}
    file = toml(tmp_path, {"preset": "fast", "lr": 0.1, "options": {"distance": "layer"}})
    found = distilled("--config", file, "--steps", "4")
    assert (found.objective, found.steps, found.lr, found.options["distance"]) == ("gm", 4, 0.1, "layer")
    assert Distill(data="set", output=Path("out.h5"), preset="fast").steps == 7


def test_unknown_preset_is_one_line() -> None:
    with pytest.raises(InputError, match=r"preset: 'kr' \(did you mean 'krr'\?\), expected one of .*krr") as caught:
        distilled("--preset", "kr")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", list(configuration.presets()))
def test_presets_of_the_package_make_objectives(name: str) -> None:
    objective_of(distilled("--preset", name))
    comment = configuration.presets()[name].read_text().partition("\n")[0]
    assert comment.startswith("# ")


# Names of an earlier release


@pytest.mark.parametrize(
    ("kind", "old", "new"), [(name, old, new) for name, kind in KINDS.items() for old, new in kind.renamed.items()]
)
def test_an_old_name_of_a_flag_is_answered_with_the_new_one(kind: str, old: str, new: str, tmp_path: Path) -> None:
    command = new.removeprefix("pcdistill ")  # where a flag became one
    assert new in KINDS[kind].by_key() or (command != new and command in COMMANDS)
    flag = "--" + old.replace("_", "-")
    now = "--" + new.replace("_", "-") if command == new else new
    with pytest.raises(InputError, match=rf"^pcdistill {kind}: '{flag}' is called '{now}' now$"):
        parse([kind, flag, "1"])
    with pytest.raises(InputError, match=rf"^\S*run\.toml: '{old}' is called '{new}' now$"):
        parse([kind, "--config", toml(tmp_path, {old: 1})])
    with pytest.raises(InputError, match=rf"'{old}' is called '{new}' now$"):
        KINDS[kind].checked({**EVERY[kind], old: 1})


@pytest.mark.parametrize(("old", "new"), list(RENAMED.items()))
def test_an_old_name_of_a_command_is_answered_with_the_new_one(
    old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new in COMMANDS
    assert main([old]) == 2
    assert capsys.readouterr().err == f"pcdistill: error: pcdistill: '{old}' is called '{new}' now\n"
