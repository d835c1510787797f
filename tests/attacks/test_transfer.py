"""Images made on one model and tried on others, and one perturbation for all images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks.trained import mlp, trained
from torch import Tensor, nn

from assay.attacks import FGSM, PGD, Universal, transfer_matrix
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.core.oracle import Access
from assay.core.random import Stream
from assay.data import load_data
from assay.errors import AssayError

N = 200
EPS = 0.15


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    return load_data("digits", split="test").take(N)


@pytest.fixture(scope="module")
def models() -> dict[str, Classifier]:
    names = {"small": 32, "large": 128}
    return {
        name: Classifier(trained(f"mlp-{width}", mlp(width)), classes=[str(k) for k in range(10)])
        for name, width in names.items()
    }


class Told:
    """A model of which only the labels can be had."""

    access: Access = "labels"
    queries = 0

    def __init__(self, clf: Classifier) -> None:
        self.clf, self.classes = clf, clf.classes

    def query(self, x: Tensor) -> Tensor:
        return self.clf.predict(x)


def test_images_made_on_one_model_fool_another(
    models: dict[str, Classifier], digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits
    attack = PGD(eps=EPS, steps=10)
    found = transfer_matrix(attack, {**models, "told": Told(models["large"])}, x, y)
    assert found.sources == ("small", "large")
    assert found.models == ("small", "large", "told")
    own, other = found.rate("small", "small"), found.rate("small", "large")
    noisy = attack.threat.random_start(x, Stream(9).rows(range(N)))
    right = models["large"].predict(x) == y
    by_noise = float((models["large"].predict(noisy) != y)[right].float().mean())
    assert own.value > 0.9
    assert found.rate("large", "large").value >= other.value > by_noise + 0.3
    assert other.n == int(right.sum())
    assert found.rate("small", "told").value == other.value
    by_run = attack(models["small"], x, y, seed=0)
    assert own.value == by_run.success_rate.value  # the diagonal is the attack itself
    moved = models["large"].predict(attack(models["small"], x, y, attack_wrong=True).adversarial)
    assert other.value == pytest.approx(float((moved != y)[right].double().mean()))


def test_targeted_transfer_counts_what_reaches_the_target(
    models: dict[str, Classifier], digits: tuple[Tensor, Tensor]
) -> None:
    x, y = (part[digits[1] != 3][:60] for part in digits)
    found = transfer_matrix(PGD(eps=EPS, steps=10), models, x, y, sources=("small",), targets=3)
    made = PGD(eps=EPS, steps=10)(models["small"], x, y, targets=3, attack_wrong=True).adversarial
    right = models["large"].predict(x) == y
    reached = float((models["large"].predict(made) == 3)[right].double().mean())
    assert found.rate("small", "large").value == pytest.approx(reached)
    assert found.rate("small", "small").value > reached


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ("smal",)}, "not smal"),
        ({"models": "told"}, "none grants what fgsm needs"),
        ({"models": "renamed"}, "models of one task"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    models: dict[str, Classifier],
    digits: tuple[Tensor, Tensor],
    settings: dict[str, Any],
    message: str,
) -> None:
    told = Told(models["small"])
    renamed = Classifier(models["small"].model, classes=list("abcdefghij"))
    some: dict[str, Any] = {
        "told": {"told": told},
        "renamed": {"small": models["small"], "renamed": renamed},
    }
    given = some.get(settings.pop("models", ""), models)
    with pytest.raises(AssayError, match=message):
        transfer_matrix(FGSM(), given, *digits, **settings)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 1.5)])
def test_one_perturbation_fools_most_unseen_images(
    models: dict[str, Classifier], digits: tuple[Tensor, Tensor], norm: str, eps: float
) -> None:
    x, y = digits
    seen = load_data("digits", split="train").take(600)
    method = Universal(norm=norm, eps=eps, batch_size=64)
    clf = models["large"]
    found = method.fit(clf, *seen, seed=0)
    size = found.delta.abs().max() if norm == "linf" else found.delta.norm()
    assert 0.5 * eps < float(size) <= eps * (1 + 1e-6)
    assert found.losses[-1] > found.losses[0]
    rate = found.success_rate(clf, x, y)
    noise = found.threat.random_start(torch.full((1, *x.shape[1:]), 0.5), Stream(4).rows([0]))
    noisy = (x + noise - 0.5).clamp(0, 1)
    right = clf.predict(x) == y
    by_noise = float((clf.predict(noisy) != y)[right].float().mean())
    assert rate.value > by_noise + 0.3
    assert rate.n == int(right.sum())
    again = method.fit(clf, *seen, seed=0)
    assert torch.equal(again.delta, found.delta)


def test_pixels_that_are_black_in_every_image_are_moved(models: dict[str, Classifier]) -> None:
    """At the end of [0, 1] a pixel can still go inwards: most of a digit's pixels are black."""
    x, y = load_data("digits", split="train").take(200)
    black = (x == 0).all(0)
    delta = Universal(eps=0.2).fit(models["large"], x, y).delta
    assert int(black.sum()) > 100
    assert float((delta[black] > 0.05).float().mean()) > 0.2


