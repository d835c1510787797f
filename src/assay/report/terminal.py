"""What the terminal shows of a report, and of a study's result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assay.report.answer import pieces
from assay.report.numerals import MISSING, full, with_unit
from assay.report.result import Claim, StudyResult
from assay.report.schema import AuditReport, Check, worst_first

_STYLES = {
    "pass": "bold green",
    "holds": "bold green",
    "equivalent": "bold green",
    "fail": "bold red",
    "does not hold": "bold red",
    "undecided": "bold yellow",
    "not run": "dim",
}


@dataclass(frozen=True)
class Judged:
    """A claim or a check as the terminal shows it.

    Attributes:
        verdict: one of `ClaimVerdict` or `CheckVerdict`.
        code: its stable name.
        value: the number with its interval and its n.
        sentence: what is judged, and from where on it counts.
        more: what else is to be said; empty: nothing.
    """

    verdict: str
    code: str
    value: str
    sentence: str
    more: str = ""


def summary(report: AuditReport) -> RenderableType:
    """Return what the terminal shows of an audit: verdict, numbers, checks, raised flags."""
    parts: list[RenderableType] = [Text(report.title, style="bold")]
    parts += [answer(report.answer)] if report.answer else []
    parts += [Text(report.summary)] if report.summary else []
    parts += [block(map(judged_check, worst_first(report.checks)))]
    parts += [
        Text(f"! {flag.code}: {flag.title}. {flag.detail}", style="yellow")
        for flag in report.flags
        if flag.raised
    ]
    return Group(*parts)


def study_summary(result: StudyResult) -> RenderableType:
    """Return what the terminal shows of a study: question, answer, the verdict on each claim."""
    parts: list[RenderableType] = [Text(result.question, style="bold")]
    if result.preset == "smoke":
        parts.append(Text("smoke test: not evidence", style="yellow"))
    if result.answer:
        parts.append(answer(result.answer))
    elif result.summary:
        parts.append(Text(result.summary))
    parts.append(block(map(judged_claim, result.claims)))
    failed = sum(trial.status == "failed" for trial in result.trials)
    if failed:
        parts.append(Text(f"! {failed} of {len(result.trials)} trials failed", style="yellow"))
    return Group(*parts)


def answer(text: str) -> Text:
    """Return the answer of a study with its bold words in bold."""
    return Text.assemble(*((piece, "bold" if bold else "") for piece, bold in pieces(text)))


def block(judged: Iterable[Judged]) -> RenderableType:
    """Return claims or checks as test runners show tests, whole on a terminal of 60 columns: the
    verdict, beside it code, value and sentence."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in judged:
        head = Columns([Text(one.code, style="dim"), Text(one.value, style="bold")], padding=(0, 2))
        told: list[RenderableType] = [head, Text(one.sentence)]
        told += [Text(one.more, style="dim")] if one.more else []
        table.add_row(Text(one.verdict, style=_STYLES.get(one.verdict, "")), Group(*told))
    return Padding(table, (1, 0))


def judged_claim(claim: Claim) -> Judged:
    """Return a claim as the terminal shows it."""
    matters = "" if claim.delta is None else f" Matters from {with_unit(claim.delta, claim.unit)}."
    value = MISSING if claim.estimate is None else full(claim.estimate, claim.unit)
    value += f" per {claim.per}" if claim.per else ""
    return Judged(claim.verdict, claim.code, value, claim.text + matters, _more(claim))


def judged_check(check: Check) -> Judged:
    """Return a check as the terminal shows it."""
    value = MISSING if check.value is None else full(check.value, check.unit)
    threshold = f"{check.title}: {check.direction} {with_unit(check.threshold, check.unit)}"
    more = [check.reason] if check.verdict in ("undecided", "not run") else []
    more += [f"What to do: {check.advice}"] if check.advice else []
    return Judged(check.verdict, check.code, value, threshold, ". ".join(filter(None, more)))


def _more(claim: Claim) -> str:
    """Return what would decide a claim, and why it lacks runs."""
    said = []
    ways = [
        f"{needed:,} more {what}{'s' * (needed > 1)}"
        for what, needed in (("seed", claim.seeds_needed), ("image", claim.images_needed))
        if needed
    ]
    if ways:
        said.append(f"About {' or '.join(ways)} would decide.")
    if claim.verdict == "not run" or any(claim.failed.values()):
        said.append(claim.note)
    return " ".join(said)
