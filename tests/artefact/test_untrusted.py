"""Files that are not what they should be: each gives one line that names the file and the field."""

import hashlib
import json
import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pcdistill as pcd
from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage import storages

Make = Callable[..., Artefact]
Rewritten = Callable[..., Path]


def refuses(path: Path, *found: str) -> None:
    """Loading fails with one line that begins with the path and contains `found`."""
    with pytest.raises(InputError) as caught:
        Artefact.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 600
    for part in found:
        assert part in message


@pytest.fixture
def saved(make_artefact: Make, tmp_path: Path) -> Path:
    path = tmp_path / "saved.h5"
    make_artefact().save(path)
    return path


# --- before the HDF5 library


def test_no_such_file(tmp_path: Path) -> None:
    refuses(tmp_path / "none.h5", "no such file")
    refuses(tmp_path, "no such file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    refuses(tmp_path / "pipe.h5", "no such file")


class Bomb:
    """Unpickling this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("header", [b"", b"pcdistill artefact 1\n"])
def test_a_pickle_in_disguise(tmp_path: Path, header: bytes) -> None:
    content = pickle.dumps(Bomb(tmp_path / "executed"))
    (tmp_path / "a.h5").write_bytes(header + content)
    refuses(tmp_path / "a.h5", "checksum" if header else "not an artefact")
    assert not (tmp_path / "executed").exists()


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for content in (b"", b"OFF\n8 6 0\n", b"pcdistill artefact", b"pcdistill artefact one\n", os.urandom(5000)):
        path.write_bytes(content)
        refuses(path, "not an artefact, expected a file that begins with 'pcdistill artefact 1'")
    with h5py.File(path, "w") as file:
        file["points"] = np.zeros((2, 3))
    refuses(path, "an HDF5 file, but no artefact")


@pytest.mark.parametrize("version", [0, 2, 17, 999999999])
def test_other_versions(saved: Path, sealed: Callable[..., bytes], version: int) -> None:
    saved.write_bytes(sealed(saved.read_bytes()[512:], version))
    refuses(saved, f"format version {version}, expected 1, the one this release reads", "update pcdistill")


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.1])
def test_cut_short(saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * kept)])
    refuses(saved, "checksum differs: damaged or cut short")


def test_longer_than_written(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    refuses(saved, "checksum differs")


def test_anything_in_the_header_counts(saved: Path) -> None:
    content = saved.read_bytes()
    for at in range(0, 512, 7):
        saved.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        refuses(saved)


edits = st.tuples(st.sampled_from(["flip", "cut", "insert"]), st.floats(0, 1), st.integers(1, 40), st.integers(1, 255))


def edited(content: bytes, changes: list[tuple[str, float, int, int]]) -> bytes:
    for kind, place, length, value in changes:
        at = int(place * len(content))
        if kind == "flip":
            content = content[:at] + bytes(byte ^ value for byte in content[at : at + length]) + content[at + length :]
        elif kind == "cut":
            content = content[:at] + content[at + length :]
        else:
            content = content[:at] + bytes([value]) * length + content[at:]
    return content


@pytest.fixture(scope="module")
def whole(make_artefact: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """Content of a good file, and a path for damaged ones."""
    path = tmp_path_factory.mktemp("fuzz") / "fuzzed.h5"
    make_artefact().save(path)
    return path.read_bytes(), path


@settings(max_examples=150)
@given(changes=st.lists(edits, min_size=1, max_size=4))
def test_random_damage_is_noticed(whole: tuple[bytes, Path], changes: list[tuple[str, float, int, int]]) -> None:
    content, path = whole
    damaged = edited(content, changes)
    path.write_bytes(damaged)
    if damaged == content:
        assert Artefact.load(path).to_bytes() == content
    else:
        refuses(path)


@settings(max_examples=150)
@given(changes=st.lists(edits, min_size=1, max_size=4))
def test_random_damage_under_a_right_checksum(
    whole: tuple[bytes, Path], sealed: Callable[..., bytes], changes: list[tuple[str, float, int, int]]
) -> None:
    """Behind the checksum, HDF5's own checks and ours have to hold: a sound artefact or one line."""
    content, path = whole
    path.write_bytes(sealed(edited(content[512:], changes)))
    try:
        loaded = Artefact.load(path)
    except InputError:
        refuses(path)
    else:
        assert loaded.clouds.points.isfinite().all()
        assert loaded.clouds.points.shape == (6, 10, 3)


# --- HDF5 that is in order but not an artefact's


def replaced(file: h5py.File, name: str, data: Any, **options: Any) -> None:
    """Put other data in the place of dataset `name`."""
    del file[name]
    file.create_dataset(name, data=data, **options)


def with_metadata(file: h5py.File, change: Callable[[str], str]) -> None:
    """Change the text of the metadata."""
    text = change(file["metadata"][()].decode()).encode("utf-8", "surrogateescape")
    replaced(file, "metadata", np.bytes_(text), dtype=h5py.string_dtype("utf-8", len(text)))


def test_the_way_these_files_are_written_is_sound(rewritten: Rewritten, make_artefact: Make) -> None:
    """An untouched file passes, and so does one whose parts were replaced by the same."""
    assert Artefact.load(rewritten(lambda file: None)).metadata == make_artefact().metadata

    def same(file: h5py.File) -> None:
        replaced(file, "arrays/codes", file["arrays/codes"][()])
        with_metadata(file, lambda text: json.dumps(json.loads(text), indent=4))

    assert Artefact.load(rewritten(same)).metadata == make_artefact().metadata


def test_missing_and_unknown_parts(rewritten: Rewritten) -> None:
    refuses(rewritten(lambda file: file.__delitem__("metadata")), "metadata: missing or not a text")
    refuses(rewritten(lambda file: file.__delitem__("arrays")), "codes: ", "arrays []")
    refuses(rewritten(lambda file: file.__delitem__("arrays/codes")), "codes: ", "arrays []")
    refuses(rewritten(lambda file: file.create_dataset("arrays/extra", data=np.zeros(3))), "arrays: ['codes', 'extra']")
    refuses(rewritten(lambda file: file.create_dataset("extra", data=np.zeros(3))), "extra: unknown dataset")
    refuses(rewritten(lambda file: file.create_group("extra")), "extra: a group, expected a dataset")
    refuses(rewritten(lambda file: file.create_group("arrays/deep")), "arrays/deep: a group, expected a dataset")
    refuses(rewritten(lambda file: file.create_dataset("Löss", data=1.0)), "unknown name")
    refuses(rewritten(lambda file: file.create_dataset("a" * 5000, data=1.0)), "unknown name")
    refuses(rewritten(lambda file: file.__setitem__("extra", np.dtype("f4"))), "extra: a datatype, expected a dataset")


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((6, 30), np.int8),
        np.zeros((6, 30), np.uint16),
        np.zeros((6, 30), np.float32),
        np.zeros((6, 29), np.uint8),
        np.zeros((6, 10, 3), np.uint8),
        np.zeros(180, np.uint8),
        np.zeros((0, 30), np.uint8),
        np.zeros((5, 30), np.uint8),
        np.zeros((9, 30), np.uint8),
        np.uint8(1),
        np.bytes_(b"x" * 180),
        np.zeros(6, [("x", "u1"), ("y", "f4")]),
        np.zeros((6, 30), bool),
        np.zeros((6, 30), np.complex64),
        h5py.Empty("u1"),
    ],
    ids=lambda data: f"{data.dtype}{getattr(data, 'shape', 'empty')}",
)
def test_codes_of_another_type_or_shape(rewritten: Rewritten, data: Any) -> None:
    path = rewritten(lambda file: replaced(file, "arrays/codes", data))
    refuses(path, "clouds_per_class" if data.shape == (9, 30) else "codes")


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_not_finite(rewritten: Rewritten, bits: int, bad: float) -> None:
    path = rewritten(lambda file: file["arrays/codes"].__setitem__((3, 4, 1), bad), bits=bits)
    refuses(path, "codes: NaN or infinite coordinates, expected finite ones")


