"""The fitted frontier: how the error of a coreset depends on clouds, points and bits, by which bytes are spent.

    python -m benchmarks.search.fit    # writes the preset `frontier.json` from trials.jsonl

Fitted to the validation trials of random coresets on ModelNet10 that are recorded here: error = E + a clouds^-p +
b points^-q + c cells^-r with cells = 2^bits and those points that codes can tell apart (`condense.shape.distinct`),
all terms positive, in logarithms. What cannot be improved by spending (E) is left out of the file.
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

import pcdistill
from pcdistill.condense.shape import distinct
from pcdistill.core.files import atomic
from pcdistill.storage.budget import Shape

TRIALS = Path(__file__).with_name("trials.jsonl")
TARGET = Path(pcdistill.__file__).parent / "condense" / "presets" / "frontier.json"
# Held near these: a dozen noisy trials cannot tell powers from weights. Error falls with the root of the number of
# samples, with the area around a point on a surface, and with the distance between cells, of which a sixteenth of the
# cube costs a point or two of accuracy.
POWERS = np.array([0.5, 1.0, 1.0])
CELLS = 0.25
NAMES = ("clouds", "points", "cells")


def predicted(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Errors by logarithms of (E, a, b, c, p, q, r) for rows of clouds, points and cells."""
    floor, weights, powers = np.exp(values[0]), np.exp(values[1:4]), np.exp(values[4:7])
    return floor + (weights * sizes**-powers).sum(1)


def main() -> None:
    """Fit and write."""
    rows = [json.loads(line) for line in TRIALS.read_text().splitlines()]
    rows = [
        row for row in rows if (row["arm"], row["dataset"], row.get("storage")) == ("random", "modelnet10", "coded")
    ]
    shapes = [Shape(row["points"], row["bits"]) for row in rows]
    clouds = [row["clouds_per_class"] for row in rows]
    sizes = np.array([(n, distinct(shape), 2.0**shape.bits) for n, shape in zip(clouds, shapes, strict=True)])
    errors = np.array([1 - row["accuracy_mean"] for row in rows])

    def residuals(values: np.ndarray) -> np.ndarray:
        away = (values[4:7] - np.log(POWERS)) / 0.5
        cells = [(values[3] - np.log(CELLS)) / 0.5]
        return np.concatenate([(np.log(predicted(values, sizes)) - np.log(errors)) / 0.1, away, cells])

    start = np.concatenate([np.log([0.03, 0.2, 1.0, CELLS]), np.log(POWERS)])
    found = least_squares(residuals, start).x
    rms = float(np.sqrt(np.mean((predicted(found, sizes) - errors) ** 2)))
    fit = {f"{name}{end}": round(float(np.exp(found[at + i])), 4)
           for i, name in enumerate(NAMES) for end, at in (("", 1), ("_power", 4))}  # fmt: skip
    with atomic(TARGET) as temporary:
        temporary.write_text(json.dumps({"fit": fit, "trials": len(rows), "rms": round(rms, 4)}, indent=1) + "\n")
    for row, guess, error in zip(rows, predicted(found, sizes), errors, strict=True):
        size = f"{row['clouds_per_class']:.0f} x {row['points']} @ {row['bits']}"
        print(f"{size:>16} {row['bytes_per_class']:8.0f} bytes: error {100 * error:.1f}, fitted {100 * guess:.1f}")
    print(f"{fit}, rms {100 * rms:.1f} points")


if __name__ == "__main__":
    main()
