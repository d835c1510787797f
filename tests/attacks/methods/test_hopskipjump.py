"""HopSkipJump: by labels alone to the boundary, and along it to the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.methods.hopskipjump import STARTS, HopSkipJump, _Jump, halvings
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.threats import NormBall

N = 12
W = np.random.default_rng(0).normal(size=75)
DUAL = {"l2": np.linalg.norm(W), "linf": np.abs(W).sum()}


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, 5, 5), 0.3, 0.7)


def side(images: Any) -> Any:
    """Return on which side of the hyperplane through the grey image each of them is, and how far:
    (n,), to be divided by the dual norm of W.
    """
    return (images.reshape(len(images), -1).astype(np.float64) - 0.5) @ W


def plane() -> BlackBox:
    return BlackBox(lambda images: (side(images) > 0).astype(int), classes=2, access="labels")


class TestDistance:
    @pytest.mark.parametrize("norm", DUAL)
    def test_it_is_that_to_the_hyperplane(self, x: Tensor, norm: str) -> None:
        found = HopSkipJump(norm=norm, queries=6000)(plane(), x)
        least = np.abs(side(x.numpy())) / DUAL[norm]
        assert bool(found.success.all())
        share = found.distance.numpy() / least
        assert share.min() >= 1 - 1e-5
        assert np.median(share) <= 1.05

    @pytest.mark.parametrize("norm", DUAL)
    def test_more_queries_bring_it_nearer(self, norm: str) -> None:
        x = Stream(1).rows(range(4 * N)).uniform((3, 5, 5), 0.3, 0.7)
        medians = [
            HopSkipJump(norm=norm, queries=queries)(plane(), x).median_distance or 0.0
            for queries in (200, 600, 2400)
        ]
        assert medians[0] > 1.3 * medians[1] > 1.3 * 1.1 * medians[2]

    def test_a_success_lies_inside_eps(self, x: Tensor) -> None:
        least = torch.from_numpy(np.abs(side(x.numpy())) / DUAL["l2"])
        eps = float(least.median()) * 1.2
        found = HopSkipJump(eps=eps, queries=4000)(plane(), x)
        assert found.refused == 0
        assert float(found.distance.max()) <= eps + 1e-6
        assert not bool(found.success[least > eps].any())
        assert bool(found.success[least < 0.9 * eps].all())

    def test_with_an_eps_images_stop_once_they_are_inside(self, x: Tensor) -> None:
        attack = HopSkipJump(eps=0.5, queries=4000)
        fooled, never = (attack(plane(), x, stop=stop) for stop in ("fooled", "never"))
        assert bool(fooled.success.all())
        assert int(fooled.queries.max()) < int(never.queries.min())


class TestQueries:
    @pytest.mark.parametrize("queries", [1, 40, 333, 1000])
    def test_never_more_than_the_budget(self, x: Tensor, queries: int) -> None:
        found = HopSkipJump(queries=queries)(plane(), x)
        assert int(found.queries.max()) <= queries + 2  # the clean image, and the confirmation

    def test_a_hop_is_paid_for_before_it_begins(self, x: Tensor) -> None:
        attack = HopSkipJump(queries=10_000)
        for budget in (2, 3, 15, 16, 17, 100, 300):
            oracle = plane()
            found = attack(oracle, x, query_budget=budget)
            assert int(found.queries.max()) <= budget
            assert oracle.queries == int(found.queries.sum())

    def test_nothing_but_labels_is_used(self, x: Tensor) -> None:
        def scores(images: Any) -> Any:
            value = side(images)
            return np.stack([np.zeros_like(value), value], 1)

        attack = HopSkipJump(queries=700)
        told = attack(BlackBox(scores, classes=2, access="logits"), x)
        said = attack(plane(), x)
        assert torch.equal(told.adversarial, said.adversarial)

    def test_a_search_is_as_fine_as_a_probes_step(self) -> None:
        # √3072 = 55.4, a hundredth of the distance: 5543 parts, 2^13 = 8192
        assert halvings(torch.zeros(1, 3, 32, 32)) == 13


class TestNormals:
    @pytest.mark.parametrize("fooled", [True, False])
    @pytest.mark.parametrize("norm", DUAL)
    def test_probes_that_all_agree_point_where_they_went(
        self, x: Tensor, norm: str, fooled: bool
    ) -> None:
        """The paper's baseline, the mean answer, would leave nothing of them."""
        asked = []

        def says(images: Any) -> Any:
            asked.append(torch.from_numpy(images))
            return np.full(len(images), int(fooled))

        box, y = BlackBox(says, classes=2, access="labels"), torch.zeros(N, dtype=torch.int64)
        threat = NormBall.parse({"norm": norm, "eps": None})
        jump, at = _Jump(box, threat, x, y, targeted=False), (x + 0.1).clamp(0, 1)
        rows = torch.arange(N)
        found = jump.normals(at, 7, False, Stream(4).rows(rows).repeat(7), rows)
        probes = torch.cat(asked).view(N, 7, *x.shape[1:])
        way = (probes - at[:, None]).sum(1) * (1 if fooled else -1)
        assert torch.allclose(found, threat.steepest(way), atol=1e-3)


