"""The chapters of an audit: each turns what was measured into what the report holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from assay import stats
from assay.attacks.base import Attack
from assay.attacks.result import AttackResult
from assay.auditing.config import AuditConfig
from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.random import Stream
from assay.data.outliers import NoiseKind, noise
from assay.ood.evaluation import evaluate
from assay.report.record import NotRun
from assay.report.schema import (
    Accuracy,
    Bin,
    Calibration,
    ClassAccuracy,
    Confusion,
    DetectorResult,
    Histogram,
    Ood,
    Robustness,
    RobustnessCurve,
    RobustnessPoint,
)


def accuracy(e: Embedding, y: Tensor, classes: Sequence[str]) -> Accuracy:
    """Clean accuracy, overall and by class."""
    right = (e.predictions == y).numpy()
    labels = y.numpy()
    per_class = tuple(
        ClassAccuracy(
            name=name,
            accuracy=stats.proportion(
                int(right[labels == k].sum()), int((labels == k).sum()), f"images of {name}"
            ),
        )
        for k, name in enumerate(classes)
    )
    overall = stats.proportion(int(right.sum()), len(right), "images")
    return Accuracy(overall=overall, per_class=per_class, n=len(right))


def calibration(e: Embedding, y: Tensor, seed: int) -> Calibration:
    """Reliability diagram and expected calibration error (Guo et al. 2017)."""
    rng = Stream(seed).child("audit", "calibration").numpy()
    found = stats.calibration(e.probabilities.double().numpy(), y.numpy(), rng=rng)
    bins = tuple(
        Bin(
            low=float(found.edges[i]),
            high=float(found.edges[i + 1]),
            count=int(count),
            confidence=float(found.confidence[i]),
            accuracy=stats.proportion(int(found.correct[i]), int(count), "images in the bin")
            if count
            else None,
        )
        for i, count in enumerate(found.count)
    )
    confidence = float(e.probabilities.amax(1).mean())
    return Calibration(ece=found.ece, bins=bins, mean_confidence=confidence)


def confusion(e: Embedding, y: Tensor, classes: Sequence[str]) -> Confusion:
    """Which class is taken for which."""
    matrix = stats.confusion(y.numpy(), e.predictions.numpy(), len(classes))
    return Confusion(classes=tuple(classes), matrix=tuple(map(tuple, matrix.tolist())))


def label(attack: Attack) -> str:
    """Return an attack's name with its settings that are not the usual ones.

    No two attacks of an audit have the same: curves and arrays go by it.
    """
    steps = getattr(attack, "steps", None)
    restarts = getattr(attack, "restarts", 1)
    words = [attack.name.upper()]
    words += [f"{steps} steps"] if steps else []
    words += [f"{restarts} restarts"] if restarts > 1 else []
    for key, field in type(attack).model_fields.items():
        value = getattr(attack, key)
        if key not in ("name", "norm", "eps", "steps", "restarts") and value != field.default:
            words.append(f"{key} {value}".replace("_", " "))
    return ", ".join(words)


Curves = dict[str, list[tuple[float, AttackResult]]]
"""For each attack by its label: (eps, what came of it), by rising eps."""


def attack_all(
    clf: Classifier, x: Tensor, y: Tensor, config: AuditConfig, tick: Callable[[str], None]
) -> Curves:
    """Run every attack at every budget; images leave once they are fooled."""
    curves: Curves = {}
    for attack in config.attacks:
        points = curves.setdefault(label(attack), [])
        for eps in config.curve:
            tick(f"{label(attack)} at eps {eps:.4g}")
            armed = at_budget(attack, config, eps)
            found = armed(clf, x, y, seed=config.seed, stop="fooled", precision=config.precision)
            points.append((eps, found))
    return curves


def at_budget(attack: Attack, config: AuditConfig, eps: float) -> Attack:
    """Return the attack with the audit's norm and this budget, validated again."""
    return type(attack).parse(
        {**attack.model_dump(mode="json"), "norm": config.norm, "eps": eps}, where="audit"
    )


def robustness(curves: Curves, config: AuditConfig, clean: stats.Estimate) -> Robustness:
    """Accuracy against eps."""
    return Robustness(
        clean=clean,
        curves=tuple(
            RobustnessCurve(
                attack=name,
                norm=config.norm,
                points=tuple(_point(eps, found) for eps, found in points),
            )
            for name, points in curves.items()
        ),
    )


def _point(eps: float, found: AttackResult) -> RobustnessPoint:
    asked = found.queries[found.correct].double()
    return RobustnessPoint(
        eps=eps,
        robust_accuracy=found.robust_accuracy,
        success=found.success_rate,
        success_8bit=found.after_rounding,
        seconds=found.seconds,
        queries=float(asked.median()) if len(asked) else None,
    )


def worst_case(curves: Curves, eps: float) -> stats.Estimate:
    """Share of all images that stay right under every attack at `eps`, image by image: one that
    the model gives no answer for does not."""
    found = [result for points in curves.values() for at, result in points if at == eps]
    stands = found[0].correct.clone()
    for result in found:
        stands &= result.robust
    return stats.proportion(int(stands.sum()), len(stands), "all images attacked")


def detection(
    clf: Classifier, inside: Embedding, x: Tensor, config: AuditConfig, fit: Fitting
) -> Ood | NotRun:
    """Every detector against every kind of outlier, from one pass over each."""
    _, channels, height, width = x.shape
    shape = (channels, height, width)
    outside = {
        f"{kind} noise": clf.embed(noise(kind, shape, len(x), seed=config.seed))
        for kind in OUTLIERS
    }
    results = []
    for detector in config.detectors:
        fitted = detector.fit(fit.reference, fit.labels, calibrate=fit.calibration)
        for kind, e in outside.items():
            found = evaluate(fitted, inside, e)
            record = found.to_dict()
            results.append(
                DetectorResult(
                    detector=found.detector,
                    outliers=kind,
                    n_in=record["n_in"],
                    n_out=record["n_out"],
                    auroc=found.auroc,
                    fpr95=found.fpr95,
                    threshold=found.threshold,
                    calibrated_on=fit.calibrated_on,
                    histogram=Histogram(**record["histogram"]),
                    roc=tuple((a, b) for a, b in record["roc"]),
                )
            )
    return Ood(fitted_on=fit.fitted_on, results=tuple(results))


OUTLIERS: tuple[NoiseKind, ...] = ("uniform", "gaussian")


@dataclass(frozen=True)
class Fitting:
    """What detectors are fitted and calibrated on: never the images that are scored."""

    reference: Embedding
    labels: Tensor | None
    calibration: Embedding
    fitted_on: str
    calibrated_on: str
