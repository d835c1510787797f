"""Detectors that look at images alone: by hand, and against what they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError
from assay.models.autoencoder import ConvAutoencoder
from assay.ood import Complexity, EvidenceBound, FittedDetector, Reconstruction
from assay.ood.similarity import ssim


@pytest.fixture
def clf() -> Classifier:
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 16, 16, generator=Stream(0).torch())


def half(x: Tensor) -> Tensor:
    return x / 2


def by_the_formula(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of two grey images window by window, as Wang et al. write it."""
    at = np.arange(11) - 5.0
    line = np.exp(-(at**2) / (2 * 1.5**2))
    weight = np.outer(line, line) / line.sum() ** 2
    found = []
    windows = (sliding_window_view(image, (11, 11)).reshape(-1, 11, 11) for image in (a, b))
    for one, two in zip(*windows, strict=True):
        m, k = (weight * one).sum(), (weight * two).sum()
        var_m, var_k = (weight * (one - m) ** 2).sum(), (weight * (two - k) ** 2).sum()
        both = (weight * (one - m) * (two - k)).sum()
        top = (2 * m * k + 0.0001) * (2 * both + 0.0009)
        found.append(top / ((m**2 + k**2 + 0.0001) * (var_m + var_k + 0.0009)))
    return float(np.mean(found))


def test_ssim_is_the_paper_s(x: Tensor) -> None:
    a, b = x.double(), (0.7 * x.flip(3) + 0.1).double()
    expected = [
        np.mean([by_the_formula(a[i, c].numpy(), b[i, c].numpy()) for c in range(3)])
        for i in range(2)
    ]
    assert ssim(a[:2], b[:2]).tolist() == pytest.approx(expected, abs=1e-9)
    # flat images: the contrast cancels, and (2 · 0.2 · 0.6 + c) / (0.2² + 0.6² + c) is left
    flat = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    assert float(ssim(*flat)) == pytest.approx(0.2401 / 0.4001, rel=1e-4)
    assert ssim(x[:, :, :7], x[:, :, :7]).tolist() == pytest.approx([1] * 6)
    with pytest.raises(AssayError, match="images of one shape"):
        ssim(x, x[:, :1])


def test_reconstruction_by_error_and_by_similarity(clf: Classifier, x: Tensor) -> None:
    e = clf.embed(x).with_autoencoder(half)
    error = Reconstruction().fit(e).score(e)
    torch.testing.assert_close(error, (x / 2).square().mean((1, 2, 3)).double())
    alike = Reconstruction(by="ssim").fit(e).score(e)
    torch.testing.assert_close(alike, 1 - ssim(x, x / 2).double())


def test_an_autoencoder_is_needed_and_known_again(clf: Classifier, x: Tensor) -> None:
    e = clf.embed(x)
    with pytest.raises(AssayError, match=r"hand it in with embedding.with_autoencoder"):
        Reconstruction().fit(e)
    model = ConvAutoencoder(widths=(4,)).build((3, 16, 16), Stream(0))
    model.train()
    fitted = Reconstruction().fit(e.with_autoencoder(model))
    assert model.training, "it comes back as it was"
    other = ConvAutoencoder(widths=(4,)).build((3, 16, 16), Stream(1))
    with pytest.raises(AssayError, match="was fitted with another autoencoder"):
        fitted.score(e.with_autoencoder(other))
    with pytest.raises(AssayError, match="needs a variational autoencoder"):
        EvidenceBound().fit(e.with_autoencoder(model)).score(e.with_autoencoder(model))
    cut = e.with_autoencoder(lambda x: x[..., :8])
    fitted = Reconstruction().fit(cut)
    with pytest.raises(AssayError, match=r"makes \(3, 16, 8\) of images \(3, 16, 16\)"):
        fitted.score(cut)


def test_detail_is_bits(clf: Classifier, x: Tensor) -> None:
    flat = torch.full_like(x, 0.25)
    slope = torch.linspace(0, 1, 16).expand(6, 3, 16, 16)
    fitted = Complexity().fit(clf.embed(x))
    bits = [float(fitted.score(clf.embed(images)).mean()) for images in (flat, slope, x)]
    assert bits == sorted(bits)
    assert bits[2] > 8, "noise cannot be shortened, and a file has a head"
    assert isinstance(fitted, FittedDetector)
