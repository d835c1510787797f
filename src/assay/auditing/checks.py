"""The checks of an audit: a code that stays, a threshold, an interval, a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from assay import stats
from assay.auditing.attention import Shown
from assay.auditing.config import AuditConfig
from assay.report.numerals import budget, norm_name
from assay.report.record import EstimateModel, NotRun
from assay.report.schema import Accuracy, Calibration, Check, Flag, Ood

Direction = Literal["at least", "at most"]

DETECTOR_CODES = {"max-softmax": "OOD-001", "max-logit": "OOD-002"}


def accuracy(found: Accuracy, config: AuditConfig) -> Check:
    return _judged(
        code="ACC-001",
        title="clean accuracy",
        question=f"Does it classify at least the asked share of {found.n:,} images right?",
        estimate=_estimate(found.overall),
        threshold=config.thresholds.accuracy,
        direction="at least",
    )


def calibration(found: Calibration, config: AuditConfig) -> Check:
    return _judged(
        code="CAL-001",
        title="calibration",
        question="Is its confidence close to its accuracy (expected calibration error)?",
        estimate=_estimate(found.ece),
        threshold=config.thresholds.calibration,
        direction="at most",
    )


def robustness(worst: stats.Estimate, flags: Sequence[Flag], config: AuditConfig) -> Check:
    """ROB-001 does not pass while a reliability flag is up: the attack may merely have failed.

    REL-007 does not stand in its way: successes that rounding undoes were counted all the same.
    """
    at = f"{norm_name(config.norm)} {budget(config.eps, config.norm)}"
    check = _judged(
        code="ROB-001",
        title=f"accuracy under attack at {at}",
        question="Does it stay right under every attack together, image by image?",
        estimate=worst,
        threshold=config.thresholds.robustness,
        direction="at least",
    )
    raised = tuple(flag.code for flag in flags if flag.raised and flag.code != "REL-007")
    if not raised:
        return check
    update: dict[str, object] = {"flags": raised}
    if check.verdict == "pass":
        update["verdict"] = "undecided"
        update["reason"] = (
            f"the attacks may have failed rather than the model held: {', '.join(raised)} "
            "is up" + ("" if len(raised) == 1 else ", among others")
        )
    return check.model_copy(update=update)


def detection(found: Ood | NotRun, config: AuditConfig) -> list[Check]:
    """One check for each detector, on the kind of outlier that it tells apart least."""
    checks = []
    for detector in config.detectors:
        code = DETECTOR_CODES.get(detector.name, f"OOD-{detector.name}")
        title = f"outliers by {detector.name}"
        question = "Does it score outliers above test images (AUROC, hardest kind)?"
        mine = (
            [r for r in found.results if r.detector == detector.name]
            if not isinstance(found, NotRun)
            else []
        )
        threshold = config.thresholds.detection
        if not mine:
            why = found.not_run if isinstance(found, NotRun) else "there were no outliers"
            checks.append(not_run(code, title, question, threshold, "at least", why))
            continue
        hardest = min(mine, key=lambda r: r.auroc.value if r.auroc.value is not None else 0.0)
        checks.append(
            _judged(
                code=code,
                title=f"{title} ({hardest.outliers})",
                question=question,
                estimate=_estimate(hardest.auroc),
                threshold=threshold,
                direction="at least",
                unit="number",
            )
        )
    return checks


def explanation(shown: Shown | NotRun, config: AuditConfig) -> Check:
    title = "attention maps that explain nothing"
    question = "Are its attention maps for the true class seldom empty?"
    threshold = config.thresholds.explanation
    maps = None if isinstance(shown, NotRun) or shown.maps is None else shown.maps.before
    why = shown.not_run if isinstance(shown, NotRun) else shown.why_no_maps
    if maps is None:
        return not_run("EXP-001", title, question, threshold, "at most", why)
    return _judged(
        code="EXP-001",
        title=title,
        question=question,
        estimate=stats.proportion(int(maps.empty.sum()), len(maps), "maps"),
        threshold=threshold,
        direction="at most",
    )


def not_run(
    code: str, title: str, question: str, threshold: float, direction: Direction, why: str
) -> Check:
    """Return a check that could not be run; it never counts as a pass."""
    return Check(
        code=code,
        title=title,
        question=question,
        threshold=threshold,
        direction=direction,
        verdict="not run",
        reason=why,
    )


def _judged(
    *,
    code: str,
    title: str,
    question: str,
    estimate: stats.Estimate,
    threshold: float,
    direction: Direction,
    unit: str = "fraction",
) -> Check:
    verdict = stats.judge_check(estimate, threshold, direction)
    reasons = {
        "pass": f"the whole interval is {direction} the threshold",
        "fail": "the whole interval lies on the wrong side of the threshold",
        "undecided": "the interval spans the threshold",
        "not run": "it rests on no images",
    }
    return Check.model_validate(
        {
            "code": code,
            "title": title,
            "question": question,
            "threshold": threshold,
            "direction": direction,
            "unit": unit,
            "value": estimate if estimate.n else None,
            "verdict": verdict,
            "reason": reasons[verdict],
        }
    )


def _estimate(e: EstimateModel) -> stats.Estimate:
    value, low, high = (math.nan if v is None else v for v in (e.value, e.low, e.high))
    return stats.Estimate(value, low, high, e.n, e.of, e.level)
