"""One trial's folder: locked by who works on it, finished if and only if its record is there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from assay.disk import TEMPORARY, file_digest, refusal, sync, write_atomic
from assay.errors import AssayError
from assay.runs.files import Arrays, from_json, to_json, write_arrays
from assay.runs.trial import Outcome, Trial

SCHEMA = 1
"""Version of every JSON document in a store; a store with a greater one is left alone."""

TRIAL, METRICS, ARRAYS, RECORD = "trial.json", "metrics.json", "arrays.npz", "record.json"
FAILURE, PROGRESS, LOCK, LOG, CHECKPOINT = (
    "failure.json",
    "progress.json",
    "lock",
    "log.txt",
    "checkpoint",
)
AT_ONCE = 2**16  # bytes that nearly every document is shorter than
WORTH_WAITING_FOR = 1.0  # seconds; waiting for the disk takes milliseconds for each file
State = Literal["finished", "running", "failed", "damaged", "partly done", "not begun"]
"""The state of a trial. "running": a process works on it now; "failed": it is kept as failed;
"damaged": it was finished, and its record is cut, or files are not what it says; "partly done": a
checkpoint is there."""

UNRECORDED = {TRIAL, RECORD, FAILURE, PROGRESS, LOCK, LOG, CHECKPOINT}


@dataclass(frozen=True)
class Result:
    """What a finished trial left.

    Attributes:
        trial: the trial.
        folder: where its files are.
        metrics: what its task returned as metrics.
        record: how it was made: code and library versions, hardware, seconds, peak memory.
    """

    trial: Trial
    folder: Path
    metrics: dict[str, Any]
    record: dict[str, Any]

    @property
    def address(self) -> str:
        return self.trial.address

    @cached_property
    def arrays(self) -> Mapping[str, Any]:
        """The arrays by name; each is read when it is needed."""
        return Arrays(self.folder / ARRAYS)

    def path(self, name: str) -> Path:
        """Return the path of a file that the task wrote ("model.safetensors").

        Raises:
            AssayError: there is no such file; names those there are.
        """
        if name not in self.record["files"]:
            raise AssayError(
                f"trial {self.address[:12]} has no file {name!r}; "
                f"it has {', '.join(sorted(self.record['files']))}"
            )
        return self.folder / name


@dataclass(frozen=True)
class Failure:
    """Why a trial has no result.

    Attributes:
        kind: "error": its task raised an AssayError; "exception": another exception; "died": its
            process ended (killed, out of memory), which is tried again the next time; "needs": a
            trial that it needs failed.
        message: the reason in one line.
        traceback: of an exception; the last lines of the log, of a process that died.
        when: ISO 8601, UTC.
        host: the machine.
    """

    kind: Literal["error", "exception", "died", "needs"]
    message: str
    traceback: str = ""
    when: str = ""
    host: str = ""


@dataclass(frozen=True)
class Entry:
    """The folder of a trial in a store, whatever state it is in."""

    trial: Trial
    folder: Path

    # -- reading ---------------------------------------------------------------------------------

    def result(self, *, verify: bool = False) -> Result | None:
        """Return the result, or None where the trial is not finished, or what it left is damaged.

        Args:
            verify: also compare the digest of every file with the record's; without it only
                those of metrics.json, and the sizes of the others.

        Raises:
            AssayError: a newer assay wrote it.
        """
        record = read_document(self.folder / RECORD)
        if record is None or record.get("address") != self.trial.address:
            return None
        try:
            for name, (size, digest) in record["files"].items():
                path = self.folder / name
                if not path.is_file() or path.stat().st_size != size:
                    return None
                if (verify or name == METRICS) and file_digest(path) != digest:
                    return None
            float(record["seconds"])
        except (KeyError, TypeError, ValueError, AttributeError):  # no record of ours
            return None
        metrics = (read_document(self.folder / METRICS) or {}).get("metrics")
        return (
            Result(self.trial, self.folder, metrics, record) if isinstance(metrics, dict) else None
        )

    def failure(self) -> Failure | None:
        """Return why the trial failed when it was last run, or None."""
        document = read_document(self.folder / FAILURE)
        if document is None or not all(
            isinstance(document.get(key), str) for key in Failure.__dataclass_fields__
        ):
            return None
        return Failure(**{key: document[key] for key in Failure.__dataclass_fields__})

    def progress(self) -> dict[str, Any]:
        """Return {"resumed", "seconds", "fraction", "note"} of an unfinished trial, or {}."""
        document = read_document(self.folder / PROGRESS) or {}
        numbers = (document.get(key) for key in ("resumed", "seconds", "fraction"))
        return document if all(isinstance(one, int | float) for one in numbers) else {}

    def has_checkpoint(self) -> bool:
        """Return whether there is something to go on from."""
        folder = self.folder / CHECKPOINT
        return folder.is_dir() and any(
            not path.name.endswith(TEMPORARY) for path in folder.iterdir()
        )

    def locked(self) -> bool:
        """Return whether a process works on this trial now."""
        try:
            with (self.folder / LOCK).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def state(self) -> State:
        """Return the state of the trial."""
        if self.result() is not None:
            return "finished"
        if self.locked():
            return "running"
        if self.failure() is not None:
            return "failed"
        if (self.folder / RECORD).exists():  # it goes before a trial is begun anew
            return "damaged" if self.result() is None else "finished"  # meanwhile
        return "partly done" if self.has_checkpoint() else "not begun"

    # -- writing, by the process that holds the lock ---------------------------------------------

    def lock(self) -> AbstractContextManager[bool]:
        """Hold the trial, if no other process does; see `hold`."""
        return hold(self.folder)

    def begin(self) -> None:
        """Make the folder ready for a run: only a checkpoint of this very trial is kept."""
        known = read_document(self.folder / TRIAL)
        _remove(self.folder / RECORD)
        same = known is not None and known.get("address") == self.trial.address
        self.clear(keep_checkpoint=same)
        if not same:
            _remove(self.folder / TRIAL)
            document = {
                "schema": SCHEMA,
                "address": self.trial.address,
                "trial": self.trial.model_dump(mode="json"),
            }
            write_atomic(self.folder / TRIAL, to_json(document, indent=2), durable=False)

    def clear(self, *, keep_checkpoint: bool = True) -> None:
        """Remove what an unfinished run left."""
        kept = {LOCK, LOG, TRIAL}
        if keep_checkpoint:
            kept |= {CHECKPOINT, PROGRESS}
        for path in self.folder.iterdir():
            if path.name not in kept:
                _remove(path)

    def finish(self, outcome: Outcome, record: Mapping[str, Any]) -> None:
        """Keep what the task returned and wrote. The record is written last, and ends the trial.

        Each file waits for the disk once, here, if the trial took `WORTH_WAITING_FOR`: a power cut
        may damage a shorter one, which is seen by its digests, and done again.

        Raises:
            TypeError: for metrics or arrays that cannot be stored.
            DiskFull: there is no space left; the trial is not finished.
        """
        document = {"schema": SCHEMA, "metrics": outcome.metrics}
        write_atomic(self.folder / METRICS, to_json(document), durable=False)
        if outcome.arrays:
            write_arrays(self.folder / ARRAYS, outcome.arrays, durable=False)
        durable = record["seconds"] >= WORTH_WAITING_FOR
        if durable:
            sync(self.folder / TRIAL)
        files = {}
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and name.split("/")[0] not in UNRECORDED:
                if durable:
                    sync(path)
                files[name] = (path.stat().st_size, file_digest(path))
        complete = {**record, "schema": SCHEMA, "address": self.trial.address, "files": files}
        write_atomic(self.folder / RECORD, to_json(complete, indent=2), durable=durable)
        self.tidy()

    def tidy(self) -> None:
        """Remove what a finished trial needs no longer."""
        shutil.rmtree(self.folder / CHECKPOINT, ignore_errors=True)
        for name in (FAILURE, PROGRESS):
            (self.folder / name).unlink(missing_ok=True)
        log = self.folder / LOG
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size == 0:
                log.unlink()

    def fail(self, failure: Failure) -> None:
        """Keep why the trial failed; its checkpoint stays, everything else it made goes."""
        self.clear()
        write_atomic(
            self.folder / FAILURE,
            to_json({"schema": SCHEMA, "address": self.trial.address, **asdict(failure)}, indent=2),
        )


@contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """Hold the trial of a folder, if no other process does: yields whether it is held.

    The kernel lets go of it when the process ends, however it ends.

    Raises:
        AssayError: the folder may not be written, or its disk has no locks.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise refusal(error, path) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError as error:
            raise AssayError(
                f"cannot lock {path} ({error.strerror}); keep the store on a local disk"
            ) from error
        else:
            yield True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_entry(folder: Path) -> Entry | None:
    """Return the entry of a trial's folder, or None where no trial can be read from it."""
    document = read_document(folder / TRIAL)
    if document is None:
        return None
    try:
        return Entry(Trial.model_validate(document.get("trial")), folder)
    except ValidationError:
        return None


