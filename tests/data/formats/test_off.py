"""OFF: ModelNet's run-on header, kin with further columns, and lines that are not as they should be."""

import numpy as np
import pytest

ROWS = ["0 0 0", "1 0 0", "1 1 0", "0 1 0"]
SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]


def off(header="OFF\n4 1 0", rows=ROWS, faces=("4 0 1 2 3",)):
    return "\n".join([header, *rows, *faces, ""])


def test_off_with_the_header_on_one_line(read, cube, off_text):
    vertices, faces = cube
    for run_on in (False, True):
        text = off_text(vertices, faces, run_on=run_on)
        assert text.startswith("OFF8 12 0\n") == run_on
        mesh = read("a.off", text)
        np.testing.assert_array_equal(mesh.vertices, vertices)
        np.testing.assert_array_equal(mesh.faces, faces)


@pytest.mark.parametrize(
    "text",
    [
        "OFF # a square\n\n4 1 0\n0 0 0\n1 0 0 # corner\n1 1 0\n\n0 1 0\n4 0 1 2 3 255 0 0\n\n",
        off().replace("\n", "\r\n"),
        off("off\n4 1"),
        off("\ufeffOFF\n4 1 0"),
        off("COFF 4 1 0", [f"{row} 255 0 0 255" for row in ROWS]),
        off("NOFF\n4 1 0", [f"{row} 0 0 1" for row in ROWS]),
        off("CNOFF\n4 1 0", [f"{row} 0 0 1 .1 .2 .3 1" for row in ROWS]),
        off("STOFF\n4 1 0", [f"{row} 0.5 0.5" for row in ROWS]),
        off(rows=[ROWS[0], ROWS[1] + " 255 0 0 255", ROWS[2] + "\t7", ROWS[3]]),
    ],
    ids=["comments", "windows", "small", "mark", "colours", "normals", "both", "texture", "some colours"],
)
def test_kin_of_off(read, text):
    mesh = read("a.off", text)
    assert mesh.vertices.tolist() == SQUARE
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_utf_16(read):
    assert read("a.off", off().encode("utf-16")).vertices.tolist() == SQUARE


def test_no_faces_make_a_cloud_and_edges_leave_nothing(read):
    assert read("a.off", off("OFF\n4 0 0", faces=())).tolist() == SQUARE
    assert read("a.off", off("OFF\n4 2 0", faces=("2 0 1", "3 0 1 2"))).faces.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("OFF\n", "a.off: ends after its first line, expected the numbers of vertices and faces"),
        ("OFF\n8\n", "a.off line 2: '8', expected the numbers of vertices and faces"),
        ("OFF\n-1 2 0\n", "a.off line 2: '-1 2 0', expected the numbers of vertices and faces"),
        ("hello\n", "a.off line 1: 'hello', expected OFF, COFF, NOFF, CNOFF or STOFF"),
        ("4OFF\n1 1 0\n", "a.off line 1: '4OFF', expected OFF, COFF"),
        ("OFF BINARY\n\0\0", "a.off line 1: a binary OFF, expected one of text"),
        (off(faces=()), "a.off: ends after 0 of 1 faces"),
        ("OFF\n9999999999999 1 0\n0 0 0\n", "a.off: ends after 1 of 9999999999999 vertices"),
        (off(rows=["0 0 0", "1 0", "1 1 0", "0 1 0"]), "a.off line 4: '1 0', expected x y z"),
        (off(rows=["0 0 0", "1 zero 0", "1 1 0", "0 1 0"]), "a.off line 4: '1 zero 0', expected numbers x y z"),
        (off(faces=["3 0 1"]), "a.off line 7: '3 0 1', expected a face 'n i j k' of n whole numbers"),
        (off(faces=["3 0 1 x"]), "a.off line 7: '3 0 1 x', expected a face 'n i j k' of n whole numbers"),
        (off(faces=["0.5 0 1"]), "a.off line 7: '0.5 0 1', expected a face"),
        (off(faces=["-1 0 1"]), "a.off line 7: '-1 0 1', expected a face"),
        (off(faces=["3 0 1 -1"]), "a.off line 7: a face of vertex -1, expected 0 to 3"),
        (off(faces=["3 0 1 4"]), "a.off line 7: a face of vertex 4, expected 0 to 3"),
        (off(faces=["3 0 1 99999999999999999999"]), "a.off line 7: a face of vertex 4611686018427387904"),
        (off(faces=["3 0 1 2", "3 0 2 3"]), "a.off line 8: '3 0 2 3', expected an end after 4 vertices and 1 faces"),
    ],
)
def test_what_is_wrong_is_named(refusal, text, message):
    assert refusal("a.off", text).startswith(message)
