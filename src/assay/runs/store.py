"""The store: a folder of trials by address, and of the studies and audits that use them.

    trials/<address[:12]>/   trial.json metrics.json arrays.npz model.safetensors… record.json
                             while it is not finished: lock log.txt progress.json checkpoint/
    studies/<id>/            the page of a study; run.json is written last
    audits/<id>/             the report of an audit; run.json is written last
    lock                     held by those who use trials that no study names yet, against `gc`

Reading never writes: a store may be on a read-only disk, or another process may be writing it.
"""

from __future__ import annotations

import fcntl
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, cast

from assay.disk import not_text, refusal, write_atomic
from assay.errors import AssayError, expanded, nearest, one_line
from assay.runs import folders
from assay.runs.display import say
from assay.runs.entry import (
    LOCK,
    SCHEMA,
    TRIAL,
    Entry,
    Failure,
    Result,
    read_document,
    read_entry,
    seems_finished,
)
from assay.runs.files import to_json
from assay.runs.trial import Trial

__all__ = ["Entry", "Failure", "Kind", "Result", "Run", "Store"]

Kind = Literal["study", "audit"]
FOLDERS: Mapping[Kind, str] = {"study": "studies", "audit": "audits"}
SHELVES = ("trials", *FOLDERS.values())
RUN = "run.json"
JOURNAL = "settings.journal"
"""What a sweep goes on from, in its folder among the studies before there is a run."""


@dataclass(frozen=True)
class Run:
    """A finished study or audit.

    Attributes:
        kind: "study" or "audit".
        id: the name of its folder.
        folder: where its page and its files are.
        document: its run.json, as `Store.save_run` was given it.
        home: the store, where that is not the folder that it lies in.
    """

    kind: Kind
    id: str
    folder: Path
    document: dict[str, Any]
    home: Store | None = field(default=None, compare=False, repr=False)

    @property
    def store(self) -> Store:
        """The store that holds it, and its trials."""
        return self.home or Store(self.folder.parent.parent)

    @property
    def trials(self) -> tuple[str, ...]:
        """The addresses of its trials."""
        return tuple(self.document.get("trials", ()))

    @property
    def config(self) -> dict[str, Any]:
        """Its settings."""
        return dict(self.document.get("config", {}))

    @property
    def headline(self) -> str:
        """What it found, in a sentence; may be empty."""
        return str(self.document.get("headline", ""))


