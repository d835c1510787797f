"""Which images a trial reads: the same for every seed, or each seed's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from assay.attacks import FGSM
from assay.data import load_data
from assay.data.dataset import drawn
from assay.models import MLP
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.runs.worker import work
from assay.studies.attacks import Attacks
from assay.studies.attention import Attention
from assay.studies.regularization import Regularization
from assay.tasks.attack import AttackNetwork
from assay.tasks.feature_space import FeatureSpace
from assay.tasks.images import apart, how_many
from assay.tasks.saliency_shift import AttendNetwork
from assay.tasks.train import TrainNetwork, split
from assay.train import Recipe

SMALL = TrainNetwork(
    data="digits",
    network=MLP(widths=(8,)),
    recipe=Recipe(epochs=1),
    train_images=60,
    test_images=40,
)


def of(config: TrainNetwork, *seeds: int) -> list[Trial]:
    return config.trials(seeds, "cpu", "")


def with_images(config: TrainNetwork, by_seed: bool | None) -> TrainNetwork:
    return config.model_copy(update={"images_by_seed": by_seed})


def marks(trials: list[Trial], part: str) -> list[str]:
    return [trial.data[f"digits/{part}"] for trial in trials]


def test_without_the_setting_seeds_share_their_images_and_addresses_are_as_before() -> None:
    trials = of(SMALL, 0, 1, 2)
    assert len(set(marks(trials, "train"))) == len(set(marks(trials, "test"))) == 1
    assert [t.address for t in trials] == [
        t.address for t in of(with_images(SMALL, False), 0, 1, 2)
    ]
    assert "images_by_seed" not in trials[0].config


@pytest.mark.parametrize(("wanted", "largely"), [(40, True), (400, False)])
def test_seeds_whose_spread_says_what_other_images_would_change_are_apart(
    wanted: int, largely: bool
) -> None:
    """Five seeds draw from 2,000 images, which are a sample themselves: how often the t interval
    over seeds covers the mean of all that there could be, the networks being equal."""
    assert apart(wanted, 5, 2000) is largely
    rows = [drawn(torch.arange(2000), seed)[:wanted].numpy() for seed in range(5)]
    population = np.random.default_rng(0).normal(size=(4000, 2000)).astype(np.float32)
    means = np.stack([population[:, row].mean(1) for row in rows])
    half = stats.t.ppf(0.975, 4) * means.std(0, ddof=1) / 5**0.5
    covered = float((np.abs(means.mean(0)) <= half).mean())
    assert (covered > 0.93) is largely, f"covers {100 * covered:.1f} %"


def test_classes_that_are_left_out_leave_fewer_images() -> None:
    wanted = len(load_data("digits", split="test")) // 50
    assert apart(wanted, 5, how_many("digits", "test"))
    assert not apart(wanted, 5, how_many("digits", "test", without=(0, 1)))
    assert not apart(None, 1, how_many("digits", "test"))


def test_each_seed_draws_images_of_its_own() -> None:
    drawn = with_images(SMALL, True)
    trials = of(drawn, 0, 1, 2)
    for part, wanted in (("train", 60), ("test", 40)):
        assert len(set(marks(trials, part))) == 3
        for trial in trials:
            images = split(drawn, part, trial.seed)
            assert images.fingerprint == trial.data[f"digits/{part}"]
            assert len(images) == wanted
    assert len(set(marks(trials, "validation"))) == 1
    assert [t.address for t in of(drawn, 1)] == [trials[1].address], "whatever else is planned"


def test_where_all_images_are_used_there_is_nothing_to_draw() -> None:
    whole = SMALL.model_copy(update={"train_images": None, "test_images": None})
    (one,) = of(whole, 3)
    assert [t.address for t in of(with_images(whole, True), 3)] == [one.address]


def test_an_autoencoder_learns_from_the_images_of_its_classifier() -> None:
    for trial in of(with_images(SMALL.model_copy(update={"features": FeatureSpace()}), True), 0, 4):
        (need,) = trial.needs
        assert need.seed == trial.seed
        assert need.data["digits/train"] == trial.data["digits/train"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("images") / "runs")


def arrays(store: Store, trial: Trial) -> dict[str, Any]:
    assert work(store, trial, lambda _: None, again=False).kind == "done"
    result = store.entry(trial).result()
    assert result is not None
    return dict(result.arrays)


@pytest.mark.parametrize("by_seed", [None, True])
def test_results_are_kept_by_image(store: Store, by_seed: bool | None) -> None:
    config = with_images(SMALL, by_seed)
    trials = of(config, 0, 1)
    met = []
    for trial in trials:
        held = arrays(store, trial)
        images = split(config, "test", trial.seed)
        assert held["image_ids"].tolist() == images.ids.tolist()
        assert len(held["test_correct"]) == 40
        met.append(set(held["image_ids"].tolist()))
    assert (met[0] == met[1]) is not bool(by_seed)
    whole = load_data("digits", split="test")
    for task in (
        AttackNetwork(attack=FGSM(eps=0.1), images=20, images_by_seed=by_seed),
        AttendNetwork(
            attack=FGSM(eps=0.1), images=20, images_by_seed=by_seed, explainer={"name": "occlusion"}
        ),
    ):
        met = []
        for trial in task.trials(trials, ""):
            held = arrays(store, trial)
            ids = held["image_ids"]
            assert len(ids) == len(held["success"]) == len(held["correct"]) == 20
            if "labels" in held and len(held["labels"]) == 20:
                assert held["labels"].tolist() == whole.labels[ids].tolist()
            met.append(set(ids.tolist()))
        assert (met[0] == met[1]) is not bool(by_seed), type(task).__name__


@pytest.mark.parametrize("kind", [Attacks, Attention, Regularization])
def test_presets_draw_by_seed_and_settings_that_are_older_do_not(kind: Any) -> None:
    new = kind.parse({**kind.preset_values("smoke"), "device": "cpu"})
    assert new.images_by_seed
    old = new.model_copy(update={"images_by_seed": kind.model_fields["images_by_seed"].default})
    for study, known in ((new, True), (old, False)):
        planned = study.plan(Results())
        assert any("images_by_seed" in trial.config for trial in planned) is known


def test_a_network_that_was_trained_is_found_whoever_asks(tmp_path: Path) -> None:
    """The images of an attack are those that its own trial's seed draws from the network's."""
    store = Store(tmp_path)
    config = with_images(SMALL, True)
    (trained,) = of(config, 5)
    (attacked,) = AttackNetwork(attack=FGSM(eps=0.1), images=20, images_by_seed=True).trials(
        [trained], ""
    )
    assert work(store, trained, lambda _: None, again=False).kind == "done"
    ids = arrays(store, attacked)["image_ids"].tolist()
    assert set(ids) <= set(split(config, "test", 5).ids.tolist())
