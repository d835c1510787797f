"""One whole audit of a small network: what it measures is what a reader could measure by hand; and
what no audit takes."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import trained as networks
from torch import Tensor, nn

import assay
from assay.attacks import PGD
from assay.auditing import AuditConfig, result
from assay.auditing.policy import Policy, Requirement
from assay.auditing.registry import (
    Accuracy,
    Calibration,
    Faithfulness,
    Outliers,
    Robustness,
    Saliency,
)
from assay.core import fast
from assay.errors import AssayError
from assay.explain import EigenCAM, GradCAM
from assay.explain.faithful import FaithfulnessConfig, faithfulness
from assay.report import schema
from assay.report.schema import AuditReport, NotRun

FEW = AuditConfig(
    eps=0.1,
    budgets=(0.02, 0.1),
    attacked=60,
    gallery=3,
    faithfulness=FaithfulnessConfig(
        explainers=(GradCAM(), EigenCAM()), networks=2, randomised=4, stages=1
    ),
)


def only(*sections: Any, **more: Any) -> AuditConfig:
    """Return these settings for some of the sections."""
    return FEW.model_copy(update={"sections": sections, **more})


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A digits network with its test images."""
    x, y = assay.load_data("digits").take(300)
    return networks.trained("pooled", networks.Pooled()), x, y


@pytest.fixture(scope="module")
def found(trained: tuple[nn.Module, Tensor, Tensor]) -> assay.Audit:
    model, x, y = trained
    reference = assay.load_data("digits", split="train").take(200)
    return assay.audit(assay.Classifier(model), x, y, reference=reference, config=FEW)


def check(audit: assay.Audit, code: str) -> Any:
    return next(c for c in audit.checks if c.code == code)


def test_accuracy_and_confusion_are_the_models_own(
    found: assay.Audit, trained: tuple[nn.Module, Tensor, Tensor]
) -> None:
    model, x, y = trained
    with torch.no_grad():
        said = model(x).argmax(1)
    report = found.report
    assert report.accuracy.overall.value == pytest.approx(float((said == y).float().mean()))
    assert report.accuracy.overall.value > 0.8, "the subject must be worth attacking"
    matrix = np.array(report.confusion.matrix)
    assert matrix.sum() == 300
    assert matrix[3, 5] == int(((y == 3) & (said == 5)).sum())
    assert np.trace(matrix) == int((said == y).sum())


def test_attacks_work_and_the_check_fails_on_a_natural_network(found: assay.Audit) -> None:
    fgsm, pgd = found.report.robustness.curves
    clean = found.report.robustness.clean.value
    assert [point.eps for point in pgd.points] == [0.02, 0.1]
    assert pgd.points[1].robust_accuracy.value < 0.5 * clean
    assert pgd.points[1].robust_accuracy.value <= fgsm.points[1].robust_accuracy.value
    assert pgd.points[0].robust_accuracy.value > pgd.points[1].robust_accuracy.value
    robust = check(found, "ROB-001")
    assert robust.value.value <= pgd.points[1].robust_accuracy.value, "all attacks together"
    assert (robust.value.n, robust.verdict) == (60, "fail")


def test_the_curve_is_drawn_with_the_threshold_that_a_policy_asks_for(
    trained: tuple[nn.Module, Tensor, Tensor],
) -> None:
    model, x, y = trained
    policy = Policy(checks={"ROB-001": Requirement(threshold=0.3)})
    config = only(Robustness(), attacks=(PGD(steps=2),), attacked=8)
    report = assay.audit(assay.Classifier(model), x, y, config=config, policy=policy).report
    assert isinstance(report.robustness, schema.Robustness)
    assert (check(report, "ROB-001").threshold, report.robustness.threshold) == (0.3, 0.3)


