"""`assay list`, `show`, `compare` and `why`: what the store holds. Never imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.disk import make_folder, writable, write_atomic
from assay.errors import AssayError
from assay.runs import comparing, reading
from assay.runs.audits import compare_audits
from assay.runs.remote import open_store
from assay.runs.store import Store
from assay.runs.view import View

Json = Annotated[bool, Parameter(name="--json")]
Where = Path("runs")


def list_(*, store: Path = Where, as_json: Json = False) -> int:
    """List the studies and audits of a store, the newest first.

    Args:
        store: the folder that keeps trials, studies and audits.
        as_json: print JSON instead of a table.
    """
    return say(reading.list_runs(open_store(store)), as_json)


def show(
    run: str, /, *, store: Path = Where, out: Path | None = None, as_json: Json = False
) -> int:
    """Show a study, an audit or a trial; with --out draw the page of a study anew.

    Args:
        run: its id or address, the beginning of either, or its folder; of a study also the path of
            its result.json, of an audit that of its report.json, or of a folder with one.
        store: the folder that keeps trials, studies and audits.
        out: a folder that gets the page of a study, as `run --out` would write it today; its
            numbers and verdicts are those that were stored.
        as_json: print JSON instead of a table.
    """
    if out is None:
        return say(reading.show(open_store(store), run), as_json)
    from assay.workflows.redraw import redraw

    print(redraw(open_store(store), run, out))
    return 0


def compare(
    run: str, other: str, /, *, store: Path = Where, out: Path | None = None, as_json: Json = False
) -> int:
    """Put two studies, two audits or two trials side by side.

    Args:
        run: the id, address or folder of the first; of a study also the path of its result.json, of
            an audit that of its report.json, or of the folder that --out named.
        other: the same of the second.
        store: the folder that keeps trials, studies and audits.
        out: an HTML file to write instead, with the figures of two studies next to each other, or
            the tables of two audits.
        as_json: print JSON instead of a table.
    """
    home = open_store(store)
    if out is None:
        return say(comparing.compare(home, run, other), as_json)
    page = writable(out.parent, out.name) / out.name
    if page.is_dir():
        raise AssayError(f"--out {out} is a folder; give the path of a file")
    drawn = _side_by_side(home, run, other)
    make_folder(page.parent)
    write_atomic(page, drawn)
    print(page)
    return 0


def _side_by_side(home: Store, run: str, other: str) -> str:
    """Return two studies, or two audits, as a page."""
    from assay.report.page import render_comparison, render_tables

    audits = comparing.two_audits(home, run, other)
    if audits is not None:
        view = compare_audits(*audits)
        tables = [(grid.title, grid.columns, grid.rows) for grid in view.grids]
        return render_tables(view.title, view.lines, tables)
    both = comparing.compare_studies(home, run, other)
    if both is None:
        raise AssayError("--out puts two studies or two audits side by side; leave it out here")
    return render_comparison(both)


def why(run: str, other: str, /, *, store: Path = Where, as_json: Json = False) -> int:
    """Say which parts of two addresses differ: config, seed, data, versions.

    Args:
        run: the id, address or folder of the first; of a study also the path of its result.json, of
            an audit that of its report.json.
        other: the same of the second.
        store: the folder that keeps trials, studies and audits.
        as_json: print JSON instead of a table.
    """
    return say(comparing.why(open_store(store), run, other), as_json)


def say(view: View, as_json: bool) -> int:
    """Print an answer of the store."""
    if as_json:
        print(json.dumps(view.to_dict(), indent=2, default=str))
        return 0
    from rich.console import Console

    Console(highlight=False).print(view, crop=False)
    return 0
