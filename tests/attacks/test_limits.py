"""What a query budget and a time limit promise, of every attack."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks import Attack, Iterate, attacks
from assay.attacks import runner as running
from assay.attacks.base import Search
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.threats import NormBall
from assay.errors import AssayError

N = 8
SMALL: dict[str, dict[str, Any]] = {
    "apgd": {"steps": 5, "eot": 4, "restarts": 2},
    "apgdt": {"steps": 4, "eot": 4, "n_target_classes": 2},
    "auto": {"steps": 4, "queries": 12},
    "carlini-wagner": {"steps": 20, "searches": 3, "initial_c": 0.1},
    "deepfool": {"steps": 6},
    "fab": {"steps": 4, "n_target_classes": 2, "restarts": 2},
    "few-pixel": {"steps": 5},
    "fgsm": {"eot": 4},
    "genetic": {"population": 9, "steps": 4},
    "hopskipjump": {"queries": 90, "probes": 10},
    "mifgsm": {"steps": 4, "eot": 4},
    "noise": {"draws": 5},
    "one-pixel": {"population": 9, "steps": 3},
    "pgd": {"steps": 4, "eot": 4, "restarts": 2},
    "square": {"queries": 12, "restarts": 2},
}
"""Settings by which one step of most attacks takes several queries."""
EXACT = (
    "apgd",
    "apgdt",
    "few-pixel",
    "fgsm",
    "genetic",
    "mifgsm",
    "noise",
    "one-pixel",
    "pgd",
    "square",
)
"""Attacks that make the same number of queries on every image, and know when they are done."""


def make(name: str, **more: Any) -> Attack:
    return attacks()[name].parse({**SMALL.get(name, {}), **more})


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, 8, 8))


@pytest.fixture(scope="module")
def clf(x: Tensor) -> Classifier:
    """Untrained; its logits are centred on the images, so that its predictions vary."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
    clf = Classifier(model, mean=[0.5] * 3, std=[0.3] * 3)
    with torch.no_grad():
        model[3].bias -= clf.query(x).mean(0)
    return clf


@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize("name", attacks())
def test_no_image_is_queried_more_often_than_the_budget_says(
    clf: Classifier, x: Tensor, name: str, stop: Any
) -> None:
    attack = make(name)
    whole = int(attack(clf, x, stop="never").queries.max())
    for budget in {1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 18, 19, 25, 40, whole - 1, whole}:
        result = attack(clf, x, stop=stop, query_budget=budget)
        assert int(result.queries.max()) <= budget
        assert not bool((result.cut & result.success).any())
        if budget <= attack.opening + 1:
            assert result.queries.tolist() == [1] * N
            assert bool(result.cut.all())


@pytest.mark.parametrize("name", EXACT)
def test_a_budget_that_is_just_enough_lets_an_attack_end(
    clf: Classifier, x: Tensor, name: str
) -> None:
    attack = make(name, restarts=1) if "restarts" in attacks()[name].model_fields else make(name)
    free = attack(clf, x)
    assert len(set(free.queries.tolist())) == 1
    budget = int(free.queries[0])
    enough = attack(clf, x, query_budget=budget)
    assert torch.equal(enough.adversarial, free.adversarial)
    assert torch.equal(enough.success, free.success)
    assert not bool(enough.cut.any())
    short = attack(clf, x, query_budget=budget - 1)
    assert torch.equal(short.cut, ~short.success)
    assert int(short.queries.max()) < budget


@pytest.mark.parametrize("name", ["apgd", "apgdt", "few-pixel", "genetic", "one-pixel", "square"])
def test_what_was_found_before_the_budget_ended_is_kept(
    clf: Classifier, x: Tensor, name: str
) -> None:
    """With stop="never" a search goes on after a success, and may be elsewhere when it ends."""
    more = {"eps": 8} if name in ("few-pixel", "one-pixel") else {"eps": 0.01}
    attack = make(name, **more)
    whole = attack(clf, x)
    assert bool(whole.success.any())
    for budget in range(5, int(whole.queries.max()), 2):
        left = attack(clf, x, stop="fooled", query_budget=budget)
        kept = attack(clf, x, stop="never", query_budget=budget)
        assert torch.equal(kept.success, left.success), budget


def test_the_first_step_and_its_confirmation_fit(clf: Classifier, x: Tensor) -> None:
    attack = make("one-pixel", population=20, steps=9, eps=30)
    free = attack(clf, x, stop="fooled")
    first = free.success & (free.steps == 0)
    assert bool(first.any())
    result = attack(clf, x, stop="fooled", query_budget=22)
    assert bool(result.success[first].all())
    assert int(result.queries.max()) == 22


class Greedy(Attack):
    """Asks three times in a step, and announces one question."""

    name: Literal["greedy"] = "greedy"
    """The method's name in configs."""

    @property
    def threat(self) -> NormBall:
        return NormBall(eps=0.02)

    def search(self, model: Any, x: Tensor, y: Tensor, **rest: Any) -> Search:
        del y, rest
        for _ in range(3):
            model.query(torch.cat([x, x]))
            yield Iterate(x, model.query(x), spent=3, ahead=1)


def test_an_attack_that_breaks_its_word_is_found_out(clf: Classifier, x: Tensor) -> None:
    Greedy()(clf, x, query_budget=11)
    with pytest.raises(AssayError, match=r"up to 3 evaluations.*correct Attack\.opening"):
        Greedy()(clf, x, query_budget=9)


