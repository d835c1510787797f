"""Results in a few lines, for `print` and for the cell of a notebook."""

from __future__ import annotations

from collections.abc import Iterable

from assay.report.answer import plain
from assay.report.audit_figures import hero
from assay.report.audit_page import fooled
from assay.report.numerals import MISSING, Doubtful, full
from assay.report.page import rendered
from assay.report.record import Unit
from assay.report.result import StudyResult
from assay.report.schema import AuditReport, worst_first


def audit_text(report: AuditReport) -> str:
    """Return verdict and checks of an audit as plain text, a line each."""
    lines = ((c.verdict, c.code, c.title, c.value, c.unit) for c in worst_first(report.checks))
    return _text(report.title, plain(report.answer) or report.summary, lines)


def study_text(result: StudyResult) -> str:
    """Return question, answer and claims of a study as plain text, a line each."""
    lines = ((c.verdict, c.code, c.text, c.estimate, c.unit) for c in result.claims)
    return _text(result.question, plain(result.answer) or result.summary, lines)


def audit_cell(report: AuditReport) -> str:
    """Return the first screen of an audit's page as HTML for a notebook, in the notebook's own
    colours."""
    return rendered(
        "notebook_audit.html.j2",
        report=report,
        checks=worst_first(report.checks),
        figure_of=hero(report),
        fooled=fooled(report),
    )


def study_cell(result: StudyResult) -> str:
    """Return question, answer, first figure and claims of a study as HTML for a notebook."""
    first = next((figure for figure in result.figures if figure.role == "hero"), None)
    return rendered("notebook_study.html.j2", result=result, hero=first)


def _text(
    title: str, answer: str, lines: Iterable[tuple[str, str, str, Doubtful | None, Unit]]
) -> str:
    rows = [
        (verdict, code, MISSING if value is None else full(value, unit), said)
        for verdict, code, said, value, unit in lines
    ]
    widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
    return "\n".join(
        [title, *filter(None, [answer])]
        + [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False))
            + f"  {row[3]}"
            for row in rows
        ]
    )
