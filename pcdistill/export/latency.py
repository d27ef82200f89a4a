"""Time and memory of an ONNX model at one thread; run as a script, so that nothing but the runtime is in memory.

python latency.py MODEL POINTS RUNS
"""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    """Print one JSON object: milliseconds p50 and p99 of one cloud, peak MiB, and those before the model was read."""
    import onnxruntime  # an extra, which importing this module does not need

    with open(sys.argv[1], "rb") as stream:
        content = stream.read()
    points, runs = int(sys.argv[2]), int(sys.argv[3])
    before = peak()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    cloud = np.random.default_rng(0).normal(0, 0.4, (1, points, 3)).astype(np.float32)
    times = []
    for number in range(runs + runs // 4):  # the first fifth warms up
        start = time.perf_counter()
        session.run(None, {"points": cloud})
        if number >= runs // 4:
            times.append(1000 * (time.perf_counter() - start))
    p50, p99 = np.percentile(times, [50, 99])
    facts = {"p50_ms": p50, "p99_ms": p99, "peak_mib": peak(), "runtime_mib": before}
    sys.stdout.write(json.dumps(facts) + "\n")


def peak() -> float:
    """Peak MiB of this program so far; 0 on Windows. `ru_maxrss` begins with what the process that started it had."""
    status = Path("/proc/self/status")
    peak = (
        re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"), re.MULTILINE) if status.exists() else None
    )
    if peak is not None:
        return int(peak[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
