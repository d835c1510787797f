"""A report as Markdown: what a CI job shows as its summary ($GITHUB_STEP_SUMMARY)."""

from __future__ import annotations

import re

from assay.report.findings import not_tested
from assay.report.flagged import flagged
from assay.report.numerals import MISSING, asked, full
from assay.report.schema import AuditReport, Check, worst_first

MARKS = {"pass": "✅", "fail": "❌", "undecided": "❔", "not run": "➖"}
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def markdown(report: AuditReport) -> str:
    """Return the answer, a table of the checks with the worst first, and the flags that are up.

    What comes from elsewhere (titles, reasons) is escaped.
    """
    lines = [f"# {plain(report.title)}", ""]
    if report.answer:
        said = "**".join(SPECIAL.sub(r"\\\1", part) for part in report.answer.split("**"))
        lines += [said, ""]
    lines += ["| | check | | value | threshold |", "| --- | --- | --- | --- | --- |"]
    lines += [_row(check) for check in worst_first(report.checks)]
    raised = [flag for flag in report.flags if flag.raised]
    if raised:
        lines += ["", "Reasons not to trust some of it:", ""]
        lines += [f"- {plain(flagged(flag))}" for flag in raised]
    advice = [check for check in worst_first(report.checks) if check.advice]
    if advice:
        lines += ["", "What to do:", ""]
        lines += [f"- {check.code}: {plain(check.advice)}" for check in advice]
    missing = not_tested(report)
    if missing:
        lines += ["", "What was not tested:", ""]
        lines += [f"- {name}: {plain(why)}" for name, why in missing.items()]
    lines += ["", f"Made by `{report.made.command.replace('`', '')}`."]
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Return a text in which nothing is Markdown or HTML."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _row(check: Check) -> str:
    value = MISSING if check.value is None else full(check.value, check.unit)
    limit = MISSING
    if check.threshold is not None:
        limit = asked(check.direction, check.threshold, check.unit)
    cells = (
        MARKS[check.verdict],
        check.code,
        plain(check.title),
        f"{check.verdict}: {value}",
        limit,
    )
    return f"| {' | '.join(cells)} |"
