"""Score-CAM: masks and images together, in bounded batches, by the fast copy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core import fast as fast_module
from assay.core.classifier import Classifier
from assay.explain import ScoreCAM

from .nets import images, plain, residual, seeded


def one_by_one(model: nn.Module, layer: str, x: Tensor, target: int) -> Tensor:
    """The paper's Algorithm 1 for one image (1, C, H, W), channel after channel."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda *seen: kept.append(seen[2].detach().clone())
    )
    with torch.no_grad():
        model(x)
        handle.remove()
        channels, scores = kept[0][0], []
        for channel in channels:
            if channel.max() == channel.min():  # no mask
                scores.append(torch.tensor(-torch.inf))
                continue
            large = F.interpolate(channel[None, None], x.shape[2:], mode="bilinear")
            mask = (large - large.min()) / (large.max() - large.min())
            black = model(torch.zeros_like(x))[0, target]
            scores.append(model(x * mask)[0, target] - black)
        return torch.einsum("c,chw->hw", torch.stack(scores).softmax(0), channels)


@pytest.mark.parametrize(("make", "layer"), [(plain, "4"), (residual, "1")])
def test_it_equals_the_algorithm_done_one_by_one(make: object, layer: str) -> None:
    model, x, y = seeded(make).eval(), images(3), torch.arange(3)
    maps = ScoreCAM()(Classifier(model, batch_size=5), x, y)
    assert maps.layer == layer
    for row in range(3):
        expected = one_by_one(model, layer, x[[row]], int(y[row]))
        torch.testing.assert_close(maps.raw[row], expected, rtol=1e-4, atol=1e-6)


def test_no_more_rows_than_fit_are_asked_at_once_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    ask = fast_module.FastCopy.logits

    def noted(self: fast_module.FastCopy, e: fast_module.Encoded) -> Tensor:
        seen.append(len(e.values))
        return ask(self, e)

    clf = Classifier(seeded(plain), batch_size=16)
    monkeypatch.setattr(fast_module.FastCopy, "logits", noted)
    ScoreCAM(layer="3")(clf, images(6))
    # the copy is checked on 6 rows, the original on these and twice on 2; then 6 images, 8 channels
    assert seen == [6, 16, 16, 16]
    assert clf.queries == 6 + 2 * 2 + 6 + 48


def test_a_batch_that_does_not_fit_is_halved() -> None:
    class Small(nn.Module):
        """Runs out of memory above 5 rows."""

        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(plain)

        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 5:
                raise torch.OutOfMemoryError("out of memory")
            out: Tensor = self.net(x)
            return out

    expected = ScoreCAM()(Classifier(seeded(plain)), images(4), 1).raw
    found = ScoreCAM()(Classifier(Small(), batch_size=16), images(4), 1).raw
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
