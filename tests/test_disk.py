"""Files are whole or not there; nothing is left by exceptions, nor for long by kills."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assay import disk
from assay.disk import (
    DiskFull,
    disk_is_full,
    make_folder,
    writable,
    write_atomic,
    writing,
    writing_together,
)
from assay.errors import AssayError


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_content_and_nothing_else(tmp_path: Path, monkeypatch, step):
    path = tmp_path / "metrics.json"
    write_atomic(path, "old")

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[step], refuse)
    with pytest.raises(DiskFull, match="no space left") as caught:
        write_atomic(path, "new")
    monkeypatch.undo()
    assert disk_is_full(caught.value)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["metrics.json"]


def test_a_read_only_disk_is_the_users_affair_and_other_errors_are_not(tmp_path: Path, monkeypatch):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    code = errno.EROFS
    with pytest.raises(AssayError, match="Read-only file system; choose another place"):
        write_atomic(tmp_path / "a", "x")
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(tmp_path / "a", "x")


def test_an_exception_while_writing_leaves_nothing(tmp_path: Path):
    def interrupted() -> None:
        with writing(tmp_path / "a") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_recognised_through_other_exceptions():
    error = RuntimeError("could not save the model")
    error.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert disk_is_full(error)
    assert disk_is_full(RuntimeError("No space left on device (os error 28)"))
    assert not disk_is_full(RuntimeError("no luck"))


# -- several files -----------------------------------------------------------------------------


def write(folder: Path, **files: str) -> None:
    with writing_together(folder) as part:
        for name, text in files.items():
            (part / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_files_that_belong_together_come_together(tmp_path: Path):
    (tmp_path / "other").write_text("stays")
    write(tmp_path / "new" / "out", a="1", b="2")
    write(tmp_path / "new" / "out", a="3")
    assert contents(tmp_path / "new" / "out") == {"a": "3", "b": "2"}


def test_an_exception_between_two_files_leaves_neither(tmp_path: Path):
    write(tmp_path, a="old")

    def interrupted() -> None:
        with writing_together(tmp_path) as part:
            (part / "a").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(tmp_path) == {"a": "old"}


def test_a_folder_where_a_file_is_to_be_stops_all_of_them(tmp_path: Path):
    (tmp_path / "b").mkdir()
    with pytest.raises(AssayError, match=r"b is a folder, not a file to write"):
        write(tmp_path, a="1", b="2")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_full_disk_leaves_all_that_was_there(tmp_path: Path, monkeypatch):
    write(tmp_path, a="old", b="old")
    synchronised, count = os.fsync, 0

    def refuse_the_second(handle: int) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synchronised(handle)

    monkeypatch.setattr(os, "fsync", refuse_the_second)
    with pytest.raises(DiskFull):
        write(tmp_path, a="new", b="new")
    monkeypatch.undo()
    assert contents(tmp_path) == {"a": "old", "b": "old"}


# -- kills -------------------------------------------------------------------------------------

FILE = "with disk.writing(Path('a')) as f: f.write(b'half'); wait()"
FOLDER = "with disk.writing_together(Path('.')) as f: (f / 'a').write_text('half'); wait()"


def halfway(code: str, folder: Path) -> subprocess.Popen[str]:
    """Start a process that is in the middle of writing `a` in a folder."""
    program = (
        "import time; from pathlib import Path; from assay import disk\n"
        "def wait(): print('halfway', flush=True); time.sleep(60)\n" + code
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "halfway\n"
    return process


@pytest.mark.parametrize("code", [FILE, FOLDER])
def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path: Path, code: str):
    def write_a(text: str) -> None:
        write_atomic(tmp_path / "a", text) if code is FILE else write(tmp_path, a=text)

    with halfway(code, tmp_path) as process:
        (left,) = tmp_path.iterdir()
        write_a("by another")
        assert left.exists(), "what another process still writes is not left over"
        process.send_signal(signal.SIGKILL)
    assert {path.name for path in tmp_path.iterdir()} == {"a", left.name}
    write_atomic(tmp_path / "b", "of another name")
    assert left.exists()
    write_a("whole")
    assert contents(tmp_path) == {"a": "whole", "b": "of another name"}


def test_a_file_that_is_taken_for_a_leftover_is_begun_again(tmp_path: Path, monkeypatch):
    """Between the moment that a file is made and that it is locked, another process removes it."""
    removed: list[Path] = []

    def late(*_: int) -> None:
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    write_atomic(tmp_path / "a", "whole")
    assert removed
    assert contents(tmp_path) == {"a": "whole"}


@pytest.mark.parametrize("name", ["x" * 300, "no/such/folder/a"])
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, name: str):
    with pytest.raises(AssayError, match=r"cannot write .*; choose another place"):
        write_atomic(tmp_path / name, "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AssayError, match=r"cannot write .*Not a directory; choose another place"):
        make_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("x" * 300, "File name too long"),
        ("new/" + "x" * 300, "File name too long"),
        ("y/" * 2100, "File name too long"),
        ("/proc/x", "No such file"),
        ("/dev/null", "below a file, /dev/null"),
        ("/dev/null/new", "below a file, /dev/null"),
        ("bad\udcff", "not UTF-8"),
        ("~nouser/out", "is no path"),
    ],
)
def test_a_folder_that_cannot_be_written_is_said_first(tmp_path: Path, monkeypatch, folder, why):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssayError, match=why) as caught:
        writable(Path(folder))
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()
    assert not list(tmp_path.iterdir()), "something was left"


def test_what_is_tried_out_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert writable(Path("~/new/out")) == tmp_path / "new" / "out"
    assert not list(tmp_path.iterdir())
    (tmp_path / "there").mkdir()
    assert writable(tmp_path / "there" / "new") == tmp_path / "there" / "new"
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    with pytest.raises(AssayError, match="File name too long"):
        writable(tmp_path / "new", "x" * 250)


def test_a_folder_that_is_taken_for_a_leftover_before_it_is_locked_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, taken = os.open, []

    def swept(path: Path, *flags: int, **more: Any) -> int:
        if not taken and ".together." in str(path):
            taken.append(path)
            Path(path).rmdir()
        return build(path, *flags, **more)

    monkeypatch.setattr(os, "open", swept)
    with writing_together(tmp_path) as part:
        (part / "a").write_text("1")
    assert [len(taken), *(file.name for file in tmp_path.iterdir())] == [1, "a"]


def test_what_is_tried_out_may_be_swept_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = disk._begun

    def swept(path: Path) -> Any:
        file, temporary = build(path)
        temporary.unlink()
        return file, temporary

    monkeypatch.setattr(disk, "_begun", swept)
    assert writable(tmp_path) == tmp_path
