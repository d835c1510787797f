"""Attention weights: those that torch's functions use, and outputs that stay what they were."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import AssayError
from assay.explain.weights import attention_weights, watching


def drawn(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw) for shape in shapes]


def watched(run: nn.Module, x: Tensor, **settings: object) -> tuple[Tensor, list[Tensor]]:
    """What a module returns while it is watched, and the weights of each attention in it."""
    seen: list[Tensor] = []

    def take(weights: Tensor) -> Tensor:
        seen.append(weights)
        return weights

    with watching(len(x), take):
        out = run(x, **settings)
    return out, seen


@given(
    lead=st.sampled_from([(), (2,), (2, 3)]),
    queries=st.integers(1, 5),
    keys=st.integers(1, 5),
    mask=st.sampled_from(["none", "causal", "bool", "float"]),
    scale=st.sampled_from([None, 0.3, 2.0]),
    seed=st.integers(0, 99),
)
def test_times_the_values_they_are_what_the_fused_function_returns(
    lead: tuple[int, ...], queries: int, keys: int, mask: str, scale: float | None, seed: int
) -> None:
    q, k, v = drawn((*lead, queries, 4), (*lead, keys, 4), (*lead, keys, 6), seed=seed)
    (scores,) = drawn((queries, keys), seed=seed + 100)
    causal = mask == "causal"
    # some queries may look nowhere
    given_mask = {"bool": scores > 0, "float": scores.where(scores > 0, -torch.inf)}.get(mask)
    expected = F.scaled_dot_product_attention(q, k, v, given_mask, is_causal=causal, scale=scale)
    weights = attention_weights(q, k, given_mask, is_causal=causal, scale=scale)
    torch.testing.assert_close(weights @ v, expected)


@pytest.mark.parametrize("size", [1e-3, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("shift", [0.0, -200.0, 200.0])
def test_scores_too_large_to_exponentiate_give_weights_all_the_same(
    size: float, shift: float
) -> None:
    """The last number of queries and keys shifts all scores of a row, and so changes no weight."""
    q, k = drawn((2, 3, 7, 4), (2, 3, 7, 4), seed=3)
    shifted = [torch.cat([q * size, torch.full((2, 3, 7, 1), shift)], 3)]
    shifted += [torch.cat([k, torch.ones(2, 3, 7, 1)], 3)]
    scores = shifted[0].double() @ shifted[1].double().mT
    found = attention_weights(*shifted, scale=1.0)
    torch.testing.assert_close(found.double(), scores.softmax(-1), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, 7))


class Grouped(nn.Module):
    """Four heads of queries that share two of keys and values, with a mask and a scale."""

    def forward(self, x: Tensor) -> Tensor:
        heads = x.unflatten(2, (4, -1)).transpose(1, 2)
        few = heads[:, :2] * 1.5
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return F.scaled_dot_product_attention(
            heads, few, few + 1, attn_mask=mask, scale=0.7, enable_gqa=True
        )


def test_every_argument_of_the_fused_function_is_minded() -> None:
    (x,) = drawn((3, 5, 8))
    out, (weights,) = watched(Grouped(), x)
    torch.testing.assert_close(out, Grouped()(x))
    assert tuple(weights.shape) == (3, 4, 5, 5)
    assert not bool(weights.triu(1).any())


class Drops(nn.Module):
    """Drops attention weights always, as models do that forget to ask whether they train."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)


def test_weights_are_those_before_dropout() -> None:
    (x,) = drawn((3, 40, 8))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out, (weights,) = watched(Drops(), x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 1, 40))
    assert float((out - weights[:, 0] @ x).abs().max()) > 0.1


