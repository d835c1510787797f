"""The losses of a recipe: by hand, in a training, and in an address."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.source import TensorSource
from assay.tasks.train import TrainNetwork
from assay.train import SGD, Constant, CrossEntropy, LogitNorm, Recipe
from assay.train.evaluate import evaluate
from assay.train.fit import fit
from assay.train.losses import summed


def test_logit_norm_is_cross_entropy_of_the_direction() -> None:
    logits = torch.tensor([[3.0, 4.0], [0.0, -2.0]])
    target = torch.tensor([1, 0])
    # (0.6, 0.8) / 0.5 and (0, -1) / 0.5
    by_hand = math.log1p(math.exp(1.2 - 1.6)) + math.log1p(math.exp(-2.0))
    loss = LogitNorm(temperature=0.5)
    assert float(summed(loss, logits, target)) == pytest.approx(by_hand, rel=1e-5)
    assert float(summed(loss, 100 * logits, target)) == pytest.approx(by_hand, rel=1e-5)


def test_its_slope_is_finite_where_all_logits_are_zero() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    summed(LogitNorm(), logits, torch.tensor([0])).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_it_is_trained_and_validated_by() -> None:
    x = torch.rand(64, 1, 2, 2, generator=Stream(0).torch())
    data = TensorSource(x, (x.mean((1, 2, 3)) > 0.5).long())
    recipe = Recipe(epochs=1, batch_size=64, optimizer=SGD(lr=0.1), schedule=Constant())
    found = {}
    for loss in (CrossEntropy(), LogitNorm(temperature=0.5)):
        with Stream(1).seeding():
            model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        clf = Classifier(model)
        began = evaluate(clf, data, loss)[0]
        history = fit(clf, data, data, recipe.model_copy(update={"loss": loss}), stream=Stream(2))
        assert history.train_loss == pytest.approx([began], rel=1e-5)  # one step: as it began
        assert history.val_loss == pytest.approx([evaluate(clf, data, loss)[0]], rel=1e-5)
        assert history.val_loss[0] < began
        found[loss.name] = history.val_loss[0]
    assert len(set(found.values())) == 2


def test_the_loss_that_there_always_was_is_in_no_address() -> None:
    plain, other = (
        TrainNetwork(data="digits", recipe=Recipe(loss=loss)).trial(0, "cpu", "")
        for loss in (CrossEntropy(), LogitNorm())
    )
    assert "loss" not in plain.config["recipe"]
    assert "loss" not in Recipe().canonical()
    assert other.config["recipe"]["loss"] == {"name": "logit-norm", "temperature": 0.04}
    assert "LogitNorm" in other.versions
    recipe = Recipe(loss=LogitNorm(temperature=0.1))
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