def test_floats_of_the_wrong_width_or_byte_order(rewritten: Rewritten) -> None:
    for dtype in ("f8", "f2", ">f4", "i4"):
        path = rewritten(lambda file, dtype=dtype: replaced(file, "arrays/codes", np.zeros((6, 10, 3), dtype)), bits=32)
        refuses(path, "codes: ", "expected float32 (clouds, 10, 3)")


def test_padding_holds_no_message(rewritten: Rewritten) -> None:
    """6 bits x 30 coordinates leave 4 bits over in every cloud."""
    path = rewritten(lambda file: file["arrays/codes"].__setitem__((0, 22), file["arrays/codes"][0, 22] | 1), bits=6)
    refuses(path, "arrays/codes: values that no encoder writes")


def test_history_of_another_kind(rewritten: Rewritten) -> None:
    for name, data, found in (
        ("losses", np.zeros(4), "losses: float64 of 1 dimensions, expected float32 of 1"),
        ("losses", np.zeros((2, 2), "f4"), "losses: float32 of 2 dimensions"),
        ("losses", np.array([1, np.nan], "f4"), "losses: NaN or infinity"),
        ("snapshots", np.zeros((1, 6, 10, 3), "f4"), "snapshots: float32 of 4 dimensions, expected float16 of 4"),
        ("snapshots", np.zeros((1, 6, 9, 3), "f2"), "snapshots[0]: shape (6, 9, 3), expected (6, 10, 3)"),
        ("snapshots", np.full((1, 6, 10, 3), np.inf, "f2"), "snapshots[0]: NaN or infinity"),
    ):
        refuses(rewritten(lambda file, name=name, data=data: replaced(file, name, data)), found)


