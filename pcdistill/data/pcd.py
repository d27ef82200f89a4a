"""Point Cloud Library .pcd files, ASCII and binary: x, y, z only."""

import numpy as np
from numpy.typing import NDArray

KINDS = {"F": "f", "I": "i", "U": "u"}


def parse_pcd(content: bytes) -> NDArray[np.float64]:
    """Points `(P, 3)` of a .pcd file's content.

    Raises:
        ValueError: saying what is wrong with it.
    """
    header, body = _header(content)
    fields, points = header["FIELDS"], int(header["POINTS"][0])
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(fields))]
    kinds = [f"<{KINDS[kind]}{size}" for kind, size in zip(header["TYPE"], header["SIZE"], strict=True)]
    layout = np.dtype(
        [(f"{number}", kind, (count,)) for number, (kind, count) in enumerate(zip(kinds, counts, strict=True))]
    )
    if len(fields) != len(kinds) or not {"x", "y", "z"} <= set(fields):
        raise ValueError(f"fields {' '.join(fields)} where x, y and z are needed")
    storage = header["DATA"][0].lower()
    if storage == "ascii":
        table = np.array(body.split(), dtype=np.float64).reshape(points, sum(counts))
        starts = np.cumsum([0, *counts])
        return np.stack([table[:, starts[fields.index(axis)]] for axis in "xyz"], axis=1)
    if storage == "binary":
        rows = np.frombuffer(body, dtype=layout, count=points)
        return np.stack([rows[f"{fields.index(axis)}"][:, 0] for axis in "xyz"], axis=1).astype(np.float64)
    raise ValueError(f"data stored as {storage} where ascii or binary is needed")


def _header(content: bytes) -> tuple[dict[str, list[str]], bytes]:
    header: dict[str, list[str]] = {}
    while "DATA" not in header:
        line, newline, content = content.partition(b"\n")
        if not newline:
            raise ValueError("the header has no DATA line")
        words = line.decode("ascii").split("#")[0].split()
        if words:
            header[words[0].upper()] = words[1:]
    missing = {"FIELDS", "SIZE", "TYPE", "POINTS"} - set(header)
    if missing:
        raise ValueError(f"the header has no {', '.join(sorted(missing))} line")
    return header, content
