"""Named recipes are settings that can be trained by."""

from __future__ import annotations

import pytest

from assay.models import Whitened
from assay.tasks.train import TrainNetwork
from assay.train.named import NAMED


@pytest.mark.parametrize("name", NAMED)
def test_every_name_stands_for_a_whole_training(name: str) -> None:
    made = TrainNetwork.parse(NAMED[name], where=name)
    assert NAMED[name].keys() >= {"network", "recipe", "augmentation"}
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
