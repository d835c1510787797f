"""The vision transformer against the paper's numbers, torch's own layers and its own plain form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.random import Stream
from assay.errors import AssayError
from assay.models import ViT
from assay.models.loading import load_model
from assay.models.saved import save_model

STREAM = Stream(0)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_base_with_patches_of_16_has_the_papers_parameters() -> None:
    """86 M in Dosovitskiy et al. 2021, table 1; the exact number follows from the layers."""
    config = ViT.parse({"patch": 16, "width": 768, "depth": 12, "heads": 12})
    with torch.device("meta"):
        model = config.build((3, 224, 224), 1000, STREAM)
    block = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    embedding = 3 * 16 * 16 * 768 + 768 + 768 + 197 * 768
    assert count(model) == embedding + 12 * block + 2 * 768 + 768 * 1000 + 1000 == 86_567_656


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("pool", ["class", "mean"])
def test_it_computes_what_torchs_own_layers_do(pool: str, fused: bool) -> None:
    settings = {"patch": 4, "width": 12, "depth": 2, "heads": 3, "mlp_ratio": 2}
    model = ViT.parse(settings | {"pool": pool, "fused": fused}).build((3, 8, 12), 5, STREAM).eval()
    with torch.no_grad():  # what starts as 0 counts too
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=STREAM.torch())
    x = torch.rand(4, 3, 8, 12, generator=STREAM.torch())
    patches = F.unfold(x, 4, stride=4).mT @ model.patches.weight.flatten(1).T + model.patches.bias
    tokens = patches if pool == "mean" else torch.cat([model.token.expand(4, 1, 12), patches], 1)
    tokens = tokens + model.positions
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            12, 3, 24, activation=F.gelu, batch_first=True, norm_first=True
        ).eval()
        attention, mlp = block.attention, block.mlp
        parts = (attention.query, attention.key, attention.value)
        weights = {
            "self_attn.in_proj_weight": torch.cat([part.weight for part in parts]),
            "self_attn.in_proj_bias": torch.cat([part.bias for part in parts]),
        }
        mine = {
            "self_attn.out_proj": attention.out,
            "linear1": mlp[0],
            "linear2": mlp[3],
            "norm1": block.norm1,
            "norm2": block.norm2,
        }
        for name, part in mine.items():
            weights |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
        layer.load_state_dict(weights)
        tokens = layer(tokens)
    tokens = F.layer_norm(tokens, (12,), model.norm.weight, model.norm.bias)
    expected = model.head(tokens.mean(1) if pool == "mean" else tokens[:, 0])
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_a_stem_halves_the_image_before_patches_are_cut() -> None:
    model = ViT.parse({"patch": 8, "stem": (4, 6), "depth": 1}).build((3, 16, 24), 3, STREAM).eval()
    x = torch.rand(2, 3, 16, 24)
    y = x
    for place in (0, 3):
        y = F.conv2d(y, model.stem[place].weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5
        y = y.relu()
    torch.testing.assert_close(model.stem(x), y)
    assert tuple(y.shape) == (2, 6, 4, 6)
    assert tuple(model.patches(y).shape) == (2, 64, 2, 3)
    assert tuple(model(x).shape) == (2, 3)


def test_weights_start_as_described_and_depend_on_the_stream_alone() -> None:
    config = ViT.parse({"width": 256, "depth": 1})
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = (config.build((3, 32, 32), 10, Stream(3)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    other = config.build((3, 32, 32), 10, Stream(4))
    assert not torch.equal(first.positions, other.positions)
    block = first.blocks[0]
    spread = {
        block.attention.query.weight: (2 / 512) ** 0.5,
        block.mlp[0].weight: (2 / (256 + 1024)) ** 0.5,
        first.positions: 0.02,
        first.head.weight: 0.02,
    }
    for weight, expected in spread.items():
        assert float(weight.detach().std()) == pytest.approx(expected, rel=0.05)
    assert not bool(first.token.any())
    assert not bool(block.mlp[3].bias.any())


def test_dropout_is_there_only_in_training() -> None:
    model = ViT.parse({"dropout": 0.5, "depth": 1, "width": 16}).build((3, 8, 8), 3, STREAM)
    places = [type(module) for module in model.modules()].count(nn.Dropout)
    assert places == 1 + 3  # the embedding, and the three linear layers that are no projections
    x = torch.rand(2, 3, 8, 8)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    config = ViT(patch=4, width=16, depth=1, heads=2, pool="mean")
    model = config.build((3, 8, 8), 3, STREAM).eval()
    path = tmp_path / "vit.safetensors"
    save_model(path, model, config, in_shape=(3, 8, 8), classes=("a", "b", "c"))
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(load_model(path).query(x), model(x).detach())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(AssayError, match="heads=3 do not share width=64 evenly"):
        ViT.parse({"heads": 3})
    with pytest.raises(AssayError, match="a patch of 4 pixels does not take"):
        ViT.parse({"stem": (8, 8, 8)})
    with pytest.raises(AssayError, match="at least 1 channel"):
        ViT.parse({"stem": (0,)})
    with pytest.raises(AssayError, match="28 × 30 pixels are not whole patches of 4 × 4"):
        ViT().build((1, 28, 30), 10, STREAM)
