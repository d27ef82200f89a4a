"""The window: what keys do to its state, what meshes a state becomes, and that a real one does what it is told."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcdistill.clouds import PartNames
from pcdistill.core.errors import InputError
from pcdistill.viewing import Exhibit, open_window, shades
from pcdistill.viewing.open3d import window
from pcdistill.viewing.open3d.window import HELP, SIZES, Hall, Mesh, State, Stock, pressed, refusal, ticked
from pcdistill.viewing.pictures import GREY
from pcdistill.viewing.scene import ELEVATION, PART_COLOURS, colour_map

REPOSITORY = Path(window.__file__).parents[3]
STOCK = Stock((3, 1, 2), 4, True, ("height", "moved", "real"))
PLAIN = Stock((2,), 1, False, ("height",))
KEYS = ["up", "down", "left", "right", ",", ".", "space", "i", "g", "n", "c", "+", "-"]


def states(stock: Stock) -> Iterator[State]:
    """All there are."""
    places = [(row, column) for row, count in enumerate(stock.counts) for column in range(count)]
    switches = product([False, True], [False, True] if stock.real else [False])
    for (row, column), frame, colouring, (single, real), size in product(
        places, range(stock.frames), stock.colourings, switches, range(-SIZES, SIZES + 1)
    ):
        for playing in {False, frame < stock.frames - 1}:
            yield State(row, column, frame, colouring, single, real, playing, size)


def after(state: State, keys: str, stock: Stock = STOCK) -> State:
    for key in keys.split():
        state = pressed(state, key, stock)
    return state


@pytest.mark.parametrize("stock", [STOCK, PLAIN], ids=["all", "nothing but clouds"])
def test_every_key_leads_from_every_state_to_a_state(stock: Stock) -> None:
    known = set(states(stock))
    assert len(known) > 20
    for key in KEYS:
        found = {pressed(state, key, stock) for state in known}
        assert found <= known
        changes = any(pressed(state, key, stock) != state for state in known)
        assert changes == (not refusal(key, stock) and (key not in ("up", "down") or len(stock.counts) > 1))
    assert {ticked(state, stock) for state in known} <= known
    for key in ("h", "r", "s", "x", ""):
        assert all(pressed(state, key, stock) == state for state in known)


@pytest.mark.parametrize(("key", "fields"), [
    ("up", {"row", "column"}), ("down", {"row", "column"}), ("left", {"column"}), ("right", {"column"}),
    (",", {"frame", "playing"}), (".", {"frame", "playing"}), ("space", {"frame", "playing"}),
    ("i", {"frame", "playing"}), ("g", {"single"}), ("n", {"real"}), ("c", {"colouring"}), ("+", {"size"}),
    ("-", {"size"}),
])  # fmt: skip
def test_a_key_changes_what_it_is_for_and_nothing_else(key: str, fields: set[str]) -> None:
    changed = set()
    for state in states(STOCK):
        new = pressed(state, key, STOCK)
        changed |= {name for name, value in vars(new).items() if value != getattr(state, name)}
    assert changed == fields


@pytest.mark.parametrize(("there", "back"), [("up", "down"), ("left", "right"), ("g", "g"), ("n", "n"), ("c", "c c")])
def test_keys_that_undo_each_other(there: str, back: str) -> None:
    for state in states(STOCK):
        if there == "up" and state.column:
            continue  # a smaller class on the way keeps no place
        assert after(state, f"{there} {back}") == state
        assert after(state, f"{back} {there}") == state


def test_classes_and_clouds_come_round() -> None:
    assert [after(State(), "down " * times).row for times in range(5)] == [0, 1, 2, 0, 1]
    assert [after(State(row=2), "right " * times).column for times in range(3)] == [0, 1, 0]
    assert after(State(column=2), "down").column == 0  # of one cloud
    assert after(State(column=2), "up").column == 1  # of two


def test_snapshots_end_at_both_ends_and_the_first_guess_is_a_key_away() -> None:
    assert [after(State(), ". " * times).frame for times in range(6)] == [0, 1, 2, 3, 3, 3]
    assert [after(State(frame=3), ", " * times).frame for times in range(6)] == [3, 2, 1, 0, 0, 0]
    assert [after(State(frame=frame), "i").frame for frame in range(4)] == [3, 3, 3, 0]
    assert [after(State(frame=frame), "i i").frame for frame in (0, 3)] == [0, 3]


def test_playing_goes_on_to_the_last_snapshot_and_begins_anew_from_there() -> None:
    state = pressed(State(frame=3), "space", STOCK)
    seen = [(state.frame, state.playing)]
    for _ in range(5):
        state = ticked(state, STOCK)
        seen.append((state.frame, state.playing))
    assert seen == [(0, True), (1, True), (2, True), (3, False), (3, False), (3, False)]
    assert after(State(frame=1), "space").frame == 1
    assert after(State(frame=1), "space space") == State(frame=1)
    for key in (",", ".", "i"):
        assert not after(State(frame=1), f"space {key}").playing


def test_points_grow_and_shrink_within_bounds() -> None:
    assert after(State(), "+ " * 20).size == SIZES
    assert after(State(), "- " * 20).size == -SIZES
    assert after(State(), "+ + -").size == 1


def test_the_help_names_every_key() -> None:
    words = [*HELP.replace(",", " ").split(), ","]
    assert all(key in words for key in [*KEYS, "r", "s", "h", "q"])
    assert all(len(line) < 100 for line in HELP.splitlines())
    named = {key for key in window._KEYS}
    assert named == {*KEYS, "r", "s", "h"}
    numbers = [number for numbers in window._KEYS.values() for number in numbers]
    assert len(numbers) == len(set(numbers))


def test_a_key_that_has_nothing_to_show_says_what_would(exhibit: Exhibit) -> None:
    assert "--snapshots" in refusal(".", PLAIN)
    assert "--real" in refusal("n", PLAIN)
    assert "--model" in refusal("c", PLAIN)
    assert not any(refusal(key, STOCK) for key in [*KEYS, "h", "r", "s"])


def points_of(hall: Hall, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middle, largest extent and mean colour of every sphere's mesh in a state, `(clouds, points, ...)`."""
    mesh, _ = hall.meshes(state)
    clouds = 1 if state.single else 5
    spheres = mesh.vertices.reshape(clouds * (1 + state.real), 150, -1, 3)
    colours = mesh.colours.reshape(*spheres.shape)
    assert (colours == colours[:, :, :1]).all()
    return (spheres.max(2) + spheres.min(2)) / 2, np.ptp(spheres, axis=2).max(-1), colours[:, :, 0]


