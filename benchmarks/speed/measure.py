"""How fast networks are trained: all seeds at once against one by one, and how near to the processor's matrix products.

    python -m benchmarks.speed.measure seeds     # ten seeds stacked, and one after the other
    python -m benchmarks.speed.measure peak      # share of the measured matrix-multiply peak, and where the rest goes
    python -m benchmarks.speed.measure compile   # torch.compile on the separate layers, and the time to compile

On random clouds, as speed does not depend on what they show. Times are medians of wall-clock time over repetitions
that take turns, on as many threads as torch is given (`--threads`). FLOPs of matrix products are counted as carried
out; "dense" counts what the separate layers would carry out (three times the forward pass of the linear layers).
Writes `records.json`.
"""

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from pcdistill.clouds import PointClouds
from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic
from pcdistill.models import build
from pcdistill.training.loop import stack_size, train, train_networks
from pcdistill.training.recipe import Recipe, recipe

ROOT = Path(__file__).parents[2]
RECORDS = Path(__file__).with_name("records.json")
SEEDS, CLASSES = 10, 40
SIDE = 3072  # of the matrices whose product is the peak
NETWORKS = ("pointnet", "pointnet-plain", "pointnet-full", "pointnet-small", "pointnet-tiny")


def clouds_of(count: int, points: int) -> PointClouds:
    """Random clouds of random classes."""
    random = torch.Generator().manual_seed(0)
    return PointClouds(
        torch.randn(count, points, 3, generator=random) / 3,
        torch.randint(CLASSES, (count,), generator=random),
        tuple(map(str, range(CLASSES))),
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seeds(points: int, steps: int, repeats: int, bf16: bool) -> list[dict[str, Any]]:
    """Milliseconds of a step of one of ten networks, trained at once and one after the other."""
    clouds, found = clouds_of(1000, points), []
    for name in NETWORKS:
        how = recipe("tuned", steps=steps, bf16=bf16)

        def sequential(name: str = name, how: Recipe = how) -> None:
            for seed in range(SEEDS):
                train(build(name, CLASSES, seed), clouds, how, seed)

        def stacked(name: str = name, how: Recipe = how) -> None:
            train_networks(name, clouds, how, range(SEEDS))

        warm = recipe("tuned", steps=1, bf16=bf16)
        train_networks(name, clouds, warm, range(SEEDS)), train(build(name, CLASSES, 0), clouds, warm, 0)
        pairs = [(seconds(sequential), seconds(stacked)) for _ in range(repeats)]
        one, all_ = (statistics.median(side) * 1000 / steps / SEEDS for side in zip(*pairs, strict=True))
        found.append({
            "network": name, "points": points, "bf16": bf16, "sequential_ms": one, "stacked_ms": all_,
            "speedup": one / all_, "speedups": [a / b for a, b in pairs],
            "at_once": stack_size(build(name, CLASSES, 0), clouds, how, SEEDS),
        })  # fmt: skip
        print(f"{name:20} bf16 {bf16}: {one:.1f} ms one by one, {all_:.1f} ms stacked, {one / all_:.2f} x")
    return found


def peak(points: int, steps: int) -> list[dict[str, Any]]:
    """FLOPs per second while training a PointNet, against those of a large matrix product, in both precisions."""
    clouds, found = clouds_of(256, points), []
    for bf16 in (False, True):
        dtype = torch.bfloat16 if bf16 else torch.float32
        left, right = torch.randn(2, SIDE, SIDE).to(dtype)
        best = 2 * SIDE**3 / min(seconds(lambda left=left, right=right: left @ right) for _ in range(15))
        network = build("pointnet", CLASSES, 0)
        train(network, clouds, recipe("tuned", steps=2, bf16=bf16), 0)
        with FlopCounterMode(display=False) as counted:
            train(network, clouds, recipe("tuned", steps=1, bf16=bf16), 0)
        with FlopCounterMode(display=False) as dense, torch.no_grad():
            network.eval()(clouds.points[:32])
        times: list[float] = []
        clock = [time.perf_counter()]

        def ticked(step: int, loss: float, clock: list[float] = clock, times: list[float] = times) -> None:
            now = time.perf_counter()
            times.append(now - clock[0])
            clock[0] = now

        train(network, clouds, recipe("tuned", steps=steps, bf16=bf16), 0, ticked)
        step = statistics.median(times[1:])
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            train(network, clouds, recipe("tuned", steps=3, bf16=bf16), 0)
        events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        found.append({
            "network": "pointnet", "points": points, "batch": 32, "bf16": bf16, "peak_gflops": best / 1e9,
            "step_ms": step * 1000, "gflop_per_step": counted.get_total_flops() / 1e9,
            "fraction_of_peak": counted.get_total_flops() / step / best,
            "dense_gflop_per_step": 3 * dense.get_total_flops() / 1e9,
            "dense_fraction_of_peak": 3 * dense.get_total_flops() / step / best,
            "operations": {event.key: round(event.self_cpu_time_total / total, 3) for event in events[:8]},
        })  # fmt: skip
        print(json.dumps(found[-1]))
    return found


def compiled(points: int, steps: int) -> list[dict[str, Any]]:
    """A step of a PointNet of separate layers, plain and by torch.compile, and of this package's fused layers."""
    clouds, found = clouds_of(256, points), []
    batch, labels = clouds.points[:32], clouds.labels[:32]
    network = build("pointnet-plain", CLASSES, 0).train()

    def separate(points: torch.Tensor) -> torch.Tensor:
        features = points
        for layer in network.trunk.layers:  # type: ignore[union-attr]
            features = layer(features)
        logits: torch.Tensor = network.classify(features.amax(1).relu())
        return logits

    ways: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "separate": separate, "compiled": torch.compile(separate), "fused": lambda points: network(points).logits,
    }  # fmt: skip
    for name, way in ways.items():

        def step(way: Callable[[torch.Tensor], torch.Tensor] = way) -> None:
            network.zero_grad()
            nn.functional.cross_entropy(way(batch), labels).backward()

        first = seconds(step)
        rest = statistics.median(seconds(step) for _ in range(steps))
        found.append({"way": name, "points": points, "first_step_s": first, "step_ms": rest * 1000})
        print(json.dumps(found[-1]))
    return found


def main() -> None:
    """Measure one part and put it into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["seeds", "peak", "compile"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.part == "seeds":
        lines = [line for bf16 in (True, False) for line in seeds(128, given.steps, given.repeats, bf16)]
    elif given.part == "peak":
        lines = peak(1024, given.steps)
    else:
        lines = compiled(1024, given.steps)
    facts = {
        "command": f"python -m benchmarks.speed.measure {given.part} --threads {given.threads} --steps {given.steps}",
        "threads": given.threads, "commit": revision(ROOT), "versions": versions(), "hardware": hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "lines": lines,
    }  # fmt: skip
    stored = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
    with atomic(RECORDS) as temporary:
        temporary.write_text(json.dumps({**stored, f"{given.part} {given.threads}": facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
