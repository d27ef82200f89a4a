"""What is told about the machine, and what is not."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import pytest

from pcdistill.core import environment
from pcdistill.core.environment import hardware, memory, versions


def test_versions_are_the_installed_ones() -> None:
    found = versions()
    assert list(found) == ["python", "pcdistill", "torch", "numpy", "h5py"]
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert all(found.values())


def test_a_package_that_is_only_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("surely-not-installed",))
    assert versions()["surely-not-installed"] == "not installed"


def test_the_processor_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Fast(R) 9000 \nprocessor\t: 1\nmodel name\t: Fast(R) 9000\n"
    )
    monkeypatch.setattr(environment, "CPUINFO", cpuinfo)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert hardware() == "Fast(R) 9000, 2 cores"


def test_elsewhere_the_platform_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "none")
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    for processor, machine, told in (
        ("arm", "arm64", "arm"),
        ("", "riscv64", "riscv64"),
        ("", "", "unknown processor"),
    ):
        monkeypatch.setattr("platform.processor", lambda processor=processor: processor)
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert hardware() == f"{told}, 1 core"


def test_no_host_name() -> None:
    assert platform.node() not in hardware()


def test_memory_is_that_of_a_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 << 28 < memory() < 1 << 50
    monkeypatch.setattr(os, "sysconf_names", {})
    assert memory() == 8 << 30
