"""DeepFool and Carlini-Wagner are those of foolbox and torchattacks, and come as near."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import CarliniWagner, DeepFool
from assay.core.classifier import Classifier
from assay.core.random import Stream

from .peers import peer

N = 24


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(12 * 49, 10)
    ).eval()
    model[3].bias.data += 5  # torchattacks' CW takes 0 for the largest of negative logits
    return model


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(2).rows(range(N)).uniform((3, 16, 16), 0.2, 0.8)


@pytest.fixture(scope="module")
def y(net: nn.Module, x: Tensor) -> Tensor:
    return Classifier(net).predict(x)


def by_foolbox(method: Any, net: nn.Module, x: Tensor, criterion: str, y: Tensor) -> Tensor:
    from foolbox import PyTorchModel, criteria

    return method.run(PyTorchModel(net, bounds=(0, 1)), x, getattr(criteria, criterion)(y))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_is_foolboxs(net: nn.Module, x: Tensor, y: Tensor, norm: str) -> None:
    peer("foolbox")
    import foolbox.attacks as fa

    method = {"l2": fa.L2DeepFoolAttack, "linf": fa.LinfDeepFoolAttack}[norm]()
    theirs = by_foolbox(method, net, x, "Misclassification", y)
    found = DeepFool(norm=norm)(Classifier(net), x)
    assert bool(found.success.all())
    apart = found.threat.distance(theirs, found.adversarial)
    assert float(apart.max()) <= {"l2": 1e-3, "linf": 2e-4}[norm]  # it goes 1e-4 further a step


def test_deepfool_is_torchattacks(net: nn.Module, x: Tensor, y: Tensor) -> None:
    theirs = peer("torchattacks").DeepFool(net)(x, y)
    found = DeepFool()(Classifier(net), x)
    assert float((found.adversarial - theirs).flatten(1).norm(dim=1).max()) <= 1e-3


@pytest.mark.parametrize("targeted", [False, True])
def test_carlini_wagner_is_foolboxs(net: nn.Module, x: Tensor, y: Tensor, targeted: bool) -> None:
    peer("foolbox")
    import foolbox.attacks as fa

    method = fa.L2CarliniWagnerAttack(
        binary_search_steps=4, steps=40, initial_const=0.1, abort_early=False
    )
    goal = (y + 1) % 10 if targeted else y
    criterion = "TargetedMisclassification" if targeted else "Misclassification"
    theirs = by_foolbox(method, net, x, criterion, goal)
    attack = CarliniWagner(searches=4, steps=40, initial_c=0.1, abort_early=False)
    found = attack(Classifier(net), x, targets=goal if targeted else None)
    assert float(found.success.float().mean()) >= 0.9
    apart = (found.adversarial - theirs).flatten(1).norm(dim=1)[found.success]
    assert float((apart < 1e-4).float().mean()) >= 0.9  # in others a point is too near to be sure


def test_carlini_wagner_with_one_c_is_torchattacks(net: nn.Module, x: Tensor, y: Tensor) -> None:
    # Steps so small that the loss of the batch falls throughout: theirs ends where it does not.
    theirs = peer("torchattacks").CW(net, c=10, steps=40, lr=0.002)(x, y)
    attack = CarliniWagner(searches=1, steps=40, step_size=0.002, initial_c=10.0, abort_early=False)
    found = attack(Classifier(net), x)
    assert int(found.success.sum()) >= N // 2
    distance = (theirs - x).flatten(1).norm(dim=1)
    share = (found.distance / distance)[found.success]
    # Theirs measures from the image itself, and makes steps of the rounding of that.
    assert float((share <= 1.0001).float().mean()) >= 0.9
    assert float(share.median()) >= 0.98