class TestStarts:
    def test_without_one_it_has_failed(self, x: Tensor) -> None:
        oracle = BlackBox(lambda images: np.zeros(len(images), int), classes=2, access="labels")
        found = HopSkipJump()(oracle, x)
        assert not bool(found.success.any())
        assert torch.equal(found.adversarial, x)
        assert found.queries.tolist() == [1 + STARTS + 1] * N

    def test_coarse_blocks_find_what_noise_by_the_pixel_does_not(self, x: Tensor) -> None:
        # The mean of 75 pixels has a standard deviation of 0.033; that of one colour is as bright
        # as this once in five times, and a quarter of the starts are of one colour.
        def bright(images: Any) -> Any:
            return (images.mean((1, 2, 3)) > 0.65).astype(int)

        found = HopSkipJump(queries=600)(BlackBox(bright, classes=2, access="labels"), x)
        assert bool(found.success.all())

    def test_a_target_is_reached_where_one_of_its_class_is_found(self, x: Tensor) -> None:
        def shade(images: Any) -> Any:  # 0 dark, 1 medium, 2 bright; 3 is never said
            return np.digitize(images.mean((1, 2, 3)), [0.4, 0.6])

        oracle = BlackBox(shade, classes=4, access="labels")
        found = HopSkipJump(queries=900)(oracle, x, targets=2)
        assert found.adversarial_prediction.tolist() == [2] * N
        # the mean has to rise by 0.6 - mean: in L2 by √75 times that
        least = (0.6 - x.flatten(1).mean(1)) * 75**0.5
        assert float((found.distance / least).median()) <= 1.3
        assert not bool(HopSkipJump(queries=200)(oracle, x, targets=3).success.any())

    def test_no_answer_is_no_start(self, x: Tensor) -> None:
        asked = []

        def says(images: Any) -> Any:
            asked.append(len(images))
            return np.where(side(images) > 0, 1.0, 0.0) if len(asked) == 1 else [None] * len(images)

        oracle = BlackBox(says, classes=2, access="labels")
        found = HopSkipJump()(oracle, x)
        assert not bool(found.success.any())
        assert oracle.unanswered == sum(asked[1:])


def test_what_the_fast_copy_found_the_original_confirms() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)
    )
    clf = Classifier(net, mean=[0.5] * 3, std=[0.2] * 3)
    x = Stream(3).rows(range(100)).uniform((3, 8, 8))
    found = HopSkipJump(queries=700)(clf, x)
    assert found.fast is not None
    assert found.fast.used
    assert found.success_rate.value >= 0.99


@pytest.mark.parametrize("norm", DUAL)
def test_an_image_that_is_wrong_itself_rests(x: Tensor, norm: str) -> None:
    """Nothing is nearer than the image: from there no direction leads anywhere, and 0 / 0 none."""
    wrong = torch.from_numpy(side(x.numpy()) <= 0).long()
    attack = HopSkipJump(norm=norm, queries=900, probes=30)
    found = attack(plane(), x, wrong, attack_wrong=True)
    assert bool(found.success.all())
    assert float(found.distance.max()) < 1e-3
    assert int(found.queries.max()) < 400
