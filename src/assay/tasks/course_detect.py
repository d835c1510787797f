"""Outliers as the course looked for them: on fake data, with preprocessing that did not match."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from assay import stats
from assay.core.classifier import Classifier
from assay.data.dataset import Dataset
from assay.models.autoencoder import Autoencoder
from assay.ood.confidence import MaxLogit
from assay.ood.inputs import Reconstruction


def as_the_course(
    classifier: Classifier, autoencoders: Mapping[str, Autoencoder], test: Dataset, fake: Dataset
) -> dict[str, float]:
    """Return the AUROCs of both of the course's detectors, "course" and "matched".

    As the course did it, the classifier is fed [-1, 1] whatever it was trained on, and an
    autoencoder that ends in a sigmoid is asked to reproduce images in [-1, 1]; matched, both have
    the preprocessing that they were trained with. No codec.

    Args:
        classifier: the network, which the largest logit is taken of.
        autoencoders: `signed`, which learned from images in [-1, 1], and `conv`.
        test, fake: inliers and outliers, of one shape.
    """
    half = [0.5] * test.shape[0]
    other = Classifier(classifier.model, mean=half, std=half, classes=classifier.classes)
    signed, conv = autoencoders["signed"], autoencoders["conv"]
    errors = [_signed_error(signed, data, classifier.device) for data in (test, fake)]
    found = {
        "max-logit, course": _by_logit(other, test, fake),
        "reconstruction, course": _auroc(*errors),
        "max-logit, matched": _by_logit(classifier, test, fake),
    }
    own = [classifier.embed(data).with_autoencoder(conv) for data in (test, fake)]
    matched = [Reconstruction().fit(e).score(e) for e in own]
    return found | {"reconstruction, matched": _auroc(*matched)}


def _by_logit(classifier: Classifier, test: Dataset, fake: Dataset) -> float:
    inside, outside = (classifier.embed(data) for data in (test, fake))
    logit = MaxLogit().fit(inside)
    return _auroc(logit.score(inside), logit.score(outside))


def _auroc(inside: Tensor, outside: Tensor) -> float:
    return stats.auroc(inside.cpu().numpy(), outside.cpu().numpy()).value


def _signed_error(model: Autoencoder, data: Dataset, device: torch.device) -> Tensor:
    """Return the squared error per value of images in [-1, 1] under a decoder that cannot go below
    0: float32 (N,)."""
    found = []
    with torch.no_grad():
        for _, x, _ in data.batches(500):
            x = 2 * x.to(device) - 1
            found.append((model(x) - x).square().mean((1, 2, 3)))
    return torch.cat(found)
