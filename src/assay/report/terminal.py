"""What the terminal shows of a report, and of a study's result."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.report.numerals import MISSING, full, with_unit
from assay.report.result import Claim, StudyResult
from assay.report.schema import AuditReport

_STYLES = {
    "pass": "bold green",
    "holds": "bold green",
    "equivalent": "bold green",
    "fail": "bold red",
    "does not hold": "bold red",
    "undecided": "bold yellow",
    "not run": "dim",
}


def summary(report: AuditReport) -> RenderableType:
    """Return what the terminal shows of an audit: summary, checks, raised flags."""
    rows = [
        (
            check.code,
            check.title,
            MISSING if check.value is None else full(check.value, check.unit),
            f"{check.direction} {with_unit(check.threshold, check.unit)}",
            check.verdict,
            check.reason if check.verdict in ("undecided", "not run") else "",
        )
        for check in report.checks
    ]
    parts: list[RenderableType] = [
        Text(report.title, style="bold"),
        Text(report.summary),
        _verdicts(("", "check", "value", "threshold", "verdict"), rows),
    ]
    parts += [
        Text(f"! {flag.code}: {flag.title}. {flag.detail}", style="yellow")
        for flag in report.flags
        if flag.raised
    ]
    return Group(*parts)


def study_summary(result: StudyResult) -> RenderableType:
    """Return what the terminal shows of a study: the question and the verdict on each claim."""
    rows = [
        (
            claim.code,
            claim.text,
            MISSING if claim.estimate is None else full(claim.estimate, claim.unit),
            with_unit(claim.delta, claim.unit),
            claim.verdict,
            _more(claim),
        )
        for claim in result.claims
    ]
    parts: list[RenderableType] = [Text(result.question, style="bold")]
    if result.summary:
        parts.append(Text(result.summary))
    parts.append(_verdicts(("", "claim", "effect", "matters from", "verdict"), rows))
    failed = sum(trial.status == "failed" for trial in result.trials)
    if failed:
        parts.append(Text(f"! {failed} of {len(result.trials)} trials failed", style="yellow"))
    return Group(*parts)


def _more(claim: Claim) -> str:
    """Return what would decide a claim, and why it lacks runs."""
    said = []
    ways = [
        f"{needed:,} more {what}"
        for what, needed in (("seeds", claim.seeds_needed), ("images", claim.images_needed))
        if needed
    ]
    if ways:
        said.append(f"about {' or '.join(ways)} would decide.")
    if claim.verdict == "not run" or any(claim.failed.values()):
        said.append(claim.note)
    return " ".join(said)


def _verdicts(heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> RenderableType:
    """Return a table whose last cell is a verdict, and below it what more is to be said."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    notes = Text()
    for head in heads:
        table.add_column(head, no_wrap=head in ("", "verdict"))
    for *cells, verdict, more in rows:
        table.add_row(*map(Text, cells), Text(verdict, style=_STYLES[verdict]))
        if more:
            notes.append(f"{cells[0]}  {more}\n", style="dim")
    notes.rstrip()
    return Group(table, notes) if notes else table
