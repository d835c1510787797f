"""The pages of an audit, of studies and of two studies side by side, as a phone shows them."""

from __future__ import annotations

from pathlib import Path

from browsing import chromium, opens

from assay.report.audit_page import render_audit
from assay.report.comparison import compare_results
from assay.report.page import render_comparison
from assay.report.result import StudyResult
from assay.report.schema import AuditReport
from assay.report.study_page import render_study

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_pages_fit_a_phone(report: AuditReport, study: StudyResult, tmp_path: Path) -> None:
    chromium()
    claims = study.claims[1:]
    both = compare_results(study, study.model_copy(update={"claims": claims}), ("one", "two"))
    published = {
        name: render_study(StudyResult.read(RESULTS / name / "result.json"))
        for name in ("hardening", "words-augmented")
    }
    pages = {"audit": render_audit(report), "study": render_study(study), **published}
    opens(tmp_path, {**pages, "compare": render_comparison(both)})
