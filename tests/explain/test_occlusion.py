"""Occlusion: windows, what covers them, and what a map of rounding is worth."""

from __future__ import annotations

import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.explain import Occlusion

from .nets import images, plain, residual, seeded


def one_by_one(clf: Classifier, x: Tensor, target: int, window: int, stride: int) -> Tensor:
    """Cover one image (1, C, H, W) by grey, window after window."""
    total, times = torch.zeros(x.shape[2:]), torch.zeros(x.shape[2:])
    whole = clf.query(x)[0, target]
    for top in range(0, x.shape[2] - window + stride, stride):
        for left in range(0, x.shape[3] - window + stride, stride):
            covered = x.clone()
            covered[:, :, top : top + window, left : left + window] = 0.5
            fall = whole - clf.query(covered)[0, target]
            total[top : top + window, left : left + window] += fall
            times[top : top + window, left : left + window] += 1
    return total / times


@pytest.mark.parametrize(("window", "stride"), [(6, 3), (7, 5), (4, 4), (16, 1)])
def test_it_equals_windows_one_by_one(window: int, stride: int) -> None:
    clf, x, y = (
        Classifier(seeded(residual), batch_size=50),
        images(3, size=16),
        torch.tensor([2, 0, 1]),
    )
    raw = Occlusion(window=window, stride=stride, fill=0.5)(clf, x, y).raw
    for row in range(3):
        expected = one_by_one(clf, x[[row]], int(y[row]), window, stride)
        torch.testing.assert_close(raw[row], expected, rtol=1e-3, atol=2e-6)


def test_by_default_a_quarter_of_the_image_moves_by_half_of_that() -> None:
    clf, x = Classifier(seeded(plain)), images(2)
    assert torch.equal(Occlusion()(clf, x).raw, Occlusion(window=8, stride=4)(clf, x).raw)


@pytest.mark.parametrize("fill", ["black", "mean", "blur"])
def test_what_is_like_the_cover_matters_nothing(fill: str) -> None:
    # one colour all over: black itself, or a colour that is its own mean and blur
    x = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1).expand(2, 3, 16, 16).clone()
    x = x * 0 if fill == "black" else x
    maps = Occlusion(fill=fill)(Classifier(seeded(residual)), x)
    assert maps.empty.tolist() == [True, True]
    assert float(maps.raw.abs().max()) == 0
    x[:, :, 6:10, 6:10] += 0.2
    assert not bool(Occlusion(fill=fill)(Classifier(seeded(residual)), x).raw.eq(0).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 33}, "a window of 33 pixels is larger than the images"),
        ({"window": 4, "stride": 5}, "a stride of 5 pixels leaves gaps between windows of 4"),
    ],
)
def test_windows_that_do_not_fit(settings: dict[str, int], message: str) -> None:
    model = seeded(plain)
    with untouched(model), pytest.raises(AssayError, match=message):
        Occlusion(**settings)(Classifier(model), images(2))


@pytest.mark.parametrize("settings", [{"window": 0}, {"stride": 0}, {"fill": 1.5}, {"fill": "no"}])
def test_settings_that_mean_nothing(settings: dict[str, object]) -> None:
    with pytest.raises(AssayError, match=next(iter(settings))):
        Occlusion(**settings)


def test_a_model_without_gradients_is_explained() -> None:
    class Steps(nn.Module):
        """Says how many pixels are bright: a step, which no gradient passes."""

        def forward(self, x: Tensor) -> Tensor:
            bright = (x.mean(1) > 0.7).float().sum((1, 2))
            return torch.stack([bright, 20 - bright], 1)

    x = torch.full((1, 3, 16, 16), 0.2)
    x[:, :, 4:8, 8:12] = 0.9
    maps = Occlusion(window=4, stride=4)(Classifier(Steps()), x, 0)
    expected = torch.zeros(16, 16)
    expected[4:8, 8:12] = 16
    assert torch.equal(maps.raw[0], expected)