class Heads(nn.Module):
    """torch's own attention, asked for its weights or not."""

    def __init__(self, batch_first: bool, **asked: bool) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.asked = asked

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.inner.batch_first else x.transpose(0, 1)
        out: Tensor = self.inner(x, x, x, **self.asked)[0]
        return out if self.inner.batch_first else out.transpose(0, 1)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "asked",
    [{}, {"need_weights": False}, {"need_weights": True, "average_attn_weights": False}],
    ids=str,
)
@pytest.mark.parametrize("grad", [True, False])
def test_torchs_own_attention_in_all_its_ways(
    batch_first: bool, asked: dict[str, bool], grad: bool
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Heads(batch_first, **asked).eval().requires_grad_(grad)
    (x,) = drawn((3, 5, 8))
    out, (weights,) = watched(model, x)
    torch.testing.assert_close(out, model(x))
    y = x if batch_first else x.transpose(0, 1)
    expected = model.inner(y, y, y, need_weights=True, average_attn_weights=False)[1]
    torch.testing.assert_close(weights, expected)


class Encoder(nn.Module):
    """torch's own encoder, which goes a fused way where nobody watches."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def test_torchs_encoder_shows_all_its_layers() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Encoder().eval()
    (x,) = drawn((3, 5, 8))
    with torch.inference_mode():
        expected = model(x)
        out, seen = watched(model, x)
    torch.testing.assert_close(out, expected)
    assert [tuple(weights.shape) for weights in seen] == [(3, 2, 5, 5)] * 3
    for layer, weights in zip(model.layers.layers, seen, strict=True):
        given = layer.self_attn(x, x, x, average_attn_weights=False)[1]
        torch.testing.assert_close(weights, given)
        x = layer(x)


class Softmax(nn.Module):
    """A softmax of scores of the batch, by one of the ways to call it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.module = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ x.mT
        if self.way == "module":
            return self.module(scores) @ x
        if self.way == "functional":
            return F.softmax(scores, dim=-1, dtype=torch.float32) @ x
        if self.way == "method":
            return scores.softmax(2) @ x
        return torch.softmax(scores, 1) @ x  # over queries: no attention


@pytest.mark.parametrize(
    ("way", "seen"), [("module", 1), ("functional", 1), ("method", 1), ("other", 0)]
)
def test_attention_step_by_step_is_known_by_its_softmax(way: str, seen: int) -> None:
    (x,) = drawn((3, 5, 8))
    model = Softmax(way)
    out, found = watched(model, x)
    torch.testing.assert_close(out, model(x))
    assert len(found) == seen
    for weights in found:
        torch.testing.assert_close(weights[:, 0] @ x, out)


def test_what_take_gives_back_is_what_the_model_goes_on_with() -> None:
    (x,) = drawn((3, 5, 8))
    for model in (Softmax("module"), Drops()):
        with watching(3, torch.zeros_like):
            assert not bool(model(x).any())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: F.scaled_dot_product_attention(x[:, :1], x, x), r"\(3, 1, 5\) for 3 images"),
        (lambda x: F.scaled_dot_product_attention(*[x.view(1, 15, 8)] * 3), "not among all tokens"),
        (lambda x: nn.MultiheadAttention(8, 2)(x, x, x), r"shape \(3, 5, 8\) for 3 images"),
    ],
)
def test_attention_that_is_not_among_all_tokens_of_each_image(
    model: nn.Module, message: str
) -> None:
    (x,) = drawn((3, 5, 8))
    with pytest.raises(AssayError, match=message):
        watched(model, x)
    assert torch._C._len_torch_function_stack() == 0


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_kernel_that_shows_nothing_is_named() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    (x,) = drawn((3, 2, 5, 16))
    with pytest.raises(AssayError, match="attention by flex_attention, which hides its weights"):
        watched(lambda x: flex_attention(x, x, x), x)


def test_an_operator_of_others_is_named_too() -> None:
    with torch.library._scoped_library("of_others", "FRAGMENT") as library:
        library.define("flash_attn(Tensor x) -> Tensor")
        library.impl("flash_attn", lambda x: (x @ x.mT).softmax(-1) @ x, "CPU")
        with pytest.raises(AssayError, match="attention by flash_attn, which hides its weights"):
            watched(torch.ops.of_others.flash_attn, drawn((3, 5, 8))[0])
