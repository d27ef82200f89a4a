"""Does bfloat16 cost accuracy? The same runs with and without it, on a validation split of ModelNet10.

    python -m benchmarks.precision.measure

The `tuned` recipe multiplies the widest layers in bfloat16 where the processor has such instructions, to find
the point that survives the max-pool; its value is then computed in float32. Here it is forced, so that the
check also runs (slowly) on processors without them. The record goes to `records.json`.
"""

import datetime
import json
from pathlib import Path

from pcdistill.core.environment import hardware, versions
from pcdistill.core.files import atomic
from pcdistill.data import load, validation_split
from pcdistill.evaluation import evaluate, mean_std
from pcdistill.models import pointnet
from pcdistill.selection import select
from pcdistill.training.recipe import protocol as protocol_named

RECORDS = Path(__file__).with_name("records.json")
SEEDS = (0, 1)


def main() -> None:
    """Train on a coreset in both precisions, pairwise on the same seeds."""
    train, validation = validation_split(load("modelnet10", "train", points=1024), 0.2, 0)
    chosen = select(train, "medoid", 4, points=128, seed=0)
    protocol = protocol_named("tuned")
    accuracies = {}
    for name, available in (("float32", False), ("bfloat16", True)):
        pointnet.bf16_available = lambda found=available: found
        accuracies[name] = evaluate(chosen, validation, protocol, seeds=SEEDS).accuracies
        print(name, [round(100 * accuracy, 1) for accuracy in accuracies[name]], flush=True)
    differences = [b - a for a, b in zip(accuracies["float32"], accuracies["bfloat16"], strict=True)]
    mean, deviation = mean_std(differences)
    record = {
        "benchmark": "precision", "dataset": "modelnet10, validation", "arm": "medoid", "clouds_per_class": 4,
        "points": 128,
        "protocol": protocol.model_dump(mode="json"), "seeds": SEEDS, "accuracy": accuracies, "difference_mean": mean,
        "difference_std": deviation, "command": "python -m benchmarks.precision.measure", "versions": versions(),
        "hardware": hardware(), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip
    with atomic(RECORDS) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    print(f"bfloat16 - float32: {100 * mean:+.1f} ± {100 * deviation:.1f} points over {len(SEEDS)} seeds")


if __name__ == "__main__":
    main()
