"""Rollout and gradient attention on transformers of every make, against whole matrix products."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from contract.untouched import untouched
from networks.trained import coloured, finder, trained
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.explain import AttentionRollout, Explainer, GradientAttention, rollout
from assay.explain.base import held

from .nets import Patches, TorchViT, hugging_face, images, plain, seeded, swin, vit

BOTH = [AttentionRollout, GradientAttention]
Y = torch.tensor([0, 2, 1, 2])


def whole_rollout(attentions: Sequence[Tensor], heads: str) -> Tensor:
    """The product of all layers (N, T, T), as Abnar & Zuidema's equation 1 and its text have it."""
    fused = {"mean": lambda a: a.mean(1), "min": lambda a: a.amin(1), "max": lambda a: a.amax(1)}
    joint = torch.eye(attentions[0].shape[-1])
    for attention in attentions:
        mixed = 0.5 * fused[heads](attention) + 0.5 * torch.eye(attention.shape[-1])
        joint = (mixed / mixed.sum(2, keepdim=True)) @ joint
    return joint


def whole_relevance(attentions: Sequence[Tensor], score: Tensor) -> Tensor:
    """Chefer et al.'s R (N, T, T), image by image and head by head."""
    slopes = torch.autograd.grad(score, attentions)
    made = []
    for n in range(len(attentions[0])):
        relevance = torch.eye(attentions[0].shape[-1])
        for attention, slope in zip(attentions, slopes, strict=True):
            heads = [(g * a).clamp(min=0) for g, a in zip(slope[n], attention[n], strict=True)]
            relevance = relevance + torch.stack(heads).mean(0) @ relevance
        made.append(relevance)
    return torch.stack(made).detach()


