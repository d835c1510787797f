"""The fast copy: equal where it is made, honest where it is not."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.core.fast import FastCopy, fast_copy, renewed
from assay.core.oracle import gradient

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def x() -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(20, 3, 8, 8, generator=draw) * torch.rand(20, 3, 1, 1, generator=draw)


def lived_in(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics and an affine map that matter when folded."""
    draw = torch.Generator().manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.copy_(torch.randn(module.num_features, generator=draw) * 0.3)
            module.running_var.copy_(torch.rand(module.num_features, generator=draw) * 2 + 0.2)
            if module.affine:
                with torch.no_grad():
                    module.weight.copy_(torch.randn(module.num_features, generator=draw))
                    module.bias.copy_(torch.randn(module.num_features, generator=draw))
    return model


def head(channels: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 4))


class InASequential(nn.Sequential):
    folds = 2

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect", groups=2),
            nn.BatchNorm2d(6, affine=False),
            nn.ReLU(inplace=True),
            head(),
        )


class Residual(nn.Module):
    folds = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu, self.head = nn.ReLU(inplace=True), head()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.head(self.relu(self.bn2(self.conv2(x)) + x))


class ConvolutionUsedTwice(Residual):
    """Folding bn2 into conv2 would also change the second pass through conv2."""

    folds = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.head(self.conv2(self.bn2(self.conv2(x))))


class OutputUsedTwice(Residual):
    """The convolution's own output is needed beside its batch norm."""

    folds = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        y = self.conv2(x)
        return self.head(self.bn2(y) + y)


class NormUsedTwice(Residual):
    folds = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bn1(self.conv2(self.bn1(self.conv1(x)))))


class Functional(Residual):
    """The batch norm is applied as a function of the module's tensors."""

    folds = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        bn = self.bn2
        return self.head(
            F.batch_norm(self.conv2(x), bn.running_mean, bn.running_var, bn.weight, bn.bias)
        )


class WeightsReadElsewhere(Residual):
    """The raw weights of the convolution have another reader, whom folding would surprise."""

    folds = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.head(self.bn2(self.conv2(x)) * self.conv2.weight.mean())


class CalledByKeyword(Residual):
    folds = 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.head(self.bn2(input=self.conv2(x)))


class Untraceable(Residual):
    folds = 0

    def forward(self, x: Tensor) -> Tensor:
        if float(x.detach().mean()) > 1e6:
            return self.head(x)
        return super().forward(x)


class Wrapped(nn.Module):
    """Like DataParallel: passes whatever it is given to the module inside."""

    folds = 0

    def __init__(self) -> None:
        super().__init__()
        self.module = InASequential()

    def forward(self, *inputs: Any, **settings: Any) -> Tensor:
        return self.module(*inputs, **settings)


class Dropped(nn.Sequential):
    folds = 1

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout(0.5), head())


class NormWithoutStatistics(nn.Sequential):
    folds = 0

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6, track_running_stats=False), head()
        )


class NoConvolution(nn.Sequential):
    folds = 0

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))


class InPlaceFromTheStart(nn.Sequential):
    folds = 0

    def __init__(self) -> None:
        super().__init__(nn.ReLU(inplace=True), nn.Conv2d(3, 6, 3, padding=1), head())


KINDS = [
    InASequential,
    Residual,
    ConvolutionUsedTwice,
    OutputUsedTwice,
    NormUsedTwice,
    Functional,
    WeightsReadElsewhere,
    CalledByKeyword,
    Untraceable,
    Wrapped,
    Dropped,
    NormWithoutStatistics,
    NoConvolution,
    InPlaceFromTheStart,
]


def made(kind: Any) -> nn.Module:
    torch.manual_seed(1)
    return lived_in(kind())


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalised", [True, False])
def test_the_copy_equals_the_original(kind: Any, normalised: bool, x: Tensor) -> None:
    model = made(kind)
    clf = Classifier(model, mean=MEAN, std=STD) if normalised else Classifier(model)
    fast, report = fast_copy(clf, x)
    if kind is WeightsReadElsewhere:
        assert not report.used
        assert "logits differ" in report.why
        assert fast is clf
        return
    assert report.used, report.why
    assert isinstance(fast, FastCopy)
    assert report.folded == kind.folds
    before = x.clone()
    assert torch.allclose(fast.query(x), clf.query(x), atol=1e-4, rtol=1e-4)
    y = torch.arange(20) % 4
    with clf.borrowed():
        logits, slope = gradient(clf, x, y, cross_entropy)
    fast_logits, fast_slope = gradient(fast, x, y, cross_entropy)
    as_the_runner_asks = x.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(gradient(fast, as_the_runner_asks, y, cross_entropy)[1], fast_slope)
    assert torch.equal(as_the_runner_asks, before), "the model worked in place on the images"
    assert torch.allclose(fast_logits, logits, atol=1e-4, rtol=1e-4)
    assert torch.allclose(fast_slope, slope, atol=1e-3 * float(slope.abs().max()))
    assert float(slope.abs().max()) > 0
    assert torch.equal(x, before)