def test_clouds_stand_side_by_side_and_classes_below_each_other(exhibit: Exhibit) -> None:
    hall = Hall(exhibit)
    assert hall.stock == Stock((3, 2), 3, True, ("height", "moved", "real", "critical", "gradient"))
    middles, *_ = points_of(hall, State(frame=2))
    places = (middles.max(1) + middles.min(1)) / 2
    np.testing.assert_allclose(places[:, ::2], [[0, 0], [1, 0], [2, 0], [0, -1], [1, -1]], atol=0.1)
    assert (np.ptp(middles, axis=1) < 1).all()
    beside, *_ = points_of(hall, State(frame=2, real=True))
    places = ((beside.max(1) + beside.min(1)) / 2)[:, 0]
    np.testing.assert_allclose(places, [0, 0.95, 2, 2.95, 4, 4.95, 0, 0.95, 2, 2.95], atol=0.1)


def test_spheres_show_the_frame_in_the_colours_of_its_values(exhibit: Exhibit) -> None:
    """As the gallery does: the same distances, z upwards, and nothing is mirrored."""
    hall = Hall(exhibit)
    for frame, single, colouring in product(range(3), (False, True), ("height", "moved", "gradient")):
        middles, _, colours = points_of(hall, State(1, 1, frame, colouring, single))
        cloud, place = 4, 0 if single else 4
        points = exhibit.frames[frame][cloud].numpy()
        shown = middles[place] - middles[place].mean(0)
        turn, _, *_ = np.linalg.lstsq(points - points.mean(0), shown, rcond=None)
        np.testing.assert_allclose((points - points.mean(0)) @ turn, shown, atol=0.01)
        scale = np.cbrt(np.linalg.det(turn))
        assert scale > 0
        np.testing.assert_allclose(turn.T @ turn, scale**2 * np.eye(3), atol=0.01)
        lean = np.array([0, 0, 1]) if single else np.array([0, -np.sin(ELEVATION), np.cos(ELEVATION)])
        np.testing.assert_allclose(turn[2] / scale, lean, atol=0.02)
        wanted = colour_map(shades(exhibit, colouring).shares[frame, cloud].numpy())
        np.testing.assert_allclose(colours[place] / window._DIMMED, wanted, atol=1e-5)


