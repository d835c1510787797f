"""Autoencoders: their shape worked out by hand, and back from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from assay.core.random import Stream
from assay.errors import AssayError
from assay.models import MLP
from assay.models.autoencoder import MLPAutoencoder, load_autoencoder, save_autoencoder
from assay.models.loading import save_model

SHAPE = (1, 4, 6)
SMALL = MLPAutoencoder(widths=(12, 8), code=3)


def test_the_decoder_mirrors_the_encoder() -> None:
    model = SMALL.build(SHAPE, Stream(0))
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    sizes = [(24, 12), (12, 8), (8, 3), (3, 8), (8, 12), (12, 24)]
    assert [(m.in_features, m.out_features) for m in linear] == sizes
    assert isinstance(model.encoder[-1], nn.Linear), "a code is not cut off at 0"


def test_an_image_is_decoded_into_pixels_from_any_code() -> None:
    model = SMALL.build(SHAPE, Stream(0))
    image = model.decode(1000 * torch.randn(20, 3, generator=Stream(1).torch())).detach()
    assert image.shape == (20, *SHAPE)
    assert 0 <= float(image.min()) < 0.1 < 0.9 < float(image.max()) <= 1


def test_weights_come_from_the_stream_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (SMALL.build(SHAPE, Stream(seed)).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["encoder.1.weight"], other["encoder.1.weight"])


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    model, path = SMALL.build(SHAPE, Stream(3)), tmp_path / "model.safetensors"
    save_autoencoder(path, model, SMALL, SHAPE)
    x = torch.rand(5, *SHAPE, generator=Stream(1).torch())
    loaded = load_autoencoder(path)
    assert torch.equal(loaded(x), model(x))
    assert not loaded.training


def test_a_classifier_s_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    network = MLP(widths=(4,))
    model = network.build(SHAPE, 2, Stream(0))
    save_model(path, model, network, in_shape=SHAPE, classes=("a", "b"))
    with pytest.raises(AssayError, match="unknown key"):
        load_autoencoder(path)
