"""Who writes the folder of a study or an audit: it is locked from when it is made until its
run.json is there, so that nobody takes it for what a killed process left."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_WRITTEN: dict[Path, int] = {}
"""The folders that this process writes, each with what holds its lock."""


def begin(folder: Path) -> None:
    """Make a folder, if need be, and hold it; others may hold it too. The kernel lets go when the
    process ends, however it ends.

    Raises:
        OSError: it may not be made, or something else is there.
    """
    end(folder)
    while folder not in _WRITTEN:
        folder.mkdir(exist_ok=True)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # taken for a leftover in this moment
            continue
        with contextlib.suppress(OSError):  # a disk without locks: nobody is alone there
            fcntl.flock(handle, fcntl.LOCK_SH)
        if _is(folder, handle):
            _WRITTEN[folder] = handle
        else:  # another has taken its place while we waited
            os.close(handle)


def end(folder: Path) -> None:
    """Let go of a folder, whether or not it is held."""
    handle = _WRITTEN.pop(folder, None)
    if handle is not None:
        with contextlib.suppress(OSError):  # whoever was forked meanwhile lets go too
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Keep others from beginning to write a folder, if nobody does; yields whether that is so."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield not folder.exists()
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or a disk without locks
            yield False
        else:
            yield _is(folder, handle)
    finally:
        os.close(handle)


def _is(folder: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False
