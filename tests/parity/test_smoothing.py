"""Randomized smoothing against statsmodels and scipy, as the authors' code certifies."""

from __future__ import annotations

import pytest
import torch
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor, nn

from assay.certify import Smoothing
from assay.certify.smoothing import lower_bound, radius_of
from assay.core.classifier import Classifier
from assay.core.random import Stream

COUNTS = [(0, 10), (1, 10), (6, 10), (10, 10), (501, 1000), (777, 1000), (999, 1000), (1000, 1000)]


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize(("successes", "n"), COUNTS)
def test_the_bound_is_that_of_clopper_and_pearson(successes: int, n: int, alpha: float) -> None:
    """The authors take the lower end of the two-sided interval of 2 α; scipy has one side."""
    found = lower_bound(successes, n, alpha)
    both, _ = proportion_confint(successes, n, alpha=2 * alpha, method="beta")
    test = scipy_stats.binomtest(successes, n, alternative="greater")
    one = test.proportion_ci(confidence_level=1 - alpha, method="exact").low
    assert found == pytest.approx(both, rel=1e-9, abs=1e-12)
    assert found == pytest.approx(one, rel=1e-6, abs=1e-9)


def test_images_are_certified_as_by_the_authors_code() -> None:
    """Cohen et al. 2019, core.py, with the same noise: n₀ draws choose a class, n others count it;
    σ Φ⁻¹ of the bound, and no class where the bound is below 1/2."""
    torch.manual_seed(1)
    last = nn.Linear(12, 3)
    with torch.no_grad():
        last.weight.mul_(8)
    clf = Classifier(nn.Sequential(nn.Flatten(), last), classes="abc")
    x = Stream(2).rows(range(12)).uniform((3, 2, 2))
    sigma, draws, selection, alpha = 0.25, 300, 40, 0.01
    found = Smoothing(sigma=sigma, draws=draws, selection=selection, alpha=alpha)(clf, x, seed=7)

    def count(image: Tensor, n: int, generator: torch.Generator) -> Tensor:
        answers = []
        for start in range(0, n, 128):
            noise = torch.randn(min(128, n - start), 3, 2, 2, generator=generator)
            answers.append(clf.predict((image + sigma * noise).clamp(0, 1)))
        return torch.bincount(torch.cat(answers), minlength=3)

    labels, radii = [], []
    for row, image in enumerate(x):
        generator = Stream(7).child("smoothing", row).torch()
        chosen = int(count(image, selection, generator).argmax())
        seen = int(count(image, draws, generator)[chosen])
        least, _ = proportion_confint(seen, draws, alpha=2 * alpha, method="beta")
        abstains = least < 0.5
        labels.append(-1 if abstains else chosen)
        radii.append(0.0 if abstains else sigma * float(scipy_stats.norm.ppf(least)))
    assert found.label.tolist() == labels
    assert found.radius.tolist() == pytest.approx(radii, rel=1e-6)
    assert {-1} < set(labels)
    assert radius_of(0.5, sigma) == 0
