"""What every attack of the union must do, ours and those of other packages."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from assay.attacks import AnyAttack, Attack, attacks
from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.errors import AssayError

N = 40
EPS = {"linf": 8 / 255, "l2": 1.0, "l1": 12.0, "l0": 5.0}
SMALL: dict[str, dict[str, object]] = {
    "apgd": {"steps": 20},
    "apgdt": {"steps": 10, "n_target_classes": 3},
    "auto": {"steps": 6, "queries": 30},
    "carlini-wagner": {"steps": 40, "searches": 4, "initial_c": 0.1},
    "fab": {"steps": 6},
    "genetic": {"steps": 120},
    "hopskipjump": {"queries": 800, "probes": 40},
    "one-pixel": {"population": 30, "steps": 30},
    "square": {"queries": 150},
}
"""Settings that make an attack quick on the network of this file."""
FREE = {"fab": {"steps": 1, "restarts": 2}}
"""Settings with which another draw comes to another image: FAB draws for its restarts alone, and
after more steps its first start is the nearest."""
DRAWLESS = {"carlini-wagner", "deepfool", "few-pixel", "fgsm", "mifgsm"}
"""Those of ours that draw nothing."""
CASES = [
    (name, norm)
    for name, kind in attacks().items()
    for norm in ("linf", "l2", "l1", "l0")
    if "norm" not in kind.model_fields or norm in str(kind.model_fields["norm"].annotation)
]

METHODS = [(name, norm) for name, norm in CASES if name != "noise"]
"""Those that are attacks; noise is what they are compared with."""


def make(name: str, norm: str | None = None, **settings: object) -> Attack:
    """Make an attack, small; without a norm it is given the first of EPS that it has."""
    kind = attacks()[name]
    fields = kind.model_fields
    settings = {**SMALL.get(name, {}), **settings}
    if "norm" in fields:
        norm = norm or next(norm for case, norm in CASES if case == name)
        settings |= {"norm": norm, "eps": EPS[norm]}
    return kind.parse({key: value for key, value in settings.items() if key in fields})


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """An untrained network: its predictions vary over images and are easily changed."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, 16, 16), 0.05, 0.95)


@pytest.fixture
def clf(net: nn.Module) -> Classifier:
    return Classifier(net, mean=[0.5] * 3, std=[0.2] * 3)


@pytest.mark.parametrize(("name", "norm"), METHODS)
def test_it_fools_far_more_than_noise_of_the_same_size(
    clf: Classifier, x: Tensor, name: str, norm: str
) -> None:
    attack = make(name, norm)
    result = attack(clf, x, seed=0)
    noisy = attack.threat.random_start(x, Stream(5).rows(range(N)))
    by_noise = float((clf.predict(noisy) != clf.predict(x)).float().mean())
    assert result.success_rate.value >= by_noise + 0.3
    assert torch.equal(clf.predict(result.adversarial) != result.labels, result.success)


@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize(("name", "norm"), CASES)
def test_the_budget_is_kept(clf: Classifier, x: Tensor, name: str, norm: str, stop: str) -> None:
    result = make(name, norm)(clf, x, seed=0, stop=stop)
    assert bool(result.threat.contains(x, result.adversarial).all())
    assert result.refused == 0
    assert torch.allclose(result.threat.distance(x, result.adversarial), result.distance)
    assert float(result.distance[result.success].min()) > 0


@pytest.mark.parametrize(("name", "norm"), METHODS)
@pytest.mark.parametrize("targeted", [False, True])
def test_it_goes_uphill(clf: Classifier, x: Tensor, name: str, norm: str, targeted: bool) -> None:
    attack = make(name, norm)
    y = clf.predict(x)
    goal = (y + 1) % 10 if targeted else y
    result = attack(clf, x, y, targets=goal if targeted else None, seed=0)
    loss = attack.objective(targeted)
    rise = loss(clf.query(result.adversarial), goal) - loss(clf.query(x), goal)
    if attack.needs == "labels":  # it starts from noise, and stays where that finds no such class
        rise = rise[result.distance > 0]
        assert len(rise) >= N // 4
    assert float((rise > 0).float().mean()) >= 0.9


