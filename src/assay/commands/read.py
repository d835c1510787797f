"""`assay list`, `show`, `compare` and `why`: what the store holds. Never imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.runs import reading
from assay.runs.store import Store
from assay.runs.view import View

Json = Annotated[bool, Parameter(name="--json")]
Where = Path("runs")


def list_(*, store: Path = Where, as_json: Json = False) -> int:
    """List the studies and audits of a store, the newest last.

    Args:
        store: the folder that keeps trials, studies and audits.
        as_json: print JSON instead of a table.
    """
    return say(reading.list_runs(Store(store)), as_json)


def show(run: str, /, *, store: Path = Where, as_json: Json = False) -> int:
    """Show a study, an audit or a trial.

    Args:
        run: its id or address, the beginning of either, or its folder.
        store: the folder that keeps trials, studies and audits.
        as_json: print JSON instead of a table.
    """
    return say(reading.show(Store(store), run), as_json)


def compare(run: str, other: str, /, *, store: Path = Where, as_json: Json = False) -> int:
    """Put two studies, two audits or two trials side by side.

    Args:
        run: id, address or folder of the first.
        other: of the second.
        store: the folder that keeps trials, studies and audits.
        as_json: print JSON instead of a table.
    """
    return say(reading.compare(Store(store), run, other), as_json)


def why(run: str, other: str, /, *, store: Path = Where, as_json: Json = False) -> int:
    """Say which parts of two addresses differ: config, seed, data, versions.

    Args:
        run: id, address or folder of the first.
        other: of the second.
        store: the folder that keeps trials, studies and audits.
        as_json: print JSON instead of a table.
    """
    return say(reading.why(Store(store), run, other), as_json)


def say(view: View, as_json: bool) -> int:
    """Print an answer of the store."""
    if as_json:
        print(json.dumps(view.to_dict(), indent=2, default=str))
        return 0
    from rich.console import Console

    Console(highlight=False).print(view)
    return 0
