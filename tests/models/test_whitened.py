"""The network whose first layer is computed, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from assay.core.random import Stream
from assay.data import load_data
from assay.errors import AssayError
from assay.models import Whitened
from assay.models.loading import load_model
from assay.models.saved import save_model
from assay.models.whitening import FLOOR, WhitenedNet, whitening
from assay.runs.worker import Workspace
from assay.tasks import train as trained
from assay.tasks.train import TrainNetwork
from assay.train import SGD, Recipe

STREAM = Stream(0)


def test_one_pixel_is_divided_by_its_root_mean_square() -> None:
    x = torch.tensor([1.0, -3.0, 1.0, 3.0]).view(1, 1, 2, 2)  # mean square 5
    expected = 1 / (5 + FLOOR) ** 0.5
    filters = whitening(x, patch=1, stride=1)
    assert filters.shape == (2, 1, 1, 1)
    assert sorted(filters.flatten().tolist()) == pytest.approx([-expected, expected])


def test_answers_are_uncorrelated_and_of_variance_one() -> None:
    noise = Stream(1).rows(torch.arange(300)).normal((2, 9, 9))
    x = F.avg_pool2d(noise, 3, 1) + 0.5 * noise[:, :1, 1:-1, 1:-1]  # neighbours and channels agree
    filters = whitening(x, patch=2, stride=1)
    answers = F.conv2d(x, filters[:8]).transpose(0, 1).flatten(1)
    variance = answers.square().mean(1)
    correlation = answers @ answers.T / answers.shape[1] / torch.outer(variance, variance).sqrt()
    assert torch.allclose(correlation, torch.eye(8), atol=1e-4)
    assert ((variance > 0.9) & (variance <= 1.0001)).all()
    assert torch.equal(filters[8:], -filters[:8])
    # the first component is the one along which patches vary most: a unit vector, so the longer
    # the filter, the smaller the variance it was divided by
    lengths = filters[:8].flatten(1).norm(dim=1)
    assert (lengths.diff() > 0).all()


def test_what_is_trained_and_how_much_of_it_there_is() -> None:
    model = Whitened(widths=(6, 8)).build((3, 32, 32), 10, STREAM)
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        "whiten.bias": 96,
        "stages.0.conv1.weight": 96 * 6 * 9,
        "stages.0.norm1.bias": 6,
        "stages.0.conv2.weight": 6 * 6 * 9,
        "stages.0.norm2.bias": 6,
        "stages.1.conv1.weight": 6 * 8 * 9,
        "stages.1.norm1.bias": 8,
        "stages.1.conv2.weight": 8 * 8 * 9,
        "stages.1.norm2.bias": 8,
        "head.weight": 80,
    }


def test_convolutions_start_by_handing_on_their_first_channels() -> None:
    model = Whitened(widths=(6, 8)).build((3, 32, 32), 10, STREAM)
    assert isinstance(model, WhitenedNet)
    x = torch.rand(2, 6, 5, 5)
    answers = model.stages[1].conv1(x)  # type: ignore[union-attr, operator]
    assert torch.equal(answers[:, :6], x)
    assert answers[:, 6:].std() > 0.01  # the others are random, not zero


def test_sizes_by_stage() -> None:
    model = Whitened(widths=(6, 8, 10)).build((1, 28, 28), 10, STREAM)
    seen: list[tuple[int, ...]] = []
    assert isinstance(model, WhitenedNet)
    for stage in model.stages:
        stage.register_forward_hook(lambda *called: seen.append(tuple(called[-1].shape[1:])))
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    assert seen == [(6, 14, 14), (8, 7, 7), (10, 3, 3)]


@pytest.mark.parametrize(("side", "fits"), [(10, True), (9, False)])
def test_images_that_are_too_small_are_refused(side: int, fits: bool) -> None:
    config = Whitened()  # three stages: 10 → 5 → 2 → 1
    if fits:
        model = config.build((3, side, side), 4, STREAM).eval()
        assert model(torch.rand(1, 3, side, side)).shape == (1, 4)
    else:
        with pytest.raises(AssayError, match=r"9 × 9 pixels .* 3 stages, which need 10"):
            config.build((3, side, side), 4, STREAM)


def test_a_training_whitens_by_its_training_images_and_keeps_to_that(tmp_path: Path) -> None:
    config = TrainNetwork(
        data="digits",
        network=Whitened(widths=(8, 8)),
        recipe=Recipe(epochs=1, optimizer=SGD(lr=0.5)),
        train_images=300,
        test_images=10,
    )
    trained.train(config.trial(0, "cpu", "whitened"), Workspace(tmp_path))
    clf = load_model(tmp_path / "model.safetensors")
    shown = load_data("digits", split="train").sample(300)
    expected = whitening(clf.normalise(shown.take(trained.PREPARED)[0]), 4, 2)
    assert torch.allclose(clf.model.whiten.weight, expected, rtol=1e-2, atol=1e-3)  # type: ignore[union-attr, arg-type]


def test_a_saved_one_answers_as_before(tmp_path: Path) -> None:
    config = Whitened(widths=(6, 8))
    model = config.build((3, 32, 32), 10, STREAM).eval()
    x = torch.rand(4, 3, 32, 32)
    config.prepare(model, x)
    path = tmp_path / "model.safetensors"
    classes = tuple("abcdefghij")
    save_model(path, model, config, in_shape=(3, 32, 32), classes=classes)
    assert torch.equal(load_model(path).model(x), model(x))


def test_the_activation_that_it_always_had_is_no_part_of_an_address() -> None:
    assert "activation" not in Whitened().model_dump(mode="json")
    assert Whitened(activation="relu").model_dump(mode="json")["activation"] == "relu"
    x, nets = (
        torch.randn(4, 3, 32, 32),
        [
            Whitened(widths=(8, 8), activation=one).build((3, 32, 32), 3, STREAM)
            for one in ("gelu", "relu")
        ],
    )
    assert not torch.equal(nets[0](x), nets[1](x))
