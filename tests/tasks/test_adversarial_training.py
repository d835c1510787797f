"""Adversarial training: what it is worth, that it repeats, and what it leaves as it was."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from networks.trained import train_digit_net
from torch import Tensor, nn

from assay.attacks import FGSM, PGD
from assay.core import fast
from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.data import load_data
from assay.errors import AssayError
from assay.explain import Occlusion
from assay.models import CNN
from assay.models.loading import load_model
from assay.models.strided import Strided
from assay.runs.worker import Workspace
from assay.tasks.adversaries import against
from assay.tasks.attack import AttackNetwork
from assay.tasks.saliency_shift import AttendNetwork
from assay.tasks.train import TrainNetwork, train
from assay.tasks.train_time import expected_seconds
from assay.train import AdamW, Recipe, Trades
from assay.train.named import NAMED

TINY = TrainNetwork(
    data="digits",
    network=CNN(depths=(1,), widths=(4,), norm="batch", stem_stride=4),
    recipe=Recipe(epochs=2, batch_size=40),
    train_images=120,
    test_images=40,
    train_tested=False,
)
PGD2 = PGD(eps=0.1, steps=2)


def hardened(**settings: Any) -> TrainNetwork:
    return TINY.model_copy(update={"adversary": PGD2, **settings})


def test_it_remains_robust_to_what_fools_the_natural_network(tmp_path: Path) -> None:
    x, y = load_data("digits", split="test").take(300)
    rates = {}
    for name in ("natural", "robust"):
        clf = load_model(train_digit_net(name, tmp_path / name))
        rates[name] = PGD(eps=0.1, steps=20)(clf, x, y, stop="fooled").robust_accuracy
        assert float((clf.predict(x) == y).float().mean()) > 0.7  # 0.80 or more seen
    assert rates["natural"].high < 0.1
    assert rates["robust"].low > rates["natural"].high + 0.2  # 0.58 against 0.00 seen


class Stopped(Exception):
    pass


def made(folder: Path, config: TrainNetwork, stop_at: float = 2.0) -> tuple[bytes, dict[str, Any]]:
    """Train, or stop after that share of it; return the model's bytes, and the metrics."""
    folder.mkdir(exist_ok=True)

    class Watched(Workspace):
        def progress(self, fraction: float, note: str = "") -> None:
            del note
            if fraction >= stop_at:
                raise Stopped

    work = Watched(folder)
    outcome = train(config.trial(3, "cpu", "tiny"), work)
    return work.path("model.safetensors").read_bytes(), dict(outcome.metrics)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stopped_and_started_again_it_ends_with_the_same_bytes(
    tmp_path: Path, precision: str
) -> None:
    config = hardened(recipe=TINY.recipe.model_copy(update={"precision": precision}))
    model, metrics = made(tmp_path / "one", config)
    with pytest.raises(Stopped):
        made(tmp_path / "two", config, stop_at=0.5)
    assert list((tmp_path / "two").rglob("training.pt"))
    assert made(tmp_path / "two", config) == (model, metrics)
    assert metrics["n_robust"] == 500
    assert 0 <= metrics["robust_accuracy"] <= 1
    natural, without = made(tmp_path / "three", TINY)
    assert natural != model
    assert not {"robust_accuracy", "n_robust"} & without.keys()


def test_the_attacked_images_are_trained_on_and_clean_ones_validate(tmp_path: Path) -> None:
    """Steps of almost nothing: both networks stay what they were, and so what they validate by."""
    still = TINY.model_copy(
        update={
            "network": CNN(depths=(1,), widths=(4,), stem_stride=4, init="he"),
            "recipe": Recipe(epochs=1, batch_size=40, optimizer=AdamW(lr=1e-12)),
        }
    )
    strong = still.model_copy(update={"adversary": PGD(eps=0.3, steps=2)})
    natural = made(tmp_path / "natural", still)[1]["history"]
    attacked = made(tmp_path / "attacked", strong)[1]["history"]
    assert attacked["val_loss"] == pytest.approx(natural["val_loss"], rel=1e-6)
    assert attacked["train_loss"][0] > natural["train_loss"][0] + 0.05


def test_a_network_that_is_right_on_clean_images_has_not_collapsed(tmp_path: Path) -> None:
    """Of images moved by half of [0, 1] none remains right; of clean ones many do."""
    config = TINY.model_copy(
        update={
            "network": Strided(widths=(8,), kernels=(3,), strides=(2,), hidden=()),
            "recipe": Recipe(
                epochs=3, batch_size=40, optimizer=AdamW(lr=1e-2), loss=Trades(beta=0)
            ),
            "adversary": PGD(eps=0.5, steps=2),
            "train_images": 400,
        }
    )
    metrics = made(tmp_path / "attacked", config)[1]
    assert metrics["history"]["train_accuracy"][-1] < 0.125
    assert metrics["history"]["val_accuracy"][-1] > 0.5
    assert (metrics["collapsed"], metrics["why"]) == (False, "")


def test_a_training_without_an_adversary_keeps_its_address() -> None:
    trial = TINY.trial(0, "cpu", "tiny")
    assert "adversary" not in trial.config
    assert set(trial.versions) == {"TrainNetwork", "CNN", "Recipe", "NoAugmentation"}
    # That of `TrainNetwork(data="digits")` before there were adversaries; it changes
    # only where a VERSION rises.
    old = TrainNetwork(data="digits").trial(0, "cpu", "").model_copy(update={"torch": "2.13.0+cpu"})
    assert old.address == "25187c8fcb391f9cecd4b196576729322610a4143904ec9257787fa1a75631a5"


