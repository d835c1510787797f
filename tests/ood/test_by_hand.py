"""Every detector's scores, worked out by hand on two features and three classes."""

from __future__ import annotations

import math
from dataclasses import replace
from math import e as E
from math import exp, log, sqrt

import pytest
import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.head import Head
from assay.errors import AssayError
from assay.ood import (
    ASH,
    DICE,
    FDBD,
    GEN,
    KNN,
    ODIN,
    SCALE,
    Detector,
    Entropy,
    GradNorm,
    KLMatching,
    Mahalanobis,
    MahalanobisPlusPlus,
    NNGuide,
    RankAverage,
    ReAct,
    RelativeMahalanobis,
    TemperatureScaling,
    ViM,
)

HEAD = Head(torch.tensor([[1.0, 0], [0, 1], [0, 0]]), torch.tensor([0.0, 0, 1]))
ROWS = [[3.0, 0], [5, 0], [0, 3], [0, 5], [0, 0], [2, 2]]


def seen(features: list[list[float]], head: Head = HEAD, y: list[int] | None = None) -> Embedding:
    h = torch.tensor(features).float()
    return Embedding(head(h), h, head=head, y=None if y is None else torch.tensor(y))


def said(*logits: list[float], y: list[int] | None = None) -> Embedding:
    return Embedding(torch.tensor(logits), None, y=None if y is None else torch.tensor(y))


TRAIN = seen(ROWS, y=[0, 0, 1, 1, 2, 2])
"""Means (4, 0), (0, 4), (1, 1); of all (5/3, 5/3)."""
HALVES = [log(2), 0.0, 0.0]
"""Logits of the probabilities 1/2, 1/4, 1/4."""


def score(detector: Detector, *features: float, train: Embedding = TRAIN) -> float:
    assert train.head is not None
    return float(detector.fit(train).score(seen([list(features)], train.head)))


def energy(*logits: float) -> float:
    return -log(sum(exp(z) for z in logits))


# -- logits ----------------------------------------------------------------------------------------


def test_entropy() -> None:
    fitted = Entropy().fit(said(HALVES))
    scores = fitted.score(said(HALVES, [7, 7, 7], [0.0, -1e4, -1e4]))
    assert scores.tolist() == pytest.approx([1.5 * log(2), log(3), 0.0], rel=1e-6)


def test_generalized_entropy() -> None:
    fitted = GEN().fit(said(HALVES))
    by_hand = (1 / 4) ** 0.1 + 2 * (3 / 16) ** 0.1
    assert float(fitted.score(said(HALVES))) == pytest.approx(by_hand, rel=1e-6)
    two = GEN(gamma=0.5, top=2).fit(said(HALVES))
    assert float(two.score(said(HALVES))) == pytest.approx(1 / 2 + sqrt(3) / 4, rel=1e-6)


@pytest.mark.parametrize("detector", [Entropy(), GEN()])
def test_certain_rows_are_told_apart_where_float64_rounds_them_to_1(detector: Detector) -> None:
    rows = said([40.0, 0, 0], [60.0, 0, 0], [80.0, 0, 0])
    found = detector.fit(rows).score(rows)
    assert bool((found.diff() < 0).all())
    if isinstance(detector, Entropy):  # ≈ 2 e^-z (z + 1)
        assert found.tolist() == pytest.approx([2 * exp(-z) * (z + 1) for z in (40, 60, 80)])


def test_kl_matching() -> None:
    other = [log(6), 0.0, 0.0]  # 3/4, 1/8, 1/8; the mean of both is 5/8, 3/16, 3/16
    second = [0.0, log(2), 0.0]
    # half of each label is learned from
    held = said(HALVES, HALVES, other, other, second, second, y=[0, 0, 2, 2, 1, 1])
    fitted = KLMatching().fit(said([0.0, 0, 0]), calibrate=held, tpr=0.5)
    assert fitted.state["typical"].tolist() == [
        pytest.approx([5 / 8, 3 / 16, 3 / 16]),
        pytest.approx([1 / 4, 1 / 2, 1 / 4]),
    ]
    by_hand = 1 / 2 * log(4 / 5) + 1 / 2 * log(4 / 3)  # the other class: 1/2 ln 2 - 1/4 ln 2
    assert float(fitted.score(said(HALVES))) == pytest.approx(by_hand, rel=1e-5)
    assert "1 of 3 classes are predicted for no row" in fitted.notes[0]


