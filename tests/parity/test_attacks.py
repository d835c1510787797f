"""From the same start, FGSM and PGD are those of torchattacks and foolbox."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import FGSM, PGD
from assay.attacks.losses import cross_entropy
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.threats import NormBall

from .peers import peer

N = 32
STEPS = 8
BUDGETS = [("linf", 8 / 255, 2 / 255), ("l2", 0.7, 0.15)]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(12 * 49, 10)
    ).eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(2).rows(range(N)).uniform((3, 16, 16))


@pytest.fixture(scope="module")
def y(net: nn.Module, x: Tensor) -> Tensor:
    return Classifier(net).predict(x)


def ours(attack: FGSM | PGD, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Run on the original in float32, without the runner."""
    clf = Classifier(net)
    rng = Stream(0).rows(range(len(x)))
    with clf.borrowed():
        return attack.perturb(clf, x, y, threat=attack.threat, loss=cross_entropy, rng=rng)


@pytest.mark.parametrize(("norm", "eps", "size"), BUDGETS)
def test_pgd_is_torchattacks(
    net: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, size: float
) -> None:
    torchattacks = peer("torchattacks")
    kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[norm]
    theirs = kind(net, eps=eps, alpha=size, steps=STEPS, random_start=False)(x, y)
    attack = PGD(norm=norm, eps=eps, steps=STEPS, step_size=size, random_start=False)
    assert float((ours(attack, net, x, y) - theirs).abs().max()) <= 1e-6


@pytest.mark.parametrize(("norm", "eps", "size"), BUDGETS)
def test_pgd_is_foolbox_from_any_start(
    net: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, size: float
) -> None:
    peer("foolbox")
    import foolbox.attacks as fa
    from foolbox import PyTorchModel
    from foolbox.criteria import Misclassification

    start = NormBall(norm=norm, eps=eps).random_start(x, Stream(0).rows(range(N)))
    base = {"linf": fa.LinfPGD, "l2": fa.L2PGD}[norm]

    class Started(base):  # type: ignore[misc, valid-type]
        def get_random_start(self, x0: Any, epsilon: float) -> Any:
            del epsilon
            return type(x0)(start)

    method = Started(abs_stepsize=size, steps=STEPS, random_start=True)
    model = PyTorchModel(net, bounds=(0, 1))
    theirs = method.run(model, x, Misclassification(y), epsilon=eps)
    attack = PGD(norm=norm, eps=eps, steps=STEPS, step_size=size)
    assert float((ours(attack, net, x, y) - theirs).abs().max()) <= 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_is_foolbox(net: nn.Module, x: Tensor, y: Tensor, norm: str) -> None:
    peer("foolbox")
    import foolbox.attacks as fa
    from foolbox import PyTorchModel
    from foolbox.criteria import Misclassification

    eps = {norm: eps for norm, eps, _ in BUDGETS}[norm]
    method = {"linf": fa.LinfFastGradientAttack, "l2": fa.L2FastGradientAttack}[norm]()
    model = PyTorchModel(net, bounds=(0, 1))
    theirs = method.run(model, x, Misclassification(y), epsilon=eps)
    assert float((ours(FGSM(norm=norm, eps=eps), net, x, y) - theirs).abs().max()) <= 1e-6


@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize(("norm", "eps", "size"), [("linf", 2 / 255, 1 / 255), ("l2", 0.2, 0.05)])
def test_robust_accuracy_is_no_higher_than_theirs(
    net: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, size: float, stop: Any
) -> None:
    torchattacks = peer("torchattacks")
    kind = {"linf": torchattacks.PGD, "l2": torchattacks.PGDL2}[norm]
    theirs = kind(net, eps=eps, alpha=size, steps=STEPS, random_start=False)(x, y)
    clf = Classifier(net)
    standing = int((clf.predict(theirs) == y).sum())
    attack = PGD(norm=norm, eps=eps, steps=STEPS, step_size=size, random_start=False)
    found = attack(clf, x, y, stop=stop)
    assert 0 < standing < N
    assert int((found.correct & ~found.success).sum()) <= standing
