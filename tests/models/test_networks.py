"""Networks against numbers worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Annotated, Literal

import pytest
import torch
from pydantic import Field, TypeAdapter
from torch import nn
from torch.nn import functional as F

from assay import models
from assay.core import registry as registries
from assay.core.random import Stream
from assay.errors import AssayError
from assay.models import CNN, MLP, Architecture
from assay.models import registry as networks
from assay.models.blocks import Block, Pad
from assay.models.strided import Strided

STREAM = Stream(0)


def watch(module: nn.Module) -> list[torch.Tensor]:
    """Return a list that fills with what the module gives."""
    seen: list[torch.Tensor] = []
    module.register_forward_hook(lambda *called: seen.append(called[-1].detach().clone()))
    return seen


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        # stem 3·16·9+16, stage 1: n·2·(16·16·9+16), widening 16·32·9+32 + 32·32·9+32,
        # the rest of stage 2: (n-1)·2·(32·32·9+32), linear 32·10+10
        ((2, 2), 448 + 4 * 2320 + (4640 + 9248) + 2 * 9248 + 330),
        ((5, 5), 448 + 10 * 2320 + (4640 + 9248) + 8 * 9248 + 330),
        ((7, 7), 448 + 14 * 2320 + (4640 + 9248) + 12 * 9248 + 330),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_paper_cnn_has_the_courses_parameters(
    depths: tuple[int, ...], expected: int, skip: bool
) -> None:
    assert count(CNN(depths=depths, skip=skip).build((3, 32, 32), 10, STREAM)) == expected


def test_paper_cnn_keeps_its_resolution_until_the_global_average() -> None:
    model = CNN(depths=(2, 2)).build((3, 32, 32), 10, STREAM)
    seen = [watch(module) for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert [tuple(outputs[0].shape[1:]) for outputs in seen] == [(16, 32, 32)] * 5 + [
        (32, 32, 32)
    ] * 4


@pytest.mark.parametrize(("shortcut", "expected"), [("pad", 269_722), ("projection", 272_474)])
def test_resnet20_has_the_papers_parameters(shortcut: str, expected: int) -> None:
    """0.27 M in He et al. 2016, table 6; the exact numbers follow from the layers."""
    config = CNN.parse(
        {
            "depths": (3, 3, 3),
            "widths": (16, 32, 64),
            "skip": True,
            "shortcut": shortcut,
            "norm": "batch",
            "stage_stride": 2,
        }
    )
    model = config.build((3, 32, 32), 10, STREAM)
    assert count(model) == expected
    assert model.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def scale(conv: nn.Conv2d, factor: float) -> None:
    """Make a convolution multiply every channel by `factor`."""
    with torch.no_grad():
        conv.weight.zero_()
        for k in range(min(conv.in_channels, conv.out_channels)):
            conv.weight[k, k, 1, 1] = factor
        if conv.bias is not None:
            conv.bias.zero_()


@pytest.mark.parametrize(("skip", "expected"), [(False, 0.0), (True, 0.5)])
def test_block_adds_its_input_before_the_last_relu(skip: bool, expected: float) -> None:
    """With x = 1: relu(2x)·(-1/4) = -1/2; the skip makes it 1/2, no skip leaves relu(-1/2) = 0.

    Adding after the ReLU would give 1.
    """
    block = Block(CNN(skip=skip), 2, 2, 1)
    scale(block.conv1, 2.0)
    scale(block.conv2, -0.25)
    assert torch.equal(block(torch.ones(1, 2, 3, 3)), torch.full((1, 2, 3, 3), expected))


def test_silu_takes_the_place_of_every_relu() -> None:
    x = torch.randn(2, 3, 8, 8, generator=STREAM.torch())
    nets = [
        CNN(depths=(1,), widths=(4,), skip=True, activation=one).build((3, 8, 8), 2, STREAM)
        for one in ("relu", "silu")
    ]
    stem, block = F.silu(nets[0].stem(x)), nets[0].stages[0][0]
    inner = block.conv2(F.silu(block.conv1(stem)))
    torch.testing.assert_close(nets[1](x), nets[0].head(F.silu(stem + inner).mean((2, 3))))
    assert "activation" not in CNN().model_dump(mode="json")  # no part of an address it had


def test_widening_block_has_no_skip_in_the_paper_setting() -> None:
    config = CNN(skip=True)
    block = Block(config, 16, 32, 1)
    scale(block.conv2, 0.0)
    assert not block(torch.rand(1, 16, 4, 4)).any()
    padded = Block(CNN(skip=True, shortcut="pad"), 16, 32, 1)
    scale(padded.conv2, 0.0)
    x = torch.rand(1, 16, 4, 4)
    assert torch.equal(padded(x), torch.cat([x, torch.zeros_like(x)], 1))
    blocks = [m for m in config.build((3, 8, 8), 10, STREAM).modules() if isinstance(m, Block)]
    assert [block.shortcut is not None for block in blocks] == [True, True, False, True]


def test_pad_subsamples_and_appends_zero_channels() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y = Pad(1, 2)(x)
    assert torch.equal(y[0, 0], torch.tensor([[0.0, 2.0], [8.0, 10.0]]))
    assert not y[0, 1].any()


def test_strides_divide_the_resolution() -> None:
    model = CNN(stem_stride=2, stage_stride=2).build((1, 16, 16), 3, STREAM)
    seen = watch(model.stages[1])
    model(torch.rand(1, 1, 16, 16))
    assert seen[0].shape == (1, 32, 4, 4)


def test_mlp_has_the_courses_parameters() -> None:
    shallow = MLP(widths=(256, 128)).build((1, 28, 28), 10, STREAM)
    assert count(shallow) == (784 * 256 + 256) + (256 * 128 + 128) + (128 * 10 + 10)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("sigmoid", torch.sigmoid),
        ("tanh", torch.tanh),
        ("relu", F.relu),
        ("leaky_relu", lambda x: F.leaky_relu(x, 0.01)),
        ("gelu", F.gelu),
    ],
)
def test_mlp_layer_is_linear_activation_norm(activation: str, function) -> None:
    config = MLP.parse({"widths": (5,), "activation": activation, "norm": "batch"})
    model = config.build((1, 2, 2), 3, STREAM).train()
    weights = dict(model.named_parameters())
    x = torch.randn(7, 1, 2, 2)
    hidden = function(x.flatten(1) @ weights["1.0.weight"].T + weights["1.0.bias"])
    normed = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    expected = normed @ weights["2.weight"].T + weights["2.bias"]
    torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=1e-4)


def test_residual_mlp_adds_where_widths_agree() -> None:
    model = MLP(widths=(4, 4, 6), residual=True).build((1, 2, 2), 3, STREAM)
    for name, parameter in model.named_parameters():
        if not name.startswith("4."):
            nn.init.zeros_(parameter)
    after_two, after_three = watch(model[2]), watch(model[3])
    x = torch.rand(2, 1, 2, 2)
    model(x)
    assert torch.equal(after_two[0], x.flatten(1))
    assert torch.equal(after_three[0], torch.zeros(2, 6))


def test_dropout_is_there_only_in_training() -> None:
    model = MLP(widths=(500,), dropout=0.8).build((1, 2, 2), 3, STREAM)
    x = torch.rand(4, 1, 2, 2)
    seen = watch(model[1])
    model.train()(x)
    model.eval()(x)
    dropped, zeros = (float((hidden == 0).float().mean()) for hidden in seen)
    assert dropped > zeros + 0.2
    torch.testing.assert_close(model(x), model(x))


def test_initial_weights_depend_on_the_stream_alone() -> None:
    config = CNN(norm="batch")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = config.build((3, 8, 8), 10, Stream(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    second = config.build((3, 8, 8), 10, Stream(3))
    other = config.build((3, 8, 8), 10, Stream(4))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not torch.equal(first.stem.weight, other.stem.weight)


def test_initialisations_have_the_spread_they_are_named_after() -> None:
    wide = {"widths": (400, 400)}
    expected = {"default": (1 / 400 / 3) ** 0.5, "he": (2 / 400) ** 0.5, "xavier": (2 / 800) ** 0.5}
    for init, spread in expected.items():
        model = MLP.parse({**wide, "init": init}).build((1, 20, 20), 10, STREAM)
        assert float(model[2][0].weight.detach().std()) == pytest.approx(spread, rel=0.02)
    he = CNN(widths=(64, 64), init="he").build((3, 8, 8), 10, STREAM)
    assert float(he.stages[0][0].conv2.weight.detach().std()) == pytest.approx(
        (2 / (64 * 9)) ** 0.5, rel=0.02
    )
    assert not he.stem.bias.any()
    widening = CNN(depths=(1, 1), widths=(16, 128), init="he").build((3, 8, 8), 10, STREAM)
    assert float(widening.stages[1][0].conv1.weight.detach().std()) == pytest.approx(
        (2 / (128 * 9)) ** 0.5, rel=0.05
    )  # fan out: of the 128 channels it gives, not of the 16 it reads


def test_widths_can_be_said_as_depth_times_width() -> None:
    assert MLP.parse({"widths": "8x64"}).widths == (64,) * 8
    assert MLP.parse({"widths": ["3x2"]}).widths == (2, 2, 2)
    with pytest.raises(AssayError, match=r"widths: '8 by 64' is not depth x width"):
        MLP.parse({"widths": "8 by 64"})
    with pytest.raises(AssayError, match="at least 1"):
        MLP.parse({"widths": (3, 0)})


def test_contradictions_are_refused() -> None:
    with pytest.raises(AssayError, match="3 depths and 2 widths"):
        CNN.parse({"depths": (1, 1, 1)})
    with pytest.raises(AssayError, match="needs skip=true"):
        CNN.parse({"shortcut": "pad"})
    with pytest.raises(AssayError, match="at least 1"):
        CNN.parse({"depths": (0, 1)})


def test_configs_and_their_union_never_import_torch() -> None:
    code = (
        "import sys; from assay.models import CNN, MLP, Network; from assay.train import Recipe; "
        "MLP().canonical(); Recipe().canonical(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Linear(Architecture):
    """A network of another package."""

    name: Literal["linear"] = "linear"
    """The kind of network."""


def test_networks_of_other_packages_join_the_union(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("linear", f"{__name__}:Linear", "assay.models")
    monkeypatch.setattr(registries, "entry_points", lambda **_: [entry])
    monkeypatch.delitem(vars(networks), "Network", raising=False)
    union = TypeAdapter(Annotated[models.Network, Field(discriminator="name")])
    monkeypatch.delitem(vars(networks), "Network")
    assert union.validate_python({"name": "linear"}) == Linear()
    assert union.validate_python({"name": "cnn", "skip": True}) == CNN(skip=True)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_every_hidden_layer_of_an_mlp_is_normalised_and_dropped_out(
    norm: Literal["batch", "layer"], kind: type[nn.Module]
) -> None:
    net = MLP(widths=(8, 6, 4), norm=norm, dropout=0.5).build((1, 2, 2), 3, STREAM)
    order = [type(module) for module in net.modules() if not isinstance(module, nn.Sequential)]
    hidden = [nn.Linear, nn.ReLU, kind, nn.Dropout]
    assert order == [nn.Flatten, *hidden * 3, nn.Linear]


def test_a_ramp_stretches_between_two_levels_of_the_training_images() -> None:
    """From -1 to 3 a level of 0.4 lies at 0.6 and one of 0.6 at 1.4; halfway between, at 1, is 0.5.
    The other channel reaches from 0 to 10."""
    config = Strided(widths=(2,), kernels=(1,), strides=(1,), hidden=(), ramp=(0.4, 0.6))
    model = config.build((2, 2, 2), 3, Stream(0))
    ramp = next(model.children())
    x = torch.tensor([[[-1.0, 0.6], [1.0, 3.0]], [[0.0, 4.5], [5.5, 10.0]]])[None]
    before = ramp(torch.tensor([0.4, 0.45, 0.6]).view(3, 1, 1, 1).expand(3, 2, 1, 1))
    assert before[:, 0].flatten().tolist() == pytest.approx([0, 0.25, 1], abs=1e-6)
    config.prepare(model, x)
    assert ramp(x)[0, 0].flatten().tolist() == pytest.approx([0, 0, 0.5, 1], abs=1e-6)
    assert ramp(x)[0, 1].flatten().tolist() == pytest.approx([0, 0.25, 0.75, 1], abs=1e-6)
    assert not any(p.requires_grad for p in ramp.parameters())
    plain = Strided(widths=(2,), kernels=(1,), strides=(1,), hidden=())
    plain.prepare(plain.build((2, 2, 2), 3, Stream(0)), x)
    assert "ramp" not in plain.model_dump()


@pytest.mark.parametrize("ramp", [(0.6, 0.4), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.2)])
def test_levels_that_do_not_rise_are_refused(ramp: tuple[float, float]) -> None:
    with pytest.raises(AssayError, match="no two levels of brightness that rise within"):
        Strided(ramp=ramp)
