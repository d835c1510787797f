"""Hardened trainings against plain PyTorch loops, written as the papers' repositories write them,
and their attacks against torchattacks. Order and noise are drawn from the same streams.

The loops compute in float64: in float32 the sign of a slope of nearly 0 is a matter of rounding,
and one pixel that goes the other way changes all that follows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import FGSM, PGD
from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.source import TensorSource
from assay.core.threats import NormBall
from assay.models import CNN
from assay.tasks.adversaries import NFGSM, against
from assay.train import SGD, Constant, Recipe, Trades
from assay.train.fit import fit

from .peers import peer

N, SIZE, EPOCHS = 72, 24, 2
EPS, STEP, STEPS, BETA, EMA = 0.1, 0.03, 4, 6.0, 0.9
RATE: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
MEAN, STD = (0.5,), (0.25,)
STREAM = Stream(5)

Moved = Callable[[nn.Module, Tensor, Tensor, Rows], Tensor]
"""(network in training mode, x, y, one generator per row) → attacked images."""


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a small residual network with batch norm, the same weights every time."""
    config = CNN(depths=(1,), widths=(8,), skip=True, norm="batch", stem_stride=2)
    return config.build((1, 8, 8), 4, Stream(1)).to(dtype)


def images() -> tuple[Tensor, Tensor]:
    """Return noise in which a quarter of each image is brighter by its class."""
    y = torch.arange(N) % 4
    x = Stream(2).rows(range(N)).uniform((1, 8, 8)) * 0.6
    for row, place in enumerate(y.tolist()):
        x[row, 0, 2 * place : 2 * place + 2] += 0.4
    return x, y


class Normalising(nn.Module):
    """A network with its normalisation in front: what plain loops and peers are given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        dtype = next(self.model.parameters()).dtype
        logits: Tensor = self.model(((x - MEAN[0]) / STD[0]).to(dtype))
        return logits.float()


def slope(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    x = x.detach().requires_grad_(True)
    (found,) = torch.autograd.grad(loss(model(x)), x)
    return found


def natural(model: nn.Module, x: Tensor, y: Tensor, rng: Rows) -> Tensor:
    del model, y, rng
    return x


def noisy_fgsm(model: nn.Module, x: Tensor, y: Tensor, rng: Rows) -> Tensor:
    """de Jorge et al. 2022, train.py: η uniform in ±2ε, cut to the box; one step of ε; the box."""
    eta = rng.uniform(tuple(x.shape[1:]), -2 * EPS, 2 * EPS)
    eta = torch.max(torch.min(eta, 1 - x), 0 - x)
    model.eval()  # theirs stays in training mode
    delta = eta + EPS * slope(model, x + eta, lambda z: F.cross_entropy(z, y)).sign()
    model.train()
    return x + torch.max(torch.min(delta, 1 - x), 0 - x)


def climbed(
    model: nn.Module,
    x: Tensor,
    start: Tensor,
    loss: Callable[[Tensor], Tensor],
    steps: int,
    a: float,
) -> Tensor:
    """Madry et al. 2018: steps along the sign, each projected on the ball and the box."""
    model.eval()
    adv = start
    for _ in range(steps):
        adv = adv + a * slope(model, adv, loss).sign()
        adv = torch.min(torch.max(adv, x - EPS), x + EPS).clamp(0, 1)
    model.train()
    return adv.detach()


def within(x: Tensor, rng: Rows) -> Tensor:
    return (x + rng.uniform(tuple(x.shape[1:]), -EPS, EPS)).clamp(0, 1)


def fgsm(model: nn.Module, x: Tensor, y: Tensor, rng: Rows) -> Tensor:
    """Goodfellow et al. 2015: one step of ε from the image itself."""
    del rng
    return climbed(model, x, x, lambda z: F.cross_entropy(z, y), 1, EPS)


def random_fgsm(model: nn.Module, x: Tensor, y: Tensor, rng: Rows) -> Tensor:
    """Wong et al. 2020: one step of 1.25 ε from a random point of the ball, projected."""
    return climbed(model, x, within(x, rng), lambda z: F.cross_entropy(z, y), 1, 1.25 * EPS)


def several(model: nn.Module, x: Tensor, y: Tensor, rng: Rows) -> Tensor:
    return climbed(model, x, within(x, rng), lambda z: F.cross_entropy(z, y), STEPS, STEP)


def diverging(model: nn.Module, x: Tensor, y: Tensor, rng: Rows) -> Tensor:
    """Zhang et al. 2019, trades.py, from a point of the ball; theirs starts from N(0, 0.001²)."""
    del y
    model.eval()
    with torch.no_grad():
        p = model(x).softmax(1)
    kl = nn.KLDivLoss(reduction="sum")
    return climbed(model, x, within(x, rng), lambda z: kl(z.log_softmax(1), p), STEPS, STEP)


@dataclass
class Case:
    """One recipe twice: as ours are told of it, and as a plain loop carries it out."""

    adversary: FGSM | PGD | NFGSM | None
    moved: Moved
    trades: bool = False

    @property
    def recipe(self) -> Recipe:
        made = Recipe(
            epochs=EPOCHS,
            batch_size=SIZE,
            optimizer=SGD(**RATE),
            schedule=Constant(),
            ema=EMA,
        )
        return made.model_copy(update={"loss": Trades(beta=BETA)}) if self.trades else made


CASES = {
    "natural": Case(None, natural),
    "FGSM": Case(FGSM(eps=EPS), fgsm),
    "Fast-AT": Case(PGD(eps=EPS, steps=1, step_size=1.25 * EPS), random_fgsm),
    "N-FGSM": Case(NFGSM(eps=EPS), noisy_fgsm),
    "PGD-AT": Case(PGD(eps=EPS, steps=STEPS, step_size=STEP), several),
    "TRADES": Case(PGD(eps=EPS, steps=STEPS, step_size=STEP), diverging, trades=True),
}


def ours(case: Case) -> tuple[list[float], dict[str, Tensor]]:
    """Return the loss of each epoch and the averaged weights."""
    clf = Classifier(network(), mean=MEAN, std=STD, classes="abcd")
    x, y = images()
    adversary = against(case.adversary, case.recipe)
    history = fit(clf, TensorSource(x, y), None, case.recipe, stream=STREAM, adversary=adversary)
    return history.train_loss, clf.model.state_dict()


def batches(epoch: int) -> Iterator[Tensor]:
    order = torch.randperm(N, generator=STREAM.child("order", epoch).torch())
    yield from torch.split(order, SIZE)


def plain(case: Case) -> tuple[list[float], dict[str, Tensor]]:
    model = Normalising(network()).train()
    optimizer = torch.optim.SGD(model.parameters(), **RATE)
    averaged = copy.deepcopy(model.model.state_dict())
    x, y = images()
    losses, step = [], 0
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for rows in batches(epoch):
            clean, target = x[rows], y[rows]
            adv = case.moved(model, clean, target, STREAM.child("adversary", epoch).rows(rows))
            optimizer.zero_grad()
            if case.trades:
                one, other = model(clean), model(adv)
                robust = nn.KLDivLoss(reduction="sum")(F.log_softmax(other, 1), F.softmax(one, 1))
                loss = F.cross_entropy(one, target) + BETA * robust / len(rows)
            else:
                loss = F.cross_entropy(model(adv), target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            step += 1
            keep = min(EMA, (1 + step) / (10 + step))
            for name, value in model.model.state_dict().items():
                if value.is_floating_point():
                    averaged[name].mul_(keep).add_(value, alpha=1 - keep)
                else:
                    averaged[name].copy_(value)
        losses.append(total / N)
    return losses, averaged


@pytest.mark.parametrize("name", CASES)
def test_losses_and_weights_are_those_of_a_plain_loop(name: str) -> None:
    losses, weights = ours(CASES[name])
    expected, averaged = plain(CASES[name])
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0]
    assert weights.keys() == averaged.keys()
    for key, value in averaged.items():
        torch.testing.assert_close(weights[key], value, rtol=1e-5, atol=1e-6, msg=key)


class From(PGD):
    """PGD from a given start: what a peer draws of torch's own generator."""

    name: Literal["from"] = "from"  # type: ignore[assignment]
    noise: Any = None

    def start(self, x: Tensor, threat: NormBall, rng: Rows) -> tuple[Tensor, ...]:
        del threat, rng
        return ((x + self.noise).clamp(0, 1),)


