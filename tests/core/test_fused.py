"""Convolutions that add and rectify too: what is fused, that it says the same, and what happens to
the networks for which it would not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core import fast as fast_module
from assay.core.classifier import Classifier
from assay.core.fast import FastCopy, fast_copy, renewed
from assay.core.fused import FusedConv2d
from assay.core.oracle import gradient, labels
from assay.core.random import Stream
from assay.models.cnn import CNN

pytestmark = pytest.mark.skipif(
    not fast_module.can_fuse(torch.device("cpu")), reason="torch has no oneDNN here"
)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(12, 3, 10, 10, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    """Convolution, ReLU, convolution, ReLU: both do their own; the head's has nothing after it."""

    fused = 2

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.two = nn.Conv2d(8, 8, 3, padding=1, bias=bias)
        self.side = nn.Conv2d(8, 8, 1, bias=bias)
        self.head = nn.Conv2d(8, 4, 1, bias=bias)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(F.relu(self.two(self.relu(self.one(x)))))

    def mean(self, x: Tensor) -> Tensor:
        return self.head(x).mean((2, 3))


class WithoutBias(Plain):
    def __init__(self) -> None:
        super().__init__(bias=False)


class Skip(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.mean((self.two(x) + x).relu_())


class SumWithoutRelu(Plain):
    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.mean(torch.add(x, self.two(x)))


class Projection(Plain):
    """Two convolutions are added: one of them adds the other."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        y = self.two(x)
        y += self.side(x)
        return self.mean(torch.relu(y))


class WithIdleModules(Plain):
    """What stands between a convolution and its ReLU does nothing in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Sequential(nn.Identity(), nn.Dropout(0.5), nn.Dropout2d(0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.idle(self.one(x)))
        return self.mean(F.relu(self.idle(self.two(x)) + x))


class InPlaceOnTheOther(Plain):
    """The sum is written over another tensor, which is read again."""

    fused = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x)) * 1
        x.add_(self.two(x * 2))
        return self.mean(x)


class SumOfGroups(Plain):
    """oneDNN adds to no grouped convolution in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.two = nn.Conv2d(8, 8, 3, padding=1, groups=4)

    fused = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.mean(F.relu(self.two(x) + x))


class Hooked(Plain):
    """A hook on a convolution, which sees what the convolution alone returns."""

    fused = 1

    def __init__(self) -> None:
        super().__init__()
        self.two.register_forward_hook(lambda _, __, output: output.clamp(-0.02, 0.02))


class Parametrized(Plain):
    fused = 1

    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.two)


class Broadcast(Plain):
    """What is added is one number per channel, and its gradient the sum over space."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.mean(F.relu(self.two(x) + x.mean((2, 3), keepdim=True)))


class Both(Plain):
    """The sum is needed beside its ReLU, which has to be apart then."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        y = self.two(x) + x
        return self.mean(F.relu(y) * y)


class NeededTwice(Plain):
    fused = 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        return self.mean(F.relu(y) + y)


class CalledTwice(Plain):
    fused = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.mean(F.relu(self.two(F.relu(self.two(x)))))


class Doubled(Plain):
    """A convolution's output plus itself has no other to add."""

    fused = 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(self.relu(self.one(x)))
        return self.mean(y + y)


class Windows(Plain):
    """Strides, dilation and groups reach the operator in their places."""

    fused = 3

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, (3, 5), stride=(1, 2), padding=(0, 2), dilation=(2, 1))
        self.two = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.side = nn.Conv2d(8, 8, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.mean(F.relu(self.side(F.relu(self.two(x)))))


class OtherPadding(Plain):
    fused = 1

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding="same")
        self.two = nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")
        self.side = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(F.relu(self.side(F.relu(self.two(self.relu(self.one(x)))))))


KINDS = [
    Plain,
    WithoutBias,
    Skip,
    SumWithoutRelu,
    Projection,
    WithIdleModules,
    InPlaceOnTheOther,
    SumOfGroups,
    Hooked,
    Parametrized,
    Broadcast,
    Both,
    NeededTwice,
    CalledTwice,
    Doubled,
    Windows,
    OtherPadding,
]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def count(fast: Any) -> int:
    return sum(isinstance(module, FusedConv2d) for module in fast.model.modules())


def has_bfloat16() -> bool:
    """Whether oneDNN convolves in bfloat16 on this processor; the copy is not fused where not."""
    conv = FusedConv2d(nn.Conv2d(3, 4, 3), rectifies=True).to(torch.bfloat16)
    try:
        with torch.no_grad():
            conv(torch.rand(1, 3, 8, 8, dtype=torch.bfloat16))
    except RuntimeError:
        return False
    return True


