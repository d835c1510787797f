"""What a fitted detector keeps, where its threshold lies, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood import Detector, FittedDetector, MaxLogit, MaxSoftmax, registry
from assay.ood.needs import Need


class Distance(Detector):
    """How far the features are from the mean of the nearest class."""

    needs: ClassVar[frozenset[Need]] = frozenset({"features"})
    name: Literal["distance"] = "distance"
    scale: float = 1.0

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        assert e.features is not None
        assert y is not None
        return {"means": torch.stack([e.features[y == k].mean(0) for k in y.unique()])}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        assert e.features is not None
        return self.scale * torch.cdist(e.features, state["means"]).amin(1).double()


def ramp(n: int, start: float = 0.0) -> Embedding:
    """Max-logit scores start + 1, start + 2, ..., in an order of its own."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    top = -(start + 1 + order.float())
    return Embedding(torch.stack([top, top - 1], dim=1), None)


TRAIN = ramp(50, start=0.5)


@pytest.mark.parametrize(
    ("n", "tpr", "threshold"),
    [
        (19, 0.95, 19),  # ceil(0.95 · 20) = 19: the largest
        (39, 0.95, 38),  # ceil(0.95 · 40) = 38
        (100, 0.95, 96),  # ceil(95.95) = 96: the plain quantile would take 95
        (100, 0.5, 51),
        (9, 0.9, 9),
    ],
)
def test_the_threshold_by_hand(n: int, tpr: float, threshold: float) -> None:
    fitted = MaxLogit().fit(TRAIN, calibrate=ramp(n), tpr=tpr)
    assert fitted.threshold == threshold
    assert (fitted.tpr, fitted.calibrated_on) == (tpr, n)
    assert int(fitted.is_outlier(ramp(n)).sum()) == n - threshold


def test_fresh_inliers_are_let_through_as_often_as_it_says() -> None:
    # Over draws of calibration set and fresh image: at least tpr, at most tpr + 1 / (n + 1).
    draw = torch.Generator().manual_seed(0)
    kept = total = 0
    for _ in range(400):
        logits = torch.randn(39 + 100, 3, generator=draw)
        fitted = MaxLogit().fit(TRAIN2, calibrate=Embedding(logits[:39], None), tpr=0.9)
        kept += int((~fitted.is_outlier(Embedding(logits[39:], None))).sum())
        total += 100
    assert 0.89 < kept / total < 0.92


TRAIN2 = Embedding(torch.zeros(2, 3), None)


def test_calibration_on_other_rows_of_the_same_number_is_fine() -> None:
    assert MaxLogit().fit(TRAIN, calibrate=ramp(50)).threshold == 49


def test_calibration_is_refused_on_equal_images_with_other_logits() -> None:
    # The same images through a batch of another size differ in the last bits.
    x = torch.rand(30, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    first, second = clf.embed(x), clf.embed(x.clone())
    second = replace(second, logits=second.logits + 1e-7)
    with pytest.raises(AssayError, match="cannot be calibrated on the data"):
        MaxLogit().fit(first, calibrate=second)
    assert MaxLogit().fit(first, calibrate=clf.embed(1 - x)).calibrated_on == 30


# -- detectors that learn --------------------------------------------------------------------------


def learned(seed: int, n: int = 30) -> Embedding:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 4, generator=draw)
    return Embedding(features[:, :2].clone(), features, y=torch.arange(n) % 2)


def test_what_is_learned_is_kept_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "Distance", Distance, raising=False)
    fitted = Distance(scale=2.0).fit(learned(0), calibrate=learned(1))
    features, y = learned(0).features, learned(0).y
    assert features is not None
    assert y is not None
    torch.testing.assert_close(fitted.state["means"][1], features[y == 1].mean(0))
    fitted.save(tmp_path / "distance.safetensors")
    loaded = FittedDetector.load(tmp_path / "distance.safetensors")
    assert loaded.detector == Distance(scale=2.0)
    assert torch.equal(loaded.state["means"], fitted.state["means"])
    assert torch.equal(loaded.score(learned(2)), fitted.score(learned(2)))
    assert loaded.threshold == fitted.threshold


def test_labels_that_are_given_come_before_those_of_the_embedding() -> None:
    one_class = Distance().fit(learned(0), torch.zeros(30).long())
    assert len(one_class.state["means"]) == 1
    assert len(Distance().fit(learned(0)).state["means"]) == 2


def test_an_embedding_that_lacks_what_is_needed() -> None:
    with pytest.raises(AssayError, match="distance needs features, which this embedding lacks"):
        Distance().fit(TRAIN)
    fitted = Distance().fit(learned(0))
    without = replace(learned(1), features=None, lacks={"head": "it ends in a tree"})
    with pytest.raises(AssayError, match=r"needs features, .* lacks \(it ends in a tree\)"):
        fitted.score(without)


def test_nan_scores_are_an_error() -> None:
    logits = torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])
    with pytest.raises(AssayError, match="max-softmax scores 1 of 2 rows as NaN"):
        MaxSoftmax().fit(TRAIN).score(Embedding(logits, None))


# -- files -----------------------------------------------------------------------------------------


def written(path: Path, **changes: object) -> Path:
    about = {
        "format": 1,
        "detector": {"name": "max-logit"},
        "version": 1,
        "classes": 2,
        "threshold": None,
        "tpr": None,
        "calibrated_on": 0,
        **changes,
    }
    save_file({}, path, metadata={"assay.detector": json.dumps(about)})
    return path


def test_a_file_of_the_documented_form_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "d.safetensors", threshold=1.5, tpr=0.9, calibrated_on=40)
    fitted = FittedDetector.load(path)
    assert fitted.detector == MaxLogit()
    assert fitted.threshold == 1.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector": {"name": "max-logits"}}, "unknown detector 'max-logits': did you mean 'max-"),
        ({"detector": {"name": "max-logit", "wrong": 1}}, "unknown key 'wrong'"),
        ({"format": 2}, "has format 2, known is 1"),
        ({"version": 9}, "fitted by version 9 of max-logit"),
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        FittedDetector.load(written(tmp_path / "d.safetensors", **changes))


def test_files_that_are_no_detectors(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="there is no detector at"):
        FittedDetector.load(tmp_path / "nothing.safetensors")
    corrupt = tmp_path / "corrupt.safetensors"
    corrupt.write_bytes(b"\x80\x04 a pickle, perhaps")
    with pytest.raises(AssayError, match="not a readable safetensors file"):
        FittedDetector.load(corrupt)
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(AssayError, match="not a detector saved by assay"):
        FittedDetector.load(tmp_path / "model.safetensors")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="cannot write"):
        MaxLogit().fit(TRAIN).save(tmp_path / "no" / "folder.safetensors")
    (tmp_path / "taken").mkdir()
    with pytest.raises(AssayError, match="cannot write"):
        MaxLogit().fit(TRAIN).save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
