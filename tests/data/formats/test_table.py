"""Clouds as text: separators, decimal commas, headers, counts, and what is no cloud."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.data.formats import READERS, parse

POINTS = np.array([(0, 1, 2), (3.5, -4.25, 5), (6, 7, 8e-3)], dtype=np.float64)


def rows(separator=" ", end="\n", extra=(), comma=False):
    lines = [separator.join([*(f"{value:.4f}" for value in point), *map(str, extra)]) for point in POINTS]
    text = "".join(line + end for line in lines)
    return text.replace(".", ",") if comma else text


@pytest.mark.parametrize("suffix", ["xyz", "txt", "pts", "csv", "asc", "TXT"])
def test_suffixes(read, suffix):
    assert f".{suffix.lower()}" in READERS
    np.testing.assert_array_equal(read(f"a.{suffix}", rows()), POINTS)


@pytest.mark.parametrize(
    "text",
    [
        rows(","),
        rows(", "),
        rows(" ,"),
        rows(";"),
        rows(" ; "),
        rows("\t"),
        rows("   "),
        rows(end="\r\n"),
        rows(end="\r"),
        rows(end=" \n\n"),
        rows(",", end=",\n"),
        rows(";", end=";\n"),
        rows(",", end=",,\n"),
        rows(";", comma=True),
        rows("; ", comma=True),
        rows(" ", comma=True),
        rows("\t", comma=True),
        rows(";", comma=True, end=";\n"),
        "\ufeff" + rows(","),
        rows().rstrip("\n"),
        rows(extra=(1, 0, 0)),
        rows(",", extra=(255, "red chair")),
        rows(",", extra=("", 7)),
        rows(", ").replace(", 2.0", " 2.0"),
        rows().replace("\n", " # a point\n"),
        "# made by hand, 3 points\n" + rows() + "# end\n",
        "% MATLAB\n! note\n" + rows(),
        "//X Y Z\n" + rows(),
        "//X Y Z R G B\n3\n" + rows(extra=(1, 2, 3)),
        "//X,Y,Z,Scalar field\n" + rows(",", extra=(1,)),
        "x y z\n" + rows(),
        "X,Y,Z\n" + rows(","),
        "X;Y;Z;\n" + rows(";", end=";\n", comma=True),
        "X,Y,Z,label\n" + rows(",", end=",\n"),
        '"x","y","z"\n' + rows(",").replace("0.0000", '"0.0"'),
        "x [m],y [m],z [m]\n" + rows(","),
        "Points:0,Points:1,Points:2\n" + rows(","),
        "Easting;Northing;Height\n" + rows(";", comma=True),
        "3\n" + rows(extra=(-9, 255, 0, 0)),
        "1\n" + rows().replace("\n", "\n2\n", 1),
        "x y z\n3\n" + rows(),
    ],
)
def test_variants(read, text):
    np.testing.assert_array_equal(read("a.csv", text), POINTS)


def test_columns_are_found_by_their_names(read):
    text = "id,z,intensity,y,x\n" + "".join(f"7,{z},0.5,{y},{x}\n" for x, y, z in POINTS)
    np.testing.assert_array_equal(read("a.csv", text), POINTS)
    np.testing.assert_array_equal(read("a.csv", text.replace("id,", ",")), POINTS)  # as pandas names its index
    text = "# nx ny nz x y z\n" + "".join(f"0 0 1 {x} {y} {z}\n" for x, y, z in POINTS)
    np.testing.assert_array_equal(read("a.txt", text), POINTS)


numbers = st.floats(-1e6, 1e6)


@given(
    st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=5),
    st.sampled_from([" ", "\t", ";", "; ", ",", ", "]),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, points, separator, comma):
    path = tmp_path_factory.mktemp("table") / "a.txt"
    text = "".join(separator.join(map(repr, point)) + "\n" for point in points)
    path.write_text(text.replace(".", ",") if comma and "," not in separator else text)
    np.testing.assert_array_equal(parse(path), points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("My notes on this class.\nMore.\n", "a.txt line 1: 'My notes on this class.', expected a point 'x y z', or"),
        ("name,age\nA,1\n", "a.txt line 1: 'name,age', expected a point 'x y z', or names of columns with x, y and z"),
        ("lon lat alt\n1 2 3\n", "a.txt line 1: 'lon lat alt', expected a point"),
        ("ncols 100\nnrows 100\n", "a.txt line 1: 2 columns in 'ncols 100', expected a point"),
        ("version: 1\nn_points: 68\n{\n", "a.txt line 1: 2 columns in 'version: 1', expected"),
        ("3\nwater molecule\nO 0 0 0\n", "a.txt line 2: 'water molecule', expected"),
        ("0 0\n1 1\n", "a.txt line 1: 2 columns in '0 0', expected a point"),
        ("0 0 0\n0 one 0\n", "a.txt line 2: '0 one 0', expected a point 'x y z'"),
        ("0 0 0\n0 1\n", "a.txt line 2: 2 columns in '0 1', expected 3 as in the lines before"),
        ("0 0 0\n0 1 2 3\n", "a.txt line 2: 4 columns in '0 1 2 3', expected 3 as in the lines before"),
        ("0,0,0\n0,,0\n", "a.txt line 2: '0,,0', expected a point"),
        ("1.000,5;2;3\n", "a.txt line 1: '1.000,5;2;3', expected a point"),
        ("x y z\nm m m\n1 2 3\n", "a.txt line 2: "),
        ("x,y,z,w\n1,2,3\n", "a.txt line 2: 3 columns in '1,2,3', expected 4 as in the lines before"),
        ("4\n1 2 3\n", "a.txt: 1 points, expected the 4 that its count declares"),
        ("1\n1 2 3\n4 5 6\n", "a.txt: 2 points, expected the 1 that its count declares"),
        ("1 2 3\n5\n", "a.txt line 2: 1 columns in '5', expected 3"),
        ("\n# nothing\n", "a.txt: no points, expected a point"),
        (bytes(range(128, 256)) * 9, "a.txt line 1: "),
        ("\x1b[31mred\n", "a.txt line 1: '?[31mred', expected"),
    ],
)
def test_what_is_no_cloud_is_said_in_a_line(refusal, text, message):
    assert refusal("a.txt", text).startswith(message)