def test_a_check_does_not_pass_while_the_attack_may_have_failed(
    trained: tuple[nn.Module, Tensor, Tensor],
) -> None:
    """Rounding makes gradients vanish: nothing is fooled, and still nothing passes."""
    model, x, y = trained

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:
            return self.inner((x * 8).round() / 8)

    audit = assay.audit(assay.Classifier(Masked()), x, y, config=only(Robustness()))
    robust = check(audit, "ROB-001")
    assert robust.value.low > 0.5, "the attacks must have been misled for this to test anything"
    assert robust.verdict == "undecided"
    assert "REL-001" in robust.flags
    assert {f.code for f in audit.report.flags if f.raised} >= {
        "REL-001",
        "REL-008",
        "REL-009",
    }


def test_gallery_shows_right_images_after_every_step(found: assay.Audit) -> None:
    gallery = found.report.gallery
    assert len(gallery.items) == 3
    for item in gallery.items:
        assert item.label == item.prediction
        assert item.distance == pytest.approx(0.1, abs=1e-5), "PGD ends on the ball's surface"
        assert item.map_before is not None
    shown = found.arrays["gallery/adversarial"]
    ids = found.arrays["gallery/ids"]
    assert shown.shape[0] == len(ids)
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_maps_are_of_the_true_class_also_where_the_answer_changed(
    found: assay.Audit, trained: tuple[nn.Module, Tensor, Tensor]
) -> None:
    model, _, y = trained
    clf = assay.Classifier(model)
    attacked = torch.from_numpy(found.arrays["gallery/adversarial"])
    truth = y[torch.from_numpy(found.arrays["gallery/ids"])]
    assert (clf.predict(attacked) != truth).any()
    anew = FEW.explainer(clf, attacked, targets=truth).values.numpy()
    np.testing.assert_allclose(found.arrays["gallery/map_after"], anew, atol=1e-5)