def test_temperature() -> None:
    # sure of class 0 by z = 3, and right in 3 of 4: p = 3/4 where z / T = ln 3, with two classes
    sure = said(*[[3.0, 0]] * 8, y=[0, 0, 0, 0, 0, 0, 1, 1])
    fitted = TemperatureScaling().fit(said([0.0, 0]), calibrate=sure, tpr=0.5)
    assert float(fitted.state["temperature"]) == pytest.approx(3 / log(3), rel=1e-9)
    assert float(fitted.score(said([6.0, 0]))) == pytest.approx(-2 * log(3), rel=1e-9)
    assert fitted.notes == ("all 4 rows it was calibrated on have the same score",)


def test_no_temperature_is_best_where_all_is_right() -> None:
    sure = said(*[[3.0, 0]] * 8, y=[0] * 8)
    fitted = TemperatureScaling().fit(said([0.0, 0]), calibrate=sure, tpr=0.5)
    assert "no temperature between 0.001 and 1000 is best" in fitted.notes[0]
    assert math.isfinite(float(fitted.score(said([6.0, 0]))))


# -- features --------------------------------------------------------------------------------------


def test_mahalanobis() -> None:
    # scatters of the classes: 2 in x; 2 in y; 2 in both. (4 2; 2 4) / 6 has inverse (2 -1; -1 2)
    # from (4, 2) to the means: (0, 2): 8; (4, -2): 56; (3, 1): 14
    assert score(Mahalanobis(), 4, 2) == pytest.approx(8, rel=1e-9)
    assert score(Mahalanobis(), 4, 0) == pytest.approx(0, abs=1e-9)
    assert Mahalanobis().fit(TRAIN).notes == ()


def test_relative_mahalanobis() -> None:
    # of all rows: (64 -38; -38 64) / 18; from the mean to (4, 2): (7/3, 1/3): 1866 / 663
    assert score(RelativeMahalanobis(), 4, 2) == pytest.approx(8 - 1866 / 663, rel=1e-9)


def test_mahalanobis_plus_plus_is_that_of_features_of_length_1() -> None:
    draw = torch.Generator().manual_seed(0)
    h = torch.rand(30, 2, generator=draw) + 0.1
    train = replace(seen(h.tolist()), y=torch.arange(30) % 3)
    short = replace(train, features=h / h.norm(dim=1, keepdim=True))
    found = MahalanobisPlusPlus().fit(train).score(train)
    torch.testing.assert_close(found, Mahalanobis().fit(short).score(short))
    assert not torch.allclose(found, Mahalanobis().fit(train).score(train))


def test_nearest_neighbours() -> None:
    # (3, 4) / 5 is at √0.4 from both (0, 3) and (0, 5), and nearer only to (2, 2)
    assert score(KNN(k=2), 3, 4) == pytest.approx(sqrt(0.4), rel=1e-6)
    assert score(KNN(k=3), 3, 4) == pytest.approx(sqrt(0.4), rel=1e-6)
    assert score(KNN(k=5), 3, 4) == pytest.approx(sqrt(0.8), rel=1e-6)
    assert score(KNN(k=1), 10, 0) == 0


# -- features and head -----------------------------------------------------------------------------


def test_vim() -> None:
    # origin 0; scatter (38 4; 4 38): what varies least is (1, -1) / √2. Largest logits 3, 5, 3, 5,
    # 1, 2; residuals 3, 5, 3, 5, 0, 0 by √2: α = 19 √2 / 16. That of (4, 2) is √2.
    by_hand = 19 / 8 + energy(4, 2, 1)
    assert score(ViM(dimensions=1), 4, 2) == pytest.approx(by_hand, rel=1e-6)
    assert score(ViM(), 4, 2) == pytest.approx(by_hand, rel=1e-6)  # half of 2


def test_vim_starts_where_the_logits_are_all_0() -> None:
    head = Head(torch.eye(2), torch.tensor([1.0, -2.0]))
    fitted = ViM(dimensions=1).fit(seen(ROWS, head))
    assert fitted.state["origin"].tolist() == pytest.approx([-1, 2])


def test_distance_to_the_boundaries() -> None:
    # logits 4, 2, 1; between the weights √2 and 1; from the mean √50 / 3
    by_hand = -(2 / sqrt(2) + 3 / 1) / 2 / (sqrt(50) / 3)
    assert score(FDBD(), 4, 2) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("classes", [20, 100])
