"""A policy: which checks a model must pass before it is shipped, how surely, and what is waived.

    level: 0.95
    checks:
      ACC-001: {threshold: 0.9}
      ROB-001: {threshold: 0.3, undecided: accepted}
      CAL-001: {not_run: accepted}
    waivers:
      - {code: CAL-001, reason: scores are not shown to anybody, until: 2027-06-30}

It judges numbers that an audit measured, and is told the date; so it can be tested on made-up ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from assay import stats
from assay.auditing.checks import Criterion, Value
from assay.config import Config, Number
from assay.errors import AssayError, unknown
from assay.report.numerals import with_unit
from assay.report.record import NotRun
from assay.report.schema import BY_QUERIES, Check
from assay.stats.planning import needed, reach

Unknown = Literal["refused", "accepted"]

FAILED, UNKNOWN = 1, 3
"""Exit codes: a check failed; one that is required is undecided or was not run."""


class Requirement(Config):
    """What is asked of one check."""

    threshold: Number | None = None
    """What its value is compared with; none: as the audit's settings say."""
    undecided: Unknown = "refused"
    """Whether it may be undecided."""
    not_run: Unknown = "refused"
    """Whether it may be not run."""


class Waiver(Config):
    """A check that may fail, for a reason and for a time."""

    code: str
    """The check."""
    reason: str = Field(min_length=1)
    """Why."""
    until: date
    """The last day on which it holds."""


class Policy(Config):
    """What a model must pass."""

    schema_version: Literal[1] = 1
    """Version of this file's form."""
    level: Annotated[Number, Field(gt=0.5, lt=1)] = 0.95
    """How sure: the confidence level of the intervals that are compared with thresholds."""
    checks: dict[str, Requirement] = Field(min_length=1)
    """What is asked, by the codes of checks; the others do not count."""
    waivers: tuple[Waiver, ...] = ()
    """What may fail all the same."""

    def refuse_unknown(self, criteria: Iterable[Criterion]) -> None:
        """Refuse codes that no section of an audit has a check for, and thresholds beyond reach.

        Raises:
            AssayError: names the nearest one; or a threshold that no fraction reaches.
        """
        known = {criterion.code: criterion for criterion in criteria}
        for code in (*self.checks, *(waiver.code for waiver in self.waivers)):
            if code not in known:
                raise unknown("check", code, known)
        for code, asked in self.checks.items():
            limit = asked.threshold
            if limit is not None and known[code].unit == "fraction" and not 0 <= limit <= 1:
                raise AssayError(
                    f"the threshold of {code} is a fraction from 0 to 1, not {limit:g}: write "
                    f"{limit / 100:g} if {limit:g} % was meant"
                )

    def asks(self, criterion: Criterion) -> Criterion:
        """Return a criterion with the threshold that is asked for."""
        asked = self.checks.get(criterion.code)
        if asked is None or asked.threshold is None:
            return criterion
        return replace(criterion, threshold=asked.threshold)

    def sees(self, found: Value | NotRun) -> Value | NotRun:
        """Return a value with its interval at the level that is asked for."""
        if isinstance(found, NotRun) or found.estimate.level == self.level:
            return found
        return replace(found, estimate=stats.at_level(found.estimate, self.level))


@dataclass(frozen=True)
class Gate:
    """What a policy says of an audit.

    Attributes:
        code: the exit code: 0, 1 (a check failed) or 3 (a required one is undecided or not run).
        lines: what is refused, what is waived, what the waivers say; a pass by queries alone.
    """

    code: int
    lines: tuple[str, ...]


def gate(checks: Iterable[Check], policy: Policy, today: date) -> Gate:
    """Judge the checks of an audit by a policy.

    Args:
        checks: as the audit judged them, with the thresholds and the level of the policy.
        policy: what is asked.
        today: waivers hold up to and including their last day.
    """
    found: Mapping[str, Check] = {check.code: check for check in checks}
    waivers = {waiver.code: waiver for waiver in policy.waivers}
    code, lines = 0, []
    for name, asked in policy.checks.items():
        check = found.get(name)
        verdict = "not run" if check is None else check.verdict
        accepted = {"undecided": asked.undecided, "not run": asked.not_run}
        if verdict == "pass" or accepted.get(verdict) == "accepted":
            if name in waivers:
                lines.append(f"{name} {verdict}: its waiver is not needed")
            if check is not None and verdict == "pass" and BY_QUERIES in check.title:
                lines.append(f"{name} pass: {BY_QUERIES}; who has the weights may break more")
            continue
        waiver = waivers.get(name)
        if waiver is not None and today <= waiver.until:
            lines.append(f"{name} {verdict}, waived until {waiver.until}: {waiver.reason}")
            continue
        why = "the audit has no such check" if check is None else check.reason
        late = "" if waiver is None else f" (its waiver ended on {waiver.until})"
        lines.append(f"{name} {verdict}: {why}{late}")
        code = FAILED if verdict == "fail" or code == FAILED else UNKNOWN
    return Gate(code, tuple(lines))


MARGIN = 0.05
"""How near to the threshold a value may lie for which it is said how many images decide it."""


def planned(criteria: Iterable[Criterion], counts: Mapping[str, int], level: float) -> list[str]:
    """Return, for each threshold on a share of images, what the images given can decide.

    Args:
        criteria: with the thresholds that hold.
        counts: how many images there are, by the flag that sets it: --images, --attacked.
        level: of the intervals.
    """
    return [
        _plan(criterion, counts[criterion.more], level)
        for criterion in criteria
        if criterion.share and criterion.more in counts
    ]


def _plan(criterion: Criterion, n: int, level: float) -> str:
    threshold, direction = criterion.threshold, criterion.direction
    wanted = f"{criterion.code} ({direction} {with_unit(threshold, 'fraction')})"
    can = reach(n, threshold, direction, level)
    more = needed(threshold, MARGIN, direction, level)
    gap = f"{100 * MARGIN:.0f} points"
    if can.passes is None:
        least = needed(threshold, 1.0, direction, level)
        few = "no number of images" if least is None else f"{least:,} images at least"
        return f"{wanted}: {n:,} images cannot pass it, whatever the model; that takes {few}"
    side, other = ("from", "up to") if direction == "at least" else ("up to", "from")
    said = f"{wanted}: {n:,} images pass it {side} {with_unit(can.passes, 'fraction')}"
    if can.fails is not None:
        said += f", fail it {other} {with_unit(can.fails, 'fraction')}"
    said += ", and leave it undecided in between"
    if more is not None and more > n:
        said += f"; a value {gap} better than the threshold takes {more:,} ({criterion.more})"
    return said
