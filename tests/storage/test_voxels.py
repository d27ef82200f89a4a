"""Storage of occupied voxels: any shape, decoded the same by everyone, learned, and kept to its bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.commands.distill import Distill
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.pack import Pack
from pcdistill.commands.select import Select
from pcdistill.condense.plan import resolve
from pcdistill.condense.shape import sides
from pcdistill.condense.spec import SelectSpec
from pcdistill.condense.start import chooser
from pcdistill.core.errors import InputError
from pcdistill.core.files import cache_root
from pcdistill.data import load
from pcdistill.storage import Budget
from pcdistill.storage import voxels as module
from pcdistill.storage.budget import Shape, fill, trimmed
from pcdistill.storage.grids import (
    FILL_BITS,
    FILL_REACH,
    SHARE_BITS,
    Packed,
    cells_of,
    occupied,
    offered,
)
from pcdistill.storage.occupancy import decode_grids, encode_grids
from pcdistill.storage.voxels import VoxelClouds
from tests.conftest import lines_of, written

NAMES = ("a", "b")


def stored(*clouds: Tensor, side: int = 8, count: int = 50) -> VoxelClouds:
    """One class of clouds `(P, 3)`, which have equally many points: exactly the cells that these are in."""
    grids = occupied(cells_of(torch.stack(clouds), side), side)
    return VoxelClouds(Packed.of(grids), torch.zeros(len(clouds), dtype=torch.long), count, ("a",))


def again(storage: VoxelClouds) -> VoxelClouds:
    return VoxelClouds.from_arrays(storage.arrays(), storage.layout(), storage.class_names)


def decoded(storage: VoxelClouds, index: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return storage.decode(index).points


def in_cells(points: Tensor, side: int) -> Tensor:
    return (points.double() + 1) * side / 2


GRID = torch.cartesian_prod(*[torch.linspace(-0.9, 0.9, 10)] * 2)
FORMS = {
    "flat": torch.cat([GRID, torch.zeros(100, 1)], 1),
    "thin": torch.cat([torch.linspace(-1, 1, 100)[:, None], torch.zeros(100, 2)], 1),
    "tiny": 1e-6 * torch.cat([GRID, torch.ones(100, 1)], 1),
    "repeated": torch.tensor([[0.3, -0.7, 1.0]]).expand(100, 3),
    "outside": 3 * torch.cat([GRID, torch.ones(100, 1)], 1),
    "full": torch.rand(100, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1,
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("count", [1, 7, 300])
def test_forms_of_all_kinds(name: str, count: int) -> None:
    """Every cell gives a point before any gives two, near its own place, the same at every reading."""
    side = 8
    storage = stored(FORMS[name], FORMS["full"], side=side, count=count)
    held = {tuple(cell) for cell in np.argwhere(storage.grids[:][0])}
    expected = {tuple(cell) for cell in ((FORMS[name] + 1) * side / 2).floor().clamp(0, side - 1).int().tolist()}
    assert held == expected
    points = decoded(storage)
    assert points.shape == (2, count, 3)
    assert torch.equal(points, decoded(storage))
    assert torch.equal(points, decoded(again(storage)))
    cells = torch.tensor(sorted(held))
    places = cells + 0.5 + smoothed_by_hand(cells)
    away = (in_cells(points[0], side)[:, None] - places).abs().amax(2)
    assert (away.amin(1) <= module.NOISE / 2 + 1e-5).all()
    assert assignable(away <= module.NOISE / 2 + 1e-5)


def smoothed_by_hand(cells: Tensor) -> Tensor:
    """Of every cell to the Gaussian mean of those at most two away, sqrt(5) in all, half a cell at most."""
    found = torch.zeros(len(cells), 3, dtype=torch.double)
    for number, cell in enumerate(cells):
        steps = cells - cell
        steps = steps[(steps.square().sum(1) <= 5) & (steps.abs().amax(1) <= 2)].double()
        weights = torch.exp(-steps.square().sum(1) / (2 * 0.8**2))
        found[number] = (weights[:, None] * steps).sum(0) / weights.sum()
    return found.clamp(-0.5, 0.5)


def assignable(fits: Tensor) -> bool:
    """Whether points can be given to cells that they fit, to each k or k + 1, as many as there are rounds."""
    points, cells = fits.shape
    rounds = -(-points // cells)
    seats = fits.repeat(1, rounds).numpy()
    matched = maximum_bipartite_matching(csr_matrix(seats), perm_type="column")
    full = fits.repeat(1, max(1, points // cells)).numpy()
    filled = maximum_bipartite_matching(csr_matrix(full.T), perm_type="column")
    return bool((matched >= 0).all() and (points < cells or (filled >= 0).all()))


def test_noise_is_uniform_over_half_a_cell() -> None:
    """Of one cell, which nothing around it moves."""
    noise = in_cells(decoded(stored(FORMS["repeated"], side=4, count=4000))[0], 4) - torch.tensor([2.5, 0.5, 3.5])
    assert noise.abs().max() <= 0.25 + 1e-6
    assert noise.mean(0).abs().max() < 0.02
    assert (noise.std(0) - 0.5 / 12**0.5).abs().max() < 0.01


def test_points_of_a_decoded_cloud_on_every_machine() -> None:
    """Places hang on integers and on Philox, whose numbers NumPy promises to keep."""
    points = decoded(stored(FORMS["flat"], side=6, count=3))[0]
    torch.testing.assert_close(points, torch.tensor(PLACES), atol=1e-6, rtol=0)


PLACES = [[0.522589, -0.498465, 0.124329], [-0.478524, -0.67967, 0.23654], [-0.670348, 0.186073, 0.181002]]


def test_a_cloud_is_decoded_alike_wherever_it_stands() -> None:
    clouds = [FORMS[name] for name in ("flat", "thin", "full")]
    points = decoded(stored(*clouds))
    assert torch.equal(decoded(stored(*clouds[::-1])), points.flip(0))
    kept = stored(*clouds).kept(torch.tensor([0, 2]))
    assert torch.equal(decoded(kept), points[[0, 2]])
    assert (kept.grids[:] == stored(*clouds).grids[np.array([0, 2])]).all()


def test_gradients_pass_to_where_points_are() -> None:
    """As they are, whatever the rounding did; a step changes the noise, and nothing else does."""
    storage = stored(FORMS["full"], FORMS["thin"])
    torch.manual_seed(0)
    found = storage.decode().points
    wanted = torch.rand(found.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((found * wanted).sum(), storage.points)
    assert torch.equal(gradient, wanted)
    torch.manual_seed(1)
    assert torch.equal(storage.decode().points, found)
    off = in_cells(found.detach(), 8) - (in_cells(storage.points.detach(), 8).floor() + 0.5)
    assert 0.2 < off.abs().max() <= module.NOISE / 2 + 1e-4
    with torch.no_grad():
        storage.points.add_(1e-4)
    moved = storage.decode().points - found
    assert moved.abs().max() > 0.01


def test_learned_points_are_stored_as_the_cells_that_they_are_in() -> None:
    storage = stored(FORMS["flat"])
    before = storage.arrays()["voxels"].tobytes()
    with torch.no_grad():
        storage.points[0, 0] = torch.tensor([0.99, 0.99, 0.99])
    assert storage.grids[:][0, 7, 7, 7] == 1
    assert storage.arrays()["voxels"].tobytes() != before
    assert (again(storage).grids[:] == storage.grids[:]).all()


def test_a_read_set_writes_what_was_read(random_clouds: Callable[..., PointClouds]) -> None:
    """Without coding it again; what `arrays` gave may be changed without harm."""
    storage = VoxelClouds.from_clouds(random_clouds(3, 4, 30), Budget(4, 20, side=12))
    first = again(storage)
    first.arrays()["voxels"][:] = 0
    assert first.arrays()["voxels"].tobytes() == storage.arrays()["voxels"].tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": 3}, r"^layout 'side': 3, expected an integer from 4 to 64$"),
        ({"side": 65}, r"^layout 'side'"),
        ({"side": True}, r"^layout 'side'"),
        ({"points": 0}, r"^layout 'points'"),
        ({"clouds": None}, r"^layout 'clouds'"),
        ({"clouds": 8}, r"^voxels: "),
        ({"clouds": 5}, r"^codes: 5 clouds, expected a multiple of 2 classes"),
        ({"points": 65536, "clouds": 2**20}, r"^points: 68719476736 of all clouds, expected at most 4096 a byte"),
        ({"clouds": 2**20, "points": 1, "side": 64}, r"^(points|voxels): "),
    ],
)
def test_layouts_that_do_not_fit(
    change: dict[str, Any], message: str, random_clouds: Callable[..., PointClouds]
) -> None:
    storage = VoxelClouds.from_clouds(random_clouds(2, 3, 30), Budget(3, 20, side=8))
    with pytest.raises(InputError, match=message):
        VoxelClouds.from_arrays(storage.arrays(), {**storage.layout(), **change}, storage.class_names)


def test_clouds_without_a_cell_are_refused() -> None:
    grids = np.zeros((2, 8, 8, 8), np.int8)
    grids[0, 1, 2, 3] = 1
    stream = encode_grids(grids, np.array([0, 0]))
    layout = {"bits": 3, "points": 9, "side": 8, "clouds": 2}
    with pytest.raises(InputError, match=r"^voxels: no cell in cloud 1, expected at least one in every cloud$"):
        VoxelClouds.from_arrays({"voxels": stream}, layout, ("a",))


@pytest.mark.parametrize("side", [0, 3, 65])
def test_sides_that_nothing_can_store(side: int, random_clouds: Callable[..., PointClouds]) -> None:
    with pytest.raises(InputError, match=rf"^side: {side}, expected 4 to 64 cells$"):
        VoxelClouds.from_clouds(random_clouds(1, 1, 5), Budget(1, 5, side=side))


# Budgets


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"storage": "voxels", "bits": 5}, r"bits: 5 in storage 'voxels', expected --side"),
        ({"side": 8, "bits": 5}, r"bits: 5 in storage 'voxels', expected --side"),
        ({"storage": "coded", "side": 8}, r"side: 8 in storage 'coded', expected storage 'voxels'"),
        ({"storage": "voxels", "side": 8, "auto": "measured"}, r"auto: measured, with clouds, points, bits or side"),
    ],
)
def test_settings_that_exclude_one_another(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(SelectSpec(bytes_per_class=100, **given))


def test_sides_follow_from_bytes() -> None:
    assert [sides(size)[0] for size in (1, 123, 369, 1229, 12288, 10**9)] == [4, 8, 10, 12, 17, 24]
    assert sides(369) == [10, 9, 8, 7, 6, 5, 4]


def test_a_budget_is_filled_with_dense_clouds(tiny_clouds: PointClouds) -> None:
    found = fill(tiny_clouds, 120, Shape(32, 3, 6), VoxelClouds, chooser(tiny_clouds, "random", "raw", 0))
    assert found.clouds.points_per_cloud == 64
    assert (found.budget.side, found.budget.points) == (6, 32)
    storage = VoxelClouds.from_clouds(found.clouds, found.budget)
    assert 60 < storage.nbytes <= 120
    kept = storage.kept(trimmed(storage, 60))
    assert kept.nbytes <= 60 < storage.nbytes
    with pytest.raises(InputError, match=r"^bytes per class: 1, expected about \d+, the least for clouds of 6 cells"):
        fill(tiny_clouds, 3, Shape(32, 3, 6), VoxelClouds, chooser(tiny_clouds, "random", "raw", 0))


def selecting(data: Path, output: Path, **given: Any) -> Select:
    return Select(data=str(data), output=output, storage="voxels", method="random", **given)


def test_selected_and_evaluated(tiny_file: Path, tmp_path: Path, short_recipes: None) -> None:
    made = written(selecting(tiny_file, tmp_path / "a.h5", bytes_per_class=60))
    assert made.storage.nbytes <= 3 * 60
    assert made.metadata.points == 256
    assert made.metadata.layout["side"] == 7
    assert made.budget.side == 7
    assert made.clouds.fingerprint() == Artefact.load(tmp_path / "a.h5").clouds.fingerprint()
    assert any("%" in line for line in lines_of(Evaluate(source=str(tmp_path / "a.h5"), test_data=str(tiny_file))))


def test_grids_decode_to_more_points_where_a_step_draws_from_them(tiny_file: Path, tmp_path: Path) -> None:
    made = [
        written(selecting(tiny_file, tmp_path / f"{name}.h5", bytes_per_class=60, protocol=name))
        for name in ("tuned", "converged")
    ]
    assert [artefact.clouds.points_per_cloud for artefact in made] == [256, 1024]
    assert made[0].bytes_per_class == made[1].bytes_per_class


def test_finer_grids_where_all_clouds_leave_bytes_over(tiny_file: Path, tmp_path: Path) -> None:
    made = written(selecting(tiny_file, tmp_path / "a.h5", bytes_per_class=500))
    side = made.metadata.layout["side"]
    assert made.metadata.clouds_per_class == 8
    assert made.storage.nbytes <= 3 * 500
    assert side > sides(500)[0]
    assert VoxelClouds.of_all(load(str(tiny_file), "train"), side + 2, 256).nbytes > 3 * 500


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"bytes_per_class": 100}, "voxels"),
        ({"ppc": 0.1, "points": 64}, "voxels"),
        ({"bytes_per_class": 100, "bits": 5}, "coded"),
        ({"bytes_per_class": 10**5, "bits": 32}, "points"),
        ({"clouds_per_class": 2}, "points"),
        ({"clouds_per_class": 2, "side": 8}, "voxels"),
        ({"bytes_per_class": 100, "storage": "coded"}, "coded"),
    ],
)
def test_the_storage_that_serves_a_budget(given: dict[str, Any], name: str) -> None:
    assert resolve(SelectSpec(**given)).storage.name == name


def test_costs_of_clouds_add_up_to_the_stream(tiny_clouds: PointClouds) -> None:
    """In whatever order the clouds stand."""
    order = torch.randperm(len(tiny_clouds), generator=torch.Generator().manual_seed(0))
    costs = VoxelClouds.costs(tiny_clouds[order], Budget(1, 16, side=10))
    assert costs.sum() == pytest.approx(VoxelClouds.of_all(tiny_clouds[order], 10, 16).nbytes, abs=8)
    by_class = [costs[tiny_clouds.labels[order] == label] for label in range(3)]
    assert torch.equal(
        torch.cat(by_class), VoxelClouds.costs(tiny_clouds[order][order_of(tiny_clouds[order])], Budget(1, 16, side=10))
    )


def order_of(clouds: PointClouds) -> Tensor:
    return clouds.labels.argsort(stable=True)


def test_thrift_fits_more_clouds_in(tiny_file: Path, tmp_path: Path) -> None:
    def chosen(method: str) -> Artefact:
        return written(
            Select(data=str(tiny_file), output=tmp_path / f"{method}.h5", method=method, bytes_per_class=30, side=10)
        )

    thrifty = chosen("thrift")
    assert thrifty.storage.nbytes <= 3 * 30
    assert thrifty.metadata.clouds_per_class >= chosen("kcenter").metadata.clouds_per_class


def test_a_smaller_side_where_the_first_is_too_large(tiny_file: Path, tmp_path: Path) -> None:
    made = written(selecting(tiny_file, tmp_path / "a.h5", bytes_per_class=5))
    assert made.storage.nbytes <= 3 * 5
    assert made.metadata.layout["side"] < sides(5)[0]


def test_sides_are_measured(tiny_file: Path, tmp_path: Path, short_recipes: None) -> None:
    made = written(selecting(tiny_file, tmp_path / "a.h5", bytes_per_class=60, auto="measured"))
    assert made.metadata.layout["side"] in (9, 7, 5)


def test_in_clouds_grids_have_ten_cells_a_side(tiny_file: Path, tmp_path: Path) -> None:
    command = selecting(tiny_file, tmp_path / "a.h5", clouds_per_class=2, points=40)
    (line,) = lines_of(command)
    assert "3 classes x 2 clouds x 40 points in grids of 10 cells a side" in line
    whole = load(str(tiny_file), "train")
    grids = Artefact.load(tmp_path / "a.h5").storage.grids[:]
    assert grids.sum((1, 2, 3)).min() > 40  # all points were looked at
    assert whole.points_per_cloud == 1024


FEW = {"objective": "dm", "members": 1, "steps": 4, "lr": 0.05}


def distilling(data: Path, output: Path, **given: Any) -> Distill:
    return Distill(data=str(data), output=output, storage="voxels", **{**FEW, **given})


def test_distilled_sets_keep_to_their_bytes(tiny_file: Path, tmp_path: Path) -> None:
    # Four steps need not lower the loss of such small sets, and on some processors do not: it is taken as it is.
    few = {"bytes_per_class": 60, "snapshots": 1, "force": True}
    made = written(distilling(tiny_file, tmp_path / "a.h5", **few))
    assert 0 < made.storage.nbytes <= 3 * 60
    first, *_, last = made.snapshots
    assert first.shape == last.shape
    assert made.clouds.points_per_cloud == 256 != first.shape[1]
    assert Artefact.load(tmp_path / "a.h5").to_bytes() == made.to_bytes()
    again = written(distilling(tiny_file, tmp_path / "b.h5", **few))
    assert again.clouds.fingerprint() == made.clouds.fingerprint()


def test_learned_labels_and_voxels(tiny_file: Path, tmp_path: Path) -> None:
    made = written(distilling(tiny_file, tmp_path / "a.h5", clouds_per_class=2, objective="krr", labels="learned"))
    assert made.clouds.labels.shape == (6, 3)


@pytest.mark.parametrize("side", [6, 14])
@pytest.mark.parametrize("stream", [False, True])
def test_a_whole_set_is_packed(side: int, stream: bool, tiny_file: Path, tmp_path: Path) -> None:
    """From memory or from disk: every cloud, and the same ones."""
    (line,) = lines_of(Pack(data=str(tiny_file), output=tmp_path / "all.h5", side=side, points=64, stream=stream))
    assert line.startswith(f"wrote {tmp_path / 'all.h5'}: 3 classes x 8 clouds x 64 points in grids of {side} cells")
    made = Artefact.load(tmp_path / "all.h5")
    real = load(str(tiny_file), "train")
    assert torch.equal(made.clouds.hard_labels, real.hard_labels)
    assert made.metadata.arm == "all"
    assert made.clouds.points.shape == (24, 64, 3)
    cells = occupied(cells_of(real.points, side), side)
    grids = made.storage.grids[:]
    assert (grids == VoxelClouds.of_all(real, side, 64).grids[:]).all()
    both = (grids & cells).sum((1, 2, 3)) / (grids | cells).sum((1, 2, 3))
    assert both.min() > 0.7


def test_clouds_out_of_order_are_stored_class_by_class(tiny_clouds: PointClouds) -> None:
    order = torch.randperm(len(tiny_clouds), generator=torch.Generator().manual_seed(0))
    storage = VoxelClouds.of_all(tiny_clouds[order], 6, 16)
    assert torch.equal(storage.labels, tiny_clouds.hard_labels[order].sort().values)
    found = {grid.tobytes() for grid in storage.grids[:]}
    exact = occupied(cells_of(tiny_clouds.points, 6), 6)
    assert len(found & {grid.tobytes() for grid in exact}) > 0
    assert len(storage) == len(tiny_clouds)


def test_large_sets_are_read_once(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a damaged file of the cache does no harm."""
    storage = VoxelClouds.of_all(tiny_clouds, 8, 16)
    monkeypatch.setattr(module, "KEPT_CELLS", 1)
    assert (again(storage).grids.bits == storage.grids.bits).all()
    read = []
    monkeypatch.setattr(module, "decode_grids", lambda *given: read.append(1) or decode_grids(*given))
    assert (again(storage).grids.bits == storage.grids.bits).all()
    assert not read
    (kept,) = (cache_root() / "voxels").glob("*")
    kept.write_bytes(b"not what it was")
    assert (again(storage).grids.bits == storage.grids.bits).all()
    assert read


