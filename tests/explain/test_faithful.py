"""Which explainer is the most faithful: on a linear model, where that is known."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn

from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.oracle import Encoded
from assay.described import described
from assay.errors import AssayError
from assay.explain import (
    Explainer,
    Faithfulness,
    FaithfulnessConfig,
    GradCAM,
    Occlusion,
    explainers,
    faithfulness,
)
from assay.explain.curves import Curve
from assay.explain.faithful import Judged, labels
from assay.explain.randomise import Randomised
from assay.report.style import SERIES
from assay.runs.files import to_json

from .nets import images, residual, seeded

SIZE = 6
QUICK = FaithfulnessConfig(steps=12, networks=6, randomised=12, stages=2)


class OfTheWeights(Explainer):
    """What each pixel adds to the logit of class 0; it is a linear model's ideal map."""

    name: str = "ideal"
    sign: float = 1.0

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        assert targets is not None
        head = clf.model[1]
        weight = head.weight[targets] - head.weight[1 - targets]
        return self.sign * (weight.view(x.shape) * x).sum(1) + 5, targets, ""


class Nothing(Explainer):
    """The same everywhere."""

    name: str = "nothing"

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        del clf
        assert targets is not None
        return torch.ones_like(x[:, 0]), targets, ""


class Bright(Explainer):
    """The image itself."""

    name: str = "bright"

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        del clf
        assert targets is not None
        return x.mean(1), targets, ""


class Refuses(Explainer):
    name: str = "refuses"
    how: Literal["ours", "torch"] = "ours"

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        del clf, x, targets
        if self.how == "ours":
            raise AssayError("not for\n this model")
        raise RuntimeError("derivative is not implemented")


def linear() -> Classifier:
    """Says class 0 where pixels of positive weight are bright."""
    head = nn.Linear(SIZE * SIZE, 2)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        head.weight.copy_(torch.randn(2, SIZE * SIZE, generator=draw))
        head.bias.zero_()
    return Classifier(nn.Sequential(nn.Flatten(), head))


def grey(n: int) -> Tensor:
    return images(n, size=SIZE)[:, :1]


def test_the_ideal_map_is_the_most_faithful() -> None:
    clf, x = linear(), grey(30)
    known = [Nothing(), OfTheWeights(sign=-1), OfTheWeights(), Refuses(), Refuses(how="torch")]
    with untouched(clf.model):
        found = faithfulness(clf, x, explainers=known, config=QUICK)
    assert found.best == "ideal"
    assert found.ties == ()
    assert [one.name for one in found.judged] == ["ideal", "nothing", "ideal, sign -1.0"]
    ideal, nothing, worst = found.judged
    assert ideal.better.low > 0.1
    assert worst.better.high < 0
    assert (nothing.gain == 0).all(), "a map that is the same everywhere is the random order"
    assert (nothing.empty.value, nothing.verdict) == (1, "not run")
    assert not nothing.eligible
    assert found.failed == {
        "refuses": "not for this model",
        "refuses, how torch": "RuntimeError: derivative is not implemented",
    }
    np.testing.assert_allclose(
        ideal.gain,
        (ideal.insertion.area - ideal.deletion.area) - (found.insertion.area - found.deletion.area),
    )
    assert found.targets.tolist() == clf.predict(x).tolist()


def test_what_survives_random_weights_is_not_the_best() -> None:
    # where all weights are positive, bright pixels are the ones that matter
    clf, x = linear(), grey(30)
    with torch.no_grad():
        clf.model[1].weight.copy_(torch.tensor([[1.0], [0.0]]).expand(2, SIZE * SIZE))
        clf.model[1].bias.copy_(torch.tensor([-10.0, 0.0]))
    found = faithfulness(clf, x, 0, explainers=[Bright()], config=QUICK)
    (bright,) = found.judged
    assert bright.better.low > 0
    assert bright.verdict == "survives"
    assert found.best is None
    assert found.ties == ()


def test_the_same_map_by_two_names_is_a_tie() -> None:
    clf, x = linear(), grey(20)
    known = [OfTheWeights(), OfTheWeights(upsample="nearest")]
    found = faithfulness(clf, x, explainers=known, config=QUICK)
    assert found.best == "ideal"
    assert found.ties == ("ideal, upsample nearest",)