def test_an_adversary_and_its_version_are_part_of_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def address(adversary: Any) -> str:
        return hardened(adversary=adversary).trial(0, "cpu", "tiny").address

    assert hardened().trial(0, "cpu", "tiny").versions["PGD"] == PGD.VERSION
    settings = (None, PGD2, PGD(eps=0.1, steps=3), FGSM(eps=0.1))
    assert len({address(one) for one in settings}) == len(settings)
    before = address(PGD2)
    monkeypatch.setattr(PGD, "VERSION", PGD.VERSION + 1)
    assert address(PGD2) != before


def test_what_the_copy_in_bfloat16_computes_is_part_of_the_address() -> None:
    def versions(precision: str) -> dict[str, int]:
        recipe = Recipe(epochs=1, precision=precision)
        return hardened(recipe=recipe).trial(0, "cpu", "tiny").versions

    assert versions("bfloat16") == versions("float32") | {"FastCopy": fast.VERSION}
    plain = hardened(adversary=None, recipe=Recipe(precision="bfloat16")).trial(0, "cpu", "tiny")
    assert "FastCopy" not in plain.versions
    attacks = [
        AttackNetwork(precision=precision).trials([plain], "")[0]
        for precision in ("bfloat16", "float32")
    ]
    assert attacks[0].versions == attacks[1].versions | {"FastCopy": fast.VERSION}
    looks = [
        AttendNetwork(attack=PGD2, explainer=Occlusion(precision=precision)).trials([plain], "")[0]
        for precision in ("bfloat16", "float32")
    ]
    assert looks[0].versions == looks[1].versions | {"FastCopy": fast.VERSION}


class Leaping(nn.Module):
    """A network whose copy in bfloat16 is another one: a large number comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.flatten(1) + 1000.0) - 1000.0)


@pytest.mark.parametrize("asked", ["copy", "original"])
def test_each_batch_is_attacked_by_the_weights_of_that_step(asked: str) -> None:
    """What `against` gives is the attack on the network itself, before and after a step."""
    torch.manual_seed(0)
    conv = CNN(depths=(1,), widths=(4,), norm="batch").build((1, 4, 4), 3, Stream(1))
    clf = Classifier(conv if asked == "copy" else Leaping(), mean=(0.5,), std=(0.25,))
    recipe = Recipe(precision="float32" if asked == "copy" else "bfloat16")
    attack = against(PGD2, recipe)
    assert attack is not None
    x, y = Stream(2).rows(range(8)).uniform((1, 4, 4)), torch.arange(8) % 3

    threat, loss = PGD2.threat, PGD2.objective(False)

    def draws() -> Rows:
        return Stream(4).rows(range(8))

    clf.model.eval()
    seen = []
    for _ in range(2):
        with clf.borrowed():
            seen.append(attack(clf, x, y, rng=draws()))
            expected = PGD2.perturb(clf, x, y, threat=threat, loss=loss, rng=draws())
        torch.testing.assert_close(seen[-1], expected, atol=1e-6, rtol=0)
        with torch.no_grad():
            for parameter in clf.model.parameters():
                parameter.neg_()
    assert not torch.allclose(*seen, atol=0.05)


class Ripples(nn.Module):
    """A network whose copy in bfloat16 answers alike, but with other gradients, once there are
    ripples."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)
        self.height = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(x.flatten(1))
        return z + self.height * torch.sin(3000 * z)


def test_what_an_epoch_attacks_with_does_not_depend_on_those_before_it() -> None:
    """A training that was stopped goes on with a new adversary."""
    torch.manual_seed(0)
    clf = Classifier(Ripples().eval(), classes="abc")
    x, y = Stream(2).rows(range(8)).uniform((1, 4, 4)), torch.arange(8) % 3

    def epoch(adversary: Any) -> Tensor:
        fresh = copy.copy(adversary)  # as `fit` does
        with clf.borrowed():
            return fresh(clf, x, y, rng=Stream(4).rows(range(8)))  # type: ignore[no-any-return]

    through = against(PGD2, Recipe(precision="bfloat16"))
    epoch(through)
    with torch.no_grad():
        clf.model.height.fill_(0.02)  # type: ignore[operator]
    resumed = against(PGD2, Recipe(precision="bfloat16"))
    assert torch.equal(epoch(through), epoch(resumed))


def test_the_time_of_the_attack_is_expected() -> None:
    natural, attacked = (
        expected_seconds(TINY.model_copy(update={"adversary": adversary}), "cpu")
        for adversary in (None, PGD(steps=30))
    )
    assert attacked > 4 * natural


def test_what_else_runs_on_the_machine_is_not_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = iter(range(1, 10**6))  # a clock on the wall, on which a second goes by at each look
    monkeypatch.setattr("assay.tasks.train_time.time.perf_counter", lambda: float(next(slept)))
    steps = expected_seconds(TINY, "cpu")
    assert steps < 1


def test_more_than_one_start_is_refused() -> None:
    with pytest.raises(AssayError, match=r"adversary: .*one start"):
        TrainNetwork(adversary=PGD(restarts=2))


def test_the_robust_recipe_is_the_plain_one_of_the_paper() -> None:
    """Madry et al. 2018, section 5, CIFAR10: seven steps of 2/255 within 8/255, random start."""
    config = TrainNetwork.parse(NAMED["robust"])
    attack = config.adversary
    assert isinstance(attack, PGD)
    assert (attack.norm, attack.steps, attack.random_start) == ("linf", 7, True)
    assert (attack.eps, attack.step_size) == (8 / 255, 2 / 255)
    assert attack.loss == "cross_entropy"
    assert json.loads(config.canonical())["adversary"]["name"] == "pgd"