def test_nearest_real_clouds_are_grey_and_of_the_same_scale(exhibit: Exhibit) -> None:
    assert exhibit.real is not None
    middles, _, colours = points_of(Hall(exhibit), State(frame=2, real=True, single=True))
    assert len(middles) == 2
    np.testing.assert_allclose(colours[1], np.broadcast_to(GREY, (150, 3)) * np.float32(window._DIMMED), atol=1e-6)
    assert np.ptp(colours[0], axis=0).max() > 0.3
    real, own = exhibit.real.nearest.points[0].numpy(), exhibit.frames[2][0].numpy()
    scales = [
        np.linalg.norm(shown - shown.mean(0)) / np.linalg.norm(there - there.mean(0))
        for shown, there in zip(middles, (own, real), strict=True)
    ]
    assert scales[0] == pytest.approx(scales[1], rel=0.01)


def test_points_grow_with_their_size_alone(exhibit: Exhibit) -> None:
    hall = Hall(exhibit)
    plain, large = (points_of(hall, State(size=size)) for size in (0, 2))
    assert large[1].mean() / plain[1].mean() == pytest.approx(1.2**2, rel=0.01)
    np.testing.assert_allclose(large[0], plain[0], atol=0.01)


def test_frames_move_within_their_place(exhibit: Exhibit) -> None:
    """The middle of the whole way is the middle of the place: the others stand still when one is far off."""
    frames = [points_of(Hall(exhibit), State(frame=frame))[0] for frame in range(3)]
    whole = np.stack(frames)
    middles = (whole.max((0, 2)) + whole.min((0, 2))) / 2
    np.testing.assert_allclose(middles[:, ::2], [[0, 0], [1, 0], [2, 0], [0, -1], [1, -1]], atol=0.05)


def test_signs_tell_the_class_the_step_and_the_colours(exhibit: Exhibit) -> None:
    hall = Hall(exhibit)
    assert hall.described(State(1, 1, 1)) == "night stand 2 of 2, step 10 of 40"
    assert hall.described(State(real=True, frame=2)) == "ball 1 of 3, step 40 of 40, grey: nearest real"
    assert Hall(replace(exhibit, frames=exhibit.frames[:1], steps=(0,))).described(State()) == "ball 1 of 3"
    for state in (State(), State(single=True), State(row=1, column=1)):
        _, signs = hall.meshes(state)
        colours = np.unique(signs.colours, axis=0)
        assert (colours == window._INK).all(1).any()
        assert (colours == window._ACCENT).all(1).any() == (not state.single)
        for share in (0.0, 1.0):
            ends = colour_map(np.array([share], dtype=np.float32))[0]
            assert (np.abs(colours - ends).max(1) < 1e-6).any()
        marked = signs.vertices[(signs.colours == window._ACCENT).all(1)]
        if not state.single:
            right = marked[marked[:, 0] > -0.5]  # the frame, without the name
            x, z = (right.max(0) + right.min(0))[[0, 2]] / 2
            assert (x, z) == pytest.approx((state.column, -state.row), abs=0.01)
    texts = [hall.meshes(State(colouring=colouring))[1].vertices.shape for colouring in hall.stock.colourings]
    assert len(set(texts)) == len(texts)  # each says something else


def test_the_legend_of_parts_is_that_of_the_chosen_class(exhibit: Exhibit) -> None:
    own = exhibit.clouds.hard_labels[:, None].expand(exhibit.clouds.points.shape[:2])
    names = PartNames(("skin", "core", "seat"), ((0, 1), (1,), (2,)))
    hall = Hall(replace(exhibit, clouds=replace(exhibit.clouds, parts=own, part_names=names)))
    for row, hue in ((0, 0), (1, 2)):  # ball and night_stand, whose points are of one part each
        points, signs = hall.meshes(State(row=row, single=True, colouring="part"))
        assert np.unique(points.colours, axis=0) == pytest.approx(0.85 * PART_COLOURS[[hue]])
        shown = [(np.abs(signs.colours - colour).max(1) < 1e-6).any() for colour in PART_COLOURS]
        assert np.flatnonzero(shown).tolist() == [hue]


