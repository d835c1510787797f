"""Further projections of report.json: for CI, for code scanning, for model cards.

`FORMATS` has each by its name: the file that it is written to, and the function that makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from assay.disk import make_folder, write_atomic
from assay.report.formats.junit import junit
from assay.report.formats.markdown import markdown
from assay.report.formats.model_card import eval_results, model_card
from assay.report.formats.sarif import sarif
from assay.report.schema import AuditReport

FORMATS: dict[str, tuple[str, Callable[[AuditReport], str]]] = {
    "markdown": ("report.md", markdown),
    "junit": ("junit.xml", junit),
    "sarif": ("report.sarif", sarif),
    "model-card": ("model-card.md", model_card),
    "eval-results": (".eval_results/assay.yaml", eval_results),
}
"""By name: the file beside the report, and what makes its text."""


def write_formats(report: AuditReport, names: tuple[str, ...], folder: Path) -> list[Path]:
    """Write some projections of a report into a folder, each whole or not at all; return them."""
    written = []
    for name in names:
        file, make = FORMATS[name]
        path = folder / file
        make_folder(path.parent)
        write_atomic(path, make(report))
        written.append(path)
    return written
