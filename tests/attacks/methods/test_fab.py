"""FAB: its step by hand, how near it comes, and what its settings do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import FAB, Attack, CarliniWagner, DeepFool
from assay.attacks.methods.hyperplanes import to_hyperplane
from assay.attacks.methods.minimum_norm import Nearest
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.threats import Norm, NormBall

N, K, SHAPE = 24, 5, (3, 4, 4)
ORDER = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}


class Curved(nn.Module):
    """Boundaries that bend: several steps are needed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, K))
        self.net[1].weight.data *= 12

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform(SHAPE, 0.2, 0.8)


@pytest.fixture(scope="module")
def clf() -> Classifier:
    return Classifier(Curved())


def plane(slope: Tensor, at: float) -> Classifier:
    """Class 0 before the hyperplane slope·x = at, class 1 behind it."""
    layer = nn.Linear(slope.numel(), 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([0 * slope.flatten(), slope.flatten()]))
        layer.bias.copy_(torch.tensor([0.0, -at]))
    return Classifier(nn.Sequential(nn.Flatten(), layer))


class Masked(nn.Module):
    """A model of one class more, whose logit is always the same and far below all others."""

    def __init__(self, net: nn.Module, logit: float) -> None:
        super().__init__()
        self.net, self.logit = net, logit

    def forward(self, x: Tensor) -> Tensor:
        seen = self.net(x)
        return torch.cat([seen, torch.full_like(seen[:, :1], self.logit)], dim=1)


@pytest.mark.parametrize("logit", [-1e4, -1e9, -torch.inf])
@pytest.mark.parametrize(
    "attack",
    [
        FAB(norm="l2", steps=10),
        DeepFool(norm="l2"),
        CarliniWagner(steps=40, searches=3, initial_c=1.0, step_size=0.05),
    ],
    ids=lambda attack: attack.name,
)
def test_a_masked_class_does_not_keep_it_away(
    clf: Classifier, x: Tensor, attack: Attack, logit: float
) -> None:
    """-inf, or a number that stands for it, is what a class is given that is not to be answered."""
    plain = attack(clf, x)
    masked = attack(Classifier(Masked(clf.model, logit)), x)
    assert bool(plain.success.all())
    assert torch.equal(masked.success, plain.success)
    torch.testing.assert_close(masked.distance, plain.distance, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ORDER)
def test_its_way_to_a_hyperplane_by_hand(norm: Norm) -> None:
    # The image is at 0 and the hyperplane at 1. The first step overshoots to eta = 1.3. Drawn back,
    # 0.9 · 1.3 = 1.17 is adversarial still. From there the projection is 0.17 behind, so the next
    # point is 0.9 · (1.17 - 1.3 · 0.17) + 0.1 · 1.3 = 0.984, which is not. Regula falsi between 0
    # and 1.17, a hundredth further out: 1 + 0.01 · 0.17; then 1 + 0.01 · 0.0017; and so on.
    slope = Stream(2).rows([0]).normal(SHAPE)
    x = torch.full((1, *SHAPE), 0.5)
    middle = float((slope * x).sum())
    most = {"linf": slope.abs().sum(), "l2": slope.norm(), "l1": slope.abs().max()}[norm]
    clf = plane(slope, middle + 0.1 * float(most))  # 0.1 away
    attack = FAB(norm=norm, steps=2, eta=1.3, beta=0.9, alpha_max=0.1)
    settings = {"threat": attack.threat, "loss": attack.objective(False), "targeted": False}
    search = attack.search(clf, x, torch.tensor([0]), rng=Stream(0).rows([0]), **settings)
    with clf.borrowed():
        points = [iterate.adversarial for iterate in search]
    far = [float(attack.threat.distance(x, point)) / 0.1 for point in points]
    expected = [0, 1.3, 1.17, 1.17, 1.0017, 1.000017, 1, 1]
    assert far == pytest.approx(expected, abs=3e-4)  # and SURE


@pytest.mark.parametrize(("alpha_max", "eta"), [(0.1, 1.05), (0.5, 1.05), (0.0, 1.05), (0.1, 1.5)])
def test_a_step_lies_between_two_projections_by_hand(alpha_max: float, eta: float) -> None:
    # The hyperplane is at 0.7 of the first pixel: 0.1 from the point, 0.2 from the image, so that
    # alpha is 1/3, or at most alpha_max.
    x, adv = torch.tensor([0.5, 0.5]), torch.tensor([0.6, 0.7])
    attack = FAB(norm="l2", alpha_max=alpha_max, eta=eta)
    lead, slope = torch.tensor([-0.1]), torch.tensor([1.0, 0.0])
    (found,) = attack._step(*(at.view(1, 1, 1, 2) for at in (x, adv)), lead, slope.view(1, 1, 1, 2))
    alpha = min(1 / 3, alpha_max)
    across = (1 - alpha) * (0.6 + 0.1 * eta) + alpha * (0.5 + 0.2 * eta)
    assert found.flatten().tolist() == pytest.approx([across, 0.7 - 0.2 * alpha], abs=1e-6)


@pytest.mark.parametrize("norm", ORDER)
def test_on_hyperplanes_it_comes_to_the_nearest_point_of_the_box(norm: Norm) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(48, K)
    x = Stream(6).rows(range(N)).uniform(SHAPE)  # half of the pixels near an end
    x = (2 * x - 0.5).clamp(0, 1)
    with torch.no_grad():
        layer.bias -= layer(x.flatten(1)).mean(0)
    clf = Classifier(nn.Sequential(nn.Flatten(), layer))
    logits, y = clf.query(x), clf.predict(x)
    ways = []
    for k in range(K):
        slope = (layer.weight[k] - layer.weight[y]).detach().view_as(x)
        lead = logits[:, k] - logits.gather(1, y[:, None])[:, 0]
        moved = to_hyperplane(x, lead, slope, norm).flatten(1)
        away = torch.linalg.vector_norm(moved, ORDER[norm], dim=1)
        there = (lead + (moved * slope.flatten(1)).sum(1)).abs() < 1e-5
        ways.append(away.masked_fill((y == k) | ~there, torch.inf))
    found = FAB(norm=norm, steps=10, n_target_classes=K - 1)(clf, x)
    assert bool(found.success.all())
    torch.testing.assert_close(found.distance, torch.stack(ways).amin(0), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_comes_nearer_than_deepfool(clf: Classifier, x: Tensor, norm: Norm) -> None:
    found, straight = FAB(norm=norm, steps=20)(clf, x), DeepFool(norm=norm)(clf, x)
    assert bool(found.success.all())
    assert float((found.distance < straight.distance).float().mean()) >= 0.8
    assert float((found.distance / straight.distance).mean()) < 0.95


def test_restarts_come_nearer(clf: Classifier, x: Tensor) -> None:
    once, often = (FAB(norm="l2", steps=10, restarts=times)(clf, x) for times in (1, 4))
    assert bool((often.distance <= once.distance * (1 + 1e-4)).all())
    assert bool((often.distance < once.distance * 0.99).any())


@pytest.mark.parametrize("norm", ORDER)
def test_a_restart_begins_at_half_the_distance_found(norm: Norm) -> None:
    x = torch.full((3, *SHAPE), 0.5)
    found = Nearest.none_yet(NormBall(norm=norm, eps=0.4), x)
    found.distance = torch.tensor([0.1, 0.3, torch.inf])
    start = FAB(norm=norm)._start(found, Stream(0).rows(range(3)))
    assert found.threat.distance(x, start).tolist() == pytest.approx([0.05, 0.15, 0.2], rel=1e-4)
