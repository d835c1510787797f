"""APGD: when it looks at its step, what it keeps, and where it goes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.attacks import APGD, APGDT, PGD
from assay.attacks.losses import cross_entropy
from assay.attacks.methods.climb import Climb, nearest_in_l1
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.threats import NormBall

N = 32
RADIUS = {"linf": 0.1, "l2": 2.0, "l1": 20.0}


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, 12, 12), 0.05, 0.95)


@pytest.fixture(scope="module")
def clf(x: Tensor) -> Classifier:
    """Untrained, and rough: steps that are too long oscillate."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3),
        nn.Softplus(beta=20),
        nn.Conv2d(12, 12, 3),
        nn.Softplus(beta=20),
        nn.Flatten(),
        nn.Linear(768, 6),
    )
    clf = Classifier(model, mean=[0.5] * 3, std=[0.02] * 3)
    with torch.no_grad():
        model[5].weight *= 4
        model[5].bias -= clf.query(x).mean(0)
    return clf


class OneHill(nn.Module):
    """Logits (-(pixel - 0.56)², 0, ...): cross entropy of class 1 rises up to 0.56."""

    def forward(self, x: Tensor) -> Tensor:
        height = -((x.flatten(1)[:, :1] - 0.56) ** 2) * 100
        return torch.cat([height, torch.zeros(len(x), 2)], dim=1)


def walk(attack: APGD, model: Any, x: Tensor, y: Tensor, start: Tensor) -> list[Tensor]:
    """Return every point that is evaluated, from `start`, and last the result."""

    class Started(NormBall):
        def random_start(self, x: Tensor, rng: Any) -> Tensor:
            del x, rng
            return start

    clf = Classifier(model)
    asked = []
    model.register_forward_pre_hook(lambda _, given: asked.append(given[0].detach().clone()))
    threat = Started(norm=attack.norm, eps=attack.eps)
    rng = Stream(0).rows(range(len(x)))
    search = attack.search(
        clf, x, y, threat=threat, loss=attack.objective(False), targeted=False, rng=rng
    )
    with clf.borrowed():
        *_, last = search
    return [*asked, last.adversarial]


