"""Detectors that see each class's features as a Gaussian, all with one covariance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood.base import Detector
from assay.ood.needs import Need, features_of

ROWS = 4096
"""Rows that are worked on at a time: what is in float64 does not grow with the data."""
SINGULAR = 1e-10
"""Least ratio of a covariance's smallest eigenvalue to its largest; below, it is shrunk."""


class ClassGaussians(Detector):
    """One Gaussian for each class, with the covariance that they share; members say how the
    features are shown to it."""

    needs: ClassVar[frozenset[Need]] = frozenset({"features"})

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        features, index, classes = self.grouped(e, y)
        means = means_of(features, index, len(classes))
        covariance, shrinkage = invertible(self.name, features, index, means)
        return {**whitened(means, covariance), "shrinkage": shrinkage, "classes": classes}

    def shown(self, features: Tensor) -> Tensor:
        """Return the features (N, D) as the Gaussians see them."""
        return features

    def grouped(self, e: Embedding, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features (M, D) of the rows that have a label, which group each is of
        int64 (M,), and the class of each group.

        Raises:
            AssayError: there are no labels.
        """
        known = None if y is None else y >= 0
        if y is None or known is None or not bool(known.any()):
            raise AssayError(f"{self.name} learns from labels: give y, or data that has some")
        classes, index = torch.unique(y[known], return_inverse=True)
        return self.shown(features_of(e)[known]), index, classes

    def caveats(self, e: Embedding, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        notes = []
        if (shrinkage := float(state["shrinkage"])) > 0:
            notes.append(
                f"the covariance of {len(e):,} rows with {len(state['centre']):,} features is "
                f"singular, and was shrunk by {shrinkage:.2g} (Ledoit & Wolf 2004)"
            )
        total = e.logits.shape[1]
        missing = sorted(set(range(total)) - set(state["classes"].tolist()))
        if missing:
            some = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
            notes.append(
                f"{len(missing)} of {total} classes have no row to learn from ({some}): their "
                "images may score as outliers"
            )
        return tuple(notes)

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        return distances(self.shown(features_of(e)), state).amin(1)


class Mahalanobis(ClassGaussians):
    """min_k (h - μ_k)ᵀ Σ⁻¹ (h - μ_k): the squared distance of the features h to the nearest class
    mean μ_k, by the covariance Σ that the classes share (Lee et al. 2018, "A simple unified
    framework for detecting out-of-distribution samples and adversarial attacks").

    It reads the last layer alone; the paper also perturbs the input, and weighs layers by a
    regression on outliers, which a detector that is fixed beforehand cannot have seen. A covariance
    without an inverse (fewer rows than features, features that are constant) is shrunk towards
    a multiple of the identity (Ledoit & Wolf 2004), and `notes` say so.

    >>> fitted = assay.ood.Mahalanobis().fit(clf.embed(x, y))
    >>> print(fitted.notes[0])
    the covariance of 12 rows with 24 features is singular, and was shrunk by ...
    >>> grey = clf.embed(torch.full_like(x, 0.5))
    >>> bool(fitted.score(grey).min() > fitted.score(clf.embed(x)).max())
    True
    """

    name: Literal["mahalanobis"] = "mahalanobis"
    """The method's name in configs."""


class MahalanobisPlusPlus(ClassGaussians):
    """`Mahalanobis` on features of length 1, h / ‖h‖₂: lengths that differ make the covariance of
    one class unlike another's (Mueller & Hein 2025, "Mahalanobis++: Improving OOD detection via
    feature normalization").

    >>> e = clf.embed(x, y)
    >>> fitted = assay.ood.MahalanobisPlusPlus().fit(e)
    >>> longer = assay.core.embedding.Embedding(e.logits, 2 * e.features)
    >>> torch.allclose(fitted.score(longer), fitted.score(e), rtol=1e-4)
    True
    """

    name: Literal["mahalanobis++"] = "mahalanobis++"
    """The method's name in configs."""

    def shown(self, features: Tensor) -> Tensor:
        return torch.nn.functional.normalize(features, dim=1)


class RelativeMahalanobis(ClassGaussians):
    """The squared Mahalanobis distance to the nearest class less that to all classes as a single
    Gaussian: what is unusual of an image, whatever its class, cancels (Ren et al. 2021, "A simple
    fix to Mahalanobis distance for improving near-OOD detection").

    Where the classes' covariance is shrunk, that of the single Gaussian is the same and what lies
    between the class means: directions that the training data does not have then cancel too.

    >>> fitted = assay.ood.RelativeMahalanobis().fit(clf.embed(x, y))
    >>> grey = clf.embed(torch.full_like(x, 0.5))
    >>> bool(fitted.score(grey).min() > fitted.score(clf.embed(x)).max())
    True
    """

    name: Literal["relative-mahalanobis"] = "relative-mahalanobis"
    """The method's name in configs."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        features, index, classes = self.grouped(e, y)
        means = means_of(features, index, len(classes))
        covariance, shrinkage = invertible(self.name, features, index, means)
        weights = index.bincount().double()[:, None] / len(features)
        mean = (weights * means).sum(0, keepdim=True)
        between = (weights * (means - mean)).mT @ (means - mean)
        every = whitened(mean, covariance + between)
        state = {**whitened(means, covariance), "shrinkage": shrinkage, "classes": classes}
        return {**state, **{f"all.{name}": values for name, values in every.items()}}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        every = {name[4:]: values for name, values in state.items() if name.startswith("all.")}
        features = features_of(e)
        return super().ood_score(e, state) - distances(features, every)[:, 0]


def means_of(features: Tensor, index: Tensor, groups: int) -> Tensor:
    """Return the mean float64 (groups, D) of each group of rows."""
    sums = torch.zeros(groups, features.shape[1], dtype=torch.float64)
    for part, of in zip(torch.split(features, ROWS), torch.split(index, ROWS), strict=True):
        sums.index_add_(0, of, part.double())
    return sums / index.bincount(minlength=groups)[:, None]


def scatter(features: Tensor, index: Tensor, means: Tensor) -> Tensor:
    """Return Σ (h - μ) (h - μ)ᵀ, float64 (D, D), μ the mean of the row's group."""
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for part, of in zip(torch.split(features, ROWS), torch.split(index, ROWS), strict=True):
        away = part.double() - means[of]
        total.addmm_(away.mT, away)
    return total


def quartics(features: Tensor, index: Tensor, means: Tensor) -> float:
    """Return Σ ‖h - μ‖⁴, which says how uncertain the scatter is."""
    parts = zip(torch.split(features, ROWS), torch.split(index, ROWS), strict=True)
    return sum(float((part - means[of]).square().sum(1).square().sum()) for part, of in parts)


def invertible(name: str, features: Tensor, index: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Return the covariance float64 (D, D) that groups share, shrunk where it has no inverse, and
    by how much: 0 as a rule.

    Raises:
        AssayError: no feature varies within a group.
    """
    n = len(features)
    covariance = scatter(features, index, means) / n
    values = torch.linalg.eigvalsh(covariance).clamp_min(0)
    # what float32 can make vary is more than a ten millionth of the features
    size = features.double().square().mean() * features.shape[1]
    if not float(values[-1]) > 1e-12 * float(size):
        raise AssayError(f"{name} needs features that vary, and in a class these are all the same")
    shrinkage = 0.0
    if float(values[0]) <= SINGULAR * float(values[-1]):
        shrinkage = ledoit_wolf(values, quartics(features, index, means), n)
        covariance = (1 - shrinkage) * covariance
        covariance.diagonal().add_(shrinkage * values.mean())
    return covariance, torch.tensor(shrinkage, dtype=torch.float64)


def whitened(means: Tensor, covariance: Tensor) -> dict[str, Tensor]:
    """Return what distances are measured by: `centre` (D,) and `whiten` (D, D), with which
    (h - centre) @ whiten has the identity for its covariance, and the `means` (K, D) in these
    terms."""
    values, vectors = torch.linalg.eigh(covariance)
    whiten, centre = (vectors / values.sqrt()).contiguous(), means.mean(0)
    return {"centre": centre, "whiten": whiten, "means": (means - centre) @ whiten}


def ledoit_wolf(values: Tensor, quartic: float, n: int) -> float:
    """Return the share of the identity that is best for a covariance of n rows, in [0, 1]: the
    optimum of Ledoit & Wolf (2004, "A well-conditioned estimator for large-dimensional covariance
    matrices"), from its eigenvalues (D,) and Σ ‖h - μ‖⁴; at least enough to have an inverse."""
    squares, level = float(values.square().sum()), float(values.mean())
    apart = squares - len(values) * level**2
    noise = max(0.0, (quartic / n - squares) / n)
    least = 10 * SINGULAR * float(values[-1]) / level
    return 1.0 if apart <= 0 else min(1.0, max(least, noise / apart))


def distances(features: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Return squared distances float64 (N, K) of features (N, D) to the means of `whitened`."""
    means = state["means"]
    found = []
    for part in torch.split(features, ROWS):
        at = (part.double() - state["centre"]) @ state["whiten"]
        apart = at.square().sum(1, keepdim=True) + means.square().sum(1) - 2 * at @ means.mT
        found.append(apart.clamp_min(0))
    return torch.cat(found) if found else means.new_zeros(0, len(means))
