"""What a store could do without: `assay gc`."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from assay.disk import TEMPORARY, being_written, refusal, sweep
from assay.errors import AssayError
from assay.runs.entry import RECORD, TRIAL, hold
from assay.runs.parcels import rests_on
from assay.runs.store import FOLDERS, JOURNAL, RUN, SHELVES, Store
from assay.runs.view import Grid, View

Kind = Literal["leftover", "failed", "unfinished", "unreferenced"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEANING: dict[Kind, str] = {
    "leftover": "half-written by a process that is gone",
    "failed": "a trial that failed, with its log and its checkpoint",
    "unfinished": "a trial that was stopped, with the checkpoint it would go on from",
    "unreferenced": "a finished trial that no finished study or audit here rests on",
}


TEMPORARY_NAME = re.compile(r"\..*[0-9a-f]{12}" + re.escape(TEMPORARY))
TRIAL_NAME, RUN_NAME = re.compile(r"[0-9a-f]{12}"), re.compile(r".+-[0-9a-f]{8}")
"""What assay calls what it writes: a trial by its address, a run by its name and a digest."""
TOKEN_NAME = re.compile(r"\.cluster-[0-9a-f]{32}")
"""What an engine on a cluster writes, for its workers to find (`runs.cluster`)."""
OF_SHARDS = ("attack-shard", "fit-detectors", "score-shard")
"""Tasks whose results `attack.json` and `detect.json` rest on, not a study."""


@dataclass(frozen=True)
class Litter:
    """Something that a store could do without.

    Attributes:
        kind: why.
        path: a folder, or a file.
        size: its bytes.
        title: what people call the trial; empty for a leftover.
    """

    kind: Kind
    path: Path
    size: int
    title: str = ""


def litter(store: Store, only: Collection[Kind] = KINDS, *, used: bool = False) -> list[Litter]:
    """Return what a store could do without, in the order of `KINDS`: nothing that a process works
    on, and nothing of which no sense can be made (a newer assay may have written it).

    Args:
        used: somebody uses the store: a study without its run.json may be being written.
    """
    unreadable = set(store.unreadable())
    # A study that cannot be read may rest on any trial, as may a sweep that is not judged yet.
    blind = any(path.parent.name in FOLDERS.values() for path in unreadable)
    blind = blind or any(map(_unjudged, store.folders(FOLDERS["study"])))
    named = {address[:12] for run in store.runs() for address in rests_on(store, run)}
    found = []
    for entry in store.trials():
        if entry.folder.is_symlink():  # somebody keeps it elsewhere
            continue
        state = entry.state() if entry.folder not in unreadable else "running"
        kind: Kind | None = None
        if state == "finished":
            kept = blind or entry.folder.name in named or entry.trial.task in OF_SHARDS
            kind = None if kept else "unreferenced"
        elif state != "running":
            kind = "failed" if state == "failed" else "unfinished"
        if kind is not None:
            found.append(Litter(kind, entry.folder, size_of(entry.folder), entry.trial.title))
    folders = {one.path for one in found}
    left = _leftovers(store, used)
    found += [one for one in left if folders.isdisjoint(one.path.parents)]
    return [one for kind in KINDS if kind in only for one in found if one.kind == kind]


def _unjudged(folder: Path) -> bool:
    """Return whether a sweep has tried settings since its run.json was written, which names all of
    its trials; the journal stays after that, to go on from."""
    try:
        journal = (folder / JOURNAL).stat().st_mtime_ns
        return journal > (folder / RUN).stat().st_mtime_ns
    except FileNotFoundError:
        return (folder / JOURNAL).exists()


def _leftovers(store: Store, used: bool) -> Iterator[Litter]:
    """Yield what killed processes left half-written, of what has the names that assay gives; the
    journal of a sweep is what it goes on from."""
    places = [store.root.glob("*"), *((store.root / shelf).rglob("*") for shelf in SHELVES)]
    for path in sorted(path for place in places for path in place):
        inner = path.parent.name.endswith(TEMPORARY)
        if TEMPORARY_NAME.fullmatch(path.name) and not inner and not being_written(path):
            yield Litter("leftover", path, size_of(path))
    for path in sorted(store.root.glob(".cluster-*")) if not used else ():
        if TOKEN_NAME.fullmatch(path.name) and path.is_file():
            yield Litter("leftover", path, size_of(path))
    for shelf in SHELVES if not used else ():
        last, name = (TRIAL, TRIAL_NAME) if shelf == "trials" else (RUN, RUN_NAME)
        for path in store.folders(shelf):
            ours = path.is_dir() and not path.is_symlink() and name.fullmatch(path.name)
            if ours and not (path / last).exists() and not (path / JOURNAL).exists():
                yield Litter("leftover", path, size_of(path))


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; of a link those of the link."""
    if path.is_dir() and not path.is_symlink():
        return sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir())
    return path.lstat().st_size


