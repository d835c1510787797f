"""Detectors that look at the images alone: how well an autoencoder reproduces them, how likely it
finds them, and how much detail there is in them, which is what those two must beat.

The autoencoder is handed in with the embedding: `clf.embed(x).with_autoencoder(model)`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.embedding import Embedding, Reconstructs
from assay.errors import AssayError
from assay.ood.base import Detector
from assay.ood.needs import Need
from assay.ood.similarity import ssim


class _ByAutoencoder(Detector):
    """What detectors with an autoencoder share: that they know it again."""

    needs: ClassVar[frozenset[Need]] = frozenset({"inputs", "autoencoder"})

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        _, x = next(iter(e.batches()))
        grey = torch.full_like(x[:1], 0.5)
        return {"grey": _on(_given(e), grey, type(self).rate).cpu()}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        autoencoder, scores, first = _given(e), [], True
        for _, x in e.batches():
            if first:
                first = False
                grey = _on(autoencoder, torch.full_like(x[:1], 0.5), type(self).rate).cpu()
                if not torch.allclose(grey, state["grey"], rtol=1e-3, atol=1e-5):
                    raise AssayError(
                        f"{self.name} was fitted with another autoencoder: scores of two are not "
                        "comparable; hand in the same one"
                    )
            scores.append(_on(autoencoder, x, self.of))
        return torch.cat(scores).double().cpu()

    def of(self, autoencoder: Reconstructs, x: Tensor) -> Tensor:
        """Return the score of images (N, C, H, W): (N,)."""
        raise NotImplementedError

    @staticmethod
    def rate(autoencoder: Reconstructs, x: Tensor) -> Tensor:
        """Return what an autoencoder makes of an image, by which it is known again."""
        return autoencoder(x).flatten()


class Reconstruction(_ByAutoencoder):
    """How badly an autoencoder that learned from training images reproduces an image (Hawkins et
    al. 2002, "Outlier detection using replicator neural networks").

    `mse` is the mean squared error per value, `ssim` 1 - SSIM (Bergmann et al. 2019, "Improving
    unsupervised defect segmentation by applying structural similarity to autoencoders").

    An autoencoder blurs: its error is small on any smooth image and large on any detailed one,
    whatever was trained on. Compare with `Complexity` before it is believed.

    >>> half = lambda x: 0.5 * x
    >>> e = clf.embed(x).with_autoencoder(half)
    >>> scores = assay.ood.Reconstruction().fit(e).score(e)
    >>> bool(torch.allclose(scores, (0.25 * x.double().square()).mean((1, 2, 3)), atol=1e-6))
    True
    """

    name: Literal["reconstruction"] = "reconstruction"
    """The method's name in configs."""
    by: Literal["mse", "ssim"] = "mse"
    """What the image and its reconstruction are compared by."""

    def of(self, autoencoder: Reconstructs, x: Tensor) -> Tensor:
        back = autoencoder(x)
        if back.shape != x.shape:
            raise AssayError(
                f"the autoencoder makes {tuple(back.shape[1:])} of images {tuple(x.shape[1:])}"
            )
        return (back - x).square().mean((1, 2, 3)) if self.by == "mse" else 1 - ssim(x, back)


class EvidenceBound(_ByAutoencoder):
    """How unlikely a variational autoencoder finds an image: its evidence bound, negative, in nats
    per value (Kingma & Welling 2014, "Auto-encoding variational Bayes").

    Likelihood need not be low on outliers: models of Fashion-MNIST find MNIST's digits more likely
    than clothes, those of CIFAR-10 house numbers (Nalisnick et al. 2019, "Do deep generative models
    know what they don't know?"); simple images are likely.

    >>> class Model:  # a normal distribution around grey, of standard deviation 1
    ...     def __call__(self, x): return torch.full_like(x, 0.5)
    ...     def evidence_bound(self, x): return -(x - 0.5).square().flatten(1).sum(1) / 2
    >>> e = clf.embed(x).with_autoencoder(Model())
    >>> scores = assay.ood.EvidenceBound().fit(e).score(e)
    >>> torch.allclose(scores, (x.double() - 0.5).square().mean((1, 2, 3)) / 2, atol=1e-6)
    True
    """

    name: Literal["evidence-bound"] = "evidence-bound"
    """The method's name in configs."""

    def of(self, autoencoder: Reconstructs, x: Tensor) -> Tensor:
        bound = getattr(autoencoder, "evidence_bound", None)
        if bound is None:
            raise AssayError(
                "evidence-bound needs a variational autoencoder, whose evidence_bound(x) it reads; "
                "this one has none: use reconstruction"
            )
        found: Tensor = -bound(x) / x[0].numel()
        return found


class Complexity(Detector):
    """How much detail there is in an image: the length of its PNG, in bits per value.

    A baseline that has seen no training data at all (after Serrà et al. 2020, "Input complexity and
    out-of-distribution detection with likelihood-based generative models"): what reconstruction or
    likelihood detect must be more than this.

    >>> flat = clf.embed(torch.full((3, 1, 8, 8), 0.5))
    >>> noise = clf.embed(torch.rand(3, 1, 8, 8))
    >>> fitted = assay.ood.Complexity().fit(flat)
    >>> bool(fitted.score(flat).max() < fitted.score(noise).min())
    True
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})

    name: Literal["complexity"] = "complexity"
    """The method's name in configs."""

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        lengths = [8 * _png(image) / image.numel() for _, x in e.batches() for image in x]
        return torch.tensor(lengths, dtype=torch.float64)


def _png(image: Tensor) -> int:
    """Return the bytes of an image (C, H, W) in [0, 1] as a PNG; channels that are not grey or
    colour are laid below one another."""
    from PIL import Image

    levels = image.mul(255).round().to(torch.uint8).cpu()
    channels, height, width = levels.shape
    pixels = (
        levels.permute(1, 2, 0).numpy()
        if channels == 3
        else levels.reshape(channels * height, width).numpy()
    )
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=9)
    return len(file.getvalue())


def _given(e: Embedding) -> Reconstructs:
    assert e.autoencoder is not None  # `required` has seen to it
    return e.autoencoder


def _on(
    autoencoder: Reconstructs, x: Tensor, make: Callable[[Reconstructs, Tensor], Tensor]
) -> Tensor:
    """Return what `make` makes of images, in eval mode, where the autoencoder is."""
    if not isinstance(autoencoder, nn.Module):
        return make(autoencoder, x)
    training, held = autoencoder.training, next(autoencoder.parameters(), None)
    try:
        autoencoder.eval()
        return make(autoencoder, x if held is None else x.to(held.device))
    finally:
        autoencoder.train(training)
