"""From the same start APGD, APGDT and MI-FGSM are those of torchattacks, and fool as many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import APGD, APGDT, MIFGSM, Attack
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.threats import NormBall
from assay.data import load_data

from .peers import peer

N = 32
NORMS = {"linf": "Linf", "l2": "L2"}
EPS = {"linf": 4 / 255, "l2": 0.3}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(12 * 49, 10)
    ).eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(2).rows(range(N)).uniform((3, 16, 16), 0.2, 0.8)


@pytest.fixture(scope="module")
def y(net: nn.Module, x: Tensor) -> Tensor:
    return Classifier(net).predict(x)


def started(x: Tensor, norm: str, monkeypatch: Any) -> NormBall:
    """Give both the same start, one pattern for all images, and return our ball with it."""
    pattern = Stream(9).rows([0]).uniform(tuple(x.shape[1:]), -1, 1)
    pattern = pattern / (pattern.abs().max() if norm == "linf" else pattern.norm())

    class Started(NormBall):
        def random_start(self, x: Tensor, rng: Any) -> Tensor:
            del rng
            return (x + self.eps * pattern).clamp(0, 1)

    drawn = pattern / 2 + 0.5 if norm == "linf" else pattern
    name = "rand" if norm == "linf" else "randn"
    monkeypatch.setattr(torch, name, lambda shape: drawn.expand(shape).clone())
    return Started(norm=norm, eps=EPS[norm])


def ours(attack: Attack, net: nn.Module, x: Tensor, y: Tensor, threat: NormBall) -> Tensor:
    clf, loss = Classifier(net), attack.objective(False)
    with clf.borrowed():
        return attack.perturb(clf, x, y, threat=threat, loss=loss, rng=Stream(0).rows(range(N)))


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("norm", NORMS)
def test_apgd_is_torchattacks(
    net: nn.Module, x: Tensor, y: Tensor, norm: str, loss: str, monkeypatch: Any
) -> None:
    torchattacks = peer("torchattacks")
    threat = started(x, norm, monkeypatch)
    theirs = torchattacks.APGD(net, norm=NORMS[norm], eps=EPS[norm], steps=30, loss=loss)
    expected = theirs.perturb(x, y, best_loss=True)[1]
    attack = APGD.parse({"norm": norm, "eps": EPS[norm], "steps": 30, "loss": loss})
    found = ours(attack, net, x, y, threat)
    apart = (found - expected).abs().flatten(1).amax(1)
    # Theirs compares the first loss with 0; and of two points ours keeps the one that fools.
    assert float((apart < 1e-4).float().mean()) >= 0.85
    by_ours, by_theirs = (attack.objective(False)(net(z), y).detach() for z in (found, expected))
    assert float((by_ours - by_theirs).mean()) >= -1e-3


def test_apgdt_fools_those_that_torchattacks_does(
    net: nn.Module, x: Tensor, y: Tensor, monkeypatch: Any
) -> None:
    torchattacks = peer("torchattacks")
    threat = started(x, "linf", monkeypatch)
    theirs = torchattacks.APGDT(net, eps=EPS["linf"], steps=20, n_classes=10)
    expected = net(theirs(x, y)).argmax(1) != y
    attack = APGDT(eps=EPS["linf"], steps=20)
    found = net(ours(attack, net, x, y, threat)).argmax(1) != y
    assert 0 < int(expected.sum()) < N
    assert bool((found | ~expected).all())


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_mifgsm_is_torchattacks(net: nn.Module, x: Tensor, y: Tensor, decay: float) -> None:
    torchattacks = peer("torchattacks")
    theirs = torchattacks.MIFGSM(net, eps=8 / 255, alpha=2 / 255, steps=8, decay=decay)(x, y)
    attack = MIFGSM(eps=8 / 255, step_size=2 / 255, steps=8, decay=decay)
    assert float((ours(attack, net, x, y, attack.threat) - theirs).abs().max()) <= 1e-6


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 1.0)])
@pytest.mark.parametrize("kind", ["apgd", "apgdt"])
def test_robust_accuracy_is_no_higher_than_theirs(
    digit_nets: dict[str, Classifier], kind: str, norm: str, eps: float
) -> None:
    torchattacks = peer("torchattacks")
    clf = digit_nets["robust"]
    x, y = load_data("digits", split="test").take(100)
    with clf.borrowed() as model:
        settings = {"norm": NORMS[norm], "eps": eps, "steps": 20}
        theirs = {
            "apgd": torchattacks.APGD(model, **settings),
            "apgdt": torchattacks.APGDT(model, **settings, n_classes=10),
        }[kind]
        standing = clf.predict(theirs(x, y)) == y
    attack = {"apgd": APGD, "apgdt": APGDT}[kind].parse({"norm": norm, "eps": eps, "steps": 20})
    result = attack(clf, x, y, stop="fooled")
    assert 0 < int(standing.sum()) < 100
    assert int((result.correct & ~result.success).sum()) <= int(standing.sum())
