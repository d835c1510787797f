"""The files below a folder: every name taken literally, links followed, bounded in time and number.

Names that begin with a dot and what macOS adds (`__MACOSX`) are passed over.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path, PurePath

from assay.errors import AssayError, one_line

MOST = 5_000_000
"""The number of entries at which every walk ends."""
PATIENCE = 10.0
"""The seconds after which, and"""
GLANCE = 50_000
"""the number of entries after which at least"""
USEFUL = 0.1
"""this share of them must be files that are wanted; otherwise the folder is no image set."""
WAYS = 1000
"""The number of paths to one folder at which every walk ends: nine folders that link to one another
are a million paths."""


@dataclass(frozen=True)
class File:
    """A file: its path below the folder, part by part, and what changes when it changes."""

    parts: tuple[str, ...]
    stamp: tuple[int, int, int]
    """Bytes, and the times of the last change of its content and of its place (ns)."""
    node: tuple[int, int]
    """Device and inode: the same for a file that is reached in two ways."""

    @property
    def suffix(self) -> str:
        return PurePath(self.parts[-1]).suffix.lower()

    def path(self, root: Path) -> Path:
        return root.joinpath(*self.parts)

    def __str__(self) -> str:
        return printable("/".join(self.parts))


@dataclass(frozen=True)
class Listing:
    """What is below a folder.

    Attributes:
        files: in the order of their paths.
        folders: the paths of all folders, empty ones too.
        notes: what was passed over, and why.
    """

    root: Path
    files: tuple[File, ...]
    folders: frozenset[tuple[str, ...]]
    notes: tuple[str, ...]


def walk(root: Path, wanted: Set[str]) -> Listing:
    """List what is below `root`; `wanted` are the suffixes that an image set is made of.

    A link to a folder is followed, unless it leads back to a folder that it lies in.

    Raises:
        AssayError: for a folder that cannot be read, or that is no image set: too many entries,
            too few of them wanted, or links in a tangle.
    """
    files: list[File] = []
    folders: set[tuple[str, ...]] = set()
    back: list[str] = []
    other: list[str] = []
    ways: Counter[tuple[int, int]] = Counter()
    seen, useful, start = 0, 0, time.monotonic()
    here = root.resolve()
    top = frozenset(_node(path) for path in (here, *here.parents))
    waiting: list[tuple[tuple[str, ...], frozenset[tuple[int, int]]]] = [((), top)]
    while waiting:
        parts, above = waiting.pop()
        for name in _names(root, parts):
            seen += 1
            if seen % 1000 == 0:
                _bounded(root, seen, useful, time.monotonic() - start)
            if name.startswith(".") or name == "__MACOSX":
                continue
            path = (*parts, name)
            try:
                found = root.joinpath(*path).stat()
            except OSError:  # a link to nothing, or to itself
                other.append("/".join(path))
                continue
            node = (found.st_dev, found.st_ino)
            if stat.S_ISDIR(found.st_mode):
                if node in above:
                    back.append("/".join(path))
                else:
                    folders.add(path)
                    ways[node] += 1
                    if ways[node] > WAYS:
                        raise AssayError(_entangled(root, path))
                    waiting.append((path, above | {node}))
            elif stat.S_ISREG(found.st_mode):
                stamp = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                files.append(File(path, stamp, node))
                useful += files[-1].suffix in wanted
            else:
                other.append("/".join(path))
    files.sort(key=lambda file: "/".join(file.parts))
    notes = []
    if back:
        notes.append(f"{listed(sorted(back))} leads back to a folder above it: not followed")
    if other:
        notes.append(f"{listed(sorted(other))} is no file: not read")
    return Listing(root, tuple(files), frozenset(folders), tuple(notes))


def _names(root: Path, parts: tuple[str, ...]) -> list[str]:
    try:
        return sorted(path.name for path in root.joinpath(*parts).iterdir())
    except OSError as error:
        shown = printable(str(root.joinpath(*parts)))
        raise AssayError(
            f"{one_line(shown, 120)} cannot be read ({error.strerror}): an image set is read whole"
        ) from error


def _node(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _bounded(root: Path, seen: int, useful: int, seconds: float) -> None:
    judged = seen >= GLANCE or seconds > PATIENCE
    if seen < MOST and not (judged and useful < USEFUL * seen):
        return
    raise AssayError(
        f"{printable(str(root))} is no image set: of the first {seen:,} entries below it "
        f"{useful:,} are images; give the folder that holds train/ and test/, or the classes"
    )


def _entangled(root: Path, path: tuple[str, ...]) -> str:
    return (
        f"{printable(str(root))} is no image set: links lead to one folder by more than {WAYS:,} "
        f"paths, {one_line(printable('/'.join(path)), 80)} for one; remove some of them"
    )


def listed(names: list[str], most: int = 3) -> str:
    """Return the first few names in one line, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(one_line(printable(name), 60) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def printable(name: str) -> str:
    r"""Return a file's name as text: bytes that are not UTF-8, and control characters, escaped.

    >>> printable("caf\udce9"), printable("two\nlines")
    ('caf\\xe9', 'two\\nlines')
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        c.encode("unicode_escape").decode() if ord(c) < 32 or c in "\x7f\u2028\u2029" else c
        for c in text
    )
