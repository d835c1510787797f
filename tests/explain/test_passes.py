"""Channels last in memory: the same maps, also where the model refuses them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.explain import GradCAM, IntegratedGradients
from assay.explain.passes import quick_logits, rows_at_once

from .nets import images, plain, residual, seeded


class Viewed(nn.Module):
    """Flattens by `view`, which takes contiguous features alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(plain)
        self.layouts: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.layouts.append(x.is_contiguous())
        features = self.net[:6](x)
        out: Tensor = self.net[7](features.view(len(x), -1))
        return out


def test_channels_are_laid_last() -> None:
    seen, model = [], seeded(residual)
    model[0].register_forward_hook(lambda *call: seen.append(call[2].is_contiguous()))
    logits = quick_logits(Classifier(model.eval()))(images(2))
    assert seen == [False]
    torch.testing.assert_close(logits, Classifier(model).query(images(2)))


@pytest.mark.parametrize("explainer", [GradCAM(), IntegratedGradients(steps=4)])
def test_a_model_that_views_its_features_is_explained_all_the_same(
    explainer: GradCAM | IntegratedGradients,
) -> None:
    x, y = images(5), torch.arange(5) % 3
    viewed = Viewed()
    clf = Classifier(viewed, batch_size=2)
    expected = explainer(Classifier(seeded(plain), batch_size=2), x, y)
    found = explainer(clf, x, y)
    torch.testing.assert_close(found.raw, expected.raw)
    assert viewed.layouts.count(False) == 1, "it was asked again although it had refused"
    assert clf.queries == (1 + 5 if isinstance(explainer, GradCAM) else 5 + 4 * 5)


def test_rows_are_as_many_as_asked_or_fewer_than_for_a_query() -> None:
    x, model = images(2), seeded(plain)
    assert rows_at_once(Classifier(model, batch_size=100), x) == 100
    assert rows_at_once(Classifier(model), x) == 64
