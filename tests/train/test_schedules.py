"""Learning-rate schedules against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.source import TensorSource
from assay.train import SGD, Constant, Cosine, OneCycle, Recipe
from assay.train.fit import fit
from assay.train.optimizers import norm_biases, optimizer
from assay.train.recipe import Schedule

TOTAL = 40


def torchs(make: object) -> list[float]:
    """Return the learning rates of a torch scheduler over TOTAL steps from a rate of 1."""
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(sgd)
    rates = []
    for _ in range(TOTAL):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        scheduler.step()
    return rates


def ours(schedule: Schedule) -> list[float]:
    return [schedule.factor(step, TOTAL) for step in range(TOTAL)]


def test_cosine_is_torchs() -> None:
    expected = torchs(lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, TOTAL, eta_min=0.1))
    assert ours(Cosine(final=0.1)) == pytest.approx(expected, rel=1e-9)


def test_one_cycle_is_torchs() -> None:
    expected = torchs(
        lambda sgd: lr_scheduler.OneCycleLR(
            sgd,
            max_lr=1.0,
            total_steps=TOTAL + 1,
            pct_start=0.3,
            div_factor=25,
            final_div_factor=1e4,
            cycle_momentum=False,
        )
    )
    # torch is given one step more, since it refuses the step after its last
    found = [OneCycle().factor(step, TOTAL + 1) for step in range(TOTAL)]
    assert found == pytest.approx(expected, rel=1e-9)
    assert OneCycle().factor(TOTAL - 1, TOTAL) == pytest.approx(4e-6)


def test_warm_up_is_torchs_linear_one() -> None:
    expected = torchs(
        lambda sgd: lr_scheduler.LinearLR(sgd, start_factor=1 / 8, end_factor=1.0, total_iters=7)
    )
    assert ours(Constant(warmup=0.2)) == pytest.approx(expected, rel=1e-9)


def test_warm_up_then_cosine_is_torchs_sequence() -> None:
    def both(sgd: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LinearLR(sgd, start_factor=1 / 8, end_factor=1.0, total_iters=7)
        fall = lr_scheduler.CosineAnnealingLR(sgd, TOTAL - 8)
        return lr_scheduler.SequentialLR(sgd, [rise, fall], milestones=[8])

    expected = torchs(both)
    assert ours(Cosine(warmup=0.2)) == pytest.approx(expected, rel=1e-9)


def test_constant_is_constant() -> None:
    assert ours(Constant()) == [1.0] * TOTAL


def test_short_trainings_have_a_rate_for_every_step() -> None:
    for schedule in (Constant(warmup=0.9), Cosine(warmup=0.5), OneCycle(peak=0.01), OneCycle()):
        for total in (1, 2, 3):
            rates = [schedule.factor(step, total) for step in range(total)]
            assert all(0 <= rate <= 1 for rate in rates)


def test_the_optimizer_is_torchs_of_that_name() -> None:
    for tag, kind in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)):
        recipe = Recipe.parse({"optimizer": {"name": tag, "lr": 0.3, "weight_decay": 0.2}})
        made = optimizer(recipe, [nn.Parameter(torch.zeros(1))])
        assert type(made) is kind
        assert made.param_groups[0]["lr"] == 0.3
        assert made.param_groups[0]["weight_decay"] == 0.2
    nesterov = Recipe(optimizer=SGD(momentum=0.5, nesterov=True))
    group = optimizer(nesterov, [nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert group["momentum"] == 0.5
    assert group["nesterov"]


def test_biases_of_norms_learn_faster_and_decay_alike() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    assert isinstance(net[1], nn.BatchNorm1d)
    settings = {"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.5, "norm_bias_lr": 8}
    recipe = Recipe.parse({"optimizer": settings})
    made = optimizer(recipe, list(net.parameters()), norm_biases(net))
    for parameter in net.parameters():
        parameter.data.fill_(2.0)
        parameter.grad = torch.ones_like(parameter)
    made.step()
    for parameter in net.parameters():  # 2 - lr · rate · 1 - lr · decay · 2
        rate = 8 if parameter is net[1].bias else 1
        assert torch.allclose(parameter, torch.tensor(2 - 0.1 * rate - 0.1))


def test_fit_hands_the_biases_of_norms_their_own_rate() -> None:
    x, y = torch.rand(8, 1, 2, 2), torch.arange(8) % 2

    def moved(rate: float | None) -> tuple[Tensor, Tensor]:
        with Stream(0).seeding():
            net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
        before = [p.detach().clone() for p in net.parameters()]
        sgd = SGD(lr=0.1, momentum=0.0, norm_bias_lr=rate)
        recipe = Recipe(epochs=1, batch_size=8, optimizer=sgd, schedule=Constant())
        fit(Classifier(net), TensorSource(x, y), None, recipe, stream=Stream(0))
        steps = [after.detach() - b for after, b in zip(net.parameters(), before, strict=True)]
        return steps[0], steps[3]  # of the first layer's weight, and of the norm's bias

    (weight, bias), (same, faster) = moved(None), moved(8.0)
    assert torch.equal(weight, same)
    assert torch.allclose(faster, 8 * bias, rtol=1e-4)
    assert bias.abs().max() > 0
