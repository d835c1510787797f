"""`assay show RESULT --out FOLDER`: the page of a stored result, drawn anew.

Numbers, verdicts, tables and the figures of trials stay as they were stored; the page is today's,
and so are the words: question, answer, why an effect matters, the figure that leads.
"""

from __future__ import annotations

from pathlib import Path

from assay.disk import make_folder, writable, write_atomic
from assay.errors import AssayError
from assay.hub import unasked
from assay.report.study_page import render_study
from assay.runs.reading import RESULT, result_of
from assay.runs.store import Store
from assay.studies.kept import told_anew
from assay.workflows.run import published


def redraw(store: Store, text: str, out: Path) -> Path:
    """Write index.html and result.json of a stored result to a folder, for others to read; return
    the page.

    Args:
        store: where the study is looked for.
        text: what it is called there, or the path of its result.json or of a folder that holds one.
        out: the folder; it may be the result's own.

    Raises:
        AssayError: it is not there, or is no result of a study.
    """
    found = result_of(store, text)
    if found is None:
        raise AssayError(f"--out draws the page of a study; {text!r} has no {RESULT}")
    out = writable(out)
    with unasked():  # what data are not here would be fetched for a few words
        result = published(told_anew(found[1]))
    page = render_study(result)
    make_folder(out)
    write_atomic(out / RESULT, result.to_json())
    write_atomic(out / "index.html", page)
    return out / "index.html"
