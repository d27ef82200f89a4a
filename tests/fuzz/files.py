"""Small good files of meshes and clouds, in every format that is read, for the fuzzing to damage."""

import importlib
import json
import struct
from pathlib import Path

import numpy as np

POINTS = np.random.default_rng(0).normal(size=(12, 3)).round(3)
FACES = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [9, 10, 11]])
FIELDS = "property float x\nproperty float y\nproperty float z\n"
PLY = f"element vertex {len(POINTS)}\n{FIELDS}element face {len(FACES)}\nproperty list uchar int vertex_indices\n"
PCD = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 12\nHEIGHT 1\nPOINTS 12\nDATA "


def rows(values: np.ndarray, between: str = " ", before: str = "") -> str:
    """Numbers, a row a line."""
    return "".join(before + between.join(map(str, row)) + "\n" for row in values.tolist())


def good() -> dict[str, bytes]:
    """Contents by names."""
    raw, triangles = POINTS.astype("<f4").tobytes(), POINTS[FACES].astype("<f4")
    columns = POINTS.T.astype("<f4").tobytes()
    packed = b"".join(bytes([len(part) - 1]) + part for part in (columns[at : at + 32] for at in range(0, 144, 32)))
    corners = b"".join(struct.pack("<B3i", 3, *face) for face in FACES.tolist())
    texts = {
        "a.off": f"OFF\n{len(POINTS)} {len(FACES)} 0\n" + rows(POINTS) + rows(FACES, before="3 "),
        "b.off": f"COFF\n# a cloud\n{len(POINTS)} 0 0\n" + rows(np.c_[POINTS, np.ones((12, 4), int)]),
        "a.obj": rows(POINTS, before="v ") + rows(FACES + 1, before="f ") + "f -1/1 -2/2 -3/3 -4/4\n",
        "b.obj": rows(POINTS, before="v "),
        "a.ply": "ply\nformat ascii 1.0\n" + PLY + "end_header\n" + rows(POINTS) + rows(FACES, before="3 "),
        "a.pcd": PCD + "ascii\n" + rows(POINTS),
        "a.xyz": "//X Y Z\n" + rows(POINTS),
        "a.csv": "x;y;z\n" + rows(POINTS, ";").replace(".", ","),
        "a.txt": rows(np.c_[POINTS, POINTS], ", "),
        "a.pts": "12\n" + rows(POINTS),
        "a.stl": "solid a\n" + "".join(
            f"facet normal 0 0 1\nouter loop\n{rows(one, before='vertex ')}endloop\nendfacet\n" for one in triangles
        ) + "endsolid a\n",
    }  # fmt: skip
    binary = {
        "b.ply": b"ply\nformat binary_little_endian 1.0\n" + PLY.encode() + b"end_header\n" + raw + corners,
        "b.pcd": PCD.encode() + b"binary\n" + raw,
        "c.pcd": PCD.encode() + b"binary_compressed\n" + struct.pack("<II", len(packed), 144) + packed,
        "b.stl": bytes(80) + struct.pack("<I", len(FACES))
        + b"".join(bytes(12) + one.tobytes() + bytes(2) for one in triangles),
        "a.glb": _glb(raw, FACES.astype("<u2").tobytes()),
    }  # fmt: skip
    return {name: text.encode() for name, text in texts.items()} | binary


def _glb(points: bytes, faces: bytes) -> bytes:
    faces += b"\0" * (-len(faces) % 4)
    scene = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}], "scene": 0, "nodes": [{"mesh": 0, "scale": [1, 2, 1]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 12, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": FACES.size, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": len(points)},
            {"buffer": 0, "byteOffset": len(points), "byteLength": len(faces)},
        ],
        "buffers": [{"byteLength": len(points) + len(faces)}],
    }  # fmt: skip
    text = json.dumps(scene).encode()
    text += b" " * (-len(text) % 4)
    parts = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(points + faces), 0x004E4942)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(parts) + len(points + faces)) + parts + points + faces


def write_good(folder: Path) -> tuple[Path, ...]:
    """All of them in a folder, arrays as well, and LAS where laspy is installed."""
    for name, content in good().items():
        (folder / name).write_bytes(content)
    fields = np.zeros(12, [(name, "f4") for name in "xyz"])
    for axis, name in enumerate("xyz"):
        fields[name] = POINTS[:, axis]
    np.save(folder / "a.npy", POINTS)
    np.save(folder / "b.npy", fields)
    np.savez_compressed(folder / "a.npz", points=POINTS, other=FACES)
    try:
        laspy = importlib.import_module("laspy")
    except ImportError:
        pass
    else:
        cloud = laspy.create(point_format=3, file_version="1.2")
        cloud.header.scales = np.full(3, 0.001)
        cloud.x, cloud.y, cloud.z = POINTS.T
        cloud.write(folder / "a.las")
        cloud.write(folder / "a.laz")
    return tuple(sorted(folder.iterdir()))
