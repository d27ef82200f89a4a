"""Files that commit b8c4f1b wrote are read, resumed and made again, and give the same bits.

`make.py` says what there is and how it was made, `expected.json` what b8c4f1b itself read in it. Everything goes
through the command line and the public face of the package, so that it holds wherever the code within has moved.

Sums of floats depend on the processor. Where torch computes here as it did there (`make.arithmetic`), every bit is
compared; elsewhere whatever is rounded on the way may differ by as much as the names below say.
"""

import csv
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from safetensors import safe_open

import pcdistill
from pcdistill.results.record import read_records  # the one name here that is not for users
from tests.written_before import make
from tests.written_before.make import Facts, run, with_output

EXPECTED: Facts = json.loads((make.HERE / "expected.json").read_text())
ARTEFACTS: list[str] = [name for name in EXPECTED["artefacts"] if name not in make.REFUSED]
RESULTS = make.REPOSITORY / "benchmarks"

READ = 1e-5  # of what is decoded or computed from a file, on another processor
MADE = 0.05  # mean distance of coordinates after up to 30 steps there, each of which moves them by up to 0.014
RESUMED = 0.005  # the same after the last 18, from where b8c4f1b was
LOST = 0.01  # relative, of the losses of the first three steps there
PLAIN = ("points", "coded", "symmetric")  # storages that decode by one multiplication and one sum: alike everywhere
# Objectives whose steps differentiate pooled features in another order since, and round otherwise on every machine.
REORDERED = ("krr", "dm", "idm", "m3d")
# Facts of a run, which differ from run to run or from place to place.
OF_A_RUN = {"prepare_seconds", "distill_seconds", "versions", "hardware", "created", "sizes"}


