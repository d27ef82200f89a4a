"""How much less time the pass over the real set takes by two workers than by one, and what a killed worker costs.

    python -m benchmarks.growth.shards                  # every way without a record
    python -m benchmarks.growth.shards --real 20000     # of a smaller set, recorded beside

200,000 clouds of 1024 points in ten classes, those of `measure`, are read from disk and passed through two networks of
the bank of `dm`: once by one process as one sum; by two processes; by two workers of Ray; and by two workers of Ray of
which one is killed in the middle of its shard. Every way in a process of its own, with nothing cached, a thread for
each worker. Writes `shards.jsonl`: seconds, peak memory, and how far what objectives read of the bank is from the one
sum. Takes about 40 minutes of two idle cores and 1.3 GB of disk.
"""

import argparse
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.growth.measure import REAL_POINTS, UNTRAINED, origin, peak, read_lines, real_set, write_lines
from pcdistill.core.engine import Team
from pcdistill.core.log import said
from pcdistill.data.stream import StreamedClouds
from pcdistill.matching import Bank, bank, objectives, shards
from pcdistill.matching.gathering import BankRequest

RECORDS = Path(__file__).with_name("shards.jsonl")
CLASSES, NETWORKS = 10, 2
REAL = 200_000
# Fields of every record that stay empty here, as no set is made of what is passed.
UNMADE: dict[str, Any] = {
    "distilled": False, "objective": "dm", "storage": None, "clouds_per_class": None, "points": None, "bits": None,
    "bytes_per_class": None, "distill_seconds": None,
}  # fmt: skip
WAYS = {"one sum": ("local", 1), "2 processes": ("local", 2), "2 of Ray": ("ray", 2), "2 of Ray, 1 killed": ("ray", 2)}


class Deadly(StreamedClouds):
    """Kills the first worker that comes to its middle, once."""

    met: Path
    parent: int

    def batch(self, index: Tensor) -> Tensor:
        if os.getpid() != self.parent and int(index[0]) >= len(self) // 4 and not self.met.exists():
            self.met.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(index)


def passed(way: str, path: Path, output: Path) -> dict[str, Any]:
    """Build the bank of the set at `path` in one way, leave its tensors at `output`, and say what that took."""
    torch.set_num_threads(1)
    engine, workers = WAYS[way]
    config = BankRequest.of(objectives["dm"]().options.bank, networks=NETWORKS)
    kind = Deadly if "killed" in way else StreamedClouds
    with tempfile.TemporaryDirectory() as empty, kind(path, "train") as real:
        if isinstance(real, Deadly):
            real.met, real.parent = Path(empty) / "met", os.getpid()
        os.environ["PCDISTILL_CACHE"] = empty
        if way == "one sum":
            shards.SHARD = len(real)
        real.fingerprint()
        begun = peak()
        start = time.perf_counter()
        found = Bank.of(real, config, Team(engine, workers))
        seconds = time.perf_counter() - start
        assert ("killed" in way) == (Path(empty) / "met").exists()
    save_file({name: value.contiguous() for name, value in bank._to_tensors(found.members).items()}, output)
    workers_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    return {
        "prepare_seconds": seconds, "networks": NETWORKS, "distill_network": config.network, "start_mib": begun,
        "peak_mib": peak(), "worker_mib": workers_peak if engine == "local" and workers > 1 else None,
        "shards": 1 if way == "one sum" else -(-len(real) // shards.SHARD), "file_mib": path.stat().st_size >> 20,
    }  # fmt: skip


def distance(found: Path, reference: Path) -> float:
    """The largest distance of a number from that of the reference, over the largest number of its tensor."""
    one, other = load_file(found), load_file(reference)
    assert one.keys() == other.keys()
    far = [
        float((one[name] - value).abs().max() / value.abs().max().clamp_min(1e-30))
        for name, value in other.items() if value.is_floating_point() and value.numel()
    ]  # fmt: skip
    return max(far)


def main() -> None:
    """Measure one way and print it, or all that have no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", nargs="?", choices=list(WAYS), help="one way")
    parser.add_argument("--real", type=int, default=REAL, help="clouds")
    parser.add_argument("--output", type=Path, help="of one way: file for the bank")
    given = parser.parse_args()
    with said(logging.INFO):
        path = real_set(CLASSES, given.real, REAL_POINTS)
        if given.way is not None:
            print(json.dumps(passed(given.way, path, given.output or Path(tempfile.mkdtemp()) / "bank.safetensors")))
            return
    kept = path.with_name(f"banks-{given.real}")  # to compare with
    kept.mkdir(exist_ok=True)
    for way in WAYS:
        lines, output = read_lines(RECORDS), kept / f"{way}.safetensors"
        others = [line for line in lines if (line["variant"], line["real_clouds"]) != (way, given.real)]
        if output.exists() and len(others) < len(lines):
            continue
        words = [way, "--real", str(given.real)]
        print(way, flush=True)
        run = [sys.executable, "-m", "benchmarks.growth.shards", *words, "--output", str(output)]
        ran = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(ran.stdout.splitlines()[-1])
        line = {
            "benchmark": "growth", "dataset": "shards", "arm": "dm", "variant": way, "real_clouds": given.real,
            "real_points": REAL_POINTS, "classes": CLASSES, "workers": WAYS[way][1], **UNMADE, **UNTRAINED, **found,
            "distance": distance(output, kept / "one sum.safetensors"), **origin("shards", words),
        }  # fmt: skip
        write_lines(RECORDS, [*others, line])
        print(
            f"  {line['prepare_seconds']:.0f} s, peak {line['peak_mib']} MiB, off by {line['distance']:.1e}", flush=True
        )


if __name__ == "__main__":
    main()
