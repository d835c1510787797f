"""What looks right and is not: each reason is seen in both directions, on made-up values and on
networks that are given what they were not trained on; right ones raise no alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from networks import trained as networks
from numpy.typing import NDArray
from torch import Tensor, nn

import assay
from assay.auditing import AuditConfig, plausible
from assay.auditing.evidence import Evidence
from assay.auditing.plausible import (
    class_order,
    flags_of,
    looked_at,
    mean_without_std,
    near_chance,
    other_preprocessing,
    units,
)
from assay.auditing.registry import Accuracy
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.errors import AssayError


@pytest.mark.parametrize(
    ("right", "n", "classes", "raised"),
    [
        (0, 100, 10, True),
        (10, 100, 10, True),
        (14, 100, 10, True),  # 14 % [8.5, 22]
        (27, 100, 10, False),
        (1, 1000, 1000, True),
        (30, 1000, 1000, False),
        (13, 20, 2, True),  # 65 % [43, 82]: nobody can tell
        (65, 100, 2, False),
        (20, 20, 1, False),  # nobody can do better
        (0, 20, 1, False),
    ],
)
def test_near_chance(right: int, n: int, classes: int, raised: bool) -> None:
    flag = near_chance(right, n, classes)
    assert flag.raised is raised
    assert ("--weights" in flag.detail) is raised
    queried = near_chance(right, n, classes, network=False).detail
    assert "--weights" not in queried
    assert ("--classes" in queried) is raised
    assert ("nothing can be told from guessing" in flag.detail) is (classes == 1)


@pytest.mark.parametrize(
    ("mean", "std", "without", "large"),
    [
        (None, None, False, False),
        ([0.5], [0.5], False, False),
        ([0.5], None, True, False),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], False, False),
        ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], False, True),
        ([123.7, 116.3, 103.5], None, True, True),
        (None, [0.2], False, False),
    ],
)
def test_mean_and_std(mean: Any, std: Any, without: bool, large: bool) -> None:
    assert mean_without_std(mean, std).raised is without
    assert units(mean, std).raised is large


def test_units_are_mended_by_the_flags_that_are_named() -> None:
    detail = units([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]).detail
    assert "--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225" in detail
    assert "--mean 0.5 --std 0.003922" in units([127.5], None).detail


def right(k: int, n: int = 64) -> Any:
    return np.arange(n) < k


@pytest.mark.parametrize(
    ("now", "others", "named"),
    [
        (16, {"a": 40, "b": 60}, "b"),
        (16, {"a": 20}, ""),  # 6 points
        (40, {"a": 20, "b": 0}, ""),
        (60, {"a": 64}, ""),
        (0, {"a": 8}, ""),  # p = 0.008: one of many audits
        (0, {}, ""),
    ],
)
def test_other_preprocessing(now: int, others: dict[str, int], named: str) -> None:
    flag = other_preprocessing(right(now), {name: right(k) for name, k in others.items()})
    assert flag.raised is bool(named)
    assert not named or f"with {named}." in flag.detail


CLASSES = ("cat", "dog", "owl", "elk")


@pytest.mark.parametrize(
    ("order", "share", "mended"),
    [
        ([1, 0, 2, 3], 1.0, "--classes dog cat owl elk"),
        ([1, 2, 3, 0], 0.8, "--classes dog owl elk cat"),
        ([0, 1, 2, 3], 0.8, ""),
        ([0, 1, 2, 3], 0.3, ""),
        ([1, 0, 2, 3], 0.0, ""),  # guessing: no order fits
    ],
)
def test_class_order(order: list[int], share: float, mended: str) -> None:
    """Output k means class order[k]; `share` of the answers are right then, the rest at random."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 4, 400)
    says = np.argsort(order)[y]
    random = draw.random(400) >= share
    says[random] = draw.integers(0, 4, random.sum())
    flag = class_order(says, y, CLASSES)
    assert flag.raised is bool(mended)
    assert flag.detail.endswith(mended)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_an_order_is_found_where_the_classes_take_turns(shift: int) -> None:
    """Labels 0, 1, 2, 3, 0, 1, …: of every other one half of the classes is never seen."""
    y = np.arange(400) % 4
    flag = class_order((y + shift) % 4, y, CLASSES)
    assert flag.raised
    right = [CLASSES[(output - shift) % 4] for output in range(4)]
    assert flag.detail.endswith(f"--classes {' '.join(right)}")


def test_many_classes_with_an_image_each_say_nothing_of_their_order() -> None:
    draw = np.random.default_rng(1)
    names = [str(k) for k in range(1000)]
    assert not class_order(draw.integers(0, 1000, 500), draw.integers(0, 1000, 500), names).raised
    silent = np.full(20, -1)
    assert not class_order(silent, np.zeros(20, dtype=np.int64), ("a", "b")).raised


