"""What is kept in this folder: files written by commit b8c4f1b through its command line, and how each was written.

`python tests/written_before/make.py` writes all of it anew, which only made sense at that commit: what later code
writes says nothing of what earlier code wrote. The commands are kept up to date, as the test repeats and resumes them;
a flag that is renamed is renamed here. As they were then: `git log --diff-filter=A -p -- tests/written_before/make.py`.

Clouds are those of the built-in `shapes` (CC0). `records.jsonl` holds a line of every shape of benchmark records, and
what `compare` and `evaluate` wrote.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

import pcdistill
from pcdistill.cli import main

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
Facts = dict[str, Any]

SMALL = "--data set.h5 --clouds-per-class 2 --points 16"
DISTILL = f"distill {SMALL} --surrogate pointnet-nano --steps 3"
SELECT = f"select {SMALL}"
ONE = "--options bank.networks=1"  # a bank of one network

NETWORKS = {
    "teacher.safetensors": "train set.h5 --points 48 --network pointnet-nano --train-steps 30",
    "nano.safetensors": "train set.h5 --points 48 --network pointnet-nano --train-steps 30 "
    "--teacher teacher.safetensors --temperature 2 --seed 1",
    "nano-int8.onnx": "export nano.safetensors --int8 --training-set set.h5",
}
NOT_KEPT = ("teacher.safetensors",)  # it is described in what it taught

STORAGES = {
    f"storage-{name}.h5": f"distill --data set.h5 --clouds-per-class 4 --points 16 --storage {name} --objective krr "
    f"--surrogate pointnet-nano --steps 3 {ONE}"
    for name in ("points", "coded", "rotated", "morphed", "implicit", "symmetric")
}
OBJECTIVES = {
    "objective-dsa.h5": f"{DISTILL} --objective dsa",
    **{
        f"objective-{name}.h5": f"{DISTILL} --objective {name} {ONE}"
        for name in ("cafe", "datadam", "dm", "gm", "idm", "m3d", "sadm", "sadm-paper")
    },
}
LABELS = {
    "labels-learned.h5": f"{DISTILL} --labels learned {ONE}",
    "labels-learned-teacher.h5": f"{DISTILL} --labels learned --teacher nano.safetensors --temperature 3 {ONE}",
    "labels-teacher.h5": f"{SELECT} --labels teacher --teacher nano.safetensors --temperature 3",
    "labels-teacher-coded.h5": f"{DISTILL} --labels teacher --teacher nano.safetensors --storage coded {ONE}",
}
# Of what later code makes and reads no more; the command is that of b8c4f1b.
REFUSED = {
    "labels-views.h5": f"{SELECT} --labels views --teacher nano.safetensors --storage coded --expand views=2",
    **{
        f"storage-{name}.h5": f"distill --data set.h5 --clouds-per-class 4 --points 16 --storage {name} "
        f"--objective krr --surrogate pointnet-nano --steps 3 {ONE}"
        for name in ("basis", "mixture")
    },
    "expanded.h5": f"{SELECT} --expand mirror=true jitter=1 interpolate=1 mixup=1",
    "densified.h5": f"{SELECT} --expand views=1 densify=24",
}
SELECTIONS = {
    "bits-32.h5": f"{SELECT} --method random --bits 32 --seed 1 --protocol published",
    "bits-16.h5": f"{SELECT} --method herding --bits 16 --features pointnet-nano",
    "bits-5.h5": f"{SELECT} --method kcenter --bits 5 --protocol sweep",
    "bytes.h5": "select --data set.h5 --bytes-per-class 90 --points 16 --bits 6 --quota proportional",
}
HISTORIES = {
    "history.h5": f"{DISTILL} --snapshots 2 --ema 0.9 --batch 4 {ONE}",
    "rate.h5": f"{DISTILL} --storage coded --rate 0.01 {ONE}",
    "focus.h5": f"{DISTILL} --focus nano.safetensors {ONE}",
}
ARTEFACTS = STORAGES | OBJECTIVES | LABELS | SELECTIONS | HISTORIES

# Stopped on the way by Ctrl-C; the artefact is of the same command, run to its end.
LONG = f"distill {SMALL} --surrogate pointnet-nano --steps 30"
RESUMED = {
    "resumed-krr.h5": f"{LONG} --snapshots 3 --ema 0.9 --batch 4 --labels learned --options bank.networks=2",
    "resumed-dc.h5": f"{LONG} --objective dc",
    "resumed-tm.h5": f"{LONG} --objective tm {ONE} bank.steps=40 start=[0,2] student_steps=3",
    "resumed-coded.h5": f"{LONG} --objective quantile --storage coded --rate 0.01 {ONE}",
}
STOP = 12  # steps that were done when it was stopped, or a few more

# Networks are trained on these, and tested.
TRAINED_ON = {
    "storage-points.h5": "",
    "labels-teacher.h5": "",
    "bits-32.h5": "",
    "resumed-tm.h5": "--protocol published",
}
# Further records, beside those of the benchmarks.
MEASURED = (
    "compare --data measured.h5 --methods random whole --budgets 1x16@8 --distill-seeds 1 --train-seeds 2 "
    "--train-steps 3 --network pointnet-nano",
    "evaluate expanded.h5 --test-data measured.h5 --train-seeds 2 --train-steps 3 --network pointnet-nano "
    "--conditions z 512",
)
NO_RECORDS = ("growth", "search")  # benchmarks whose lines are something else
BY = "dataset split view test_points thin network protocol test_set"  # fields that make a table each


def run(command: str) -> str:
    """What a command prints, run as by its user in the current folder."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = main(command.split())
    if code != 0:
        raise RuntimeError(f"exit code {code}: pcdistill {command}")
    return printed.getvalue()


