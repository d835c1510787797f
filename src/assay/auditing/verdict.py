"""The first sentence of a report: what the checks say together, in words that need no page.

The verdicts alone choose the words, so that the sentence cannot contradict them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from assay.auditing.checks import Criterion, Value, Words
from assay.report.record import NotRun
from assay.report.schema import Check, CheckVerdict


@dataclass(frozen=True)
class Spoken:
    """What one check adds to the sentence."""

    verdict: CheckVerdict
    words: Words

    @property
    def phrase(self) -> str:
        """What its verdict says; "" where a pass is not worth a word."""
        words = self.words
        said = {"pass": words.passes, "fail": words.fails, "undecided": words.whether}
        return said.get(self.verdict, words.about)


def spoken(criterion: Criterion, found: Value | NotRun, check: Check) -> Spoken:
    """Return the words for a check: those of its criterion, or of what was measured."""
    words = found.words if isinstance(found, Value) and found.words else criterion.words
    return Spoken(check.verdict, words or Words.of(criterion.title))


def sentence(checks: Sequence[Spoken]) -> str:
    """Return the sentence; `**` marks what is set in bold: what the model fails.

    >>> good, bad = Words("accurate", "wrong", "it is accurate", "accuracy"), Words.of("sums")
    >>> sentence([Spoken("pass", good), Spoken("fail", bad)])
    'Accurate; **failing “sums”**.'
    """
    passes, fails, unsure, unknown = (
        _phrases(checks, verdict) for verdict in ("pass", "fail", "undecided", "not run")
    )
    parts = [_listed(passes)] if passes else []
    parts += [f"**{_listed(fails)}**"] if fails else []
    parts += [f"undecided {_listed(f'whether {one}' for one in unsure)}"] if unsure else []
    parts += [f"not measured: {_listed(unknown)}"] if unknown else []
    if not parts:
        return "Every check passes." if checks else "Nothing was judged."
    said = "; ".join(parts)
    at = 2 if said.startswith("**") else 0
    return f"{said[:at]}{said[at].upper()}{said[at + 1 :]}."


def _phrases(checks: Sequence[Spoken], verdict: CheckVerdict) -> list[str]:
    """Return what the checks of a verdict say: once, where all that are about one thing agree;
    otherwise each with what sets it apart."""
    found: dict[str, list[str]] = {}
    for check in checks:
        if check.verdict != verdict or not check.phrase:
            continue
        same = {(one.verdict, one.phrase) for one in checks if one.words.about == check.words.about}
        apart = found.setdefault(check.phrase, [])
        if len(same) > 1 and check.words.by:
            apart.append(check.words.by)
    return [f"{one} by {_listed(ways)}" if ways else one for one, ways in found.items()]


def _listed(phrases: Iterable[str]) -> str:
    """Return "a", "a and b", "a, b and c"; with a comma before "and" where phrases are long."""
    *first, last = phrases
    if not first:
        return last
    comma = "," if any(" " in one for one in (*first[1:], last)) else ""
    return f"{', '.join(first)}{comma} and {last}"
