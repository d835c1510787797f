"""Named recipes are settings that can be trained by."""

from __future__ import annotations

import pytest
import torch

from assay.attacks import PGD
from assay.core.random import Stream
from assay.models import Whitened
from assay.tasks.adversaries import NFGSM
from assay.tasks.train import TrainNetwork
from assay.train import IBP, Trades
from assay.train.named import NAMED


@pytest.mark.parametrize("name", NAMED)
def test_every_name_stands_for_a_whole_training(name: str) -> None:
    made = TrainNetwork.parse(NAMED[name], where=name)
    assert NAMED[name].keys() >= {"network", "recipe"}
    assert TrainNetwork.from_yaml(made.to_yaml()) == made


def test_fast_is_what_the_log_says_was_measured() -> None:
    made = TrainNetwork.parse(NAMED["fast"])
    assert made.network == Whitened()
    recipe = made.recipe
    assert (recipe.batch_size, recipe.label_smoothing) == (512, 0.2)
    # airbench's 11.5 per 1,024 summed losses and its 0.0153, for mean losses and torch's Nesterov
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    assert recipe.optimizer.lr == pytest.approx(11.5 / kilostep * 512, rel=0.01)
    assert recipe.optimizer.weight_decay == pytest.approx(0.0153 / 11.5, rel=0.01)


def test_recipes_against_attacks_are_those_of_their_papers() -> None:
    made = {name: TrainNetwork.parse(NAMED[name]) for name in NAMED}
    step = made["fast-robust"].hardening
    assert isinstance(step, NFGSM)  # de Jorge et al. 2022: k = 2, a step of the whole budget
    assert (step.eps, step.noise, step.step) == (8 / 255, 2, 1)
    assert made["trades"].recipe.loss == Trades(beta=6)  # Zhang et al. 2019
    fast = made["fast-at"].adversary
    assert isinstance(fast, PGD)  # Wong et al. 2020: 1.25 of the budget, from a random start
    assert (fast.steps, fast.step_size, fast.random_start) == (1, 10 / 255, True)
    bounds = made["certified"].recipe.loss
    assert isinstance(bounds, IBP)
    assert bounds.at(1.0) == (pytest.approx(0.3), 0.0)
    assert all(made[name].recipe.ema for name in NAMED if name != "fast")


def test_recipes_against_attacks_compute_the_same() -> None:
    """In passes an image, a forward one being 1 and a backward one 2, by the image alone 1."""
    per_image = {
        "robust": 7 * 2 + 3,
        "fast-robust": 2 + 3,
        "fast-at": 2 + 3,
        "trades": 10 * 2 + 1 + 2 * 3,
        "static-mix": 3 + 3,  # with the network that it is made on
    }
    total = {name: NAMED[name]["recipe"]["epochs"] * cost for name, cost in per_image.items()}
    assert max(total.values()) <= 1.05 * min(total.values())
    small = NAMED["robust"]["network"]
    assert all(NAMED[name]["network"] == small for name in per_image)
    # N-FGSM's passes, each of them of more multiply-adds: what the README and the log say of it
    wide = NAMED["robust-wide"]["recipe"]["epochs"] * (2 + 3) * multiply_adds("robust-wide")
    assert wide / (total["robust"] * multiply_adds("robust")) == pytest.approx(3.3, abs=0.1)
    against = {name for name in NAMED if NAMED[name].keys() & {"adversary", "hardening"}}
    assert against == {*per_image, "robust-wide"}


def multiply_adds(name: str) -> int:
    """Return those of the convolutions in a forward pass of one image of CIFAR-10."""
    network = TrainNetwork.parse(NAMED[name]).network.build((3, 32, 32), 10, Stream(0)).eval()
    found = 0

    def count(layer: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal found
        assert isinstance(layer, torch.nn.Conv2d)
        found += out.numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    network(torch.zeros(1, 3, 32, 32))
    return found
