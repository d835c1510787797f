"""Intervals, paired comparisons, verdicts. numpy and scipy only."""

from assay.stats.claims import Asks, Claim, Effect, PerImage, Unit, Verdict
from assay.stats.confidence import Calibration, calibration, calibration_error, confusion
from assay.stats.crossed import Crossed, Kind, Missing, crossed_mean, still_missing
from assay.stats.estimates import (
    Estimate,
    McNemar,
    at_level,
    binomial_variance,
    independent_difference,
    mcnemar,
    mean_interval,
    paired_difference,
    proportion,
)
from assay.stats.looks import until_decided
from assay.stats.matching import stratified_difference
from assay.stats.order import by_class
from assay.stats.ranking import aupr, auroc, fpr_at_tpr, roc_curve
from assay.stats.rejection import aurc, risk_coverage
from assay.stats.verdicts import (
    CheckVerdict,
    judge,
    judge_check,
    judge_claims,
    level_at,
    more_seeds,
)

__all__ = [
    "Asks",
    "Calibration",
    "CheckVerdict",
    "Claim",
    "Crossed",
    "Effect",
    "Estimate",
    "Kind",
    "McNemar",
    "Missing",
    "PerImage",
    "Unit",
    "Verdict",
    "at_level",
    "aupr",
    "aurc",
    "auroc",
    "binomial_variance",
    "by_class",
    "calibration",
    "calibration_error",
    "confusion",
    "crossed_mean",
    "fpr_at_tpr",
    "independent_difference",
    "judge",
    "judge_check",
    "judge_claims",
    "level_at",
    "mcnemar",
    "mean_interval",
    "more_seeds",
    "paired_difference",
    "proportion",
    "risk_coverage",
    "roc_curve",
    "still_missing",
    "stratified_difference",
    "until_decided",
]
