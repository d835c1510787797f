"""What the chapters of an audit found, each as the sentence that heads it.

A heading says no more than the chapter's numbers do: words such as "further than" stand only where
a whole interval lies on one side.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.report.numerals import Doubtful, bare, budget, norm_name, with_unit
from assay.report.record import NotRun
from assay.report.schema import (
    Accuracy,
    Attention,
    AuditReport,
    Bin,
    Calibration,
    Chapter,
    Confusion,
    DetectorResult,
    Faithful,
    Flag,
    Gallery,
    Ood,
    ReportChapter,
    Robustness,
    RobustnessCurve,
    RobustnessPoint,
)

TOPICS = {
    "accuracy": "Accuracy",
    "calibration": "Calibration",
    "confusion": "Confusion of classes",
    "robustness": "Robustness to attack",
    "attention": "Saliency under attack",
    "gallery": "Attacked images",
    "hardly": "Fooled, though saliency hardly moved",
    "faithful": "Whether saliency maps can be believed",
    "ood": "Unfamiliar inputs",
    "fooled": "Images that fool it",
    "corruptions": "Common corruptions",
    "slices": "Slices",
    "certificate": "Certificate",
}
"""What each chapter is about: its heading where it was not run."""


def finding(name: str, chapter: ReportChapter | Chapter | NotRun, kind: str = "images") -> str:
    """Return what a chapter found of images, or of another kind; where it was not run, what it is
    about."""
    match chapter:
        case Accuracy():
            return accuracy(chapter, kind)
        case Calibration():
            return calibration(chapter)
        case Confusion():
            return confusion(chapter)
        case Robustness():
            return robustness(chapter)
        case Attention():
            return attention(chapter)
        case Gallery():
            return gallery(name, chapter)
        case Faithful():
            return faithful(chapter)
        case Ood():
            return outliers(chapter, kind)
        case Chapter():
            return chapter.title
    return TOPICS.get(name, name)


def not_tested(report: AuditReport) -> dict[str, str]:
    """Return why something was not run: checks and chapters, by code or name."""
    found = {check.code: check.reason for check in report.checks if check.verdict == "not run"}
    chapters = {name: getattr(report, name) for name in type(report).model_fields} | report.more
    for name, chapter in chapters.items():
        if isinstance(chapter, NotRun) and chapter.not_run:
            found.setdefault(name, chapter.not_run)
    return found


def accuracy(chapter: Accuracy, kind: str = "images") -> str:
    """Return how many are right, and of which class the fewest."""
    overall = f"{_share(chapter.overall)} of {chapter.n:,} {kind} are classified correctly"
    seen = [one for one in chapter.per_class if one.accuracy.value is not None]
    if len(seen) < 2:
        return overall
    worst = min(seen, key=lambda one: one.accuracy.value or 0.0)
    if worst.accuracy.value == chapter.overall.value:
        return overall
    return f"{overall}; of “{worst.name}” {_share(worst.accuracy)}"


def calibration(chapter: Calibration) -> str:
    """Return how far confidence is off, and to which side."""
    off = f"Confidence is off by {bare(chapter.ece.value, 'fraction')} points on average"
    sure, right = chapter.mean_confidence, _right(chapter.bins)
    if bare(chapter.ece.value, "fraction") == "0.0":
        return off
    if sure is None or right is None or abs(sure - right) < 0.5 * (chapter.ece.value or 0.0):
        return off  # to either side
    return f"{off}, mostly too {'high' if sure > right else 'low'}"


def _right(bins: Sequence[Bin]) -> float | None:
    """Return the accuracy over all bins."""
    filled = [(b.count, b.accuracy.value) for b in bins if b.count and b.accuracy is not None]
    total = sum(count for count, _ in filled)
    return sum(n * (value or 0.0) for n, value in filled) / total if total else None


def mistakes(chapter: Confusion, most: int = 5) -> list[tuple[str, str, int, int]]:
    """Return the commonest mistakes: (true class, predicted class, how many, of how many)."""
    found = [
        (chapter.classes[r], chapter.classes[c], count, sum(row))
        for r, row in enumerate(chapter.matrix)
        for c, count in enumerate(row)
        if r != c and count
    ]
    return sorted(found, key=lambda mistake: -mistake[2])[:most]


def confusion(chapter: Confusion) -> str:
    """Return the commonest mistake."""
    worst = mistakes(chapter, 1)
    if not worst:
        return "No class is taken for another"
    actual, predicted, count, total = worst[0]
    alike = sum(one[2] == count for one in mistakes(chapter, len(chapter.classes) ** 2))
    if alike > 1:
        times = "once" if count == 1 else f"{count:,} times"
        return f"No mistake stands out: the {alike:,} commonest are made {times} each"
    return f"The commonest mistake: “{actual}” taken for “{predicted}”, {count:,} of {total:,}"


def lowest(chapter: Robustness) -> tuple[RobustnessCurve, RobustnessPoint] | None:
    """Return the attack, and its point, that leaves least at the audit's eps; of a report that
    does not say which that was, at the greatest."""
    found = [
        (curve, next((p for p in curve.points if p.eps == chapter.eps), curve.points[-1]))
        for curve in chapter.curves
        if curve.points
    ]
    known = [one for one in found if one[1].robust_accuracy.value is not None]
    return min(known, key=lambda one: one[1].robust_accuracy.value or 0.0, default=None)


def robustness(chapter: Robustness) -> str:
    """Return what the strongest attack leaves of accuracy at the audit's eps."""
    worst = lowest(chapter)
    if worst is None:
        return TOPICS["robustness"]
    curve, point = worst
    if point.robust_accuracy.value == chapter.clean.value != 0:
        return f"No attack fools an image at {at(point.eps, curve.norm)}"
    return (
        f"{curve.attack} leaves {_share(point.robust_accuracy)} right at "
        f"{at(point.eps, curve.norm)}, of {_share(chapter.clean)} without attack"
    )