@pytest.mark.parametrize("name", attacks())
def test_the_seed_decides(clf: Classifier, x: Tensor, name: str, monkeypatch: Any) -> None:
    drawn, bits = [], Rows._bits

    def counted(rows: Rows, count: int) -> Tensor:
        drawn.append(count)
        return bits(rows, count)

    monkeypatch.setattr(Rows, "_bits", counted)
    attack = make(name, **FREE.get(name, {}))
    first, again, other = (attack(clf, x, seed=seed).adversarial for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (not drawn)
    if name in attacks.built_in():
        assert (name in DRAWLESS) == (not drawn)


@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize("name", attacks())
def test_the_batch_size_does_not_matter(clf: Classifier, x: Tensor, name: str, stop: str) -> None:
    attack = make(name, restarts=2)
    small, large = (attack(clf, x, seed=0, stop=stop, batch_size=size) for size in (7, 64))
    assert torch.equal(small.success, large.success)
    assert torch.equal(small.queries, large.queries)
    apart = (small.adversarial - large.adversarial).abs().flatten(1).amax(1)
    # The last bit of an answer depends on the batch: the sign of a gradient that is zero up to
    # rounding, and on which side of the boundary a point on it lies.
    assert float((apart < 1e-5).float().mean()) >= 0.95


@pytest.mark.parametrize("name", [name for name, kind in attacks().items() if kind.minimum_norm])
def test_a_search_that_is_cut_short_keeps_the_nearest_it_has_found(
    clf: Classifier, x: Tensor, name: str
) -> None:
    attack, few = make(name).model_copy(update={"eps": None}), x[:20]
    most = int(attack(clf, few, seed=0).queries.max()) * 7 // 8
    for budget in (most, most - 1):  # a search may ask two kinds of question in turn
        first = attack(clf, few, seed=0, query_budget=budget, stop="fooled")
        found = attack(clf, few, seed=0, query_budget=budget)
        fooled = first.success
        assert bool(fooled.any())
        assert bool(found.success[fooled].all())
        assert bool((found.distance <= 1.001 * first.distance)[fooled].all())  # SURE is between


@pytest.mark.parametrize("name", attacks())
@pytest.mark.parametrize("raises", [False, True])
def test_the_model_comes_back_as_it_was(net: nn.Module, x: Tensor, name: str, raises: bool) -> None:
    model = copy.deepcopy(net).train()
    model[0].eval()
    model[1].weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    wants = [parameter.requires_grad for parameter in model.parameters()]
    clf = Classifier(model)
    if raises:
        calls = []

        def fail(*_: object) -> None:
            calls.append(1)
            if len(calls) > 1:
                raise RuntimeError("out of order")

        handle = model[4].register_forward_hook(fail)
        with pytest.raises(AssayError, match="RuntimeError: out of order"):
            make(name)(clf, x, seed=0)
        handle.remove()
    else:
        make(name)(clf, x, seed=0)
    assert modes == [module.training for module in model.modules()]
    assert wants == [parameter.requires_grad for parameter in model.parameters()]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(bool((p.grad == 1).all()) for p in model.parameters() if p.grad is not None)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize("name", attacks())
def test_queries_are_those_the_model_saw(net: nn.Module, x: Tensor, name: str, stop: str) -> None:
    seen = 0

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0])

    model = copy.deepcopy(net)
    model.register_forward_pre_hook(count)
    model.uncopyable = (item for item in ())  # a generator: no fast copy, all calls are seen
    result = make(name, restarts=2)(Classifier(model), x, seed=0, stop=stop)
    checks = result.evaluations["check"]
    if result.fast is not None:
        assert not result.fast.used
    assert int(result.queries.sum()) == seen - checks
    assert sum(result.evaluations.values()) == seen


@pytest.mark.parametrize("name", attacks())
def test_training_gets_every_row_and_all_steps(net: nn.Module, x: Tensor, name: str) -> None:
    # One model for both: on the decision boundary a search may turn on the last bit of a copy.
    model = copy.deepcopy(net)
    model.uncopyable = (item for item in ())
    clf = Classifier(model, mean=[0.5] * 3, std=[0.2] * 3)
    attack = make(name)
    y = clf.predict(x)
    rng = Stream(0).child("attack", name, 0).rows(range(N))
    settings = {"threat": attack.threat, "loss": attack.objective(False), "rng": rng}
    if attack.stages != (attack,):  # a cascade moves survivors only, so it says that it cannot
        with pytest.raises(AssayError, match="take one of its stages"):
            attack.perturb(clf, x, y, **settings)
        return
    with clf.borrowed():
        adversarial = attack.perturb(clf, x, y, **settings)
    assert not adversarial.requires_grad
    ran = attack(clf, x, y, seed=0)
    assert torch.allclose(adversarial, ran.adversarial, atol=1e-5)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_print_parse_equal(name: str, norm: str) -> None:
    attack = make(name, norm, steps=3, step_size=0.01)
    assert type(attack).from_yaml(attack.to_yaml()) == attack
    assert TypeAdapter(AnyAttack).validate_python(attack.model_dump(mode="json")) == attack


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_budget_that_is_none_is_refused(name: str, norm: str) -> None:
    kind = attacks()[name]
    given = {"norm": norm} if "norm" in kind.model_fields else {}
    wrong: list[tuple[object, str]] = [(-0.1, "eps"), (math.nan, "eps"), ("8/0", "fraction")]
    if norm == "linf":
        wrong += [(8, r"eps = 8 is outside \[0, 1\].*8/255"), (1.001, "outside")]
    if norm == "l0":
        wrong += [(2.5, "counts pixels")]
    for eps, message in wrong:
        with pytest.raises(AssayError, match=message):
            kind.parse({**given, "eps": eps})


@pytest.mark.parametrize("name", attacks())
def test_a_threat_that_it_cannot_keep_is_refused(name: str) -> None:
    for norm in ("linf", "l2", "l1", "l0", "l7"):
        if (name, norm) not in CASES:
            with pytest.raises(AssayError, match=r"norm.*Input should be"):
                attacks()[name].parse({"norm": norm})


class Silent(nn.Module):
    """Has no answer where the first pixel is below 0.3, which it sees as -1: of some images, and of
    others on the way."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).masked_fill((x[:, 0, 0, 0] < -1)[:, None], torch.nan)


@pytest.mark.parametrize("name", attacks())
def test_no_answer_is_no_success(net: nn.Module, x: Tensor, name: str) -> None:
    x = x[:20]
    clf = Classifier(Silent(net), mean=[0.5] * 3, std=[0.2] * 3)
    y = Classifier(net, mean=[0.5] * 3, std=[0.2] * 3).predict(x)
    silent = x[:, 0, 0, 0] < 0.3
    assert 3 < int(silent.sum()) < 17
    result = make(name)(clf, x, y, seed=0)
    assert torch.equal(result.clean_prediction == -1, silent)
    assert result.unanswered == int(silent.sum())
    assert not bool((silent & (result.correct | result.success)).any())
    said = clf.predict(result.adversarial)
    assert torch.equal(said, result.adversarial_prediction)
    assert torch.equal(result.success, result.correct & (said != y) & (said >= 0))
    if name != "noise":
        assert bool(result.success.any())