def test_data_parallel_is_served(x: Tensor) -> None:
    clf = Classifier(nn.DataParallel(made(Residual)))
    fast, report = fast_copy(clf, x)
    assert report.used, report.why
    assert torch.allclose(fast.query(x), clf.query(x), atol=1e-4, rtol=1e-4)


def test_preprocessing_and_probabilities_are_the_originals(x: Tensor) -> None:
    def half(images: Tensor) -> Tensor:
        return F.avg_pool2d(images.mul_(0.5), 2)  # in place, too

    model = nn.Sequential(made(Residual), nn.Softmax(1))
    clf = Classifier(model, preprocess=half, outputs="probabilities", mean=MEAN)
    before = x.clone()
    fast, report = fast_copy(clf, x)
    assert report.used, report.why
    assert torch.allclose(fast.query(x), clf.query(x), atol=1e-4, rtol=1e-4)
    assert torch.equal(x, before)


def test_one_statistic_alone_is_applied(x: Tensor) -> None:
    for settings in ({"mean": MEAN}, {"std": STD}):
        clf = Classifier(made(Residual), **settings)
        fast, report = fast_copy(clf, x)
        assert report.used
        assert torch.allclose(fast.query(x), clf.query(x), atol=1e-4, rtol=1e-4)


def test_bfloat16_agrees_on_what_it_screens(x: Tensor) -> None:
    clf = Classifier(made(Residual), mean=MEAN, std=STD)
    fast, report = fast_copy(clf, x, "bfloat16")
    assert report.used, report.why
    assert 0 < report.difference < 0.05, "it does compute in bfloat16, and nearly agrees"
    answer = fast.query(x)
    assert answer.dtype == torch.float32
    sure = clf.query(x).topk(2).values.diff().abs()[:, 0] > 0.1
    assert sure.sum() > 10
    assert torch.equal(answer.argmax(1)[sure], clf.predict(x)[sure])


@pytest.mark.parametrize("kind", [InASequential, Residual])
def test_logits_in_bfloat16_are_finer_than_bfloat16(kind: Any, x: Tensor) -> None:
    """Eight bits of a margin are too few for a search that keeps what is a little better."""
    fast, report = fast_copy(Classifier(made(kind), mean=MEAN, std=STD), x, "bfloat16")
    assert report.used, report.why
    assert report.difference > 0, "all before the head does compute in bfloat16"
    answer = fast.query(x)
    assert float((answer == answer.bfloat16().float()).float().mean()) < 0.1


class HeadUsedTwice(Residual):
    folds = 2

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.linear(self.linear(x.mean((2, 3))).relu())


def test_a_head_that_is_used_twice_stays_in_bfloat16(x: Tensor) -> None:
    fast, report = fast_copy(Classifier(made(HeadUsedTwice)), x, "bfloat16")
    assert report.used, report.why
    answer = fast.query(x)
    assert torch.equal(answer, answer.bfloat16().float())


def test_images_are_normalised_in_every_layout_and_size(x: Tensor) -> None:
    clf = Classifier(made(Residual), mean=MEAN, std=STD)
    fast, _ = fast_copy(clf, x)
    for images in (x, x[:, :, :6, :7], x[:, :, :6, 1:]):
        layers = images.contiguous(memory_format=torch.channels_last)
        for given in (images, layers):
            assert torch.allclose(fast.query(given), clf.query(images), atol=1e-4, rtol=1e-4)


def test_a_double_model_keeps_its_precision(x: Tensor) -> None:
    clf = Classifier(made(Residual).double(), mean=MEAN, std=STD)
    fast, report = fast_copy(clf, x)
    assert report.used, report.why
    assert torch.allclose(fast.query(x), clf.query(x), atol=1e-5)


class Refuses(Residual):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copies\nof me")


class Random(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.randn(len(x), 4)


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Refuses, "cannot be copied: RuntimeError: no copies of me"), (Random, "differ")],
)
def test_the_original_serves_where_the_copy_cannot(kind: Any, why: str, x: Tensor) -> None:
    clf = Classifier(made(kind))
    served, report = fast_copy(clf, x)
    assert served is clf
    assert not report.used
    assert why in report.why
    assert "\n" not in report.why


