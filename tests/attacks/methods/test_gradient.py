"""MI-FGSM's momentum, a method that is a step alone, and gradients averaged over a randomised
model."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from assay.attacks import APGD, FGSM, MIFGSM, PGD, Attack, FewPixel, Iterative, Universal
from assay.attacks.losses import margin
from assay.attacks.methods.gradient import finite, uphill
from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.threats import NormBall
from assay.errors import AssayError

N = 48


class Noisy(nn.Module):
    """A linear classifier of 2 classes behind random signs and gains of every weight: a draw's
    gradient says little of the mean model's, which is what the attacker has to fool."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self.noise = noise
        self.weight = nn.Parameter(Stream(7).rows([0]).normal((192,))[0])
        self.bias = nn.Parameter(torch.zeros(1))
        self.draws = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        gain = 1 + self.noise * torch.randn(x.shape[0], 192, generator=self.draws)
        score = ((x.flatten(1) - 0.5) * self.weight * gain).sum(1) + self.bias
        return torch.stack([score, -score], dim=1)


def fallen(attack: Attack, seed: int = 0) -> float:
    """Return by how much the margin of the mean model falls, over what it can fall by at most."""
    x = Stream(2).rows(range(N)).uniform((3, 8, 8), 0.3, 0.7)
    mean, clf = Classifier(Noisy(0.0)), Classifier(Noisy(8.0))
    y = mean.predict(x)
    result = attack(clf, x, y, attack_wrong=True, seed=seed)
    fall = margin(mean.query(result.adversarial), y) - margin(mean.query(x), y)
    most = 2 * attack.threat.eps * float(mean.model.weight.detach().abs().sum())
    return float(fall.mean()) / most


@pytest.mark.parametrize(
    "kind", [FGSM, PGD, MIFGSM, lambda **s: APGD(**s, steps=6)], ids=["fgsm", "pgd", "mi", "apgd"]
)
def test_the_mean_of_many_draws_finds_the_way_that_one_does_not(kind: Any) -> None:
    settings = {"eps": 0.02, "loss": "margin"}
    one, many = fallen(kind(**settings)), fallen(kind(**settings, eot=40))
    assert many > one + 0.2
    assert many > 0.45


def test_the_draws_are_paid_for() -> None:
    clf = Classifier(Noisy(0.0))
    x = torch.full((3, 3, 8, 8), 0.4)
    assert FGSM(eps=1e-6, eot=5)(clf, x).queries.tolist() == [1 + 5 + 1] * 3
    assert PGD(eps=1e-6, steps=4, eot=5)(clf, x).queries.tolist() == [1 + 4 * 5 + 1] * 3
    assert APGD(eps=1e-6, steps=4, eot=5)(clf, x).queries.tolist() == [1 + 5 * 5 + 1] * 3


def test_for_a_model_that_always_answers_the_same_they_change_nothing() -> None:
    clf = Classifier(Noisy(0.0))
    x = Stream(2).rows(range(4)).uniform((3, 8, 8), 0.3, 0.7)
    y = clf.predict(x)
    with clf.borrowed():
        once, often = (uphill(clf, x, y, margin, draws) for draws in (1, 4))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(once, often, strict=True))


class Turns(nn.Module):
    """The score's slope is 1 up to 0.52, then -2: momentum carries on, plain steps turn back."""

    def forward(self, x: Tensor) -> Tensor:
        beyond = (x.flatten(1)[:, :1] - 0.52).clamp_min(0)
        score = x.flatten(1)[:, :1] - 3 * beyond
        return torch.cat([score, torch.zeros(len(x), 1)], dim=1)


def test_momentum_by_hand() -> None:
    x = torch.full((1, 1, 1, 1), 0.5)

    def path(decay: float) -> list[float]:
        attack = MIFGSM(eps=0.1, steps=6, step_size=0.015, decay=decay, loss="margin")
        search = attack.search(
            Classifier(Turns()),
            x,
            torch.tensor([1]),
            threat=attack.threat,
            loss=margin,
            targeted=False,
            rng=Stream(0).rows([0]),
        )
        return [round(float(iterate.adversarial), 3) for iterate in search]

    # divided by their L1 norm gradients are +1 below 0.52 and -1 above it; their sums, kept whole:
    # 1, 2, 1, 0, -1 and 0 again, where a zero sum is no step
    assert path(1.0) == [0.5, 0.515, 0.53, 0.545, 0.545, 0.53, 0.515]
    assert path(0.0) == [0.5, 0.515, 0.53, 0.515, 0.53, 0.515, 0.53]


def test_its_step_is_dongs() -> None:
    clf = Classifier(Turns())
    x = torch.full((1, 1, 1, 1), 0.3)
    y = torch.tensor([1])  # not what it says, but what is to fall behind
    attack = MIFGSM(eps=0.1, steps=5, loss="margin")
    moved = attack(clf, x, y, attack_wrong=True).adversarial - x
    assert float(moved) == pytest.approx(0.1)  # 5 steps of eps / 5


