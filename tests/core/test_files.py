"""Writing atomically, checking a place before the work, and where derived data goes."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, atomic_folder, cache_root, check_output, check_writable, sha256_file


def test_atomic_writes_the_whole_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.bin"
    with atomic(target) as temporary:
        assert temporary.parent == target.parent  # a rename across file systems would be a copy
        assert temporary.suffix == ".bin"
        assert not target.exists()
        temporary.write_bytes(b"content")
    assert target.read_bytes() == b"content"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, OSError])
def test_atomic_leaves_nothing_behind_when_the_block_raises(tmp_path: Path, stop: type[BaseException]) -> None:
    def write() -> None:
        with atomic(tmp_path / "file") as temporary:
            temporary.write_bytes(b"half")
            raise stop

    with pytest.raises(stop):
        write()
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_system_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    def fail(nameless: bool) -> None:
        with atomic(tmp_path / "file") as temporary:
            raise OSError(errno.ENOSPC, "No space left", *([] if nameless else [str(temporary)]))

    for nameless in (True, False):
        with pytest.raises(OSError, match="No space left") as caught:
            fail(nameless)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "file"))


def test_errors_of_other_files_keep_their_name(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic(tmp_path / "file"):
            (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError) as caught:
        fail()
    assert caught.value.filename == str(tmp_path / "missing")


def test_atomic_keeps_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail_half_way() -> None:
        with atomic(target) as temporary:
            temporary.write_text("new")
            assert target.read_text() == "old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert target.read_text() == "old"
    with atomic(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_atomic_files_have_the_permissions_of_ordinary_ones(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with atomic(tmp_path / "file") as temporary:
            temporary.write_text("content")
        assert os.umask(mask) == mask  # reading it changed nothing
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_atomic_reaches_the_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    seen: list[tuple[int, bool]] = []
    flush = os.fsync

    def recorded(descriptor: int) -> None:
        flush(descriptor)
        seen.append((os.fstat(descriptor).st_size, target.exists()))

    monkeypatch.setattr(os, "fsync", recorded)
    with atomic(target) as temporary:
        temporary.write_bytes(b"content")
    assert seen == [(7, False)]


def test_atomic_folder_comes_whole_and_in_place_of_an_empty_one(tmp_path: Path) -> None:
    for name in ("new/folder", "empty"):
        target = tmp_path / name
        if name == "empty":
            target.mkdir()
        with atomic_folder(target) as temporary:
            assert temporary.parent == target.parent
            (temporary / "a").mkdir()
            (temporary / "a" / "file").write_text("content")
            assert not target.exists() or not list(target.iterdir())
        assert (target / "a" / "file").read_text() == "content"
        assert list(target.parent.glob(".*")) == []
        assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((target / "a").stat().st_mode)


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, OSError])
def test_atomic_folder_leaves_nothing_behind_when_the_block_raises(tmp_path: Path, stop: type[BaseException]) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "file").write_text("half")
            raise stop

    with pytest.raises(stop):
        write()
    assert list(tmp_path.iterdir()) == []


def test_atomic_folder_leaves_one_with_something_in_it_as_it_was(tmp_path: Path) -> None:
    """Whatever was put there while the new one was written, too."""
    target = tmp_path / "folder"

    def write() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "file").write_text("new")
            target.mkdir()
            (target / "file").write_text("old")

    with pytest.raises(OSError, match="not empty") as caught:
        write()
    assert caught.value.filename == str(target)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["old"]


def test_errors_inside_a_folder_name_the_one_that_was_asked_for(tmp_path: Path) -> None:
    def fail(name: str | None) -> None:
        with atomic_folder(tmp_path / "folder") as temporary:
            raise OSError(errno.ENOSPC, "No space left", *([] if name is None else [str(temporary / name)]))

    for name in (None, "a/file"):
        with pytest.raises(OSError, match="No space left") as caught:
            fail(name)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "folder"))


def test_check_writable_accepts_a_new_place_and_leaves_no_file(tmp_path: Path) -> None:
    check_writable(tmp_path / "folder" / "file")
    assert list((tmp_path / "folder").iterdir()) == []


def test_check_writable_leaves_an_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    check_writable(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "old"


def test_check_writable_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        check_writable(tmp_path)


def test_check_writable_refuses_a_place_inside_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file"):
        check_writable(tmp_path / "file" / "inner")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_writable_refuses_a_protected_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "file")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_cache_root_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "own"
    monkeypatch.delenv("PCDISTILL_CACHE")
    assert cache_root() == tmp_path / "xdg" / "pcdistill"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "pcdistill"


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    there, link = tmp_path / "there" / "a.txt", tmp_path / "a.txt"
    there.parent.mkdir()
    link.symlink_to(there)
    for text in ("new", "newer"):  # of a link to nothing, and to something
        check_writable(link)
        with atomic(link) as temporary:
            temporary.write_text(text)
        assert (there.read_text(), link.is_symlink()) == (text, True)
    assert {path.name for path in tmp_path.rglob("*")} == {"there", "a.txt"}


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    for force in (True, False):
        with pytest.raises(InputError, match="pipe, which is a device or a pipe, expected a file"):
            check_output(pipe, force)
    with pytest.raises(InputError, match="a device or a pipe"), atomic(pipe):
        pass
    assert pipe.is_fifo()


def test_an_output_that_is_there_is_replaced_by_force_only(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    check_output(path, force=False)
    path.write_text("old")
    with pytest.raises(InputError, match=r"output: .*a\.h5, which is there, expected a new name, or --force"):
        check_output(path, force=False)
    check_output(path, force=True)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.h5"]


def test_a_name_that_is_too_long_with_what_is_put_beside_it_is_found_at_once(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 250)
    with pytest.raises(OSError, match="too long") as raised:
        check_writable(path)
    assert raised.value.filename == str(path)
