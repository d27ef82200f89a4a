"""What waiting costs: training steps with OpenMP's threads spinning, asleep, or alone, on an idle and a busy machine.

    python -m benchmarks.threads.measure

Every arm is a process of its own: 15 steps of a PointNet on 128 points of the built-in shapes. Busy means as many other
processes, which only count, as there are cores. Writes `records.json`; some two minutes.
"""

import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic
from pcdistill.core.threads import cores

RESULTS = Path(__file__).with_name("records.json")
REPEATS = 3
ARMS: dict[str, dict[str, str]] = {
    "as libraries choose": {},
    "asleep, as the command line has it": {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(cores())},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
STEPS = 15
PROGRAM = f"""
import time
from pcdistill.data import load
from pcdistill.models import build
from pcdistill.training import recipe, train
clouds, network = load("shapes", "train", points=128), build("pointnet", 10, 0)
train(network, clouds, recipe("tuned", steps=2), 0)
wall, cpu = time.perf_counter(), time.process_time()
train(network, clouds, recipe("tuned", steps={STEPS}), 0)
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def seconds(variables: dict[str, str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of the steps."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")} | variables
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True)
    wall, cpu = map(float, run.stdout.split())
    return wall, cpu


def measure(busy: bool) -> list[dict[str, Any]]:
    """All arms in turn, so that what else the machine does meets each alike."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ARMS}
    with ExitStack() as others:
        for _ in range(cores() if busy else 0):
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            others.callback(other.wait)
            others.callback(other.kill)
        for _ in range(REPEATS):
            for name, variables in ARMS.items():
                times[name].append(seconds(variables))
    return [
        {
            "threads": name, "busy": busy, "steps": STEPS, "seconds": [wall for wall, _ in measured],
            "median_seconds": statistics.median(wall for wall, _ in measured),
            "median_cpu_seconds": statistics.median(cpu for _, cpu in measured),
        }
        for name, measured in times.items()
    ]  # fmt: skip


def main() -> None:
    facts = {
        "command": "python -m benchmarks.threads.measure", "commit": revision(), "versions": versions(),
        "hardware": hardware(), "load_before": os.getloadavg()[0],
    }  # fmt: skip
    rows = [*measure(busy=False), *measure(busy=True)]
    with atomic(RESULTS) as temporary:
        temporary.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(f"{'busy' if row['busy'] else 'idle'} {row['threads']:36} {row['median_seconds']:6.2f} s")


if __name__ == "__main__":
    main()
