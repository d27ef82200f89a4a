"""What tables call data sets, networks and training sets, and what several of them share."""

from pcdistill.matching import objectives
from pcdistill.results.record import Record
from pcdistill.results.table import Table, accuracy_cell

NAMES = {"modelnet10": "ModelNet10", "modelnet40": "ModelNet40", "shapes": "shapes"}
MODELNETS = ("modelnet10", "modelnet40")
ORDER = ("random", "herding", "kcenter", "medoid", *objectives, "whole")
NETWORKS = {
    "pointnet": "PointNet", "pointnet-tiny": "PointNet-tiny", "pointnet2": "PointNet++", "dgcnn": "DGCNN",
    "pointconv": "PointConv", "point-transformer": "Point Transformer", "pointmlp-elite": "PointMLP-elite",
    "pointnext-s": "PointNeXt-S",
}  # fmt: skip
SETS = {"random": "random", "herding": "herding", "kcenter": "k-center", "medoid": "medoids", "krr": "distilled",
        "quantile": "distilled, quantile", "krr-pool": "distilled, pool", "whole": "whole set"}  # fmt: skip
NOTHING = "Not measured yet.\n"


def by_part(records: list[Record], field: str, names: dict[str, str]) -> str:
    """Accuracy of arms that differ in one field, one row per data set, split and set; of a row the best is bold."""
    found: dict[tuple[str, bool, str], dict[str, Record]] = {}
    for record in records:
        place = record.dataset, record.split != "test", record.arm
        found.setdefault(place, {})[str(getattr(record, field))] = record
    rows = []
    for (dataset, validation, arm), own in sorted(found.items()):
        best = max(record.accuracy_mean for record in own.values())
        cells = [accuracy_cell(own[name]) if name in own else "–" for name in names]
        bold = [name in own and own[name].accuracy_mean == best for name in names]
        where = NAMES.get(dataset, dataset) + (", validation" if validation else "")
        rows.append([where, SETS[arm], *(f"**{c}**" if b else c for c, b in zip(cells, bold, strict=True))])
    return Table(["", "trained on", *names.values()], rows).markdown() + "\n" + how_made(records) if rows else ""


def budget_text(record: Record) -> str:
    """The budget of a set, or the bytes of a whole one."""
    size = str(record.variant).split()[1]
    return f"{int(size) if size.isdigit() and int(size) else record.bytes_per_class:,.0f}"


def how_made(records: list[Record]) -> str:
    """A line on how records were made."""

    def listed(found: set[str]) -> str:
        return " or ".join(sorted(found, key=lambda text: (len(text), text)))

    protocols = listed({f"`{record.protocol}`" for record in records})
    steps = listed({str((record.recipe or {})["steps"]) for record in records})
    points = listed({str(record.points) if record.thin else str(record.test_points) for record in records})
    runs = listed({str(len(record.accuracy)) for record in records})
    return f"Protocol {protocols}, {steps} steps; training and test clouds of {points} points; n = {runs}.\n"
