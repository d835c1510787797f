"""Square: what it proposes, what it keeps, and how far it gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.methods.square import Layout, Square, bumps
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError

N, SIDE, EPS = 6, 12, {"linf": 0.03, "l2": 0.4, "l1": 3.0}


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, SIDE, SIDE), 0.3, 0.7)


@pytest.fixture(scope="module")
def clf() -> Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(200, 10))
    return Classifier(net, mean=[0.5] * 3, std=[0.1] * 3)


class Asked:
    """Answers with logits of 0 and of a value per row, and keeps what it was queried on."""

    def __init__(self, worth: Any) -> None:
        self.worth, self.seen = worth, []

    def query(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        value = torch.as_tensor(self.worth(x, len(self.seen))).expand(len(x)).float()
        return torch.stack([-value, torch.zeros(len(x))], 1)


def search(attack: Square, model: Any, x: Tensor, seed: int = 0) -> list[Tensor]:
    """Return the candidates of every step, of a search that leaves class 0."""
    found = attack.search(
        model,
        x,
        torch.zeros(len(x), dtype=torch.int64),
        threat=attack.threat,
        loss=attack.objective(False),
        targeted=False,
        rng=Stream(seed).rows(range(len(x))),
    )
    return [iterate.adversarial.clone() for iterate in found]


def extent(changed: Tensor) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of where a (C, H, W) mask is true; the ends are inside."""
    rows, columns = changed.any(0).any(1).nonzero()[:, 0], changed.any(0).any(0).nonzero()[:, 0]
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


class TestSizes:
    def test_they_shrink_as_in_the_paper(self) -> None:
        attack, layout = Square(queries=10_000), Layout(torch.zeros(1, 3, 32, 32))
        firsts = [0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]
        sides = [attack._side(first, layout) for first in firsts]
        assert sides == [29, 20, 14, 10, 7, 5, 4, 3, 2, 1]  # round √(0.8 / 2^k · 1024)
        assert [attack._side(first - 1, layout) for first in firsts[1:]] == sides[:-1]

    def test_the_schedule_stretches_with_the_queries(self) -> None:
        layout = Layout(torch.zeros(1, 3, 32, 32))
        short, long = Square(queries=1000), Square(queries=10_000)
        for number in (0, 5, 20, 100, 400, 999):
            assert short._side(number, layout) == long._side(10 * number, layout)

    def test_windows_in_l2_are_odd_and_have_room_for_two_bumps(self) -> None:
        layout = Layout(torch.zeros(1, 3, 32, 32))
        sides = {Square(norm="l2")._side(number, layout) for number in range(5000)}
        assert sides == {29, 21, 15, 11, 7, 5, 3}

    def test_none_is_larger_than_the_image(self) -> None:
        layout = Layout(torch.zeros(1, 1, 8, 40))
        assert Square(p_init=1.0)._side(0, layout) == 8


class TestProposals:
    def test_in_linf_a_square_of_the_ends_of_the_ball(self, x: Tensor) -> None:
        model = Asked(lambda _, count: -count)  # nothing is ever better than the first guess
        search(Square(eps=EPS["linf"], queries=120, p_init=0.2), model, x)
        guess, *proposals = model.seen
        assert torch.allclose((guess - x).abs(), torch.tensor(EPS["linf"]), atol=1e-6)
        assert bool(((guess - x) > 0).all(2).logical_or((guess - x < 0).all(2)).all())  # stripes
        tops = set()
        for number, asked in enumerate(proposals):
            side = Square(queries=120, p_init=0.2)._side(number, Layout(x))
            assert torch.allclose((asked - x).abs(), torch.tensor(EPS["linf"]), atol=1e-6)
            for row in range(N):
                changed = asked[row] != guess[row]
                assert bool(changed.any())  # no question is asked twice
                top, bottom, left, right = extent(changed)
                assert max(bottom - top, right - left) < side
                tops.add(top if side == 1 else None)
        assert {0, SIDE - 1} <= tops  # every edge is reached

    def test_in_l2_two_windows_one_of_which_is_undone(self, x: Tensor) -> None:
        model = Asked(lambda _, count: -count)
        search(Square(norm="l2", eps=0.4, queries=60, p_init=0.08), model, x)
        guess, *proposals = model.seen
        for asked in proposals:
            for row in range(N):
                changed = (asked[row] != guess[row]).any(0)
                assert 0 < int(changed.sum()) <= 2 * 9
                undone = (asked[row] == x[row]).all(0) & changed
                assert int(undone.sum()) <= 9

    @pytest.mark.parametrize("norm", ["l2", "l1"])
    def test_all_of_the_budget_is_spent(self, x: Tensor, norm: str) -> None:
        attack = Square(norm=norm, eps=EPS[norm], queries=80)
        for candidate in search(attack, Asked(lambda _, count: count), x)[1:]:
            moved = attack.threat.distance(x, candidate)
            assert torch.allclose(moved, torch.tensor(EPS[norm]), rtol=1e-5)

    def test_every_image_has_its_own(self, x: Tensor) -> None:
        same = x[:1].expand(N, -1, -1, -1)
        model = Asked(lambda _, count: -count)
        search(Square(queries=40), model, same)
        apart = [(asked[0] != asked[1:]).flatten(1).any(1).all() for asked in model.seen]
        assert sum(bool(each) for each in apart) >= 35

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_they_do_not_depend_on_the_order_in_memory(self, x: Tensor, norm: str) -> None:
        attack = Square(norm=norm, eps=EPS[norm], queries=30)
        plain = search(attack, Asked(lambda _, count: count), x)
        last = x.contiguous(memory_format=torch.channels_last)
        other = search(attack, Asked(lambda _, count: count), last)
        assert all(
            torch.allclose(a, b, atol=1e-6) and b.stride() == last.stride()
            for a, b in zip(plain, other, strict=True)
        )


