"""Rows that are read many at a time: the same numbers as one by one, and the line of what is wrong among them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data.formats import Mesh, parse
from pcdistill.data.formats.text import BLOCK, lines

COUNT = 20_000  # rows: several blocks
POINTS = np.random.default_rng(0).normal(size=(COUNT, 3)).round(5)
ROWS = [" ".join(map(repr, point)) for point in POINTS.tolist()]
PLY = f"ply\nformat ascii 1.0\nelement vertex {COUNT}\n" + "".join(f"property float {axis}\n" for axis in "xyz")
FACES = "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
PCD = f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {COUNT}\nHEIGHT 1\nDATA ascii\n"
# What is in front of the points, in front of each of them, and behind them.
FORMS: dict[str, tuple[str, str, str]] = {
    "a.off": (f"OFF\n{COUNT} 2 0\n", "", "3 0 1 2\n3 1 2 3\n"),
    "a.obj": ("# a comment\n\n", "v ", "f 1 2 3\nf 2/1 3/2 4/3\n"),
    "a.ply": (PLY + FACES, "", "3 0 1 2\n3 1 2 3\n"),
    "a.pcd": (PCD, "", ""),
    "a.xyz": ("", "", ""),
    "a.csv": ("x,y,z\n", "", ""),
}


def written(name: str, folder: Path, rows: list[str]) -> Path:
    head, first, tail = FORMS[name]
    if name.endswith(".csv"):
        rows = [row.replace(" ", ",") for row in rows]
    (folder / name).write_text(head + "".join(f"{first}{row}\n" for row in rows) + tail)
    return folder / name


@pytest.mark.parametrize("name", FORMS)
def test_many_rows_are_what_each_of_them_is(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path, ROWS)
    assert path.stat().st_size > 1.5 * BLOCK
    found = parse(path)
    if isinstance(found, Mesh):
        np.testing.assert_array_equal(found.faces, [[0, 1, 2], [1, 2, 3]])
    np.testing.assert_array_equal(found.vertices if isinstance(found, Mesh) else found, POINTS)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("change", [lambda row: row + "x", lambda row: row.rpartition(" ")[0]], ids=["word", "short"])
def test_one_that_is_wrong_is_named(name: str, change: Callable[[str], str], tmp_path: Path) -> None:
    rows = list(ROWS)
    rows[15_000] = change(rows[15_000])
    with pytest.raises(InputError, match=rf"{name} line {FORMS[name][0].count(chr(10)) + 15_001}: "):
        parse(written(name, tmp_path, rows))


@pytest.mark.parametrize("name", ["a.off", "a.ply"])
def test_a_corner_too_many_is_not_taken_for_one_of_the_face_before(name: str, tmp_path: Path) -> None:
    """Three words and five are as many as twice four."""
    head, first, _ = FORMS[name]
    (tmp_path / name).write_text(head + "".join(f"{first}{row}\n" for row in ROWS) + "3 0 1\n3 1 2 3 1\n")
    with pytest.raises(InputError, match=rf"line {head.count(chr(10)) + COUNT + 1}: "):
        parse(tmp_path / name)


def test_lines_count_those_that_are_left_out() -> None:
    rows = lines(b"a\n\n# b\nc # d\n" * 3)
    assert next(rows) == (1, "a")
    assert list(rows.many(2)) == [([4, 5], ["c", "a"])]
    assert next(rows) == (8, "c")
    assert list(rows.rest()) == [(9, "a"), (12, "c")]
    assert next(rows, None) is None
    assert list(rows.many()) == []


def test_blocks_are_read_one_after_the_other() -> None:
    content = b"".join(b"%d\n\n" % number for number in range(BLOCK // 2))
    rows = lines(content)
    found = [row for numbers, texts in rows.many() for row in zip(numbers, texts, strict=True)]
    assert found == [(2 * number + 1, str(number)) for number in range(BLOCK // 2)]