@pytest.fixture(scope="module")
def same_bits() -> bool:
    """Whether torch rounds here as it did where the files were written."""
    return make.arithmetic() == EXPECTED["arithmetic"]


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of all files, and the test set and the cloud that networks are tried on."""
    folder = tmp_path_factory.mktemp("written")
    for path in make.kept(make.HERE):
        shutil.copy(path, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make.write_measured(Path("measured.h5"))
        make.write_cloud(Path("cloud.npy"))
    return folder


@pytest.fixture(autouse=True)
def _among_the_copies(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copies)


def differences(found: Any, wanted: Any, exact: bool, place: str = "") -> list[str]:
    """Where two sets of facts differ: arrays by digest or means, numbers by `READ` where not `exact`."""
    if isinstance(wanted, dict) and "sha256" in wanted and "means" in wanted:
        part = "sha256" if exact else "means"
        return [
            line for key in ("kind", part) for line in differences(found[key], wanted[key], exact, f"{place} {key}")
        ]
    if isinstance(wanted, dict) and isinstance(found, dict):
        missing = [f"{place} {key}: only on one side" for key in wanted.keys() ^ found.keys()]
        shared = wanted.keys() & found.keys()
        return missing + [
            line for key in shared for line in differences(found[key], wanted[key], exact, f"{place} {key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [line for at, (one, other) in pairs for line in differences(one, other, exact, f"{place}[{at}]")]
    if isinstance(wanted, float) and isinstance(found, float) and not exact:
        return [] if math.isclose(found, wanted, rel_tol=READ, abs_tol=READ) else [f"{place}: {found}, not {wanted}"]
    return [] if found == wanted else [f"{place}: {found}, not {wanted}"]


def test_this_processor_rounds_like_the_one_that_wrote(same_bits: bool) -> None:
    if not same_bits:
        pytest.skip("torch rounds otherwise here: bits of what is computed are compared within bounds only")


def test_every_file_is_here_as_it_was_written() -> None:
    found = {path.name: path for path in make.kept(make.HERE)}
    assert found.keys() == EXPECTED["files"].keys()
    assert {name: make.digest_of(path) for name, path in found.items()} == EXPECTED["files"]


def test_the_data_set_is_read_as_before() -> None:
    assert json.loads(run("data info set.h5 --json")) == EXPECTED["data"]


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_decodes_to_the_same_bits(name: str, same_bits: bool) -> None:
    wanted = EXPECTED["artefacts"][name]
    found = make.seen_artefact(Path(name))
    rounded = {key: found.pop(key) for key in ("clouds", "training_clouds")}
    assert not differences(found, {key: wanted[key] for key in found}, exact=True)
    plain = wanted["shown"]["storage"] in PLAIN
    assert not differences(rounded["clouds"], wanted["clouds"], same_bits or plain)
    assert not differences(rounded["training_clouds"], wanted["training_clouds"], same_bits)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_what_a_file_says_is_shown_and_written_again(name: str) -> None:
    with h5py.File(name) as file:
        says = json.loads(file["metadata"][()])
    shown = json.loads(run(f"show {name} --json"))
    assert {key: shown[key] for key in says} == says
    pcdistill.Artefact.load(name).save("again.h5")
    with h5py.File(name) as old, h5py.File("again.h5") as new:
        assert json.loads(new["metadata"][()]).items() >= says.items()
        assert arrays_of(new) == arrays_of(old)


def test_labels_of_copies_are_refused_in_one_line() -> None:
    with pytest.raises(pcdistill.InputError, match=r"labels-views\.h5: .*one label a cloud \(pcdistill 0\.1 reads"):
        pcdistill.Artefact.load("labels-views.h5")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("storage-basis", "storage: 'basis', expected one of coded, "),
        ("storage-mixture", "storage: 'mixture', expected one of coded, "),
        ("expanded", "metadata 'expansion': unknown option 'mirror'"),
        ("densified", "metadata 'expansion': unknown option 'views'"),
    ],
)
def test_what_did_not_pay_is_refused_in_one_line(name: str, found: str) -> None:
    with pytest.raises(pcdistill.InputError, match=f"{name}.h5: {found}"):
        pcdistill.Artefact.load(f"{name}.h5")


def arrays_of(file: h5py.File) -> dict[str, tuple[str, bytes]]:
    """All arrays of a file by name, but the text of the metadata."""
    found: dict[str, tuple[str, bytes]] = {}

    def note(name: str, member: h5py.Dataset | h5py.Group) -> None:
        if isinstance(member, h5py.Dataset) and name != "metadata":
            found[name] = (f"{member.dtype} {member.shape}", member[()].tobytes())

    file.visititems(note)
    return found


@pytest.mark.parametrize("name", make.TRAINED_ON)
def test_networks_learn_from_an_artefact_as_before(name: str, same_bits: bool) -> None:
    """By the protocol that its file names, or by another."""
    found, wanted = make.seen_trained(Path(name), make.TRAINED_ON[name]), EXPECTED["trained_on"][name]
    assert found.keys() == wanted.keys()
    assert found["ece"] == pytest.approx(wanted["ece"], abs=0.01)
    if same_bits:
        assert found == wanted


@pytest.mark.parametrize("name", EXPECTED["networks"])
def test_a_network_says_the_same(name: str, same_bits: bool) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime")
    found, wanted = make.seen_network(Path(name)), EXPECTED["networks"][name]
    assert found["shown"] == wanted["shown"]
    assert not differences(found["probabilities"], wanted["probabilities"], exact=False)
    assert not differences(found["tested"], wanted["tested"], same_bits)


@pytest.mark.parametrize("name", EXPECTED["kinds"])
def test_a_file_of_every_kind_of_network_is_read(name: str) -> None:
    """As b8c4f1b would have written it, with weights that are drawn and therefore need not be kept."""
    assert not differences(make.seen_drawn(name), EXPECTED["kinds"][name], exact=False)


def test_the_same_training_gives_the_same_weights(same_bits: bool) -> None:
    if not same_bits:
        pytest.skip("torch rounds otherwise here")
    for name in ("teacher.safetensors", "nano.safetensors"):
        run(with_output(make.NETWORKS[name], f"again/{name}").replace("--teacher ", "--teacher again/"))
    with safe_open("nano.safetensors", "pt") as old, safe_open("again/nano.safetensors", "pt") as new:
        assert set(old.keys()) == set(new.keys())
        for key in old.keys():  # noqa: SIM118
            assert torch.equal(new.get_tensor(key), old.get_tensor(key)), key


@pytest.mark.parametrize("name", make.ARTEFACTS | make.RESUMED)
def test_the_same_command_makes_the_same_set(name: str, same_bits: bool) -> None:
    run(with_output((make.ARTEFACTS | make.RESUMED)[name], "again.h5", "--force"))
    check_made("again.h5", name, 0, same_bits)


@pytest.mark.parametrize("name", make.RESUMED)
def test_an_interrupted_run_goes_on_to_the_same_bits(name: str, same_bits: bool, tmp_path: Path) -> None:
    with safe_open(f"{name}.checkpoint", "pt") as stored:
        done = int(stored.metadata()["step"])
    shutil.copy(f"{name}.checkpoint", "resumed.h5.checkpoint")
    run(with_output(make.RESUMED[name], "resumed.h5", f"--resume --force --log {tmp_path}"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(done + 1, 31))
    check_made("resumed.h5", name, done, same_bits)
    assert not Path("resumed.h5.checkpoint").exists()


def as_described_then(objective: Facts | None) -> Facts | None:
    """An objective's settings with two that objectives set themselves now, without one that two of them lacked."""
    if objective is None or "pooled_points" not in objective["bank"]:
        return objective
    lacked = {"augmentation"} if objective["name"] in ("quantile", "sadm", "sadm-paper") else set()
    kept = {key: value for key, value in objective.items() if key not in lacked}
    return {**kept, "bank": {**objective["bank"], "map_samples": 0, "attention": 0.0}}


