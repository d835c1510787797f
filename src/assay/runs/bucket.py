"""Parcels in an object store, or wherever else fsspec reaches: s3://bucket/path, memory://name.

    trials/<address[:12]>.1.json        what is finished: the size and SHA-256 of every file, and
    studies/<id>.1.json <id>.2.json …   where they are; written once, if nothing is there
    files/trials/<…>/<mark>/…           the files; the mark is a digest of all their checksums

Objects have no rename and no lock. So files lie in a folder that is named by their content, where
no other writer ever writes other bytes, and the one write that finishes a parcel is conditional
(S3: If-None-Match). Of two writers of a trial one is first, and the other learns it; a study that
is judged again gets the next number, and so does a trial whose files here are damaged. No decision
rests on a clock.
"""

from __future__ import annotations

import contextlib
import errno
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from assay.config import digest
from assay.errors import AssayError
from assay.runs.answers import advice, exists, said
from assay.runs.display import say
from assay.runs.entry import SCHEMA, document_of
from assay.runs.files import to_json
from assay.runs.parcels import (
    NAME,
    Damaged,
    Files,
    Kept,
    Opened,
    copy_checked,
    in_order,
    refuse_names,
    same,
)
from assay.runs.reach import file_system
from assay.runs.store import SHELVES

T = TypeVar("T")

SLOW = 10.0  # seconds after which a line says that an answer is not complete yet
PATIENCE = 90.0  # seconds for which something that fails is tried again
AT_ONCE = 500  # manifests that are asked for together
MARK, MARKED = "store.json", to_json({"schema": SCHEMA, "store": "assay"}).encode()
NO_STORE = (
    "{} gives other answers than a store would; a page to log in to the network, or a proxy, may "
    "stand before it"
)
FINISHED = re.compile(r"(.+)\.([1-9][0-9]{0,8})\.json")


class Version(NamedTuple):
    """What one manifest says: the files of a parcel, and the folder that they are in."""

    files: Files
    mark: str