def at(eps: float, norm: str) -> str:
    """Return a budget with its norm: L∞ 8/255; 3 pixels."""
    return budget(eps, norm) if norm == "l0" else f"{norm_name(norm)} {budget(eps, norm)}"


def allowed(eps: float, norm: str) -> str:
    """Return what an attacker may do, in words."""
    if norm == "linf":
        levels = 255 * eps
        of = f"{levels:.3g} of 255 grey levels" if levels >= 1 else f"{levels:.2g} of a grey level"
        seen = ": hard to see" if levels <= 8.01 else ": plain to see" if levels > 16.01 else ""
        return f"every value of an image may change by {of}{seen}"
    if norm == "l0":
        return f"{budget(eps, norm)} of an image may change to anything"
    return f"an image may move by {budget(eps, norm)} in {norm_name(norm)}"


def attention(chapter: Attention) -> str:
    """Return whether attacks move saliency further than noise of their size."""
    overlap = next((m for m in chapter.measures if m.name.startswith("overlap")), None)
    if overlap is None:
        return f"How far saliency moved, over {chapter.n:,} pairs of maps"
    value = bare(overlap.estimate.value, "number")
    if overlap.noise is None or overlap.beyond is None:
        return f"Under attack saliency maps overlap by {value} with those before"
    noise = bare(overlap.noise.value, "number")
    high, low = overlap.beyond.high, overlap.beyond.low
    if high is not None and high < 0:
        return f"Attacks move saliency further than noise does: overlap {value}, not {noise}"
    if low is not None and low > 0:
        return f"Attacks move saliency less than noise does: overlap {value}, not {noise}"
    return (
        f"Attacks do not move saliency measurably further than noise: overlap {value} and {noise}"
    )


