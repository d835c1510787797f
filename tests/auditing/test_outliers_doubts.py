"""What can go wrong with detectors, in an audit: a row that is left out with its reason, or a
caveat in words; never a NaN."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from assay.auditing import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.section import Measured
from assay.auditing.sections.outliers import Outliers
from assay.core.classifier import Classifier
from assay.ood import KNN, Mahalanobis, MaxLogit
from assay.ood.base import Detector
from assay.report.record import NotRun

N = 60


class Wide(nn.Module):
    """Forty features of sixteen pixels, and a linear head; `last` follows it, `change` the first
    features of what it reads."""

    def __init__(self, last: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(16, 40), nn.Linear(40, 3)
        self.last = last

    def features(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1)).relu()

    def forward(self, x: Tensor) -> Tensor:
        z = self.head(self.features(x))
        return z if self.last is None else self.last(z)


class Broken(Wide):
    """Features that are not numbers where the first pixel is bright, and logits that are."""

    def features(self, x: Tensor) -> Tensor:
        h = super().features(x)
        return torch.where(x.flatten(1)[:, :1] > 0.5, torch.nan, h)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x)
        return self.head(h).nan_to_num() if len(h) else self.head(h)


class Alone(Wide):
    """A network that takes one image at a time."""

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == 1, "no batches"
        return super().forward(x)


class Constant(Wide):
    """One answer to everything."""

    def features(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), 40)


def images(n: int = N) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return (torch.rand(n, 1, 4, 4, generator=draw) * 255).round() / 255


def measured(
    model: nn.Module,
    *detectors: Detector,
    outliers: tuple[str, ...] = ("uniform-noise",),
    y: Tensor | None = None,
    batch_size: int = 64,
) -> Measured:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    config = AuditConfig(outliers=outliers).model_copy(update={"detectors": detectors})
    x = images()
    y = torch.arange(N) % 3 if y is None else y
    found = Outliers().measure(Evidence(Classifier(model, batch_size=batch_size), x, y, config))
    for row in found.chapters["ood"].results:
        assert math.isfinite(row.auroc.value)
        assert math.isfinite(row.fpr95.value)
    return found


def caveat(found: Measured) -> str:
    (flag,) = found.flags
    return flag.detail


def test_a_covariance_of_fewer_rows_than_features_is_shrunk_and_said() -> None:
    found = measured(Wide(), Mahalanobis(), MaxLogit())
    assert "mahalanobis: the covariance of 20 rows with 40 features is singular" in caveat(found)
    assert {row.detector for row in found.chapters["ood"].results} == {"mahalanobis", "max-logit"}


def test_features_that_never_vary_take_away_the_row_and_scores_that_never_do_are_said() -> None:
    found = measured(Constant(), Mahalanobis(), MaxLogit())
    assert "are all the same" in found.chapters["ood"].failed["mahalanobis"]
    assert "max-logit: all inliers and outliers have the same score" in caveat(found)
    (row,) = found.chapters["ood"].results
    assert row.auroc.value == 0.5


def test_a_class_that_the_fit_never_saw_is_named() -> None:
    y = torch.where(torch.arange(N) < N // 3, torch.arange(N) % 2, torch.arange(N) % 3)
    assert "1 of 3 classes have no row to learn from (2)" in caveat(
        measured(Wide(), Mahalanobis(), y=y)
    )


def test_features_that_are_not_numbers_take_away_the_row_and_no_other() -> None:
    found = measured(Broken(), KNN(k=3), MaxLogit())
    why = found.chapters["ood"].failed["knn"]
    assert "knn cannot learn from NaN or infinity" in why
    assert isinstance(found.values["OOD-004"], NotRun)
    assert {row.detector for row in found.chapters["ood"].results} == {"max-logit"}


def test_a_model_without_a_linear_head_loses_the_detectors_that_read_one() -> None:
    found = measured(Wide(nn.Tanh()), KNN(k=3), MaxLogit())
    assert found.chapters["ood"].failed["knn"].startswith("knn needs")
    assert {row.detector for row in found.chapters["ood"].results} == {"max-logit"}


def test_a_model_that_takes_one_image_at_a_time() -> None:
    found = measured(Alone(), KNN(k=3), batch_size=1), measured(Wide(), KNN(k=3))
    (alone,), (batched,) = (one.chapters["ood"].results for one in found)
    assert alone.auroc == batched.auroc
    assert alone.threshold == pytest.approx(batched.threshold, rel=1e-4)


@pytest.mark.parametrize("n", [7, 30])
def test_outliers_that_are_too_few_for_a_rate_are_said(tmp_path: Path, n: int) -> None:
    draw = np.random.default_rng(1)
    for k in range(n):
        Image.fromarray(draw.integers(0, 256, (4, 4), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    found = measured(Wide(), MaxLogit(), outliers=(str(tmp_path),))
    if n < 20:
        assert "max-logit: only 7 outliers: FPR95 moves in steps of 14.3 points" in caveat(found)
    else:
        assert found.flags == ()