def front(mesh: Mesh) -> np.ndarray:
    a, b, c = mesh.vertices[mesh.faces].transpose(1, 0, 2)
    return np.cross(b - a, c - a)[:, 1]


def test_lettering_is_upright_and_looks_at_the_eye() -> None:
    long, short = (window.lettering(text, 0.3, window._INK, "r") for text in ("night stand", "bed"))
    assert long.faces.max() == len(long.vertices) - 1
    assert (long.vertices[:, 1] == 0).all()
    assert long.vertices[:, 0].max() <= 0
    assert long.vertices[:, 0].min() < 2 * short.vertices[:, 0].min()
    assert np.abs(long.vertices[:, 2]).max() < 0.3
    assert (front(long) < 0).all()
    left = window.lettering("bed", 0.3, window._INK)
    assert left.vertices[:, 0].min() >= 0
    np.testing.assert_allclose(np.ptp(left.vertices, axis=0), np.ptp(short.vertices, axis=0), atol=1e-6)
    # "L": its lower half has more ink than its upper one.
    letter = window.lettering("L", 1.0, window._INK)
    area = -front(letter)
    height = letter.vertices[letter.faces].mean(1)[:, 2]
    middle = (height.max() + height.min()) / 2
    assert area[height < middle].sum() > 1.2 * area[height > middle].sum()


def test_meshes_are_joined_as_they_are() -> None:
    parts = [window.lettering(text, 0.2, window._INK).at(place, -1) for place, text in enumerate("ab")]
    whole = window.joined(parts)
    corners = [part.vertices[part.faces] for part in parts]
    np.testing.assert_array_equal(whole.vertices[whole.faces], np.concatenate(corners))
    assert whole.normals.shape == whole.colours.shape == whole.vertices.shape


@pytest.fixture
def stub_open3d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable `open3d.py` whose text a test chooses; the real one is not loaded into this process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    yield tmp_path / "open3d.py"
    sys.modules.pop("open3d", None)


def test_a_missing_package_names_the_extra(exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(InputError, match=r"open3d: not installed, expected pip install 'pcdistill\[open3d\]'"):
        open_window(exhibit, print)


def test_a_missing_system_library_is_named(exhibit: Exhibit, stub_open3d: Path) -> None:
    stub_open3d.write_text("raise ImportError('libusb-1.0.so.0: cannot open shared object file')")
    with pytest.raises(InputError, match=r"open3d: does not load \(libusb-1.0.so.0"):
        open_window(exhibit, print)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux may lack a display")
@pytest.mark.parametrize(
    ("name", "message"), [(None, "neither DISPLAY nor"), (":1234", "DISPLAY=:1234 cannot be opened")]
)
def test_a_missing_display_is_one_line(
    exhibit: Exhibit, stub_open3d: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, message: str
) -> None:
    stub_open3d.write_text("")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if name:
        monkeypatch.setenv("DISPLAY", name)
    with pytest.raises(InputError, match=message):
        open_window(exhibit, print)


DRIVEN = """
    import sys
    import numpy, torch
    from dataclasses import replace
    from open3d.visualization import VisualizerWithKeyCallback
    from pcdistill.clouds import PointClouds
    from pcdistill.geometry.nearest import Nearest
    from pcdistill.viewing import Exhibit, Real
    from pcdistill.viewing.open3d.window import State, Viewer

    callbacks, register = {}, VisualizerWithKeyCallback.register_key_callback
    def noted(self, number, callback):
        callbacks[number] = callback
        register(self, number, callback)
    VisualizerWithKeyCallback.register_key_callback = noted
    create = VisualizerWithKeyCallback.create_window
    def small(self, **given):
        return create(self, **{**given, "width": 640, "height": 480})
    VisualizerWithKeyCallback.create_window = small

    points = torch.rand(4, 64, 3, generator=torch.Generator().manual_seed(0))
    clouds = PointClouds(points, torch.tensor([0, 0, 1, 1]), ("bed", "night_stand"))
    real = Real(Nearest(torch.arange(4), torch.zeros(4), points * 0.9, torch.zeros(4)), points * 0.9)
    exhibit = Exhibit("made", clouds, (points * 0.4, points * 0.7, points), (0, 5, 10), real=real)
    viewer = Viewer(exhibit, State(frame=2), print, visible=False)
    pictures = [viewer.picture()]
    for word in sys.argv[2:]:
        if word == "turn":
            viewer.visualizer.get_view_control().rotate(150, 40)
        elif word == "tick":
            viewer._next = 0.0
            viewer._tick(viewer.visualizer)
        else:
            callbacks[int(word)](viewer.visualizer)
        pictures.append(viewer.picture())
    numpy.save(sys.argv[1], numpy.stack(pictures))
"""
NUMBERS = {"right": 262, "left": 263, "down": 264, "up": 265, "space": 32, "+": 334, "turn": "turn", "tick": "tick"}


def driven(tmp_path: Path, words: str) -> tuple[dict[str, np.ndarray], str]:
    """Pictures of a window that nobody sees, at the start ("") and after each key (its name, and how many before)."""
    keys = words.split()
    numbers = [str(NUMBERS.get(key, ord(key[0].upper()))) for key in keys]
    command = [sys.executable, "-c", textwrap.dedent(DRIVEN), str(tmp_path / "seen.npy"), *numbers]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
        errors="replace", timeout=120,
    )  # fmt: skip
    lines = done.stderr.strip().splitlines() or ["it crashed"]
    if done.returncode < 0 or "InputError" in lines[-1] or "import open3d" in done.stderr:
        pytest.skip(f"Open3D cannot draw here: {lines[-1]}")
    assert done.returncode == 0, done.stderr
    pictures = np.load(tmp_path / "seen.npy").astype(int)
    return {" ".join(keys[:number]): picture for number, picture in enumerate(pictures)}, done.stdout