class Store:
    """A folder that keeps results.

    Args:
        root: the folder; it is made when something is first written.

    Raises:
        AssayError: `root` is a file or a link that leads nowhere, or its name is not UTF-8,
            as no record could say it.
    """

    def __init__(self, root: Path | str = "runs") -> None:
        self.root = expanded(root).absolute()
        if not_text(self.root):
            raise AssayError(f"the store {one_line(repr(str(root)), 80)} is not UTF-8: rename it")
        if self.root.exists() and not self.root.is_dir():
            raise AssayError(f"the store {root} is a file; give the path of a folder")
        if self.root.is_symlink() and not self.root.exists():
            raise AssayError(f"the store {root} is a link that leads nowhere; choose another place")

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.root)

    def prepare(self) -> None:
        """Make the store's folders, and see that they may be written.

        Raises:
            AssayError: they may not.
        """
        probe = self.root / "trials" / ".writable"
        try:
            for name in SHELVES:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink(missing_ok=True)
        except NotADirectoryError as error:
            raise AssayError(f"the store {self.root} lies below a file; choose another") from error
        except OSError as error:
            raise refusal(error, probe) from error

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keep `assay gc` from taking what the block makes or reads before a study names it.

        Any number of processes may use a store at once; one that begins while `gc` removes
        something waits for it. The kernel lets go when the process ends, however it ends.

        Raises:
            AssayError: the store may not be written.
        """
        Store.prepare(self)  # of a bucket too it is the folder here that `gc` may clean
        path = self.root / LOCK
        try:
            file = path.open("a+b")
        except OSError as error:  # of another user, in a folder that both may write
            raise refusal(error, path) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{self.root}: waiting for `assay gc` to end")
                fcntl.flock(file, fcntl.LOCK_SH)
            except OSError:  # a disk without locks: nobody is alone there, and `gc` refuses
                pass
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Keep others from beginning to use the store, if none does; yields whether that is so.

        Raises:
            AssayError: the store may not be written.
        """
        path = self.root / LOCK
        try:
            file = path.open("a+b")
        except OSError as error:
            raise refusal(error, path) from error
        with file:
            yield _locked(file)

    def used(self) -> bool:
        """Return whether somebody uses the store now."""
        try:
            with (self.root / LOCK).open("rb") as file:
                return not _locked(file)
        except FileNotFoundError:
            return False

    # -- trials ----------------------------------------------------------------------------------

    def entry(self, trial: Trial) -> Entry:
        """Return the place of a trial, whether or not anything is there."""
        return Entry(trial, self.root / "trials" / trial.short)

    def fetch(self, trial: Trial) -> bool:
        """Bring a finished trial that is kept elsewhere; return whether there was one to bring.

        A folder has what it has; see `runs.remote`."""
        del trial
        return False

    def publish(self, trial: Trial) -> None:
        """Put a finished trial where others find it; in a folder it is there already."""

    def result(self, trial: Trial | str, *, verify: bool = False) -> Result | None:
        """Return the result of a trial (or of an address), or None where there is none.

        Args:
            verify: read every file and compare its digest with the record's.
        """
        if isinstance(trial, Trial):
            return self.entry(trial).result(verify=verify)
        entry = self.stored(trial)
        return None if entry is None else entry.result(verify=verify)

    def stored(self, address: str) -> Entry | None:
        """Return what the store holds for an address (12 digits or more), finished or not."""
        entry = read_entry(self.root / "trials" / address[:12])
        return entry if entry and entry.trial.address.startswith(address) else None

    def failure(self, trial: Trial) -> Failure | None:
        """Return why a trial failed when it was last run, or None."""
        return self.entry(trial).failure()

    def trials(self) -> Iterator[Entry]:
        """Yield every trial that can be read, in the order of the addresses, finished or not."""
        for path in self.folders("trials"):
            with suppress(AssayError):  # see `unreadable`
                entry = read_entry(path)
                if entry is not None:
                    yield entry

    def survey(self) -> tuple[Counter[str], list[Path]]:
        """Return how many trials are in each state that occurs, and what `unreadable` returns.

        Files of finished trials are not compared with their digests: see `seems_finished`."""
        states, unreadable = Counter[str](), []
        for path in self.folders("trials"):
            if seems_finished(path):
                states["finished"] += 1
            elif (path / TRIAL).exists():
                state = _state(path)
                if state is None:
                    unreadable.append(path)
                else:
                    states[state] += 1
        return states, unreadable + self._unreadable_runs()

    def unreadable(self) -> list[Path]:
        """Return the trials, studies and audits of which no sense can be made: their document is
        damaged, may not be read, or was written by a newer assay."""
        return self.survey()[1]

    def _unreadable_runs(self) -> list[Path]:
        read = {run.folder for run in self.runs()}
        paths = (path for name in FOLDERS.values() for path in self.folders(name))
        return [path for path in paths if (path / RUN).exists() and path not in read]

    def folders(self, name: str) -> list[Path]:
        """Return the folders of a shelf, in the order of their names; what begins with a dot is
        being made."""
        folder = self.root / name
        if not folder.is_dir():
            return []
        found = sorted(folder.iterdir(), key=lambda path: path.name)  # faster than by path
        return [path for path in found if not path.name.startswith(".")]

    # -- studies and audits ----------------------------------------------------------------------

    def run_folder(self, kind: Kind, name: str, address: str) -> Path:
        """Return the folder of a run, made if need be, and held until the run is saved; its name is
        the run's id.

        The same address gives the same folder, so a repeated run takes the place of the first.
        """
        folder = self.root / FOLDERS[kind] / f"{(slug(name) or kind)[:48]}-{address[:8]}"
        self.prepare()
        try:
            folders.begin(folder)
        except OSError as error:
            raise refusal(error, folder) from error
        return folder

    def save_run(self, kind: Kind, id: str, document: Mapping[str, Any]) -> Run:
        """Write the run.json of a run, which makes it a finished one: the last thing to do.

        Args:
            document: name, address, config, trials (addresses), claims or checks, headline.
                `schema`, `kind`, `id` and (unless given) `created` are written by the store.
        """
        folder = self.root / FOLDERS[kind] / id
        complete = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **document,
            "schema": SCHEMA,
            "kind": kind,
            "id": id,
        }
        write_atomic(folder / RUN, to_json(complete, indent=2))
        folders.end(folder)
        return Run(kind, id, folder, complete)

    def runs(self) -> list[Run]:
        """Return the finished studies and audits that can be read, the newest last."""
        found = []
        for path in (path for name in FOLDERS.values() for path in self.folders(name)):
            with suppress(AssayError):  # see `unreadable`
                run = read_run(path)
                if run is not None:
                    found.append(run)
        return sorted(found, key=lambda run: (str(run.document.get("created", "")), run.id))

    def find(self, text: str) -> Run | Entry:
        """Return the run or the trial that a text means.

        Args:
            text: an id, an address, the beginning of either if nothing else begins so, or the
                path of a folder (in this store or another one).

        Raises:
            AssayError: nothing answers to it, or several do; names the nearest, or all of them.
                What answers to it cannot be read; says why.
        """
        path = expanded(text)
        if path.exists():
            folder = path.absolute() if path.is_dir() else path.absolute().parent
            there = read_run(folder) or read_entry(folder)
            if there is not None:
                return there
        runs = {run.id: run for run in self.runs()}
        if text in runs:
            return runs[text]
        known: dict[str, Run | Entry] = {**runs}
        known |= {entry.trial.address: entry for entry in self.trials()}
        matches = [name for name in known if text and name.startswith(text)]
        if len(matches) == 1:
            return known[matches[0]]
        if matches:
            shown = ", ".join(_short(name, known) for name in matches[:6])
            rest = f" and {len(matches) - 6} more" if len(matches) > 6 else ""
            raise AssayError(f"{text!r} could be {shown}{rest}; give more of the name")
        guess = nearest(text, [_short(name, known) for name in known])
        unread = self.unreadable()
        for folder in unread:
            if text and (folder.name.startswith(text) or text.startswith(folder.name)):
                _ = read_run(folder) or read_entry(folder)  # raises what it is that is wrong
                raise AssayError(
                    f"{folder} is there, but no sense can be made of its documents: they are "
                    "damaged; give the command that made it again, or delete the folder"
                )
        if guess:
            hint = f"did you mean {guess!r}?"
        elif known:
            hint = "`assay list` shows what there is"
        elif unread:
            hint = f"{len(unread):,} there cannot be read, which `assay list` names"
        else:
            hint = "the store is empty"
        raise AssayError(f"no run or trial {text!r} in {self.root}: {hint}")

    def find_both(self, a: str, b: str) -> tuple[Run, Run] | tuple[Entry, Entry]:
        """Return the two runs, or the two trials, that two texts mean; see `find`.

        Raises:
            AssayError: one of them is not there, or one is a run and the other a trial.
        """
        left, right = self.find(a), self.find(b)
        if isinstance(left, Run) and isinstance(right, Run):
            return left, right
        if isinstance(left, Entry) and isinstance(right, Entry):
            return left, right
        run, trial = (a, b) if isinstance(left, Run) else (b, a)
        raise AssayError(f"{run!r} is a run and {trial!r} a trial; give two runs or two trials")


