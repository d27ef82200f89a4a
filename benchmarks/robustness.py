"""Selected, distilled and whole sets under other conditions: rotated, thinned, denser and corrupted test clouds.

    python benchmarks/robustness.py            # every set, what has records left out

A PointNet is trained for 600 steps of the `tuned` recipe on sets of 1,229 bytes per class (ten clouds of 128 points)
and on the whole set, and tested on all views of `pcdistill evaluate --views rotations resolutions corruptions`; then
the same with training clouds that are rotated about z, and about any axis, on the rotated views only. Sets are those of
`networks.py`, kept in `runs/networks`. Records go to `results/robustness.jsonl`.
"""

import argparse
from pathlib import Path

import networks  # the benchmark beside this one, which makes the sets

from pcdistill.config import EvaluateConfig
from pcdistill.evaluation import read_records, write_record
from pcdistill.matrices import run_matrix

HERE = Path(__file__).parent
RESULTS, FOLDER = HERE / "results" / "robustness.jsonl", HERE.parent / "runs" / "robustness"
DATASET, SIZE, STEPS, NETWORK = "modelnet10", 1229, 600, "pointnet"
ARMS = ("random", "medoid", "krr", "whole")


def source_of(arm: str) -> str:
    """What `pcdistill evaluate` is pointed at: a set of `networks.py`, made if it is not there, or the data set."""
    if arm == "whole":
        return DATASET
    cell = networks.Cell(DATASET, arm, NETWORK, SIZE)
    path = networks.set_file(cell, 0)
    if not path.exists():
        networks.make(cell, networks.splits(cell)[0], 0)
    return str(path)


def main() -> None:
    """Measure what has no record yet, and copy the records of all."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for arm in ARMS:
        source = source_of(arm)
        for rotation, views in (
            ("none", ("rotations", "resolutions", "corruptions")),
            ("z", ("rotations",)),
            ("so3", ("rotations",)),
        ):
            config = EvaluateConfig(
                source=source, data=DATASET, network=NETWORK, views=views, train_rotation=rotation, steps=STEPS,
                seeds=1, output=FOLDER,
            )  # fmt: skip
            for record in run_matrix(config):
                write_record(RESULTS, record)
            print(f"{arm}, trained under rotations {rotation}: done", flush=True)
    print(f"{len(read_records(RESULTS))} records in {RESULTS.name}")


if __name__ == "__main__":
    main()
