"""Augmentation in feature space: by hand on a linear encoder; the autoencoder on real images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assay.core.random import Rows, Stream
from assay.data.augment import NoAugmentation
from assay.data.dataset import Dataset, in_memory, to_float
from assay.errors import AssayError
from assay.models import MLP
from assay.models.autoencoder import Autoencoder, MLPAutoencoder
from assay.runs.store import Store
from assay.runs.worker import work
from assay.tasks.autoencode import Autoencoding
from assay.tasks.feature_space import (
    FeatureSpace,
    NewImages,
    nearest_of_class,
)
from assay.tasks.train import TrainNetwork, split
from assay.train import Recipe


class Half(nn.Module):
    """The linear autoencoder of 1×1×2 images that encodes (a, b) as (2a, b)."""

    def __init__(self, *, back: bool) -> None:
        super().__init__()
        self.back = back
        self.register_buffer("scale", torch.tensor([0.5 if back else 2.0, 1.0]))
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale).view(-1, 1, 1, 2) if self.back else x.flatten(1) * self.scale


# Codes (2a, b): class 0 lies at (0, 0), (0.8, 0), (0, 1); class 1 at (0.4, 0.2), (2, 1).
PIXELS = torch.tensor([[0, 0], [102, 0], [0, 255], [51, 51], [255, 255]], dtype=torch.uint8)
LABELS = torch.tensor([0, 0, 0, 1, 1])


def linear(images: Tensor = PIXELS, labels: Tensor = LABELS) -> tuple[Autoencoder, Dataset]:
    data = in_memory("hand", "train", ("a", "b"), images.view(-1, 1, 1, 2), labels)
    return Autoencoder(Half(back=False), Half(back=True)).eval(), data


def fitted(**settings: object) -> NewImages:
    model, data = linear()
    return FeatureSpace.parse({"share": 1.0, **settings}).fitted(model, data)


def rows(*ids: int, epoch: int = 0) -> Rows:
    return Stream(0).child("augment", epoch).rows(list(ids))


def new(augment: NewImages, *ids: int, epoch: int = 0) -> Tensor:
    return augment.draw(rows(*ids, epoch=epoch)).view(-1, 2)


class TestByHand:
    def test_neighbours_are_the_nearest_of_the_class_and_never_oneself(self) -> None:
        codes = torch.tensor([[0.0, 0.0], [0.8, 0.0], [0.0, 1.0], [0.4, 0.2], [2.0, 1.0]])
        found, counts = nearest_of_class(codes, LABELS, 2)
        assert counts.tolist() == [2, 2, 2, 1, 1]
        # from (0, 0) to (0.8, 0) it is 0.8, to (0, 1) 1; the nearest of all, row 3, is of class 1
        assert found[:3].tolist() == [[1, 2], [0, 2], [0, 1]]
        assert found[3:, 0].tolist() == [4, 3]

    def test_interpolation(self) -> None:
        # image 3 and its only neighbour 4: codes (0.4, 0.2) and (2, 1), a quarter of the way
        # (0.8, 0.4), which decodes to (0.4, 0.4)
        seen = new(fitted(method="interpolate", strength=0.25), 3)
        assert torch.allclose(seen, torch.tensor([[0.4, 0.4]]))

    def test_extrapolation(self) -> None:
        # (0.4, 0.2) + 0.1 · ((0.4, 0.2) − (2, 1)) = (0.24, 0.12), decoded (0.12, 0.12)
        seen = new(fitted(method="extrapolate", strength=0.1), 3)
        assert torch.allclose(seen, torch.tensor([[0.12, 0.12]]))

    def test_noise_has_the_spread_of_each_feature(self) -> None:
        # codes along the first feature: 0, 0.8, 0, 0.4, 2, variance (n − 1) 0.688; along the
        # second: 0, 0, 1, 0.2, 1, variance 0.268
        augment = fitted(method="noise", strength=0.5)
        many = torch.cat([augment.draw_codes(rows(1, epoch=epoch)) for epoch in range(4000)])
        assert many.mean(0).tolist() == pytest.approx([0.8, 0.0], abs=0.03)
        expected = [0.5 * 0.688**0.5, 0.5 * 0.268**0.5]
        assert many.std(0).tolist() == pytest.approx(expected, rel=0.05)

    def test_only_a_share_is_replaced_and_the_rest_is_untouched(self) -> None:
        model, data = linear(PIXELS.repeat(200, 1), LABELS.repeat(200))
        augment = FeatureSpace(method="noise", share=0.3).fitted(model, data)
        ids, x, _ = next(data.batches(1000))
        before = x.clone()
        seen = augment(x, Stream(0).rows(ids))
        assert torch.equal(x, before), "the batch that was given stays"
        moved = (seen != x).flatten(1).any(1)
        assert 0.2 < float(moved.float().mean()) < 0.4


@pytest.fixture(scope="module")
def model() -> Autoencoder:
    return MLPAutoencoder(widths=(8,), code=3).build((1, 4, 4), Stream(0))


@pytest.fixture(scope="module")
def data() -> Dataset:
    generator = Stream(1).torch()
    images = torch.randint(0, 256, (60, 1, 4, 4), generator=generator, dtype=torch.uint8)
    made = in_memory("random", "train", ("a", "b", "c"), images, torch.arange(60) % 3)
    return made.sample(40)  # ids that are neither rising nor without gaps


class TestProperties:
    def test_neighbours_are_of_the_same_class_and_never_oneself(
        self, model: Autoencoder, data: Dataset
    ) -> None:
        augment = FeatureSpace(neighbours=5).fitted(model, data)
        label_of = dict(zip(data.ids.tolist(), data.labels.tolist(), strict=True))
        for row, (own, others) in enumerate(
            zip(augment.ids.tolist(), augment.neighbours.tolist(), strict=True)
        ):
            assert row not in others
            assert len(set(others)) == 5
            assert {label_of[augment.ids[other].item()] for other in others} == {label_of[own]}

    @pytest.mark.parametrize("method", ["extrapolate", "interpolate", "noise"])
    def test_without_strength_an_image_is_reconstructed(
        self, model: Autoencoder, data: Dataset, method: str
    ) -> None:
        settings = FeatureSpace.parse({"method": method, "strength": 0, "share": 1})
        ids, x, _ = next(data.batches(40))
        seen = settings.fitted(model, data)(x, Stream(0).rows(ids))
        assert torch.allclose(seen, model(x), atol=1e-6)

    def test_interpolation_ends_at_a_neighbour(self, model: Autoencoder, data: Dataset) -> None:
        augment = FeatureSpace(method="interpolate", strength=1, neighbours=1).fitted(model, data)
        codes = augment.draw_codes(Stream(0).rows(augment.ids))
        assert torch.allclose(codes, augment.codes[augment.neighbours[:, 0]], atol=1e-6)

    def test_interpolation_lies_between_and_extrapolation_beyond(
        self, model: Autoencoder, data: Dataset
    ) -> None:
        for method in ("interpolate", "extrapolate"):
            settings = FeatureSpace.parse({"method": method, "strength": 0.4, "neighbours": 1})
            augment = settings.fitted(model, data)
            code, other = augment.codes, augment.codes[augment.neighbours[:, 0]]
            seen = augment.draw_codes(Stream(0).rows(augment.ids))
            apart = (other - code).norm(dim=1)
            near, far = (seen - code).norm(dim=1), (seen - other).norm(dim=1)
            assert torch.allclose(near, 0.4 * apart, atol=1e-5)
            reach = 0.6 if method == "interpolate" else 1.4
            assert torch.allclose(far, reach * apart, atol=1e-5), method

    def test_a_draw_is_the_image_s_own_and_another_in_every_epoch(
        self, model: Autoencoder, data: Dataset
    ) -> None:
        augment = FeatureSpace().fitted(model, data)
        ids = data.ids
        whole = augment.draw_codes(Stream(0).rows(ids))
        back = augment.draw_codes(Stream(0).rows(ids.flip(0)[:7]))
        assert torch.equal(back, whole.flip(0)[:7])
        other = augment.draw_codes(Stream(0).child("augment", 2).rows(ids))
        assert 0.5 < float((other != whole).any(1).float().mean()) < 1, "among ten neighbours"

    def test_every_neighbour_is_drawn(self, model: Autoencoder, data: Dataset) -> None:
        augment = FeatureSpace(method="interpolate", strength=1, neighbours=4).fitted(model, data)
        one = augment.ids[:1]
        seen = [augment.draw_codes(Stream(0).child(e).rows(one))[0] for e in range(200)]
        ends = augment.codes[augment.neighbours[0]]
        nearest = [int((ends - code).norm(dim=1).argmin()) for code in seen]
        assert min(nearest.count(place) for place in range(4)) > 25


def test_what_comes_after_it_draws_other_numbers() -> None:
    """Which neighbour an image is mixed with must not say how it is turned."""
    images = torch.randint(0, 256, (40, 2), dtype=torch.uint8, generator=Stream(3).torch())
    model, data = linear(images, torch.zeros(40).long())
    augment = FeatureSpace(share=1.0, method="interpolate").fitted(model, data)
    drawn, after = [], []
    for epoch in range(30):
        own = rows(*range(40), epoch=epoch)
        x = to_float(data.images)
        made = augment(x, own)
        drawn.append((made - x)[:, 0, 0, 0])
        after.append(own.uniform())
        again = rows(*range(40), epoch=epoch)
        again.uniform()  # which are chosen: all of them
        assert not torch.equal(augment.draw(again), made), "the very numbers that come next"
    pair = torch.stack([torch.cat(drawn), torch.cat(after)])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.1


class TestMistakes:
    def test_an_image_without_a_neighbour_is_named(self) -> None:
        model, data = linear(PIXELS[:4], LABELS[:4])
        with pytest.raises(AssayError, match="single training image of class 'b'"):
            FeatureSpace().fitted(model, data)
        FeatureSpace(method="noise").fitted(model, data)

    def test_other_images_are_refused(self) -> None:
        model, data = linear()
        augment = FeatureSpace().fitted(model, replace(data, ids=data.ids + 10))
        for ids in (0, 99):
            with pytest.raises(AssayError, match="not those whose neighbours"):
                augment.draw(rows(ids))

    def test_interpolation_does_not_go_beyond_the_neighbour(self) -> None:
        with pytest.raises(AssayError, match="ends at the neighbour"):
            FeatureSpace(method="interpolate", strength=1.5)


class TestInATraining:
    CONFIG = TrainNetwork(
        data="digits",
        network=MLP(widths=(16,)),
        recipe=Recipe(epochs=2, batch_size=50),
        train_images=200,
        test_images=100,
    )

    def test_every_seed_needs_its_own_autoencoder_and_others_none(self) -> None:
        plain = self.CONFIG.trials((0, 1), "cpu", "plain")
        assert [trial.needs for trial in plain] == [(), ()]
        assert "FeatureSpace" not in plain[0].versions
        spaced = self.CONFIG.model_copy(update={"features": FeatureSpace()})
        trials = spaced.trials((0, 1), "cpu", "spaced")
        assert [[need.seed for need in trial.needs] for trial in trials] == [[0], [1]]
        assert trials[0].needs[0].address != trials[1].needs[0].address
        assert trials[0].versions["FeatureSpace"] == FeatureSpace.VERSION
        other = spaced.model_copy(update={"features": FeatureSpace(method="noise")})
        (noise,) = other.trials((0,), "cpu", "noise")
        assert noise.needs == trials[0].needs, "methods share an autoencoder"

    def test_the_network_is_trained_on_new_images_then_augmented(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Tensor] = []

        def spy(_: NoAugmentation, x: Tensor, rng: Rows) -> Tensor:
            assert len(rng) == len(x)
            seen.append(x.clone())
            return x

        monkeypatch.setattr(NoAugmentation, "__call__", spy)
        learning = Autoencoding(network=MLPAutoencoder(widths=(16,), code=4), epochs=1)
        space = FeatureSpace(share=0.5, learning=learning)
        (trial,) = self.CONFIG.model_copy(update={"features": space}).trials((3,), "cpu", "x")
        store = Store(tmp_path)
        store.prepare()
        for one in (*trial.needs, trial):
            assert work(store, one, lambda _: None, again=False).kind == "done"
        pixels = {image.numpy().tobytes() for image in split(self.CONFIG, "train").images}
        images = (torch.cat(seen) * 255).round().to(torch.uint8)
        new = sum(image.numpy().tobytes() not in pixels for image in images)
        assert len(images) == 400
        assert 0.4 < new / 400 < 0.6
