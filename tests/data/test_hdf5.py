"""HDF5 files that take their values from elsewhere, or claim more than they hold: whatever reads them refuses."""

import struct
from collections.abc import Callable
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load, open_streamed
from pcdistill.data.hdf5 import data_and_label

WriteH5 = Callable[..., Path]
Change = Callable[[h5py.File, str, Path], None]


def external_storage(file: h5py.File, name: str, secret: Path) -> None:
    kept = file[name]
    shape, dtype = kept.shape, kept.dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, name: str, secret: Path) -> None:
    kept = file[name]
    layout = h5py.VirtualLayout(kept.shape, kept.dtype)
    layout[:] = h5py.VirtualSource(str(secret.with_name("other.h5")), name, kept.shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def external_link(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(str(secret.with_name("other.h5")), name)


def soft_link(file: h5py.File, name: str, secret: Path) -> None:
    del file[name]
    file["out"] = h5py.ExternalLink(str(secret.with_name("other.h5")), "/")
    file[name] = h5py.SoftLink(f"/out/{name}")


CHANGES: tuple[Change, ...] = (external_storage, virtual, external_link, soft_link)
FIELDS = ("train/points", "train/labels")


LINKED_GROUPS = [("train", external_link), ("train", soft_link)]


@pytest.mark.parametrize(("name", "change"), [*LINKED_GROUPS, *product(FIELDS, CHANGES)])
@pytest.mark.parametrize("read", [load, open_streamed])
def test_nothing_is_read_from_elsewhere(
    write_h5: WriteH5, tmp_path: Path, read: Callable[[Path], object], name: str, change: Change
) -> None:
    write_h5("other.h5")
    (tmp_path / "secret").write_bytes(b"\1" * 20_000)
    path = write_h5("set.h5")
    with h5py.File(path, "r+") as file:
        change(file, name, tmp_path / "secret")
    found = "a link to another place" if "link" in change.__name__ else "virtual or external data"
    with pytest.raises(InputError, match=rf"set\.h5 {name}: {found}, expected .*data"):
        read(path)


@pytest.mark.parametrize(("name", "change"), list(product(("data", "label"), CHANGES)))
def test_nor_by_the_benchmarks_layouts(tmp_path: Path, name: str, change: Change) -> None:
    (tmp_path / "secret").write_bytes(bytes(9_000))
    for path in (tmp_path / "other.h5", tmp_path / "set.h5"):
        with h5py.File(path, "w") as file:
            file["data"] = np.eye(20, 3, dtype=np.float32)[None].repeat(4, 0)
            file["label"] = np.arange(4)[:, None] % 2
    with h5py.File(tmp_path / "set.h5", "r+") as file:
        change(file, name, tmp_path / "secret")
    with pytest.raises(InputError, match=rf"set\.h5 {name}: "):
        data_and_label(tmp_path / "set.h5", 2, None)


@pytest.mark.parametrize("clouds", [10**8, 10**10])
@pytest.mark.parametrize("read", [load, open_streamed])
def test_clouds_that_were_never_written_take_no_memory(
    tmp_path: Path, clouds: int, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = ["a", "b"]
        group = file.create_group("train")
        group.create_dataset("points", (clouds, 16, 3), "f4", chunks=(64, 16, 3))
        group.create_dataset("labels", (clouds,), "u1", chunks=(2**16,), compression="gzip")
    with pytest.raises(InputError, match=r"set\.h5 train/points: \d+ bytes when read, of 0 in the file, expected at"):
        read(path)


def test_a_field_without_values_is_no_array(tmp_path: Path) -> None:
    for empty in (h5py.Empty("f4"), np.float32(1)):
        with h5py.File(tmp_path / "set.h5", "w") as file:
            file["data"], file["label"] = empty, np.zeros(3, "u1")
        with pytest.raises(InputError, match=r"set\.h5 data: no array"):
            data_and_label(tmp_path / "set.h5", 2, None)


def test_labels_of_another_type_say_what_is_expected(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["data"], file["label"] = np.random.default_rng(0).normal(size=(6, 8, 3)), [False, True] * 3
    with pytest.raises(InputError, match=r"set\.h5 label: values of type bool, expected numbers or texts"):
        load(tmp_path / "set.h5")


def test_names_that_are_no_text_are_told_or_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = ["a", "b"]
        file.create_group(b"tr\xffin")
    with pytest.raises(InputError, match=r"set\.h5 train: no such group, expected one of tr\\xffin$"):
        load(path)
    with h5py.File(path, "w") as file:
        file[b"\xff"] = np.zeros(3)
        file["data"], file["label"] = np.random.default_rng(0).normal(size=(6, 8, 3)), [0, 1] * 3
    assert len(load(path)) == 4


def test_texts_that_the_library_never_comes_back_from_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = ["a", "b"]
    content = bytearray(path.read_bytes())
    at = content.index(b"GCOL") + 16
    content[at : at + 16] = bytes(16)  # free space of no size
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"set\.h5: damaged \(texts at byte \d+\), expected a whole HDF5 file"):
        load(path)


def test_a_text_that_is_longer_than_its_file_is_refused_before_memory_is_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = ["a", "b"]
        file["data"], file["label"] = np.random.default_rng(0).normal(size=(6, 8, 3)), [0, 1] * 3
    whole = path.read_bytes()
    address = struct.pack("<Q", whole.index(b"GCOL"))
    at = whole.index(address)
    assert struct.unpack_from("<I", whole, at - 4) == (1,)
    # What looks like a reference is none if the heap does not hold it.
    path.write_bytes(whole + struct.pack("<I", 2**30) + address + struct.pack("<I", 999))
    assert len(load(path)) == 4
    path.write_bytes(whole[: at - 4] + struct.pack("<I", 2**30) + whole[at:])
    with pytest.raises(InputError, match=rf"set\.h5: damaged \(a text of {2**30} bytes at byte {at - 4}\), expected"):
        load(path)
