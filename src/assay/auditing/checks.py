"""The checks of an audit: a code that stays, a threshold, an interval, a verdict, what to do."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from assay import stats
from assay.report.record import NotRun, Unit
from assay.report.schema import Check, CheckVerdict

Direction = Literal["at least", "at most"]


@dataclass(frozen=True)
class Words:
    """How the first sentence of a report speaks of a check: what the model is.

    The verdict alone chooses among them. Checks with the same `about` (one for each detector, say)
    are mentioned once where they agree, and otherwise each by what it is `by`.

    Attributes:
        passes: completes "it is …", as "accurate" does; "" where a pass is not worth a word.
        fails: the same where it fails: "not accurate enough".
        whether: completes "it is undecided whether …": "it is accurate enough".
        about: what was not measured where it was not run: "accuracy".
        by: what sets it apart from the others about the same: "max-softmax".

    >>> from assay import auditing
    >>> words = auditing.Words("accurate", "inaccurate", "it is accurate enough", "accuracy")
    >>> words.fails
    'inaccurate'
    """

    passes: str
    fails: str
    whether: str
    about: str
    by: str = ""

    @classmethod
    def of(cls, title: str) -> Words:
        """Return words that suit any check; they are no more than right."""
        name = f"“{title}”"
        return cls(f"passing {name}", f"failing {name}", f"it passes {name}", name)


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
        words: how the report's first sentence speaks of it; None: by its title.
        more: the flags that give more of what the value rests on, where it is undecided; "": more
            cannot be had.
        share: whether the value is a share of the images that `more` gives: how many decide it is
            then known beforehand.

    >>> from assay import auditing
    >>> asked = ("DBT-001", "doubt", "Is it sure as a rule?", 0.5, "at most")
    >>> auditing.Criterion(*asked, advice="train it for longer").threshold
    0.5
    """

    code: str
    title: str
    question: str
    threshold: float
    direction: Direction
    unit: Unit = "fraction"
    advice: str = ""
    gated: bool = True
    words: Words | None = None
    more: str = "--images"
    share: bool = False

    def of(self, kind: str) -> Criterion:
        """Return the same criterion, worded for texts or examples in place of images.

        >>> from assay import auditing
        >>> asked = ("DBT-001", "doubt", "Is it sure of most images?", 0.5, "at least")
        >>> auditing.Criterion(*asked).of("texts").question
        'Is it sure of most texts?'
        """

        if kind == "images":
            return self

        def worded(text: str) -> str:
            text = text.replace(" (--mean, --std, --size)", "")  # which are of images
            return re.sub(r"(?<!-)\bimages\b", kind, text)

        words = self.words and Words(*(worded(text) for text in vars(self.words).values()))
        return replace(
            self,
            title=worded(self.title),
            question=worded(self.question),
            advice=worded(self.advice),
            words=words,
        )


@dataclass(frozen=True)
class Value:
    """What was measured of a criterion.

    Attributes:
        estimate: the value with its interval.
        detail: what the title says more, such as the kind of outlier that was the hardest.
        flags: codes of the reliability flags that are up and touch it.
        barred: why it does not pass even where the whole interval does; "": nothing bars it.
        remedy: what to do about what bars it.
        words: in place of the criterion's, where what was measured can be said more closely.

    >>> from assay import auditing
    >>> value = auditing.Value(assay.stats.proportion(3, 40, "images"))
    >>> value.estimate.value, value.flags
    (0.075, ())
    """

    estimate: stats.Estimate
    detail: str = ""
    flags: tuple[str, ...] = ()
    barred: str = ""
    remedy: str = ""
    words: Words | None = None


REASONS: dict[CheckVerdict, str] = {
    "pass": "the whole interval is {} the threshold",
    "fail": "the whole interval lies on the wrong side of the threshold",
    "undecided": "the interval spans the threshold",
    "not run": "it rests on nothing",
}


def judged(criterion: Criterion, found: Value | NotRun) -> Check:
    """Return the check: pass, fail, undecided (the interval spans the threshold, or something bars
    a pass), or not run, which never counts as a pass."""
    asked = {k: v for k, v in vars(criterion).items() if k in Check.model_fields and k != "advice"}
    if isinstance(found, NotRun):
        return Check(**asked, verdict="not run", reason=found.not_run)
    verdict = stats.judge_check(found.estimate, criterion.threshold, criterion.direction)
    reason, advice = REASONS[verdict].format(criterion.direction), ""
    if verdict == "pass" and found.barred:
        verdict, reason, advice = "undecided", found.barred, found.remedy
    elif verdict == "fail":
        advice = criterion.advice
    elif verdict == "undecided" and criterion.more:
        advice = _more(found.estimate, criterion)
    title = f"{criterion.title} ({found.detail})" if found.detail else criterion.title
    return Check.model_validate(
        {
            **asked,
            "title": title,
            "value": found.estimate if found.estimate.n else None,
            "verdict": verdict,
            "reason": reason,
            "advice": advice,
            "flags": found.flags,
        }
    )


MOST = 50
"""Times as many images as there were: more are not worth naming."""


def _more(value: stats.Estimate, criterion: Criterion) -> str:
    """Return how many more observations would decide: an interval shrinks with their root."""
    if not math.isfinite(value.high - value.low):
        return f"all values are the same, which shows no spread: give more ({criterion.more})"
    gap = abs(value.value - criterion.threshold)
    reach = (
        value.value - value.low if value.value > criterion.threshold else value.high - value.value
    )
    times = (reach / gap) ** 2 if gap else math.inf
    if times > MOST:
        return (
            f"the value lies so near the threshold that no number of {value.of} in reach decides it"
        )
    needed = math.ceil(value.n * (times - 1))
    what = value.of.split(",")[0].removeprefix("all ")  # after a comma: how many of each kind
    return f"about {needed:,} more {what} would decide it at this value ({criterion.more})"