def judged(name: str, gain: list[float], correlation: float = 0.0) -> Judged:
    n = len(gain)
    flat = torch.zeros(n, 2, 2)
    last = np.linspace(correlation - 0.05, correlation + 0.05, n)[:, None]
    curve = Curve(np.array([0.0, 1.0]), np.full((n, 2), 0.5))
    return Judged(
        name,
        GradCAM(),
        Attribution(flat, flat, torch.zeros(n, dtype=torch.bool), "", torch.zeros(n).long()),
        curve,
        curve,
        np.array(gain),
        Randomised(np.array([1.0]), last, last, np.arange(n), 10_001, 0.5),
        None,
        1.0,
    )


def ranking(*some: Judged, unrandomised: str = "") -> Faithfulness:
    curve = Curve(np.array([0.0, 1.0]), np.full((4, 2), 0.5))
    return Faithfulness(
        some, {}, curve, curve, torch.zeros(4).long(), unrandomised, FaithfulnessConfig()
    )


def test_ties_are_paired_and_share_one_error() -> None:
    # differences from the best: 0.1, 0.1, 0.2, 0.2: mean 0.15, deviation 0.0577, half of the
    # interval t(3) · 0.0577 / 2: 0.0919 at 95 % (t = 3.182), 0.1205 at 97.5 % (4.177),
    # 0.1402 at 98.33 % (4.857), 0.1552 at 98.75 % (5.392)
    gain = np.array([1.5, 1.9, 1.2, 1.7])
    best = judged("a", gain.tolist())
    near = judged("b", (gain - np.array([0.1, 0.1, 0.2, 0.2])).tolist())
    far = [judged(name, (gain - np.array([0.5, 0.51, 0.5, 0.51])).tolist()) for name in "cdef"]
    for more, ties in ((0, ()), (2, ()), (3, ("b",)), (4, ("b",))):
        assert ranking(best, near, *far[:more]).ties == ties


def test_who_may_be_the_best() -> None:
    good = [0.5, 0.6, 0.55, 0.52]
    assert ranking(judged("a", good, 0.9), judged("b", good)).best == "b"
    assert ranking(judged("a", good, 0.5), judged("b", good)).best == "b", "undecided is no pass"
    assert ranking(judged("a", [1, -1, 1, -1]), judged("b", good)).best == "b"
    assert ranking(judged("a", [1, -1, 1, -1])).best is None
    untried = replace(judged("a", good), randomisation=None)
    assert untried.verdict == "not run"
    assert ranking(untried, unrandomised="no weights").best == "a"


def test_a_model_whose_weights_cannot_be_made_random_is_ranked_without() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(residual)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out

        def __deepcopy__(self, memo: object) -> None:
            raise TypeError("held by a lock")

    found = faithfulness(
        Classifier(Held()), images(8), explainers=[GradCAM(), Occlusion()], config=QUICK
    )
    assert "held by a lock" in found.unrandomised
    assert [one.verdict for one in found.judged] == ["not run", "not run"]


def test_every_explainer_of_the_family_is_judged_or_says_why_not() -> None:
    config = FaithfulnessConfig(steps=4, networks=2, randomised=2, stages=1)
    found = faithfulness(Classifier(seeded(residual)), images(4, size=16), config=config)
    assert {one.name for one in found.judged} | set(found.failed) == set(explainers())
    assert len(found.judged) >= 9
    told = json.loads(to_json(found.to_dict()))
    assert set(told["explainers"]) == {one.name for one in found.judged}
    assert told["n"] == 4


def test_masks_are_pointed_at() -> None:
    masks = np.zeros((8, SIZE, SIZE), dtype=bool)
    masks[:, 2:, :] = True
    found = faithfulness(linear(), grey(8), explainers=[Bright()], masks=masks, config=QUICK)
    game = found.judged[0].pointing
    assert game is not None
    peaks = grey(8).flatten(1).argmax(1) // SIZE
    assert game.hit.tolist() == (peaks >= 2).tolist()


