"""`assay sync`, `gc`, `export` and `import`: keeping stores. Never imports torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.commands.read import Json, Where, say
from assay.errors import AssayError
from assay.runs import archive, garbage, parcels
from assay.runs.garbage import Kind, megabytes
from assay.runs.remote import open_store, place_of, url_of
from assay.runs.store import Store
from assay.runs.view import View


def sync(source: Path, target: Path, /, *, as_json: Json = False) -> int:
    """Copy the finished trials, studies and audits of one store that another lacks.

    What both have and is not the same stays as it is in TARGET, is named, and makes the exit
    code 1. Given again, it copies what is missing by then.

    Args:
        source: the store to copy from: a folder, or a URL (s3://bucket/path).
        target: the store to copy to, likewise; a folder is made if need be.
        as_json: print JSON instead of a table.
    """
    here, there = place_of(source), place_of(target)
    if not here.there():
        raise AssayError(f"there is no store {here.name}")
    if os.path.realpath(here.name) == os.path.realpath(there.name):
        raise AssayError(f"{here.name} and {there.name} are the same store")
    return tell(parcels.move(here, there), f"{here.name} to {there.name}", as_json)


def gc(
    store: Path = Where,
    /,
    *,
    dry_run: bool = False,
    yes: bool = False,
    only: list[Kind] | None = None,
    as_json: Json = False,
) -> int:
    """Say what a store could do without, and how large it is; with --yes remove it.

    Args:
        store: the folder that keeps trials, studies and audits.
        dry_run: remove nothing; so it is without --yes too.
        yes: remove what is listed.
        only: which kinds: leftover, failed, unfinished, unreferenced; default: all.
        as_json: print JSON instead of a table.
    """
    if dry_run and yes:
        raise AssayError("--dry-run removes nothing and --yes does: give one of them")
    if url_of(store) is not None:
        raise AssayError("gc cleans folders; a bucket has rules of its own for old objects")
    home = Store(store)
    if not home.root.is_dir():
        raise AssayError(f"there is no store {store}")
    kinds = only or garbage.KINDS
    if yes:
        with home.alone() as alone:
            found = garbage.litter(home, kinds, used=not alone)
            gone = garbage.remove(home, found, used=not alone)
    else:
        found, gone = garbage.litter(home, kinds, used=home.used()), None
    return say(garbage.view_of(home, found, gone), as_json)


def export(run: str, out: Path, /, *, store: Path = Where) -> int:
    """Write a study, an audit or a trial, with all the trials that it rests on, to one archive.

    Args:
        run: its id or address, the beginning of either, or its folder.
        out: the archive: a name that ends in .tar or .tar.gz, where nothing is yet.
        store: the folder that keeps trials, studies and audits.
    """
    home = open_store(store)
    found = home.find(run)
    if home.root not in found.folder.parents:  # it was found by its path, in another store
        home = Store(found.folder.parent.parent)
    names, gone = archive.parcels_of(home, found)
    if not names:
        raise AssayError(f"{run} is not finished: there is nothing to export")
    size = archive.write(parcels.Folder(home), names, out)
    print(f"{counted(names)} in {out}, {megabytes(size)}")
    if gone:
        print(f"without {len(gone)} trials that are gone from {home.root}")
    return 0


def import_(archive_: Annotated[Path, Parameter(name="archive")], /, *, store: Path = Where) -> int:
    """Take what an archive of `assay export` holds into a store; a damaged one leaves no trace.

    What the store has otherwise stays as it is there, is named, and makes the exit code 1.

    Args:
        archive_: the archive.
        store: the folder that gets its trials, studies and audits.
    """
    home = place_of(store)
    return tell(archive.import_(archive_, home), f"{archive_} to {home.name}", False)


def tell(moved: parcels.Moved, what: str, as_json: bool) -> int:
    """Say what was moved; return 1 where something was left out that is not the same."""
    lines = [f"{counted(moved.new)} copied, {counted(moved.there)} there already"]
    lines += [f"differs, and stays as it is: {name}" for name in moved.differs]
    lines += [f"left out, a process works on it: {name}" for name in moved.busy]
    lines += [f"left out: {why}" for why in moved.damaged.values()]
    say(View(what, vars(moved), (), tuple(lines)), as_json)
    return 1 if moved.differs or moved.busy or moved.damaged else 0


def counted(names: list[str]) -> str:
    """Return how many trials, studies and audits there are among names of parcels.

    >>> counted(["trials/0123456789ab", "studies/skip-0123"])
    '1 trial, 1 study'
    """
    words = {"trials": "trial", "studies": "study", "audits": "audit"}
    kinds = [name.partition("/")[0] for name in names]
    said = []
    for shelf, word in words.items():
        if number := kinds.count(shelf):
            said.append(f"{number} {word if number == 1 else shelf}")
    return ", ".join(said) or "nothing"
