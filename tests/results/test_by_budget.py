"""Tables and curves of methods at budgets."""

from collections.abc import Callable

import pytest

from pcdistill.results.by_budget import Line, curves, markdown
from pcdistill.results.record import Record

Recorded = Callable[..., Record]


@pytest.fixture
def whole(recorded: Recorded) -> Record:
    return recorded([0.9], arm="whole", storage=None, clouds_per_class=None, points=1024, bits=32,
                    bytes_per_class=98304.0)  # fmt: skip


def line(record: Record, name: str = "random", size: str = "4x128@8", nbytes: float = 1536.0) -> Line:
    return Line(record, name, size, nbytes)


def everything(record: Record) -> Line:
    return Line(record, "whole", "", record.bytes_per_class)


def test_methods_are_rows_and_budgets_columns(recorded: Recorded, whole: Record) -> None:
    small, large = (recorded([0.5, 0.6], clouds_per_class=n, bytes_per_class=384.0 * n) for n in (4, 8))
    coded = recorded([0.7], arm="krr", variant="preset:krr", clouds_per_class=8, bytes_per_class=2000.0)
    lines = [
        line(small), line(large, size="8x128@8", nbytes=3072.0),
        line(coded, "preset:krr", "8x128@8", 3072.0), everything(whole),
    ]  # fmt: skip
    assert markdown(lines) == (
        "tiny: accuracy in per cent (test split) of pointnet, protocol tuned v2; mean ± standard deviation.\n\n"
        "| method | 4x128@8, 1,536 bytes per class | 8x128@8, 3,072 bytes per class |\n"
        "| :-- | --: | --: |\n"
        "| random | 55.0 ± 5.0 (1 set x 2 networks) | 55.0 ± 5.0 (1 set x 2 networks) |\n"
        "| preset:krr | – | 70.0 (1 set x 1 network, 2,000 bytes) |\n"
        "\n"
        "Whole set, 98,304 bytes per class: 90.0 (1 network)\n"
    )
    assert markdown([everything(whole)]).splitlines()[2:] == ["Whole set, 98,304 bytes per class: 90.0 (1 network)"]


def test_of_several_networks_each_has_a_column(recorded: Recorded, whole: Record) -> None:
    one, other = (recorded([0.5], network=name, split="0.2 of train held out") for name in ("pointnet", "dgcnn"))
    whole = whole.model_copy(update={"split": "0.2 of train held out"})
    assert markdown([line(one), line(other), everything(whole)]) == (
        "tiny: accuracy in per cent (0.2 of train held out), protocol tuned v2; mean ± standard deviation.\n\n"
        "| method | budget | bytes per class | pointnet | dgcnn |\n"
        "| :-- | --: | --: | --: | --: |\n"
        "| random | 4x128@8 | 1,536 | 50.0 (1 set x 1 network) | 50.0 (1 set x 1 network) |\n"
        "| whole |  | 98,304 | 90.0 (1 network) | – |\n"
    )


def test_a_curve_for_every_method_and_a_level_for_the_whole_set(recorded: Recorded, whole: Record) -> None:
    sized = [recorded([mean], bytes_per_class=size) for mean, size in ((0.6, 200.0), (0.5, 100.0))]
    drawn, levels = curves([*map(line, sized), everything(whole)])
    assert [(one.label, list(one.sizes), list(one.means)) for one in drawn] == [("random", [100, 200], [0.5, 0.6])]
    assert [level.label for level in levels] == ["whole set, 98,304 bytes"]