def with_output(command: str, output: str, more: str = "") -> str:
    """The command with its output named, before options, which take all words that follow."""
    verb, rest = command.split(" ", 1)
    source, rest = ("", rest) if rest.startswith("--") else rest.split(" ", 1)
    return f"{verb} {source} --output {output} {more} {rest}"


def write_measured(path: Path) -> None:
    """The set of `set.h5` with its 48 points repeated to the 1,056 of which a protocol tests 1,024."""
    with h5py.File("set.h5") as source, h5py.File(path, "w") as copy:
        for name, value in source.attrs.items():
            copy.attrs[name] = value
        for split in ("train", "test"):
            copy[f"{split}/points"] = np.tile(source[f"{split}/points"][()], (1, 22, 1))
            copy[f"{split}/labels"] = source[f"{split}/labels"][()]


def write_cloud(path: Path) -> None:
    """The first test cloud of `set.h5` as a file of its own."""
    with h5py.File("set.h5") as source:
        np.save(path, source["test/points"][0].astype(np.float32))


def spread(count: int, start: int = 0) -> NDArray[np.float64]:
    """Numbers in [-0.5, 0.5) without an order, the same on every machine: whole numbers modulo 2^32."""
    return ((np.arange(start + 1, start + count + 1, dtype=np.uint64) * 2654435761) % 2**32) / 2**32 - 0.5


def seen(values: torch.Tensor) -> Facts:
    """What is kept of an array: type and shape, digest of its bytes, and three means, which hardly feel rounding."""
    array = np.ascontiguousarray(values.detach().cpu().numpy())
    flat = array.astype(np.float64).ravel()
    weighed = [np.abs(flat), *(flat * spread(flat.size, start) for start in (0, flat.size))]
    return {
        "kind": f"{array.dtype} {array.shape}",
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        "means": [round(float(part.mean()), 9) for part in weighed],
    }


def seen_artefact(path: Path) -> Facts:
    """What users get of an artefact."""
    artefact = pcdistill.Artefact.load(path)
    clouds, larger = artefact.clouds, artefact.training_clouds
    stored = {"points": seen(clouds.points), "labels": seen(clouds.labels)}
    trained_on = {"points": seen(larger.points), "labels": seen(larger.labels)}
    shown = json.loads(run(f"show {path} --json"))
    names = ("arm", "distilled", "storage", "clouds_per_class", "points", "bits", "class_names", "sizes")
    return {
        "shown": {name: shown[name] for name in names},
        "bytes_per_class": artefact.bytes_per_class,
        "clouds": stored,
        "training_clouds": "clouds" if trained_on == stored else trained_on,
        "losses": list(artefact.losses),
        "snapshots": [seen(snapshot) for snapshot in artefact.snapshots],
    }