class Wavers(Residual):
    """Answers as its graph does twice, and then otherwise, as a model that draws in Python may."""

    asked = 0

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, torch.fx.Proxy):
            self.asked += 1
        return super().forward(x if self.asked < 3 else -x)


def test_a_draw_that_a_graph_would_hold_is_noticed(x: Tensor) -> None:
    clf = Classifier(made(Wavers))
    served, report = fast_copy(clf, x)
    assert served is clf
    assert "the model is randomised: its logits differ by" in report.why


def test_gradients_that_differ_are_noticed(x: Tensor) -> None:
    class Once(Residual):
        """Hides its gradient in the copy alone."""

        def __deepcopy__(self, memo: Any) -> Any:
            other = Cut()
            other.load_state_dict(self.state_dict())
            return other

    class Cut(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.detach() + 0 * x)

    served, report = fast_copy(clf := Classifier(made(Once)), x)
    assert served is clf
    assert "input gradients differ" in report.why


class Masks(Residual):
    """Masks a class: its logit is -inf."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return torch.cat([out[:, :-1], torch.full_like(out[:, -1:], -torch.inf)], 1)


def test_a_copy_of_a_model_that_masks_a_class_is_used(x: Tensor) -> None:
    model, report = fast_copy(Classifier(Masks()), x)
    assert report.used, report.why
    assert bool((model.query(x)[:, -1] == -torch.inf).all())
    assert report.difference < 1e-3


def test_the_original_is_left_as_it_was(x: Tensor) -> None:
    model = made(Residual).train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    wants = [p.requires_grad for p in model.parameters()]
    fast, _ = fast_copy(Classifier(model), x)
    gradient(fast, x, torch.zeros(20, dtype=torch.long), cross_entropy)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wants
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        model.head[2].weight.zero_()
    assert float(fast.query(x).std()) > 0.01, "the copy has weights of its own"


def test_queries_of_the_copy_count_from_its_making(x: Tensor) -> None:
    fast, _ = fast_copy(Classifier(made(Residual)), x)
    assert fast.queries == 0
    fast.query(x)
    assert fast.queries == 20


def test_a_report_without_a_copy_says_nan(x: Tensor) -> None:
    _, report = fast_copy(Classifier(made(Refuses)), x)
    assert math.isnan(report.difference)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [InASequential, Residual])
def test_a_renewed_copy_is_a_new_one(kind: Any, precision: Any, x: Tensor) -> None:
    clf = Classifier(lived_in(kind()), mean=MEAN, std=STD)
    fast, first = fast_copy(clf, x, precision)
    assert isinstance(fast, FastCopy)
    before = fast.query(x)
    with torch.no_grad():
        for tensor in clf.model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1.25)
    modes = [module.training for module in clf.model.train().modules()]
    again, report = renewed(fast, x)
    assert [module.training for module in clf.model.modules()] == modes
    assert again is fast
    fresh, expected = fast_copy(clf, x, precision)
    assert report == replace(expected, difference=report.difference)  # of two rows, not of eight
    assert report.difference < 0.1
    assert report.folded == first.folded == kind.folds
    assert torch.equal(again.query(x), fresh.query(x))
    assert not torch.allclose(again.query(x), before, atol=0.05)


def test_a_renewed_copy_is_checked_on_two_rows_and_where_they_differ_on_all(x: Tensor) -> None:
    clf = Classifier(lived_in(InASequential()))
    fast, _ = fast_copy(clf, x)
    assert isinstance(fast, FastCopy)
    asked = clf.queries
    renewed(fast, x)
    assert clf.queries - asked == 2
    clf.model[3].padding_mode = "zeros"
    asked = clf.queries
    renewed(fast, x)
    assert clf.queries - asked == 2 + len(x[:8])


def test_a_renewed_copy_that_differs_gives_way_to_the_original(x: Tensor) -> None:
    clf = Classifier(lived_in(InASequential()))
    fast, _ = fast_copy(clf, x)
    assert isinstance(fast, FastCopy)
    clf.model[3].padding_mode = "zeros"  # no weight: the copy cannot know of it
    again, report = renewed(fast, x)
    assert again is clf
    assert "differ" in report.why
    assert not report.used


def test_a_copy_that_fails_says_nothing_on_its_own(
    x: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    """torch.fx prints where a graph of it fails; the report says why there is no copy."""

    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4 * (x.shape[2] - 2) * (x.shape[3] - 2), 3)

        def forward(self, x: Tensor) -> Tensor:
            made = self.norm(self.conv(x)).relu()
            return self.head(made.view(made.size(0), -1))  # not in channels_last

    served, report = fast_copy(Classifier(Views().eval()), x)
    assert isinstance(served, Classifier)
    assert "view" in report.why
    assert capsys.readouterr() == ("", "")
