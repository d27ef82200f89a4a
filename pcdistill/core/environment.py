"""What a result was made with: versions and processor, without anything that names the machine."""

import os
import platform
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("pcdistill", "torch", "numpy", "h5py")
CPUINFO = Path("/proc/cpuinfo")


class Extra(NamedTuple):
    """A part that works where other packages are installed.

    Attributes:
        module: that is imported for it.
        package: that brings the module.
        use: what it is for.
    """

    module: str
    package: str
    use: str


EXTRAS = {
    "open3d": Extra("open3d", "open3d", "the window, clouds as Open3D's, pictures drawn by it"),
    "video": Extra("av", "av", "animations as MP4"),
    "las": Extra("laspy", "laspy", "LAS and LAZ files"),
    "pyg": Extra("torch_geometric", "torch-geometric", "torch-geometric's data sets and networks"),
    "plots": Extra("matplotlib", "matplotlib", "plots and reports"),
    "log": Extra("tensorboard", "tensorboard", "losses, pictures and results as TensorBoard events"),
    "wandb": Extra("wandb", "wandb", "runs told to Weights & Biases"),
    "mlflow": Extra("mlflow", "mlflow", "runs told to MLflow"),
    "ray": Extra("ray", "ray", "jobs on a cluster"),
    "hub": Extra("huggingface_hub", "huggingface_hub", "sets of the Hugging Face Hub: hf:user/name"),
    "export": Extra("onnxruntime", "onnxruntime", "networks as ONNX"),
    "executorch": Extra("executorch", "executorch", "networks for ExecuTorch"),
}
"""Names of the extras that users install, as in `pip install 'pcdistill[plots]'`."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide over numbers and files."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES}


def hardware(device: str = "cpu") -> str:
    """The processor's model and the cores this process may use, as in `Intel(R) Xeon(R) CPU, 2 cores`.

    Of what is computed on an accelerator, that one's model first, as in `NVIDIA H200 on Intel(R) Xeon(R) CPU, 2 cores`.
    """
    on = "" if device.startswith("cpu") else f"{_accelerator(device)} on "
    # macOS and Windows have no such call: there a process may use every core.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return f"{on}{_processor()}, {cores} core{'s' if cores > 1 else ''}"


def memory() -> int:
    """Bytes of this machine's memory; 8 GiB where the system does not say."""
    known = getattr(os, "sysconf_names", {})
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= known.keys():
        return 8 << 30
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def peak_memory() -> int:
    """Most bytes that this process has held so far; 0 on Windows, which has no such call."""
    try:
        resource = import_module("resource")
    except ImportError:
        return 0
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else 1024 * peak


def revision(folder: Path = Path(__file__).parents[2]) -> str:
    """The git revision of a source tree, marked when its files differ; "unknown" where `folder` is none."""
    if not (folder / ".git").exists():
        return "unknown"  # installed: a tree that happens to be around it is another project's
    words = ["git", "describe", "--always", "--dirty"]
    try:
        shown = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"  # no git
    return shown.stdout.strip() or "unknown"


def version_of(package: str) -> str:
    """The version of an installed package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # run from a source tree


def _accelerator(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _processor() -> str:
    """Linux tells the model in a file (not on every ARM); elsewhere the platform's word must do."""
    text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""
    model = re.search(r"^model name\s*:\s*(\S.*?)\s*$", text, flags=re.MULTILINE)
    return model[1] if model else platform.processor() or platform.machine() or "unknown processor"
