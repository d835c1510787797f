"""The course's attacks: what they do to a linear model, worked out by hand, and a claim's sides."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from studies.made_up import cells as made_up
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError
from assay.stats import judge_claims
from assay.studies.answers import compose
from assay.studies.attacks import Attacks, course
from assay.tasks.course_attack import CourseAttack, _check_target, attacked

STD = 0.5


class Linear(nn.Module):
    """Two classes: the second one's logit is the weighted sum of the values over that of `bias`."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).flatten(1).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


def linear(bias: float = -1.0, size: int = 4) -> tuple[Classifier, Tensor]:
    weight = torch.arange(1.0, size * size + 1).view(1, size, size)
    weight[0, 0, 0] = -1.0
    return Classifier(Linear(weight, bias), mean=[0.5], std=[STD]), weight


def run(clf: Classifier, x: Tensor, y: Sequence[int], **settings: object) -> Tensor:
    config = CourseAttack.parse(settings)
    rng = Stream(0).child("course", config.method).rows(torch.arange(len(x)))
    with clf.borrowed():
        return attacked(config, clf, x, torch.tensor(y), rng)


def test_fgsm_moves_by_its_budget_in_normalised_units() -> None:
    """Away from class 0, or towards class 1: the same; towards class 0: the other way."""
    clf, weight = linear()
    x = torch.full((1, 1, 4, 4), 0.5)
    moved = 0.031 * STD * weight.sign()
    for settings in ({"target": None}, {"target": 1}):
        made = run(clf, x, [0], method="fgsm", **settings)
        torch.testing.assert_close(made - x, moved[None], atol=1e-6, rtol=0)
    made = run(clf, x, [0], method="fgsm", target=0)
    torch.testing.assert_close(made - x, -moved[None], atol=1e-6, rtol=0)


def test_only_what_is_clipped_stays_an_image() -> None:
    clf, _ = linear()
    x = torch.ones(1, 1, 4, 4)
    for method in ("fgsm", "pgd", "few-pixel", "genetic"):
        assert float(run(clf, x, [0], method=method, target=None).max()) > 1.001, method
        inside = run(clf, x, [0], method=method, target=None, clipped=True)
        assert 0 <= float(inside.min()) <= float(inside.max()) <= 1, method


def test_pgd_does_not_leave_its_radius_however_long_a_step_is() -> None:
    clf, weight = linear()
    x = torch.full((2, 1, 4, 4), 0.5)
    for step in (0.062, 0.031 / 4):
        made = run(clf, x, [0, 0], method="pgd", step=step)
        torch.testing.assert_close((made - x) / STD, (0.031 * weight.sign()).expand(2, 1, 4, 4))


def test_few_pixel_moves_those_of_steepest_gradient() -> None:
    clf, weight = linear()
    x = torch.full((1, 1, 4, 4), 0.5)
    moved = (run(clf, x, [0], method="few-pixel", pixels=3) - x)[0, 0].flatten()
    assert (
        moved.nonzero()[:, 0].tolist() == weight.flatten().abs().topk(3).indices.sort()[0].tolist()
    )
    assert moved[-1].item() == pytest.approx(0.031 * STD)


def test_breeding_for_odds_fools_where_success_alone_says_nothing() -> None:
    """The second class is far: no candidate of the first generations reaches it."""
    clf, _ = linear(bias=-40.0)
    x = torch.full((4, 1, 4, 4), 0.5)
    y = torch.zeros(4, dtype=torch.int64)
    fooled = {
        fitness: int(
            (
                clf.predict(
                    run(clf, x, y.tolist(), method="genetic", fitness=fitness, clipped=True)
                )
                != y
            ).sum()
        )
        for fitness in ("fooled", "odds")
    }
    assert fooled == {"fooled": 0, "odds": 4}


def test_a_target_that_is_no_class_is_refused() -> None:
    with pytest.raises(AssayError, match="leads to class 6, but the network has 6 classes, 0 to 5"):
        _check_target(6, 6)
    _check_target(6, 7)


@pytest.mark.parametrize(
    ("mended", "clipped", "verdicts"),
    [
        (0.66, 0.66, ["holds", "holds", "holds", "equivalent"]),
        (0.64, 0.64, ["does not hold", "does not hold", "does not hold", "equivalent"]),
        (0.80, 0.60, ["holds", "holds", "holds", "does not hold"]),
    ],
)
def test_verdicts_on_results_by_hand(mended: float, clipped: float, verdicts: list[str]) -> None:
    """The smallest difference that matters is 0.05; the course's own attacks fool 0.60."""
    shares = dict.fromkeys(course.MENDED, 0.60) | dict.fromkeys(course.MENDED.values(), mended)
    shares[course.VALID] = clipped
    runs = {
        name: [
            SimpleNamespace(
                metrics={"success_share": share + off, "n_success": 10**6, "collapsed": False},
                arrays={},
            )
            for off in (-1e-4, 0, 1e-4)
        ]
        for name, share in shares.items()
    }
    study = Attacks.parse({**Attacks.preset_values("paper"), "device": "cpu"})
    claims = judge_claims(study.effects(made_up(runs)))
    assert [claim.verdict for claim in claims] == verdicts
    said = compose(claims, course.wordings())
    assert ("is not weakened" in said) == (mended < 0.65)
    assert ("changes nothing for PGD" in said) == (verdicts[-1] == "equivalent")