class Slow(nn.Module):
    """Takes 4 ms per image, on a clock of its own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.now, self.longest = inner, 0.0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.now += 0.004 * len(x)
        self.longest = max(self.longest, 0.004 * len(x))
        return self.inner(x)

    def __deepcopy__(self, _: Any) -> None:
        raise TypeError("one clock, so no copy of it")

    def box(self, access: Any) -> BlackBox:
        def function(x: np.ndarray) -> Tensor:
            logits = self(torch.from_numpy(x))
            return logits.argmax(1) if access == "labels" else logits.softmax(1)

        return BlackBox(function, classes=5, access=access, batch_size=50)


LONG: dict[str, dict[str, Any]] = {
    "auto": {"steps": 50},
    "apgd": {"eot": 20},
    "carlini-wagner": {},
    "fab": {"steps": 50},
    "few-pixel": {"steps": 500, "eps": 1},
    "fgsm": {"eot": 100},
    "genetic": {"population": 100},
    "hopskipjump": {},
    "mifgsm": {"eot": 20, "steps": 50},
    "noise": {"draws": 500},
    "one-pixel": {"population": 100},
    "pgd": {"eot": 50},
    "square": {},
}
"""Settings by which an attack takes longer than a second of that clock, most of them in a step."""


@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize("name", attacks())
def test_a_slow_model_is_not_queried_after_the_time_limit(
    clf: Classifier, x: Tensor, name: str, stop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = attacks()[name]
    small = {"eps": 1e-4} if "eps" in kind.model_fields and "pixel" not in name else {}
    attack = kind.parse({**small, **LONG.get(name, {})})
    slow = Slow(clf.model)
    needs, limit = attack.needs, 0.1 if name == "deepfool" else 1.0  # it is done in no time
    oracle: Any = Classifier(slow) if needs == "gradient" else slow.box(needs)
    with monkeypatch.context() as patched:
        patched.setattr(running.time, "monotonic", lambda: slow.now)
        result = attack(oracle, x, stop=stop, time_limit=limit)
    assert limit - 2 * slow.longest - 0.004 * N <= slow.now <= limit + slow.longest
    assert bool(result.cut.any())
    assert torch.equal(result.cut, result.correct & ~result.success)
    assert int(result.queries.sum()) == oracle.queries - result.evaluations["check"]
    assert sum(result.evaluations.values()) == oracle.queries


def test_what_was_found_before_the_time_limit_counts(
    clf: Classifier, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(clf.model)
    attack = make("one-pixel", population=20, steps=50, eps=20)
    with monkeypatch.context() as patched:
        patched.setattr(running.time, "monotonic", lambda: slow.now)
        result = attack(slow.box("scores"), x, time_limit=1.0)
    assert bool(result.success.any())
    assert slow.now <= 1.0 + slow.longest


UNFINISHED: dict[str, dict[str, Any]] = {
    "one-pixel": {"population": 400, "eps": 20},
    "genetic": {"population": 400, "eps": 0.3},
    "pgd": {"eot": 400, "eps": 0.3},
}
"""Attacks whose first step takes longer than two seconds of that clock, and finds something."""


@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize("name", UNFINISHED)
def test_what_a_step_had_found_that_was_broken_off_counts(
    clf: Classifier, x: Tensor, name: str, stop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, attack = Slow(clf.model), attacks()[name].parse(UNFINISHED[name])
    oracle: Any = Classifier(slow) if attack.needs == "gradient" else slow.box("scores")
    with monkeypatch.context() as patched:
        patched.setattr(running.time, "monotonic", lambda: slow.now)
        result = attack(oracle, x, stop=stop, time_limit=2.0)
    assert slow.now <= 2.0 + slow.longest
    assert bool(result.success.any())
    assert bool(result.cut.any())
    assert torch.equal(result.cut, result.correct & ~result.success)
    said = Classifier(clf.model).predict(result.adversarial)
    assert torch.equal(said != result.labels, result.success)
    assert bool(result.threat.contains(x, result.adversarial).all())
    assert int(result.queries.sum()) == oracle.queries - result.evaluations["check"]


class Straying(Attack):
    """Finds a near success, and then asks about far ones for ever."""

    name: Literal["straying"] = "straying"
    """The method's name in configs."""

    @property
    def threat(self) -> NormBall:
        return NormBall(norm="l2", eps=float("inf"))

    def search(self, model: Any, x: Tensor, y: Tensor, **rest: Any) -> Search:
        del y, rest
        near = (x + 0.05).clamp(0, 1)
        yield Iterate(near, model.query(near))
        while True:
            model.query((x + 0.1).clamp(0, 1))


def test_what_the_last_whole_step_had_found_comes_first(
    x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Brightness(nn.Module):
        """Is fooled by anything brighter than the images."""

        def forward(self, seen: Tensor) -> Tensor:
            bright = seen.mean((1, 2, 3)) - float(x.mean((1, 2, 3)).max())
            return torch.stack([torch.full_like(bright, 1e-3), bright], 1)

    slow = Slow(Brightness())
    images = x * 0 + x[:1] * torch.linspace(0.99, 1, N).view(N, 1, 1, 1)
    images = images * (float(x.mean((1, 2, 3)).max()) / float(images[-1].mean()))
    with monkeypatch.context() as patched:
        patched.setattr(running.time, "monotonic", lambda: slow.now)
        result = Straying()(Classifier(slow), images.clamp(0, 0.9), time_limit=1.0)
    assert bool(result.success.all())
    assert float(result.threat.distance(images, result.adversarial).max()) < 0.06 * 192**0.5
