"""DeepFool: straight to the nearest linearised boundary, and a little beyond."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.attacks import DeepFool
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError

N, K, SHAPE = 12, 5, (3, 4, 4)
ORDER = {"l2": 2.0, "linf": 1.0}
"""The dual norms."""


class Curved(nn.Module):
    """Boundaries that bend: several steps are needed, more for some images than for others."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, K))
        self.net[1].weight.data *= 12
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.scale


class Picky(Curved):
    """Answers NaN about images whose first pixel is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).masked_fill(x[:, 0, 0, :1] == 0, torch.nan)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform(SHAPE, 0.2, 0.8)


@pytest.fixture(scope="module")
def clf() -> Classifier:
    return Classifier(Curved())


def affine(seed: int, classes: int = K) -> tuple[Classifier, Tensor]:
    """Return a classifier whose boundaries are near the grey image, and its weights (K, D)."""
    torch.manual_seed(seed)
    layer = nn.Linear(48, classes)
    with torch.no_grad():
        layer.bias.copy_(-layer.weight.sum(1) / 2 + 0.02 * torch.randn(classes))
    return Classifier(nn.Sequential(nn.Flatten(), layer)), layer.weight.detach()


def least(clf: Classifier, weight: Tensor, x: Tensor, norm: str) -> Tensor:
    """Return how far the nearest of the hyperplanes is from each image, (n,)."""
    logits, y = clf.query(x), clf.predict(x)
    lead = logits.gather(1, y[:, None]) - logits
    slope = torch.linalg.vector_norm(weight[y][:, None] - weight[None], ORDER[norm], dim=2)
    return (lead / slope).scatter(1, y[:, None], torch.inf).amin(1)


class TestOnHyperplanes:
    @given(seed=st.integers(0, 10_000), overshoot=st.floats(0, 0.5))
    @pytest.mark.parametrize("norm", ORDER)
    def test_one_step_to_the_nearest_and_beyond_by_the_overshoot(
        self, norm: str, seed: int, overshoot: float
    ) -> None:
        clf, weight = affine(seed)
        x = Stream(seed).rows(range(4)).uniform(SHAPE, 0.4, 0.6)
        found = DeepFool(norm=norm, overshoot=overshoot)(clf, x)
        assert bool(found.success.all())
        expected = (1 + overshoot) * least(clf, weight, x, norm)
        torch.testing.assert_close(found.distance, expected, rtol=2e-2, atol=2e-4)  # and SURE
        assert found.evaluations["gradient"] == 8  # one step, and the look that finds it enough

    def test_pixels_at_the_ends_leave_the_way_to_the_others(self) -> None:
        way = Stream(3).rows([0]).normal(SHAPE)
        x = torch.full((1, *SHAPE), 0.5)
        x[:, 0] = (way[:, 0] > 0).float()  # a third of the pixels cannot go on
        layer = nn.Linear(48, 2)
        with torch.no_grad():
            layer.weight.copy_(torch.cat([0 * way, way]).flatten(1))
            layer.bias.copy_(torch.tensor([0.0, -0.5 - float((way * x).sum())]))
        found = DeepFool()(Classifier(nn.Sequential(nn.Flatten(), layer)), x)
        assert bool(found.success.all())
        assert torch.equal(found.adversarial[:, 0], x[:, 0])
        assert found.evaluations["gradient"] == 2  # one step, and the look that finds it enough
        expected = 1.02 * 0.5 / float(way[:, 1:].norm())
        assert float(found.distance) == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("norm", ORDER)
    def test_towards_a_class_it_leaves_the_largest_other_behind(self, norm: str, x: Tensor) -> None:
        clf, weight = affine(5, classes=2)
        y = clf.predict(x)
        found = DeepFool(norm=norm)(clf, x, targets=1 - y)
        assert bool(found.success.all())
        torch.testing.assert_close(
            found.distance, 1.02 * least(clf, weight, x, norm), rtol=1e-2, atol=1e-4
        )


class TestOnCurves:
    @pytest.mark.parametrize("norm", ORDER)
    @pytest.mark.parametrize("targeted", [False, True])
    def test_it_gets_there(self, clf: Classifier, x: Tensor, norm: str, targeted: bool) -> None:
        y = clf.predict(x)
        goal = (y + 1) % K
        found = DeepFool(norm=norm)(clf, x, targets=goal if targeted else None)
        assert bool(found.success.all())
        if targeted:
            assert torch.equal(found.adversarial_prediction, goal)
            untargeted = DeepFool(norm=norm)(clf, x)
            assert float(found.distance.median()) > 1.3 * float(untargeted.distance.median())

    def test_an_image_that_is_beyond_is_queried_no_more(self, clf: Classifier, x: Tensor) -> None:
        found = DeepFool()(clf, x)
        spent = found.queries
        assert int(spent.min()) < int(spent.max())  # some need more steps than others
        alone = torch.cat([DeepFool()(clf, image[None]).queries for image in x])
        assert torch.equal(spent, alone)

    def test_steps_are_the_most(self, clf: Classifier, x: Tensor) -> None:
        few = DeepFool(steps=2)(clf, x)
        assert few.evaluations["gradient"] <= 2 * N
        assert not bool(few.success.all())
        assert bool(((few.adversarial - x).flatten(1).abs().amax(1) > 0).all())

    def test_the_candidates_are_the_largest_logits(self) -> None:
        # The second class is 1 away along a slope of 1, the third 2 along a slope of 10.
        layer = nn.Linear(4, 3)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.0] * 4, [1.0, 0, 0, 0], [0, 10.0, 0, 0]]))
            layer.bias.copy_(torch.tensor([0.0, -0.75, -5.5]))
        clf, grey = Classifier(nn.Sequential(nn.Flatten(), layer)), torch.full((1, 1, 2, 2), 0.5)
        assert DeepFool()(clf, grey).adversarial_prediction.tolist() == [2]
        assert DeepFool(candidates=2)(clf, grey).adversarial_prediction.tolist() == [1]


class TestBudget:
    @pytest.mark.parametrize("norm", ORDER)
    @pytest.mark.parametrize("stop", ["fooled", "never"])
    def test_what_lies_inside_eps_counts(
        self, clf: Classifier, x: Tensor, norm: str, stop: Any
    ) -> None:
        free = DeepFool(norm=norm)(clf, x)
        eps = float(free.distance.median())
        found = DeepFool(norm=norm, eps=eps)(clf, x, stop=stop)
        assert found.refused == 0
        assert bool(found.success[free.distance <= eps].all())
        assert not bool(found.success[free.distance > 1.1 * eps].any())
        assert float(found.distance.max()) <= eps + 1e-6
        inside = free.distance < eps
        torch.testing.assert_close(found.adversarial[inside], free.adversarial[inside])

    def test_a_row_that_stops_takes_its_own_with_it(self, clf: Classifier, x: Tensor) -> None:
        never, fooled = (DeepFool(eps=1.0)(clf, x, stop=stop) for stop in ("never", "fooled"))
        assert torch.equal(never.adversarial, fooled.adversarial)

    def test_l1_is_refused(self) -> None:
        with pytest.raises(AssayError, match="Input should be 'linf' or 'l2'"):
            DeepFool(norm="l1")  # type: ignore[arg-type]


class TestWhatModelsDo:
    @pytest.mark.parametrize("scale", [1e-25, 1e-10, 1e10, 1e25])
    @pytest.mark.parametrize("norm", ORDER)
    def test_the_scale_of_the_logits_does_not_matter(
        self, clf: Classifier, x: Tensor, norm: str, scale: float
    ) -> None:
        attack = DeepFool(norm=norm)
        expected, found = attack(clf, x), attack(Classifier(Curved(scale)), x)
        assert bool(found.success.all())
        torch.testing.assert_close(found.adversarial, expected.adversarial, rtol=0, atol=1e-4)

    @pytest.mark.parametrize(("share", "most"), [(0.0, 1), (1e-42, 50)])
    def test_where_the_slope_vanishes_nothing_breaks(
        self, x: Tensor, share: float, most: int
    ) -> None:
        class Flat(Curved):
            def forward(self, x: Tensor) -> Tensor:
                logits = 1e4 * super().forward(x * (x > 0.3))  # of some pixels there is no slope
                return logits.detach() + share * (logits - logits.detach())

        found = DeepFool()(Classifier(Flat()), x)
        assert found.refused == 0
        assert bool(found.adversarial.isfinite().all())
        assert found.evaluations["gradient"] <= most * N
        assert bool((found.distance > 0).all()) is (share > 0)

    def test_images_without_an_answer_are_left_alone(self, x: Tensor) -> None:
        x = x.clone()
        x[::3, 0, 0, 0] = 0
        clf = Classifier(Picky())
        found = DeepFool()(clf, x, clf.predict(x).clamp_min(0), attack_wrong=True)
        silent = torch.arange(N) % 3 == 0
        assert not bool(found.success[silent].any())
        assert torch.equal(found.adversarial[silent], x[silent])
        assert bool(found.success[~silent].all())
