"""What an audit found: its report, the arrays it rests on, and the files that hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from assay.disk import write_atomic, writing_together
from assay.errors import AssayError, told
from assay.report.audit_page import render_audit
from assay.report.record import NotRun
from assay.report.schema import AuditReport, Check
from assay.runs.files import write_arrays


@dataclass(frozen=True, repr=False)
class Audit:
    """What an audit found, and the arrays it rests on.

    Attributes:
        report: everything that report.json holds.
        arrays: the labels of the test images and what the model says of them; for each attack at
            the audit's eps the adversarial images and which succeeded; the gallery's images and
            maps; what other sections keep.
        seconds: what each section took, by its name.

    >>> from assay import auditing
    >>> config = auditing.AuditConfig(sections=("accuracy",))
    >>> audited = assay.audit(clf, x.repeat(2, 1, 1, 1), y.repeat(2), config=config)
    >>> [(check.code, check.verdict) for check in audited.checks]
    [('ACC-001', 'undecided')]
    """

    report: AuditReport
    arrays: dict[str, NDArray[Any]] = field(repr=False)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks with their verdicts."""
        return self.report.checks

    def save(self, path: str | Path) -> Path:
        """Write the page to `path`, and report.json and arrays.npz beside it: all or none.

        Args:
            path: a file ending in .html, or a folder (then report.html in it); of one ending in
                .json the JSON alone is written.

        Raises:
            AssayError: the files cannot be written; or the page cannot be drawn, and then the JSON
                and the arrays are there all the same, and no older page beside them.
        """
        page = Path(path)
        if page.suffix.lower() == ".json":
            write_atomic(page, self.report.to_json())
            return page
        if page.suffix.lower() not in (".html", ".htm"):
            page = page / "report.html"
        undrawn: Exception | None = None
        html = ""
        try:
            html = render_audit(self.report)
        except Exception as error:  # whatever a report may hold that nobody has drawn yet
            undrawn = error
        with writing_together(page.parent) as part:
            write_arrays(part / "arrays.npz", self.arrays)
            write_atomic(part / page.with_suffix(".json").name, self.report.to_json())
            if undrawn is None:
                write_atomic(part / page.name, html)
        if undrawn is not None:
            page.unlink(missing_ok=True)
            raise AssayError(
                f"the page could not be drawn ({told(undrawn)}); what was measured is kept: "
                f"{page.with_suffix('.json')}, and arrays.npz beside it"
            ) from undrawn
        return page

    def to_dict(self) -> dict[str, Any]:
        """Return what report.json holds."""
        return self.report.model_dump(mode="json")

    def plot(self) -> Any:
        """Return a matplotlib figure: accuracy against the budget."""
        from assay.report.figures import accuracy_against_eps

        found = self.report.robustness
        if isinstance(found, NotRun):
            raise AssayError(f"there is no robustness chapter to plot: {found.not_run}")
        return accuracy_against_eps(found.curves, found.clean)

    def __str__(self) -> str:
        return str(self.report)

    def __repr__(self) -> str:
        return repr(self.report).replace("AuditReport", "Audit", 1)

    def _repr_html_(self) -> str:
        html: str = self.report._repr_html_()
        return html
