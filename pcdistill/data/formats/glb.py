"""GLB, the binary glTF: the triangles of its scene, or the points of one without; read by trimesh, checked here.

Format: glTF 2.0 specification, Khronos Group. Only what the file itself holds is read. y is up in all of them.
"""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Mesh, Points, wide

POINTS, TRIANGLES, STRIP, FAN = 0, 4, 5, 6  # modes of primitives
SIZES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}  # bytes of component types
MOST = 100_000  # nodes of a scene


def read_glb(path: Path) -> Mesh | Points:
    """Surface of the scene, in its frame; without one, its points as a cloud.

    Raises:
        InputError: if the file is cut, needs other files or an extension, or holds what trimesh leaves out.
    """
    content = path.read_bytes()
    scene = _scene(content, path)
    declared = _declared(scene, len(content), path)
    try:
        loaded = trimesh.load_scene(io.BytesIO(content), file_type="glb", process=False, skip_materials=True)
        mesh = loaded.to_mesh() if declared else trimesh.Trimesh()
        clouds = [wide(part.vertices) for part in loaded.dump() if isinstance(part, trimesh.PointCloud)]
    except Exception as problem:  # trimesh raises anything on a damaged file
        raise InputError(path, "a damaged GLB", "a whole file") from problem
    if declared:
        if len(mesh.faces) != declared:
            raise InputError(path, f"{len(mesh.faces)} triangles could be read", f"the {declared} that it declares")
        return Mesh(wide(mesh.vertices), np.asarray(mesh.faces, dtype=np.int64))
    if not clouds:
        raise InputError(path, "a scene without triangles and points", "some")
    return np.concatenate(clouds)


def _scene(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON in front of the numbers."""
    if content[:4] != b"glTF":
        raise InputError(path, "no GLB (it does not begin with glTF)", "binary glTF 2")
    if len(content) < 20:
        raise InputError(path, f"{len(content)} bytes", "at least 20 of binary glTF 2")
    version, size, length, kind = struct.unpack_from("<IIII", content, 4)
    if version != 2 or kind != 0x4E4F534A:
        raise InputError(path, f"glTF of version {version}", "binary glTF 2")
    if size > len(content) or length > len(content) - 20:
        raise InputError(path, f"{len(content)} bytes", f"the {size} that it declares")
    try:
        scene = json.loads(content[20 : 20 + length])
    except (ValueError, RecursionError):
        raise InputError(path, "a damaged description of its scene", "JSON") from None
    if not isinstance(scene, dict):
        raise InputError(path, "a damaged description of its scene", "an object of JSON")
    return scene


def _declared(scene: dict[str, Any], size: int, path: Path) -> int:
    """Triangles that the scene declares, of a file of `size` bytes that can hold what it says."""
    try:
        packed = [name for name in scene.get("extensionsRequired", []) if "compression" in name]
        if packed:
            raise InputError(path, f"packed by {packed[0]}", "a GLB that is not")
        if any(not buffer.get("uri", "data:").startswith("data:") for buffer in scene.get("buffers", [])):
            raise InputError(path, "numbers in other files", "a GLB that holds them itself")
        accessors = scene.get("accessors", [])
        for accessor in accessors:
            if not 0 <= accessor["count"] * SIZES[accessor["componentType"]] <= size or "sparse" in accessor:
                raise InputError(path, f"{accessor['count']} numbers in {size} bytes", "a whole file, not sparse")
        meshes = [_triangles(mesh, accessors, path) for mesh in scene.get("meshes", [])]
        return sum(meshes[node] for node in _placed(scene, path))
    except InputError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise InputError(path, "a damaged description of its scene", "glTF 2") from None


def _triangles(mesh: dict[str, Any], accessors: list[dict[str, Any]], path: Path) -> int:
    found = 0
    for part in mesh["primitives"]:
        mode = part.get("mode", TRIANGLES)
        corners = accessors[part["indices"] if "indices" in part else part["attributes"]["POSITION"]]["count"]
        if mode == FAN:
            raise InputError(path, "triangle fans", "triangles or strips")
        found += {TRIANGLES: corners // 3, STRIP: max(corners - 2, 0)}.get(mode, 0)
    return found


def _placed(scene: dict[str, Any], path: Path) -> list[int]:
    """The meshes of the scene's nodes, each as often as it stands there."""
    nodes = scene.get("nodes", [])
    scenes = scene.get("scenes", [])
    waiting = list(scenes[scene.get("scene", 0)]["nodes"]) if scenes else []
    found, seen = list[int](), 0
    while waiting:
        node = nodes[waiting.pop()]
        seen += 1
        if seen > min(MOST, len(nodes)):
            raise InputError(path, "a node that stands in several places", "a tree of nodes")
        waiting += node.get("children", [])
        if "mesh" in node:
            found.append(node["mesh"])
    return found
