"""N-FGSM, TRADES, the static mix, the guard against collapses: what each does, refuses and says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import FGSM, PGD, Attack, Iterate, OnePixel
from assay.attacks.base import Search
from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.source import TensorSource
from assay.core.threats import NormBall
from assay.data.dataset import Dataset, in_memory
from assay.errors import AssayError
from assay.models import CNN
from assay.runs.trial import Trial
from assay.runs.worker import Workspace
from assay.tasks.adversaries import NFGSM, Mixed, StaticMix, against, rivals, shortened
from assay.tasks.train import TrainNetwork, train
from assay.train import IBP, SGD, Constant, Guard, Recipe, Trades
from assay.train.fit import fit
from assay.train.guard import Rivals

TINY = TrainNetwork(
    data="digits",
    network=CNN(depths=(1,), widths=(4,), norm="batch", stem_stride=4),
    recipe=Recipe(epochs=2, batch_size=40),
    train_images=120,
    test_images=40,
    train_tested=False,
)


def linear(*weights: float) -> Classifier:
    """z = (w · x, 0): the loss of class 0 rises along -sign w."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(len(weights), 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([weights, [0.0] * len(weights)]))
    return Classifier(model, classes="ab")


def test_the_step_of_n_fgsm_by_hand() -> None:
    """From noise of up to twice the budget one whole step, and nothing but [0, 1] holds it."""
    x = torch.full((200, 1, 1, 2), 0.5)
    draws = Stream(1).rows(range(200))
    noise = Stream(1).rows(range(200)).uniform((1, 1, 2), -0.2, 0.2)
    moved = NFGSM(eps=0.1)(linear(1.0, -1.0), x, torch.zeros(200, dtype=torch.int64), draws)
    torch.testing.assert_close(moved, 0.5 + noise + torch.tensor([-0.1, 0.1]))
    assert 0.1 < float((moved - x).abs().max()) <= 0.3 + 1e-6
    half = NFGSM(eps=0.1)(
        linear(1.0, -1.0), x, torch.zeros(200, dtype=torch.int64), Stream(1).rows(range(200)), 0.5
    )
    torch.testing.assert_close(half, 0.5 + noise + torch.tensor([-0.05, 0.05]))


def test_the_attack_of_trades_raises_the_divergence() -> None:
    """z = (2x₁ - x₂, 0) at (0.5, 0.5): p = σ(0.5); labels do not matter to it, and either end of
    the ball is a maximum of the divergence; cross entropy would always go to the same one."""
    clf = linear(4.0, -4.0)
    x, y = torch.full((64, 1, 1, 2), 0.5), torch.zeros(64, dtype=torch.int64)
    attack = PGD(eps=0.1, steps=5, step_size=0.05)
    found = {}
    for name, recipe in (("trades", Recipe(loss=Trades())), ("plain", Recipe())):
        adversary = against(attack, recipe)
        assert adversary is not None
        moved = adversary(clf, x, y, rng=Stream(2).rows(range(64)))
        found[name] = {tuple(round(v, 4) for v in row) for row in (moved - x).flatten(1).tolist()}
    assert found == {"trades": {(-0.1, 0.1), (0.1, -0.1)}, "plain": {(-0.1, 0.1)}}


def test_a_step_is_shortened() -> None:
    assert shortened(PGD(eps=0.1, steps=5, step_size=0.04), 0.5) == PGD(
        eps=0.1, steps=5, step_size=0.02
    )
    assert shortened(PGD(eps=0.1, steps=5), 0.5).step_size == pytest.approx(0.04)  # of 4 ε / steps
    assert shortened(FGSM(eps=0.1), 0.25) == FGSM(eps=0.025)
    assert shortened(FGSM(eps=0.1), 1.0) == FGSM(eps=0.1)


class Escaping(Attack):
    """An attack that forgets its budget."""

    name: Literal["escaping"] = "escaping"

    @property
    def threat(self) -> NormBall:
        return NormBall(norm="linf", eps=0.1)

    def search(self, model: Any, x: Tensor, y: Tensor, **settings: Any) -> Search:
        del model, y, settings
        yield Iterate((x + 0.2).clamp(0, 1), spent=0)


