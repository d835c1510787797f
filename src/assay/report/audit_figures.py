"""The figures of an audit's page, drawn from its chapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.report import findings
from assay.report.numerals import Doubtful
from assay.report.record import NotRun
from assay.report.schema import (
    Accuracy,
    Attention,
    AuditReport,
    DetectorResult,
    Explained,
    Faithful,
    Ood,
    Robustness,
)

if TYPE_CHECKING:
    from assay.report.style import Picture

MOST_CLASSES = 15
"""Of the forest plot of classes: those with the lowest accuracy."""
HERO = 4.2
"""Inches that the first figure is wide: its letters stay legible on a telephone."""
FOREST = 4.6
"""Inches that a forest plot is wide, likewise."""


def audit_figures(report: AuditReport) -> dict[str, str]:
    """Return the SVG of each figure by name; matplotlib is loaded only where one is drawn."""
    from assay.report import figures as draw

    drawn: dict[str, Picture] = {}
    if isinstance(report.accuracy, Accuracy) and len(report.accuracy.per_class) > 1:
        drawn["accuracy"] = _classes(report.accuracy, report.kind)
    if not isinstance(report.calibration, NotRun):
        drawn["calibration"] = draw.reliability(report.calibration.bins, report.kind)
    if not isinstance(report.confusion, NotRun):
        drawn["confusion"] = draw.confusion(report.confusion.matrix, report.confusion.classes)
    if isinstance(report.robustness, Robustness) and report.robustness.curves:
        drawn["hero"] = _against_eps(report.robustness, HERO)
        drawn["robustness"] = _against_eps(report.robustness)
    if isinstance(report.attention, Attention):
        rows = _moved(report.attention)
        if rows:
            drawn["attention"] = draw.intervals(
                rows, "1: the map did not move", unit="number", width=FOREST
            )
    if isinstance(report.faithful, Faithful) and report.faithful.explainers:
        ranked, others = explainers(report.faithful)
        rows = [(one.name, one.gain, 0) for one in ranked]
        rows += [(one.name, one.gain, 6) for one, _ in others]
        drawn["faithful"] = draw.intervals(
            rows,
            "gain over a random order",
            0.0,
            unit="number",
            rule=len(ranked) if ranked and others else None,
            width=FOREST,
        )
    if isinstance(report.ood, Ood):
        for outliers, results in groups(report.ood).items():
            curves = {result.detector: result.roc for result in results if result.roc}
            if curves:
                drawn[f"roc {outliers}"] = draw.roc(curves)
            for result in results:
                if result.histogram is not None:
                    drawn[f"histogram {result.detector} {outliers}"] = draw.histograms(
                        result.histogram,
                        threshold=result.threshold,
                        x_label=f"{result.detector} score",
                    )
    return {name: draw.inline_svg(figure) for name, figure in drawn.items()}


def hero(report: AuditReport) -> str:
    """Return the first figure alone, an SVG; "" where no attack was run."""
    if not isinstance(report.robustness, Robustness) or not report.robustness.curves:
        return ""
    from assay.report.style import inline_svg

    return inline_svg(_against_eps(report.robustness, HERO))


def groups(ood: Ood) -> dict[str, list[DetectorResult]]:
    """Return the results by kind of outlier, those first that the detectors tell least."""
    found: dict[str, list[DetectorResult]] = {}
    for result in ood.results:
        found.setdefault(result.outliers, []).append(result)

    def told(kind: str) -> float:
        return sum(result.auroc.value or 0.0 for result in found[kind]) / len(found[kind])

    return {kind: found[kind] for kind in sorted(found, key=told)}


def explainers(chapter: Faithful) -> tuple[list[Explained], list[tuple[Explained, str]]]:
    """Return the explainers that have a rank, the best first, and the others with the reason."""
    ranked: list[Explained] = []
    others: list[tuple[Explained, str]] = []
    for one in sorted(chapter.explainers, key=lambda one: -(one.gain.value or 0.0)):
        why = findings.disqualified(chapter, one.name, one.verdict, one.gain)
        if why:
            others.append((one, why))
        else:
            ranked.append(one)
    return ranked, others


def _against_eps(found: Robustness, width: float | None = None) -> Picture:
    from assay.report import figures as draw

    asked = {"eps": found.eps, "threshold": found.threshold}
    return draw.accuracy_against_eps(found.curves, found.clean, **asked, width=width)


def _classes(chapter: Accuracy, kind: str) -> Picture:
    """Return the accuracy of each class, or of the worst, beside that of all of a kind."""
    from assay.report import figures as draw

    seen = [one for one in chapter.per_class if one.accuracy.value is not None]
    if len(seen) > MOST_CLASSES:
        seen = sorted(seen, key=lambda one: one.accuracy.value or 0.0)[:MOST_CLASSES]
    rows: Sequence[tuple[str, Doubtful, int]] = [(one.name, one.accuracy, 0) for one in seen]
    return draw.intervals(
        rows, f"accuracy; dashed: over all {kind}", chapter.overall.value, width=FOREST
    )


def _moved(chapter: Attention) -> list[tuple[str, Doubtful, int]]:
    """Return how alike maps are, attacked, under noise and of another image of the class."""
    rows: list[tuple[str, Doubtful, int]] = []
    for measure in chapter.measures:
        if not measure.name.startswith(("overlap", "rank correlation")):
            continue
        rows.append((f"{measure.name}: attacked", measure.estimate, 1))
        if measure.noise is not None:
            rows.append(("noise as large", measure.noise, 0))
        if measure.mate is not None:
            rows.append(("another image of the class", measure.mate, 6))
    return rows
