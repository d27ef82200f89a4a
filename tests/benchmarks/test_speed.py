"""How fast networks are trained, measured on tiny ones."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks.speed import measure
from benchmarks.speed.table import speed


def rows_of(text: str) -> list[list[str]]:
    """Cells of the lines of Markdown tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["measure", *map(str, words)])
    module.main()


def test_speed_is_measured_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = measure
    monkeypatch.setattr(module, "RECORDS", tmp_path / "speed.json")
    for name, value in {"NETWORKS": ("pointnet-tiny",), "SEEDS": 2, "SIDE": 64}.items():
        monkeypatch.setattr(module, name, value)
    for part in ("seeds", "peak", "compiled"):
        usual = getattr(module, part)
        monkeypatch.setattr(module, part, lambda points, *more, usual=usual: usual(16, *more))
    monkeypatch.setattr(torch, "compile", lambda way: way)
    for part in ("seeds", "peak", "compile"):
        called(module, monkeypatch, part, "--threads", 1, "--steps", 2, "--repeats", 1)
    found = json.loads(module.RECORDS.read_text())
    assert list(found) == ["seeds 1", "peak 1", "compile 1"]
    for line in found["seeds 1"]["lines"]:
        assert line["speedup"] == pytest.approx(line["sequential_ms"] / line["stacked_ms"])
        assert line["at_once"] == 2
    trunk, head = 3 * 64 + 64 * 128 + 128 * 1024, 1024 * 512 + 512 * 256  # of the T-Net and of what follows it
    forward = 2 * 32 * (16 * (2 * trunk + 3 * 3) + 2 * head + 256 * 9 + 256 * 40)
    for line in found["peak 1"]["lines"]:
        assert line["dense_gflop_per_step"] == pytest.approx(3 * forward / 1e9)
        assert line["fraction_of_peak"] == pytest.approx(
            line["gflop_per_step"] / line["step_ms"] * 1000 / line["peak_gflops"]
        )
    rows = rows_of(speed(found))
    assert [row[0] for row in rows if row[1] != "--:"] == [
        "seeds", "pointnet-tiny", "pointnet-tiny", "peak", "pointnet", "pointnet",
        "compile", "separate", "compiled", "fused",
    ]  # fmt: skip
    assert [row[1] for row in rows[2:4]] == ["bfloat16", "float32"]
    one = found["peak 1"]["lines"][0]
    shown = next(row for row in rows if row[:2] == ["pointnet", "float32"])
    assert shown[-2:] == [f"{100 * one[name]:.0f} %" for name in ("fraction_of_peak", "dense_fraction_of_peak")]
    assert speed({}) == ""
