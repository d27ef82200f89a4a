"""Bytes per point of the coder of point sets, beside general compressors, Draco and the information limit.

    python -m benchmarks.codec.measure        # writes records.json

Sets are selected and distilled from ModelNet10 and hold 8 clouds per class; all codecs get the same fixed-point codes
and give them back without loss, but for the order of points, which all may change. Needs the extra `codecs`.
"""

import json
import lzma
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import DracoPy
import numpy as np
import torch
import zstandard

from pcdistill.condense import distill, select
from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic
from pcdistill.data import load
from pcdistill.storage import Storage
from pcdistill.storage.coding import canonical_order, decode_sets, encode_sets
from pcdistill.storage.quantise import encode, pack

RECORDS = Path(__file__).with_name("records.json")
CLOUDS = 8
STEPS = 200  # of distilling: enough for points to leave the surfaces that they were chosen on
SHAPES = ((128, 8), (128, 6), (128, 5), (64, 6), (256, 6))
Codes = np.ndarray[Any, np.dtype[np.int64]]


def limit(codes: Codes, bits: int) -> float:
    """Bytes of uniform sets without an order: all possible ones equally likely."""
    points = codes.shape[1]
    return len(codes) * (3 * bits * points - math.lgamma(points + 1) / math.log(2)) / 8


def raw(codes: Codes, bits: int) -> bytes:
    """Packed codes, cloud after cloud."""
    return pack(codes.reshape(len(codes), -1), bits).tobytes()


def differences(codes: Codes, bits: int) -> bytes:
    """Codes sorted along the coder's curve, each less the one before, a byte or two each, one axis after the other."""
    ordered = np.take_along_axis(codes, canonical_order(codes, bits)[..., None], axis=1)
    steps = np.diff(ordered, axis=1, prepend=0)
    return steps.astype(np.int8 if bits < 8 else np.int16).transpose(2, 0, 1).tobytes()


def draco(codes: Codes, bits: int) -> int:
    """Bytes of one Draco file per cloud, as it knows no sets of clouds; checked to be without loss."""
    total = 0
    for cloud in codes:
        content = DracoPy.encode(
            cloud.astype(np.float32), quantization_bits=bits, compression_level=10,
            quantization_range=float(2**bits - 1), quantization_origin=np.zeros(3), create_metadata=False,
        )  # fmt: skip
        found = np.rint(DracoPy.decode(content).points).astype(np.int64)
        assert set(map(tuple, found.tolist())) == set(map(tuple, cloud.tolist()))  # it drops points that coincide
        total += len(content)
    return total


CODECS: dict[str, Callable[[Codes, int], float]] = {
    "raw": lambda codes, bits: len(raw(codes, bits)),
    "zstd": lambda codes, bits: len(zstandard.compress(raw(codes, bits), 22)),
    "Blosc2": lambda codes, bits: len(blosc2.compress2(raw(codes, bits), codec=blosc2.Codec.ZSTD, clevel=9)),
    "LZMA": lambda codes, bits: len(lzma.compress(raw(codes, bits), preset=9 | lzma.PRESET_EXTREME)),
    "sorted, zstd": lambda codes, bits: len(zstandard.compress(differences(codes, bits), 22)),
    "sorted, LZMA": lambda codes, bits: len(lzma.compress(differences(codes, bits), preset=9 | lzma.PRESET_EXTREME)),
    "Draco": draco,
    "limit": limit,
}


def measured(storage: Storage, bits: int) -> dict[str, float]:
    """Bytes per point by codec; ours with the seconds of coding and reading."""
    with torch.no_grad():
        codes = encode(storage.decode().points, bits).numpy()
    labels, points = storage.labels.numpy(), codes.shape[0] * codes.shape[1]
    found = {name: codec(codes, bits) / points for name, codec in CODECS.items()}
    start = time.perf_counter()
    stream = encode_sets(codes, labels, bits)
    coding = time.perf_counter() - start
    again = decode_sets(stream, labels, codes.shape[1], bits)
    ordered = np.take_along_axis(codes, canonical_order(codes, bits)[..., None], axis=1)
    assert (again == ordered).all()
    return {**found, "ours": len(stream) / points, "encode_seconds": coding,
            "decode_seconds": time.perf_counter() - start - coding}  # fmt: skip


def main() -> None:
    """Measure every shape, selected and distilled."""
    real, rows = load("modelnet10", "train", points=1024), []
    for points, bits in SHAPES:
        given: dict[str, Any] = {"clouds_per_class": CLOUDS, "points": points, "bits": bits}
        for arm in ("random", "krr"):
            made = (
                select(real, method=arm, **given)
                if arm == "random"
                else distill(real, objective=arm, steps=STEPS, **given)
            )
            rows.append({"arm": arm, "points": points, "bits": bits, "clouds_per_class": CLOUDS,
                         "bytes_per_point": measured(made.storage, bits)})  # fmt: skip
            print(arm, points, bits, {name: round(size, 3) for name, size in rows[-1]["bytes_per_point"].items()})
    facts = {
        "benchmark": "codec", "dataset": "modelnet10", "command": "python -m benchmarks.codec.measure",
        "commit": revision(), "distill_steps": STEPS, "hardware": hardware(), "rows": rows,
        "versions": versions() | {"zstandard": zstandard.__version__, "blosc2": blosc2.__version__},
    }  # fmt: skip
    with atomic(RECORDS) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
