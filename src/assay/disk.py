"""Files that are whole or not there: written beside their place, and moved to it when they are.

An exception leaves nothing behind. What a killed process leaves goes when the same is written the
next time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from assay.errors import AssayError, expanded, nearest, one_line

TEMPORARY = ".tmp"
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
"""What another path mends; any other error is none of the user's."""
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
"""What reading a damaged zip raises, an .npz or a file of torch too."""


class DiskFull(AssayError):
    """There is no space left; it stops a study, and is no fault of a trial."""


@contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that appears at `path`, whole and on the disk, when the block ends.

    Args:
        durable: wait for the disk; without it a power cut (no kill) may leave it empty or away.

    Raises:
        DiskFull: there is no space left; what was at `path` stays.
        AssayError: `path` may not be written.
    """
    try:
        _sweep(path.parent, f".{path.name}.")
        file, temporary = _begun(path)
        try:
            with file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                temporary.replace(path)
            if durable:
                sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise refusal(error, path) from error


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Write a file so that a reader, or a power cut, meets the old content or the new one.

    Args:
        durable: as in `writing`; without it that holds for readers alone.

    Raises:
        DiskFull: there is no space left; the old content stays.
        AssayError: `path` may not be written.
    """
    with writing(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_together(folder: Path) -> Iterator[Path]:
    """Give an empty folder whose files appear in `folder` when the block ends: all of them or none.

    `folder` is made if need be.

    Raises:
        DiskFull: there is no space left; what was in `folder` stays.
        AssayError: `folder` may not be written, or has a folder where a file is to be.
    """
    make_folder(folder)
    try:
        _sweep(folder, ".together.")
        handle, temporary = _begun_folder(folder)
        try:
            yield temporary
            files = sorted(temporary.iterdir())
            for file in files:
                if (folder / file.name).is_dir():
                    raise AssayError(f"{folder / file.name} is a folder, not a file to write")
                sync(file)
            for file in files:
                file.replace(folder / file.name)
            sync(folder)
        finally:
            os.close(handle)
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise refusal(error, folder) from error


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Give an empty folder that appears at `folder` when the block ends, if nothing is there.

    Raises:
        FileExistsError: there is something by then; it stays.
        DiskFull: there is no space left.
        AssayError: it may not be made.
    """
    make_folder(folder.parent)
    try:
        prefix = f".{folder.name}."
        _sweep(folder.parent, prefix)
        handle, temporary = _begun_folder(folder.parent, prefix)
        try:
            yield temporary
            try:
                temporary.rename(folder)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise FileExistsError(errno.EEXIST, "there already", str(folder)) from error
                raise
            sync(folder.parent)
        finally:
            os.close(handle)
            shutil.rmtree(temporary, ignore_errors=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise refusal(error, folder) from error


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in, if need be.

    Raises:
        DiskFull: there is no space left.
        AssayError: it may not be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refusal(error, folder) from error


def not_text(path: Path) -> bool:
    """Return whether a path holds bytes that are not UTF-8, which no record can say."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return True
    return False


def data_folders() -> list[Path]:
    """Return the folders in which a data set is looked for by its name."""
    given = os.environ.get("ASSAY_DATA", "").split(os.pathsep)
    return [expanded(place) for place in given if place] + [Path("data")]


def cache_folder(cache: str | Path | None) -> Path:
    """Return where what can be made again is kept: `cache`, `$ASSAY_CACHE`, or the user's cache."""
    if cache is not None:
        return expanded(cache)
    if os.environ.get("ASSAY_CACHE"):
        return expanded(os.environ["ASSAY_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "assay"


def writable(folder: Path, name: str = "report.html") -> Path:
    """Return a folder as it is meant (~ is a home), tried out before anything runs for its sake.

    A file of that name is begun in it and taken away again, and so is what had to be made for it.

    Raises:
        DiskFull: there is no space left.
        AssayError: there can be no such folder, or it cannot be written.
    """
    folder = expanded(folder)
    shown = one_line(str(folder), 80)
    if not_text(folder):
        raise AssayError(f"{shown!r} is no path to write to: it is not UTF-8")
    broken = next((path for path in (folder, *folder.parents) if _leads_nowhere(path)), None)
    if broken is not None:
        raise AssayError(f"{shown}: {broken} is a link that leads nowhere; choose another place")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise AssayError(f"{shown} is or lies below a file, {there}; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file, temporary = _begun(folder / name)
        file.close()
        temporary.unlink(missing_ok=True)  # no longer locked: another may have swept it
    except OSError as error:
        raise refusal(error, Path(one_line(str(folder / name), 80))) from error
    finally:
        for path in missing:
            with contextlib.suppress(OSError):  # not made, or by now in use
                path.rmdir()
    return folder


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _begun(path: Path) -> tuple[IO[bytes], Path]:
    """Return a new file beside `path`, locked for as long as it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{TEMPORARY}")
        file = temporary.open("xb")
        if _held(file.fileno(), temporary):
            return file, temporary
        file.close()


def _begun_folder(folder: Path, prefix: str = ".together.") -> tuple[int, Path]:
    """Return a new folder in `folder`, locked for as long as the handle is open."""
    while True:
        temporary = folder / f"{prefix}{secrets.token_hex(6)}{TEMPORARY}"
        temporary.mkdir()
        try:
            handle = os.open(temporary, os.O_RDONLY)
        except FileNotFoundError:  # taken for a leftover already
            continue
        if _held(handle, temporary):
            return handle, temporary
        os.close(handle)


def _held(handle: int, path: Path) -> bool:
    """Lock what was just made, unless another process took it for a leftover before that."""
    with contextlib.suppress(OSError):  # a disk without locks: nobody takes anything there
        fcntl.flock(handle, fcntl.LOCK_EX)
    return path.exists()


def _sweep(folder: Path, prefix: str) -> None:
    """Remove what killed processes left of the same: nobody holds its lock any more."""
    for left in folder.glob(f"{glob.escape(prefix)}*{TEMPORARY}"):
        sweep(left)


def sweep(left: Path) -> bool:
    """Remove what a killed process left, unless a process is writing it; return whether it went."""
    with contextlib.suppress(OSError):
        handle = os.open(left, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        finally:
            os.close(handle)
    return not left.exists()


def being_written(path: Path) -> bool:
    """Return whether a process is writing a temporary file or folder now."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held, or a disk without locks: nobody takes anything there
        return True
    finally:
        os.close(handle)
    return False


def read_small(path: Path, most: int) -> bytes:
    """Return what a file holds, if it is a file and not longer than `most` bytes.

    Raises:
        AssayError: it is neither (a pipe or a device would never end), or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise AssayError(f"cannot read {path}: it is no file")
            content = file.read(most + 1)
    except OSError as error:
        raise AssayError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > most:
        raise AssayError(f"cannot read {path}: it is longer than {most / 1e6:g} MB")
    return content


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        AssayError: it cannot be read.
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise AssayError(f"cannot read {path}: {error.strerror}") from error


def file_digest(path: Path) -> str:
    """Return the same, and leave it to the caller what it means that a file cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Put a file on the disk, or the names in a folder: a file's own fsync leaves out its name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refusal(error: OSError, path: Path) -> Exception:
    """Return what to raise for an OSError while writing `path`: an AssayError where it is one."""
    if disk_is_full(error):
        return DiskFull(
            f"no space left on the disk for {path}; free some and give the same command again"
        )
    if error.errno in REFUSED:
        shown = one_line(str(path), 300)
        return AssayError(f"cannot write {shown}: {error.strerror}; choose another place")
    return error


def disk_is_full(error: BaseException | None) -> bool:
    """Return whether an exception, or one that caused it, says that the disk is full."""
    while error is not None:
        if isinstance(error, DiskFull) or "No space left on device" in str(error):
            return True
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def existing(path: Path) -> Path:
    """Return the path of a file.

    Raises:
        AssayError: there is none; names the one whose name is nearest.
    """
    if path.is_file():
        return path
    if path.is_dir():
        raise AssayError(f"{path} is a folder; name a file in it")
    if path.exists():
        raise AssayError(f"{path} is no file that can be read to its end: give one")
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    alike = [o.name for o in beside if o.is_file() and o.suffix == path.suffix]
    guess = nearest(path.name, alike)
    hint = f"; did you mean {path.parent / guess}?" if guess else ""
    raise AssayError(f"there is no file {path}{hint}")