def _locked(file: IO[bytes]) -> bool:
    """Lock a file that nobody else has locked; return whether it is ours now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a disk without locks
        return False
    return True


def slug(name: str) -> str:
    """Return a name as a folder can have it.

    >>> slug("a model on digits!")
    'a-model-on-digits'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")


def read_run(folder: Path) -> Run | None:
    """Return the finished run in a folder, or None."""
    document = read_document(folder / RUN)
    if document is None or document.get("kind") not in tuple(FOLDERS):
        return None
    lists = [document.get(key, []) for key in ("trials", "claims", "checks")]
    if not all(isinstance(one, list) for one in lists):
        return None
    trials, claims, checks = lists
    said = all(isinstance(one, dict) for one in (*claims, *checks, document.get("config", {})))
    if not said or not all(isinstance(address, str) for address in trials):
        return None
    return Run(cast(Kind, document["kind"]), folder.name, folder, document)


def _state(folder: Path) -> str | None:
    """Return the state of a trial, or None where no sense can be made of its folder."""
    entry = None
    with suppress(AssayError):
        entry = read_entry(folder)
    if entry is None:
        return None
    try:
        return entry.state()
    except AssayError:
        return "unreadable"


def _short(name: str, known: Mapping[str, Run | Entry]) -> str:
    return name if isinstance(known[name], Run) else name[:12]
