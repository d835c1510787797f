"""The head is found whatever stands between it and the logits, and refused where it is not one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.models.whitened import Whitened

Tail = Callable[[Tensor, Tensor], Tensor]
"""From the head's output and the images to what the model returns."""


class Net(nn.Module):
    """Features, a head, and what comes after it."""

    def __init__(self, tail: Tail, head: nn.Linear | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.squeeze = nn.Linear(3 * 16, 6)
            self.head = nn.Linear(6, 4) if head is None else head
            self.other = nn.Linear(6, 4)
        self.tail = tail

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.head(self.squeeze(x.flatten(1)).relu()), x)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(9, 3, 4, 4, generator=torch.Generator().manual_seed(0))


MASK = torch.tensor([False, True, False, False])


@pytest.mark.parametrize(
    ("tail", "scale", "shift"),
    [
        (lambda out, _: out, 1.0, 0.0),
        (lambda out, _: out / 9, 1 / 9, 0.0),
        (lambda out, _: out.mul_(-3), -3.0, 0.0),  # in place: what was recorded has changed
        (lambda out, _: out * torch.arange(1, 5) - 2, torch.arange(1, 5), -2.0),
        (lambda out, _: out.masked_fill(MASK, -torch.inf), ~MASK, torch.where(MASK, -torch.inf, 0)),
    ],
)
@pytest.mark.parametrize("rows", [1, 9])
def test_scale_and_shift_belong_to_the_head(
    x: Tensor, tail: Tail, scale: Tensor | float, shift: Tensor | float, rows: int
) -> None:
    net = Net(tail)
    made = Classifier(net, batch_size=4).embed(x[:rows])
    assert made.head is not None
    assert made.features is not None
    scale = torch.as_tensor(scale, dtype=torch.float32).expand(4)
    torch.testing.assert_close(made.head.weight, scale[:, None] * net.head.weight.detach())
    torch.testing.assert_close(made.head.bias, scale * net.head.bias.detach() + shift)
    torch.testing.assert_close(made.head(made.features), made.logits)
    torch.testing.assert_close(made.features, net.squeeze(x[:rows].flatten(1)).relu().detach())


class Cosine(nn.Linear):
    """A linear layer that is none."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x, dim=1), self.weight, self.bias)


@pytest.mark.parametrize(
    ("tail", "head"),
    [
        (lambda out, _: out.tanh(), None),
        (lambda out, _: out.clamp_min(0), None),
        (lambda out, _: out - out.logsumexp(1, keepdim=True), None),
        (lambda out, x: out + x.mean((2, 3)).sum(1, keepdim=True), None),  # something beside it
        (lambda out, _: out[:, [1, 0, 2, 3]], None),
        (lambda out, _: out, Cosine(6, 4)),
    ],
)
@pytest.mark.parametrize("rows", [1, 9])
def test_what_is_no_head_is_not_taken_for_one(
    x: Tensor, tail: Tail, head: nn.Linear | None, rows: int
) -> None:
    made = Classifier(Net(tail, head)).embed(x[:rows])
    assert made.head is None
    assert made.features is None
    assert made.lacks["head"] == "the model does not end in a linear layer"


class Packed(nn.Linear):
    """A linear layer whose weights are kept otherwise, as those of 4 bits are."""

    def __init__(self) -> None:
        super().__init__(6, 4)
        self.weight = nn.Parameter(self.weight.detach().view(24, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.view(4, 6), self.bias)


def test_a_layer_whose_weights_are_packed_is_no_head(x: Tensor) -> None:
    made = Classifier(Net(lambda out, _: out, Packed())).embed(x)
    assert made.head is None
    assert len(made) == 9


def test_a_head_beside_which_another_linear_layer_runs(x: Tensor) -> None:
    net = Net(lambda out, _: out)
    net.tail = lambda out, x: (net.other(net.squeeze(x.flatten(1))), out)[1]
    made = Classifier(net).embed(x)
    assert made.head is not None
    assert torch.equal(made.head.weight, net.head.weight)


def test_what_looks_like_a_head_in_the_first_batch_alone(x: Tensor) -> None:
    x[:4] *= 0.5
    made = Classifier(
        Net(lambda out, x: torch.where(x.amax((1, 2, 3))[:, None] > 0.6, out**2, out)),
        batch_size=4,
    ).embed(x)
    assert made.head is None
    assert made.features is None
    assert len(made) == 9


def test_a_model_that_gives_probabilities_has_no_head(x: Tensor) -> None:
    made = Classifier(Net(lambda out, _: out.softmax(1)), outputs="probabilities").embed(x)
    assert made.head is None
    assert "gives probabilities" in made.lacks["head"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_head_in_another_precision(x: Tensor, dtype: torch.dtype) -> None:
    made = Classifier(Net(lambda out, _: out / 9).to(dtype)).embed(x)
    assert made.head is not None
    assert made.features is not None
    near = (made.head(made.features) - made.logits).abs().amax()
    assert float(near) <= 8 * torch.finfo(dtype).eps * float(made.logits.abs().amax()) + 1e-6


def test_the_network_of_the_fast_recipe_has_features() -> None:
    net = Whitened(widths=(8, 12)).build((3, 16, 16), 5, Stream(0)).eval()
    x = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    clf = Classifier(net, mean=[0.5] * 3, std=[0.2] * 3, batch_size=8)
    made = clf.embed(x)
    assert made.head is not None
    assert made.features is not None
    assert tuple(made.features.shape) == (20, 12)
    torch.testing.assert_close(made.head.weight, net.head.weight.detach() / 9)
    torch.testing.assert_close(made.head(made.features), clf.query(x), rtol=1e-5, atol=1e-6)
    alone = clf.embed(x[:1])
    torch.testing.assert_close(alone.features, made.features[:1], rtol=1e-4, atol=1e-5)


def test_an_interrupt_leaves_no_hook_on_the_head(x: Tensor) -> None:
    """One that stayed would answer with other outputs whenever the model is evaluated."""
    calls: list[int] = []

    def tail(out: Tensor, _: Tensor) -> Tensor:
        calls.append(len(out))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return out / 9

    clf, stop = Classifier(Net(tail)), 0
    before = clf.query(x)
    stop = len(calls) + 2  # the pass itself, then the first of the trials
    with pytest.raises(KeyboardInterrupt):
        clf.embed(x)
    assert torch.equal(clf.query(x), before)