def test_classes_of_which_nothing_is_seen_keep_their_place() -> None:
    y = np.arange(200) // 2 % 2
    assert class_order(1 - y, y, CLASSES).detail.endswith("--classes dog cat owl elk")


@pytest.mark.parametrize(("copies", "raised"), [(0, False), (5, False), (6, True)])
def test_copies_of_images_are_counted(copies: int, raised: bool) -> None:
    x = torch.rand(100, 1, 4, 4)
    x[50 : 50 + copies] = x[7]
    clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    y = torch.arange(100) % 2
    flags = {flag.code: flag for flag in looked_at(clf, x, y, y, ("a", "b"))}
    assert ("PRE-007" in flags) is raised
    if raised:
        assert flags["PRE-007"].detail.startswith(f"{copies} of 100 images are copies")


def test_other_preprocessing_is_tried_on_classes_that_take_turns() -> None:
    """Of 127 images 64 at equal distances are every other one."""
    y = torch.arange(127) % 2
    always = torch.zeros_like(y)
    clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), classes=("a", "b"))
    flags = {f.code: f for f in looked_at(clf, torch.rand(127, 1, 4, 4), y, always, ("a", "b"))}
    right = int(flags["PRE-004"].detail.split(" of 64 images are right")[0])
    assert 16 <= right <= 48


# -- on networks ---------------------------------------------------------------------------------


def up(clf: Classifier, x: Tensor, y: Tensor) -> dict[str, str]:
    """Return the flags that are up, and what they say."""
    flags = flags_of(Evidence(clf, x, y, AuditConfig()))
    assert [flag.code for flag in flags] == [f"PRE-00{k}" for k in (*range(1, 6), 8)]
    assert all(flag.raised is not None for flag in flags)
    return {flag.code: flag.detail for flag in flags if flag.raised}


def digits() -> tuple[Tensor, Tensor]:
    return assay.load_data("digits").take(200)


def finder() -> tuple[Tensor, Tensor]:
    return networks.coloured(200, torch.Generator().manual_seed(5), colours=4)[:2]


KNOWN: dict[str, tuple[Callable[[], Classifier], Callable[[], tuple[Tensor, Tensor]]]] = {
    "natural": (lambda: networks.digit_net("natural"), digits),
    "robust": (lambda: networks.digit_net("robust"), digits),
    "pooled": (lambda: Classifier(networks.trained("pooled", networks.Pooled())), digits),
    "mlp-32": (lambda: Classifier(networks.trained("mlp-32", networks.mlp(32))), digits),
    "mlp-128": (lambda: Classifier(networks.trained("mlp-128", networks.mlp(128))), digits),
    "finder": (lambda: Classifier(networks.trained("finder", networks.finder())), finder),
}


@pytest.mark.parametrize("name", KNOWN)
def test_right_networks_raise_no_alarm(name: str) -> None:
    make, data = KNOWN[name]
    assert up(make(), *data()) == {}


class Normalised(nn.Module):
    """A network that is right about what has been normalised, and nothing else."""

    def __init__(self, inner: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.inner, self.mean, self.std = inner, mean, std

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.std * x + self.mean)


class Flipped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flip(1))


def test_the_flag_that_mends_it_is_named() -> None:
    x, y = digits()
    pooled = networks.trained("pooled", networks.Pooled())
    halves = Normalised(pooled, 0.5, 0.5)
    assert "--mean 0.5 --std 0.5" in up(Classifier(halves), x, y)["PRE-004"]
    assert "PRE-004" not in up(Classifier(halves, mean=[0.5], std=[0.5]), x, y)
    assert "no mean and std" in up(Classifier(pooled, mean=[0.5], std=[0.1]), x, y)["PRE-004"]
    bytes_ = Normalised(pooled, 0.0, 1 / 255)
    assert "values of 0 to 255" in up(Classifier(bytes_), x, y)["PRE-004"]
    coloured, truth = finder()
    net = networks.trained("finder", networks.finder())
    assert "blue, green, red" in up(Classifier(Flipped(net)), coloured, truth)["PRE-004"]
    assert "--classes" in up(Classifier(net, classes="abcd"), coloured, (truth + 1) % 4)["PRE-005"]


def test_random_weights_are_no_better_than_guessing() -> None:
    torch.manual_seed(0)
    assert "PRE-001" in up(Classifier(networks.Pooled()), *digits())