def check_made(new: str, old: str, done: int, exact: bool) -> None:
    """Hold the artefact in `new` against that of b8c4f1b in `old`, of the same command; `done` steps were b8c4f1b's."""
    shown, known = (json.loads(run(f"show {path} --json")) for path in (new, old))
    shown["objective"] = as_described_then(shown["objective"])
    if "quota" not in known["selection"]:
        shown["selection"].pop("quota", None)
    assert {key: shown[key] for key in known.keys() - OF_A_RUN} == {key: known[key] for key in known.keys() - OF_A_RUN}
    found, wanted = pcdistill.Artefact.load(new), pcdistill.Artefact.load(old)
    assert found.clouds.points.shape == wanted.clouds.points.shape
    assert (found.clouds.points - wanted.clouds.points).abs().mean() <= (RESUMED if done else MADE)
    assert len(found.losses) == len(wanted.losses)
    assert found.losses[:done] == wanted.losses[:done]
    assert found.losses[done : done + 3] == pytest.approx(wanted.losses[done : done + 3], rel=LOST)
    if exact and (known["objective"] or {}).get("name") not in REORDERED:
        with h5py.File(new) as one, h5py.File(old) as other:
            assert arrays_of(one) == arrays_of(other)


def test_records_are_read_and_reported_as_before() -> None:
    lines = run(f"report records.jsonl --csv --by {make.BY}").splitlines()
    found, wanted = (list(csv.DictReader(text)) for text in (lines, EXPECTED["records"]))
    assert len(found) == len(wanted) == len(Path("records.jsonl").read_text().splitlines())
    assert [{key: row[RENAMED.get(key, key)] for key in wanted[0]} for row in found] == wanted


RENAMED = {"view": "condition"}  # fields of records


def record_files() -> list[Path]:
    """All files of benchmark records, those kept here included."""
    files = [*sorted(RESULTS.rglob("*.jsonl")), make.HERE / "records.jsonl"]
    first = {path: json.loads(path.read_text().splitlines()[0]) for path in files}
    return [path for path in files if first[path]["benchmark"] not in make.NO_RECORDS]


@pytest.mark.parametrize("path", record_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_committed_record_is_read_whole(path: Path) -> None:
    written = [json.loads(line) for line in path.read_text().splitlines()]
    read = [record.model_dump(mode="json") for record in read_records(path)]
    assert read == [{RENAMED.get(key, key): value for key, value in line.items()} for line in written]


@pytest.mark.parametrize("path", record_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_committed_record_is_reported_with_its_figures(path: Path) -> None:
    reported = csv.DictReader(run(f"report {path} --csv --by {make.BY}").splitlines())
    written = [json.loads(line) for line in path.read_text().splitlines()]
    figures = ("clouds_per_class", "points", "bits", "bytes_per_class", "accuracy_mean", "accuracy_std",
               "class_accuracy_mean")  # fmt: skip
    names = ("dataset", "network", "storage")

    def facts(record: dict[str, Any]) -> tuple[Any, ...]:
        numbers = [None if record[key] in (None, "") else float(record[key]) for key in figures]
        return (*(record[key] or "" for key in names), *numbers)

    assert Counter(map(facts, reported)) == Counter(map(facts, written))