# What is given up and what is filled


def test_prices_of_cells() -> None:
    """By the share of the points, of empty cells by how near a point is; the fullest has none."""
    side = 8
    centre = torch.tensor([-0.875, 0.125, 0.125])
    points = torch.cat([centre.expand(5, 3), centre[None] + torch.tensor([0.25, 0.0, 0.12]), centre.expand(2, 3)])
    grids, prices = offered(points[None], side)
    assert grids.sum() == 2
    assert prices[0, 0, 4, 4] == np.inf
    assert prices[0, 1, 4, 4] == SHARE_BITS / 8
    near = {tuple(cell) for cell in np.argwhere(prices[0] == FILL_BITS)}
    places = (np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1) + 0.5) * 2 / side - 1
    away = np.sqrt(((places[..., None, :] - points.numpy()) ** 2).sum(-1)).min(-1)
    expected = {tuple(cell) for cell in np.argwhere((away < FILL_REACH) & (grids[0] == 0))}
    assert near == expected
    assert len(near) == 1
    assert np.isinf(
        np.delete(prices[0].ravel(), [np.ravel_multi_index(c, (side,) * 3) for c in near | {(1, 4, 4)}])
    ).all()


def test_packed_grids(tiny_clouds: PointClouds) -> None:
    grids = occupied(cells_of(tiny_clouds.points, 9), 9)
    packed = Packed.of(grids)
    assert (packed[:] == grids).all()
    assert (packed[np.array([3, 1])] == grids[[3, 1]]).all()
    assert (packed.counts() == grids.sum((1, 2, 3))).all()
    assert (packed.kept(np.array([5]))[:] == grids[5]).all()
    assert packed.bits.nbytes == len(grids) * 92