def eager(model: nn.Module, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Logits and attention weights that a model of Hugging Face gives out itself."""
    twin = copy.deepcopy(model).eval()
    twin.set_attn_implementation("eager")
    out = twin(x, output_attentions=True)
    return out.logits, out.attentions


@pytest.mark.parametrize("heads", ["mean", "min", "max"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rollout_is_a_row_of_the_whole_product(heads: str, attention: str) -> None:
    model, x = hugging_face(attn_implementation=attention), images(4)
    with untouched(model):
        maps = AttentionRollout.parse({"heads": heads})(Classifier(model), x, Y)
    product = whole_rollout(eager(model, x)[1], heads)[:, 0, 1:].detach()
    torch.testing.assert_close(maps.raw.flatten(1), product, rtol=1e-5, atol=1e-7)
    assert maps.raw.flatten(1).std(1).min() > 1e-4  # it is no flat map that was compared


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gradient_attention_is_a_row_of_the_whole_relevance(attention: str) -> None:
    model, x = hugging_face(attn_implementation=attention), images(4)
    with untouched(model):
        maps = GradientAttention()(Classifier(model), x, Y)
    logits, attentions = eager(model, x)
    relevance = whole_relevance(attentions, logits.gather(1, Y[:, None]).sum())[:, 0, 1:]
    torch.testing.assert_close(maps.raw.flatten(1), relevance, rtol=1e-4, atol=1e-7)
    assert maps.raw.flatten(1).amax(1).min() > 1e-3


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        # a class token and a token of the teacher, whose heads are averaged
        ("DeiT", [0.5, 0.5]),
        # the class token and the mean of the patches, side by side; registers in between
        ("Dinov2WithRegisters", [0.5, 0, 0, 0, 0]),
        # the mean of the patches, though there is a class token
        ("Beit", [0]),
    ],
)
def test_what_the_head_reads_is_what_is_followed(kind: str, read: list[float]) -> None:
    ending = "WithTeacher" if kind == "DeiT" else ""
    model, x = hugging_face(kind, ending, attn_implementation="eager"), images(2)
    clf = Classifier(model)
    with untouched(model), held(clf):
        layout = rollout.laid_out(clf, x[:1])
    rest = (1 - sum(read)) / 16
    torch.testing.assert_close(layout.read, torch.tensor(read + [rest] * 16))
    assert (layout.grid.prefix, layout.grid.rows, layout.grid.columns) == (len(read), 4, 4)
    product = whole_rollout(eager(model, x)[1], "mean")
    expected = (layout.read @ product)[:, len(read) :].detach()
    made = AttentionRollout()(clf, x).raw.flatten(1)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("pool", ["class", "mean"])
def test_our_fused_attention_is_explained_as_the_plain(kind: type[Explainer], pool: str) -> None:
    fused, plainly = (vit(pool=pool, fused=fused) for fused in (True, False))
    maps = [kind()(Classifier(model), images(4), Y) for model in (fused, plainly)]
    torch.testing.assert_close(maps[0].raw, maps[1].raw, rtol=1e-5, atol=1e-6)
    assert float(maps[0].raw.abs().max()) > 1e-4


@pytest.mark.parametrize("norm_first", [True, False])
def test_torchs_own_layers_are_explained_although_they_hide_everything(norm_first: bool) -> None:
    model, x = seeded(TorchViT, norm_first), images(4)
    with untouched(model):
        maps = AttentionRollout()(Classifier(model), x)
    model.eval()
    attentions: list[Tensor] = []
    tokens = torch.cat([model.token.expand(4, -1, -1), model.patch(x).flatten(2).mT], 1)
    tokens = tokens + model.positions
    for layer in model.encoder.layers:
        asked = layer.norm1(tokens) if norm_first else tokens
        attentions.append(layer.self_attn(asked, asked, asked, average_attn_weights=False)[1])
        tokens = layer(tokens)
    product = whole_rollout(attentions, "mean")[:, 0, 1:].detach()
    torch.testing.assert_close(maps.raw.flatten(1), product, rtol=1e-5, atol=1e-7)


class Shared(nn.Module):
    """A block that is used three times over, or three blocks of the same weights."""

    def __init__(self, shared: bool, inplace: bool = False) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, stride=8)
        self.query = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)
        steps = [nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU(inplace)) for _ in "abc"]
        for step in steps:
            step.load_state_dict(steps[0].state_dict())
        self.steps = nn.ModuleList(steps[:1] * 3 if shared else steps)
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).mT
        for step in self.steps:
            keys = step(tokens)
            weights = (self.query(keys) @ keys.mT).softmax(-1)
            weights = weights.mul_(1.0) if self.inplace else weights
            tokens = tokens + weights @ keys
        out: Tensor = self.head(self.norm(tokens).mean(1))
        return out


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(("shared", "inplace"), [(True, False), (False, True), (True, True)])
def test_reused_modules_in_place_work_and_frozen_parameters_change_nothing(
    kind: type[Explainer], shared: bool, inplace: bool
) -> None:
    x = images(4)
    expected = kind()(Classifier(seeded(Shared, False)), x, Y).raw
    model = seeded(Shared, shared, inplace)
    model.query.requires_grad_(False)
    with untouched(model), torch.inference_mode():
        found = kind()(Classifier(model), x + 0, Y).raw
    torch.testing.assert_close(found, expected)
    assert float(found.abs().max()) > 1e-4
    assert not found.requires_grad


@pytest.mark.parametrize("kind", BOTH)
def test_a_batch_is_split_by_what_its_weights_take(
    kind: type[Explainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = vit(), images(7)
    expected = kind()(Classifier(model), x).raw
    rows: list[int] = []
    model.register_forward_hook(lambda *call: rows.append(len(call[2])))
    # three layers of two heads, 17 by 17
    monkeypatch.setattr(rollout, "MOST_WEIGHTS", 3 * (3 * 2 * 17 * 17))
    torch.testing.assert_close(kind()(Classifier(model), x).raw, expected)
    assert rows == [1, 3, 3, 1]
    rows.clear()
    kind()(Classifier(model, batch_size=5), x)  # what the user says goes
    assert rows == [1, 5, 2]


def test_a_compiled_model_is_explained_as_its_original() -> None:
    model, x = vit(), images(2)
    compiled = torch.compile(model, backend="eager")
    for kind in BOTH:
        found, expected = (kind()(Classifier(m), x, 1).raw for m in (compiled, model))
        assert torch.equal(found, expected)


class Attending(nn.Module):
    """Cuts an image into tokens, and attends in a way of its own."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, stride=8)
        self.pool = nn.Linear(8, 1)
        self.head = nn.Linear(8, 3)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).mT
        tokens = tokens + getattr(self, self.how)(tokens)
        read = tokens.amax(1) if self.how == "largest" else tokens.mean(1)
        if self.how == "detached":
            read = read.detach()
        with torch.set_grad_enabled(self.how != "no_grad"):
            out: Tensor = self.head(read)
        return out

    def fused(self, tokens: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(tokens, tokens, tokens)

    largest = detached = no_grad = fused

    def windows(self, tokens: Tensor) -> Tensor:
        cut = tokens.unflatten(1, (4, 4)).flatten(0, 1)[:, None]
        return F.scaled_dot_product_attention(cut, cut, cut)[:, 0].view_as(tokens)

    def windows_by_hand(self, tokens: Tensor) -> Tensor:
        cut = tokens.unflatten(1, (4, 4))
        return ((cut @ cut.mT).softmax(-1) @ cut).view_as(tokens)

    def fewer_keys(self, tokens: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(tokens, tokens[:, ::2], tokens[:, ::2])

    def across(self, tokens: Tensor) -> Tensor:
        moved = self.fused(tokens)
        summary = tokens.mean(1, keepdim=True)
        return moved + (summary @ tokens.mT).softmax(-1) @ tokens

    def halved(self, tokens: Tensor) -> Tensor:
        half = self.fused(self.fused(tokens)[:, ::2])
        return half.repeat_interleave(2, 1)

    def odd(self, tokens: Tensor) -> Tensor:
        return self.fused(torch.cat([tokens, tokens], 1))[:, :16]

    def exponential(self, tokens: Tensor) -> Tensor:
        scores = (tokens @ tokens.mT).exp()
        return scores / scores.sum(-1, keepdim=True) @ tokens


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("windows", r"of shape \(4, 1, 4, 4\) for 1 images, which is not among all tokens"),
        ("windows_by_hand", r"has 4 tokens, which are no grid of .* cut into 4 × 4 patches"),
        ("fewer_keys", r"of shape \(1, 16, 8\) for 1 images"),
        ("across", r"a softmax of shape \(1, 1, 16\)"),
        ("halved", "among 8 and 16 tokens"),
        ("odd", r"has 32 tokens, which are no grid of .* cut into 4 × 4 patches"),
        ("exponential", "no self-attention was seen in Attending: it has none, or hides it"),
        ("largest", r"reads \d+ of 16 patches"),
        ("detached", "do not depend on the attention weights by a gradient"),
        ("no_grad", "do not depend on the attention weights by a gradient"),
    ],
)
def test_attention_that_cannot_be_followed_is_refused_with_the_reason(
    kind: type[Explainer], how: str, message: str
) -> None:
    model = seeded(Attending, how)
    with untouched(model), pytest.raises(AssayError, match=message):
        kind()(Classifier(model), images(2))


