"""How often an audit runs the model on an image as it is: once, and a few times more to look at its
gradients and explain it; never once for each attack, budget or explainer."""

from __future__ import annotations

from collections import Counter

import pytest
from networks import trained as networks
from torch import Tensor, nn

import assay
from assay.attacks import FGSM, PGD, Attack
from assay.auditing import AuditConfig
from assay.explain import EigenCAM, Explainer, GradCAM, HiResCAM, LayerCAM, ScoreCAM
from assay.explain.faithful import FaithfulnessConfig

IMAGES, ATTACKED = 40, 16


class Counting(nn.Module):
    """A model that counts the rows that it is run on; its copies count for themselves, in vain."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: Counter[bytes] = Counter()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.update(row.contiguous().numpy().tobytes() for row in x.detach())
        out: Tensor = self.inner(x)
        return out


def passes(attacks: tuple[Attack, ...], budgets: tuple[float, ...], *some: Explainer) -> list[int]:
    """Return how often an audit runs the model itself on each of its images as they are."""
    x, y = assay.load_data("digits").take(IMAGES + 40)
    model = Counting(networks.trained("pooled", networks.Pooled()))
    config = AuditConfig(
        attacks=attacks,
        eps=budgets[-1],
        budgets=budgets,
        attacked=ATTACKED,
        gallery=2,
        faithfulness=FaithfulnessConfig(explainers=some, networks=2, randomised=4, stages=1),
    )
    assay.audit(assay.Classifier(model), x[:IMAGES], y[:IMAGES], config=config)
    return [model.seen[row.numpy().tobytes()] for row in x[:IMAGES]]


@pytest.fixture(scope="module")
def few() -> list[int]:
    return passes((PGD(steps=2),), (0.1,), GradCAM())


def test_an_image_that_is_not_attacked_is_run_once(few: list[int]) -> None:
    assert set(few[ATTACKED:]) == {1}


def test_neither_attacks_nor_budgets_nor_explainers_of_a_layer_add_passes(few: list[int]) -> None:
    cams = (GradCAM(), EigenCAM(), HiResCAM(), LayerCAM())
    many = passes(
        (FGSM(), PGD(steps=2, random_start=False), PGD(steps=3)), (0.02, 0.05, 0.1), *cams
    )
    assert many == few


def test_score_cam_looks_for_no_layer_of_its_own() -> None:
    x, y = assay.load_data("digits").take(4)
    clf = assay.Classifier(Counting(networks.trained("pooled", networks.Pooled())))
    quick = FaithfulnessConfig(networks=2, randomised=2, stages=1)
    asked = []
    for some in [(GradCAM(),), (GradCAM(), ScoreCAM())]:
        clf.model.seen.clear()
        assay.explain.faithfulness(clf, x, y, explainers=some, config=quick)
        asked.append(clf.model.seen[x[0].numpy().tobytes()])
    assert asked[1] - asked[0] == 2  # for its channels, and to check its fast copy