class Heavy(Iterative):
    """The example of CONTRIBUTING.md."""

    name: Literal["heavy"] = "heavy"
    steps: PositiveInt = 10

    def start(self, x: Tensor, threat: NormBall, rng: Rows) -> tuple[Tensor, ...]:
        return threat.random_start(x, rng), torch.zeros_like(x)

    def step(
        self, at: tuple[Tensor, ...], slope: Tensor, x: Tensor, threat: NormBall
    ) -> tuple[Tensor, ...]:
        adv, speed = at
        speed = 0.9 * speed + threat.steepest(slope) * threat.eps / self.steps
        return threat.project(x, adv + speed), speed


def test_a_step_is_a_whole_method() -> None:
    x = Stream(2).rows(range(N)).uniform((3, 8, 8), 0.3, 0.7)
    clf, attack = Classifier(Noisy(0.0)), Heavy(eps=0.02)
    result = attack(clf, x, seed=1, stop="fooled")
    assert 0.2 < result.success_rate.value < 1
    assert len(result.steps[result.success].unique()) > 2  # they stop one after another
    alone = attack(clf, x[:9], seed=1, stop="fooled", batch_size=1)
    assert torch.equal(alone.success, result.success[:9])
    assert torch.allclose(alone.adversarial, result.adversarial[:9], atol=1e-6)
    failed = ~result.success
    assert bool((result.queries[failed] == 1 + 10 + 1).all())
    short = attack(clf, x, seed=1, query_budget=7)
    assert bool((short.queries == 7).all())
    assert bool(short.success.any())  # the last query was kept for the confirmation
    assert bool(short.cut[~short.success].all())


def test_a_slope_that_is_no_number_is_replaced_by_hand() -> None:
    nan, inf = float("nan"), float("inf")
    slope = torch.tensor([[1.0, -3.0, inf, -inf], [nan, 2.0, 0.5, inf], [nan, inf, nan, -inf]])
    assert finite(slope).tolist() == [[1, -3, 3, -3], [0, 2, 0.5, 2], [0, 0, 0, 0]]
    assert finite(slope[:, :0]) is not None
    known = torch.tensor([[1.0, -2.0]])
    assert finite(known) is known


class Gamma(nn.Module):
    """A linear classifier that takes the root of one value: its slope is infinite where that is
    0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(Stream(7).rows([0]).normal((192, 3)))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return torch.cat([flat[:, :1].sqrt(), flat[:, 1:]], dim=1) @ self.weight[0]


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(norm="l2", eps=4.0),
        PGD(norm="l2", eps=4.0),
        PGD(norm="l1", eps=40.0),
        APGD(norm="l2", eps=4.0, steps=10),
        APGD(norm="l1", eps=40.0, steps=10),
        MIFGSM(eps=0.3),
        FewPixel(eps=30),
    ],
    ids=lambda attack: f"{attack.name}-{attack.norm}",
)
def test_one_value_without_a_slope_does_not_hold_up_the_others(attack: Attack) -> None:
    clf = Classifier(Gamma())
    x = Stream(2).rows(range(N)).uniform((3, 8, 8), 0.3, 0.7)
    x[:, 0, 0, 0] = 0.0
    result = attack(clf, x)
    assert result.refused == 0
    assert result.success_rate.value > 0.9


def test_a_universal_perturbation_is_finite_where_a_slope_is_not() -> None:
    clf = Classifier(Gamma())
    x = Stream(2).rows(range(N)).uniform((3, 8, 8), 0.3, 0.7)
    x[:, 0, 0, 0] = 0.0
    assert bool(Universal(norm="l2", eps=1.0).fit(clf, x).delta.isfinite().all())


class Shifts(nn.Module):
    """Moves the image by as many pixels as Python draws, of which a graph sees one number."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = torch.Generator().manual_seed(0)
        self.inner = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        by = int(torch.randint(4, (), generator=self.draws))
        return self.inner(x.roll(by, dims=3))

    def __deepcopy__(self, memo: Any) -> Any:
        made = Shifts()
        made.load_state_dict(self.state_dict())
        return made


def test_a_model_whose_draws_are_averaged_is_queried_itself() -> None:
    clf = Classifier(Shifts().eval())
    x = Stream(2).rows(range(4)).uniform((3, 8, 8), 0.3, 0.7)
    for attack in (PGD(steps=2, eot=3), APGD(steps=2, eot=3)):
        fast = attack(clf, x).fast
        assert fast is not None
        assert not fast.used
        assert "averaged" in fast.why


def test_inference_mode_is_named_as_what_takes_the_gradients() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 1, 4, 4)
    clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3)))
    with torch.inference_mode(), pytest.raises(AssayError, match=r"inside torch\.inference_mode"):
        PGD(eps=0.1, steps=2)(clf, x)
