"""What makes an audit exit with another code than 0: a policy, or the verdicts named by flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from assay.auditing.checks import Criterion
from assay.auditing.config import AuditConfig
from assay.auditing.policy import FAILED, UNKNOWN, Policy, gate, planned
from assay.errors import AssayError, unknown
from assay.report.schema import Check

FailOn = Literal["never", "fail", "undecided"]

REFUSED: dict[FailOn, set[str]] = {
    "never": set(),
    "fail": {"fail", "not run"},
    "undecided": {"undecided", "fail", "not run"},
}
"""By --fail-on: the verdicts that are refused. The order of verdicts is pass, undecided, fail, not
run: of a check that was not run nothing is known, so only "never" accepts it."""


MET = {
    0: "the policy is met",
    FAILED: "the policy is not met: a check failed (exit code 1)",
    UNKNOWN: "whether the policy is met is not known: a required check is undecided or was not run "
    "(exit code 3)",
}
"""What an exit code says of a policy."""


@dataclass(frozen=True)
class Asked:
    """What the user asks of an audit.

    Attributes:
        fail_on: the least bad verdict that makes the exit code 1.
        checks: codes of the checks that this is asked of; none: those that are gated.
        policy: a policy instead, which also has thresholds.
    """

    fail_on: FailOn = "never"
    checks: Sequence[str] = ()
    policy: Policy | None = None

    def refuse_unknown(self, config: AuditConfig) -> None:
        """Refuse codes that no section of an audit has a check for, and two gates at once.

        Raises:
            AssayError: names the nearest one.
        """
        criteria = criteria_of(config)
        if self.policy is not None:
            if self.checks or self.fail_on != "never":
                raise AssayError("--policy says which checks count: drop --fail-on and --checks")
            self.policy.refuse_unknown(criteria)
        known = [criterion.code for criterion in criteria]
        for code in self.checks:
            if code not in known:
                raise unknown("check", code, known)

    def planned(self, config: AuditConfig, images: int, asked: int) -> list[str]:
        """Return what the images can decide of what the policy asks for; nothing without one.

        Args:
            config: what is measured.
            images: how many there are.
            asked: how many of them are to be used.
        """
        if self.policy is None:
            return []
        n = min(images, asked)
        counts = {"--images": n, "--attacked": min(n, config.attacked)}
        criteria = [one for one in criteria_of(config) if one.code in self.policy.checks]
        return planned(map(self.policy.asks, criteria), counts, self.policy.level)

    def judged(
        self, checks: Sequence[Check], config: AuditConfig, today: date
    ) -> tuple[int, list[str]]:
        """Return the exit code, and a line for each check that is refused or waived; of a policy
        also whether it is met."""
        if self.policy is not None:
            found = gate(checks, self.policy, today)
            return found.code, [*found.lines, MET[found.code]]
        counted = self.checks or gated(config)
        bad = [c for c in checks if c.verdict in REFUSED[self.fail_on] and c.code in counted]
        return int(bool(bad)), [_line(check) for check in bad]


def criteria_of(config: AuditConfig) -> list[Criterion]:
    """Return what an audit is judged by."""
    return [one for section in config.sections for one in section.criteria(config)]


def gated(config: AuditConfig) -> list[str]:
    """Return the codes of the checks that count where none is named."""
    return [one.code for one in criteria_of(config) if one.gated]


def _line(check: Check) -> str:
    todo = f". What to do: {check.advice}" if check.advice else ""
    return f"{check.code} {check.verdict}: {check.reason}{todo}"
