"""How many threads, and how they wait; the user's own settings stay."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pcdistill.core import threads

VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000", 8),
        ("100000 100000", 1),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1600000 100000", 8),
        ("?", 8),
    ],
)
def test_cores_are_those_of_the_container(
    text: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    monkeypatch.setattr(threads, "CGROUP", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert threads.cores() == expected


def test_cores_are_those_of_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "CGROUP", tmp_path / "none")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert threads.cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert threads.cores() == 64


@pytest.mark.parametrize("own", [{}, {"OMP_NUM_THREADS": "1"}, {"OMP_WAIT_POLICY": "ACTIVE"}])
def test_a_command_settles_threads_before_torch_is_loaded(own: dict[str, str]) -> None:
    """Also in the processes that it starts, which inherit the variables."""
    program = """
import os, sys
from pcdistill import cli
settle = cli.settle
def settled():
    assert "torch" not in sys.modules
    settle()
cli.settle = settled
cli.main(["show", "none.h5"])
import torch
print(torch.get_num_threads(), os.environ["OMP_WAIT_POLICY"])
"""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), **own}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    count, policy = done.stdout.split()
    assert int(count) == (1 if "OMP_NUM_THREADS" in own else threads.cores())
    assert policy == own.get("OMP_WAIT_POLICY", "PASSIVE")
