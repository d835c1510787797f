"""Carlini & Wagner: the nearest adversarial image that Adam finds, over several values of c."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import CarliniWagner
from assay.attacks.losses import margin
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError

N, K, SHAPE = 8, 5, (3, 4, 4)
QUICK = CarliniWagner(steps=60, searches=4, initial_c=0.1)


class Curved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.Tanh(), nn.Linear(32, K))
        self.net[1].weight.data *= 4

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Picky(Curved):
    """Answers NaN about images whose first pixel is below 0.01."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).masked_fill(x[:, 0, 0, :1] < 0.01, torch.nan)


class Deaf(Curved):
    """Says the same whatever it is shown, and claims a slope."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits - logits.detach() + torch.tensor([2.0, 0, 0, 0, 0])


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform(SHAPE, 0.2, 0.8)


@pytest.fixture(scope="module")
def clf() -> Classifier:
    return Classifier(Curved())


class TestDistance:
    def test_it_is_nearly_that_to_the_nearest_hyperplane(self, x: Tensor) -> None:
        torch.manual_seed(3)
        layer = nn.Linear(48, K)
        clf = Classifier(nn.Sequential(nn.Flatten(), layer))
        logits, y, weight = clf.query(x), clf.predict(x), layer.weight.detach()
        lead = logits.gather(1, y[:, None]) - logits
        slope = (weight[y][:, None] - weight[None]).norm(dim=2)
        least = (lead / slope).scatter(1, y[:, None], torch.inf).amin(1)
        found = CarliniWagner(steps=100, searches=7, initial_c=0.03)(clf, x)
        assert bool(found.success.all())
        assert bool((found.distance >= 0.999 * least).all())
        assert float((found.distance / least).max()) <= 1.03

    def test_more_values_of_c_bring_it_nearer(self, clf: Classifier, x: Tensor) -> None:
        one = CarliniWagner(steps=60, searches=1, initial_c=3.0)(clf, x)
        many = CarliniWagner(steps=60, searches=6, initial_c=3.0)(clf, x)
        assert bool(one.success.all())
        assert bool((many.distance <= one.distance).all())
        assert float(many.distance.mean()) < 0.97 * float(one.distance.mean())

    def test_confidence_is_by_how_much_another_class_leads(
        self, clf: Classifier, x: Tensor
    ) -> None:
        medians = []
        for confidence in (0.0, 0.5, 1.0):
            found = QUICK.model_copy(update={"confidence": confidence})(clf, x)
            assert bool(found.success.all())
            lead = margin(clf.query(found.adversarial), found.labels)
            assert float(lead.min()) >= confidence - 1e-4
            assert float(lead.median()) <= confidence + 0.2
            medians.append(found.median_distance or 0.0)
        assert medians[0] < medians[1] < medians[2]

    def test_a_target_is_reached(self, clf: Classifier, x: Tensor) -> None:
        goal = (clf.predict(x) + 1) % K
        found, nearest = QUICK(clf, x, targets=goal), QUICK(clf, x)
        assert torch.equal(found.adversarial_prediction, goal)
        assert float(found.distance.mean()) > 1.2 * float(nearest.distance.mean())

    def test_only_l2_is_known(self) -> None:
        with pytest.raises(AssayError, match="Input should be 'l2'"):
            CarliniWagner(norm="linf")  # type: ignore[arg-type]


class TestPace:
    def test_every_step_is_a_gradient(self, clf: Classifier, x: Tensor) -> None:
        attack = CarliniWagner(steps=7, searches=3, abort_early=False)
        assert attack(clf, x).evaluations["gradient"] == 7 * 3 * N

    def test_who_gets_no_further_waits_for_the_next_c(self, clf: Classifier, x: Tensor) -> None:
        settings = {"steps": 100, "searches": 2, "initial_c": 1.0}
        every = CarliniWagner(**settings, abort_early=False)(clf, x)
        early = CarliniWagner(**settings)(clf, x)
        asked = early.queries - 2  # the clean image, and the confirmation
        assert int(asked.min()) < int(asked.max())
        assert bool((asked % 10 == 0).all())
        assert float(asked.double().mean()) < 0.8 * 200
        assert float((early.distance / every.distance).max()) <= 1.05

    def test_an_image_goes_as_it_would_alone(self, clf: Classifier, x: Tensor) -> None:
        together = QUICK(clf, x)
        for row in (0, N - 1):
            alone = QUICK(clf, x[row : row + 1])
            assert int(alone.queries) == int(together.queries[row])
            assert float(alone.distance) == pytest.approx(float(together.distance[row]), rel=1e-3)


class TestBudget:
    @pytest.mark.parametrize("stop", ["fooled", "never"])
    def test_what_lies_inside_eps_counts(self, clf: Classifier, x: Tensor, stop: Any) -> None:
        free = QUICK(clf, x)
        eps = float(free.distance.median())
        found = QUICK.model_copy(update={"eps": eps})(clf, x, stop=stop)
        assert found.refused == 0
        assert torch.equal(found.success, free.distance <= eps)
        assert float(found.distance.max()) <= eps + 1e-6
        assert 0 < int(found.success.sum()) < N
        if stop == "fooled":
            saved = found.queries[found.success], free.queries[found.success]
            assert bool((saved[0] < saved[1]).all())
        assert bool((found.queries <= free.queries)[~found.success].all())

    def test_of_a_search_cut_short_the_nearest_so_far_is_left(
        self, clf: Classifier, x: Tensor
    ) -> None:
        attack = CarliniWagner(steps=60, searches=5, initial_c=3.0, abort_early=False)
        whole = attack(clf, x)
        cut = attack(
            clf, x, query_budget=64
        )  # in the first steps for a second c, which fool nobody
        assert bool(cut.success.all())
        assert bool((cut.distance >= whole.distance).all())


class TestWhatModelsDo:
    def test_pixels_at_the_very_ends_can_move(self) -> None:
        torch.manual_seed(1)
        clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)))
        x = Stream(2).rows(range(2)).uniform(SHAPE).round()
        found = CarliniWagner(steps=900, searches=1, initial_c=10.0, abort_early=False)(clf, x)
        assert bool(found.success.all())
        assert float(found.adversarial.min()) >= 0
        assert float(found.adversarial.max()) <= 1

    def test_c_grows_no_further_than_float32_reaches(self, x: Tensor) -> None:
        found = CarliniWagner(steps=2, searches=60, abort_early=False)(Classifier(Deaf()), x)
        assert not bool(found.success.any())
        assert found.refused == 0
        assert bool(found.adversarial.isfinite().all())

    def test_without_a_slope_it_stays(self, x: Tensor) -> None:
        class Flat(Curved):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(0 * x + 0.5)

        found = QUICK(Classifier(Flat()), x)
        assert not bool(found.success.any())
        assert float(found.distance.max()) <= 1e-5
        assert found.evaluations["gradient"] <= N * 4 * 60 / 2

    def test_where_a_slope_is_not_a_number_the_rest_is_followed(self, x: Tensor) -> None:
        class Broken(Curved):
            def forward(self, x: Tensor) -> Tensor:
                root = (x[:, 0, 0, :1] - x[:, 0, 0, :1].detach()).sqrt()  # 0, with a slope of 1 / 0
                return super().forward(x) + 0 * root

        found = QUICK(Classifier(Broken()), x)
        assert bool(found.success.all())

    def test_images_without_an_answer_have_no_success(self, x: Tensor) -> None:
        x = x.clone()
        x[::3, 0, 0, 0] = 0
        clf = Classifier(Picky())
        found = QUICK(clf, x, clf.predict(x).clamp_min(0), attack_wrong=True)
        silent = torch.arange(N) % 3 == 0
        assert not bool(found.success[silent].any())
        assert bool(found.adversarial.isfinite().all())
        assert bool(found.success[~silent].all())