def test_objects_that_are_known_are_looked_for_with_one_copy_of_the_model(
    trained: tuple[nn.Module, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the ink of digits as the object, whose share of the map is counted here by hand."""
    model, x, y = trained
    copies, build = [], fast.fast_copy
    monkeypatch.setattr(fast, "fast_copy", lambda *a: (copies.append(a), build(*a))[1])
    masks = x[:, 0] > 0.3
    two = only(Saliency(), Faithfulness(), attacked=30)
    found = assay.audit(assay.Classifier(model), x, y, masks=masks, config=two)
    assert len(copies) == 1
    held = {m.name: m for m in found.report.attention.measures}
    inside = held["share inside the object"]
    there = masks[torch.from_numpy(found.arrays["gallery/ids"])].numpy()
    before, after = (
        (maps * there).sum((1, 2)) / maps.sum((1, 2))
        for when in ("before", "after")
        for maps in [found.arrays[f"gallery/map_{when}"]]
    )
    known = np.isfinite(after - before)
    assert inside.estimate.value == pytest.approx((after - before)[known].mean(), abs=1e-5)
    assert inside.mate is None
    chapter = found.report.faithful
    assert float(masks.float().mean()) < chapter.pointing_chance < 0.9, "a pixel beside counts"
    assert all(one.pointing is not None for one in chapter.explainers)
    with pytest.raises(AssayError, match="masks must be bool"):
        assay.audit(assay.Classifier(model), x, y, masks=masks[:10])


def test_explainers_are_compared(
    found: assay.Audit, trained: tuple[nn.Module, Tensor, Tensor]
) -> None:
    chapter = found.report.faithful
    gains = [one.gain.value for one in chapter.explainers]
    assert gains == sorted(gains, reverse=True)
    assert {one.name for one in chapter.explainers} == {"grad-cam", "eigen-cam"}
    model, x, y = trained
    clf = assay.Classifier(model)
    right = (clf.predict(x[:60]) == y[:60]).nonzero()[:, 0][:32]
    itself = faithfulness(clf, x[right], y[right], config=FEW.faithfulness)
    assert chapter.best == itself.best
    assert chapter.n == len(right)
    for one, judged in zip(chapter.explainers, itself.judged, strict=True):
        assert one.gain.value == pytest.approx(judged.better.value)
        assert one.verdict == judged.verdict


def test_detectors_are_fitted_on_the_reference_only(
    found: assay.Audit, trained: tuple[nn.Module, Tensor, Tensor]
) -> None:
    assert found.report.ood.fitted_on == "100 reference images"
    kinds = {"uniform noise", "gaussian noise", "flat colours", "scrambled images"}
    assert {r.outliers for r in found.report.ood.results} == kinds
    assert all(r.n_in == 300 for r in found.report.ood.results)
    model, x, y = trained
    alone = assay.audit(assay.Classifier(model), x, y, config=only(Outliers()))
    assert all(r.n_in == 100 for r in alone.report.ood.results), "the rest was fitted on"


def test_saved_files_say_the_same(found: assay.Audit, tmp_path: Path) -> None:
    page = found.save(tmp_path / "mine.html")
    assert AuditReport.read(tmp_path / "mine.json") == found.report
    assert json.loads((tmp_path / "mine.json").read_text()) == found.to_dict()
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["labels"].shape == (300,)
    html = page.read_text()
    for c in found.checks:
        assert c.code in html
        assert c.verdict in html


def test_the_same_audit_again_says_the_same(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = trained
    config = only(Accuracy(), Calibration(), Saliency(), Outliers(), attacked=12)
    one, again = (
        assay.audit(assay.Classifier(model), x[:60], y[:60], config=config) for _ in range(2)
    )
    for chapter in ("accuracy", "calibration", "gallery", "hardly", "attention", "ood"):
        assert getattr(again.report, chapter) == getattr(one.report, chapter)
    assert again.checks == one.checks


def test_a_model_without_a_convolution_gets_a_report_that_says_so() -> None:
    x, y = assay.load_data("digits").take(60)
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    audit = assay.audit(assay.Classifier(flat), x, y, config=only(Saliency()))
    assert check(audit, "EXP-001").verdict == "not run"
    assert isinstance(audit.report.attention, NotRun)
    assert "spatial" in check(audit, "EXP-001").reason


def test_a_model_that_is_never_right_is_audited_all_the_same() -> None:
    x, y = assay.load_data("digits").take(60)

    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            bias = torch.full((len(x), 11), 0.0)
            bias[:, 10] = 50
            seen = self.conv(x).mean((2, 3)).sum(1, keepdim=True)
            return bias + seen * torch.linspace(0, 1, 11)

    audit = assay.audit(assay.Classifier(Wrong()), x, y, config=FEW)
    assert audit.report.accuracy.overall.value == 0
    assert check(audit, "ACC-001").verdict == "fail"
    assert "no image is classified correctly" in audit.report.gallery.not_run
    assert check(audit, "EXP-001").verdict == "not run"
    assert check(audit, "ROB-001").verdict == "fail"


class TestMistakes:
    def subject(self, k: int = 10) -> assay.Classifier:
        torch.manual_seed(0)
        return assay.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, k)))

    def test_labels_that_do_not_fit(self) -> None:
        x, y = torch.rand(30, 1, 4, 4), torch.arange(30)
        with pytest.raises(AssayError, match=r"labels go up to 29, but the model has 10 outputs"):
            assay.audit(self.subject(), x, y)

    def test_as_many_labels_as_images(self) -> None:
        with pytest.raises(AssayError, match=r"one label per image \(30,\), got \(29,\)"):
            assay.audit(self.subject(), torch.rand(30, 1, 4, 4), torch.zeros(29).long())

    def test_out_of_range(self) -> None:
        x = torch.rand(30, 1, 4, 4)
        x[0, 0, 0, 0] = 2
        with pytest.raises(AssayError, match=r"from .* to 2"):
            assay.audit(self.subject(), x, torch.zeros(30).long())

    def test_nan(self) -> None:
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        nn.init.constant_(model[1].bias, float("nan"))
        with pytest.raises(AssayError, match="NaN"):
            assay.audit(assay.Classifier(model), torch.rand(30, 1, 4, 4), torch.zeros(30).long())

    def test_too_few(self) -> None:
        with pytest.raises(AssayError, match="at least 20 images, got 5"):
            assay.audit(self.subject(), torch.rand(5, 1, 4, 4), torch.zeros(5).long())


def test_two_forms_of_one_attack_keep_their_own_curves_and_arrays(
    trained: tuple[nn.Module, Tensor, Tensor],
) -> None:
    model, x, y = trained
    attacks = (PGD(steps=1, random_start=False), PGD(steps=1, loss="margin"))
    config = only(Robustness(), attacks=attacks, attacked=12)
    audit = assay.audit(assay.Classifier(model), x[:60], y[:60], config=config)
    assert not isinstance(audit.report.robustness, NotRun)
    assert [len(curve.points) for curve in audit.report.robustness.curves] == [2, 2]
    assert sum(name.endswith("/success") for name in audit.arrays) == 2


def test_a_model_that_is_not_wrapped(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = trained
    with pytest.raises(AssayError, match=r"Pooled is a bare torch.nn.Module: wrap it in assay"):
        assay.audit(model, x, y)  # type: ignore[arg-type]
    with pytest.raises(AssayError, match=r"assay.Classifier\(model, ...\), not int"):
        assay.audit(3, x, y)  # type: ignore[arg-type]


def test_a_report_is_written_whole_or_not_at_all(
    found: assay.Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = result.write_atomic

    def full(path: Path, content: str) -> None:
        if path.suffix == ".html":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(result, "render_audit", lambda report: report.title)
    found.save(tmp_path / "old")
    before = {file.name: file.read_bytes() for file in (tmp_path / "old").iterdir()}
    monkeypatch.setattr(result, "write_atomic", full)
    other = dataclasses.replace(found, arrays={"labels": np.zeros(3)})
    for name in ("old", "new"):
        with pytest.raises(AssayError, match="no space left on the disk"):
            other.save(tmp_path / name)
    assert {file.name: file.read_bytes() for file in (tmp_path / "old").iterdir()} == before
    assert list((tmp_path / "new").iterdir()) == []


def test_a_page_that_cannot_be_drawn_costs_neither_numbers_nor_arrays(
    found: assay.Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> str:
        raise TypeError("'<' not supported between NoneType and float")

    (tmp_path / "report.html").write_text("an older page, of other numbers")
    monkeypatch.setattr(result, "render_audit", fails)
    with pytest.raises(AssayError, match=r"could not be drawn \(TypeError.*report.json, and"):
        found.save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["arrays.npz", "report.json"]
    assert AuditReport.read(tmp_path / "report.json") == found.report
    with np.load(tmp_path / "arrays.npz") as arrays:
        assert arrays["labels"].shape == (300,)


def test_a_model_that_takes_no_batch_of_none_is_audited(
    trained: tuple[nn.Module, Tensor, Tensor],
) -> None:
    """At a budget at which nothing is fooled there is nothing to round."""
    model, x, y = trained

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.reshape(x.size(0), -1).view(x.size(0), 1, 28, -1))

    clf = assay.Classifier(Views())
    few = only(Robustness(), eps=1e-4, budgets=(1e-4,), attacked=12)
    audit = assay.audit(clf, x, y, config=few)
    assert audit.report.robustness.curves[0].points[0].success.value == 0
    assert tuple(clf.query(x[:0]).shape) == (0, 10)


def test_labels_and_references_of_any_whole_type(
    trained: tuple[nn.Module, Tensor, Tensor],
) -> None:
    model, x, y = trained
    seen = assay.load_data("digits", split="train").take(100)
    config = only(Accuracy(), Outliers())
    one, other = (
        assay.audit(
            assay.Classifier(model),
            x[:60].requires_grad_(dtype == torch.uint8),
            y[:60].to(dtype),
            reference=(seen[0], seen[1].numpy()),
            config=config,
        )
        for dtype in (torch.int64, torch.uint8)
    )
    assert one.checks == other.checks


def test_what_is_scored_is_no_reference(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = trained
    with pytest.raises(AssayError, match="are not the images that are scored"):
        assay.audit(assay.Classifier(model), x, y, reference=(x, y), config=FEW)


def test_a_folder_in_the_place_of_a_file_leaves_nothing(
    found: assay.Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "render_audit", lambda report: report.title)
    (tmp_path / "out" / "report.json").mkdir(parents=True)
    with pytest.raises(AssayError, match="is a folder, not a file to write"):
        found.save(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