# --- links and layouts that lead elsewhere


def test_links_are_not_followed(rewritten: Rewritten, tmp_path: Path, make_artefact: Make) -> None:
    make_artefact().save(tmp_path / "other.h5")

    def linked(name: str, link: Any) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            del file[name]
            file[name] = link

        return change

    for link in (h5py.SoftLink("/losses"), h5py.ExternalLink(str(tmp_path / "other.h5"), "/arrays/codes")):
        refuses(rewritten(linked("arrays/codes", link)), "arrays/codes: a link to another place")
    refuses(rewritten(linked("arrays", h5py.ExternalLink(str(tmp_path / "other.h5"), "/arrays"))), "arrays: a link")
    refuses(rewritten(linked("metadata", h5py.SoftLink("/metadata"))), "metadata: a link to another place")


def test_a_group_within_itself_does_not_loop(rewritten: Rewritten) -> None:
    refuses(rewritten(lambda file: file["arrays"].__setitem__("arrays", file["arrays"])), "arrays/arrays: a group")


def test_data_in_other_files(rewritten: Rewritten, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(180))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["codes"] = np.zeros((6, 30), np.uint8)

    def external(file: h5py.File) -> None:
        del file["arrays/codes"]
        file.create_dataset("arrays/codes", (6, 30), "u1", external=[(str(secret), 0, 180)])

    def virtual(file: h5py.File) -> None:
        del file["arrays/codes"]
        layout = h5py.VirtualLayout((6, 30), "u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "codes", (6, 30))
        file.create_virtual_dataset("arrays/codes", layout)

    for change in (external, virtual):
        refuses(rewritten(change), "arrays/codes: virtual or external data, expected data within the file")


@pytest.mark.parametrize(
    "options", [{"chunks": (2, 30)}, {"compression": "gzip"}, {"maxshape": (None, 30)}, {"fletcher32": True}]
)
def test_chunks_and_filters(rewritten: Rewritten, options: dict[str, Any]) -> None:
    def change(file: h5py.File) -> None:
        replaced(file, "arrays/codes", file["arrays/codes"][()], **options)

    refuses(rewritten(change), "arrays/codes: chunked or compressed")


# --- claims larger than the file


@pytest.mark.parametrize("clouds", [6, 10**12])
def test_a_dataset_that_was_never_written(rewritten: Rewritten, clouds: int) -> None:
    """It takes no space in the file; reading it would make it up in memory."""

    def change(file: h5py.File) -> None:
        del file["arrays/codes"]
        file.create_dataset("arrays/codes", (clouds, 30), "u1")

    refuses(rewritten(change), f"arrays/codes: {30 * clouds} bytes, expected no more than the file holds")


def test_a_compressed_bomb_takes_no_memory(rewritten: Rewritten) -> None:
    def change(file: h5py.File) -> None:
        del file["arrays/codes"]
        file.create_dataset("arrays/codes", (10**9, 30), "u1", chunks=(10**6, 30), compression="gzip")[: 10**6] = 0

    path = rewritten(change)
    tracemalloc.start()
    refuses(path, "arrays/codes: chunked or compressed")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * path.stat().st_size + 1_000_000


def test_many_names_for_the_same_bytes(rewritten: Rewritten) -> None:
    """Each within the file, together far larger."""

    def change(file: h5py.File) -> None:
        replaced(file, "arrays/codes", np.zeros((6, 3000), np.uint8))
        for number in range(50):
            file[f"arrays/again{number}"] = file["arrays/codes"]

    refuses(rewritten(change, points=1000), "bytes, expected no more than the file holds")


@pytest.mark.parametrize("shape", [(2**31, 0, 8, 3), (2**24, 0, 8, 3), (2, 6, 0, 3)])
def test_snapshots_without_values(rewritten: Rewritten, shape: tuple[int, ...]) -> None:
    """They take no bytes, however many they are."""

    def change(file: h5py.File) -> None:
        if "snapshots" in file:
            del file["snapshots"]
        file.create_dataset("snapshots", shape, "f2")

    refuses(rewritten(change), f"snapshots: shape {shape}, expected some values")


def test_clouds_that_take_more_than_the_file_may(rewritten: Rewritten) -> None:
    def change(text: str) -> str:
        return text.replace('"clouds_per_class":2', '"clouds_per_class":10000000')

    refuses(rewritten(lambda file: with_metadata(file, change)), "metadata 'clouds_per_class' and 'points': 3600000000")


def test_parts_that_make_more_than_the_file_may() -> None:
    """A network of one number a layer, and a number a cloud."""
    sizes = {"bits": 8, "points": 4096, "clouds": 10_000, "width": 1, "code": 1}
    shapes = {"layer1": (1, 4), "layer2": (1, 2), "layer3": (3, 2), "gates": (2, 1), "codes": (10_000, 1)}
    arrays = {name: np.ones(shape, np.float16) for name, shape in shapes.items()}
    with pytest.raises(InputError, match=r"layout: 491520000 bytes when read, of 20028 in the file, expected at most"):
        storages["implicit"].from_arrays(arrays, sizes, ("a",))


def test_an_expansion_that_makes_more_than_the_file_may(
    tiny_clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Voxels are decoded to as many points as the file says, and many clouds are made of each."""
    made = pcd.select(
        tiny_clouds, method="random", clouds_per_class=8, storage="voxels", points=4096, expand={"interpolate": 63}
    )
    made.save(tmp_path / "a.h5")
    assert Artefact.load(tmp_path / "a.h5").expansion == made.expansion
    monkeypatch.setattr("pcdistill.core.limits.FREE", 2**20)
    refuses(tmp_path / "a.h5", f"metadata 'expansion': {24 * 64 * 4096 * 12} bytes when read")


# --- metadata


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('"points":10', '"points":', "metadata: Invalid JSON"),
        ('{"arm"', '["arm"', "metadata: Invalid JSON"),
        ('{"arm":"quantile",', "{", "metadata: 'arm' is missing"),
        ('{"arm"', '{"colour":"red","arm"', "metadata: unknown field 'colour'"),
        ('"distilled":true', '"distilled":"yes"', "metadata: distilled = 'yes', expected a valid boolean"),
        ('"seed":0,"prepare', '"seed":0.5,"prepare', "metadata: seed = 0.5, expected a valid integer"),
        ('"prepare_seconds":1.5', '"prepare_seconds":NaN', "metadata: prepare_seconds = nan, expected a finite number"),
        ('"scale":0.1', '"scale":NaN', "metadata: Out of range float values are not JSON compliant"),
        ('"scale":0.1', '"scale":1e999', "metadata: Out of range float values"),
        ('"scale":0.1', '"scale":' + "[" * 50_000, "metadata: Invalid JSON: recursion limit exceeded"),
        ('"scale":0.1', '"scale":' + "1" * 50_000, "metadata: Invalid JSON: number out of range"),
        ('"class 0"', '"class 1"', "metadata: two classes have the same name"),
        ('"class 0"', "0", "metadata: class_names.0 = 0, expected a valid string"),
        ('"class 0"', '""', "metadata: class_names.0 = '', expected at least 1 character"),
        ('"class 0"', '"\\ud800"', "metadata: Invalid JSON"),
        ('["class 0","class 1","class 2"]', '"abc"', "metadata: class_names = 'abc', expected a valid array"),
        ('["class 0","class 1","class 2"]', "[]", "metadata: class_names = [], expected at least 1 item"),
        ('"class 0",', "", "metadata 'clouds_per_class': 2, expected 3"),
        ('"storage":"points"', '"storage":"pionts"', "storage: 'pionts' (did you mean 'points'?)"),
        ('"layout":{"bits":8', '"layout":{"bits":9', "codes: uint8 of shape (6, 30)"),
        ('"layout":{"bits":8', '"layout":{"bits":13', "bits: 13, expected 2 to 12"),
        ('"layout":{"bits":8', '"layout":{"bits":' + "9" * 400, "bits: 999999"),
        ('"layout":{"bits":8,', '"layout":{', "layout 'bits': None, expected an integer"),
        ('"layout":{"bits":8,', '"layout":{"bits":8,"more":1,', "metadata 'layout'"),
        ('"clouds_per_class":2', '"clouds_per_class":1', "metadata 'clouds_per_class': 1, expected 2.0"),
        ('"points":10,"bits"', '"points":11,"bits"', "layout 'points': 10, expected 11 as in"),
        ('"bits":8,"selection"', '"bits":7,"selection"', "metadata 'bits': 7, expected 8 as in the storage"),
        ('"created":"2026-01-31"', '"created":"today"', "metadata: created = 'today', expected pattern"),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_metadata_that_is_damaged(rewritten: Rewritten, old: str, new: str, found: str) -> None:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    refuses(rewritten(lambda file: with_metadata(file, change)), found)


def test_metadata_that_is_no_text(rewritten: Rewritten) -> None:
    refuses(rewritten(lambda file: replaced(file, "metadata", np.zeros(9, "u1"))), "metadata: missing or not a text")
    refuses(rewritten(lambda file: replaced(file, "metadata", np.array([b"{}"]))), "metadata: missing or not a text")
    refuses(rewritten(lambda file: replaced(file, "metadata", "{}")), "metadata: values of type object")
    refuses(rewritten(lambda file: with_metadata(file, lambda text: text[:-1] + "\udcff")), "metadata: not UTF-8")


def test_metadata_that_is_too_long(rewritten: Rewritten) -> None:
    path = rewritten(lambda file: with_metadata(file, lambda text: text + " " * (1 << 20)))
    refuses(path, "metadata: ", "expected at most 1048576")


def test_the_checksum_is_over_bytes_not_values(rewritten: Rewritten, make_artefact: Make) -> None:
    """An attribute is no part of the content, but it is of the file."""
    path = rewritten(lambda file: file.attrs.__setitem__("note", "hello"))
    assert Artefact.load(path).metadata == make_artefact().metadata
    assert hashlib.sha256(path.read_bytes()[512:]).hexdigest() in path.read_bytes()[:100].decode()
