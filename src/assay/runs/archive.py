"""One file with a study, an audit or a trial and all that it rests on: `assay export` and `import`.

A tar whose first member, manifest.json, names every other with its size and SHA-256. Its bytes
depend on its content alone. What is read was perhaps made by others: the whole of it is compared
with the manifest before anything is written, only plain files with plain names are taken, and none
of it decides how much memory it gets.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from assay.disk import DiskFull, make_folder, writable, writing
from assay.errors import AssayError, expanded, one_line
from assay.runs.entry import RECORD, SCHEMA, TRIAL, Entry, document_of
from assay.runs.files import to_json
from assay.runs.parcels import (
    Damaged,
    Files,
    Moved,
    Place,
    Target,
    copy_checked,
    in_order,
    last_of,
    move,
    refuse_names,
    rests_on,
)
from assay.runs.store import FOLDERS, RUN, Run, Store
from assay.runs.trial import Trial

MANIFEST = "manifest.json"
LONGEST_MANIFEST = 64 * 2**20
LONGEST_DOCUMENT = 64 * 2**20
ENDINGS = (".tar", ".tar.gz", ".tgz")


def parcels_of(store: Store, found: Run | Entry) -> tuple[list[str], list[str]]:
    """Return the names of a run, or of a trial, and of all the trials that it rests on; and the
    addresses of those that are not in the store, or not finished."""
    addresses = rests_on(store, found)
    there = [address for address in addresses if store.result(address) is not None]
    names = sorted(f"trials/{address[:12]}" for address in there)
    if isinstance(found, Run):
        names.append(f"{FOLDERS[found.kind]}/{found.id}")
    return names, [address for address in addresses if address not in there]


def write(source: Place, parcels: list[str], path: Path) -> int:
    """Write an archive of parcels; return its size in bytes.

    Args:
        path: ends in .tar, .tar.gz or .tgz; nothing may be there.

    Raises:
        AssayError: for another name, for a file that is there, and for damaged files.
    """
    path = expanded(path)
    if not path.name.endswith(ENDINGS):
        raise AssayError(f"{path} is no name of an archive; end it in .tar or .tar.gz")
    if path.exists():
        raise AssayError(f"{path} is there already; give another name")
    writable(path.parent, path.name)
    tables = {}
    for parcel in parcels:
        files = source.files(parcel)
        if files is None:
            raise AssayError(f"{parcel} is no longer in {source.name}; give the same command again")
        tables[parcel] = {name: list(files[name]) for name in in_order(parcel, files)}
    manifest = to_json({"schema": SCHEMA, "parcels": tables}, indent=1).encode()
    make_folder(path.parent)
    with writing(path) as out:
        if path.name.endswith(".tar"):
            _fill(out, source, tables, manifest)
        else:
            with gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0) as packed:
                _fill(packed, source, tables, manifest)
    return path.stat().st_size


def _fill(out: Any, source: Place, tables: Mapping[str, Any], manifest: bytes) -> None:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_member(MANIFEST, len(manifest)), io.BytesIO(manifest))
        for parcel, files in tables.items():
            for name, (size, mark) in files.items():
                with source.open(parcel, name) as file, Path(os.devnull).open("wb") as nowhere:
                    copy_checked(file, nowhere, (size, mark), f"{parcel}/{name} of {source.name}")
                    file.seek(0)
                    archive.addfile(_member(f"{parcel}/{name}", size), file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644  # dated 1970, nobody's, whenever it is written
    return member


class Archive:
    """An archive as a place to take parcels from; it is whole, or cannot be opened.

    Raises:
        AssayError: it is no archive of ours, is damaged, or has something in it that none of ours
            has (a link, a path that leads out of it).
    """

    def __init__(self, path: Path) -> None:
        self.path = expanded(path)
        if not self.path.is_file():
            raise AssayError(f"there is no archive {path}")
        try:
            with _unpacked(self.path) as archive:
                self.tables = _verified(archive, self.name)
        except UNREADABLE as error:
            why = one_line(str(error) or type(error).__name__, 80)
            raise AssayError(f"{path} is no whole archive: {why}") from error

    @property
    def name(self) -> str:
        return str(self.path)

    def there(self) -> bool:
        return self.path.is_file()

    def parcels(self) -> Iterator[str]:
        yield from sorted(
            self.tables, key=lambda parcel: (not parcel.startswith("trials/"), parcel)
        )

    def files(self, parcel: str) -> Files | None:
        return self.tables.get(parcel)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep the file open for all that is read meanwhile."""
        with _unpacked(self.path) as self._archive:
            yield

    @property
    def size(self) -> int:
        """The bytes of all files in it."""
        return sum(size for files in self.tables.values() for size, _ in files.values())

    def open(self, parcel: str, file: str) -> AbstractContextManager[IO[bytes]]:
        found = self._archive.extractfile(f"{parcel}/{file}")
        assert found is not None  # it was verified to be a file
        return found


NONSENSE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
UNREADABLE = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error)
BLOCK, AT_ONCE, HEADER = 512, 2**20, 1000