def seen_network(path: Path) -> Facts:
    """What users get of a trained network; needs `measured.h5` and `cloud.npy` in the current folder."""
    shown = json.loads(run(f"show {path} --json"))
    (guess,) = json.loads(run(f"predict {path} cloud.npy --json"))["guesses"]
    (tested,) = json.loads(run(f"evaluate {path} --test-data measured.h5 --json"))["runs"]
    return {"shown": shown, "probabilities": guess["probabilities"], "tested": tested}


def seen_trained(path: Path, more: str) -> Facts:
    """What a network of three steps on an artefact makes of the test set."""
    short = "--network pointnet-nano --train-steps 3 --train-seeds 1"
    words = f"evaluate {path} --test-data measured.h5 {short} --json {more}"
    (tested,) = json.loads(run(words))["runs"]
    return dict(tested)


def drawn_weights(name: str) -> dict[str, torch.Tensor]:
    """Weights of a kind of network for three classes, none of them trained or left to a generator."""
    weights = {}
    for key, value in sorted(pcdistill.networks[name](3).state_dict().items()):
        numbers = torch.from_numpy(spread(value.numel(), zlib.crc32(key.encode()))).float().view(value.shape)
        if value.is_floating_point():
            small = value.ndim < 2  # biases, and scales and variances of norms
            weights[key] = 1 + numbers / 2 if small else numbers * (12 / value[0].numel()) ** 0.5
        else:
            weights[key] = torch.ones_like(value)
    return weights


