"""Tables of sets whose points have parts: intersections over union, and accuracies of points."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.wording import by_bytes
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import Cell, Table

ARMS = {"random": "random", "medoid": "medoids", "krr": "distilled"}
NETWORKS = {"pointnet-seg": "PointNet", "pointnet2-seg": "PointNet++", "dgcnn-seg": "DGCNN"}


def networks(records: Sequence[Record]) -> str:
    """Networks that label points, trained on one file: class mIoU, instance mIoU, points that are labelled rightly."""
    rows = [
        [NETWORKS[record.network], *map(Cell.of, (record.class_miou, record.instance_miou, record.accuracy))]
        for record in sorted(records, key=lambda record: list(NETWORKS).index(record.network))
    ]
    return Table(["", "class mIoU", "instance mIoU", "points"], rows).markdown() if rows else ""


def without_class(records: Sequence[Record], dataset: str, name: str) -> str:
    """Class mIoU of one set's arms, over all its classes but one; of records that say what each class has."""
    rest = []
    for record in records:
        if record.dataset == dataset and record.class_ious:
            means = [fmean(iou for key, iou in run.items() if key != name) for run in record.class_ious]
            rest.append(record.model_copy(update={"class_miou": means}))
    return by_bytes(rest, ARMS, "class_miou")


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    records = [record for record in read_records(folder / "records.jsonl") if record.network == "pointnet-tiny-seg"]
    figures = {"parts": "class_miou", "parts_instances": "instance_miou", "parts_accuracy": "accuracy"}
    return {
        **{name: by_bytes(records, ARMS, figure) for name, figure in figures.items()},
        "parts_without_mech": without_class(records, "psb19_parts", "Mech"),
        "parts_networks": networks(read_records(folder / "networks.jsonl")),
    }