def gallery(name: str, chapter: Gallery) -> str:
    """Return how many of the images shown were fooled, and how far saliency went in them."""
    items, fooled = chapter.items, sum(item.fooled for item in chapter.items)
    overlaps = [item.overlap for item in items if item.overlap is not None]
    if name == "hardly":
        many = f"{len(items):,} image{'s were' if len(items) != 1 else ' was'}"
        return f"{many} fooled though saliency hardly moved"
    if not overlaps:
        if len(items) == 1:
            return f"The image shown is {'' if fooled else 'not '}fooled"
        return (
            f"{fooled:,} of the {len(items):,} images shown {'is' if fooled == 1 else 'are'} fooled"
        )
    least, most = (bare(end, "fraction") for end in (min(overlaps), max(overlaps)))
    spread = f"{least} %" if least == most else f"{least} to {most} %"
    return f"Where saliency moved furthest, maps overlap by {spread}"


def faithful(chapter: Faithful) -> str:
    """Return which explainer is the most faithful."""
    if chapter.best is None:
        return "None of these explainers can be believed for this model"
    ties = len(chapter.within_noise)
    if not ties:
        return f"{chapter.best} explains this model best"
    others = f"{ties:,} other{'s' * (ties > 1)} cannot be told from it"
    return f"{chapter.best} explains this model best; {others}"


def disqualified(chapter: Faithful, name: str, verdict: str, gain: Doubtful) -> str:
    """Return why an explainer has no rank; "" for one that has."""
    if name == chapter.best or name in chapter.within_noise:
        return ""
    reasons = {
        "survives": "maps that survive random weights say nothing of what was learnt",
        "undecided": "it is undecided whether maps survive random weights",
        "not run": "maps of random weights could not be made",
    }
    if verdict in reasons:
        return reasons[verdict]
    return "" if gain.low is not None and gain.low > 0 else "no better than a random order"


def outliers(chapter: Ood, of: str = "images") -> str:
    """Return how well the best detector does on its hardest outliers. A kind is named of several
    detectors only where it is the hardest for all."""
    hardest: dict[str, DetectorResult] = {}
    for result in chapter.results:
        before = hardest.get(result.detector)
        if before is None or _auroc(result) < _auroc(before):
            hardest[result.detector] = result
    if not hardest:
        return "No detector could be run"
    known = [one for one in hardest.values() if one.auroc.low is not None and one.auroc.low > 0.5]
    best = max(known or hardest.values(), key=_auroc)
    one_kind = len({result.outliers for result in hardest.values()}) == 1
    ends = [result.auroc.high for result in hardest.values()]
    if all(high is not None and high < 0.5 for high in ends):
        every = "Every detector takes" if len(hardest) > 1 else f"{best.detector} takes"
        kind = best.outliers if one_kind else "some kind of outlier"
        return f"{every} {kind} for more familiar than the test {of}"
    if not known:
        kind = best.outliers if one_kind else "every kind of outlier"
        return f"No detector is known to tell {kind} from the test {of}"
    return (
        f"{best.detector} tells outliers best: {in_words(best.auroc)} of pairs are in the right "
        f"order for {best.outliers}, its hardest"
    )


def in_words(auroc: Doubtful) -> str:
    """Return an AUROC as a share of pairs (an outlier, a test image) in the right order."""
    return with_unit(auroc.value, "fraction")


def _auroc(result: DetectorResult) -> float:
    return -1.0 if result.auroc.value is None else result.auroc.value


def flags(found: Sequence[Flag]) -> str:
    """Return which reasons not to trust the figures are up."""
    up = [flag.code for flag in found if flag.raised]
    unknown = [flag.code for flag in found if flag.raised is None]
    if up:
        are = "is a reason" if len(up) == 1 else "are reasons"
        return f"{_and(up)} {are} not to trust some of these figures"
    if unknown:
        return (
            f"No reason found to distrust these figures, but {_and(unknown)} could not be checked"
        )
    if not found:
        return "Nothing was checked that would say whether these figures can be trusted"
    if len(found) == 1:
        return "One reason to distrust these figures was looked for, and not found"
    return f"{len(found):,} reasons to distrust these figures were looked for, and none was found"


def _and(codes: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(codes[:-1]), codes[-1])))


def _share(estimate: Doubtful) -> str:
    return with_unit(estimate.value, "fraction")


def title(report: AuditReport) -> str:
    """Return what a browser calls the page: its question."""
    return f"Does it hold up? {report.title}"