def marked(picture: np.ndarray) -> np.ndarray:
    """Row and column of the middle of the frame around the chosen cloud, whose lines are longer than in letters."""
    accent = (np.abs(picture - 255 * window._ACCENT) < 12).all(2)
    lines = [np.flatnonzero(accent.sum(axis) > 60) for axis in (1, 0)]
    return np.array([(line[0] + line[-1]) / 2 for line in lines]) if all(map(len, lines)) else np.array([])


def grey(picture: np.ndarray) -> float:
    """The share of what is neither paper nor coloured nor black."""
    return float(((np.ptp(picture, axis=2) < 16) & (picture.max(2) < 200) & (picture.min(2) > 60)).mean())


def inked(picture: np.ndarray) -> float:
    return float((picture.min(2) < 230).mean())


def test_open3d_shows_what_keys_ask_for(tmp_path: Path) -> None:
    """The real window, off-screen, and the functions that it calls for a key."""
    name = "pcdistill-bed-1-step0-moved.png"
    (tmp_path / name).write_text("old")
    words = "down right up left , i i c r n n + - turn r g , s h space tick tick tick tick"
    seen, said = driven(tmp_path, words)
    start = seen[""]
    paper = start.min(2) > 250
    assert 0.5 < paper.mean() < 0.99
    for edge in (paper[[0, -1]], paper[:, [0, -1]]):
        assert edge.all()  # all in sight

    def at(words: str) -> np.ndarray:
        return seen[words]

    def differ(first: str, second: str) -> float:
        return float((np.abs(seen[first] - seen[second]).max(2) > 16).mean())

    first, down, right = (marked(at(words)) for words in ("", "down", "down right"))
    assert down[0] - first[0] > 50
    assert abs(down[1] - first[1]) < 10
    assert right[1] - down[1] > 50
    assert abs(right[0] - down[0]) < 10
    assert differ("", "down right up left") < 1e-3

    way = "down right up left"
    before = f"{way} ,"
    assert inked(at(before)) < inked(start)  # smaller clouds in the snapshot before
    assert differ(way, f"{before} i") < 1e-3  # to the last snapshot
    assert inked(at(f"{before} i i")) < inked(at(before))  # and to the first guess, which is smaller still
    assert differ(f"{before} i i", f"{before} i i c") > 0.003
    moved = f"{before} i i c r"  # the legend is longer, and the camera goes back for it when asked to
    assert grey(at(f"{moved} n")) > grey(at(moved)) + 0.01
    assert differ(moved, f"{moved} n n") < 1e-3
    beside = at(f"{moved} n")
    light = beside[(np.ptp(beside, axis=2) < 16) & (beside.max(2) < 240)].max(1)
    assert np.ptp(np.quantile(light, [0.2, 0.8])) > 40  # points are lit, not flat
    assert inked(at(f"{moved} n n +")) > inked(at(moved))
    assert differ(moved, f"{moved} n n + -") < 1e-3
    turned = f"{moved} n n + - turn"
    assert differ(moved, turned) > 0.02
    assert differ(moved, f"{turned} r") < 1e-3
    single = f"{turned} r g"
    assert not len(marked(at(single)))
    assert differ(moved, single) > 0.03
    assert inked(at(single)) > 0.4 * inked(at(moved))  # one of four, but larger
    assert differ(single, f"{single} ,") < 1e-3  # there is none before the first
    playing = f"{single} , s h space"
    sizes = [inked(at(playing + " tick" * times)) for times in range(5)]
    assert sizes[0] < sizes[1] < sizes[2] == sizes[3] == sizes[4]

    told = "\n".join(line for line in said.splitlines() if "[Open3D" not in line)
    assert told == f"wrote pcdistill-bed-1-step0-moved-2.png\n{HELP}"
    assert (tmp_path / name).read_text() == "old"
    with Image.open(tmp_path / "pcdistill-bed-1-step0-moved-2.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), at(f"{single} ,"))


@contextmanager
def x_server() -> Iterator[str]:
    """The name of a display that nobody looks at."""
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("no Xvfb or no xdotool (apt-get install xvfb xdotool)")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1400x1000x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    try:
        if not number:
            pytest.skip("Xvfb does not start here")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()


def until(found: Callable[[], object], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while not (done := found()) and time.monotonic() < end:
        time.sleep(0.05)
    return bool(done)


def test_a_user_opens_the_window_presses_keys_and_closes_it(exhibit: Exhibit, tmp_path: Path) -> None:
    """The command line on a display, and keys as a keyboard sends them."""
    with x_server() as display:
        environment = {**os.environ, "DISPLAY": display, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        environment.pop("WAYLAND_DISPLAY", None)
        words = ["view", "shapes", "--class", "chair", "lamp", "--columns", "2", "--window"]
        with (tmp_path / "said").open("w") as said:
            command = [sys.executable, "-m", "pcdistill.cli", *words]
            running = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=subprocess.STDOUT)

        def xdotool(*words: str) -> str:
            asked = ["xdotool", *words]
            return subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60).stdout

        def told() -> str:
            return (tmp_path / "said").read_text()

        try:
            if not until(lambda: "keys of the window" in told() or running.poll() is not None) or running.poll():
                pytest.skip(f"Open3D opens no window here: {told().strip().splitlines()[-1:]}")
            found: list[str] = []
            assert until(lambda: found.extend(xdotool("search", "--name", "^shapes, train$").split()) or found), told()
            number = found[-1]

            def heard() -> bool:
                xdotool("windowfocus", number)
                xdotool("key", "--window", number, "h")
                return until(lambda: told().count("keys of the window") > 1, 1)

            assert until(heard), told()
            for key, name in (
                ("Down", ""),
                ("s", "all-step0-height"),
                ("g", ""),
                ("Right", ""),
                ("s", "lamp-2-step0-height"),
            ):
                xdotool("key", "--window", number, key)
                if name:
                    assert until(lambda name=name: f"wrote pcdistill-{name}.png" in told()), told()
            xdotool("key", "--window", number, "space")
            assert until(lambda: "no snapshots" in told()), told()
            xdotool("key", "--window", number, "q")
            assert running.wait(60) == 0
        finally:
            running.kill()
            running.wait()
    pictures = [
        np.asarray(Image.open(tmp_path / f"pcdistill-{name}.png"))
        for name in ("all-step0-height", "lamp-2-step0-height")
    ]
    assert all(0.002 < inked(picture) < 0.5 for picture in pictures)
    assert len(marked(pictures[0].astype(int)))
    assert not len(marked(pictures[1].astype(int)))
