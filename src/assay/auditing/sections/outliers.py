"""Whether the model can tell what it does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from assay.auditing.checks import Criterion, Value, Words
from assay.auditing.cost import Work
from assay.auditing.kinds import codec_of, outliers_named, shown, without_twins
from assay.auditing.section import Measured, Section
from assay.core.embedding import Embedding
from assay.core.oracle import Access
from assay.data.dataset import Dataset
from assay.errors import AssayError, told
from assay.ood.base import Detector
from assay.ood.evaluation import DetectionResult, evaluate
from assay.report.record import NotRun
from assay.report.schema import DetectorResult, Flag, Histogram, Ood

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence

LEARNED, MADE = "outliers: what is known", "outliers: making them"
SCORED = "outliers: scoring them"
"""What is said while detectors' data are read, outliers made, and both scored."""
PREPARED = 0.08
"""Seconds, about, beside embedding what is known."""
PER_NUMBER, PER_SCORE, PER_ROW = 4e-8, 2e-3, 1e-5
"""Seconds, about: to make each number of an outlier; to score a kind by a detector, and each row of
it."""


class Outliers(Section):
    """Every detector against every kind of outlier, from one pass over each; each is judged by the
    kind that it tells apart least, and passes only if it passes by every kind."""

    needs: ClassVar[Access] = "gradient"
    texts: ClassVar[bool] = True
    chapters: ClassVar[tuple[str, ...]] = ("ood",)
    fewest: ClassVar[int] = 100

    name: Literal["outliers"] = "outliers"
    """The section's name in configs."""

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        return tuple(
            Criterion(
                code(detector),
                f"outliers by {detector.name}",
                "Does it score outliers above test images (AUROC, hardest kind)?",
                config.thresholds.detection,
                "at least",
                "number",
                "most plain networks fail this: do not turn inputs away by this score alone, and "
                "try other detectors on outliers like those you expect (--detectors, --outliers)",
                gated=False,
                words=words("outliers", detector.name),
            )
            for detector in config.detectors
        )

    def rests_on(self, evidence: Evidence) -> int:
        n = len(evidence.y)
        return evidence.first(n - 2 * (n // 3) if evidence.reference is None else n)

    def work(self, evidence: Evidence) -> tuple[Work, ...]:
        n, named = self.rests_on(evidence), evidence.config.outliers
        learned = sum(len(part[1]) for part in (evidence.reference, evidence.calibration) if part)
        made = 0.0 if evidence.kind == "texts" else n * len(named) * evidence.x[0].numel()
        scored = len(evidence.config.detectors) * len(named)
        return (
            Work("learning", forward=learned, seconds=PREPARED, doing=LEARNED),
            Work("making outliers", seconds=made * PER_NUMBER, doing=MADE),
            *(Work("embedding", forward=n, doing=f"outliers: {shown(name)}") for name in named),
            Work("scoring outliers", seconds=scored * (PER_SCORE + n * PER_ROW), doing=SCORED),
        )

    def measure(self, evidence: Evidence) -> Measured:
        evidence.tick(LEARNED)
        fitting, inside = fitted_on(evidence)
        if (most := self.rests_on(evidence)) < len(inside):
            inside = inside.rows(slice(0, most))
        outside: dict[str, Embedding] = {}
        doubts: list[str] = []
        codec = None if evidence.kind == "texts" else codec_of(evidence.x)
        evidence.tick(MADE)
        for kind, x in outliers_for(evidence, codec).items():
            evidence.tick(f"outliers: {kind}")
            if isinstance(x, AssayError):
                doubts.append(f"{kind} left out: {told(x)}")
                continue
            some = x if evidence.most is None else first(x, evidence.most)
            outside[kind], twins = evidence.embed(some), ""
            if evidence.kind != "texts":
                outside[kind], twins = without_twins(inside, outside[kind])
            doubts += [f"{kind}: {twins}"] if twins else []
        if not outside:
            raise AssayError("; ".join(doubts))
        evidence.tick(SCORED)
        results: list[DetectorResult] = []
        failed: dict[str, str] = {}
        values: dict[str, Value | NotRun] = {}
        for detector in evidence.config.detectors:
            try:
                fitted = detector.fit(
                    fitting.reference, fitting.labels, calibrate=fitting.calibration
                )
                scored = {kind: evaluate(fitted, inside, e) for kind, e in outside.items()}
                rows = [_row(kind, one, fitting.calibrated_on) for kind, one in scored.items()]
            except Exception as error:  # whatever another package's detector may raise
                failed[detector.name] = told(error)
                values[code(detector)] = NotRun(not_run=told(error))
                continue
            threshold = evidence.config.thresholds.detection
            values[code(detector)] = hardest(scored, threshold, evidence.kind)
            notes = dict.fromkeys(note for one in scored.values() for note in one.notes)
            doubts += [f"{detector.name}: {note}" for note in notes]
            results += rows
        chapter = Ood(
            fitted_on=fitting.fitted_on, codec=codec, results=tuple(results), failed=failed
        )
        return Measured({"ood": chapter}, values, flags=_flag(doubts, evidence.kind))


def first(x: Dataset | Sequence[str], most: int) -> Any:
    """Return the first outliers, where there is no time for more."""
    return x.subset(range(min(most, len(x)))) if isinstance(x, Dataset) else x[:most]


def _flag(doubts: list[str], kind: str) -> tuple[Flag, ...]:
    """Return what is to be known of detectors and outliers as a flag; none if there is nothing."""
    if not doubts:
        return ()
    title = f"Detectors learned from little, or met {kind} twice"
    return (Flag(code="FLAG-OUTLIERS", title=title, raised=True, detail="; ".join(doubts)),)


def outliers_for(evidence: Evidence, codec: int | None) -> dict[str, Any]:
    """Return the outliers by kind, as many as there are test images, or texts; or why there are
    none of it: small images cannot be cut up. What is generated passes through the `codec`."""
    if evidence.kind == "texts":
        from assay.auditing.texts import text_outliers

        return text_outliers(evidence)
    found: dict[str, Any] = {}
    for name in evidence.config.outliers:
        try:
            found[shown(name)] = outliers_named(name, evidence.x, evidence.config.seed, codec)
        except AssayError as error:
            found[shown(name)] = error
    return found


def code(detector: Detector) -> str:
    """Return the code of a detector's check: one of its own, or its name; never its place."""
    return detector.code or f"OOD-{detector.name}"


def hardest(found: Mapping[str, DetectionResult], threshold: float, own: str = "images") -> Value:
    """Return the AUROC on the kind of outlier that decides: of those that are known to be below the
    threshold the one that is told apart least; where there are none, the one that is least sure to
    be above it, so that a detector passes only if every kind does.

    A pass errs no more often than by one kind, 2.5 % at the threshold; a failure up to as many
    times as often as there are kinds.
    """
    fail = {kind: one for kind, one in found.items() if one.auroc.high < threshold}
    if fail:
        kind = min(fail, key=lambda kind: fail[kind].auroc.value)
    else:
        kind = min(found, key=lambda kind: (found[kind].auroc.low, found[kind].auroc.value))
    auroc = found[kind].auroc
    what = "noise" if kind.endswith(" noise") else kind
    return Value(
        auroc,
        detail=kind,
        words=words(what, found[kind].detector, own, reversed=auroc.high < 0.5),
    )


def words(what: str, detector: str, own: str = "images", *, reversed: bool = False) -> Words:
    """Return how the first sentence speaks of outliers; `reversed`: they score below its `own`."""
    apart = f"{what} from its own {own}"
    worse = f"surer on {what} than on its own {own}"
    return Words(
        f"able to tell {apart}",
        worse if reversed else f"unable to tell {apart}",
        f"it can tell {apart}",
        "outliers",
        by=detector,
    )


@dataclass(frozen=True)
class Fitting:
    """What detectors are fitted and calibrated on: never the images that are scored."""

    reference: Embedding
    labels: Tensor
    calibration: Embedding
    fitted_on: str
    calibrated_on: str


def fitted_on(evidence: Evidence) -> tuple[Fitting, Embedding]:
    """Return what detectors are fitted and calibrated on, and what they score.

    Without reference data a third of the test images fits, a third calibrates, and the rest is
    scored.

    Raises:
        AssayError: there is a single reference image.
    """
    embed, inside = evidence.embed, evidence.embedding
    if evidence.reference is not None:
        images, labels = evidence.reference
        held = evidence.calibration
        cut = len(images) // 2 if held is None else len(images)
        if cut < 1:
            raise AssayError(f"reference needs at least 2 images, got {len(images)}")
        others = (images[cut:], labels[cut:]) if held is None else held
        if held is not None and _equal(images, held[0]):
            raise AssayError(
                f"train and validation are the same {evidence.kind}, and a threshold cannot be set "
                "on what a detector was fitted on: give each part its own, or no reference "
                "(--reference-split none)"
            )
        other = "other reference" if held is None else "held-out"
        fit = Fitting(
            embed(images[:cut], labels[:cut]),
            labels[:cut],
            embed(*others),
            f"{cut:,} reference {evidence.kind}",
            f"{len(others[0]):,} {other} {evidence.kind}",
        )
        return fit, inside
    third = len(inside) // 3
    first, second, rest = (
        inside.rows(rows)
        for rows in (slice(0, third), slice(third, 2 * third), slice(2 * third, None))
    )
    fit = Fitting(
        first,
        evidence.y[:third],
        second,
        f"{third:,} of the test {evidence.kind}, for want of reference data; the others are scored",
        f"{third:,} other test {evidence.kind}",
    )
    return fit, rest


def _equal(a: Tensor | Sequence[str], b: Tensor | Sequence[str]) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return list(a) == list(b)


def _row(kind: str, found: DetectionResult, calibrated_on: str) -> DetectorResult:
    record = found.to_dict()
    return DetectorResult.model_validate(
        {
            "detector": found.detector,
            "outliers": kind,
            "n_in": record["n_in"],
            "n_out": record["n_out"],
            "auroc": found.auroc,
            "fpr95": found.fpr95,
            "threshold": found.threshold,
            "calibrated_on": calibrated_on,
            "histogram": Histogram(**record["histogram"]),
            "roc": record["roc"],
        }
    )