@pytest.mark.parametrize("how", ["each batch", "static mix"])
def test_an_attack_that_leaves_its_threat_is_said(how: str) -> None:
    adversary = against(Escaping(), Recipe())
    assert adversary is not None
    x, y = torch.full((4, 1, 1, 2), 0.5), torch.zeros(4, dtype=torch.int64)
    clf, config = linear(1.0, 2.0), StaticMix.model_construct(attack=Escaping())
    attacks = {
        "each batch": lambda: adversary(clf, x, y, rng=Stream(1).rows(range(4))),
        "static mix": lambda: Mixed(config, clf, images(8), Stream(1)),
    }
    with pytest.raises(
        AssayError, match=r"escaping leaves its threat \(linf eps 0.1\).*moved by 0.2"
    ):
        attacks[how]()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hardening": {"name": "n-fgsm", "eps": 8}}, "8/255"),
        ({"adversary": {"name": "pgd"}, "hardening": "n-fgsm"}, "give one"),
        ({"recipe": {"loss": "trades"}}, "trades needs an adversary"),
        ({"recipe": {"loss": "trades"}, "adversary": {"name": "one-pixel"}}, "follows gradients"),
        ({"recipe": {"loss": "trades"}, "adversary": {"name": "apgd"}}, "follows gradients"),
        ({"recipe": {"loss": "trades"}, "adversary": {"name": "fgsm"}}, "beside the image"),
        (
            {"recipe": {"loss": "trades"}, "adversary": {"name": "pgd", "random_start": False}},
            "pgd with random_start",
        ),
        ({"adversary": {"name": "auto"}}, "auto is a cascade.*such as apgd"),
        (
            {"hardening": {"name": "static-mix", "attack": {"name": "auto"}}},
            "auto is a cascade.*such as apgd",
        ),
        (
            {"hardening": {"name": "static-mix", "attack": {"name": "pgd", "restarts": 2}}},
            "give pgd one start",
        ),
        ({"hardening": {"name": "n-fgsm", "eps": 0}}, "hardening.eps"),
        ({"adversary": {"name": "pgd", "step_size": 2}}, "write 2/255"),
        ({"adversary": {"name": "mifgsm", "step_size": 2}}, "write 2/255"),
        ({"recipe": {"loss": "ibp", "patience": 3}}, "drop patience"),
        ({"recipe": {"loss": {"name": "ibp", "eps": 8}}}, "8/255"),
        ({"recipe": {"loss": "ibp"}, "adversary": {"name": "pgd"}}, "drop pgd"),
        ({"recipe": {"guard": {}}}, "recipe.guard looks"),
        ({"recipe": {"guard": {}}, "hardening": "static-mix"}, "recipe.guard looks"),
        ({"hardening": "static-mix", "features": {}}, "drop one"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AssayError, match=words):
        TrainNetwork.parse(settings)


def test_what_hardens_is_part_of_the_address() -> None:
    made = [
        TINY,
        TINY.model_copy(update={"hardening": NFGSM(eps=0.1)}),
        TINY.model_copy(update={"hardening": NFGSM(eps=0.2)}),
        TINY.model_copy(update={"hardening": StaticMix(attack=FGSM(eps=0.1))}),
        TINY.model_copy(update={"recipe": Recipe(epochs=2, batch_size=40, ema=0.9)}),
        TINY.model_copy(update={"recipe": Recipe(epochs=2, batch_size=40, loss=IBP())}),
    ]
    trials = [config.trial(0, "cpu", "") for config in made]
    assert len({trial.address for trial in trials}) == len(made)
    assert not {"hardening", "guard", "ema"} & (
        trials[0].config.keys() | trials[0].config["recipe"]
    )
    assert trials[1].versions["NFGSM"] == NFGSM.VERSION
    assert {"StaticMix", "FGSM"} <= trials[3].versions.keys()
    assert trials[3].needs == (trials[0].model_copy(update={"label": trials[3].needs[0].label}),)
    assert trials[5].versions["IBP"] == IBP.VERSION


