"""Randomized smoothing: what most noisy copies of an image are classified as is certified in L2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from assay import stats
from assay.config import Config, Number
from assay.core.classifier import Classifier
from assay.core.fast import fast_copy
from assay.core.images import check_images
from assay.core.oracle import Oracle, labels
from assay.core.random import Stream
from assay.errors import AssayError

AT_A_TIME = 128


@dataclass(frozen=True)
class Smoothed:
    """What randomized smoothing says of each image, and proves. The proof is of L2 alone.

    Attributes:
        label: int64 (N,), the class of the smoothed classifier; -1 where it abstains.
        radius: float64 (N,), the L2 distance in pixel units within which that class cannot change;
            0 where it abstains.
        sigma, draws, alpha: as in `Smoothing`. Each image is wrong with a probability of at most
            alpha, over the draws.

    >>> found = assay.certify.Smoothing(sigma=0.1, draws=200)(clf, x, seed=0)
    >>> found.accuracy(y, radius=0.05).of
    'images'
    """

    label: Tensor
    radius: Tensor
    sigma: float
    draws: int
    alpha: float

    @property
    def abstained(self) -> stats.Estimate:
        """The share of images of which nothing is said."""
        return stats.proportion(int((self.label < 0).sum()), len(self.label), "images")

    def certified(self, y: Tensor, radius: float = 0.0) -> Tensor:
        """Return which images are right, and stay so within the L2 `radius`: bool (N,)."""
        if radius < 0:
            raise AssayError(f"a radius is at least 0, not {radius:g}")
        return (self.label == y.cpu()) & (self.radius >= radius)

    def accuracy(self, y: Tensor, radius: float = 0.0) -> stats.Estimate:
        """Return the share of images that are certified at an L2 radius, with Wilson's interval."""
        found = self.certified(y, radius)
        return stats.proportion(int(found.sum()), len(found), "images")


class Smoothing(Config):
    """Randomized smoothing around any classifier (Cohen et al. 2019, "Certified adversarial
    robustness via randomized smoothing", CERTIFY).

        g(x) = argmax_c P(f(x + N(0, σ² I)) = c),   R = σ Φ⁻¹(p),   p ≤ P(f(x + N) = g(x))

    p is the one-sided Clopper–Pearson bound of how often `draws` noisy copies are classified as the
    class that `selection` others chose; where p ≤ 1/2 it abstains. R is a radius in L2, and says
    nothing of L∞ beyond R / √(C·H·W). The largest R that n draws can show is σ Φ⁻¹(α^(1/n)): 2.46 σ
    for 1,000 at α = 0.001.

    Noisy copies are cut to [0, 1], which thereby belongs to f; the authors' are not. A network that
    was not trained on such noise is certified at small σ alone.

    >>> smoothed = assay.certify.Smoothing(sigma=0.05, draws=100, selection=10)(clf, x)
    >>> bool((smoothed.radius <= 0.05 * 2.5).all()), smoothed.accuracy(y, radius=0.0).n
    (True, 12)
    """

    sigma: Annotated[Number, Field(gt=0)] = 0.25
    """σ, the standard deviation of the noise, in pixel units of [0, 1]."""
    draws: int = Field(default=1000, ge=1)
    """n, the noisy copies that are counted."""
    selection: int = Field(default=100, ge=1)
    """n₀, the noisy copies that choose the class."""
    alpha: Annotated[Number, Field(gt=0, lt=1)] = 0.001
    """α, the probability of certifying wrongly, per image."""

    def __call__(self, oracle: Oracle[Tensor], x: Tensor, *, seed: int = 0) -> Smoothed:
        """Certify each image of x (N, C, H, W) in [0, 1]; draws depend on seed and row alone."""
        x = check_images(x)
        said, radii = [], []
        screen = fast_copy(oracle, x)[0] if isinstance(oracle, Classifier) and len(x) else oracle
        for row, image in enumerate(x):
            generator = Stream(seed).child("smoothing", row).torch()
            chosen = self._counts(screen, image, self.selection, generator).argmax()
            counts = self._counts(screen, image, self.draws, generator)
            least = lower_bound(int(counts[chosen]), self.draws, self.alpha)
            said.append(int(chosen) if least > 0.5 else -1)
            radii.append(radius_of(least, self.sigma))
        return Smoothed(
            torch.tensor(said, dtype=torch.int64),
            torch.tensor(radii, dtype=torch.float64),
            *(self.sigma, self.draws, self.alpha),
        )

    def _counts(
        self, oracle: Oracle[Tensor], image: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """Return how many noisy copies are classified as each class, int64 (K,)."""
        found = torch.zeros(0, dtype=torch.int64)
        for start in range(0, count, AT_A_TIME):
            size = (min(AT_A_TIME, count - start), *image.shape)
            noise = torch.randn(size, generator=generator).to(image.device)
            noisy = noise.mul_(self.sigma).add_(image).clamp_(0, 1)
            answer = labels(oracle.query(noisy)).cpu()
            counted = torch.bincount(answer[answer >= 0], minlength=len(oracle.classes))
            found = counted if not len(found) else found + counted
        return found


def lower_bound(successes: int, n: int, alpha: float) -> float:
    """Return the one-sided Clopper–Pearson bound: the least share with which so many successes, or
    more, of `n` are seen with a probability of `alpha`."""
    from scipy.stats import beta

    return float(beta.ppf(alpha, successes, n - successes + 1)) if successes else 0.0


def radius_of(share: float, sigma: float) -> float:
    """Return σ Φ⁻¹(share), the certified L2 radius; 0 for a share of at most 1/2."""
    from scipy.stats import norm

    return sigma * float(norm.ppf(share)) if share > 0.5 else 0.0
