"""Auto: what it fools, what its stages meet, and what is counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import APGD, Auto
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError

N = 40


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, 10, 10), 0.1, 0.9)


@pytest.fixture(scope="module")
def clf(x: Tensor) -> Classifier:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Conv2d(3, 10, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(160, 6))
    clf = Classifier(model, mean=[0.5] * 3, std=[0.1] * 3)
    with torch.no_grad():
        model[3].bias -= clf.query(x).mean(0)
    return clf


@pytest.mark.parametrize(("norm", "eps"), [("linf", 2 / 255), ("l2", 0.12), ("l1", 0.9)])
def test_it_fools_whatever_a_stage_fools(clf: Classifier, x: Tensor, norm: str, eps: float) -> None:
    auto = Auto.parse({"norm": norm, "eps": eps, "steps": 4, "queries": 60})
    together = auto(clf, x, stop="fooled", seed=3)
    alone = torch.stack([stage(clf, x, stop="fooled", seed=3).success for stage in auto.stages])
    union = alone.any(0)
    assert 0 < int(union.sum()) < N
    assert not bool((alone == union).all(1).all())  # no stage is the whole of it
    assert torch.equal(together.success, union)
    # it is the first of them that is named
    first = torch.where(union, alone.int().argmax(0), -1)
    assert torch.equal(together.stage, first)


def test_it_says_who_fooled() -> None:
    class Zones(nn.Module):
        """Where pixel 0 is dark the mean tells the class; where it is bright there is no slope, but
        a cliff."""

        def forward(self, x: Tensor) -> Tensor:
            kind, rest = x.flatten(1)[:, :1], x.flatten(1)[:, 1:] - 0.5
            smooth = 20 * rest.mean(1, keepdim=True)
            hidden = (rest.mean(1, keepdim=True) > 0.03).float() * 5
            lift = torch.where(kind < 0.5, smooth, hidden)
            logits = torch.cat([torch.ones_like(lift), lift], dim=1)
            return torch.cat([logits, torch.full((len(x), 2), -5.0)], dim=1)

    x = torch.full((6, 1, 6, 6), 0.5)
    x[:3, 0, 0, 0], x[3:, 0, 0, 0] = 0.2, 0.8
    result = Auto(eps=0.08, steps=5, queries=400)(Classifier(Zones()), x, stop="fooled")
    assert result.stage.tolist() == [0, 0, 0, 3, 3, 3]
    assert [stage["success"] for stage in result.to_dict()["stages"]] == [3, 0, 0, 3]
    assert bool(result.success.all())


def test_survivors_alone_go_on_and_all_is_counted(clf: Classifier, x: Tensor) -> None:
    auto = Auto(eps=2 / 255, steps=4, queries=30)
    result = auto(clf, x, stop="fooled", seed=3)
    by_first = auto.stages[0](clf, x, stop="fooled", seed=3)
    assert torch.equal(result.queries[result.stage == 0], by_first.queries[result.stage == 0])
    standing = ~result.success
    classes, steps = 5, 4
    apgd, apgdt, square = steps + 1, 1 + classes * (steps + 1), 30
    fab = result.queries[standing] - (1 + (apgd + 1) + (apgdt + 1) + (square + 1)) - 1
    assert bool((fab > 0).all())
    assert bool((result.queries[result.success] < int(result.queries[standing].min())).all())
    assert (
        int(result.queries.sum()) == result.evaluations["gradient"] + result.evaluations["forward"]
    )


def test_a_randomised_model_meets_the_two_losses(clf: Classifier, x: Tensor) -> None:
    auto = Auto(eps=2 / 255, steps=3, eot=4)
    assert [(stage.name, stage.loss) for stage in auto.stages] == [
        ("apgd", "cross_entropy"),
        ("apgd", "dlr"),
    ]
    standing = auto(clf, x, stop="fooled")
    spent = standing.queries[~standing.success]
    assert len(spent) > 0
    assert spent.tolist() == [1 + 2 * (4 * 4 + 1)] * len(spent)


def test_it_reaches_a_target(clf: Classifier, x: Tensor) -> None:
    goal = (clf.predict(x) + 1) % 6
    result = Auto(eps=16 / 255, steps=6, queries=30)(clf, x, targets=goal, stop="fooled")
    assert result.success_rate.value > 0.5
    assert torch.equal(clf.predict(result.adversarial) == goal, result.success)


def test_screening_in_bfloat16_leaves_no_success_unconfirmed(clf: Classifier, x: Tensor) -> None:
    auto = Auto(eps=2 / 255, steps=4, queries=60)
    result = auto(clf, x, stop="fooled", precision="bfloat16")
    assert result.fast is not None
    assert (result.fast.used, result.fast.precision) == (True, "bfloat16")
    assert torch.equal(clf.predict(result.adversarial) != result.labels, result.success)
    exact = auto(clf, x, stop="fooled")
    assert abs(int(result.success.sum()) - int(exact.success.sum())) <= 2


def test_few_classes_are_enough() -> None:
    torch.manual_seed(0)
    x = Stream(5).rows(range(20)).uniform((1, 6, 6), 0.2, 0.8)
    for classes in (2, 3):
        clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, classes)))
        alone = APGD(eps=0.15, steps=5)(clf, x, stop="fooled").success
        found = Auto(eps=0.15, steps=5, queries=20)(clf, x, stop="fooled").success
        assert bool(alone.any())
        assert bool((found | ~alone).all())


def test_it_moves_no_image_by_itself() -> None:
    with pytest.raises(AssayError, match="take one of its stages, such as apgd"):
        Auto().perturb(None, None, None, threat=None, loss=None, rng=None)


def test_in_l1_it_restarts_as_mind_the_box_does() -> None:
    dense, sparse = (Auto.parse({"norm": norm, "eps": 1.0}).stages for norm in ("l2", "l1"))
    assert [stage.starts for stage in dense] == [1, 1, 1, 1]
    assert [stage.starts for stage in sparse] == [5, 1, 1, 1]
    assert [dense[1].n_target_classes, sparse[1].n_target_classes] == [9, 5]
