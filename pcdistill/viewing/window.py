"""The interactive window: a grid of clouds to turn and fly through."""

import ctypes
import ctypes.util
import os
import sys
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.viewing.pictures import first_of_class
from pcdistill.viewing.scene import AZIMUTH, ELEVATION, Floats, height_colours, point_radius
from pcdistill.viewing.sheet import readable
from pcdistill.viewing.spheres import Faces, sphere, sphere_mesh

_SPACING = 1.15  # between middles of neighbours, in units of the widest cloud
_LETTER, _FONT_PIXELS = 0.3, 28  # height of the letters in steps of the grid and in pixels
_INK = np.array([0.12, 0.13, 0.16], dtype=np.float32)
_TRIANGLES = 2_000_000


def open_window(clouds: PointClouds, *, columns: int = 8, title: str = "pcdistill") -> None:
    """Show the first `columns` clouds of every class in an Open3D window until it is closed.

    Classes are rows, each behind its name; points are spheres coloured by height within their cloud, z up.

    Raises:
        InputError: when Open3D is missing or does not load, without a display, or for `columns` below 1.
    """
    if columns < 1:
        raise InputError("columns", str(columns), "at least 1")
    o3d = _open3d()
    _check_display()
    rows = first_of_class(clouds, columns)
    names = [clouds.class_names[label] for label in rows]
    visualizer = o3d.visualization.Visualizer()
    if not visualizer.create_window(window_name=title, width=1280, height=960):
        raise InputError("display", "Open3D could not open a window", "a working OpenGL driver")
    # One mesh, so that the camera is framed on the names as well.
    everything = _mesh(o3d, *grid(list(rows.values())))
    for row, name in enumerate(names):
        vertices, faces = lettering(readable(name))
        beside = np.array([-0.6, 0, -row], dtype=np.float32)
        everything += _mesh(o3d, vertices + beside, np.broadcast_to(_INK, vertices.shape), faces)
    visualizer.add_geometry(everything)
    option = visualizer.get_render_option()
    option.background_color = np.ones(3)
    option.mesh_show_back_face = True
    control = visualizer.get_view_control()
    control.change_field_of_view(step=-6)  # of five degrees each: from 60 down to 30
    control.set_front([0.0, -np.cos(ELEVATION), np.sin(ELEVATION)])
    control.set_up([0.0, 0.0, 1.0])
    control.set_zoom(0.6)
    visualizer.run()
    visualizer.destroy_window()


def grid(rows: list[list[Floats]]) -> tuple[Floats, Floats, Faces]:
    """One mesh of spheres for clouds on shelves: columns along +x, rows along -z, to be seen from -y.

    Args:
        rows: per class, its clouds `(P, 3)`, z up.

    Returns:
        Vertices `(V, 3)` in steps of the grid, their colours `(V, 3)`, faces `(F, 3)`.
    """
    # Three quarters to the front, as in the gallery, for an eye that looks along +y.
    turn = np.array([[-np.sin(AZIMUTH), np.cos(AZIMUTH), 0], [-np.cos(AZIMUTH), -np.sin(AZIMUTH), 0], [0, 0, 1]])
    rows = [[(cloud @ turn.T).astype(np.float32) for cloud in row] for row in rows]
    every = [cloud for row in rows for cloud in row]
    step = _SPACING * max(float(np.ptp(cloud, axis=0).max()) for cloud in every) or 1.0
    ball, faces = sphere(_TRIANGLES // sum(len(cloud) for cloud in every))
    vertices, colours, indices, done = [], [], [], 0
    for row, members in enumerate(rows):
        for column, cloud in enumerate(members):
            middle = (cloud.min(0) + cloud.max(0)) / 2
            placed = (cloud - middle) / step + np.array([column, 0, -row], dtype=np.float32)
            mesh, triangles = sphere_mesh(placed, point_radius(len(cloud)) / (2 * _SPACING), ball, faces)
            vertices.append(mesh)
            colours.append(np.repeat(height_colours(cloud[:, 2]), len(ball), axis=0))
            indices.append(triangles + done)
            done += len(mesh)
    return np.concatenate(vertices), np.concatenate(colours), np.concatenate(indices)


def _mesh(o3d: Any, vertices: Floats, colours: Floats, faces: Faces) -> Any:
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(vertices.astype(np.float64)), o3d.utility.Vector3iVector(faces)
    )
    mesh.vertex_colors = o3d.utility.Vector3dVector(colours.astype(np.float64))
    mesh.compute_vertex_normals()
    return mesh


def lettering(text: str) -> tuple[Floats, Faces]:
    """A flat mesh of the text, upright in the x-z plane, left of the origin: a square per dark pixel."""
    font = ImageFont.load_default(_FONT_PIXELS)
    picture = Image.new("L", (int(font.getlength(text)) + 2, 2 * _FONT_PIXELS))
    ImageDraw.Draw(picture).text((1, _FONT_PIXELS), text, fill=255, font=font, anchor="lm")
    down, across = np.nonzero(np.asarray(picture) > 127)
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=np.float32)
    squares = np.stack([across - picture.width, np.zeros_like(down), _FONT_PIXELS - down], axis=1)[:, None] + corners
    halves = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    faces = halves + 4 * np.arange(len(squares), dtype=np.int32)[:, None, None]
    return (squares.reshape(-1, 3) * _LETTER / _FONT_PIXELS).astype(np.float32), faces.reshape(-1, 3)


def _open3d() -> Any:
    try:
        import open3d
    except ModuleNotFoundError:
        raise InputError("open3d", "not installed", "pip install 'pcdistill[open3d]'") from None
    except (ImportError, OSError) as error:
        raise InputError("open3d", f"does not load ({error})", "the system libraries it needs") from None
    return open3d


def _check_display() -> None:
    """Open3D itself would draw off-screen without a display, and wait for ever to be closed."""
    if not sys.platform.startswith("linux") or os.environ.get("WAYLAND_DISPLAY"):
        return
    name = os.environ.get("DISPLAY")
    if not name:
        raise InputError("display", "neither DISPLAY nor WAYLAND_DISPLAY is set", "a desktop session")
    if not _x_server_answers():
        raise InputError("display", f"DISPLAY={name} cannot be opened", "a desktop session")


def _x_server_answers() -> bool:
    library = ctypes.util.find_library("X11")
    if library is None:
        return False
    x11 = ctypes.CDLL(library)
    x11.XOpenDisplay.restype = ctypes.c_void_p
    connection = x11.XOpenDisplay(None)
    if connection:
        x11.XCloseDisplay(ctypes.c_void_p(connection))
    return bool(connection)
