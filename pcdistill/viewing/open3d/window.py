"""The interactive window: clouds to turn and fly through, and keys that say which, when and in what colours."""

import ctypes.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, safe_name
from pcdistill.viewing.exhibit import Exhibit, Shades, shades
from pcdistill.viewing.open3d.spheres import Faces, sphere, sphere_mesh
from pcdistill.viewing.pictures import GREY, array
from pcdistill.viewing.scene import AZIMUTH, ELEVATION, PART_COLOURS, Floats, colour_map, point_radius
from pcdistill.viewing.sheet import readable

HELP = """keys of the window:
  up, down      class before, class after         , .     snapshot before, snapshot after
  left, right   cloud before, cloud after         space   play the snapshots, or stop
  g             all clouds, or the chosen one     i       first guess, or what became of it
  n             nearest real cloud beside it      c       colour by something else
  + -           size of the points                r       camera as at the start
  s             save a picture                    h       this help
  drag: turn; with ctrl: move; wheel: zoom        q, esc  close"""
SIZES = 5  # steps that points can grow or shrink by, a fifth each
_SPACING = 1.15  # between middles of neighbours, in units of the widest cloud
_PAIR = 0.95  # between a cloud and its nearest real one, in steps of the grid
_FONT_PIXELS = 48
_INK, _FAINT, _ACCENT = np.array([[28, 30, 36], [122, 126, 136], [208, 84, 20]], dtype=np.float32) / np.float32(255)
# Of many clouds each leans to the eye, which is in front of them; a single one stands, and the eye is above.
_TILT = np.array(
    [[1, 0, 0], [0, np.cos(ELEVATION), np.sin(ELEVATION)], [0, -np.sin(ELEVATION), np.cos(ELEVATION)]], dtype=np.float32
)
_DIMMED = 0.85  # under Open3D's light, which is bright, colours look like those of the legend then
_TRIANGLES = 600_000
_SECONDS = 0.15  # that a snapshot is shown while they are played


@dataclass(frozen=True)
class Stock:
    """What there is to choose from: how many clouds each class shows, snapshots, real clouds, colourings."""

    counts: tuple[int, ...]
    frames: int
    real: bool
    colourings: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """What the window shows; `row` and `column` are the chosen class and cloud."""

    row: int = 0
    column: int = 0
    frame: int = 0
    colouring: str = "height"
    single: bool = False
    real: bool = False
    playing: bool = False
    size: int = 0


def pressed(state: State, key: str, stock: Stock) -> State:
    """The state after a key; the same one where the key has nothing to change."""
    last = stock.frames - 1
    if key in ("up", "down"):
        row = (state.row + (1 if key == "down" else -1)) % len(stock.counts)
        return replace(state, row=row, column=min(state.column, stock.counts[row] - 1))
    if key in ("left", "right"):
        return replace(state, column=(state.column + (1 if key == "right" else -1)) % stock.counts[state.row])
    if key in (",", "."):
        frame = min(max(state.frame + (1 if key == "." else -1), 0), last)
        return replace(state, frame=frame, playing=False)
    if key == "space":
        begin = not state.playing and last > 0
        return replace(state, playing=begin, frame=0 if begin and state.frame == last else state.frame)
    if key == "i":
        return replace(state, frame=0 if state.frame == last else last, playing=False)
    if key == "g":
        return replace(state, single=not state.single)
    if key == "n":
        return replace(state, real=stock.real and not state.real)
    if key == "c":
        after = (stock.colourings.index(state.colouring) + 1) % len(stock.colourings)
        return replace(state, colouring=stock.colourings[after])
    if key in ("+", "-"):
        return replace(state, size=min(max(state.size + (1 if key == "+" else -1), -SIZES), SIZES))
    return state


def ticked(state: State, stock: Stock) -> State:
    """The state after the time of one snapshot: the next one while they are played, up to the last."""
    if not state.playing:
        return state
    frame = min(state.frame + 1, stock.frames - 1)
    return replace(state, frame=frame, playing=frame < stock.frames - 1)


