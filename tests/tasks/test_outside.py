"""Outliers of a trial: what is made passes the codec, what is read does not."""

from __future__ import annotations

import pytest
import torch

from assay.data import load_data
from assay.data.codec import jpeg
from assay.data.outliers import KINDS, fitted, is_read
from assay.errors import AssayError
from assay.runs.trial import Trial
from assay.tasks.detect import ScoreOutliers
from assay.tasks.outside import HELD_OUT, outside
from assay.tasks.train import TrainNetwork

READ = ("clothing", "fashion_mnist")


def test_corruptions_alone_are_no_outliers() -> None:
    with pytest.raises(AssayError, match=r"outliers: .*one kind that is no corruption"):
        ScoreOutliers.parse({"outliers": ["corrupted-1", "corrupted-5"]})


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (*READ, HELD_OUT)])
def test_whatever_is_made_passes_the_codec(kind: str) -> None:
    need = Trial(task="train", config={}, torch="0")
    made = Trial(task="detect", config={}, seed=3, torch="0")
    network = TrainNetwork(data="digits")
    plain, through = (
        outside(network, kind, 6, made, quality=quality, need=need).images for quality in (None, 20)
    )
    assert through.equal(jpeg(plain, 20))
    assert not through.equal(plain) or kind == "flat"  # one colour is kept by any quality


def test_shapes_are_the_bundled_ones_drawn_by_the_seed_of_the_trial() -> None:
    need = Trial(task="train", config={}, torch="0")
    made = Trial(task="detect", config={}, seed=3, torch="0")
    found = outside(TrainNetwork(data="digits"), "shapes", 6, made, quality=None, need=need)
    wanted = load_data("shapes", split="test", seed=3).sample(6, 3)
    assert torch.equal(found.images, fitted(wanted.images, found.shape))


def test_a_trial_names_the_data_that_it_reads_alone() -> None:
    network = Trial(task="train", config={}, data={"digits/train": "a" * 64}, torch="0")
    (trial,) = ScoreOutliers(outliers=("uniform-noise", "shapes", HELD_OUT)).trials(
        [(network,)], "detectors", 8, 1
    )
    assert trial.data == network.data
    assert [kind for kind in KINDS if is_read(kind)] == list(READ)
