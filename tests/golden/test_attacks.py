"""On a linear model every attack can be worked out by hand.

logits = (w·x + b, 0), label 0. The margin w·x + b falls by eps·‖w‖₁ in Linf, by eps·‖w‖₂ in L2 and
by eps·max|w| in L1 (the dual norms), as long as no pixel meets the ends of [0, 1].
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import APGD, FGSM, MIFGSM, PGD, Attack, CarliniWagner, DeepFool, attacks
from assay.core.classifier import Classifier

W = torch.tensor([3.0, -4.0, 0.0, 12.0])
DUAL = {"linf": 19.0, "l2": 13.0, "l1": 12.0}
X = torch.full((1, 1, 2, 2), 0.5)
Y = torch.tensor([0])


def linear(bias: float) -> Classifier:
    """Margin at X: 5.5 + bias."""
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([W, torch.zeros(4)]))
        layer.bias.copy_(torch.tensor([bias, 0.0]))
    return Classifier(nn.Sequential(nn.Flatten(), layer))


def margin(clf: Classifier, x: Tensor) -> float:
    logits = clf.query(x)
    return float(logits[0, 0] - logits[0, 1])


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize(
    ("method", "accuracy"),
    [
        ({"name": "fgsm"}, 1e-5),
        ({"name": "mifgsm"}, 1e-5),
        ({"name": "apgd"}, 1e-3),
        ({"name": "pgd", "random_start": False}, 1e-5),
        ({"name": "pgd", "random_start": True}, 1e-2),  # in L2 a start off the axis leaves a rest
    ],
)
def test_the_margin_falls_by_the_dual_norm(
    method: dict[str, object], accuracy: float, norm: str, loss: str
) -> None:
    clf = linear(bias=1.0)
    attack = attacks()[str(method["name"])].parse(
        {**method, "norm": norm, "eps": 0.25, "loss": loss}
    )
    fallen = margin(clf, X) - margin(clf, attack(clf, X, Y).adversarial)
    assert fallen == pytest.approx(0.25 * DUAL[norm], rel=accuracy)


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("kind", [APGD, FGSM, MIFGSM, PGD])
def test_it_succeeds_just_where_the_margin_is_used_up(kind: type[Attack], norm: str) -> None:
    attack = kind.parse({"norm": norm, "eps": 0.25})
    reach = 0.25 * DUAL[norm]
    beaten, safe = linear(reach * 0.98 - 5.5), linear(reach * 1.02 - 5.5)
    assert attack(beaten, X, Y).success_rate.value == 1.0
    assert attack(safe, X, Y).success_rate.value == 0.0


def test_fgsm_moves_every_pixel_by_eps_against_its_weight() -> None:
    moved = FGSM(eps=0.1)(linear(1.0), X, Y).adversarial - X
    assert torch.allclose(moved.flatten(), torch.tensor([-0.1, 0.1, 0.0, -0.1]))


def test_fgsm_l2_moves_along_the_weights() -> None:
    moved = FGSM(norm="l2", eps=0.26)(linear(1.0), X, Y).adversarial - X
    assert torch.allclose(moved.flatten(), -0.26 * W / 13.0, atol=1e-6)


def test_fgsm_l1_fills_the_largest_weight_then_the_next() -> None:
    # pixel 3 has room for 0.5 only, the remaining 0.2 goes to pixel 1 (|w| = 4)
    moved = FGSM(norm="l1", eps=0.7)(linear(1.0), X, Y).adversarial - X
    assert torch.allclose(moved.flatten(), torch.tensor([0.0, 0.2, 0.0, -0.5]), atol=1e-6)


def test_the_ends_of_the_range_hold() -> None:
    edge = torch.tensor([0.05, 0.98, 0.5, 0.5]).view(1, 1, 2, 2)
    moved = FGSM(eps=0.1)(linear(1.0), edge, Y).adversarial
    assert torch.allclose(moved.flatten(), torch.tensor([0.0, 1.0, 0.5, 0.4]))


def test_pgd_steps_cross_the_ball_twice() -> None:
    # eps 0.1, 8 steps: 4 · 0.1 / 8 = 0.05 each, so the ball's edge is met after two
    clf = linear(1.0)
    one = PGD(eps=0.1, steps=8, random_start=False)
    seen = [
        iterate.adversarial - X
        for iterate in one.search(
            clf, X, Y, threat=one.threat, loss=one.objective(False), targeted=False, rng=None
        )
    ]
    assert [round(float(step.abs().max()), 6) for step in seen] == [0, 0.05] + [0.1] * 7


def test_deepfool_goes_straight_to_the_hyperplane_and_a_fiftieth_beyond() -> None:
    # margin 1.3: in L2 0.1 away along W / 13, in Linf 1.3 / 19 along the signs
    clf = linear(bias=-4.2)
    l2 = DeepFool()(clf, X, Y)
    assert torch.allclose(l2.adversarial - X, -0.102 * W.view(1, 1, 2, 2) / 13, atol=1e-5)
    linf = DeepFool(norm="linf")(clf, X, Y)
    moved = -1.02 * 1.3 / 19 * W.sign().view(1, 1, 2, 2)
    assert torch.allclose(linf.adversarial - X, moved, atol=1e-5)
    assert l2.success.tolist() == linf.success.tolist() == [True]


def test_deepfool_takes_the_nearest_boundary_not_the_highest_logit() -> None:
    # the second class trails by 1 along a slope of 1, the third by 2 along one of 10: 0.2 away
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 6, 8]]))
        layer.bias.copy_(torch.tensor([0.0, -1.5, -9.0]))
    clf = Classifier(nn.Sequential(nn.Flatten(), layer))
    found = DeepFool()(clf, X, Y)
    assert found.adversarial_prediction.tolist() == [2]
    expected = torch.tensor([0.0, 0.0, 0.6, 0.8]) * 0.204
    assert torch.allclose((found.adversarial - X).flatten(), expected, atol=2e-4)


@pytest.mark.parametrize(("confidence", "least"), [(0.0, 0.1), (1.3, 0.2)])
def test_carlini_wagner_comes_within_two_hundredths_of_the_least(
    confidence: float, least: float
) -> None:
    attack = CarliniWagner(confidence=confidence, steps=150, searches=7, initial_c=0.01)
    found = attack(linear(bias=-4.2), X, Y)  # margin 1.3, to be led by as much again
    assert found.success.tolist() == [True]
    assert least * 0.999 <= float(found.distance) <= least * 1.02


def test_carlini_wagner_fools_from_that_c_on_which_outweighs_the_distance() -> None:
    # At d along W the loss is d² + c · (1.3 - 13 d), least at 13 c / 2, up to the boundary at 0.1.
    # So c = 0.01 stops at 0.065, before it, and from c = 0.2 / 13 = 0.0154 on it is reached.
    clf = linear(bias=-4.2)
    settings = {"searches": 1, "steps": 400, "step_size": 0.002}
    short = CarliniWagner(initial_c=0.01, **settings)(clf, X, Y)
    assert short.success.tolist() == [False]
    assert float(short.distance) == pytest.approx(0.065, rel=0.01)
    assert CarliniWagner(initial_c=0.017, **settings)(clf, X, Y).success.tolist() == [True]


def test_a_targeted_attack_goes_to_its_target() -> None:
    layer = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([W, torch.zeros(4), -W / 4]))
    clf = Classifier(nn.Sequential(nn.Flatten(), layer))
    result = PGD(eps=0.5)(clf, X, Y, targets=2)
    assert result.success.tolist() == [True]
    assert result.adversarial_prediction.tolist() == [2]
    assert PGD(eps=0.5)(clf, X, Y, targets=1).success.tolist() == [False]  # never the largest