PEERS: dict[str, tuple[str, dict[str, Any], Callable[[Tensor], Tensor]]] = {
    # the peer's class, its arguments, and what it draws first
    "Fast-AT": (
        "FFGSM",
        {"alpha": 1.25 * EPS},
        lambda x: torch.randn_like(x).uniform_(-EPS, EPS),
    ),
    "PGD-AT": (
        "PGD",
        {"alpha": STEP, "steps": STEPS},
        lambda x: torch.empty_like(x).uniform_(-EPS, EPS),
    ),
    "TRADES": ("TPGD", {"alpha": STEP, "steps": STEPS}, lambda x: 0.001 * torch.randn_like(x)),
}


@pytest.mark.parametrize("name", PEERS)
def test_what_a_training_attacks_by_is_torchattacks(name: str) -> None:
    """Of the network in training mode, as it is in the middle of an epoch."""
    kind, settings, draw = PEERS[name]
    torchattacks = peer("torchattacks")
    model = network(torch.float32).train()
    x, y = images()
    Normalising(model)(x)  # running statistics that are no longer 0 and 1
    clf = Classifier(model, mean=MEAN, std=STD, classes="abcd")
    torch.manual_seed(3)
    noise = draw(x)
    own = From(eps=EPS, steps=settings.get("steps", 1), step_size=settings["alpha"], noise=noise)
    adversary = against(own, CASES[name].recipe)
    assert adversary is not None
    found = adversary(clf, x, y, rng=Stream(0).rows(range(N)))
    torch.manual_seed(3)
    expected = getattr(torchattacks, kind)(Normalising(model), eps=EPS, **settings)(x, y)
    agree = ((found - expected).abs() <= 1e-6).float().mean()
    assert float(agree) >= 0.99  # a slope of nearly 0 may have either sign
    assert float((found - x).abs().max()) > 0.9 * EPS