def images(n: int) -> Dataset:
    generator = Stream(0).torch()
    pixels = torch.randint(100, 156, (n, 1, 1, 2), generator=generator, dtype=torch.uint8)
    return in_memory("made", "train", ("a", "b"), pixels, torch.zeros(n, dtype=torch.int64))


def test_a_static_mix_attacks_its_share_once() -> None:
    data = images(40)
    mixed = Mixed(StaticMix(attack=FGSM(eps=0.2)), linear(1.0, -1.0), data, Stream(3))
    assert len(mixed.rows) == 20
    x = data.images.float() / 255
    for _ in range(2):  # the same images each time, whatever the batch
        moved = mixed(x, Stream(9).rows(data.ids))
        away = (moved - x).flatten(1)
        rest = torch.ones(40, dtype=torch.bool)
        rest[mixed.rows] = False
        assert bool((away[rest] == 0).all())
        torch.testing.assert_close(away[~rest], torch.tensor([[-0.2, 0.2]]).expand(20, 2))
    assert mixed.fooled(linear(1.0, -1.0)) == 1.0
    assert mixed.fooled(linear(-1.0, 1.0)) == 0.0


class Stopped(Exception):
    pass


def made(folder: Path, trial: Trial, needs: list[Path], stop_at: float = 2.0) -> Any:
    """Train, or stop after that share of it; return the model's bytes, and the metrics."""
    folder.mkdir(exist_ok=True)

    class Watched(Workspace):
        def progress(self, fraction: float, note: str = "") -> None:
            del note
            if fraction >= stop_at:
                raise Stopped

    work = Watched(folder, tuple(Workspace(need) for need in needs))
    outcome = train(trial, work)
    metrics = json.dumps(dict(outcome.metrics), sort_keys=True)
    return work.path("model.safetensors").read_bytes(), metrics


@pytest.mark.parametrize("kind", ["n-fgsm", "static-mix"])
def test_stopped_and_started_again_it_ends_with_the_same_bytes(tmp_path: Path, kind: str) -> None:
    hardening = {"n-fgsm": NFGSM(eps=0.1), "static-mix": StaticMix(attack=FGSM(eps=0.1))}[kind]
    recipe = TINY.recipe.model_copy(update={"ema": 0.9})
    if kind == "n-fgsm":
        recipe = recipe.model_copy(update={"guard": Guard(images=32, steps=2)})
    config = TINY.model_copy(update={"hardening": hardening, "recipe": recipe})
    trial = config.trial(3, "cpu", "tiny")
    needs = []
    for need in trial.needs:
        made(tmp_path / "natural", need, [])
        needs.append(tmp_path / "natural")
    whole = made(tmp_path / "one", trial, needs)
    with pytest.raises(Stopped):
        made(tmp_path / "two", trial, needs, stop_at=0.5)
    assert list((tmp_path / "two").rglob("training.pt"))
    assert made(tmp_path / "two", trial, needs) == whole
    metrics = json.loads(whole[1])
    if kind == "n-fgsm":
        assert metrics["n_robust"] == 500
        assert len(metrics["history"]["robust_accuracy"]) == 2
        assert len(metrics["history"]["strong_looks"]) == 4
    else:
        assert 0 <= metrics["mix_fools"] <= 1


# -- collapses ------------------------------------------------------------------------------------


def blobs(n: int, seed: int = 0) -> TensorSource:
    generator = Stream(seed).torch()
    y = torch.randint(0, 2, (n,), generator=generator)
    x = torch.rand(n, 1, 4, 4, generator=generator) * 0.5 + 0.5 * y.view(-1, 1, 1, 1)
    return TensorSource(x, y)


GUARDED = Recipe(
    epochs=4,
    batch_size=10,
    optimizer=SGD(lr=0.05),
    schedule=Constant(),
    guard=Guard(images=20, looks=1, returns=2),
    ema=0.5,
)