class _Sips:
    """The bytes of a tar, of which nobody may take much at once: tarfile would read a header that
    says that it is long to the end, and a list of holes in a file that never ends."""

    def __init__(self, file: Any) -> None:
        self.file, self.blocks = file, 0

    def read(self, size: int) -> bytes:
        self.blocks = self.blocks + 1 if size == BLOCK else 0
        if not 0 <= size <= AT_ONCE or self.blocks > HEADER:
            raise tarfile.ReadError("a header without a sensible length")
        return bytes(self.file.read(size))

    def seek(self, place: int) -> int:
        return int(self.file.seek(place))

    def tell(self) -> int:
        return int(self.file.tell())


@contextmanager
def _unpacked(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar that is packed by gzip or not at all."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        plain: Any = gzip.GzipFile(fileobj=file) if packed else nullcontext(file)
        with plain as content:
            sips: Any = _Sips(content)
            with tarfile.TarFile(fileobj=sips) as archive:
                yield archive


def _verified(archive: tarfile.TarFile, name: str) -> dict[str, Files]:
    """Return what the manifest says, once all of the archive is seen to be as it says."""
    tables = _manifest(archive, name)
    left = {f"{parcel}/{file}": mark for parcel in tables for file, mark in tables[parcel].items()}
    waiting: dict[str, dict[str, bytes]] = defaultdict(dict)  # by parcel, until it is whole
    for row, member in enumerate(archive):
        if row == 0:  # the manifest; a second one would be like any other that it does not name
            continue
        called = one_line(repr(member.name), 80)
        if not member.isreg() or member.issparse():
            raise AssayError(f"{name}: {called} is no plain file: refused")
        if member.name not in left:
            raise AssayError(f"{name}: {called} is not in its manifest, or twice: refused")
        expected = left.pop(member.name)
        if member.size != expected[0]:
            raise Damaged(f"{name}: {called} has {member.size} bytes, not {expected[0]}")
        parcel, _, file = member.name.rpartition("/")
        wanted = _documents(parcel, tables)
        if file in wanted and member.size > LONGEST_DOCUMENT:
            raise AssayError(f"{name}: {called} has {member.size} bytes: refused")
        source = archive.extractfile(member)
        assert source is not None
        with io.BytesIO() if file in wanted else Path(os.devnull).open("wb") as seen:
            copy_checked(source, seen, expected, f"{name}: {called}")
            if not isinstance(seen, io.BytesIO):
                continue
            waiting[parcel][file] = seen.getvalue()
        if waiting[parcel].keys() == wanted:
            if not _hangs_together(parcel, tables[parcel], waiting.pop(parcel), name):
                raise Damaged(f"{name}: {parcel} is not what its own files say it is")
        elif sum(len(one) for kept in waiting.values() for one in kept.values()) > LONGEST_DOCUMENT:
            raise AssayError(f"{name}: the documents of {parcel} are far apart: refused")
    if left:
        raise Damaged(f"{name}: {one_line(next(iter(left)), 80)!r} is missing: it was cut short")
    return tables


def _documents(parcel: str, tables: Mapping[str, Files]) -> set[str]:
    """Return the files of a parcel that say what it is; of what is none, none."""
    wanted = {TRIAL, RECORD} if parcel.startswith("trials/") else {RUN}
    return wanted & tables.get(parcel, {}).keys()


def _manifest(archive: tarfile.TarFile, name: str) -> dict[str, Files]:
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.issparse():
        raise AssayError(f"{name} does not begin with a {MANIFEST}: `assay export` did not make it")
    source = archive.extractfile(first) if first.size <= LONGEST_MANIFEST else None
    content = b"".join(iter(partial(source.read, AT_ONCE), b"")) if source else b""
    document = document_of(content, f"{name}: {MANIFEST}")
    try:
        assert document is not None
        tables: dict[str, Files] = {
            parcel: {file: (int(size), str(mark)) for file, (size, mark) in files.items()}
            for parcel, files in document["parcels"].items()
        }
    except (*NONSENSE, AssertionError) as error:
        raise AssayError(f"{name}: no sense can be made of its {MANIFEST}") from error
    for parcel, files in tables.items():
        refuse_names(parcel, files)
        if last_of(parcel) not in files:
            raise AssayError(f"{name}: {parcel} is not finished: it has no {last_of(parcel)}")
    return tables


def _hangs_together(parcel: str, files: Files, documents: Mapping[str, bytes], name: str) -> bool:
    """Return whether a trial has the address and the files that it says, a run its kind."""
    last = document_of(documents[last_of(parcel)], f"{name}: {parcel}") or {}
    shelf, _, folder = parcel.partition("/")
    if shelf != "trials":
        return any(last.get("kind") == kind and shelf == place for kind, place in FOLDERS.items())
    kept = document_of(documents.get(TRIAL, b""), f"{name}: {parcel}") or {}
    try:
        trial = Trial.model_validate(kept.get("trial"))
        recorded = {file: tuple(mark) for file, mark in last["files"].items()}
    except (ValidationError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return (
        trial.short == folder
        and last.get("address") == trial.address
        and recorded.items() <= files.items()
    )


def import_(path: Path, target: Target) -> Moved:
    """Take what an archive holds and a place lacks; nothing is written if any of it is damaged.

    Raises:
        DiskFull: there is no room for it.
        AssayError: it is no whole archive, or the place cannot be written.
    """
    archive = Archive(path)
    free = target.free()
    if archive.size > free:
        raise DiskFull(
            f"{path} holds {archive.size / 1e9:.1f} GB, and {target.name} has room for "
            f"{free / 1e9:.1f} GB"
        )
    with archive.opened():
        return move(archive, target)
