"""Each flag is raised by a model made to raise it, and by no healthy one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import FGSM, PGD, Attack, AttackResult
from assay.attacks import reliability as rel
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError

N = 32


class Scaled(nn.Module):
    """Logits times `factor`: saturates the cross entropy, changes no prediction."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.factor


class Rounded(nn.Module):
    """Reads the image in 16 grey levels: the gradient is zero almost everywhere."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x * 16).round() / 16 + 0.0 * x)


class Noisy(nn.Module):
    """Draws on every call."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 0.02 * torch.randn_like(x))


class Saw(nn.Module):
    """Class 1 where the mean brightness lies within 0.02 of 0.6 or above 0.9, else class 0.

    From 0.56 one step of 0.03 lands there; smaller steps and larger ones pass it by.
    """

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([(mean - 0.6).abs() - 0.02, 0 * mean], 1) * 10


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, 12, 12))


@pytest.fixture(scope="module")
def net(x: Tensor) -> nn.Module:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(800, 5)).eval()
    with torch.no_grad():
        model[3].bias -= model(x).mean(0)
    return model


@pytest.fixture(scope="module")
def y(net: nn.Module, x: Tensor) -> Tensor:
    return Classifier(net).predict(x)


def test_saturated_loss(net: nn.Module, x: Tensor, y: Tensor) -> None:
    healthy = rel.vanishing_gradients(Classifier(net), x, y)
    assert (healthy.code, healthy.raised) == ("REL-001", False)
    saturated = Classifier(Scaled(net, 1e4))
    flag = rel.vanishing_gradients(saturated, x, y)
    assert flag.raised
    assert "use the margin loss" in flag.detail
    assert not rel.vanishing_gradients(saturated, x, y, loss="margin").raised


def test_no_gradient_at_all(net: nn.Module, x: Tensor, y: Tensor) -> None:
    flag = rel.vanishing_gradients(Classifier(Rounded(net)), x, y)
    assert flag.raised
    assert f"{N} have a zero" in flag.detail
    assert "hides its gradients" in flag.detail


def saw_result(attack: Attack) -> AttackResult:
    return attack(Classifier(Saw()), torch.full((8, 1, 4, 4), 0.56), torch.zeros(8).long())


def test_larger_budget_does_worse(net: nn.Module, x: Tensor, y: Tensor) -> None:
    small, large = (saw_result(FGSM(eps=eps)) for eps in (0.03, 0.2))
    assert (int(small.success.sum()), int(large.success.sum())) == (8, 0)
    flag = rel.larger_budget_worse([large, small])
    assert (flag.code, flag.raised) == ("REL-002", True)
    assert "eps 0.03 fooled 8 of 8 images, eps 0.2 only 0" in flag.detail
    healthy = [PGD(eps=eps, steps=5)(Classifier(net), x, y) for eps in (0.0, 0.005, 0.05)]
    assert not rel.larger_budget_worse(healthy).raised
    with pytest.raises(AssayError, match="at least two budgets"):
        rel.larger_budget_worse(healthy[:1])


def test_many_steps_do_worse_than_one(net: nn.Module, x: Tensor, y: Tensor) -> None:
    single = saw_result(FGSM(eps=0.03))
    overshooting = PGD(eps=0.03, steps=2, step_size=0.03, random_start=False)
    many = saw_result(overshooting)
    assert int(many.success.sum()) == 8  # the projection saves it
    passing = saw_result(PGD(eps=0.03, steps=1, step_size=0.015, random_start=False))
    flag = rel.iterated_worse(single, passing)
    assert (flag.code, flag.raised) == ("REL-003", True)
    assert "fgsm fooled 8 and pgd 0 of 8" in flag.detail
    clf = Classifier(net)
    assert not rel.iterated_worse(FGSM(eps=0.01)(clf, x, y), PGD(eps=0.01)(clf, x, y)).raised
    with pytest.raises(AssayError, match="one threat"):
        rel.iterated_worse(FGSM(eps=0.01)(clf, x, y), PGD(eps=0.02)(clf, x, y))


@pytest.mark.parametrize(
    "attack",
    [PGD(eps=0.001, steps=10, step_size=0.0002), PGD(norm="l2", eps=0.01), PGD(norm="l1", eps=0.1)],
)
def test_unbounded_and_still_failing(net: nn.Module, x: Tensor, y: Tensor, attack: PGD) -> None:
    healthy = rel.unbounded_fails(attack, Classifier(net), x, y)
    assert (healthy.code, healthy.raised) == ("REL-004", False)
    assert f"{N} of {N}" in healthy.detail
    assert not bool(attack(Classifier(net), x, y).success.all())  # it was not trivially so
    steps = {**attack.model_dump(), "random_start": False}
    hidden = rel.unbounded_fails(PGD.parse(steps), Classifier(Rounded(net)), x, y)
    assert hidden.raised


def test_randomised(net: nn.Module, x: Tensor) -> None:
    assert not rel.randomised(Classifier(net), x).raised
    flag = rel.randomised(Classifier(Noisy(net)), x)
    assert (flag.code, flag.raised) == ("REL-005", True)


def test_dropout_does_not_count_as_random(net: nn.Module, x: Tensor) -> None:
    assert not rel.randomised(Classifier(nn.Sequential(nn.Dropout(0.5), net).train()), x).raised


def test_probabilities(net: nn.Module) -> None:
    model = nn.Sequential(net, nn.Softmax(1))
    flag = rel.outputs_were_probabilities(Classifier(model, outputs="probabilities"))
    assert (flag.code, flag.raised) == ("REL-006", True)
    assert not rel.outputs_were_probabilities(Classifier(net)).raised


def test_rounding_undoes_success(net: nn.Module, x: Tensor) -> None:
    grey = (x * 255).round() / 255
    labels = Classifier(net).predict(grey)
    found = PGD(eps=0.03, steps=5)(Classifier(net), grey, labels)
    assert found.success_rate.value > 0.5
    assert not rel.rounding_undoes(found).raised
    # a quarter of a grey level: rounding brings every pixel back
    bright = torch.full((6, 1, 4, 4), 128 / 255)
    edge = Classifier(Threshold(128.1 / 255))
    fine = PGD(eps=0.25 / 255, steps=5)(edge, bright, torch.zeros(6).long())
    assert fine.success_rate.value == 1.0
    assert fine.after_rounding.value == 0.0
    flag = rel.rounding_undoes(fine)
    assert (flag.code, flag.raised) == ("REL-007", True)
    assert "0 of 6 successes survive" in flag.detail


class Threshold(nn.Module):
    """Class 1 where the mean brightness exceeds `at`."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([self.at - mean, mean - self.at], 1) * 100


def test_checks_leave_the_model_as_it_was(net: nn.Module, x: Tensor, y: Tensor) -> None:
    checks: list[Callable[[Classifier], object]] = [
        lambda clf: rel.vanishing_gradients(clf, x, y),
        lambda clf: rel.unbounded_fails(PGD(eps=0.01, steps=3), clf, x, y),
        lambda clf: rel.randomised(clf, x),
    ]
    for check in checks:
        net.train()
        check(Classifier(net))
        assert all(module.training for module in net.modules())
        assert all(p.requires_grad and p.grad is None for p in net.parameters())
    net.eval()