class TestOneRun:
    def test_it_looks_at_its_step_when_the_paper_says(self, monkeypatch: Any) -> None:
        looks = []
        check = Climb.check
        points = iter(range(1000))
        note = Climb.note

        def noted(self: Climb, loss: Tensor) -> None:
            self.point = next(points)  # type: ignore[attr-defined]
            note(self, loss)

        def checked(self: Climb, *rest: Any) -> None:
            looks.append(self.point)  # type: ignore[attr-defined]
            check(self, *rest)

        monkeypatch.setattr(Climb, "note", noted)
        monkeypatch.setattr(Climb, "check", checked)
        x = torch.full((1, 1, 1, 1), 0.5)
        walk(APGD(eps=0.1), OneHill(), x, torch.tensor([1]), x)
        # Croce & Hein 2020, section 3: ceil(p · 100), p = 0.22, then less by 0.03, at least 0.06
        assert looks == [22, 41, 57, 70, 80, 87, 93, 99]

    def test_the_first_points_by_hand(self) -> None:
        x = torch.full((1, 1, 1, 1), 0.5)
        path = walk(APGD(eps=0.05, steps=3), OneHill(), x, torch.tensor([1]), x)
        # a step of 2 · eps meets the ball's edge, 0.55, and stays: the hill lies beyond
        assert [round(float(p), 4) for p in path] == [0.5, 0.55, 0.55, 0.55, 0.55]
        path = walk(APGD(eps=0.2, steps=9), OneHill(), x, torch.tensor([1]), x)
        # One step, unmixed: 0.5 + 0.4, projected on 0.7. That is lower, and with so few steps each
        # is looked at: the step is halved to 0.2, and goes from 0.5 again, 3/4 of the way: 0.65.
        # Its loss is higher than at 0.7, so the step stays. Now downhill to 0.45, of which 3/4, and
        # 1/4 of the move from 0.5: 0.65 - 0.15 + 0.0375.
        assert [round(float(p), 4) for p in path[:4]] == [0.5, 0.7, 0.65, 0.5375]
        # On to 0.7375, projected on 0.7: 3/4 of 0.1625, less 1/4 of 0.1125
        assert float(path[4]) == pytest.approx(0.5375 + 0.121875 - 0.028125)

    def test_a_peak_that_stays_halves_the_step_though_the_loss_rises_often(self) -> None:
        # Croce & Hein 2020, section 3, condition 2. Looks come every 5 steps here, and 4 rises are
        # more than 0.75 · 5, so that condition 1 never halves.
        at = Climb.at(torch.zeros(2, 1, 1, 1), torch.zeros(2), 0.8)
        at.note(torch.tensor([0.0, 0.0]))
        sizes = []
        for first, second in [
            ((1, 2, 3, 4, 10), (1, 2, 3, 4, 10)),  # the first peaks
            ((1, 2, 3, 4, 5), (6, 7, 8, 9, 11)),  # stays at 10: halved; goes to 11
            ((6, 7, 8, 9, 9.5), (1, 2, 3, 4, 5)),  # stays, but was just halved; stays: halved
            ((1, 2, 3, 4, 5), (6, 7, 8, 9, 10)),  # stays, not halved last time: halved; just halved
        ]:
            for pair in zip(first, second, strict=True):
                at.note(torch.tensor(pair))
            at.check(at.adv, 0.75 * 5, 0.4)
            sizes.append([round(float(size), 6) for size in at.size])
        assert sizes == [[0.8, 0.8], [0.4, 0.8], [0.4, 0.4], [0.2, 0.4]]

    @pytest.mark.parametrize(("last", "size"), [(2.5, 0.4), (4.0, 0.8)])
    def test_as_many_rises_as_rho_asks_for_are_too_few(self, last: float, size: float) -> None:
        # "at most" rho · steps halves, as in the authors' code: 3 rises of 0.75 · 4, not 4
        at = Climb.at(torch.zeros(1, 1, 1, 1), torch.zeros(1), 0.8)
        for loss in (0.0, 1.0, 2.0, 3.0, last):
            at.note(torch.tensor([loss]))
        at.check(at.adv, 0.75 * 4, 0.4)
        assert float(at.size) == pytest.approx(size)

    def test_the_step_shrinks_until_the_top_is_met(self) -> None:
        x = torch.full((1, 1, 1, 1), 0.5)
        path = walk(APGD(eps=0.2, steps=100), OneHill(), x, torch.tensor([1]), x)
        assert abs(float(path[-1]) - 0.56) < 0.004
        fixed = PGD(eps=0.2, steps=100, step_size=0.4, random_start=False)
        ends = fixed.perturb(
            Classifier(OneHill()),
            x,
            torch.tensor([1]),
            threat=fixed.threat,
            loss=cross_entropy,
            rng=Stream(0).rows([0]),
        )
        assert abs(float(ends) - 0.56) > 0.1  # what a step of 2 · eps alone does

    @pytest.mark.parametrize("norm", RADIUS)
    def test_its_result_is_the_best_point_it_evaluated(
        self, clf: Classifier, x: Tensor, norm: str
    ) -> None:
        y = clf.predict(x)
        attack = APGD(norm=norm, eps=RADIUS[norm], steps=20)
        threat, loss = attack.threat, attack.objective(False)
        rng = Stream(0).rows(range(N))
        with clf.borrowed():
            search = attack.search(clf, x, y, threat=threat, loss=loss, targeted=False, rng=rng)
            seen = [iterate.adversarial.clone() for iterate in search]
        answers = [clf.query(point) for point in seen]
        losses = torch.stack([loss(answer, y) for answer in answers[:-1]])
        fooled = torch.stack([answer.argmax(1) != y for answer in answers[:-1]])
        losses = losses.masked_fill(~fooled & fooled.any(0), -torch.inf)
        inside = torch.stack([threat.contains(x, point) for point in seen])
        assert bool(inside.all())
        assert torch.allclose(loss(answers[-1], y), losses.amax(0), atol=1e-4)
        assert not torch.allclose(losses[-1], losses.amax(0), atol=1e-4)  # the last is not the best

    @pytest.mark.parametrize("norm", RADIUS)
    def test_it_climbs_higher_than_pgd_with_as_many_gradients(
        self, clf: Classifier, x: Tensor, norm: str
    ) -> None:
        y = clf.predict(x)
        ball = {"norm": norm, "eps": RADIUS[norm]}
        found = APGD.parse({**ball, "steps": 39})(clf, x, y).adversarial
        plain = PGD.parse({**ball, "steps": 40})(clf, x, y).adversarial
        gain = cross_entropy(clf.query(found), y) - cross_entropy(clf.query(plain), y)
        assert float(gain.mean()) > 0
        assert float((gain > 0).float().mean()) > 0.5

    def test_it_finds_the_target_it_is_given(self, clf: Classifier, x: Tensor) -> None:
        y = clf.predict(x)
        goal = (y + 2) % 6
        for loss in ("ce", "dlr"):
            attack = APGD.parse({"eps": 8 / 255, "steps": 30, "loss": loss})
            result = attack(clf, x, y, targets=goal)
            assert result.success_rate.value > 0.9
            assert torch.equal(clf.predict(result.adversarial) == goal, result.success)

    def test_restarts_draw_other_starts(self, clf: Classifier, x: Tensor) -> None:
        once, twice = (
            APGD(eps=0.1, steps=5, restarts=times)(clf, x, stop="never") for times in (1, 2)
        )
        assert twice.queries.tolist() == [1 + 2 * 7] * N
        loss = APGD().objective(False)
        better = loss(clf.query(twice.adversarial), twice.labels) - loss(
            clf.query(once.adversarial), once.labels
        )
        assert float((better > 1e-4).float().mean()) > 0.1


