"""Headings say what the numbers below them say, and no more."""

from __future__ import annotations

import pytest

from assay.report import findings
from assay.report.record import EstimateModel, NotRun
from assay.report.schema import (
    Attention,
    Bin,
    Calibration,
    Confusion,
    DetectorResult,
    Flag,
    Measure,
    Ood,
    Robustness,
)


def about(value: float, half: float = 0.02) -> EstimateModel:
    return EstimateModel(value=value, low=value - half, high=value + half, n=100, of="images")


@pytest.mark.parametrize(
    ("eps", "norm", "said"),
    [
        (
            8 / 255,
            "linf",
            "every value of an image may change by 8 of 255 grey levels: hard to see",
        ),
        (0.1, "linf", "by 25.5 of 255 grey levels: plain to see"),
        (12 / 255, "linf", "by 12 of 255 grey levels"),
        (0.5 / 255, "linf", "by 0.5 of a grey level: hard to see"),
        (3.0, "l0", "3 pixels of an image may change to anything"),
        (0.5, "l2", "an image may move by 0.5 in L2"),
    ],
)
def test_a_budget_in_words(eps: float, norm: str, said: str) -> None:
    assert findings.allowed(eps, norm).endswith(said)


def test_only_budgets_that_are_small_are_called_hard_to_see() -> None:
    seen = {k: findings.allowed(k / 255, "linf") for k in (1, 8, 9, 16, 17, 64)}
    assert [k for k, said in seen.items() if "hard to see" in said] == [1, 8]
    assert [k for k, said in seen.items() if "plain to see" in said] == [17, 64]


@pytest.mark.parametrize(("sure", "side"), [(0.9, "mostly too high"), (0.7, "mostly too low")])
def test_confidence_is_off_to_a_side_only_where_most_of_it_is(sure: float, side: str) -> None:
    bins = (Bin(low=0, high=1, count=100, confidence=sure, accuracy=about(0.8)),)
    off = Calibration(ece=about(0.1), bins=bins, mean_confidence=sure)
    assert findings.calibration(off).endswith(side)
    even = off.model_copy(update={"mean_confidence": 0.81})
    assert findings.calibration(even) == "Confidence is off by 10.0 points on average"
    exact = off.model_copy(update={"ece": about(0.0002)})
    assert findings.calibration(exact) == "Confidence is off by 0.0 points on average"


def test_a_mistake_stands_out_or_none_does() -> None:
    names = ("a", "b", "c")
    matrix = ((5, 1, 0), (0, 5, 3), (0, 0, 5))
    assert findings.confusion(Confusion(classes=names, matrix=matrix)) == (
        "The commonest mistake: “b” taken for “c”, 3 of 8"
    )
    tied = ((5, 1, 0), (0, 5, 1), (0, 0, 5))
    assert findings.confusion(Confusion(classes=names, matrix=tied)) == (
        "No mistake stands out: the 2 commonest are made once each"
    )
    right = ((5, 0, 0), (0, 5, 0), (0, 0, 5))
    assert "No class" in findings.confusion(Confusion(classes=names, matrix=right))


@pytest.mark.parametrize(
    ("beyond", "said"),
    [
        (-0.3, "Attacks move saliency further than noise does"),
        (0.3, "Attacks move saliency less than noise does"),
        (0.01, "Attacks do not move saliency measurably further than noise"),
    ],
)
def test_attacks_move_saliency_further_only_where_the_interval_says_so(
    beyond: float, said: str
) -> None:
    measure = Measure(
        name="overlap of the top 20 %",
        estimate=about(0.4),
        noise=about(0.4 - beyond),
        beyond=about(beyond),
    )
    chapter = Attention(method="m", layer="l", n=100, measures=(measure,))
    assert findings.attention(chapter).startswith(said)


def detector(name: str, outliers: str, auroc: float) -> DetectorResult:
    return DetectorResult(
        detector=name, outliers=outliers, n_in=9, n_out=9, auroc=about(auroc), fpr95=about(0.5)
    )


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([("a", "noise", 0.9), ("b", "noise", 0.7)], "a tells outliers best: 90.0 % of pairs"),
        ([("a", "noise", 0.9), ("a", "SVHN", 0.4), ("b", "SVHN", 0.8)], "b tells outliers best"),
        (
            [("a", "noise", 0.1), ("b", "noise", 0.2)],
            "Every detector takes noise for more familiar",
        ),
        (
            [("a", "noise", 0.9), ("a", "SVHN", 0.2), ("b", "SVHN", 0.8), ("b", "noise", 0.1)],
            "Every detector takes some kind of outlier for more familiar",
        ),
        (
            [("a", "noise", 0.9), ("a", "SVHN", 0.5), ("b", "SVHN", 0.8), ("b", "noise", 0.1)],
            "No detector is known to tell every kind of outlier from",
        ),
        ([("a", "noise", 0.1), ("b", "noise", 0.2)], "Every detector takes noise for more"),
        ([("a", "noise", 0.1)], "a takes noise for more familiar than the test images"),
        ([("a", "noise", 0.51)], "No detector is known to tell noise from the test images"),
        ([], "No detector could be run"),
    ],
)
def test_outliers_in_words(results: list[tuple[str, str, float]], said: str) -> None:
    chapter = Ood(fitted_on="x", results=tuple(detector(*one) for one in results))
    assert findings.outliers(chapter).startswith(said)


def test_detectors_are_known_by_their_own_intervals() -> None:
    def heading(*found: tuple[str, float, float]) -> str:
        results = (
            detector(name, "noise", value).model_copy(update={"auroc": about(value, half)})
            for name, value, half in found
        )
        return findings.outliers(Ood(fitted_on="x", results=tuple(results)))

    said = heading(("sure", 0.58, 0.03), ("unsure", 0.6, 0.12))
    assert said.startswith("sure tells outliers best: 58.0 % of pairs")
    said = heading(("sure", 0.45, 0.03), ("unsure", 0.44, 0.12))
    assert said == "No detector is known to tell noise from the test images"


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ([False], "One reason to distrust these figures was looked for, and not found"),
        ([True, False], "F-0 is a reason not to trust some of these figures"),
        ([True, True, None], "F-0 and F-1 are reasons not to trust"),
        ([False, None], "but F-1 could not be checked"),
        ([False, False], "2 reasons to distrust these figures were looked for, and none was found"),
        ([], "Nothing was checked"),
    ],
)
def test_flags_in_words(raised: list[bool | None], said: str) -> None:
    found = [Flag(code=f"F-{i}", title="t", raised=up) for i, up in enumerate(raised)]
    assert said in findings.flags(found)


def test_what_was_not_run_is_called_by_what_it_is_about() -> None:
    assert findings.finding("ood", NotRun()) == "Unfamiliar inputs"
    assert findings.finding("doubt", NotRun()) == "doubt"


@pytest.mark.parametrize(
    ("clean", "left", "said"),
    [
        (0.9, 0.9, "No attack fools an image at L∞ 8/255"),
        (
            0.0,
            0.0,
            "PGD leaves 0.0 % right at L∞ 8/255, of 0.0 % without attack",
        ),  # nothing to fool
    ],
)
def test_no_attack_fools_an_image_only_where_there_is_one_to_fool(
    clean: float, left: float, said: str
) -> None:
    point = {"eps": 8 / 255, "robust_accuracy": about(left), "success": about(0.0)}
    curve = {"attack": "PGD", "norm": "linf", "points": [point]}
    chapter = Robustness.model_validate(
        {"clean": about(clean), "eps": 8 / 255, "threshold": 0.5, "curves": [curve]}
    )
    assert findings.robustness(chapter) == said