def test_boundary_distance_of_many_classes_and_of_twins(classes: int) -> None:
    """Class 1 is class 0 but for its bias: no boundary parts them."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(classes, 64, generator=draw)
    weight[1], bias = weight[0], torch.zeros(classes)
    bias[0] = 1
    head = Head(weight, bias)
    e = seen(torch.randn(300, 64, generator=draw).relu().tolist(), head)
    assert e.features is not None
    z, said = e.logits.double(), e.predictions
    between = (weight[said][:, None].double() - weight[None].double()).norm(dim=2)
    other = between > 0
    assert (other.sum(1) == classes - 1 - (said <= 1).long()).all()
    ahead = torch.where(other, (z.amax(1, keepdim=True) - z) / between, 0.0).sum(1) / other.sum(1)
    h = e.features.double()
    by_hand = -ahead / (h - h.mean(0)).norm(dim=1)
    torch.testing.assert_close(FDBD().fit(e).score(e), by_hand, rtol=1e-5, atol=0)


def test_neighbour_guidance() -> None:
    # (5, 0) guides most: cos 4 / √20, confidence ln(e^5 + 1 + e)
    by_hand = energy(4, 2, 1) * 4 / sqrt(20) * log(exp(5) + 1 + E)
    assert score(NNGuide(k=1), 4, 2) == pytest.approx(by_hand, rel=1e-6)


def test_rectified_activations() -> None:
    # activations 0 · 6, 2, 2, 3, 3, 5, 5: the 90th percentile is at place 9.9: 4.8
    assert score(ReAct(), 6, 2) == pytest.approx(energy(4.8, 2, 1), rel=1e-6)
    assert score(ReAct(reading="max-logit"), 6, 2) == pytest.approx(-4.8, rel=1e-6)
    by_hand = 1 - exp(4.8) / (exp(4.8) + exp(2) + E)
    assert score(ReAct(reading="max-softmax"), 6, 2) == pytest.approx(by_hand, rel=1e-5)


def test_pruned_weights() -> None:
    # contributions 5/3 of 1, 1/2, -1, 1, 0, 0, median 5/12: the first two and the 1 stay
    head = Head(torch.tensor([[1.0, 0.5], [-1, 1], [0, 0]]), torch.tensor([0.0, 0, 1]))
    train = seen(ROWS, head)
    assert score(DICE(pruned=0.5), 4, 2, train=train) == pytest.approx(energy(5, 2, 1), rel=1e-6)
    both = score(DICE(pruned=0.5, clip=0.9), 6, 2, train=train)
    assert both == pytest.approx(energy(4.8 + 1, 2, 1), rel=1e-6)


@pytest.mark.parametrize(
    ("variant", "left"), [("s", 4 * exp(6 / 4)), ("b", 6.0), ("p", 4.0)], ids="sbp"
)
def test_shaped_activations(variant: str, left: float) -> None:
    detector = ASH.parse({"variant": variant, "percentile": 0.5})
    assert score(detector, 4, 2) == pytest.approx(energy(left, 0, 1), rel=1e-6)
    assert score(detector, 2, 4) == pytest.approx(energy(0, left, 1), rel=1e-6)


def test_scaled_activations() -> None:
    by_hand = energy(4 * exp(6 / 4), 2 * exp(6 / 4), 1)
    assert score(SCALE(percentile=0.5), 4, 2) == pytest.approx(by_hand, rel=1e-6)


def test_features_that_are_all_0_have_the_bias_for_their_logits() -> None:
    for detector in (ASH(), SCALE(), ReAct(), DICE()):
        assert score(detector, 0, 0) == pytest.approx(energy(0, 0, 1), rel=1e-6)


# -- gradients -------------------------------------------------------------------------------------


def test_gradient_norm() -> None:
    # |p - 1/3|: 1/6, 1/12, 1/12; |h|: 6
    rows = replace(seen([[4.0, 2]]), logits=torch.tensor([HALVES]))
    assert float(GradNorm().fit(TRAIN).score(rows)) == pytest.approx(-2, rel=1e-6)


def test_gradient_norm_is_that_of_autograd() -> None:
    draw = torch.Generator().manual_seed(0)
    h = torch.randn(5, 4, generator=draw)
    weight, bias = torch.randn(3, 4, generator=draw), torch.randn(3, generator=draw)
    e = Embedding(h @ weight.mT + bias, h, head=Head(weight, bias))
    found = GradNorm().fit(e).score(e)
    for row, score_of_row in zip(h.double(), found, strict=True):
        w = weight.double().requires_grad_(True)
        loss = -(w @ row + bias.double()).log_softmax(0).mean()
        (slope,) = torch.autograd.grad(loss, w)
        assert float(score_of_row) == pytest.approx(-float(slope.abs().sum()), rel=1e-5)


class Two(nn.Module):
    """Logits of two pixels: their values, and 1."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x.flatten(1), (0, 1), value=1.0)


