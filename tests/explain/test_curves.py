"""Deletion and insertion: areas by hand, against a loop over images and steps, and properties."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from contract.untouched import untouched
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.explain import deletion, insertion
from assay.explain.curves import order_of, places, random_order
from assay.explain.variants import missing

from .nets import LeNet, images, residual, seeded

WHITE = torch.ones(1, 1, 2, 2)
CLASS_0 = torch.tensor([0])
FACTORS = torch.tensor([[2.0, 4.0], [1.0, 0.5]])
"""What each white pixel multiplies the odds of class 0 by; those of a black image are 1 to 1."""


def odds() -> Classifier:
    """A linear model: the odds of class 0 are the product of the factors of the white pixels."""
    head = nn.Linear(4, 2)
    with torch.no_grad():
        head.weight.copy_(torch.stack([FACTORS.log().flatten(), torch.zeros(4)]))
        head.bias.zero_()
    return Classifier(nn.Sequential(nn.Flatten(), head), classes=["0", "1"])


def in_order(*pixels: int) -> Tensor:
    return places(torch.tensor([pixels])).view(1, 2, 2)


def test_areas_by_hand() -> None:
    # the white image has odds 4; the pixels go as 4, 2, 1, 1/2: odds 4, 1, 1/2, 1/2, 1
    ideal = in_order(1, 0, 2, 3)
    gone = deletion(odds(), WHITE, CLASS_0, ideal, steps=4, onto="black")
    np.testing.assert_allclose(gone.share, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(gone.probability[0], [4 / 5, 1 / 2, 1 / 3, 1 / 3, 1 / 2], rtol=1e-6)
    assert gone.area[0] == pytest.approx((0.4 + 1 / 2 + 1 / 3 + 1 / 3 + 0.25) / 4)
    # they come as 4, 2, 1, 1/2: odds 1, 4, 8, 8, 4
    come = insertion(odds(), WHITE, CLASS_0, ideal, steps=4, onto="black")
    np.testing.assert_allclose(come.probability[0], [1 / 2, 4 / 5, 8 / 9, 8 / 9, 4 / 5], rtol=1e-6)
    assert come.area[0] == pytest.approx((0.25 + 4 / 5 + 8 / 9 + 8 / 9 + 0.4) / 4)
    # in two parts the odds are 4, 1/2, 1
    halves = deletion(odds(), WHITE, CLASS_0, ideal, steps=2, onto="black")
    assert halves.area[0] == pytest.approx((0.4 + 1 / 3 + 0.25) / 2)
    # class 1 has the odds of class 0 against it
    other = deletion(odds(), WHITE, torch.tensor([1]), ideal, steps=4, onto="black")
    np.testing.assert_allclose(other.probability, 1 - gone.probability, rtol=1e-6)


def test_the_order_of_the_weights_is_the_best_of_all_orders() -> None:
    areas = {}
    for order in permutations(range(4)):
        kinds = [
            kind(odds(), WHITE, CLASS_0, in_order(*order), steps=4, onto="black").area[0]
            for kind in (deletion, insertion)
        ]
        areas[order] = kinds
    ideal = areas[(1, 0, 2, 3)]
    assert ideal[0] == min(gone for gone, _ in areas.values())
    assert ideal[1] == max(come for _, come in areas.values())
    assert sum(gone <= ideal[0] for gone, _ in areas.values()) == 1, "another order is as good"


def test_what_is_left_of_a_pixel() -> None:
    x = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    for onto, odds_then in (("mean", 4**0.5), (0.0, 1.0), (1.0, 4.0)):
        gone = deletion(odds(), x, CLASS_0, in_order(0, 1, 2, 3), steps=1, onto=onto)
        assert gone.probability[0, -1] == pytest.approx(odds_then / (1 + odds_then))


def test_parts_are_as_even_as_whole_pixels_are() -> None:
    x, clf = images(1, size=3), Classifier(nn.Sequential(nn.Flatten(), nn.Linear(27, 2)))
    order = random_order(x, 0)
    four = deletion(clf, x, CLASS_0, order, steps=4)
    np.testing.assert_allclose(four.share * 9, [0, 2, 4, 7, 9])
    many = deletion(clf, x, CLASS_0, order, steps=100)
    np.testing.assert_allclose(many.share * 9, range(10))
    # an area by shares: uneven parts count by their size
    whole = many.probability[0]
    by_hand = 2 / 9 * (whole[0] + whole[2]) / 2 + 2 / 9 * (whole[2] + whole[4]) / 2
    by_hand += 3 / 9 * (whole[4] + whole[7]) / 2 + 2 / 9 * (whole[7] + whole[9]) / 2
    assert four.area[0] == pytest.approx(by_hand, abs=1e-6)


def one_by_one(
    clf: Classifier, start: Tensor, end: Tensor, target: int, order: list[int], each: int
) -> list[float]:
    """Exchange the pixels of one image (1, C, H, W), `each` at a time, asking every time."""
    width, now = start.shape[3], start.clone()
    said = [float(clf.query(now).softmax(1)[0, target])]
    for first in range(0, len(order), each):
        for pixel in order[first : first + each]:
            row, column = divmod(pixel, width)
            now[0, :, row, column] = end[0, :, row, column]
        said.append(float(clf.query(now).softmax(1)[0, target]))
    return said


@pytest.mark.parametrize("make", [residual, LeNet])
def test_curves_equal_pixels_exchanged_one_by_one(make: object) -> None:
    model, x = seeded(make), images(3)
    clf, y = Classifier(model, batch_size=7, mean=[0.4] * 3, std=[0.3] * 3), torch.tensor([2, 0, 1])
    maps = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    order = order_of(maps, random_order(x, 0))
    with untouched(model):
        gone = deletion(clf, x, y, order, steps=8)
        come = insertion(clf, x, y, order, steps=8)
    blurred, mean = missing("blur", x), missing("mean", x)
    for row in range(3):
        one, pixels = [row], maps[row].flatten().argsort(descending=True).tolist()
        expected = one_by_one(clf, x[one], mean[one], int(y[row]), pixels, 128)
        np.testing.assert_allclose(gone.probability[row], expected, atol=1e-5)
        # the area as the authors' code has it
        area = (sum(expected) - expected[0] / 2 - expected[-1] / 2) / (len(expected) - 1)
        assert gone.area[row] == pytest.approx(area, abs=1e-5)
        expected = one_by_one(clf, blurred[one], x[one], int(y[row]), pixels, 128)
        np.testing.assert_allclose(come.probability[row], expected, atol=1e-5)
        assert np.ptp(expected) > 1e-3


@given(
    st.lists(st.integers(-3, 3), min_size=16, max_size=16),
    st.integers(1, 20),
    st.floats(0.1, 50),
    st.integers(0, 3),
)
def test_an_area_is_a_share_and_only_the_order_of_a_map_matters(
    values: list[int], steps: int, scale: float, seed: int
) -> None:
    x = images(1, size=4)
    torch.manual_seed(seed)
    head = nn.Linear(48, 2)
    with torch.no_grad():
        head.weight.mul_(scale)
    clf, ties = Classifier(nn.Sequential(nn.Flatten(), head)), random_order(x, seed)
    maps = torch.tensor(values, dtype=torch.float32).view(1, 4, 4)
    order = order_of(maps, ties)
    for kind in (deletion, insertion):
        area = kind(clf, x, CLASS_0, order, steps=steps).area[0]
        assert -1e-9 <= area <= 1 + 1e-9
        for same in (maps.exp(), maps**3, 2 * maps - 7):
            assert kind(clf, x, CLASS_0, order_of(same, ties), steps=steps).area[0] == area


def test_equal_values_go_in_the_order_of_the_ties() -> None:
    x = images(5, size=6)
    ties = random_order(x, 3)
    assert torch.equal(order_of(torch.zeros(5, 6, 6), ties), ties)
    half = torch.zeros(5, 6, 6)
    half[:, :3] = 1
    order = order_of(half, ties)
    assert order[:, :3].flatten(1).sort(1).values.tolist() == [list(range(18))] * 5
    for part in (slice(0, 3), slice(3, 6)):
        kept, drawn = order[:, part].flatten(1), ties[:, part].flatten(1)
        assert torch.equal(kept.argsort(1), drawn.argsort(1))


def test_random_orders_are_drawn_image_by_image() -> None:
    x = images(6, size=8)
    state = torch.random.get_rng_state()
    order = random_order(x, 0)
    assert torch.equal(torch.random.get_rng_state(), state), "drew from the ambient generator"
    assert torch.equal(random_order(x[:2], 0), order[:2])
    assert not torch.equal(order[0], order[1])
    assert not torch.equal(random_order(x, 1), order)
    assert order.flatten(1).sort(1).values.tolist() == [list(range(64))] * 6


def test_the_fast_copy_answers_in_batches_that_fit() -> None:
    rows: list[int] = []

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(residual)

        def forward(self, x: Tensor) -> Tensor:
            rows.append(len(x))
            out: Tensor = self.net(x)
            return out

    clf, x = Classifier(Counted(), batch_size=5), images(4)
    y = clf.predict(x)
    before, rows[:] = clf.queries, []
    deletion(clf, x, y, random_order(x, 0), steps=8)
    assert max(rows) <= 5
    assert clf.queries - before >= 4 * 9, "what a copy is asked counts"


def test_a_model_that_has_no_fast_copy_is_asked_as_it_predicts() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Dropout(0.5), seeded(residual))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.net(x)
            return out

        def __deepcopy__(self, memo: object) -> None:
            raise TypeError("held by a lock")

    held, x, y = Held().train(), images(2), torch.tensor([0, 1])
    order = random_order(x, 0)
    with untouched(held):
        found = deletion(Classifier(held), x, y, order, steps=4).probability
    same = deletion(Classifier(seeded(residual)), x, y, order, steps=4).probability
    np.testing.assert_allclose(found, same, atol=1e-5)


def test_probabilities_that_were_declared_are_used() -> None:
    model = nn.Sequential(odds().model, nn.Softmax(1))
    clf = Classifier(model, outputs="probabilities")
    gone = deletion(clf, WHITE, CLASS_0, in_order(1, 0, 2, 3), steps=4, onto="black")
    np.testing.assert_allclose(gone.probability[0], [4 / 5, 1 / 2, 1 / 3, 1 / 3, 1 / 2], rtol=1e-6)
