"""The checks of an audit: a code that stays, a threshold, an interval, a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assay import stats
from assay.report.record import NotRun, Unit
from assay.report.schema import Check, CheckVerdict

Direction = Literal["at least", "at most"]


@dataclass(frozen=True)
class Criterion:
    """What a section is judged by, before anything is measured.

    Attributes:
        code: a stable name, such as ROB-001: of the criterion alone, wherever it is in a list.
        title: what is checked, in a few words.
        question: the same as a question.
        threshold: what the value is compared with.
        direction: the side of the threshold that passes.
        unit: how value and threshold are shown.
        advice: what to do where it fails.
        gated: whether `--fail-on` asks it of a model without its code being named.
    """

    code: str
    title: str
    question: str
    threshold: float
    direction: Direction
    unit: Unit = "fraction"
    advice: str = ""
    gated: bool = True


@dataclass(frozen=True)
class Value:
    """What was measured of a criterion.

    Attributes:
        estimate: the value with its interval.
        detail: what the title says more, such as the kind of outlier that was the hardest.
        flags: codes of the reliability flags that are up and touch it.
        barred: why it does not pass even where the whole interval does; "": nothing bars it.
    """

    estimate: stats.Estimate
    detail: str = ""
    flags: tuple[str, ...] = ()
    barred: str = ""


REASONS: dict[CheckVerdict, str] = {
    "pass": "the whole interval is {} the threshold",
    "fail": "the whole interval lies on the wrong side of the threshold",
    "undecided": "the interval spans the threshold",
    "not run": "it rests on no images",
}


def judged(criterion: Criterion, found: Value | NotRun) -> Check:
    """Return the check: pass, fail, undecided (the interval spans the threshold, or something bars
    a pass), or not run, which never counts as a pass."""
    asked = {k: v for k, v in vars(criterion).items() if k not in ("advice", "gated")}
    if isinstance(found, NotRun):
        return Check(**asked, verdict="not run", reason=found.not_run)
    verdict = stats.judge_check(found.estimate, criterion.threshold, criterion.direction)
    reason = REASONS[verdict].format(criterion.direction)
    if verdict == "pass" and found.barred:
        verdict, reason = "undecided", found.barred
    if verdict == "fail" and criterion.advice:
        reason = f"{reason}. What to do: {criterion.advice}"
    title = f"{criterion.title} ({found.detail})" if found.detail else criterion.title
    return Check.model_validate(
        {
            **asked,
            "title": title,
            "value": found.estimate if found.estimate.n else None,
            "verdict": verdict,
            "reason": reason,
            "flags": found.flags,
        }
    )
