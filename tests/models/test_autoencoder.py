"""Autoencoders: their shape worked out by hand, and back from a file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.core.random import Stream
from assay.errors import AssayError
from assay.models import MLP
from assay.models.autoencoder import (
    ConvAutoencoder,
    MLPAutoencoder,
    Variational,
    VariationalAutoencoder,
    load_autoencoder,
    save_autoencoder,
)
from assay.models.saved import save_model

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


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 11, 9)])
def test_convolutions_give_an_image_of_the_same_shape(shape: tuple[int, int, int]) -> None:
    x = torch.rand(2, *shape, generator=Stream(1).torch())
    conv = ConvAutoencoder().build(shape, Stream(0))
    assert conv(x).shape == x.shape
    variational = VariationalAutoencoder(code=7).build(shape, Stream(0))
    assert variational(x).shape == x.shape
    assert variational.encode(x).shape == (2, 7)


def test_the_course_s_autoencoder() -> None:
    model = ConvAutoencoder().build((3, 32, 32), Stream(0))
    channels = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    back = [m.out_channels for m in model.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert (channels, back) == ([12, 24, 48], [24, 12, 3])
    assert model.encode(torch.zeros(1, 3, 32, 32)).shape == (1, 48 * 4 * 4)


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(AssayError, match=r"4 × 4 pixels .* halved 3 times"):
        ConvAutoencoder().build((1, 4, 4), Stream(0))


def test_the_evidence_bound_by_hand() -> None:
    encoder, decoder = nn.Linear(2, 2, bias=False), nn.Linear(1, 2)
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))  # mean x₁, log variance x₂
        decoder.weight.zero_()
        decoder.bias.copy_(torch.tensor([0.5, 0.5]))
    model = Variational(encoder, decoder)
    model.log_sigma.data.fill_(math.log(0.5))
    x = torch.tensor([[1.0, 0.0], [0.5, math.log(4)]])
    # log N(x; 0.5, 0.25) of both values, less (m² + s² - log s² - 1) / 2
    each = -math.log(0.5) - math.log(2 * math.pi) / 2
    first = 2 * each - (0.25 + 0.25) / (2 * 0.25) - 0.5
    second = 2 * each - (math.log(4) - 0.5) ** 2 / 0.5 - (0.25 + 4 - math.log(4) - 1) / 2
    assert model.evidence_bound(x).tolist() == pytest.approx([first, second], rel=1e-5)
    rng = Stream(0).rows(range(2))
    assert float(model.loss(x, rng).detach()) == pytest.approx(-(first + second) / 4, rel=1e-5)


@pytest.mark.parametrize("config", [ConvAutoencoder(widths=(4,)), VariationalAutoencoder(code=3)])
def test_any_kind_comes_back_from_a_file(
    config: ConvAutoencoder | VariationalAutoencoder, tmp_path: Path
) -> None:
    model, path = config.build((1, 8, 8), Stream(3)), tmp_path / "model.safetensors"
    save_autoencoder(path, model, config, (1, 8, 8))
    x = torch.rand(5, 1, 8, 8, generator=Stream(1).torch())
    assert torch.equal(load_autoencoder(path)(x), model(x))