def test_few_images_do_not_keep_a_universal_perturbation_from_its_budget(
    models: dict[str, Classifier],
) -> None:
    x, y = load_data("digits", split="train").take(100)  # five steps in all
    delta = Universal(eps=0.2).fit(models["large"], x, y).delta
    assert float(delta.abs().max()) == pytest.approx(0.2)


class Torn(nn.Module):
    """Brighter, the images with a second pixel are lost further, at a slope of 100; darker, the
    others are lost, at a slope of 10. The former are wrong already, by 50 nats."""

    def forward(self, x: Tensor) -> Tensor:
        shade, marked = x.flatten(1).unbind(1)
        lead = torch.where(marked > 0.5, 100 * (shade - 0.5) + 50, -10 * (shade - 0.5) - 0.5)
        return torch.stack([torch.zeros_like(lead), lead], dim=1)


@pytest.mark.parametrize(("cap", "way"), [(9.0, -0.1), (1000.0, 0.1)])
def test_an_image_that_is_lost_already_pulls_no_more(cap: float, way: float) -> None:
    x = torch.tensor([[0.5, 1.0], [0.5, 0.0]]).view(2, 1, 1, 2).repeat(8, 1, 1, 1)
    y = torch.zeros(16, dtype=torch.int64)
    delta = Universal(eps=0.1, cap=cap).fit(Classifier(Torn()), x, y).delta
    assert float(delta[0, 0, 0]) == pytest.approx(way)


def test_a_universal_perturbation_needs_images(models: dict[str, Classifier]) -> None:
    with pytest.raises(AssayError, match="got 0 images"):
        Universal().fit(models["small"], torch.zeros(0, 1, 8, 8), torch.zeros(0).long())


def test_labels_and_models_that_do_not_fit_are_refused(
    models: dict[str, Classifier], digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits[0][:20], digits[1][:20]
    clf = models["small"]
    delta = Universal(epochs=1).fit(clf, x, y)
    asking: tuple[Callable[[Tensor], object], ...] = (
        lambda y: transfer_matrix(FGSM(), {"small": clf}, x, y),
        lambda y: delta.success_rate(clf, x, y),
        lambda y: Universal().fit(clf, x, y),
    )
    for ask in asking:
        with pytest.raises(AssayError, match=r"labels must be whole numbers of shape \(20,\)"):
            ask(y[:3])
        with pytest.raises(AssayError, match=r"labels go from .* but the model has 10 outputs"):
            ask(y + 9)
    wide = torch.rand(20, 3, 8, 8)
    taking: tuple[Callable[[Tensor], object], ...] = (
        lambda x: transfer_matrix(FGSM(), {"small": clf}, x, y),
        lambda x: Universal().fit(clf, x, y),
        lambda x: Universal().fit(clf, x),
    )
    for take in taking:
        with pytest.raises(AssayError, match=r"the model fails on these images, \(3, 8, 8\) each"):
            take(wide)
    box = BlackBox(lambda x: np.zeros(len(x)), classes=10, access="labels")
    with pytest.raises(AssayError, match="gradient of a Classifier, which a BlackBox does not"):
        Universal().fit(box, x, y)
    with pytest.raises(AssayError, match="cannot be negative"):
        Universal.parse({"eps": -1})


def test_images_that_the_model_does_not_answer_have_no_say() -> None:
    x = Stream(5).rows(range(20)).uniform((1, 4, 4))

    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3))

        def forward(self, images: Tensor) -> Tensor:
            seen = self.net(images)
            return torch.where(images[:, :1, 0, 0] < 0.5, torch.nan, seen)

    torch.manual_seed(0)
    some, images = Silent(), x.clone()
    images[:, 0, 0, 0] = torch.linspace(0, 0.9, len(x))
    answered = images[images[:, 0, 0, 0] >= 0.5]
    made = Universal(eps=0.1, batch_size=len(x)).fit(Classifier(some), images)
    alone = Universal(eps=0.1, batch_size=len(x)).fit(Classifier(some), answered)
    assert torch.equal(made.delta, alone.delta)
