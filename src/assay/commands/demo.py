"""`assay demo`: the whole way once, on digits that are inside the package."""

from __future__ import annotations

from pathlib import Path


def demo(*, store: Path = Path("runs"), out: Path | None = None) -> int:
    """Train a small CNN on handwritten digits, audit it, and say where the report is.

    Takes about a minute on two cores, and no network.

    Args:
        store: the folder that keeps trials, studies and audits.
        out: the folder for the report; default: in the store.
    """
    from assay.workflows import demo as work

    return work.run(store, out)
