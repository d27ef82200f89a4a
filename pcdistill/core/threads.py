"""Threads that suit a machine with other work on it, settled before torch and NumPy are loaded.

OpenMP's threads wait for one another by spinning. Where a core is taken by somebody else, all spin until the thread
that is not scheduled has its turn; threads that sleep are slower where the machine is idle, but never slow
(docs/decisions/44-threads-wait-asleep.md).
"""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/cpu.max")  # of a container, on Linux: quota and period


def settle() -> None:
    """Let threads sleep while they wait, as many as there are cores for; what the user has set stays."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def cores() -> int:
    """Cores that this process may use: those of its affinity, at most those that its container has a share of."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(allowed, _share()))


def _share() -> int:
    """Cores of the container's quota, rounded up; as many as there are without one."""
    most = os.cpu_count() or 1
    try:
        quota, period = CGROUP.read_text(encoding="utf-8").split()
        return most if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return most
