"""Integrated gradients add up; SmoothGrad draws the same for every image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.memory import LARGE
from assay.core.random import Stream
from assay.explain import Explainer, IntegratedGradients, SmoothGrad

from .nets import images, plain, residual, seeded

BASELINES = ["black", "mean", "blur", 0.5]


@pytest.mark.parametrize("baseline", BASELINES)
def test_they_add_up_to_what_the_logit_rises_by(baseline: str | float) -> None:
    clf = Classifier(seeded(residual), mean=[0.5] * 3, std=[0.25] * 3)
    x, y = images(6, size=10), torch.arange(6) % 3
    explainer = IntegratedGradients(steps=200, baseline=baseline)
    maps = explainer(clf, x, y)
    gap = explainer.gap(clf, x, maps)
    rise = maps.raw.sum((1, 2)) - gap
    assert float(rise.abs().min()) > 1e-3
    assert float((gap.abs() / rise.abs()).max()) < 0.02
    coarse = IntegratedGradients(steps=2, baseline=baseline)
    worse = coarse.gap(clf, x, coarse(clf, x, y)).abs().mean()
    assert float(worse) > 3 * float(gap.abs().mean())


def test_the_gap_is_to_the_ends_of_the_line() -> None:
    clf, x = Classifier(seeded(plain)), images(3)
    for baseline, start in (("black", x * 0), (0.5, x * 0 + 0.5)):
        explainer = IntegratedGradients(steps=4, baseline=baseline)
        maps = explainer(clf, x, 1)
        rise = (clf.query(x) - clf.query(start))[:, 1]
        torch.testing.assert_close(explainer.gap(clf, x, maps), maps.raw.sum((1, 2)) - rise)


@pytest.mark.parametrize("kind", [IntegratedGradients, SmoothGrad])
def test_a_row_does_not_depend_on_the_batch_it_is_in(kind: type[Explainer]) -> None:
    model, x, y = seeded(residual), images(5, size=10), torch.arange(5) % 3
    whole = kind()(Classifier(model), x, y).raw
    parts = kind()(Classifier(model, batch_size=7), x, y).raw
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)
    alone = kind()(Classifier(model), x[[3]], y[[3]]).raw
    torch.testing.assert_close(whole[[3]], alone, rtol=1e-4, atol=1e-6)
    turned = kind()(Classifier(model), x.flip(0), y.flip(0)).raw
    torch.testing.assert_close(whole, turned.flip(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [IntegratedGradients(steps=4), SmoothGrad(samples=4)])
def test_a_large_image_counts_once_whether_its_memory_is_measured_or_known(kind: Explainer) -> None:
    clf = Classifier(nn.Sequential(nn.AvgPool2d(16), seeded(residual)))
    x = images(2, size=160)
    assert x[0].numel() >= LARGE
    first, second = kind(clf, x, 1), kind(clf, x, 1)
    torch.testing.assert_close(first.raw, second.raw, rtol=1e-5, atol=1e-8)


def test_they_add_up_on_large_images() -> None:
    class Mean(nn.Module):
        """Logits whose gradient is the same everywhere: the sum of a map is the mean pixel."""

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).mean(1)[:, None] * torch.tensor([1.0, -1.0])

    maps = IntegratedGradients(steps=10)(Classifier(Mean()), torch.full((2, 3, 160, 160), 0.5), 0)
    torch.testing.assert_close(maps.raw.sum((1, 2)), torch.tensor([0.5, 0.5]))


def test_smoothgrad_is_the_mean_gradient_over_its_noise() -> None:
    class Square(nn.Module):
        """Logits whose gradient by a pixel is twice that pixel, and minus that."""

        def forward(self, x: Tensor) -> Tensor:
            total = (x**2).flatten(1).sum(1)
            return torch.stack([total, -total], 1)

    x = images(2, size=8)
    explainer = SmoothGrad(samples=6, sigma=0.2, times_input=False, seed=4)
    noise = Stream(4).child("smoothgrad").rows(range(6)).normal((3, 8, 8)).mean(0)
    spread = 0.2 * (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).view(-1, 1, 1, 1)
    expected = (2 * (x + spread * noise)).abs().sum(1)
    found = explainer(Classifier(Square()), x, 1).raw
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_smoothgrad_draws_by_its_seed_and_smooths() -> None:
    clf, x = Classifier(seeded(residual)), images(4, size=10)

    def spread(samples: int) -> float:
        maps = [SmoothGrad(samples=samples, seed=seed)(clf, x, 0).raw for seed in range(4)]
        return float(torch.stack(maps).std(0).mean())

    assert spread(32) < 0.5 * spread(2)
    assert torch.equal(
        SmoothGrad(sigma=0)(clf, x, 0).raw, SmoothGrad(sigma=0, seed=1)(clf, x, 0).raw
    )


def test_rows_are_asked_in_parts_that_fit() -> None:
    model, seen = seeded(plain), []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    IntegratedGradients(steps=5)(Classifier(model, batch_size=4), images(3))
    assert seen == [3, 4, 4, 4, 3]