def seems_finished(folder: Path) -> bool:
    """Return whether a trial's folder says that it is finished, at a tenth of what it costs to
    read it: the digests of files are not compared, and its settings not understood. Where it does
    not say so, only `Entry` knows.
    """
    at = f"{folder}/"
    try:
        trial, record = json.loads(_read(at + TRIAL)), json.loads(_read(at + RECORD))
        known = all(0 < document["schema"] <= SCHEMA for document in (trial, record))
        return (
            known
            and isinstance(trial["trial"], dict)
            and trial["address"] == record["address"]
            and record["address"].startswith(folder.name)
            and METRICS in record["files"]
            and record["seconds"] >= 0
            and all(
                os.stat(at + file).st_size == size  # noqa: PTH116 (10,000 paths less)
                for file, (size, _) in record["files"].items()
            )
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _read(path: str) -> bytes:
    """Return what a file holds by a third of the system calls that `Path.read_bytes` makes."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would never end
    try:
        content = os.read(handle, AT_ONCE)
        if len(content) == AT_ONCE:
            with open(handle, "rb", closefd=False) as rest:
                content += rest.read()
    finally:
        os.close(handle)
    return content


def read_document(path: Path) -> dict[str, Any] | None:
    """Return a JSON document of a store, or None where it is missing or not whole.

    Raises:
        AssayError: a newer assay wrote it, or it may not be read.
    """
    try:
        if not path.is_file():  # a pipe would never end
            return None
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AssayError(f"cannot read {path}: {error.strerror}") from error
    return document_of(content, str(path))


def document_of(content: bytes, name: str) -> dict[str, Any] | None:
    """Return the JSON document that a file of a store holds, or None where it is none.

    Raises:
        AssayError: a newer assay wrote it.
    """
    try:
        document = from_json(content)
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("schema"), int):
        return None
    if document["schema"] > SCHEMA:
        raise AssayError(
            f"{name} was written by a newer assay (schema {document['schema']}, this one knows "
            f"{SCHEMA}); upgrade assay, or choose another store"
        )
    return document
