"""What a step of every objective costs: seconds, where they go, and peak memory; one process per line.

    python -m benchmarks.cost.measure                 # every objective, and trajectory matching at N = 10, 20, 50
    python -m benchmarks.cost.measure one tm --options student_steps=50 gradient=unroll

On the built-in shapes, 4 clouds x 128 points per class, so that anyone can repeat it. Writes `records.json`.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from pcdistill.condense.plan import objective_of
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic
from pcdistill.core.options import nested
from pcdistill.data import load
from pcdistill.evaluation import peak_mib
from pcdistill.matching import objectives
from pcdistill.selection import select
from pcdistill.storage import Budget
from pcdistill.storage.points import StoredPoints

RECORDS = Path(__file__).with_name("records.json")
CLOUDS, POINTS, STEPS, NETWORKS = 4, 128, 6, 2  # a step meets one network only


def arms() -> list[list[str]]:
    """Arguments of every line."""
    listed = [[name] for name in objectives]
    for gradient in ("adjoint", "tesla", "unroll"):
        listed += [["tm", "--options", f"gradient={gradient}", f"student_steps={n}"] for n in (10, 20, 50)]
    return listed


def measure(name: str, options: list[str]) -> dict[str, Any]:
    """Processor seconds, on one core, of a step with its gradient (median), where they go, and peak memory."""
    torch.set_num_threads(1)
    real = load("shapes", "train", points=1024)
    bank = objectives[name]().options.bank
    networks = NETWORKS if hasattr(bank, "networks") else None
    objective = objective_of(DistillSpec(objective=name, options=nested(options), members=networks))
    start = time.perf_counter()
    objective.prepare(real)
    prepared = time.perf_counter() - start > 0.5 * objective.seconds > 0  # and not read from the cache
    storage = StoredPoints.from_clouds(select(real, "random", CLOUDS, points=POINTS, seed=0), Budget(CLOUDS, POINTS))
    before = peak_mib()

    def step(number: int) -> float:
        start = time.process_time()  # of one thread: what else the machine does does not count
        torch.autograd.grad(objective.loss(storage.decode(), number), list(storage.learned().values()))
        return time.process_time() - start

    step(0)
    seconds = [step(number) for number in range(1, STEPS + 1)]
    peak = peak_mib()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step(STEPS + 1)
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return {
        "prepared": prepared, "objective": name, "options": options, "seconds_per_step": statistics.median(seconds),
        "prepare_seconds": objective.seconds / NETWORKS * getattr(bank, "networks", 0),
        "steps": objective.steps, "peak_mib": peak, "prepare_peak_mib": before,
        "operations": {event.key: round(event.self_cpu_time_total / total, 3) for event in events[:5]},
        "threads": torch.get_num_threads(), "commit": revision(), "versions": versions(), "hardware": hardware(),
        "command": shlex.join(["python", "-m", "benchmarks.cost.measure", "one", name, "--options", *options]),
    }  # fmt: skip


def in_a_process(arm: list[str]) -> dict[str, Any]:
    """`measure` in a process of its own, whose peak memory is its own."""
    words = [sys.executable, "-m", "benchmarks.cost.measure", "one", *arm]
    ran = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure one line and print it, or all of them and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["one"])
    parser.add_argument("objective", nargs="?", choices=list(objectives))
    parser.add_argument("--options", nargs="*", default=[])
    given = parser.parse_args()
    if given.what == "one":
        print(json.dumps(measure(given.objective, given.options)))
        return
    found = []
    for arm in arms():
        line = in_a_process(arm)
        if line.pop("prepared"):  # its peak is that of preparing: once more, from the cache
            line = in_a_process(arm)
            line.pop("prepared")
        found.append(line)
        print(f"{shlex.join(arm):60} {found[-1]['seconds_per_step']:.3f} s {found[-1]['peak_mib']} MiB", flush=True)
        with atomic(RECORDS) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
