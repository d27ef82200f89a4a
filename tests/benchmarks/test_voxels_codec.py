"""Other ways to store voxels, against naive twins; and the table that is made of all."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.voxels_codec import coders, measure
from benchmarks.voxels_codec.table import tables
from pcdistill.clouds import PointClouds

Grids = np.ndarray
CLASSES = np.repeat([0, 1], 3)


@pytest.fixture
def grids() -> Grids:
    """Of 6 cells a side: blocks of any size at the lower corner, and some cells more."""
    random = np.random.default_rng(0)
    grids = (random.random((6, 6, 6, 6)) < 0.05).astype(np.int8)
    for grid, size in zip(grids, random.integers(1, 6, (6, 3)), strict=True):
        grid[tuple(map(slice, size))] = 1
    return grids


def adaptive(symbols: list[int], size: int, prior: float) -> float:
    """Bytes of symbols, one after the other."""
    counts, bits = np.full(size, prior), 0.0
    for symbol in symbols:
        bits -= np.log2(counts[symbol] / counts.sum())
        counts[symbol] += 1
    return bits / 8


def test_ideal_bytes_are_those_of_symbols_one_after_the_other() -> None:
    symbols = np.random.default_rng(0).integers(0, 4, 50).tolist()
    counts = np.bincount(symbols, minlength=7)
    best = min(adaptive(symbols, 7, prior) for prior in coders.PRIORS)
    assert coders.ideal(counts[None]) == pytest.approx(best)
    assert coders.ideal(np.stack([counts, 0 * counts])) == pytest.approx(best)


def test_shares_are_learned_of_all_cells_or_of_each(grids: Grids) -> None:
    flat = grids.reshape(6, -1)
    best = min(adaptive(flat.ravel().tolist(), 2, prior) for prior in coders.PRIORS)
    assert coders.one_share(grids, CLASSES) == pytest.approx(best)
    each = [flat[own, cell].tolist() for own in (CLASSES == 0, CLASSES == 1) for cell in range(216)]
    best = min(sum(adaptive(symbols, 2, prior) for symbols in each) for prior in coders.PRIORS)
    assert coders.cell_shares(grids, CLASSES) == pytest.approx(best)


def test_cells_are_learned_by_what_came_before_around_them(grids: Grids) -> None:
    around = [step for step in itertools.product((-1, 0, 1), repeat=3) if step < (0, 0, 0)]
    found: dict[tuple[int, ...], list[int]] = {}
    for cloud, *place in itertools.product(range(6), repeat=4):
        sides = [np.add(place, step) for step in around]
        state = tuple(int(grids[cloud, *cell]) if ((cell >= 0) & (cell < 6)).all() else 0 for cell in sides)
        found.setdefault(state, []).append(int(grids[cloud, *place]))
    assert 10 < len(found) < 1000
    best = min(sum(adaptive(symbols, 2, prior) for symbols in found.values()) for prior in coders.PRIORS)
    assert coders.neighbours(grids, CLASSES) == pytest.approx(best)


def test_runs_are_cut_where_they_are_long() -> None:
    grids = np.zeros((1, 8, 8, 8), np.int8)
    grids[0, 4, 6, 4:] = 1  # after 4 * 64 + 6 * 8 + 4 = 308 cells; 200 follow
    empty = np.bincount([255, 308 - 255, 200], minlength=256)
    occupied = np.bincount([4], minlength=256)
    assert coders.run_lengths(grids, CLASSES[:1]) == coders.ideal(empty[None]) + coders.ideal(occupied[None])
    assert coders.run_lengths(1 - grids, CLASSES[:1]) == coders.run_lengths(grids, CLASSES[:1])


def test_an_octree_has_a_symbol_for_every_occupied_node(grids: Grids) -> None:
    def children(grid: Grids, corner: tuple[int, ...], half: int) -> list[tuple[int, ...]]:
        places = corner + np.indices((2, 2, 2)).reshape(3, 8).T * half
        return [(x, y, z) for x, y, z in places if grid[x : x + half, y : y + half, z : z + half].any()]

    total = 0.0
    nodes: list[tuple[Grids, tuple[int, ...]]] = [(grid, (0, 0, 0)) for grid in grids]
    for half in (4, 2, 1):
        below = [(grid, corner, children(grid, corner, half)) for grid, corner in nodes]
        numbers = [
            sum(1 << int((np.array(place) - corner) // half @ [4, 2, 1]) for place in found)
            for _, corner, found in below
        ]
        total += coders.ideal(np.bincount(numbers, minlength=256)[None, 1:])
        nodes = [(grid, place) for grid, _, found in below for place in found]
    assert coders.octree(grids, CLASSES) == pytest.approx(total)


def test_the_first_clouds_of_every_class_are_measured() -> None:
    points = torch.arange(7.0)[:, None, None].expand(7, 4, 3) / 8
    clouds = measure.first(PointClouds(points, torch.tensor([1, 0, 1, 1, 0, 1, 0]), ("a", "b")), 2)
    assert (8 * clouds.points[:, 0, 0]).tolist() == [1, 4, 0, 2]
    assert clouds.hard_labels.tolist() == [0, 0, 1, 1]


def test_all_are_measured_and_shown_but_what_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_clouds: PointClouds
) -> None:
    monkeypatch.setattr(coders, "find_spec", lambda package: None)
    monkeypatch.setattr(measure, "RECORDS", tmp_path / "records.json")
    monkeypatch.setattr(measure, "load", lambda name, split: tiny_clouds)
    monkeypatch.setattr(measure, "SIDES", {"modelnet10": (4, 6)})
    measure.main()
    shown = capsys.readouterr().out
    assert "zstd: left out, zstandard is not installed (the extra codecs)\n" in shown
    rows: list[dict[str, Any]] = json.loads(measure.RECORDS.read_text())["rows"]
    assert [row["side"] for row in rows] == [4, 6]
    assert [len(row["encode_seconds"]) for row in rows] == [3, 3]
    assert rows[1]["bytes_per_cloud"]["raw bits"] == 6**3 / 8
    made = tables(tmp_path)
    bits = next(line for line in made["voxel_bits"].splitlines() if line.startswith("| raw bits |"))
    assert f"| {6**3 / rows[1]['voxels_per_cloud']:.2f} |" in bits
    assert "Draco" not in made["voxel_bytes"]
    assert list(made) == ["voxel_bits", "voxel_bytes", "voxel_speed"]


def test_packages_give_the_voxels_back(grids: Grids) -> None:
    """Draco is compared with what was given as it is measured."""
    pytest.importorskip("DracoPy", reason="the extra codecs is not installed")
    assert 0 < coders.draco_at_once(grids, CLASSES) < coders.draco(grids, CLASSES)
