"""Tables of other fields say what the records say."""

from benchmarks.fields.table import quotas
from tests.benchmarks.test_frontier import record


def test_quotas_stand_below_even_shares_of_the_same_clouds() -> None:
    even = [record("random", 123, 0.6, "sydney14", class_accuracy=[0.4, 0.5]), record("medoid", 123, 0.9, "sydney14")]
    shared = [
        record("random", 123, 0.7, "sydney14", variant="gain 123", class_accuracy=[0.5]),
        record("random", 123, 0.8, "sydney14", variant="root 123", class_accuracy=[0.3]),
    ]
    assert quotas(shared, even).splitlines()[2:] == [
        "| sydney14 | 123 | even | 61.0 ± 1.4 | 45.0 ± 7.1 |",
        "| sydney14 | 123 | root | 81.0 ± 1.4 | 30.0 |",
        "| sydney14 | 123 | gain | 71.0 ± 1.4 | 50.0 |",
    ]
