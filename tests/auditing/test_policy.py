"""A policy on made-up verdicts, in both directions; and what a number of images can decide."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from assay import stats
from assay.auditing.checks import Criterion, Value, judged
from assay.auditing.config import AuditConfig
from assay.auditing.policy import Policy, Requirement, Waiver, gate, planned
from assay.config import read_yaml
from assay.errors import AssayError
from assay.report.record import NotRun
from assay.report.schema import Check
from assay.stats.planning import needed, reach

DAY = date(2027, 1, 31)


def check(code: str, verdict: Any) -> Check:
    return Check(code=code, title="t", question="q", threshold=0.5, direction="at least",
                 verdict=verdict, reason="why")  # fmt: skip


def asked(*waivers: Waiver, **checks: Any) -> Policy:
    named = {code.replace("_", "-"): Requirement(**said) for code, said in checks.items()}
    return Policy(checks=named, waivers=waivers)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (("pass", "pass"), 0),
        (("fail", "pass"), 1),
        (("pass", "undecided"), 3),
        (("not run", "pass"), 3),
        (("undecided", "fail"), 1),
        (("fail", "not run"), 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst(verdicts: tuple[str, str], code: int) -> None:
    checks = [check(f"C-{k}", verdict) for k, verdict in enumerate(verdicts)]
    found = gate(checks, asked(C_0={}, C_1={}), DAY)
    assert found.code == code
    assert len(found.lines) == sum(verdict != "pass" for verdict in verdicts)
    assert gate([*checks, check("C-9", "fail")], asked(C_0={}, C_1={}), DAY).code == code, (
        "what is not asked for does not count"
    )


@pytest.mark.parametrize("verdict", ["undecided", "not run", "fail"])
@pytest.mark.parametrize("accepted", ["undecided", "not_run"])
def test_what_may_be_unknown_is_said_for_each(verdict: str, accepted: str) -> None:
    found = gate([check("C-0", verdict)], asked(C_0={accepted: "accepted"}), DAY)
    right = verdict == accepted.replace("_", " ")
    assert (found.code == 0) == right
    assert bool(found.lines) != right


def test_a_pass_by_queries_alone_is_said_to_be_one() -> None:
    found = gate(
        [check("C-0", "pass").model_copy(update={"title": "t (by queries alone)"})],
        asked(C_0={}),
        DAY,
    )
    assert found.code == 0
    assert found.lines == ("C-0 pass: by queries alone; who has the weights may break more",)


def test_a_waiver_holds_to_its_last_day_and_has_a_reason() -> None:
    waiver = Waiver(code="C-0", reason="a known fault", until=DAY)
    policy = asked(waiver, C_0={})
    found = gate([check("C-0", "fail")], policy, DAY)
    assert found.code == 0
    assert found.lines == ("C-0 fail, waived until 2027-01-31: a known fault",)
    late = gate([check("C-0", "fail")], policy, date(2027, 2, 1))
    assert late.code == 1
    assert late.lines == ("C-0 fail: why (its waiver ended on 2027-01-31)",)
    assert gate([check("C-0", "pass")], policy, DAY).lines == (
        "C-0 pass: its waiver is not needed",
    )
    with pytest.raises(AssayError, match="reason"):
        Policy.parse({"checks": {"C-0": {}}, "waivers": [{"code": "C-0", "reason": "",
                                                          "until": "2027-01-31"}]})  # fmt: skip


def test_a_check_that_the_audit_does_not_have_is_not_run() -> None:
    assert gate([], asked(C_0={}), DAY).code == 3


def test_a_file_is_a_policy() -> None:
    text = (
        "level: 0.99\nchecks:\n  ACC-001: {threshold: 0.9}\n  ROB-001: {undecided: accepted}\n"
        "waivers:\n  - {code: ACC-001, reason: none yet, until: 2027-06-30}\n"
    )
    policy = Policy.parse(read_yaml(text, where="policy.yaml"), where="policy.yaml")
    assert policy.waivers[0].until == date(2027, 6, 30)
    assert Policy.parse(read_yaml(policy.to_yaml(), where="printed")) == policy
    for wrong in ("checks: {}", "checks: {ACC-001: {treshold: 1}}", "level: 2\nchecks: {A: {}}",
                  "checks: {A: {}}\nwaivers: [{code: A, reason: b, until: soon}]"):  # fmt: skip
        with pytest.raises(AssayError):
            Policy.parse(read_yaml(wrong, where="p"), where="p")
    sections = AuditConfig().sections
    criteria = [one for section in sections for one in section.criteria(AuditConfig())]
    policy.refuse_unknown(criteria)
    with pytest.raises(AssayError, match="unknown check 'ACC-01': did you mean"):
        asked(ACC_01={}).refuse_unknown(criteria)


def test_its_threshold_and_its_level_are_those_that_judge() -> None:
    criterion = Criterion("ACC-001", "t", "q", 0.9, "at least")
    value = Value(stats.proportion(85, 100, "images"))
    policy = Policy(level=0.99, checks={"ACC-001": Requirement(threshold=0.77)})
    assert judged(criterion, value).verdict == "undecided"
    assert judged(replace(criterion, threshold=0.76), value).verdict == "pass"
    surer = policy.sees(value)
    assert isinstance(surer, Value)
    assert surer.estimate.level == 0.99
    assert judged(policy.asks(criterion), value).verdict == "undecided"
    assert judged(replace(criterion, threshold=0.76), surer).verdict == "undecided", "99 % is wider"
    nothing = NotRun(not_run="no")
    assert policy.sees(nothing) is nothing
    assert policy.asks(Criterion("CAL-001", "t", "q", 0.1, "at most")).threshold == 0.1


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_an_interval_at_another_level(level: float) -> None:
    share = stats.proportion(17, 60, "images")
    assert stats.at_level(share, level) == stats.proportion(17, 60, "images", level)
    mean = stats.mean_interval([0.1, 0.3, 0.2, 0.4, 0.25], "seeds")
    other = stats.at_level(mean, level)
    ratio = {0.8: 1.2816 / 1.96, 0.95: 1.0, 0.99: 2.5758 / 1.96}[level]
    assert other.high - mean.value == pytest.approx(ratio * (mean.high - mean.value), rel=1e-3)
    assert (other.level, other.n) == (level, 5)


def test_what_so_many_images_can_decide() -> None:
    can = reach(100, 0.5, "at least")
    assert (can.passes, can.fails) == (0.6, 0.4)
    assert reach(100, 0.5, "at most") == replace(can, passes=0.4, fails=0.6)
    assert reach(100, 0.99, "at least").passes is None, "not even if all are right"
    for n in (7, 50, 333):
        for threshold in (0.1, 0.5, 0.9):
            can = reach(n, threshold, "at least")
            if can.passes is not None:
                k = round(can.passes * n)
                assert stats.proportion(k, n, "").low >= threshold
                assert k == 0 or stats.proportion(k - 1, n, "").low < threshold
            if can.fails is not None:
                k = round(can.fails * n)
                assert stats.proportion(k, n, "").high < threshold
                assert stats.proportion(k + 1, n, "").high >= threshold
    few = needed(0.5, 0.05)
    assert few == 385
    assert stats.proportion(550, 1000, "").low > 0.5, "far more than enough"
    assert stats.proportion(110, 200, "").low < 0.5, "far too few"
    assert needed(0.99, 1.0) == 381
    assert needed(1.0, 0.0) is None


def test_the_plan_says_what_will_be_undecided() -> None:
    share = Criterion("ROB-001", "t", "q", 0.5, "at least", more="--attacked", share=True)
    (line,) = planned(
        [share, replace(share, code="CAL-001", share=False)], {"--attacked": 100}, 0.95
    )
    assert line == (
        "ROB-001 (at least 50.0 %): 100 images pass it from 60.0 %, fail it up to 40.0 %, "
        "and leave it undecided in between; a value 5 points better than the threshold takes 385 "
        "(--attacked)"
    )
    (line,) = planned([replace(share, threshold=0.99)], {"--attacked": 100}, 0.95)
    assert line.endswith("cannot pass it, whatever the model; that takes 381 images at least")
    (line,) = planned(
        [replace(share, direction="at most", threshold=0.05)], {"--attacked": 500}, 0.95
    )
    assert "pass it up to 3.0 %, fail it from 7.0 %" in line
