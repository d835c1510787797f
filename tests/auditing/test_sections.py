"""Accuracy, calibration and confusion of made-up answers; and how a section fails for itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from assay.auditing import AuditConfig, Thresholds, audit
from assay.auditing.outcome import outcome
from assay.auditing.section import Measured
from assay.auditing.sections.accuracy import Accuracy
from assay.auditing.sections.calibration import Calibration
from assay.auditing.sections.confusion import Confusion
from assay.core.blackbox import BlackBox
from assay.errors import AssayError
from assay.report.record import NotRun
from assay.report.schema import Chapter

from .made_up import black_box, evidence, saying

RIGHT, WRONG = [0, 1, 2] * 10, [1, 2, 0] * 10


def verdicts(predictions: list[int], y: list[int], sure: float = 1.0, **thresholds: float) -> Any:
    config = AuditConfig(
        sections=(Accuracy(), Calibration(), Confusion()), thresholds=Thresholds(**thresholds)
    )
    e = evidence(predictions, y, sure=sure)
    return {c.code: c for c in audit(e.model, e.x, e.y, config=config).checks}


def test_accuracy_must_be_high_and_the_calibration_error_low() -> None:
    known = verdicts(RIGHT, RIGHT, accuracy=0.8, calibration=0.2)
    assert known["ACC-001"].verdict == "pass"
    assert known["CAL-001"].verdict == "pass", "it is right, and sure of it"
    unknown = verdicts(RIGHT, WRONG, accuracy=0.2, calibration=0.8)
    assert unknown["ACC-001"].verdict == "fail"
    assert unknown["CAL-001"].verdict == "fail", "it is wrong, and sure of it"
    assert unknown["CAL-001"].value.value > 0.99
    assert set(known) == {"ACC-001", "CAL-001"}
    for check in (*known.values(), *unknown.values()):
        assert check.direction == ("at least" if check.code == "ACC-001" else "at most")


def test_thresholds_are_those_of_the_config() -> None:
    said = verdicts(RIGHT, RIGHT, accuracy=0.25, calibration=0.125)
    assert [said[code].threshold for code in ("ACC-001", "CAL-001")] == [0.25, 0.125]


def test_accuracy_by_class() -> None:
    e = evidence([0, 0, 1, 1, 0], [0, 0, 0, 1, 1])
    chapter = Accuracy().measure(e).chapters["accuracy"]
    assert chapter.n == 5
    assert [row.accuracy.value for row in chapter.per_class] == [
        pytest.approx(2 / 3),
        pytest.approx(1 / 2),
        None,
    ]
    assert [row.accuracy.n for row in chapter.per_class] == [3, 2, 0]
    assert chapter.overall.value == pytest.approx(3 / 5)


def test_confusion_has_a_row_for_each_true_class() -> None:
    chapter = Confusion().measure(evidence([0, 0, 1, 1, 2], [0, 0, 0, 1, 1])).chapters["confusion"]
    assert chapter.matrix == ((2, 1, 0), (0, 1, 1), (0, 0, 0))


def test_confidence_of_scores_is_that_of_logits() -> None:
    gap = 2 / (2 + math.exp(2))  # a lead of 2 among three classes, always right
    for model in (black_box("scores"), black_box("logits"), evidence(RIGHT, RIGHT).model):
        found = Calibration().measure(evidence(RIGHT, RIGHT, sure=0.2, model=model))
        assert found.values["CAL-001"].estimate.value == pytest.approx(gap, abs=1e-6)


def test_images_without_an_answer_are_wrong_and_have_no_confidence() -> None:
    def said(x: Any) -> Any:
        answer = torch.from_numpy(x)[:, 0, 0].softmax(1)
        answer[:3] = torch.nan
        return answer

    box = BlackBox(said, classes=3, access="scores", batch_size=30)
    e = evidence(RIGHT, RIGHT, model=box)
    assert Accuracy().measure(e).chapters["accuracy"].overall.value == pytest.approx(27 / 30)
    assert Calibration().measure(e).chapters["calibration"].ece.n == 27
    assert sum(map(sum, Confusion().measure(e).chapters["confusion"].matrix)) == 27


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AssayError("no such layer"), "no such layer"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (MemoryError(), "MemoryError: no message"),
    ],
)
def test_a_section_that_raises_says_so_in_all_its_places(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> Measured:
        raise error

    monkeypatch.setattr(Accuracy, "measure", fails)
    e = evidence(RIGHT, RIGHT)
    config = AuditConfig(
        sections=(Accuracy(), Calibration()), thresholds=Thresholds(calibration=0.2)
    )
    found = audit(e.model, e.x, e.y, config=config)
    assert found.report.accuracy == NotRun(not_run=said)
    broken, other = found.checks
    assert (broken.code, broken.verdict, broken.reason) == ("ACC-001", "not run", said)
    assert other.verdict == "pass"
    assert found.report.calibration.ece.n == 30
    assert found.report.answer == "Calibrated; not measured: accuracy."
    assert found.report.summary == ""


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "AttributeError"),
        (Measured({"accuracy": Chapter(title="of another kind")}), "ValidationError"),
        (Measured({"more": {"title": 1}}), "ValidationError"),
        (Measured({}, flags=("REL-001",)), "ValidationError"),
        (Measured({}, {"ACC-001": 0.9}), "ACC-001 is a float, not a Value"),
        (Measured({}, {"ACC-002": NotRun()}), "ACC-002, which is none of its criteria"),
    ],
)
def test_what_a_report_cannot_hold_takes_away_no_other_section(
    found: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accuracy, "measure", lambda *_: found)
    e = evidence(RIGHT, RIGHT)
    both = AuditConfig(sections=(Accuracy(), Confusion()))
    report = audit(e.model, e.x, e.y, config=both).report
    assert why in report.accuracy.not_run
    assert report.checks[0].verdict == "not run"
    assert report.confusion.matrix[0][0] == 10


def test_an_interrupt_is_no_failure_of_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> Measured:
        raise KeyboardInterrupt

    monkeypatch.setattr(Accuracy, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        outcome(Accuracy(), evidence(RIGHT, RIGHT))


def test_sections_that_were_not_asked_for_are_not_there() -> None:
    e = evidence(RIGHT, RIGHT)
    report = audit(e.model, e.x, e.y, config=AuditConfig(sections=(Confusion(),))).report
    assert report.checks == ()
    assert report.accuracy == report.robustness == NotRun(not_run="not requested")
    with pytest.raises(AssayError, match="a section is there twice"):
        AuditConfig(sections=(Confusion(), Confusion()))


@pytest.mark.parametrize("access", ["labels", "scores", "logits"])
def test_what_can_only_be_queried_is_audited(access: Any) -> None:
    """Accuracy, calibration from scores, attacks without gradients; the rest is not run."""
    y = torch.tensor(RIGHT)
    config = AuditConfig(eps=0.6, budgets=(0.6,), attacked=12)
    found = audit(black_box(access), saying(RIGHT, sure=0.5), y, config=config)
    report, checks = found.report, {check.code: check for check in found.checks}
    assert checks["ACC-001"].value.value == 1
    assert report.confusion.matrix[1][1] == 10
    assert (checks["CAL-001"].verdict == "not run") == (access == "labels")
    (curve,) = report.robustness.curves
    assert curve.attack == f"{'HopSkipJump' if access == 'labels' else 'Square'}, queries 1000"
    assert checks["ROB-001"].value.value == 0
    assert checks["ROB-001"].verdict == "fail"
    assert set(report.robustness.failed) == {"FGSM", "PGD, 20 steps"}
    assert all("gradient" in why for why in report.robustness.failed.values())
    for chapter in (report.attention, report.gallery, report.faithful, report.ood):
        assert "it needs a network" in chapter.not_run
    for code in ("EXP-001", "OOD-002", "OOD-003", "OOD-004"):
        assert checks[code].verdict == "not run"
        assert "it needs a network" in checks[code].reason
    kind = {"labels": "predictions", "scores": "scores", "logits": "logits"}[access]
    assert len(found.arrays[kind]) == 30