def test_the_report_has_the_flags_and_the_preprocessing() -> None:
    x, y = digits()
    clf = Classifier(networks.trained("pooled", networks.Pooled()), mean=[127.0])
    found = assay.audit(clf, x[:40], y[:40], config=AuditConfig(sections=(Accuracy(),)))
    raised = {flag.code for flag in found.report.flags if flag.raised}
    assert {"PRE-002", "PRE-003"} <= raised
    assert found.report.made.config["inputs"] == {
        "images": [1, 28, 28],
        "access": "gradient",
        "mean": [127.0],
        "std": None,
        "outputs": "logits",
        "preprocess": None,
    }


def silent_for(some: int) -> BlackBox:
    """Return what has no scores for the first images of what it was asked first."""

    def scores(x: NDArray[np.float32]) -> NDArray[np.float32]:
        found = np.full((len(x), 2), 0.5, np.float32)
        found[:, 0] += 0.4 * np.sign(x[:, 0, 0, 0] - 0.5)
        found[:, 1] = 1 - found[:, 0]
        found[x[:, 0, 0, 1] < some / 100] = np.nan
        return found

    return BlackBox(scores, classes=2, access="scores")


@pytest.mark.parametrize("some", [0, 30])
def test_images_without_an_answer_are_counted(some: int) -> None:
    x = torch.zeros(100, 1, 2, 2)
    x[:, 0, 0, 0] = 1.0
    x[:, 0, 0, 1] = (torch.arange(100) + 0.5) / 100
    only = AuditConfig(sections=(Accuracy(),))
    found = assay.audit(silent_for(some), x, torch.zeros(100, dtype=torch.long), config=only)
    flag = next(flag for flag in found.report.flags if flag.code == "PRE-006")
    assert flag.raised == (some > 0)
    assert flag.detail.startswith(f"{some} of 100 images have no answer")
    assert found.report.accuracy.overall.value == pytest.approx(1 - some / 100)
    assert "PRE-006" in "".join(plausible.warnings(found.report.flags)) or not some


def test_what_has_no_answer_at_all_is_refused() -> None:
    x = torch.zeros(40, 1, 2, 2)
    with pytest.raises(AssayError, match="an answer for none of 40 images"):
        assay.audit(silent_for(100), x, torch.zeros(40, dtype=torch.long))


# -- does it answer the same again? -----------------------------------------------------------

SURE, TORN = [0.99, 0.01], [0.502, 0.498]


@pytest.mark.parametrize(
    ("first", "second", "raised", "said"),
    [
        ([SURE, TORN], [SURE, TORN], False, "up to 0 and 0 of 2 labels change"),
        ([SURE, TORN], [SURE, TORN[::-1]], False, "up to 0.004 and 1 of 2"),  # a tie, rounded
        ([SURE, TORN], [[0.9, 0.1], TORN], True, "up to 0.09 and 0 of 2 labels change: every"),
        ([SURE, SURE], [SURE, SURE[::-1]], True, "up to 0.98 and 1 of 2 labels change: every"),
        ([SURE, [np.nan] * 2], [SURE, SURE], False, "up to 0 and"),  # PRE-006 says it
        ([0, 1], [0, 1], False, "0 of 2 labels change."),
        ([0, 1], [0, 0], True, "1 of 2 labels change: every figure is of one draw"),
    ],
)
def test_wavering(first: list[Any], second: list[Any], raised: bool, said: str) -> None:
    flag = plausible.wavering(np.array(first), np.array(second))
    assert flag.raised is raised
    assert said in flag.detail


class Dropping(nn.Module):
    """Dropout that is on whatever the mode."""

    def __init__(self, net: nn.Module, share: float) -> None:
        super().__init__()
        self.net, self.share = net, share

    def forward(self, x: Tensor) -> Tensor:
        return self.net(nn.functional.dropout(x, self.share, training=True))  # type: ignore[no-any-return]


def test_a_model_that_draws_is_noticed_and_one_that_rounds_is_not() -> None:
    x = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    for share, raised in ((0.5, True), (0.0, False)):
        flag = plausible.asked_again(Classifier(Dropping(net, share)), x)
        assert flag.raised is raised, flag.detail
    assert not plausible.asked_again(Classifier(net.to(torch.bfloat16)), x).raised


def test_a_service_that_draws_is_noticed_within_its_budget() -> None:
    draw = np.random.default_rng(0)

    def answers(x: NDArray[Any]) -> NDArray[Any]:
        return draw.integers(0, 2, len(x))

    x, y = torch.rand(20, 1, 4, 4), torch.zeros(20, dtype=torch.int64)
    for most, raised in ((None, True), (20, None)):
        box = BlackBox(answers, classes=2, access="labels", most=most)
        flags = {flag.code: flag for flag in looked_at(box, x, y, y, ("a", "b"))}
        assert flags["PRE-008"].raised is raised, flags["PRE-008"].detail
