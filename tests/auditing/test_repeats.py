"""How often an audit runs the model on an image as it is: once, and a few times more to look at its
gradients and explain it; never once for each attack, budget or explainer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from networks import trained as networks
from torch import Tensor, nn

import assay
from assay.attacks import FGSM, PGD, Attack, HopSkipJump, Noise, Square
from assay.auditing import AuditConfig
from assay.auditing.registry import Accuracy, Robustness
from assay.explain import EigenCAM, Explainer, GradCAM, HiResCAM, LayerCAM, Occlusion, ScoreCAM
from assay.explain.faithful import FaithfulnessConfig
from assay.ood import GEN, KNN, Detector, MaxLogit, ReAct

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


def passes(
    attacks: tuple[Attack, ...],
    budgets: tuple[float, ...],
    *some: Explainer,
    detectors: tuple[Detector, ...] = (GEN(),),
) -> list[int]:
    """Return how often an audit runs the model itself on each of its images as they are."""
    x, y = assay.load_data("digits").take(IMAGES + 40)
    model = Counting(networks.trained("pooled", networks.Pooled()))
    config = AuditConfig(
        attacks=attacks,
        eps=budgets[-1],
        budgets=budgets,
        attacked=ATTACKED,
        gallery=2,
        detectors=detectors,
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
    assert asked[1] - asked[0] == 1  # for its channels


def test_explainers_by_masks_work_on_the_copy_that_is_there(few: list[int]) -> None:
    some = passes((PGD(steps=2),), (0.1,), GradCAM(), ScoreCAM(), Occlusion(window=14, stride=14))
    assert some[ATTACKED:] == few[ATTACKED:]
    added = Counter(one - other for one, other in zip(some, few, strict=True))
    assert set(added) == {0, 2}, "for its channels, and for what is covered: once for each"


def test_detectors_share_one_pass(few: list[int]) -> None:
    many = passes((PGD(steps=2),), (0.1,), GradCAM(), detectors=(GEN(), KNN(), MaxLogit(), ReAct()))
    assert many == few


@pytest.mark.parametrize(
    "attack", [Square(queries=12), HopSkipJump(norm="linf", queries=80), Noise()]
)
def test_what_is_only_queried_is_asked_once_about_an_image_as_it_is(attack: Attack) -> None:
    x, y = assay.load_data("digits").take(IMAGES)
    net = networks.trained("pooled", networks.Pooled()).eval()
    found = []
    for budgets in ((0.1,), (0.02, 0.05, 0.1)):
        seen: Counter[bytes] = Counter()

        def scores(images: Any, seen: Counter[bytes] = seen) -> Tensor:
            seen.update(image.tobytes() for image in images)
            return net(torch.from_numpy(images)).detach().softmax(1)

        model = assay.BlackBox(scores, classes=10, access="scores")
        config = AuditConfig(
            sections=(Accuracy(), Robustness()),
            attacks=(attack,),
            eps=0.1,
            budgets=budgets,
            attacked=ATTACKED,
        )
        assay.audit(model, x, y, config=config)
        found.append([seen[row.numpy().tobytes()] for row in x])
    assert found[0] == found[1]
    assert set(found[0][ATTACKED:]) == {1}
    again = 3 + 2  # to see whether it says the same: REL-005, and PRE-008 of the first ones
    assert set(found[0][:ATTACKED]) == {1 + again}


def test_a_model_that_rounds_by_its_batch_is_not_taken_for_a_randomised_one() -> None:
    x, y = assay.load_data("digits").take(IMAGES)
    x = x * torch.linspace(0.3, 1.0, IMAGES)[:, None, None, None]  # the last one sets the scale
    net = networks.trained("pooled", networks.Pooled()).eval()

    def quantised(images: Any) -> Tensor:
        scale = float(images.max()) / 7
        return net((torch.from_numpy(images) / scale).round() * scale).detach()

    model = assay.BlackBox(quantised, classes=10, access="logits")
    config = AuditConfig(
        sections=(Accuracy(), Robustness()), attacks=(Noise(),), eps=0.1, attacked=ATTACKED
    )
    flags = {flag.code: flag for flag in assay.audit(model, x, y, config=config).report.flags}
    assert flags["REL-005"].raised is False, flags["REL-005"].detail
    assert flags["PRE-008"].raised is False, flags["PRE-008"].detail