def unfused(clf: Classifier, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> FastCopy:
    with monkeypatch.context() as patch:
        patch.setattr(fast_module, "can_fuse", lambda _: False)
        fast, report = fast_copy(clf, x)
    assert report.used, report.why
    assert isinstance(fast, FastCopy)
    assert count(fast) == 0
    return fast


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_in_fewer_passes(kind: Any, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    clf = Classifier(kind())
    fast, report = fast_copy(clf, x)
    assert report.used, report.why
    assert count(fast) == kind.fused
    apart = unfused(clf, x, monkeypatch)
    y = torch.arange(12) % 4
    for images in (x, x.contiguous(memory_format=torch.channels_last)):
        assert torch.allclose(fast.query(images), apart.query(images), rtol=1e-5, atol=1e-6)
        logits, slope = gradient(fast, images, y, cross_entropy)
        expected, steepest = gradient(apart, images, y, cross_entropy)
        assert torch.allclose(logits, expected, rtol=1e-5, atol=1e-6)
        assert torch.allclose(slope, steepest, rtol=1e-4, atol=1e-5 * float(steepest.abs().max()))
        assert float(slope.abs().max()) > 0
    with clf.borrowed():
        assert torch.allclose(fast.query(x), clf.query(x), atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("shortcut", ["pad", "projection"])
def test_every_convolution_of_our_own_networks_is_fused(
    shortcut: str, norm: str, x: Tensor
) -> None:
    config = CNN(
        depths=(2, 2), widths=(8, 16), skip=True, shortcut=shortcut, norm=norm, stage_stride=2
    )
    clf = Classifier(config.build((3, 10, 10), 4, Stream(0)))
    fast, report = fast_copy(clf, x)
    assert report.used, report.why
    assert report.folded == (count(fast) + (shortcut == "projection") if norm == "batch" else 0)
    assert count(fast) == 1 + 2 * 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_served_by_a_copy_in_both_precisions(
    kind: Any, precision: Any, x: Tensor
) -> None:
    torch.manual_seed(2)
    fast, report = fast_copy(Classifier(kind()), x, precision)
    assert report.used, report.why
    assert count(fast) == (kind.fused if precision == "float32" or has_bfloat16() else 0)


class Logarithm(Plain):
    """NaN for images that are darker than those that the copy is compared on."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.log(x - 0.01)
        return self.mean(F.relu(self.two(self.relu(self.one(x)))))


class LogarithmAndSum(Logarithm):
    def forward(self, x: Tensor) -> Tensor:
        x = self.one(torch.log(x - 0.01))
        return self.mean(F.relu(self.two(x) + x))


@pytest.mark.parametrize(("kind", "fused"), [(Logarithm, 0), (LogarithmAndSum, 1)])
def test_what_has_no_answer_gets_none_from_the_copy(kind: Any, fused: int, x: Tensor) -> None:
    torch.manual_seed(2)
    clf = Classifier(kind())
    fast, report = fast_copy(clf, x.clamp(0.1, 1), "float32")
    assert report.used, report.why
    assert count(fast) == fused, "oneDNN's ReLU makes 0 of NaN"
    dark = x.clamp(0.1, 1)
    dark[3:7, :, 2:5, 2:5] = 0
    assert torch.equal(labels(fast.query(dark)) < 0, labels(clf.query(dark)) < 0)
    assert (labels(fast.query(dark)) < 0).tolist() == [3 <= row < 7 for row in range(12)]


def test_nor_where_the_preprocessing_has_none(x: Tensor) -> None:
    torch.manual_seed(2)
    clf = Classifier(Plain(), preprocess=lambda images: torch.log(images - 0.01))
    fast, report = fast_copy(clf, x.clamp(0.1, 1))
    assert report.used, report.why
    assert bool((labels(fast.query(torch.zeros(2, 3, 10, 10))) < 0).all())


class Wider(Plain):
    """What is added is larger than the convolution's output, which oneDNN does not spread."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x))
        return self.mean(F.relu(self.two(x.mean((2, 3), keepdim=True)) + x))


@pytest.mark.parametrize(("kind", "dtype"), [(Wider, torch.float32), (Skip, torch.float64)])
def test_where_fusing_fails_the_copy_goes_without(kind: Any, dtype: Any, x: Tensor) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), kind()).to(dtype)
    clf = Classifier(model)
    fast, report = fast_copy(clf, x)
    assert report.used, report.why
    assert (count(fast), report.folded) == (0, 1)
    assert torch.allclose(fast.query(x), clf.query(x), atol=1e-5)


def test_a_sum_in_bfloat16_is_rounded_once(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The convolution's own output is never written in eight bits."""
    if not has_bfloat16():
        pytest.skip("this processor's oneDNN has no convolution in bfloat16")
    torch.manual_seed(2)
    x = torch.rand(64, 3, 10, 10)
    clf = Classifier(Skip())
    fast, report = fast_copy(clf, x, "bfloat16")
    assert report.used, report.why
    assert count(fast) == Skip.fused
    monkeypatch.setattr(fast_module, "can_fuse", lambda _: False)
    apart, _ = fast_copy(clf, x, "bfloat16")
    exact = clf.query(x)
    error, before = ((copied.query(x) - exact).abs().mean() for copied in (fast, apart))
    assert float(error) < float(before)


class Constants(Plain):
    """Tensors that are no parameters (and might be NaN), and weights with two names."""

    fused = 1

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.rand(8, 1, 1)
        self.three = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.three.weight = self.two.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.one(x)) + torch.tensor(0.5)
        x = F.relu(self.two(x)) * self.shift
        return self.mean(self.three(x))


@pytest.mark.parametrize("kind", [Skip, Constants, Parametrized])
def test_a_fused_copy_is_renewed(kind: Any, x: Tensor) -> None:
    torch.manual_seed(2)
    clf = Classifier(kind())
    fast, _ = fast_copy(clf, x)
    assert isinstance(fast, FastCopy)
    with torch.no_grad():
        for tensor in clf.model.parameters():
            tensor.mul_(1.5)
    again, report = renewed(fast, x)
    assert report.used, report.why
    assert again is fast
    assert count(again) == kind.fused
    assert torch.allclose(again.query(x), clf.query(x), rtol=1e-4, atol=1e-4)


def test_only_a_cpu_fuses() -> None:
    assert fast_module.can_fuse(torch.device("cpu"))
    assert not fast_module.can_fuse(torch.device("cuda"))