class Bucket:
    """A place for parcels that is no folder of this machine.

    What fails is tried again for `PATIENCE` seconds; what would fail again (credentials that have
    expired, a bucket that is not there) is an error at once.

    Args:
        url: "s3://bucket/path", or what else fsspec knows. Endpoint, region and credentials are
            those of the environment (AWS_ENDPOINT_URL, AWS_PROFILE, ...).

    Raises:
        AssayError: fsspec is not installed, or does not know what is meant.
    """

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        self.fs, self.root = file_system(self.name)
        self.versions: dict[str, dict[int, Version]] = {}
        self.newer: dict[str, dict[int, str]] = {}  # what a newer assay wrote, and how to say so
        self.damaged: set[tuple[str, int]] = set()  # versions whose files were found to be
        self.sizes: dict[str, int] | None = None  # of all files, once they are looked at
        self.looked: float | None = None
        self.told_slow = False

    # -- reading ---------------------------------------------------------------------------------

    def look(self, within: float = 0.0) -> None:
        """See what is finished, unless that was seen within so many seconds."""
        if self.looked is not None and time.monotonic() - self.looked <= within:
            return
        there: dict[str, dict[int, str]] = {}
        for shelf in SHELVES:
            for path in self._listed(shelf):
                found = FINISHED.fullmatch(path.rpartition("/")[2])
                if found:
                    there.setdefault(f"{shelf}/{found[1]}", {})[int(found[2])] = path
        if not there:
            self._marked()
        self.versions, self.newer = _still(self.versions, there), _still(self.newer, there)
        new = [
            (parcel, number, path)
            for parcel, paths in there.items()
            for number, path in paths.items()
            if number not in self.versions.get(parcel, {})
            and number not in self.newer.get(parcel, {})
        ]
        told = bool(self.newer)
        for first in range(0, len(new), AT_ONCE):
            some = new[first : first + AT_ONCE]
            paths = [path for _, _, path in some]
            held = self._read(paths)
            for (parcel, number, _), content in zip(some, map(held.get, paths), strict=True):
                self._learn(parcel, number, content)
        if self.newer and not told:
            one = next(why for known in self.newer.values() for why in known.values())
            more = f"; so were {len(self.newer) - 1} more" if len(self.newer) > 1 else ""
            say(f"{one}{more}. The rest of it is used")
        self.looked = time.monotonic()

    def parcels(self) -> Iterator[str]:
        self.look()
        known = self.versions.keys() | self.newer.keys()
        for shelf in SHELVES:
            yield from sorted(name for name in known if name.startswith(f"{shelf}/"))

    def files(self, parcel: str) -> Files | None:
        last = self.last(parcel)
        return self.versions[parcel][last].files if last else None

    def last(self, parcel: str) -> int:
        """Return the number of the last version of a parcel, as of the last look; 0: none.

        Raises:
            AssayError: a newer assay wrote one of them.
        """
        self.look(within=float("inf"))
        for why in self.newer.get(parcel, {}).values():
            raise AssayError(why)
        return max(self.versions.get(parcel, {}), default=0)

    def sound(self, parcel: str) -> bool:
        """Return whether all files of a parcel are here, by their sizes; what they hold is compared
        with its checksums when it is brought. One listing tells of all parcels."""
        if self.sizes is None:
            self.sizes = self._sizes()
        last = self.last(parcel)
        version = self.versions[parcel][last]
        folder = f"files/{parcel}/{version.mark}"
        if all(self.sizes.get(f"{folder}/{name}") == n for name, (n, _) in version.files.items()):
            return True
        self.damaged.add((parcel, last))
        return False

    @contextmanager
    def open(self, parcel: str, file: str, number: int | None = None) -> Iterator[IO[bytes]]:
        """Open a file of a version; None: of the last one."""
        version = self.versions[parcel][number or self.last(parcel)]
        path = f"{self.root}/files/{parcel}/{version.mark}/{file}"
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder) / "file"
            try:
                self._ask(lambda: self.fs.get_file(path, str(here)))
            except FileNotFoundError as error:
                raise Damaged(f"{self.name} has lost {parcel}/{file}") from error
            with here.open("rb") as content:
                yield content

    def there(self) -> bool:
        """Return whether there is a store."""
        self.look()
        return bool(self.versions) or self._marked()

    def _marked(self) -> bool:
        """Return whether the bucket says that it is a store.

        Raises:
            AssayError: it says what no bucket does.
        """
        try:
            mark = self._ask(lambda: self.fs.cat_file(f"{self.root}/{MARK}"))
        except FileNotFoundError:
            return False
        if document_of(mark, f"{self.name}/{MARK}") is None:
            raise AssayError(NO_STORE.format(self.name))
        return True

    # -- writing ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """See that the bucket is there and may be written, before work is done for it.

        Raises:
            AssayError: it is not, or may not.
        """
        path = f"{self.root}/{MARK}"
        self._write(lambda: self.fs.pipe_file(path, MARKED))
        self._marked()
        self.look()

    def free(self) -> float:
        return float("inf")

    def using(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # nothing cleans a bucket

    def keep(self, parcel: str, files: Files, opened: Opened) -> Kept:
        """Take a parcel, unless a version of it is here, and is not the last one and damaged."""
        refuse_names(parcel, files)
        mark, last = self._upload(parcel, files, opened), self.last(parcel)
        number = last + 1 if (parcel, last) in self.damaged else 1
        while not self._create(parcel, number, files, mark):
            self.last(parcel)  # of a newer assay: that it is there is all that can be known
            first = self.versions.get(parcel, {}).get(number)
            if first is not None:
                self._forget(parcel, mark)
                return "there" if same(parcel, files, first.files) else "differs"
            number += 1  # no sense can be made of what is there
        return "new"

    def add_version(self, parcel: str, files: Files, opened: Opened) -> int:
        """Keep a study or an audit that may be here already as its next version; return its
        number. Earlier ones stay."""
        refuse_names(parcel, files)
        mark = self._upload(parcel, files, opened)
        number = max(self.versions.get(parcel, {}), default=0) + 1
        while not self._create(parcel, number, files, mark):
            number += 1
        return number

    def _upload(self, parcel: str, files: Files, opened: Opened) -> str:
        """Write the files where only the same bytes are ever written; return the mark."""
        mark = digest({name: list(found) for name, found in files.items()})[:12]
        folder = f"{self.root}/files/{parcel}/{mark}"
        for name in in_order(parcel, files):
            with opened(name) as source, tempfile.NamedTemporaryFile() as spool:
                copy_checked(source, spool, files[name], f"{parcel}/{name}")
                spool.flush()
                self._write(lambda: self.fs.put_file(spool.name, f"{folder}/{name}"))  # noqa: B023
        return mark

    def _create(self, parcel: str, number: int, files: Files, mark: str) -> bool:
        """Write a manifest if there is none; return whether it is ours that is there then."""
        path = f"{self.root}/{parcel}.{number}.json"
        table = {name: list(found) for name, found in files.items()}
        content = to_json({"schema": SCHEMA, "files": table, "mark": mark}).encode()
        with contextlib.suppress(FileExistsError):  # perhaps ours: an earlier answer was lost
            self._write(lambda: self.fs.pipe_file(path, content, mode="create"))
        try:  # nothing is finished before it can be read
            there = self._ask(lambda: self.fs.cat_file(path))
        except FileNotFoundError as error:
            raise AssayError(f"{self.name} has lost {parcel}.{number}.json at once") from error
        self._learn(parcel, number, there)
        return bool(there == content)

    def _forget(self, parcel: str, mark: str) -> None:
        """Remove what was uploaded in vain; where that is not allowed, it stays."""
        if all(version.mark != mark for version in self.versions.get(parcel, {}).values()):
            with contextlib.suppress(AssayError, FileNotFoundError):
                folder = f"{self.root}/files/{parcel}/{mark}"
                self._ask(lambda: self.fs.rm(folder, recursive=True))

    # -- asking, and asking again ----------------------------------------------------------------

    def _listed(self, shelf: str) -> list[str]:
        try:
            found = self._ask(
                lambda: self.fs.ls(f"{self.root}/{shelf}", detail=False, refresh=True)
            )
        except FileNotFoundError:
            return []
        return [str(path) for path in found]

    def _sizes(self) -> dict[str, int]:
        """Return the bytes of every file, by its path below the root."""
        try:
            found = self._ask(lambda: self.fs.find(f"{self.root}/files", detail=True, refresh=True))
        except FileNotFoundError:
            return {}
        root = f"{self.root.strip('/')}/files/"  # a root may have a folder called files itself
        ends = {f"files/{path.partition(root)[2]}": one for path, one in found.items()}
        return {name: int(one["size"]) for name, one in ends.items()}

    def _read(self, paths: list[str]) -> dict[str, bytes]:
        """Return what some objects hold; of those that fail only they are asked for again."""
        held: dict[str, bytes] = {}

        def ask() -> None:
            answers = self.fs.cat([p for p in paths if p not in held], on_error="return")
            for path, answer in answers.items():
                if isinstance(answer, bytes):
                    held[path] = answer
                elif isinstance(answer, FileNotFoundError):  # it went in this moment
                    held[path] = b""
            failed = [answer for path, answer in answers.items() if path not in held]
            if failed:
                raise failed[0]

        self._ask(ask)
        return held

    def _learn(self, parcel: str, number: int, content: bytes | None) -> None:
        """Take note of a manifest, which may be another's: of one that makes no sense nothing."""
        if not NAME.fullmatch(parcel):
            return
        try:
            document = document_of(content or b"", f"{self.name}/{parcel}.{number}.json") or {}
        except AssayError as error:  # a newer assay's: it alone is left out
            self.newer.setdefault(parcel, {})[number] = str(error)
            return
        odd = (KeyError, TypeError, ValueError, AttributeError, OverflowError, AssayError)
        with contextlib.suppress(*odd):
            files = {name: (int(n), str(mark)) for name, (n, mark) in document["files"].items()}
            mark = str(document["mark"])
            refuse_names(parcel, files)
            if re.fullmatch(r"[0-9a-f]{12}", mark):
                self.versions.setdefault(parcel, {})[number] = Version(files, mark)

    def _write(self, call: Callable[[], T]) -> T:
        try:
            return self._ask(call)
        except FileNotFoundError as error:
            raise AssayError(f"cannot write {self.name}: {said(error)}") from error

    def _ask(self, call: Callable[[], T]) -> T:
        """Call the file system until it answers.

        Raises:
            FileNotFoundError, FileExistsError: that is its answer.
            AssayError: it refuses, or has not answered in time.
        """
        began, pause, told = time.monotonic(), 0.2, False
        while True:
            try:
                with self._patient():
                    return call()
            except (FileNotFoundError, FileExistsError):
                raise
            except Exception as error:  # each file system has its own
                if exists(error):
                    raise FileExistsError(errno.EEXIST, said(error)) from error
                if what := advice(error):
                    raise AssayError(f"{self.name} refuses: {said(error)}; {what}") from error
                if time.monotonic() - began + pause > PATIENCE:
                    raise AssayError(
                        f"{self.name} does not answer as it should ({said(error)}), tried again "
                        f"for {time.monotonic() - began:.0f} s; what is finished is kept on this "
                        "machine: give the same command again later"
                    ) from error
                if time.monotonic() - began > 1 and not told:
                    say(f"{self.name}: {said(error)}; trying again for {PATIENCE:.0f} s")
                    told = True
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, 10.0)

    @contextmanager
    def _patient(self) -> Iterator[None]:
        """Say, once for all, that an answer takes long: it may still come."""
        slow = threading.Timer(SLOW, self._tell_slow)
        slow.daemon = True
        slow.start()
        try:
            yield
        finally:
            slow.cancel()

    def _tell_slow(self) -> None:
        if not self.told_slow:
            self.told_slow = True
            say(f"{self.name} is slow: an answer has taken {SLOW:.0f} s and is not complete yet")


def _still(
    known: Mapping[str, Mapping[int, T]], there: Mapping[str, Mapping[int, str]]
) -> dict[str, dict[int, T]]:
    """Return what is known of the versions that are still there."""
    return {
        parcel: {n: found for n, found in versions.items() if n in there[parcel]}
        for parcel, versions in known.items()
        if parcel in there and versions.keys() & there[parcel].keys()
    }
