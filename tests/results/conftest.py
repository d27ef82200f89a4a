"""Records that are made up."""

from collections.abc import Callable
from typing import Any

import pytest

from pcdistill.results.record import Record

Recorded = Callable[..., Record]


@pytest.fixture
def recorded() -> Recorded:
    """Makes the record of these accuracies, with fields of a kind that others have unless they are given."""

    def make(accuracy: list[float], **changes: Any) -> Record:
        mean = sum(accuracy) / len(accuracy)
        facts: dict[str, Any] = {
            "benchmark": "some", "dataset": "tiny", "arm": "random", "distilled": False, "objective": None,
            "storage": "points", "clouds_per_class": 4, "points": 128, "bits": 8, "bytes_per_class": 1536.0,
            "protocol": "tuned v2", "network": "pointnet", "distill_network": None, "accuracy": accuracy,
            "accuracy_mean": mean, "accuracy_std": 0.05, "class_accuracy_mean": mean, "distill_seeds": [0],
            "train_seeds": list(range(len(accuracy))), "distill_seconds": 0.0, "prepare_seconds": 0.0,
            "train_seconds": 0.0, "peak_mib": 1, "command": "", "commit": "", "versions": {}, "hardware": "",
            "date": "", "ece": accuracy, "variant": None,
        }  # fmt: skip
        return Record(**{**facts, **changes})

    return make
