"""The genetic attack: the elite stays, the fit are parents, mutation fades on plateaus."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import Genetic
from assay.attacks.methods import genetic
from assay.attacks.methods.genetic import bred, odds, parents_of, successes
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.core.random import Stream

N = 24


@pytest.fixture(scope="module")
def clf() -> Classifier:
    """A small network with random weights."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(12 * 25, 5)
    )
    return Classifier(model, mean=[0.5] * 3, std=[0.2] * 3)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(4).rows(range(N)).uniform((3, 12, 12))


def test_odds_are_those_of_the_softmax() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [3.0, -3.0, 0.0]], dtype=torch.float64)
    share = logits.softmax(1)[[0, 1], [2, 0]]
    expected = torch.log((1 - share) / share)
    assert torch.allclose(odds(logits, torch.tensor([2, 0])), expected, atol=1e-12)


@pytest.mark.parametrize("targeted", [False, True])
def test_breeding_beats_as_many_random_candidates(
    clf: Classifier, x: Tensor, targeted: bool
) -> None:
    y = clf.predict(x)
    goal = (y + 1) % 5 if targeted else None
    bred = Genetic(eps=0.05, steps=79)(clf, x, y, targets=goal)
    random = Genetic(eps=0.05, population=400, steps=1)(clf, x, y, targets=goal)
    assert int(bred.queries.max()) < int(random.queries.max())
    assert int(bred.success.sum()) > int(random.success.sum())
    assert bred.success_rate.value >= 0.3


def test_the_elite_is_never_lost_nor_evaluated_again(clf: Classifier, x: Tensor) -> None:
    attack = Genetic(eps=0.05, steps=25)
    loss, y = attack.objective(False), clf.predict(x)
    search = attack.search(
        clf, x, y, threat=attack.threat, loss=loss, targeted=False, rng=Stream(0).rows(range(N))
    )
    best, won, before = torch.full((N,), -torch.inf), torch.zeros(N, dtype=torch.bool), x
    asked = []
    for iterate in search:
        asked.append(iterate.spent)
        assert iterate.logits is not None
        same = (iterate.adversarial == before).flatten(1).all(1)
        assert bool((iterate.logits.isnan().all(1) | ~same).all())
        answer = clf.query(iterate.adversarial)
        fooled, rise = answer.argmax(1) != y, loss(answer, y)
        assert bool((fooled | ~won).all())  # once fooled, always fooled
        assert bool((rise >= best - 1e-3)[fooled == won].all())
        best, won, before = rise, fooled, iterate.adversarial
    assert asked == [6] + [5] * 25


def test_parents_are_drawn_by_the_softmax_in_units_of_the_spread() -> None:
    fitness = torch.tensor([0.0, 1.0, 2.0, 3.0]).expand(4000, 4)
    for scale in (1.0, 1e-4):
        parents, share = parents_of(fitness * scale + 7, 0.5, Stream(0).rows(range(4000)))
        spread = math.sqrt(5 / 3)
        expected = torch.softmax(torch.arange(4.0) / (0.5 * spread), 0)
        seen = torch.bincount(parents.flatten(), minlength=4) / parents.numel()
        assert torch.allclose(seen, expected, atol=0.01)
        one, two = expected[parents[:, 0]], expected[parents[:, 1]]
        assert torch.allclose(share, one / (one + two), atol=0.02 if scale < 1 else 1e-5)