def test_odin() -> None:
    clf = Classifier(Two())
    x = torch.tensor([[0.9, 0.2], [0.3, 0.8]]).view(2, 1, 1, 2)
    detector = ODIN(temperature=2, eps=0.01)
    e = clf.embed(x)
    # class 2 wins both; more of it is less of every pixel
    by_hand = [
        1 - exp(1 / 2) / (exp(1 / 2) + sum(exp((z - 0.01) / 2) for z in pixels))
        for pixels in ((0.9, 0.2), (0.3, 0.8))
    ]
    assert detector.fit(e).score(e).tolist() == pytest.approx(by_hand, rel=1e-6)


def test_odin_sees_what_float32_would_round_away() -> None:
    e = Classifier(Two()).embed(torch.tensor([[0.9, 0.2], [0.9, 0.2001]]).view(2, 1, 1, 2))
    # the difference in p is 1e-4 / 1000 / 9
    found = ODIN(eps=0.0).fit(e).score(e)
    assert float(found.diff()) == pytest.approx(1e-7 / 9, rel=1e-2)


# -- several ---------------------------------------------------------------------------------------


def test_mean_of_ranks() -> None:
    of_each = [0, 0, 1, 1, 2, 2, 3, 3]  # labels, of each of which it learns from half: 8, 6, 4, 2
    held = said(*[[float(z), 0.0] for z in (8, 8, 6, 6, 4, 4, 2, 2)], y=of_each)
    detector = RankAverage(of=("max-logit", "energy"))
    fitted = detector.fit(said([1.0, 0.0]), calibrate=held, tpr=0.5)
    # 5 lies above two of four; a tie counts half; 5 with a large second logit has more energy
    assert fitted.score(said([5.0, 0.0], [6.0, 0.0], [9.0, 0.0], [1.0, 0.0])).tolist() == [
        0.5,
        0.375,
        0.0,
        1.0,
    ]
    assert float(fitted.score(said([5.0, 5.9]))) == pytest.approx((2 / 4 + 1 / 4) / 2)


def test_ranks_of_what_learns_from_held_out_data_are_among_other_rows() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(80, 3, generator=draw)
    held = Embedding(rows, None, y=torch.arange(80) % 3)
    of = ("kl-matching", "max-logit")
    fitted = RankAverage(of=of).fit(said([0.0, 0, 0]), calibrate=held, tpr=0.5)
    assert len(fitted.state["kl-matching/scores"]) == len(fitted.state["max-logit/scores"]) == 20
    alone = KLMatching().fit(said([0.0, 0, 0]), calibrate=held.halves()[0], tpr=0.5)
    assert torch.equal(alone.state["typical"], fitted.state["kl-matching/typical"])


def test_what_a_part_says_of_its_fit_the_mean_of_ranks_says_too() -> None:
    draw = torch.Generator().manual_seed(0)

    def rows(n: int) -> Embedding:
        y = torch.arange(n) % 3
        logits = torch.eye(4)[y] + torch.rand(n, 4, generator=draw) / 10
        return Embedding(logits, torch.randn(n, 40, generator=draw), y=y)

    of = ("mahalanobis", "kl-matching")
    notes = RankAverage(of=of).fit(rows(20), calibrate=rows(60)).notes
    assert notes[0].startswith("mahalanobis: the covariance of 20 rows with 40 features is singul")
    assert notes[1].startswith("mahalanobis: 1 of 4 classes have no row to learn from (3)")
    assert notes[2].startswith("kl-matching: 1 of 4 classes are predicted for no row it learned")
    assert len(notes) == 3


@pytest.mark.parametrize("detector", [KLMatching(), RankAverage(of=("kl-matching", "max-logit"))])
def test_halves_of_classes_that_take_turns_have_them_all(detector: Detector) -> None:
    y = torch.arange(400) % 4
    sure = Embedding(8 * torch.eye(4)[y] + torch.rand(400, 4) / 10, None, y=y)
    fitted = detector.fit(said([0.0, 0, 0, 0]), calibrate=sure)
    assert fitted.notes == ()
    assert fitted.state[next(n for n in fitted.state if n.endswith("typical"))].shape == (4, 4)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (["gen", "knnn"], "unknown detector 'knnn': did you mean 'knn'"),
        (["gen", "gen"], "there twice"),
        (["gen", "rank-average"], "rank-average is made of detectors itself"),
        (["gen"], "at least 2"),
    ],
)
def test_what_cannot_be_averaged(of: list[str], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        RankAverage.parse({"of": of})
