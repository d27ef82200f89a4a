"""Time and memory of an ONNX model at one thread; run as a script, so that nothing but the runtime is in memory.

python latency.py MODEL POINTS RUNS
"""

import json
import resource
import sys
import time

import numpy as np
import onnxruntime


def main() -> None:
    """Print one JSON object: milliseconds p50 and p99 of one cloud, peak MiB, and those before the model was read."""
    with open(sys.argv[1], "rb") as stream:
        content = stream.read()
    points, runs = int(sys.argv[2]), int(sys.argv[3])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    p50, p99 = np.percentile(times, [50, 99])
    facts = {"p50_ms": p50, "p99_ms": p99, "peak_mib": peak / 1024, "runtime_mib": before / 1024}
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
