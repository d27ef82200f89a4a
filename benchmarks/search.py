"""Settings compared on a validation split: what the presets in `pcdistill/presets` were chosen by.

    python benchmarks/search.py krr --clouds 4 --set steps=400 options.ridge=0.2
    python benchmarks/search.py --list

One trial distils the first four fifths of every class and tests on the last fifth (up to 60 clouds a class); the test
set is not read. Trials are added to `results/search.jsonl`.
"""

import argparse
import json
import shlex
import time
from pathlib import Path
from typing import Any

import torch

from pcdistill.cli import nested
from pcdistill.clouds import PointClouds
from pcdistill.config import DistillConfig, SelectConfig
from pcdistill.data import last_split, load
from pcdistill.environment import hardware, revision
from pcdistill.evaluation import evaluate, mean_std
from pcdistill.jobs import coreset_artefact, distill_artefact
from pcdistill.selection import selectors
from pcdistill.training import protocol, recipe

RESULTS = Path(__file__).parent / "results" / "search.jsonl"
HELD_OUT, MOST = 0.2, 60


def splits(dataset: str) -> tuple[PointClouds, PointClouds]:
    """Training and validation clouds."""
    train, held = last_split(load(dataset, "train", points=1024), HELD_OUT)
    first = [(held.labels == label).nonzero()[:MOST, 0] for label in range(held.num_classes)]
    return train, held[torch.cat(first)]


def trial(given: argparse.Namespace) -> dict[str, Any]:
    """Distil (or select) with the settings given and read the validation accuracy of networks trained on the result."""
    train, held = splits(given.data)
    plan = protocol("tuned")
    if given.train_steps:
        plan = plan.model_copy(update={"recipe": recipe("tuned", steps=given.train_steps)})
    settings = nested(given.set, "--set")
    shape = {"data": given.data, "output": Path("unwritten.h5"), "points": given.points, "bits": given.bits}
    shape |= {"bytes_per_class": given.bytes} if given.bytes else {"clouds_per_class": given.clouds}
    start = time.perf_counter()
    if given.method in selectors:
        config = SelectConfig(**shape, method=given.method, **settings)
        made = coreset_artefact(train, config)
    else:
        config = DistillConfig(**shape, objective=given.method, **settings)
        made = distill_artefact(train, config)
    facts = made.metadata
    found = evaluate(made.training_clouds, held, plan, range(given.train_seeds))
    losses = made.losses
    mean, deviation = mean_std(found.accuracies)
    return {
        "benchmark": "search", "dataset": given.data, "arm": given.method, "distilled": facts.distilled,
        "storage": facts.storage,
        "clouds_per_class": facts.clouds_per_class, "points": facts.points, "bits": facts.bits,
        "bytes_per_class": made.bytes_per_class, "protocol": f"{plan.recipe.name} v{plan.recipe.version}",
        "network": plan.network, "distill_seeds": [config.seed], "train_seeds": list(range(given.train_seeds)),
        "command": command(given), "settings": settings, "train_steps": plan.recipe.total_steps(len(made.storage)),
        "accuracy": found.accuracies,
        "accuracy_mean": mean, "accuracy_std": deviation,
        "loss_first": sum(losses[:10]) / 10 if losses else None,
        "loss_last": sum(losses[-10:]) / 10 if losses else None,
        "prepare_seconds": facts.prepare_seconds, "distill_seconds": facts.distill_seconds,
        "seconds": time.perf_counter() - start, "commit": revision(), "hardware": hardware(),
    }  # fmt: skip


def command(given: argparse.Namespace) -> str:
    """The command line of a trial."""
    size = ["--bytes", given.bytes] if given.bytes else ["--clouds", given.clouds]
    options = ["--data", given.data, *size, "--points", given.points, "--bits", given.bits,
               "--train-seeds", given.train_seeds]  # fmt: skip
    options += ["--train-steps", given.train_steps] if given.train_steps else []
    return shlex.join(["python", "benchmarks/search.py", given.method, *map(str, options), "--set", *given.set])


def main() -> None:
    """Run one trial and keep it, or list those kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--data", default="modelnet10")
    parser.add_argument("--clouds", type=int, default=4)
    parser.add_argument("--bytes", type=int, help="per class, in place of clouds; coded where that can be")
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--train-seeds", type=int, default=2)
    parser.add_argument("--train-steps", type=int, help="default: as the recipe says")
    parser.add_argument("--set", nargs="*", default=[], help="keys of DistillConfig: lr=0.01 options.ridge=0.2")
    given = parser.parse_args()
    if given.list:
        for line in RESULTS.read_text().splitlines():
            one = json.loads(line)
            size = f"{one['clouds_per_class']:g}x{one['points']}@{one['bits']}"
            print(f"{100 * one['accuracy_mean']:.1f} {one['arm']} {size} {json.dumps(one['settings'])}")
        return
    if given.method is None:
        parser.error("a method or --list is needed")
    found = trial(given)
    with RESULTS.open("a") as stream:
        stream.write(json.dumps(found) + "\n")
    shown = [round(100 * accuracy, 1) for accuracy in found["accuracy"]]
    print(f"{shlex.join([given.method, *given.set])}: {100 * found['accuracy_mean']:.1f} {shown} "
          f"loss {found['loss_first']} -> {found['loss_last']}, {found['seconds']:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