class Fan(nn.Module):
    """Class 0 leads; class k of the others is reached by pixel k alone, and only 3 within 0.1."""

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(1) - 0.5
        rest = torch.stack(
            [0.3 + pixels[:, 1], 0.2 + pixels[:, 2], 30 * pixels[:, 3] - 2.09, pixels[:, 4]], dim=1
        )
        return torch.cat([torch.full((len(x), 1), 0.9), rest], dim=1)


class TestTargets:
    x = torch.full((4, 1, 1, 5), 0.5)
    y = torch.zeros(4, dtype=torch.int64)

    def test_every_ranked_class_is_tried(self) -> None:
        # from the image, class 3 ranks last of all: the fourth target
        rates = [
            APGDT(eps=0.1, steps=10, n_target_classes=count)(
                Classifier(Fan()), self.x, self.y
            ).success_rate.value
            for count in (1, 2, 3, 4)
        ]
        assert rates == [0, 0, 0, 1]

    def test_a_class_reached_ends_the_search(self) -> None:
        result = APGDT(eps=0.1, steps=10)(Classifier(Fan()), self.x, self.y, stop="fooled")
        assert result.adversarial_prediction.tolist() == [3] * 4
        spent = int(result.queries[0])
        assert 1 + 1 + 3 * 11 < spent <= 1 + 1 + 4 * 11 + 1
        # the clean image; its ranking; 11 gradients for each of 4 others; the confirmation
        assert (
            APGDT(eps=0.01, steps=10)(Classifier(Fan()), self.x, self.y).queries.tolist()
            == [1 + 1 + 4 * 11 + 1] * 4
        )


@given(
    seed=st.integers(0, 2**31),
    eps=st.floats(0.01, 20),
    spread=st.floats(0.01, 5),
)
def test_the_l1_projection_is_the_nearest_point(seed: int, eps: float, spread: float) -> None:
    rng = Stream(seed).rows(range(8))
    x = rng.uniform((1, 4, 5)).double().clamp(0, 1)
    x[0, 0, 0] = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5])
    away = x + spread * rng.normal((1, 4, 5)).double()
    found = nearest_in_l1(x, away, eps)
    assert bool(NormBall(norm="l1", eps=eps).contains(x.float(), found.float()).all())
    # nearest of a convex set: every other point of it lies on the far side of the plane there
    for _ in range(5):
        other = NormBall(norm="l1", eps=eps).random_start(x.float(), rng).double()
        other = (
            torch.where(rng.uniform() < 0.5, 1.0, 0.3).double().view(-1, 1, 1, 1) * (other - x) + x
        )
        side = ((away - found) * (other - found)).flatten(1).sum(1)
        assert float(side.max()) <= 1e-5 * spread * (1 + eps)
    # and nothing of the radius is left unused where the box does not end it
    wanted = (away.clamp(0, 1) - x).abs().flatten(1).sum(1).clamp_max(eps)
    assert torch.allclose((found - x).abs().flatten(1).sum(1), wanted, atol=1e-5)