def test_the_same_question_has_the_same_answer() -> None:
    clf, x = linear(), grey(12)
    state = torch.random.get_rng_state()
    told = [
        faithfulness(
            clf, x, explainers=[OfTheWeights()], config=QUICK.model_copy(update={"seed": seed})
        ).to_dict()
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert told[0] == told[1]
    assert told[0]["random_order"] != told[2]["random_order"]


def test_labels_name_settings_that_are_not_the_usual() -> None:
    some = [GradCAM(), GradCAM(layer="1"), Occlusion(window=4, fill=0.5)]
    assert labels(some) == ["grad-cam", "grad-cam, layer 1", "occlusion, window 4, fill 0.5"]
    with pytest.raises(AssayError, match="twice with the same settings"):
        FaithfulnessConfig(explainers=(GradCAM(), GradCAM()))


class Pairs(nn.Module):
    """Fails on a single image, as a batch norm in training mode does; or on some others too."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.net = linear().model
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if not 1 < len(x) <= self.most:
            raise ValueError(f"a batch\n of {len(x)}")
        out: Tensor = self.net(x)
        return out


class Alone(Explainer):
    """Looks at each image by itself."""

    name: str = "alone"

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        assert targets is not None
        said = torch.cat([clf.logits(Encoded(image[None])) for image in x])
        return x.mean(1) * said.gather(1, targets[:, None])[:, :, None], targets, ""


def test_a_model_that_raises_whatever_it_likes() -> None:
    config = QUICK.model_copy(update={"steps": 1, "randomised": 4, "networks": 2})
    clf = Classifier(Pairs())
    with untouched(clf.model):
        found = faithfulness(clf, grey(4), explainers=[Alone(), Bright()], config=config)
    assert list(found.failed) == ["alone"]
    assert found.failed["alone"].endswith("ValueError: a batch of 1")
    assert [one.name for one in found.judged] == ["bright"]
    assert re.search(
        r"\(1, 6, 6\) each, 1 at a time .*: ValueError: a batch of 1$", found.unrandomised
    )
    with pytest.raises(
        AssayError, match=r"no explainer .* works .*; alone: .* ValueError: a batch"
    ):
        faithfulness(clf, grey(4), explainers=[Alone()], config=config)
    with pytest.raises(AssayError, match=r"fails on these images.*ValueError: a batch of 1$"):
        faithfulness(clf, grey(1), explainers=[Bright()], config=config)
    with pytest.raises(AssayError, match=r"fails on these images.*ValueError: a batch of 8$"):
        faithfulness(Classifier(Pairs(most=4)), grey(4), explainers=[Bright()], config=config)


@pytest.mark.parametrize(
    ("explainers", "message"),
    [
        ([], "nothing to compare: explainers holds none"),
        (["grad-cam"], "explainers holds 'grad-cam', which is none"),
        ([Bright(), OfTheWeights(sign=-1), Bright()], "explainers holds 'bright' twice"),
    ],
)
def test_what_is_no_list_of_explainers(explainers: list[Explainer], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        faithfulness(linear(), grey(2), explainers=explainers, config=QUICK)


@pytest.mark.parametrize("targets", ["cat", ["cat", "dog"], [[0], [1, 0]], [None, 0]])
def test_targets_that_are_no_numbers(targets: object) -> None:
    with pytest.raises(AssayError, match=r"one class number, or one per image \(2,\), got"):
        faithfulness(linear(), grey(2), targets, explainers=[Bright()])  # type: ignore[arg-type]


def test_mistakes() -> None:
    with pytest.raises(AssayError, match=r"no explainer .* works on this model; refuses: not for"):
        faithfulness(linear(), grey(2), explainers=[Refuses()])
    with pytest.raises(AssayError, match="targets go from 7 to 7"):
        faithfulness(linear(), grey(2), 7, explainers=[Bright()])
    with pytest.raises(AssayError, match="one shape"):
        faithfulness(
            linear(), grey(2), explainers=[Bright()], masks=np.ones((2, 3, 3), bool), config=QUICK
        )


def test_a_config_is_read_back_as_it_was_printed() -> None:
    config = FaithfulnessConfig(explainers=(GradCAM(layer="1"), Occlusion()), deleted=0.5)
    assert FaithfulnessConfig.from_yaml(config.to_yaml()) == config
    assert all(described(FaithfulnessConfig).values())


def test_the_figure_has_a_line_for_each_and_one_for_chance() -> None:
    found = faithfulness(linear(), grey(6), explainers=[OfTheWeights(), Bright()], config=QUICK)
    figure = found.plot()
    for axes, kind in zip(figure.axes, ("deletion", "insertion"), strict=True):
        ends = [line.get_ydata()[-1] for line in axes.get_lines()]
        assert len(ends) == 3
        expected = getattr(found, kind).probability[:, -1].mean()
        assert all(math.isclose(end, expected, abs_tol=1e-6) for end in ends), "all end alike"
        assert axes.get_ylim() == (-0.02, 1.02), "0 to 100 %"
        best = [one for one in found.judged if one.name == found.best]
        colours = [line.get_color() for line in axes.get_lines()]
        assert colours == [SERIES[6]] * (2 - len(best)) + [SERIES[1]] + [SERIES[0]] * len(best)
    assert found._repr_html_().startswith("<svg")