def unmoved(model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor:
    del model, y, rng
    return x


class Faking:
    """Attacks that make the guard see what a test says: at each look (one step, several)."""

    def __init__(self, looks: list[tuple[float, float]]) -> None:
        self.looks = looks
        self.scales: list[float] = []

    def rival(self, which: int) -> Any:
        def attack(model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor:
            """Return images that the model gets right in that share."""
            del rng
            share = self.looks[0][which]
            if which:
                self.looks = self.looks[1:] or self.looks
            right = model.predict(x) == y
            ones, zeros = x[right & (y == 1)], x[right & (y == 0)]
            count = round(share * len(x))
            moved = x.clone()
            for row in range(len(x)):
                own, other = (ones, zeros) if y[row] == 1 else (zeros, ones)
                moved[row] = (own if row < count else other)[0]
            return moved

        return attack

    def rivals(self) -> Rivals:
        def gentler(scale: float) -> Any:
            self.scales.append(scale)
            return unmoved

        return Rivals(self.rival(0), self.rival(1), gentler)


def fitted(looks: list[tuple[float, float]], recipe: Recipe = GUARDED, **settings: Any) -> Any:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():  # right from the start, and never learnt away
        model[1].weight.copy_(torch.tensor([[-1.0] * 16, [1.0] * 16]))
        model[1].bias.copy_(torch.tensor([8.0, -8.0]))
    faking = Faking(looks)
    clf = Classifier(model, classes="ab")
    history = fit(
        clf,
        blobs(60),
        blobs(40, 1),
        recipe,
        stream=Stream(4),
        rivals=faking.rivals(),
        adversary=unmoved,
        **settings,
    )
    return history, faking.scales


def looks(*pairs: tuple[float, float]) -> list[tuple[float, float]]:
    """Return what the attacks are asked, two looks an epoch: as it is, and (several steps alone) of
    the averaged weights, unless the first was a collapse."""
    asked: list[tuple[float, float]] = []
    best = (0.0, 0.0)
    for pair in pairs:
        asked.append(pair)
        if pair[1] < 0.5 * best[1] and pair[0] - pair[1] > best[0] - best[1] + 0.15:
            continue
        best = max(best, pair, key=lambda one: one[1])
        asked.append(pair)
    return asked


def test_a_collapse_is_noticed_and_gone_back_from() -> None:
    history, scales = fitted(looks((0.5, 0.4), (0.6, 0.5), (0.9, 0.1), (0.6, 0.5), (0.6, 0.55)))
    assert history.epochs == 4
    assert history.strong_looks == pytest.approx([0.4, 0.5, 0.5, 0.55])
    (said,) = history.collapses
    assert said.startswith("epoch 3: catastrophic overfitting: 90%")
    assert scales == [0.5, 0.5]  # of the epochs after it
    assert history.best_epoch == 4


SLIDING = looks((0.5, 0.4), (0.6, 0.5), (0.3, 0.2), (0.9, 0.1), (0.6, 0.5), (0.6, 0.55))
"""In epoch 3 both fall, in epoch 4 it is seen what that was."""


def test_what_is_gone_back_to_is_from_before_the_fall() -> None:
    history, scales = fitted(SLIDING)
    assert history.strong_looks == pytest.approx([0.4, 0.5, 0.5, 0.55])
    (said,) = history.collapses
    assert said.startswith("epoch 4: catastrophic overfitting: 90%")
    assert scales == [0.5, 0.5]


def test_stopped_between_the_fall_and_the_alarm_it_goes_back_as_far(tmp_path: Path) -> None:
    whole, _ = fitted(SLIDING)

    def stop(done: float, _: str) -> None:
        if done == 0.75:
            raise Stopped

    kept = tmp_path / "training.pt"
    with pytest.raises(Stopped):
        fitted(SLIDING, checkpoint=kept, progress=stop)
    again, _ = fitted(SLIDING[6:], checkpoint=kept)
    assert again.metrics() == whole.metrics()


def test_a_training_that_keeps_collapsing_ends_with_the_last_good_weights() -> None:
    history, scales = fitted(looks((0.5, 0.4), (0.9, 0.1), (0.9, 0.1), (0.9, 0.1)))
    assert (history.epochs, history.stopped_early) == (1, True)
    assert len(history.collapses) == 3
    assert scales == [0.5, 0.25]


def test_a_collapse_can_be_noted_alone() -> None:
    noting = GUARDED.model_copy(update={"guard": Guard(images=20, looks=1, response="note")})
    found = [(0.5, 0.4), (0.5, 0.4), (0.9, 0.1), (0.9, 0.1)]
    history, scales = fitted([*found, *found[2:], *found[2:]], noting)
    assert history.epochs == 4
    assert history.collapses
    assert scales == []


@pytest.mark.parametrize(
    "harmless",
    [
        [(0.5, 0.4), (0.3, 0.15)],  # both fall: a bad epoch, no collapse
        [(0.5, 0.4), (0.75, 0.3)],  # the gap widens, and it remains robust under several steps
        [(0.2, 0.1), (0.15, 0.1), (0.9, 0.8)],
    ],
)
def test_what_is_no_collapse_raises_no_alarm(harmless: list[tuple[float, float]]) -> None:
    history, scales = fitted(looks(*harmless, harmless[0], harmless[0]))
    assert history.epochs == 4
    assert not history.collapses
    assert not scales


def test_a_guard_needs_what_to_look_with() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with pytest.raises(AssayError, match=r"recipe\.guard"):
        fit(Classifier(model, classes="ab"), blobs(20), blobs(20), GUARDED, stream=Stream(1))


def test_what_a_guard_looks_with_has_the_budget_of_the_training() -> None:
    recipe = Recipe(guard=Guard(steps=5))
    found = rivals(NFGSM(eps=0.1), recipe)
    assert found is not None
    x, y = torch.full((16, 1, 1, 2), 0.5), torch.zeros(16, dtype=torch.int64)
    for rival in (found.fast, found.strong):
        moved = rival(linear(1.0, -1.0), x, y, rng=Stream(1).rows(range(16)))
        torch.testing.assert_close(moved, x + torch.tensor([-0.1, 0.1]))
    gentle = found.gentler(0.5)(linear(1.0, -1.0), x, y, rng=Stream(1).rows(range(16)))
    noise = Stream(1).rows(range(16)).uniform((1, 1, 2), -0.2, 0.2)
    torch.testing.assert_close(gentle, x + noise + torch.tensor([-0.05, 0.05]))
    assert rivals(NFGSM(), Recipe()) is None
    assert math.isclose(NFGSM().judge.eps, 8 / 255)
    assert OnePixel().needs != "gradient"


@pytest.mark.parametrize("attack", [FGSM(eps=0.1), PGD(eps=0.1, steps=1, random_start=False)])
def test_after_a_collapse_one_step_is_taken_from_noise(attack: FGSM | PGD) -> None:
    found = rivals(attack, Recipe(guard=Guard()))
    assert found is not None
    x, y = torch.full((16, 1, 1, 2), 0.5), torch.zeros(16, dtype=torch.int64)
    noise = Stream(1).rows(range(16)).uniform((1, 1, 2), -0.2, 0.2)
    for collapses, step in ((1, 0.1), (2, 0.05)):
        gentle = found.gentler(0.5**collapses)
        moved = gentle(linear(1.0, -1.0), x, y, rng=Stream(1).rows(range(16)))
        torch.testing.assert_close(moved, x + noise + torch.tensor([-step, step]))


def test_after_a_collapse_several_steps_are_shorter() -> None:
    found = rivals(PGD(eps=0.1, steps=2, step_size=0.04, random_start=False), Recipe(guard=Guard()))
    assert found is not None
    x, y = torch.full((16, 1, 1, 2), 0.5), torch.zeros(16, dtype=torch.int64)
    moved = found.gentler(0.5)(linear(1.0, -1.0), x, y, rng=Stream(1).rows(range(16)))
    torch.testing.assert_close(moved, x + torch.tensor([-0.04, 0.04]))
