"""What the terminal shows of a report, and of a study's result."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from assay.report.answer import pieces
from assay.report.flagged import flagged
from assay.report.numerals import MISSING, asked, full, with_unit
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
UNIT = re.compile(r"(?<=\d) (%|points\b|seeds?\b|images\b)")
"""What stays with the number before it."""


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


@dataclass(frozen=True)
class Prose:
    """Sentences, broken where no number is torn from its unit.

    Attributes:
        text: the sentences.
        style: of all of it.
        bold: where what is bold begins and ends.
    """

    text: str
    style: str = ""
    bold: tuple[tuple[int, int], ...] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # Rich breaks at no-break spaces too; textwrap does not.
        whole = UNIT.sub("\u00a0\\1", self.text)
        width = max(options.max_width, 1)
        lines = textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)
        shown = Text("\n".join(lines).replace("\u00a0", " "), self.style, no_wrap=True)
        for start, end in self.bold:
            shown.stylize("bold", start, end)
        yield shown

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(20, options.max_width), min(len(self.text), options.max_width))


def summary(report: AuditReport) -> RenderableType:
    """Return what the terminal shows of an audit: verdict, numbers, checks, raised flags."""
    parts: list[RenderableType] = [Text(report.title, style="bold")]
    parts += [answer(report.answer)] if report.answer else []
    parts += [Prose(report.summary)] if report.summary else []
    parts += [block(judged_checks(report))]
    parts += [Text(f"! {flagged(flag)}", style="yellow") for flag in report.flags if flag.raised]
    return Group(*parts)


def study_summary(result: StudyResult) -> RenderableType:
    """Return what the terminal shows of a study: question, answer, the verdict on each claim."""
    parts: list[RenderableType] = [Text(result.question, style="bold")]
    if result.preset == "smoke":
        parts.append(Text("smoke test: not evidence", style="yellow"))
    if result.answer:
        parts.append(answer(result.answer))
    elif result.summary:
        parts.append(Prose(result.summary))
    parts.append(block(map(judged_claim, result.claims)))
    failed = sum(trial.status == "failed" for trial in result.trials)
    if failed:
        parts.append(Text(f"! {failed} of {len(result.trials)} trials failed", style="yellow"))
    return Group(*parts)


def answer(text: str) -> Prose:
    """Return the answer of a study with its bold words in bold."""
    found = pieces(text)
    ends = [0, *itertools.accumulate(len(piece) for piece, _ in found)]
    bold = [(ends[k], ends[k + 1]) for k, (_, is_bold) in enumerate(found) if is_bold]
    return Prose("".join(piece for piece, _ in found), bold=tuple(bold))


def block(judged: Iterable[Judged]) -> RenderableType:
    """Return claims or checks as test runners show tests, whole on a terminal of 60 columns: the
    verdict, beside it code, value and sentence."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in judged:
        head = Columns([Text(one.code, style="dim"), Text(one.value, style="bold")], padding=(0, 2))
        told: list[RenderableType] = [head, Prose(one.sentence)]
        told += [Prose(one.more, "dim")] if one.more else []
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
    threshold = f"{check.title}: {asked(check.direction, check.threshold, check.unit)}"
    more = [check.reason] if check.verdict in ("undecided", "not run") else []
    more += [f"What to do: {check.advice}"] if check.advice else []
    return Judged(check.verdict, check.code, value, threshold, ". ".join(filter(None, more)))


def judged_checks(report: AuditReport) -> list[Judged]:
    """Return the checks of an audit as the terminal shows them, failures first; advice that two
    share is given once."""
    found: list[Judged] = []
    given: dict[str, str] = {}
    for check in worst_first(report.checks):
        before = given.setdefault(check.advice, check.code)
        if check.advice and before != check.code:
            check = check.model_copy(update={"advice": f"as for {before}"})
        found.append(judged_check(check))
    return found


def _more(claim: Claim) -> str:
    """Return what would decide a claim, and why it lacks runs."""
    said = []
    ways = [
        f"{needed:,} more {what}{'s' * (needed > 1)}"
        for what, needed in (("seed", claim.seeds_needed), (claim.inputs[:-1], claim.images_needed))
        if needed
    ]
    if ways:
        said.append(f"About {' or '.join(ways)} would decide.")
    if claim.verdict == "not run" or any(claim.failed.values()):
        said.append(claim.note)
    return " ".join(said)
