"""From the same start APGD, APGDT and MI-FGSM are those of torchattacks, and fool as many."""

from __future__ import annotations

import importlib.util
from pathlib import Path
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

ROOT = Path(__file__).resolve().parents[2]
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


def standing(kind: str, attack: str, images: int, data: Path) -> tuple[Tensor, Tensor]:
    """Return which of the first `images` of CIFAR-10's test images stay right: ours, theirs."""
    torchattacks = peer("torchattacks")
    spec = importlib.util.spec_from_file_location("nets", ROOT / "benchmarks" / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    nets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nets)
    clf = nets.classifier(kind)
    x, y = load_data(str(data / "cifar10"), split="test").take(images)
    right = clf.predict(x) == y
    x, y = x[right], y[right]
    eps = {"natural": 1 / 255, "robust": 8 / 255}[kind]
    name, loss, steps = {
        "ce": ("apgd", "ce", 100),
        "dlr": ("apgd", "dlr", 100),
        "targeted": ("apgdt", "dlr", 20),
    }[attack]
    settings = {"eps": eps, "steps": steps}
    with clf.borrowed():
        model = nn.Sequential(Whole(clf)).eval()
        if name == "apgd":
            theirs: Any = torchattacks.APGD(model, **settings, loss=loss)
        else:
            theirs = torchattacks.APGDT(model, **settings, n_classes=10)
        moved = [theirs(*part) for part in zip(x.split(128), y.split(128), strict=True)]
        by_theirs = clf.predict(torch.cat(moved)) == y
    method = {"apgd": APGD, "apgdt": APGDT}[name].parse({**settings, "loss": loss})
    result = method(clf, x, y, stop="fooled")
    return ~result.success, by_theirs


class Whole(nn.Module):
    """A classifier with its normalisation, as a module."""

    def __init__(self, clf: Classifier) -> None:
        super().__init__()
        self.model, self.classifier = clf.model, clf

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.classifier.normalise(x))


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["ce", "dlr", "targeted"])
@pytest.mark.parametrize("kind", ["natural", "robust"])
def test_on_cifar_it_is_as_strong(shared_data: Path, kind: str, attack: str) -> None:
    ours_stand, theirs_stand = standing(kind, attack, 1000, shared_data)
    more = ours_stand.double() - theirs_stand.double()
    bound = float(more.mean() + 1.645 * more.std() / len(more) ** 0.5)
    assert 0.05 < float(theirs_stand.double().mean()) < 0.95
    assert bound <= 0.005, f"ours leaves {float(more.mean()):+.2%} more, bound {bound:+.2%}"
