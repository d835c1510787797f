"""What moves between stores as one: a finished trial, study or audit, with a checksum per file.

A place is anything that holds them: the folder of a store (`Folder`), an archive (`archive`), a
bucket (`bucket`). Moving is the same between any two: every file is compared with its checksum on
the way, and what says that a thing is finished arrives last.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Literal, Protocol

from assay.disk import TEMPORARY, file_digest, make_folder, making, writing
from assay.errors import AssayError, one_line
from assay.runs import folders
from assay.runs.entry import (
    CHECKPOINT,
    FAILURE,
    LOCK,
    LOG,
    PROGRESS,
    RECORD,
    TRIAL,
    UNRECORDED,
    Entry,
    hold,
    read_entry,
)
from assay.runs.store import JOURNAL, RUN, SHELVES, Run, Store, read_run
from assay.runs.trial import Trial

Files = Mapping[str, tuple[int, str]]
"""Of each file of a parcel, by its name: how many bytes it has, and their SHA-256."""
Opened = Callable[[str], AbstractContextManager[IO[bytes]]]
"""Opens a file of a parcel by its name."""
Kept = Literal["new", "there", "differs", "busy"]
"""What became of a parcel at a place: it is new there; was there already, the same; something else
is there, which stays; a process works on it there."""

NAME = re.compile(r"trials/[0-9a-f]{12}|(?:studies|audits)/[A-Za-z0-9_][A-Za-z0-9._-]*")

LONGEST = 200
"""Bytes that a name may have: 255 are what a disk takes, and a file is written beside its place."""

UNFINISHED = (FAILURE, PROGRESS, LOCK, CHECKPOINT)
"""What the folder of a trial has only while it is not finished."""


class Damaged(AssayError):
    """The bytes of a file are not those that its checksum was taken of."""


class Place(Protocol):
    """Something that holds parcels. Their names are those of a store: "trials/<address[:12]>"."""

    def there(self) -> bool:
        """Return whether there is such a place."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def parcels(self) -> Iterator[str]:
        """Yield the names of what is finished here: trials first, then studies and audits."""
        ...

    def files(self, parcel: str) -> Files | None:
        """Return the files of a parcel; None where it is not here, or not finished."""
        ...

    def open(self, parcel: str, file: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for reading."""
        ...


class Target(Place, Protocol):
    """A place that takes parcels."""

    def prepare(self) -> None:
        """See that the place may be written.

        Raises:
            AssayError: it may not.
        """
        ...

    def free(self) -> float:
        """Return how many bytes more it can hold."""
        ...

    def using(self) -> AbstractContextManager[None]:
        """Keep what the block brings from being taken for litter before a study names it."""
        ...

    def sound(self, parcel: str) -> bool:
        """Return whether the files of a parcel that is here are there, each with its size."""
        ...

    def keep(self, parcel: str, files: Files, opened: Opened) -> Kept:
        """Take a parcel, unless a sound one of its name is here; it is here whole, or not at all.

        Raises:
            Damaged: a file is not what its checksum says.
            AssayError: the place cannot be written.
        """
        ...


@dataclass
class Moved:
    """What came of moving parcels from one place to another, by name.

    Attributes:
        new: they are at the target now.
        there: the same was there before.
        differs: the target has something else of that name, and keeps it.
        busy: a process works on them at the target.
        damaged: their files are not what their checksums say; why.
    """

    new: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)


def move(source: Place, target: Target) -> Moved:
    """Copy what the target lacks, trials before the studies that name them.

    Raises:
        AssayError: one of the places cannot be read or written.
    """
    target.prepare()
    moved = Moved()
    with target.using():
        for parcel in source.parcels():
            _move_one(parcel, source, target, moved)
    return moved


def _move_one(parcel: str, source: Place, target: Target, moved: Moved, tries: int = 3) -> None:
    """Copy a parcel; what is written anew at the source meanwhile is begun again."""
    try:
        files = source.files(parcel)
    except AssayError as error:  # of one parcel: the others are moved
        moved.damaged[parcel] = str(error)
        return
    if files is None:  # it went in this moment
        return
    try:
        held = target.files(parcel)
        sound = held is not None and target.sound(parcel)
    except AssayError as error:  # a newer assay has put it there
        moved.damaged[parcel] = str(error)
        return
    if held is not None and sound:
        (moved.there if same(parcel, files, held) else moved.differs).append(parcel)
        return
    try:
        kept = target.keep(parcel, files, partial(_unchanged, source, parcel, files))
    except Damaged as error:
        if tries > 1 and source.files(parcel) != files:
            _move_one(parcel, source, target, moved, tries - 1)
        else:
            moved.damaged[parcel] = str(error)
    else:
        getattr(moved, kept).append(parcel)


def _unchanged(
    source: Place, parcel: str, files: Files, file: str
) -> AbstractContextManager[IO[bytes]]:
    """Open a file; before the last one see that nobody has written others meanwhile."""
    if file == last_of(parcel) and source.files(parcel) != files:
        raise Damaged(f"{parcel} was written anew while it was copied")
    return source.open(parcel, file)


def same(parcel: str, a: Files, b: Files) -> bool:
    """Return whether two parcels of a name hold the same. Trials do if their results are the same
    bytes: record, log and label say who ran them, and when."""
    if not parcel.startswith("trials/"):
        return dict(a) == dict(b)
    one, two = ({k: v for k, v in files.items() if k not in UNRECORDED} for files in (a, b))
    return one == two


def rests_on(store: Store, found: Run | Entry) -> list[str]:
    """Return the addresses of the trials of a run, or of a trial, and of all that these need."""
    wanted: dict[str, None] = {}

    def take(trial: Trial) -> None:
        if trial.address not in wanted:
            wanted[trial.address] = None
            for need in trial.needs:
                take(need)

    if isinstance(found, Entry):
        take(found.trial)
        return list(wanted)
    for address in found.trials:
        entry = store.stored(address)
        if entry is None:
            wanted.setdefault(address)
        else:
            take(entry.trial)
    return list(wanted)


def refuse_names(parcel: str, files: Files) -> None:
    """Refuse names by which a file would lie outside of its parcel, or pass for a store's own.

    Raises:
        AssayError: names one.
    """
    if not NAME.fullmatch(parcel):
        raise AssayError(f"{one_line(repr(parcel), 80)} is no name of a trial, study or audit")
    for name in files:
        parts = name.split("/")
        odd = not name.isprintable() or "\\" in name or ":" in name
        if odd or any(part in ("", ".", "..") for part in parts) or parts[0] in UNFINISHED:
            raise AssayError(f"{parcel} has a file called {one_line(repr(name), 80)}: refused")
        if any(len(part.encode()) > LONGEST for part in parts):
            raise AssayError(f"{parcel} has a file with a name of over {LONGEST} bytes: refused")
        above = ("/".join(parts[:k]) for k in range(1, len(parts)))
        if found := next((folder for folder in above if folder in files), None):
            raise AssayError(f"{parcel} has {one_line(found, 60)} as file and as folder: refused")


def last_of(parcel: str) -> str:
    """Return the file that says that a parcel is finished."""
    return RECORD if parcel.startswith("trials/") else RUN


def in_order(parcel: str, files: Files) -> list[str]:
    """Return the files in the order in which they are written."""
    last = last_of(parcel)
    return sorted(files, key=lambda name: (name == last, name))


def copy_checked(
    source: IO[bytes], target: IO[bytes], expected: tuple[int, str], what: str
) -> None:
    """Copy a file, and compare what was copied with its checksum.

    Raises:
        Damaged: it differs.
    """
    seen, size = hashlib.sha256(), 0
    while block := source.read(2**20):
        seen.update(block)
        size += len(block)
        target.write(block)
    if (size, seen.hexdigest()) != tuple(expected):
        raise Damaged(f"{what} is damaged: {size} bytes that are not those of its checksum")


class Folder:
    """The folder of a store as a place."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def name(self) -> str:
        return str(self.store.root)

    def there(self) -> bool:
        return self.store.root.is_dir()

    def prepare(self) -> None:
        self.store.prepare()

    def free(self) -> float:
        root = self.store.root
        there = next(path for path in (root, *root.parents) if path.exists())
        return shutil.disk_usage(there).free

    def using(self) -> AbstractContextManager[None]:
        return self.store.using()

    def parcels(self) -> Iterator[str]:
        for shelf in SHELVES:
            for path in self.store.folders(shelf):
                parcel = f"{shelf}/{path.name}"
                if NAME.fullmatch(parcel) and (path / last_of(parcel)).is_file():
                    yield parcel

    def files(self, parcel: str) -> Files | None:
        folder = self.store.root / parcel
        if parcel.startswith("trials/"):
            entry = read_entry(folder)
            result = entry.result() if entry is not None else None
            if result is None:
                return None
            beside = [name for name in (TRIAL, RECORD, LOG) if (folder / name).is_file()]
            recorded = {name: (size, mark) for name, (size, mark) in result.record["files"].items()}
            return recorded | {name: _marked(folder / name) for name in beside}
        if read_run(folder) is None:
            return None
        found = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {
            path.relative_to(folder).as_posix(): _marked(path)
            for path in found
            if not path.name.endswith(TEMPORARY)
        }

    def sound(self, parcel: str) -> bool:
        del parcel
        return True  # `files` has compared the sizes

    def open(self, parcel: str, file: str) -> AbstractContextManager[IO[bytes]]:
        try:
            return (self.store.root / parcel / file).open("rb")
        except OSError as error:
            raise Damaged(f"{parcel}/{file} of {self.name}: {error.strerror}") from error

    def keep(self, parcel: str, files: Files, opened: Opened) -> Kept:
        refuse_names(parcel, files)
        if not parcel.startswith("trials/"):
            return self.keep_run(parcel, files, opened)
        folder = self.store.root / parcel
        with hold(folder) as held:
            if not held:
                return "busy"
            there = self.files(parcel)
            if there is not None:  # it was finished in this moment
                return "there" if same(parcel, files, there) else "differs"
            begun = read_entry(folder)
            if begun is not None:
                begun.clear()
            try:
                self._write(parcel, folder, files, opened)
            except BaseException:
                if begun is None:
                    shutil.rmtree(folder, ignore_errors=True)
                for name in files.keys() - {TRIAL, LOG}:
                    (folder / name).unlink(missing_ok=True)
                raise
            arrived = read_entry(folder)
            if arrived is not None:
                arrived.tidy()
        return "new"

    def keep_run(self, parcel: str, files: Files, opened: Opened, *, replace: bool = False) -> Kept:
        """Take a study or an audit: its folder appears whole.

        Args:
            replace: the one that is here goes, once the other has arrived.
        """
        folder = self.store.root / parcel
        if (folder / JOURNAL).exists():  # a sweep goes on from it
            return "busy"
        try:
            with making(folder) as made:
                self._write(parcel, made, files, opened)
                with folders.alone(folder) as ours:
                    if not ours:
                        raise FileExistsError(folder)
                    # without it, what a killed process left
                    if folder.is_dir() and (replace or not (folder / RUN).exists()):
                        shutil.rmtree(folder)
        except FileExistsError:  # a process writes it, or it came in this moment
            if not (folder / RUN).exists():
                return "busy"
            there = self.files(parcel)
            return "there" if there is not None and same(parcel, files, there) else "differs"
        return "new"

    def _write(self, parcel: str, folder: Path, files: Files, opened: Opened) -> None:
        for name in in_order(parcel, files):
            path = folder / name
            make_folder(path.parent)
            with opened(name) as source, writing(path) as target:
                copy_checked(source, target, files[name], f"{parcel}/{name}")


def _marked(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_size, file_digest(path)
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from error