def remove(store: Store, found: Sequence[Litter], *, used: bool = False) -> list[Litter]:
    """Remove litter; return what is gone. What a process has taken up meanwhile stays.

    Args:
        used: somebody uses the store, as `Store.alone` saw it, inside of which this is called.

    Raises:
        AssayError: trials without a reference were to go while a study runs or is judged, which
            names them at its end; or the store may not be written.
    """
    unnamed = any(one.kind == "unreferenced" for one in found)
    # A worker on another machine may have outlived the study that it works for.
    if unnamed and (used or any(entry.locked() for entry in store.trials())):
        raise AssayError(
            f"{store.root} is being worked on, and a study names its trials when it ends: "
            "wait for it, or give --only leftover failed unfinished"
        )
    gone = []
    for one in found:
        try:
            if _removed(one):
                gone.append(one)
        except OSError as error:
            raise refusal(error, one.path) from error
    return gone


def _removed(one: Litter) -> bool:
    if one.path.name.endswith(TEMPORARY):
        return sweep(one.path)
    if one.path.parent.name != "trials":
        if (one.path / RUN).exists():  # it was finished in this moment
            return False
        shutil.rmtree(one.path)
        return True
    record = one.path / RECORD
    with hold(one.path) as held:
        if not held or (record.exists() and one.kind != "unreferenced"):
            return False
        # Gone at once: what is left of it if we are killed is a leftover.
        gone = one.path.with_name(f".{one.path.name}.{secrets.token_hex(6)}{TEMPORARY}")
        one.path.rename(gone)
    shutil.rmtree(gone)
    return True


def view_of(store: Store, found: Sequence[Litter], gone: Sequence[Litter] | None) -> View:
    """Return what `assay gc` says.

    Args:
        gone: what was removed; None: nothing was to be.
    """
    rows = tuple(
        (str(one.path.relative_to(store.root)), one.kind, megabytes(one.size), one.title)
        for one in found
    )
    sums = []
    for kind in KINDS:
        sizes = [one.size for one in found if one.kind == kind]
        if sizes:
            sums.append(f"{len(sizes)} {kind} ({MEANING[kind]}): {megabytes(sum(sizes))}")
    total = megabytes(sum(one.size for one in found if gone is None or one in gone))
    if not found:
        sums.append("nothing to remove")
    elif gone is None:
        sums.append(f"{total} could be removed; nothing was: --yes removes all of this")
    else:
        sums.append(f"{len(gone)} of {len(found)} removed: {total}")
    if any(one.kind == "unreferenced" for one in found) and gone is None:
        sums.append(
            "a study that was stopped names no trials yet, nor does `assay train`: theirs count as "
            "unreferenced"
        )
    data = {
        "store": str(store.root),
        "found": [
            {"path": str(one.path), "kind": one.kind, "bytes": one.size, "title": one.title}
            for one in found
        ],
        "removed": [str(one.path) for one in gone or ()],
    }
    grid = Grid("", ("what", "why", "size", "trial"), rows)
    return View(str(store.root), data, (grid,), tuple(sums))


def megabytes(size: int) -> str:
    """Return a size in words.

    >>> megabytes(1_234_567)
    '1.2 MB'
    """
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
