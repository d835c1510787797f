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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from assay.config import digest
from assay.errors import AssayError, one_line
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
from assay.runs.store import SHELVES

T = TypeVar("T")

CONNECT, READ = 5.0, 20.0  # seconds to wait for a connection, and for an answer
SLOW = 10.0  # seconds after which a line says that an answer is not complete yet
PATIENCE = 90.0  # seconds for which something that fails is tried again
AT_ONCE = 500  # manifests that are asked for together
MARK, MARKED = "store.json", to_json({"schema": SCHEMA, "store": "assay"}).encode()
NO_STORE = (
    "{} gives other answers than a store would; a page to log in to the network, or a proxy, may "
    "stand before it"
)
URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)")
FINISHED = re.compile(r"(.+)\.([1-9][0-9]{0,8})\.json")
INSTALL = "stores other than folders need fsspec, and s3fs for s3://: pip install 'assay[s3]'"


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
        self.fs, self.root = _file_system(self.name)
        self.versions: dict[str, dict[int, Version]] = {}
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
        self.versions = {
            parcel: {n: v for n, v in known.items() if n in there[parcel]}
            for parcel, known in self.versions.items()
            if parcel in there
        }
        new = [
            (parcel, number, path)
            for parcel, paths in there.items()
            for number, path in paths.items()
            if number not in self.versions.get(parcel, {})
        ]
        for first in range(0, len(new), AT_ONCE):
            some = new[first : first + AT_ONCE]
            paths = [path for _, _, path in some]
            held = self._read(paths)
            for (parcel, number, _), content in zip(some, map(held.get, paths), strict=True):
                self._learn(parcel, number, content)
        self.looked = time.monotonic()

    def parcels(self) -> Iterator[str]:
        self.look()
        for shelf in SHELVES:
            yield from sorted(name for name in self.versions if name.startswith(f"{shelf}/"))

    def files(self, parcel: str) -> Files | None:
        last = self.last(parcel)
        return self.versions[parcel][last].files if last else None

    def last(self, parcel: str) -> int:
        """Return the number of the last version of a parcel, as of the last look; 0: none."""
        self.look(within=float("inf"))
        return max(self.versions.get(parcel, {}), default=0)

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

    def keep(self, parcel: str, files: Files, opened: Opened, damaged: int = 0) -> Kept:
        """Take a parcel, unless a version of it is here that is newer than the `damaged` one."""
        refuse_names(parcel, files)
        mark = self._upload(parcel, files, opened)
        number = damaged + 1
        while not self._create(parcel, number, files, mark):
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
        document = document_of(content or b"", f"{self.name}/{parcel}.{number}.json") or {}
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


def _file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    matched = URL.fullmatch(url)
    if matched is None:
        raise AssayError(f"{url!r} is no URL")
    try:
        import fsspec
    except ImportError as error:
        raise AssayError(INSTALL) from error
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if matched[1] in ("s3", "s3a"):
        options["config_kwargs"] = {
            "connect_timeout": CONNECT,
            "read_timeout": READ,
            "retries": {"total_max_attempts": 1},  # `_ask` does that
        }
    try:
        fs, root = fsspec.url_to_fs(f"{matched[1]}://{matched[2]}", **options)
    except ImportError as error:
        raise AssayError(INSTALL) from error
    except ValueError as error:
        raise AssayError(f"cannot use the store {url}: {one_line(str(error), 120)}") from error
    if hasattr(fs, "retries"):
        fs.retries = 1
    return fs, str(root).rstrip("/")
