"""Few pixels: what may be changed, by how much, and what evolution keeps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.attacks import FewPixel, OnePixel
from assay.attacks.methods.pixels import first, nearest, others, painted
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError

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
    return Stream(4).rows(range(N)).uniform((3, 12, 12), 0.2, 0.8)


def changed(x: Tensor, adversarial: Tensor) -> Tensor:
    return (x != adversarial).any(1).flatten(1).sum(1)


@pytest.mark.parametrize("steps", [1, 10])
def test_size_holds_although_the_runner_checks_pixels_alone(
    clf: Classifier, x: Tensor, steps: int
) -> None:
    attack = FewPixel(eps=6, size=0.031, steps=steps)
    adversarial = attack(clf, x).adversarial
    assert float((adversarial - x).abs().max()) == pytest.approx(0.031, abs=1e-6)
    assert int(changed(x, adversarial).max()) == 6
    free = FewPixel(eps=6, steps=steps)(clf, x)
    assert float((free.adversarial - x).abs().max()) > 0.5
    assert int(changed(x, free.adversarial).max()) <= 6


class Saturating(nn.Module):
    """Sees three pixels. The steepest two say the same, and no more than one of them can."""

    def forward(self, x: Tensor) -> Tensor:
        twins = (x[:, 0, 0, 0] + x[:, 0, 0, 1]).clamp_max(0.6)
        third = x[:, 0, 5, 5].clamp_max(0.6)
        return torch.stack([torch.ones_like(third), twins + 0.9 * third], dim=1)


def test_one_step_takes_the_steepest_pixels_and_more_choose_again() -> None:
    x, y = torch.full((2, 3, 12, 12), 0.1), torch.zeros(2, dtype=torch.int64)
    single, many = (
        FewPixel(eps=2, steps=steps)(Classifier(Saturating()), x, y) for steps in (1, 20)
    )
    moved = (single.adversarial != x).any(1)[0].nonzero().tolist()
    assert moved == [[0, 0], [0, 1]]
    assert not bool(single.success.any())
    assert bool(many.success.all())
    assert bool((many.adversarial[:, 0, 5, 5] >= 0.5).all())


def test_the_best_step_is_returned_not_the_last(clf: Classifier, x: Tensor) -> None:
    attack = FewPixel(eps=4, steps=12, step_size=1.0)  # long enough to jump to and fro
    loss, y = attack.objective(False), clf.predict(x)
    search = attack.search(
        clf, x, y, threat=attack.threat, loss=loss, targeted=False, rng=Stream(0).rows(range(N))
    )
    with clf.borrowed():
        seen = [loss(clf.query(iterate.adversarial), y) for iterate in search]
    reached = torch.stack(seen[1:])
    assert torch.allclose(reached[-1], reached.amax(0), atol=1e-5)
    assert float((reached[-1] > reached[-2] + 1e-4).float().mean()) > 0.2


@given(count=st.integers(0, 20), reach=st.floats(0.01, 1), seed=st.integers(0, 2**31))
def test_nearest_is_the_nearest_of_what_is_allowed(count: int, reach: float, seed: int) -> None:
    rows = Stream(seed).rows(range(3))
    x, far = rows.uniform((2, 4, 4)), rows.uniform((2, 4, 4), -1, 2)
    found = nearest(x, far, count, reach)
    assert int(changed(x, found).max()) <= count
    assert float((found - x).abs().max()) <= reach + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    low, high = (x - reach).clamp_min(0), (x + reach).clamp_max(1)
    chosen = rows.uniform((4, 4)).flatten(1).argsort(1)[:, :count]  # any other pixels
    mask = torch.zeros(3, 16).scatter_(1, chosen, 1.0).view(3, 1, 4, 4).bool()
    rival = torch.where(mask, torch.minimum(torch.maximum(far, low), high), x)
    ours, theirs = ((image - far).square().flatten(1).sum(1) for image in (found, rival))
    assert bool((ours <= theirs + 1e-5).all())


def test_far_out_pixels_without_a_slope_gain_nothing() -> None:
    """Of 1e7² a gain of 1e6 is less than one step of float32."""
    x = Stream(4).rows([0]).uniform((1, 64, 64))
    far = x.clone()
    far[0, 0, 3, :10] = 1e7
    found = nearest(x, far, 10, 0.03)
    assert (found != x).nonzero()[:, 2].tolist() == [3] * 10
    assert (found != x).nonzero()[:, 3].tolist() == list(range(10))


def test_a_single_pixel_is_found_where_one_alone_matters(x: Tensor) -> None:
    """A model that sees one pixel's red, and must not see more than 0.9 there."""

    def scores(images: object) -> Tensor:
        red = torch.as_tensor(images)[:, 0, 7, 3]
        return torch.stack([1 - red**2, red**2], dim=1)

    box = BlackBox(scores, classes=2, access="scores")
    result = OnePixel(population=150, steps=20)(box, x, torch.zeros(N, dtype=torch.int64))
    assert result.success_rate.value >= 0.9
    won = result.adversarial[result.success]
    assert bool((won[:, 0, 7, 3] ** 2 > 0.5).all())
    assert int(changed(x, result.adversarial).max()) == 1