@pytest.mark.parametrize(("kind", "hits"), [(AttentionRollout, 0.9), (GradientAttention, 0.25)])
def test_maps_of_a_trained_transformer_point_at_the_patch(
    kind: type[Explainer], hits: float
) -> None:
    clf = Classifier(trained("finder", finder()))
    x, y, patches = coloured(200, torch.Generator().manual_seed(1), colours=3)
    assert float((clf.predict(x) == y).float().mean()) > 0.9
    peaks = kind()(clf, x, y).raw.flatten(1).argmax(1, keepdim=True)
    assert float(patches.flatten(1).gather(1, peaks).mean()) > hits  # chance is 0.06


@pytest.mark.parametrize("kind", BOTH)
def test_a_network_without_attention_is_refused(kind: type[Explainer]) -> None:
    model = seeded(plain)
    with untouched(model), pytest.raises(AssayError, match="no self-attention was seen in Sequen"):
        kind()(Classifier(model), images(2))


def test_a_swin_transformer_is_refused_for_its_windows() -> None:
    model = swin()
    with untouched(model), pytest.raises(AssayError, match=r"\(4, 2, 16, 16\) for 1 images"):
        AttentionRollout()(Classifier(model), images(2))


@pytest.mark.parametrize("kind", BOTH)
def test_an_untrained_head_of_zeros_says_so(kind: type[Explainer]) -> None:
    model = seeded(Patches)
    nn.init.zeros_(model.head.weight)
    with untouched(model), pytest.raises(AssayError, match="the gradient of its logits is 0"):
        kind()(Classifier(model), images(2))