class TestBumps:
    def test_three_pixels_by_hand(self) -> None:
        # above: (0.25, 1.25, 0.25); below: 0.25 around 1.25 in the second row; each of length 1
        above = torch.tensor([[0.25, 1.25, 0.25]])
        below = torch.tensor([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]])
        both = torch.cat([above / 1.6875**0.5, -below / 1.875**0.5]) / 2**0.5
        assert torch.allclose(bumps(3, "l2"), both)
        assert torch.allclose(bumps(3, "l1"), torch.cat([above / 1.75, -below / 2.5]) / 2)


class TestWhatIsKept:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_only_what_is_better(self, x: Tensor, norm: str) -> None:
        noise = torch.rand(200, N, generator=torch.Generator().manual_seed(0)) - 2  # never fooled
        model = Asked(lambda _, count: noise[count])
        kept = search(Square(norm=norm, eps=EPS[norm], queries=100), model, x)
        best = torch.full((N,), -torch.inf)
        image = torch.zeros_like(x)
        for number, candidate in enumerate(kept):
            worth = noise[number + 1]
            image[worth > best] = model.seen[number][worth > best]
            best = torch.maximum(best, worth)
            assert torch.equal(candidate, image)

    def test_a_success_is_not_given_up_for_a_better_loss(self) -> None:
        x, asked = torch.full((1, 1, 4, 4), 0.5), []

        def answer(x: Tensor) -> Tensor:
            # class 1 is nearer in cross entropy the second time, but is said the first time only
            said = [[0.0, 0.1, 0.0], [9.0, 8.0, -9.0]][min(len(asked), 1)]
            asked.append(x.clone())
            return torch.tensor([said])

        attack = Square(queries=5)
        model = type("Model", (), {"query": staticmethod(answer)})
        *_, last = attack.search(
            model,
            x,
            torch.tensor([1]),
            threat=attack.threat,
            loss=attack.objective(True),
            targeted=True,
            rng=Stream(0).rows([0]),
        )
        assert torch.equal(last.adversarial, asked[0])

    def test_rows_without_an_answer_are_not_kept(self, x: Tensor) -> None:
        model = Asked(lambda _, count: torch.nan if count % 2 else count)
        kept = search(Square(queries=10), model, x)
        assert not any(torch.equal(kept[-1], asked) for asked in model.seen[::2])
        assert torch.equal(kept[-1], model.seen[-1])


class TestAsAnAttack:
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_more_queries_fool_more(self, clf: Classifier, norm: str) -> None:
        x = Stream(2).rows(range(40)).uniform((3, SIDE, SIDE), 0.2, 0.8)
        eps = EPS[norm] / 2
        few, many = (
            Square(norm=norm, eps=eps, queries=queries)(clf, x, stop="fooled")
            for queries in (5, 300)
        )
        assert many.success_rate.value >= few.success_rate.value + 0.2
        assert many.success_rate.value >= 0.5
        assert many.refused == few.refused == 0

    def test_it_queries_as_often_as_it_says(self, clf: Classifier, x: Tensor) -> None:
        never = Square(queries=20, restarts=3)(clf, x, stop="never")
        # the clean prediction; 20 questions and the confirmation of what they led to
        assert int(never.queries.max()) == 1 + 3 * 21
        assert never.queries[~never.success].tolist() == [64] * int((~never.success).sum())

    def test_restarts_are_other_searches(self, clf: Classifier) -> None:
        x = Stream(2).rows(range(40)).uniform((3, SIDE, SIDE), 0.2, 0.8)
        one, four = (
            Square(eps=0.01, queries=15, restarts=restarts)(clf, x, stop="fooled")
            for restarts in (1, 4)
        )
        assert int(four.success.sum()) > int(one.success.sum())
        assert bool((four.success | ~one.success).all())

    def test_a_budget_that_is_none_is_refused(self) -> None:
        for settings in ({"p_init": 0}, {"p_init": 1.5}, {"queries": 0}, {"eps": 2}):
            with pytest.raises(AssayError):
                Square(**settings)