def test_children_mix_their_parents_and_mutate_as_said() -> None:
    pool = torch.stack([torch.zeros(4800), torch.ones(4800)])[None].expand(2, -1, -1)
    parents = torch.tensor([[[0], [1]], [[1], [0]]])  # (image, which parent, child)
    share, rate = torch.tensor([[0.3], [0.9]]), torch.tensor([0.2, 0.5])
    most = torch.tensor([0.05, 0.25])
    made = bred(pool, parents, share, rate, most, Stream(0).rows(range(2)), 0.5)[:, 0]
    for image, zeros in ((0, 0.3), (1, 0.1)):
        from_zero = made[image].abs() <= 0.5
        assert float(from_zero.float().mean()) == pytest.approx(zeros, abs=0.03)
        shift = made[image] - (~from_zero).float()
        moved = shift[shift != 0]
        assert len(moved) / shift.numel() == pytest.approx(float(rate[image]), abs=0.03)
        far = float(most[image])
        assert float(moved.abs().max()) == pytest.approx(far, rel=0.02)
        assert float(moved.abs().mean()) == pytest.approx(far / 2, rel=0.05)  # uniform
        assert float(moved.mean()) == pytest.approx(0, abs=far / 20)
        # whose a value is says nothing of whether it mutates
        share_of_moved = (from_zero & (shift != 0)).sum() / (shift != 0).sum()
        assert float(share_of_moved) == pytest.approx(zeros, abs=0.04)


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.3, 0.97, 1.0])
def test_each_value_mutates_by_itself_with_the_given_probability(rate: float) -> None:
    """Places of successes, drawn by the gaps between them, are those of independent trials."""
    n, rows, count = 200, 5, 400
    draws = Stream(3).rows(range(n))
    places, known = successes(torch.full((n,), rate), rows, count, draws, rate)
    assert places.shape[2] < count or rate > 0.8, "seven standard deviations are fewer than all"
    hit = torch.zeros(n, rows, count).scatter_add_(2, places, known.float()).flatten(0, 1)
    assert hit.unique().tolist() in ([0.0, 1.0], [1.0]), "no place is drawn twice"
    slack = 4.5 * math.sqrt(rate * (1 - rate) / len(hit)) + 1e-9
    assert float((hit.mean(0) - rate).abs().max()) <= slack, "the same at every place"
    pairs = (hit[:, 1:] * hit[:, :-1]).mean()
    assert float(pairs) == pytest.approx(rate**2, abs=slack), "neighbours do not matter"
    spread = count * rate * (1 - rate)
    assert float(hit.sum(1).var()) == pytest.approx(spread, rel=0.2, abs=1e-6)


def test_what_a_row_draws_does_not_depend_on_the_others_rates() -> None:
    rate = torch.tensor([0.045, 0.3, 0.02])
    whole = successes(rate, 5, 3072, Stream(0).rows(range(3)), 0.3)
    for row in range(3):
        one = slice(row, row + 1)
        alone = successes(rate[one], 5, 3072, Stream(0).rows([row]), 0.3)
        assert all(torch.equal(a, b[one]) for a, b in zip(alone, whole, strict=True))


def test_an_image_fares_as_it_would_alone_also_past_plateaus(clf: Classifier, x: Tensor) -> None:
    def coarse(images: Any) -> Any:
        return torch.round(clf.query(torch.as_tensor(images)) * 40).div(40).softmax(1)

    def run(rows: slice) -> Any:
        box = BlackBox(coarse, classes=5, access="scores")
        y = clf.predict(x)[rows]
        attack = Genetic(eps=0.02, steps=400)
        return attack(box, x[rows], y, stop="never", ids=torch.arange(8)[rows], batch_size=8)

    whole = run(slice(0, 8))
    for row in range(0, 8, 3):
        alone = run(slice(row, row + 1))
        assert torch.equal(alone.adversarial[0], whole.adversarial[row])


def test_a_model_that_views_its_images_is_attacked(x: Tensor) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(3 * 12 * 12, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images.view(len(images), -1))

    clf = Classifier(Views())
    result = Genetic(steps=20, eps=0.1)(clf, x, clf.predict(x))
    assert int(result.success.sum()) > 0


def test_mutation_fades_on_plateaus(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing ever improves, each 100 generations are a plateau, down to the floors."""
    used: list[tuple[float, float]] = []

    def watched(*given: Any) -> Tensor:
        used.append((float(given[3]), float(given[4])))
        return bred(*given)

    def same(images: Any) -> Tensor:
        return torch.tensor([[0.6, 0.4]]).expand(len(images), 2)

    monkeypatch.setattr(genetic, "bred", watched)
    attack = Genetic(
        eps=0.1, steps=301, mutation_rate=0.5, mutation_range=1, least_rate=0.42, least_range=0.5
    )
    attack(BlackBox(same, classes=2, access="scores"), x[:1], torch.zeros(1, dtype=torch.int64))
    rates, reaches = zip(*used, strict=True)
    for plateau, rate in enumerate((0.5, 0.45, 0.42)):
        inside = slice(100 * plateau, 100 * plateau + 100)
        assert rates[inside] == pytest.approx([rate] * 100)
        assert reaches[inside] == pytest.approx([0.1 * 0.9**plateau] * 100)