def test_a_father_is_replaced_by_a_better_child_alone(clf: Classifier, x: Tensor) -> None:
    attack = OnePixel(eps=2, population=12, steps=8)
    loss, y = attack.objective(False), clf.predict(x)
    search = attack.search(
        clf, x, y, threat=attack.threat, loss=loss, targeted=False, rng=Stream(0).rows(range(N))
    )
    best = torch.full((N,), -torch.inf)
    won = torch.zeros(N, dtype=torch.bool)
    for iterate in search:
        answer = clf.query(iterate.adversarial)
        fooled, rise = answer.argmax(1) != y, loss(answer, y)
        assert bool((fooled | ~won).all())  # once fooled, always fooled
        assert bool((rise >= best - 1e-3)[fooled == won].all())
        best, won = rise, fooled
    assert bool(won.any())


def test_evolution_beats_as_many_random_pixels(clf: Classifier, x: Tensor) -> None:
    evolved = OnePixel(eps=3, population=20, steps=39)(clf, x)
    random = OnePixel(eps=3, population=400, steps=1)(clf, x)
    assert int(evolved.queries.max()) <= int(random.queries.max())
    y = clf.predict(x)
    loss = OnePixel().objective(False)
    gain = loss(clf.query(evolved.adversarial), y) - loss(clf.query(random.adversarial), y)
    assert float((gain > 0).float().mean()) >= 0.6
    assert float(gain.mean()) > 0


def test_the_best_says_something_only_where_it_is_new(clf: Classifier, x: Tensor) -> None:
    """Otherwise the runner would ask the original about a refuted candidate at every generation."""
    attack = OnePixel(population=8, steps=10)
    y = clf.predict(x)
    rng = Stream(0).rows(range(N))
    search = attack.search(
        clf, x, y, threat=attack.threat, loss=attack.objective(False), targeted=False, rng=rng
    )
    before = None
    silent = 0
    for iterate in search:
        assert iterate.logits is not None
        if before is not None:
            same = (iterate.adversarial == before).flatten(1).all(1)
            assert bool((iterate.logits.isnan().all(1) | ~same).all())
            silent += int(same.sum())
        before = iterate.adversarial
    assert silent > 0


def test_three_others_are_drawn_evenly() -> None:
    picks = torch.stack([torch.arange(6).expand(4000, 6), *others(Stream(0).rows(range(4000)), 6)])
    ordered = picks.sort(0).values
    assert bool((ordered[1:] > ordered[:-1]).all())  # all four are different
    for drawn in picks[1:]:
        shares = torch.bincount(drawn[:, 2], minlength=6) / 4000
        assert shares[2] == 0
        assert float((shares[[0, 1, 3, 4, 5]] - 0.2).abs().max()) < 0.03


@pytest.mark.parametrize("base", ["best", "random"])
def test_children_start_from_the_best_or_from_any_other(base: str) -> None:
    attack = OnePixel(population=5, weight=1e-4, base=base)
    ends = torch.tensor([8.0, 8.0, 1.0])
    pool = first(Stream(0).rows(range(100)), 5, 1, ends)
    merit = Stream(1).rows(range(100)).uniform((5,))
    made = attack._children(pool, merit, ends, Stream(2).rows(range(100)))
    apart = (made[:, :, None] - pool[:, None]).abs().flatten(3).amax(3)  # (image, child, father)
    origin = apart.argmin(2)
    assert float(apart.amin(2).quantile(0.95)) < 2e-3
    led = origin == merit.argmax(1)[:, None]
    own = origin == torch.arange(5)
    if base == "best":
        assert bool(led.all())
    else:
        assert not bool(own.any())
        assert 0.1 < float(led.float().mean()) < 0.3


def test_the_first_population_is_the_papers() -> None:
    pool = first(Stream(0).rows(range(200)), 50, 2, torch.tensor([32.0, 16.0, 1.0, 1.0, 1.0]))
    rows, columns, colours = pool[..., 0], pool[..., 1], pool[..., 2:]
    assert float(rows.mean()) == pytest.approx(16, abs=0.3)
    assert float(columns.max()) == pytest.approx(16, abs=0.01)
    # a Gaussian of mean 128 and deviation 127 is below 0 with 15.7 %, above 255 with 15.9 %
    assert float((colours == 0).float().mean()) == pytest.approx(0.157, abs=0.01)
    assert float((colours == 1).float().mean()) == pytest.approx(0.159, abs=0.01)


def test_pixels_are_painted_on_their_own_image() -> None:
    x = torch.zeros(2, 3, 4, 5)
    pixels = torch.tensor([[[1.9, 4.2, 0.1, 0.2, 0.3]], [[3.0, 0.0, 0.4, 0.5, 0.6]]])
    made = painted(x, pixels)
    assert made[0, :, 1, 4].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert made[1, :, 3, 0].tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert int((made != 0).sum()) == 6
    assert float(x.abs().sum()) == 0


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (FewPixel, {"eps": 1.5}),
        (FewPixel, {"size": 0}),
        (FewPixel, {"size": 2}),
        (OnePixel, {"eps": 0}),
        (OnePixel, {"population": 3}),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    kind: type[FewPixel | OnePixel], wrong: dict[str, float]
) -> None:
    with pytest.raises(AssayError, match=next(iter(wrong))):
        kind.parse(wrong)