def write_drawn(name: str, path: Path) -> None:
    """A network of this kind in a file as `nano.safetensors` is one, its weights drawn."""
    content = Path("nano.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    facts = json.loads(content[8 : 8 + length])["__metadata__"]
    protocol = {**json.loads(facts["protocol"]), "network": name}
    facts |= {"protocol": json.dumps(protocol), "taught": "{}"}
    header: Facts = {"__metadata__": facts}
    body = b""
    for key, value in drawn_weights(name).items():
        kind = {torch.float32: "F32", torch.int64: "I64"}[value.dtype]
        data = value.contiguous().numpy().tobytes()
        header[key] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def seen_drawn(name: str) -> Facts:
    """What a network of this kind with drawn weights makes of a cloud; its names and shapes as a digest."""
    write_drawn(name, path := Path("drawn.safetensors"))
    (guess,) = json.loads(run(f"predict {path} cloud.npy --json"))["guesses"]
    path.unlink()
    shapes = {key: list(value.shape) for key, value in pcdistill.networks[name](3).state_dict().items()}
    digest = hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()
    return {"weights": digest, "probabilities": guess["probabilities"]}


def arithmetic() -> str:
    """Digest of what torch makes of fixed numbers here: where it is the same, bits of results can be compared."""
    parts = []
    for rows, inner, columns in ((96, 3, 16), (32, 48, 64), (768, 64, 128), (6, 256, 3), (250, 129, 250)):
        left = torch.from_numpy(spread(rows * inner)).float().view(rows, inner).requires_grad_()
        right = torch.from_numpy(spread(inner * columns, 7)).float().view(inner, columns).requires_grad_()
        normed = torch.nn.functional.batch_norm(left @ right, None, None, training=True).tanh().exp()
        loss = normed.log_softmax(1).square().mean() + normed.std() + torch.cdist(left, left).mean()
        square = left.T @ left + torch.eye(inner)
        loss = loss + torch.linalg.solve(square, left.T).square().mean()
        parts += [normed, loss, *torch.autograd.grad(loss, (left, right))]
        with torch.autocast("cpu", torch.bfloat16):
            parts.append((left @ right).float())
    versions = f"{torch.__version__} {np.__version__} {torch.backends.cpu.get_cpu_capability()} {platform.machine()}"
    digest = hashlib.sha256(versions.encode())
    for part in parts:
        digest.update(part.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def seen_all() -> Facts:
    """What is kept as `expected.json`: what users get of every file of the current folder."""
    digests = {path.name: digest_of(path) for path in kept(Path())}
    write_measured(Path("measured.h5"))
    write_cloud(Path("cloud.npy"))
    return {
        "files": digests,
        "arithmetic": arithmetic(),
        "data": json.loads(run("data info set.h5 --json")),
        "artefacts": {name: seen_artefact(Path(name)) for name in (*ARTEFACTS, *RESUMED)},
        "networks": {name: seen_network(Path(name)) for name in NETWORKS if name not in NOT_KEPT},
        "kinds": {name: seen_drawn(name) for name in pcdistill.networks},
        "trained_on": {name: seen_trained(Path(name), more) for name, more in TRAINED_ON.items()},
        "records": run(f"report records.jsonl --csv --by {BY}").splitlines(),
    }


def kept(folder: Path) -> list[Path]:
    """The files that b8c4f1b wrote."""
    kinds = (".h5", ".safetensors", ".onnx", ".checkpoint", ".jsonl")
    return sorted(path for path in folder.iterdir() if path.suffix in kinds)


def digest_of(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make() -> None:
    """Write everything that is kept here."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PCDISTILL_CACHE"] = f"{folder}/cache"
        os.chdir(folder)
        make_set(Path("set.h5"))
        for name, command in (NETWORKS | ARTEFACTS | RESUMED).items():
            run(with_output(command, name))
        for name, command in RESUMED.items():
            stop(with_output(command, name, "--log log"), Path("log/log.jsonl"))
        for name in NOT_KEPT:
            Path(name).unlink()
        make_records(Path("records.jsonl"))
        for old in kept(HERE):
            old.unlink()
        Path("measured.h5").unlink()
        for path in kept(Path()):
            shutil.copy(path, HERE)
        expected = seen_all()
    (HERE / "expected.json").write_text(lines_of(expected))


def lines_of(facts: Facts) -> str:
    """JSON with a line for every member of a member."""
    parts = []
    for key, value in facts.items():
        members = [json.dumps(one) for one in value] if isinstance(value, list) else []
        if isinstance(value, dict):
            members = [f"{json.dumps(name)}: {json.dumps(one)}" for name, one in value.items()]
        inside = ",\n".join(members)
        text = {list: f"[\n{inside}\n]", dict: f"{{\n{inside}\n}}"}.get(type(value), json.dumps(value))
        parts.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def make_set(path: Path) -> None:
    """Three classes of different sizes of `shapes`, 48 points a cloud."""
    from pcdistill.data import write_hdf5

    def some(split: str, counts: tuple[int, ...]) -> pcdistill.PointClouds:
        clouds, classes = pcdistill.load("shapes", split, points=48), (0, 3, 5)
        names = tuple(clouds.class_names[label] for label in classes)
        places = [(clouds.labels == label).nonzero()[:count, 0] for label, count in zip(classes, counts, strict=True)]
        labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
        return pcdistill.PointClouds(clouds.points[torch.cat(places)], labels, names, clouds.provenance)

    write_hdf5(some("train", (10, 7, 5)), some("test", (3, 3, 3)), path)


def stop(command: str, log: Path) -> None:
    """Run a distillation and interrupt it as Ctrl-C does, once its log has `STOP` lines."""
    log.unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-m", "pcdistill.cli", *command.split()])
    while not log.exists() or log.read_text().count("\n") < STOP:
        if process.poll() is not None:
            raise RuntimeError(f"not to be interrupted: pcdistill {command}")
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    if process.wait() != 130:
        raise RuntimeError(f"not interrupted: pcdistill {command}")


def make_records(path: Path) -> None:
    """The shortest line of every set of keys among the records of the benchmarks, and lines of two commands."""
    write_measured(Path("measured.h5"))
    lines: dict[tuple[str, ...], str] = {}
    for file in sorted((REPOSITORY / "benchmarks").rglob("*.jsonl")):
        for line in file.read_text().splitlines():
            facts = json.loads(line)
            keys = tuple(sorted(facts))
            if facts["benchmark"] not in NO_RECORDS and len(line) < len(lines.get(keys, line + " ")):
                lines[keys] = line
    made = []
    for number, command in enumerate(MEASURED):
        run(with_output(command, f"measured-{number}"))
        made += Path(f"measured-{number}/records.jsonl").read_text().splitlines()
    path.write_text("".join(line + "\n" for line in [*lines.values(), *made]))


if __name__ == "__main__":
    make()
