"""The chapters of an audit: each turns what was measured into what the report holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from assay import stats
from assay.attacks.base import Attack
from assay.attacks.result import AttackResult
from assay.auditing.config import AuditConfig
from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.random import Stream
from assay.data.outliers import NoiseKind, noise
from assay.errors import AssayError
from assay.explain.shift import attention_shift
from assay.ood.evaluation import evaluate
from assay.report.pictures import fit_amplification, gallery_items
from assay.report.record import NotRun
from assay.report.schema import (
    Accuracy,
    Attention,
    Bin,
    Calibration,
    ClassAccuracy,
    Confusion,
    DetectorResult,
    Gallery,
    Histogram,
    Measure,
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
    """Share of all images that no attack fools at `eps`, image by image."""
    found = [result for points in curves.values() for at, result in points if at == eps]
    stands = found[0].correct.clone()
    for result in found:
        stands &= ~result.success
    return stats.proportion(int(stands.sum()), len(stands), "all images attacked")


@dataclass(frozen=True)
class Shown:
    """The gallery's images: attacked by the strongest attack with every step taken."""

    ids: Tensor
    result: AttackResult
    before: Attribution | None
    after: Attribution | None
    why_no_maps: str = ""


def show(
    clf: Classifier, x: Tensor, y: Tensor, correct: Tensor, config: AuditConfig
) -> Shown | NotRun:
    """Attack and explain images that are classified correctly, both for the true class.

    Every step is taken (stop="never"): images that leave at the first success all lie at the
    decision boundary, which is not what an attacker would send.
    """
    ids = correct.nonzero()[:, 0][: max(config.gallery, MAPPED)]
    if len(ids) == 0:
        return NotRun(not_run="no image is classified correctly, so there is nothing to attack")
    attack = at_budget(config.attacks[-1], config, config.eps)
    result = attack(clf, x[ids], y[ids], seed=config.seed, stop="never", precision=config.precision)
    try:
        before = config.explainer(clf, x[ids], targets=y[ids])
        after = config.explainer(clf, result.adversarial, targets=y[ids])
    except AssayError as error:
        return Shown(ids, result, None, None, str(error))
    return Shown(ids, result, before, after)


MAPPED = 128
"""Pairs of attention maps that the measures of shift rest on."""


def gallery(
    shown: Shown | NotRun, x: Tensor, classes: Sequence[str], config: AuditConfig
) -> Gallery | NotRun:
    """Images, attacked images, their difference, and where the model looked."""
    if isinstance(shown, NotRun):
        return shown
    found, count = shown.result, min(config.gallery, len(shown.ids))
    originals, moved = x[shown.ids[:count]], found.adversarial[:count]
    clean = found.oracle.query(originals).softmax(1)
    attacked = found.oracle.query(moved).softmax(1)
    rows = []
    for i in range(count):
        before, after = int(found.clean_prediction[i]), int(found.adversarial_prediction[i])
        rows.append(
            {
                "id": int(shown.ids[i]),
                "label": classes[int(found.labels[i])],
                "prediction": classes[before],
                "confidence": float(clean[i, before]),
                "adversarial_prediction": classes[after],
                "adversarial_confidence": float(attacked[i, after]),
                "fooled": bool(found.success[i]),
                "distance": float(found.distance[i]),
            }
        )
    amplification = fit_amplification(originals.numpy(), moved.numpy())
    return Gallery(
        attack=label(found.attack),
        norm=config.norm,
        eps=config.eps,
        amplification=amplification,
        chosen="the first images that the model classifies correctly",
        arrays="arrays.npz",
        items=gallery_items(
            originals.numpy(),
            moved.numpy(),
            rows,
            amplification=amplification,
            maps_before=None if shown.before is None else shown.before.values[:count].numpy(),
            maps_after=None if shown.after is None else shown.after.values[:count].numpy(),
        ),
    )


def attention(shown: Shown | NotRun, method: str) -> Attention | NotRun:
    """How far the model's attention moved, as numbers, over maps that are not empty."""
    if isinstance(shown, NotRun):
        return shown
    if shown.before is None or shown.after is None:
        return NotRun(not_run=shown.why_no_maps)
    shift = attention_shift(shown.before, shown.after)
    both = ~shift.empty
    return Attention(
        method=method,
        layer=shown.before.layer,
        n=int(both.sum()),
        empty_before=int(shown.before.empty.sum()),
        empty_after=int(shown.after.empty.sum()),
        measures=tuple(
            Measure(
                name=name,
                estimate=stats.mean_interval(values[both & np.isfinite(values)], "pairs of maps"),
                reading=reading,
            )
            for name, values, reading in (
                (
                    "overlap of the top 20 %",
                    shift.overlap,
                    "intersection over union; 1: did not move, 0: looks elsewhere",
                ),
                ("rank correlation", shift.correlation, "Spearman; 1: did not move, 0: unrelated"),
                ("shift of the centre", shift.distance, "pixels; 0: did not move"),
            )
        ),
    )


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
