"""Detectors on made-up scores: judged by the hardest outliers, by codes that stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from assay import stats
from assay.auditing import AuditConfig, Thresholds
from assay.auditing.checks import judged
from assay.auditing.kinds import codec_of, outliers_named
from assay.auditing.sections import outliers
from assay.auditing.sections.outliers import Outliers, code, fitted_on, hardest
from assay.core.embedding import Embedding
from assay.data import Dataset
from assay.data.codec import jpeg
from assay.data.dataset import to_float
from assay.errors import AssayError
from assay.ood import Energy, MaxLogit, MaxSoftmax, detectors
from assay.ood.base import Detector
from assay.ood.evaluation import DetectionResult
from assay.report.schema import DetectorResult

from .made_up import evidence, saying

Y = [0, 1, 2] * 20


def scored(inside: list[float], outside: list[float]) -> DetectionResult:
    return DetectionResult("made-up", np.array(inside), np.array(outside))


def test_a_detector_is_judged_by_the_outliers_it_tells_apart_least() -> None:
    easy, hard = scored([0, 1, 2, 3], [4, 5, 6, 7]), scored([0, 1, 2, 3], [0.5, 1.5, 2.5, 3.5])
    for found in ({"easy": easy, "hard": hard}, {"hard": hard, "easy": easy}):
        value = hardest(found, 0.5)
        assert value.detail == "hard"
        assert value.estimate.value == hard.auroc.value == pytest.approx(10 / 16)


def normal(mean: float, n: int, seed: int) -> DetectionResult:
    """1,000 standard normal scores, and n outliers about `mean`."""
    draw = np.random.default_rng(seed)
    return DetectionResult("made-up", draw.normal(size=1000), draw.normal(mean, 1, n))


@pytest.mark.parametrize(
    ("kinds", "detail", "verdict"),
    [
        # many are known to be above 0.9; of six, whose mean is higher, that is not known
        ({"many": (2.1, 1000), "few": (2.8, 6)}, "few", "undecided"),
        ({"many": (2.1, 1000), "more": (2.8, 1000)}, "many", "pass"),
        # many are known to be below 0.9; of six, whose mean is lower, that is not known
        ({"many": (1.6, 1000), "few": (1.4, 6)}, "many", "fail"),
    ],
)
def test_no_detector_passes_by_a_kind_of_many_while_one_of_few_is_undecided(
    kinds: dict[str, tuple[float, int]], detail: str, verdict: str
) -> None:
    found = {kind: normal(*of, seed=2) for kind, of in kinds.items()}
    value = hardest(found, 0.9)
    assert (value.detail, stats.judge_check(value.estimate, 0.9)) == (detail, verdict)
    passes = [stats.judge_check(one.auroc, 0.9) == "pass" for one in found.values()]
    assert all(passes) is (verdict == "pass")


class Looks(Detector):
    """The lower the largest logit, the higher the score: or, by `sign`, the other way round."""

    name: Literal["looks"] = "looks"
    sign: float = 1.0

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        return self.sign * e.logits.double().amax(1).neg()


class Bursts(Looks):
    """A score that overflows."""

    name: Literal["bursts"] = "bursts"  # type: ignore[assignment]

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        found = super().ood_score(e, state)
        found[0] = torch.inf
        return found


def test_infinite_scores_have_their_row() -> None:
    measured = Outliers().measure(evidence(Y, Y, config=config(Bursts(), MaxLogit())))
    chapter = measured.chapters["ood"]
    assert chapter.failed == {}
    assert {row.detector for row in chapter.results} == {"bursts", "max-logit"}
    assert sum(chapter.results[0].histogram.inliers) == chapter.results[0].n_in


def test_a_row_that_cannot_be_written_takes_away_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    row = outliers._row

    def fails(kind: str, found: DetectionResult, calibrated_on: str) -> DetectorResult:
        if found.detector == "looks":
            raise ValueError("no")
        return row(kind, found, calibrated_on)

    monkeypatch.setattr(outliers, "_row", fails)
    measured = Outliers().measure(evidence(Y, Y, config=config(Looks(), MaxLogit())))
    chapter = measured.chapters["ood"]
    assert chapter.failed == {"looks": "ValueError: no"}
    assert {one.detector for one in chapter.results} == {"max-logit"}


class Fails(Looks):
    name: Literal["fails"] = "fails"  # type: ignore[assignment]

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del e, state
        raise ZeroDivisionError("by zero")


def config(*detectors: Detector, **thresholds: float) -> AuditConfig:
    made = AuditConfig(thresholds=Thresholds(**thresholds))
    return made.model_copy(update={"detectors": detectors})


@pytest.mark.parametrize(("sign", "verdict"), [(1.0, "pass"), (-1.0, "fail")])
def test_outliers_must_score_above_test_images(sign: float, verdict: str) -> None:
    """Test images lead by 10 in one logit, noise never does."""
    e = evidence(Y, Y, config=config(Looks(sign=sign), detection=0.5))
    section = Outliers()
    (criterion,) = section.criteria(e.config)
    check = judged(criterion, section.measure(e).values[criterion.code])
    assert (check.verdict, check.direction, check.unit) == (verdict, "at least", "number")
    assert check.threshold == 0.5


def test_codes_do_not_depend_on_the_order_of_detectors() -> None:
    some = (MaxSoftmax(), MaxLogit(), Energy(), Looks())
    told = [{one.name: code(one) for one in order} for order in (some, some[::-1])]
    assert told[0] == told[1]
    assert told[0]["max-softmax"] == "OOD-001"
    assert told[0]["max-logit"] == "OOD-002"
    assert told[0]["looks"] == "OOD-looks"
    codes = [code(kind.parse({})) for kind in detectors().values() if not required(kind)]
    assert len(set(codes)) == len(codes)
    made = config(*some)
    assert [one.code for one in Outliers().criteria(made)] == [code(one) for one in some]


def required(kind: type[Detector]) -> bool:
    return any(field.is_required() for field in kind.model_fields.values())


def test_a_detector_that_cannot_score_takes_away_its_own_row() -> None:
    e = evidence(Y, Y, config=config(Fails(), MaxLogit()))
    measured = Outliers().measure(e)
    chapter = measured.chapters["ood"]
    assert chapter.failed == {"fails": "ZeroDivisionError: by zero"}
    assert {row.detector for row in chapter.results} == {"max-logit"}
    assert measured.values["OOD-fails"].not_run == "ZeroDivisionError: by zero"
    assert measured.values["OOD-002"].estimate.n > 0


def test_without_reference_thirds_of_the_one_pass_serve() -> None:
    e = evidence(Y, Y, config=config(MaxLogit()))
    before = e.model.queries
    fit, scored = fitted_on(e)
    assert e.model.queries - before == 60, "one clean pass"
    assert torch.equal(fit.reference.logits, e.embedding.logits[:20])
    assert torch.equal(fit.calibration.logits, e.embedding.logits[20:40])
    assert torch.equal(scored.logits, e.embedding.logits[40:])
    assert fit.labels.tolist() == Y[:20]


def test_a_reference_fits_and_what_was_held_out_calibrates() -> None:
    known, held = saying([0] * 10), saying([1] * 8)
    given: dict[str, Any] = {"reference": (known, torch.zeros(10, dtype=torch.int64))}
    e = evidence(Y, Y, config=config(MaxLogit()), **given)
    fit, inside = fitted_on(e)
    assert (len(fit.reference), len(fit.calibration), len(inside)) == (5, 5, 60)
    assert (fit.fitted_on, fit.calibrated_on) == ("5 reference images", "5 other reference images")
    given["calibration"] = (held, torch.ones(8, dtype=torch.int64))
    fit, _ = fitted_on(evidence(Y, Y, config=config(MaxLogit()), **given))
    assert fit.reference.predictions.tolist() == [0] * 10
    assert fit.calibration.predictions.tolist() == [1] * 8
    assert fit.calibrated_on == "8 held-out images"
    given["calibration"] = given["reference"]
    with pytest.raises(AssayError, match="train and validation are the same images"):
        fitted_on(evidence(Y, Y, config=config(MaxLogit()), **given))


def test_images_of_your_own_are_outliers_and_those_that_are_test_images_are_left_out(
    tmp_path: Path,
) -> None:
    e = evidence(Y, Y, config=config(MaxLogit()))
    levels = (e.x * 255).round().to(torch.uint8)
    assert levels.shape[1] in (1, 3)
    twins = levels[[3, 41]].permute(0, 2, 3, 1).squeeze(-1).numpy()
    others = np.random.default_rng(0).integers(0, 256, (25, *twins.shape[1:]), dtype=np.uint8)
    for k, image in enumerate([*twins, *others]):
        Image.fromarray(image).save(tmp_path / f"{k:02d}.png")
    changed = e.config.model_copy(update={"outliers": (str(tmp_path), "flat")})
    e = evidence(Y, Y, config=changed)
    measured = Outliers().measure(e)
    rows = {row.outliers: row.n_out for row in measured.chapters["ood"].results}
    assert rows == {tmp_path.name: 25, "flat colours": len(Y)}
    (flag,) = measured.flags
    assert "2 of 27 are test images too and left out (outlier " in flag.detail


def test_a_kind_that_cannot_be_made_is_left_out_and_said() -> None:
    measured = Outliers().measure(evidence(Y, Y, config=config(MaxLogit())))
    kinds = {row.outliers for row in measured.chapters["ood"].results}
    assert kinds == {"uniform noise", "gaussian noise", "flat colours"}
    assert measured.chapters["ood"].codec is None, "these images were never a JPEG"
    (flag,) = measured.flags
    assert "scrambled images left out: images of 3 × 3 pixels cannot be cut" in flag.detail


def test_generated_outliers_pass_through_the_codec_of_the_test_images() -> None:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(30, 3, 5, 5, generator=draw)
    x = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear")
    x = ((x + 0.03 * torch.randn(x.shape, generator=draw)).clamp(0, 1) * 255).round() / 255
    saved = to_float(jpeg((x * 255).to(torch.uint8), 75))
    assert codec_of(x) is None
    assert codec_of(saved) == 75
    plain, through = (outliers_named("letters", saved, 0, quality) for quality in (None, 75))
    assert torch.equal(through.images, jpeg(plain.images, 75))


def test_the_chapter_says_which_codec_that_was(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def watched(name: str, x: Tensor, seed: int, quality: int | None) -> Dataset:
        asked.append(quality)
        return outliers_named(name, x, seed, quality)

    monkeypatch.setattr("assay.auditing.sections.outliers.codec_of", lambda _: 75)
    monkeypatch.setattr("assay.auditing.sections.outliers.outliers_named", watched)
    measured = Outliers().measure(evidence(Y, Y, config=config(MaxLogit())))
    assert measured.chapters["ood"].codec == 75
    assert set(asked) == {75}


def test_outliers_that_are_not_there_are_refused() -> None:
    with pytest.raises(AssayError, match="no folder 'scrambld': did you mean 'scrambled'"):
        AuditConfig.parse({"outliers": ["scrambld"]})
    with pytest.raises(AssayError, match="there twice"):
        AuditConfig.parse({"outliers": ["flat", "flat"]})
    assert AuditConfig.parse({"outliers": ["flat", "letters"]}).outliers == ("flat", "letters")


def test_by_default_a_logit_score_and_a_feature_score_that_the_field_trusts() -> None:
    assert [code(one) for one in AuditConfig().detectors] == ["OOD-003", "OOD-004", "OOD-002"]