def refusal(key: str, stock: Stock) -> str:
    """Why a key can never change anything, or nothing."""
    if key in (",", ".", "space", "i") and stock.frames < 2:
        return "no snapshots: an artefact distilled with --snapshots has them"
    if key == "n" and not stock.real:
        return "no real clouds: --real DATASET shows them"
    if key == "c" and len(stock.colourings) < 2:
        return "nothing else to colour by: --real DATASET and --model NETWORK give more, and so do snapshots"
    return ""


class Mesh(NamedTuple):
    """Vertices `(V, 3)` in steps of the grid, x to the right, z up, seen from -y; normals and sRGB `(V, 3)`; faces."""

    vertices: Floats
    normals: Floats
    colours: Floats
    faces: Faces

    def at(self, x: float, z: float, y: float = 0.0) -> "Mesh":
        return self._replace(vertices=self.vertices + np.array([x, y, z], dtype=np.float32))


class Hall:
    """An exhibit on shelves: every class is a row of clouds, the next one below it.

    Attributes:
        stock: what there is to choose from.
        frames: `(S, N, P, 3)` in steps of the grid; each cloud has the middle of its whole way in the origin.
        twins: `(N, P, 3)`, the nearest real clouds, in the same unit, or None.
    """

    def __init__(self, exhibit: Exhibit) -> None:
        # Three quarters to the front, as in the gallery, for an eye that looks along +y.
        turn = np.array([[-np.sin(AZIMUTH), np.cos(AZIMUTH), 0], [-np.cos(AZIMUTH), -np.sin(AZIMUTH), 0], [0, 0, 1]])
        turn = turn.T.astype(np.float32)
        frames, room = _centred(np.stack([array(frame) for frame in exhibit.frames]) @ turn)
        twins, wide = (None, 0.0) if exhibit.real is None else _centred(array(exhibit.real.nearest.points)[None] @ turn)
        step = np.float32(_SPACING * max(room, wide) or 1)
        self.exhibit, self.frames, self.twins = exhibit, frames / step, None if twins is None else twins[0] / step
        labels = array(exhibit.clouds.hard_labels)
        self.labels = sorted(set(labels.tolist()))
        self.rows = [np.flatnonzero(labels == label).tolist() for label in self.labels]
        counts = tuple(len(row) for row in self.rows)
        self.stock = Stock(counts, len(exhibit.frames), exhibit.real is not None, tuple(exhibit.colourings))
        self._shades: dict[str, Shades] = {}

    def shades(self, colouring: str) -> Shades:
        """Made when they are first asked for."""
        if colouring not in self._shades:
            self._shades[colouring] = shades(self.exhibit, colouring)
        return self._shades[colouring]

    def name(self, row: int) -> str:
        return readable(self.exhibit.clouds.class_names[self.labels[row]])

    def described(self, state: State) -> str:
        """In words, what a state shows."""
        steps, count = self.exhibit.steps, self.stock.counts[state.row]
        words = [f"{self.name(state.row)} {state.column + 1} of {count}"]
        if len(steps) > 1:
            words.append(f"step {steps[state.frame]} of {steps[-1]}")
        if state.real:
            words.append("grey: nearest real")
        return ", ".join(words)

    def meshes(self, state: State) -> tuple[Mesh, Mesh]:
        """All that a state shows: points, to be lit, and flat signs, whose colours are to be seen as they are."""
        rows = [[self.rows[state.row][state.column]]] if state.single else self.rows
        wide = 2 if state.real else 1
        view = max(len(rows) + 1, 0.75 * (wide * max(map(len, rows)) + 1))  # about what the height of the window shows
        letter = min(0.027 * view, 0.3)
        places = [
            (cloud, column * wide, -row) for row, clouds in enumerate(rows) for column, cloud in enumerate(clouds)
        ]
        signs = [
            lettering(self.described(state), letter, _INK).at(-0.5, 0.5 + 2.6 * letter),
            # A little behind the text: the camera is framed on what has a volume only.
            self._legend(state, 0.8 * letter).at(-0.5, 0.5 + 1.2 * letter, 0.01),
        ]
        if not state.single:
            for row in range(len(rows)):
                colour = _ACCENT if row == state.row else _INK
                signs.append(lettering(self.name(row), letter, colour, "r").at(-0.6, -row))
            signs.append(
                _frame(wide - 0.02, 0.98, 0.002 * view).at(state.column * wide + (wide - 1) / 2, -state.row, 0.5)
            )
        return self._clouds(state, places), joined(signs)

    def _clouds(self, state: State, places: list[tuple[int, int, int]]) -> Mesh:
        points = self.frames.shape[2]
        ball, faces = sphere(_TRIANGLES // (points * len(places) * (2 if state.real else 1)))
        radius = point_radius(points) / (2 * _SPACING) * 1.2**state.size
        told = self.shades(state.colouring)
        paint = _DIMMED * told.painted(array(told.shares[state.frame]))
        grey = np.broadcast_to(_DIMMED * np.array(GREY, dtype=np.float32), (points, 3))
        tilt = np.eye(3, dtype=np.float32) if state.single else _TILT
        parts = []
        for cloud, x, z in places:
            parts.append(_spheres(self.frames[state.frame, cloud] @ tilt, paint[cloud], radius, ball, faces).at(x, z))
            if state.real and self.twins is not None:
                parts.append(_spheres(self.twins[cloud] @ tilt, grey, radius, ball, faces).at(x + _PAIR, z))
        return joined(parts)

    def _legend(self, state: State, letter: float) -> Mesh:
        """Quantity, lowest value, a bar of the colours, highest value, from the origin to the right; or the parts of
        the chosen class, each behind its colour."""
        told, names = self.shades(state.colouring), self.exhibit.clouds.part_names
        bar = colour_map(np.linspace(0, 1, 32, dtype=np.float32))
        signs: list[tuple[str | Floats, float]] = [(told.label, 0.8), (told.low, 0.4), (bar, 0.4), (told.high, 0.0)]
        if told.names and names is not None:
            own = {names.names[part] for part in names.of_class[self.labels[state.row]]}
            shown = [(readable(name), PART_COLOURS[[hue]]) for name, hue in told.names if name in own]
            signs = [sign for name, colour in shown for sign in ((colour, 0.4), (name, 0.8))]
        parts, x = [], 0.0
        for sign, gap in signs:
            part = lettering(sign, letter, _FAINT) if isinstance(sign, str) else _bar(letter, sign)
            parts.append(part.at(x, 0))
            x = float(parts[-1].vertices[:, 0].max()) + gap * letter
        return joined(parts)


def _centred(frames: Floats) -> tuple[Floats, float]:
    """Clouds on their ways, `(S, N, P, 3)`, each with its middle in the origin, and the extent of the widest."""
    low, high = frames.min((0, 2), keepdims=True), frames.max((0, 2), keepdims=True)
    return np.asarray(frames - (low + high) / 2, dtype=np.float32), float((high - low).max())


def joined(parts: list[Mesh]) -> Mesh:
    """One mesh of several."""
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = [part.faces + np.int32(start) for part, start in zip(parts, starts, strict=True)]
    vertices, normals, colours = (np.concatenate(column) for column in list(zip(*parts, strict=True))[:3])
    return Mesh(vertices, normals, colours, np.concatenate(faces))


def _spheres(centres: Floats, colours: Floats, radius: float, ball: Floats, faces: Faces) -> Mesh:
    vertices, triangles = sphere_mesh(centres, radius, ball, faces)
    return Mesh(vertices, np.tile(ball, (len(centres), 1)), np.repeat(colours, len(ball), axis=0), triangles)


def _flat(boxes: Floats, colours: Floats) -> Mesh:
    """Rectangles `(N, 4)` (left, right, bottom, top) that face the eye, in colours `(N, 3)` or one."""
    left, right, bottom, top = boxes.T.astype(np.float32)
    corners = np.stack([left, bottom, right, bottom, right, top, left, top], axis=1).reshape(-1, 2)
    vertices = np.stack([corners[:, 0], np.zeros_like(corners[:, 0]), corners[:, 1]], axis=1)
    halves = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    faces = (halves + 4 * np.arange(len(boxes), dtype=np.int32)[:, None, None]).reshape(-1, 3)
    paint = np.repeat(np.broadcast_to(colours, (len(boxes), 3)), 4, axis=0)
    normals = np.broadcast_to(np.array([0, -1, 0], dtype=np.float32), vertices.shape)
    return Mesh(vertices, normals, paint.astype(np.float32), faces)


def _frame(width: float, height: float, line: float) -> Mesh:
    """The edge of a rectangle around the origin."""
    x, z = width / 2, height / 2
    sides = [(-x, x, z - line, z), (-x, x, -z, line - z), (-x, line - x, -z, z), (x - line, x, -z, z)]
    return _flat(np.array(sides, dtype=np.float32), _ACCENT)


def _bar(letter: float, colours: Floats) -> Mesh:
    """Of a scale six letters long, of a single colour one."""
    ends = np.linspace(0, 6 * letter if len(colours) > 1 else letter, len(colours) + 1, dtype=np.float32)
    sides = np.full(len(colours), letter / 4, dtype=np.float32)
    return _flat(np.stack([ends[:-1], ends[1:], -sides, sides], axis=1), colours)


def lettering(text: str, height: float, colour: Floats, anchor: str = "l") -> Mesh:
    """A flat text that begins ("l") or ends ("r") in the origin, of a letter height: a box for every run of pixels."""
    font = ImageFont.load_default(_FONT_PIXELS)
    picture = Image.new("L", (int(font.getlength(text)) + 2, 2 * _FONT_PIXELS))
    ImageDraw.Draw(picture).text((1, _FONT_PIXELS), text, fill=255, font=font, anchor="lm")
    ink = np.pad(np.asarray(picture) > 127, ((0, 0), (1, 1))).astype(np.int8)
    edges = np.diff(ink, axis=1)
    (row, left), (_, right) = np.nonzero(edges > 0), np.nonzero(edges < 0)
    start = picture.width if anchor == "r" else 0
    boxes = np.stack([left - start, right - start, _FONT_PIXELS - row - 1, _FONT_PIXELS - row], axis=1)
    return _flat(boxes.astype(np.float32) * np.float32(height / _FONT_PIXELS), colour)


# Names of keys and their numbers in GLFW; plus and minus also on the number pad.
_KEYS = {
    "right": [262], "left": [263], "down": [264], "up": [265], "space": [32], ",": [44], ".": [46],
    "-": [45, 333], "+": [61, 334], **{letter: [ord(letter.upper())] for letter in "gincrsh"},
}  # fmt: skip


class Viewer:
    """The window itself; `state` is what it shows.

    Raises:
        InputError: Open3D is missing or does not load, or it could not open a window.
    """

    def __init__(self, exhibit: Exhibit, state: State, say: Callable[[str], None], visible: bool = True) -> None:
        self.o3d = _open3d()
        self.hall, self.state, self.say = Hall(exhibit), state, say
        self.visualizer = self.o3d.visualization.VisualizerWithKeyCallback()
        if not self.visualizer.create_window(window_name=exhibit.title, width=1280, height=960, visible=visible):
            raise InputError("display", "Open3D could not open a window", "a working OpenGL driver")
        option = self.visualizer.get_render_option()
        option.background_color = np.ones(3)
        option.mesh_show_back_face = True
        for key, numbers in _KEYS.items():
            for number in numbers:
                self.visualizer.register_key_callback(number, lambda _, key=key: self.press(key))
        self.shown: list[Any] = []
        self._show()
        self.look()
        self._next = 0.0  # when the next snapshot is due

    def run(self) -> None:
        """Until it is closed."""
        self.visualizer.run()
        self.visualizer.destroy_window()

    def press(self, key: str) -> bool:
        """What a key does."""
        if key == "h":
            self.say(HELP)
        elif key == "r":
            self.look()
        elif key == "s":
            self.say(f"wrote {self.save()}")
        elif why := refusal(key, self.hall.stock):
            self.say(why)
        else:
            self._become(pressed(self.state, key, self.hall.stock))
        return False

    def look(self) -> None:
        """The camera as it is at the start: from the front, a little above, all in sight."""
        self.visualizer.reset_view_point(True)
        control = self.visualizer.get_view_control()
        while control.get_field_of_view() > 30:
            control.change_field_of_view(step=-1)  # of five degrees
        above = ELEVATION if self.state.single else 0.0
        control.set_front([0.0, -np.cos(above), np.sin(above)])
        control.set_up([0.0, np.sin(above), np.cos(above)])
        # At zoom 1 twice the longest side fits the height of the window, which is three quarters of its width.
        control.set_zoom(float(0.55 * max(self.extent[2], 0.75 * self.extent[0]) / self.extent.max()))

    def save(self) -> Path:
        """Write what is to be seen as PNG into the working directory, beside those that are there."""
        name, steps = safe_name(self.hall.name(self.state.row)).replace(" ", "_")[:60], self.hall.exhibit.steps
        stem = f"{name}-{self.state.column + 1}" if self.state.single else "all"
        stem = f"pcdistill-{stem}-step{steps[self.state.frame]}-{self.state.colouring}"
        path, number = Path(f"{stem}.png"), 2
        while path.exists():
            path, number = Path(f"{stem}-{number}.png"), number + 1
        with atomic(path) as temporary:
            Image.fromarray(self.picture()).save(temporary, format="PNG")
        return path

    def picture(self) -> Any:
        """`(height, width, 3)` uint8."""
        return (np.asarray(self.visualizer.capture_screen_float_buffer(True)) * 255 + 0.5).astype(np.uint8)

    def _become(self, state: State) -> None:
        before, self.state = self.state, state
        if state.playing != before.playing:
            self.visualizer.register_animation_callback(self._tick if state.playing else None)
        if replace(state, playing=before.playing) != before:
            self._show()
        if (state.single, state.real) != (before.single, before.real):
            self.look()

    def _tick(self, _: Any) -> bool:
        if time.monotonic() < self._next:
            time.sleep(0.01)
        else:
            self._next = time.monotonic() + _SECONDS
            self._become(ticked(self.state, self.hall.stock))
        return False

    def _show(self) -> None:
        meshes = self.hall.meshes(self.state)
        ends = np.concatenate([mesh.vertices for mesh in meshes])
        self.extent = ends.max(0) - ends.min(0)
        made = [self._made(mesh, lit) for mesh, lit in zip(meshes, (True, False), strict=True)]
        for old in self.shown:
            self.visualizer.remove_geometry(old, reset_bounding_box=False)
        for new in made:
            self.visualizer.add_geometry(new, reset_bounding_box=not self.shown)
        self.shown = made

    def _made(self, mesh: Mesh, lit: bool) -> Any:
        made = self.o3d.geometry.TriangleMesh(
            self.o3d.utility.Vector3dVector(mesh.vertices.astype(np.float64)),
            self.o3d.utility.Vector3iVector(mesh.faces),
        )
        made.vertex_colors = self.o3d.utility.Vector3dVector(mesh.colours.astype(np.float64))
        if lit:  # Open3D lights what has normals of both kinds
            made.vertex_normals = self.o3d.utility.Vector3dVector(mesh.normals.astype(np.float64))
            made.compute_triangle_normals()
        return made


def open_window(
    exhibit: Exhibit, say: Callable[[str], None], *, colouring: str = "height", initial: bool = False
) -> None:
    """Show an exhibit in an Open3D window until it is closed; `say` gets the help and what is written.

    Classes are rows, each behind its name, or one cloud is shown at a time; points are spheres. The nearest real
    clouds, if there are any, stand at the right of each. It begins with the last frame, or the first one if `initial`.

    Raises:
        InputError: when Open3D is missing or does not load, or without a display.
    """
    _open3d()
    _check_display()
    frame = 0 if initial else len(exhibit.frames) - 1
    state = State(frame=frame, colouring=colouring, single=len(exhibit.clouds) == 1, real=exhibit.real is not None)
    viewer = Viewer(exhibit, state, say)
    say(HELP)
    viewer.run()


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
    if not name or not _x_server_answers():
        found = f"DISPLAY={name} cannot be opened" if name else "neither DISPLAY nor WAYLAND_DISPLAY is set"
        raise InputError("display", found, "a desktop session (--html and --png need none)")


def _x_server_answers() -> bool:
    """The connection stays: a server that loses its last one starts anew, and would refuse Open3D's meanwhile."""
    library = ctypes.util.find_library("X11")
    if library is None:
        return False
    x11 = ctypes.CDLL(library)
    x11.XOpenDisplay.restype = ctypes.c_void_p
    return bool(x11.XOpenDisplay(None))
