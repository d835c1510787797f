"""Each flag is raised by a model made to raise it, and by no healthy one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks import (
    APGDT,
    FGSM,
    PGD,
    Attack,
    AttackResult,
    Auto,
    CarliniWagner,
    DeepFool,
    FewPixel,
    Iterate,
    Square,
    contradictions,
)
from assay.attacks import reliability as rel
from assay.attacks.base import Search, wins
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.core.fast import Copies
from assay.core.oracle import Access
from assay.core.random import Stream
from assay.core.threats import NormBall, per_row
from assay.errors import AssayError

N = 32


class Scaled(nn.Module):
    """Logits times `factor`: saturates the cross entropy, changes no prediction."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.factor


class Rounded(nn.Module):
    """Reads the image in few grey levels: the gradient is zero almost everywhere."""

    def __init__(self, inner: nn.Module, levels: int = 16) -> None:
        super().__init__()
        self.inner, self.levels = inner, levels

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x * self.levels).round() / self.levels + 0.0 * x)


class Noisy(nn.Module):
    """Draws on every call."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 0.02 * torch.randn_like(x))


class Saw(nn.Module):
    """Class 1 where the mean brightness lies within 0.02 of 0.6 or above 0.9, else class 0.

    From 0.56 one step of 0.03 lands there; smaller steps and larger ones pass it by.
    """

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([(mean - 0.6).abs() - 0.02, 0 * mean], 1) * 10


@pytest.fixture(scope="module")
def x() -> Tensor:
    return Stream(1).rows(range(N)).uniform((3, 12, 12))


@pytest.fixture(scope="module")
def net(x: Tensor) -> nn.Module:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(800, 5)).eval()
    with torch.no_grad():
        model[3].bias -= model(x).mean(0)
    return model


@pytest.fixture(scope="module")
def y(net: nn.Module, x: Tensor) -> Tensor:
    return Classifier(net).predict(x)


def test_saturated_loss(net: nn.Module, x: Tensor, y: Tensor) -> None:
    healthy = rel.vanishing_gradients(Classifier(net), x, y)
    assert (healthy.code, healthy.raised) == ("REL-001", False)
    saturated = Classifier(Scaled(net, 1e4))
    flag = rel.vanishing_gradients(saturated, x, y)
    assert flag.raised
    assert "use the margin loss" in flag.detail
    assert not rel.vanishing_gradients(saturated, x, y, losses=["margin"]).raised


def test_no_gradient_at_all(net: nn.Module, x: Tensor, y: Tensor) -> None:
    flag = rel.vanishing_gradients(Classifier(Rounded(net)), x, y)
    assert flag.raised
    assert f"{N} have a zero" in flag.detail
    assert "hides its gradients" in flag.detail


def test_gradients_that_are_not_numbers(net: nn.Module, x: Tensor, y: Tensor) -> None:
    class Root(nn.Module):
        """The slope of a root at zero is infinite."""

        def forward(self, x: Tensor) -> Tensor:
            return net(x) + (x - x).abs().sqrt().sum((1, 2, 3))[:, None]

    flag = rel.vanishing_gradients(Classifier(Root()), x, y)
    assert flag.raised
    assert f"{N} have a zero or non-finite gradient" in flag.detail


def saw_result(attack: Attack) -> AttackResult:
    return attack(Classifier(Saw()), torch.full((8, 1, 4, 4), 0.56), torch.zeros(8).long())


def test_larger_budget_does_worse(net: nn.Module, x: Tensor, y: Tensor) -> None:
    small, large = (saw_result(FGSM(eps=eps)) for eps in (0.03, 0.2))
    assert (int(small.success.sum()), int(large.success.sum())) == (8, 0)
    flag = contradictions.larger_budget_worse([large, small])
    assert (flag.code, flag.raised) == ("REL-002", True)
    assert "eps 0.03 fooled 8 of 8 images, eps 0.2 only 0" in flag.detail
    healthy = [PGD(eps=eps, steps=5)(Classifier(net), x, y) for eps in (0.0, 0.005, 0.05)]
    assert not contradictions.larger_budget_worse(healthy).raised
    with pytest.raises(AssayError, match=r"at least two budgets, got 1 result"):
        contradictions.larger_budget_worse(healthy[:1])
    clf = Classifier(net)
    with pytest.raises(AssayError, match="in one norm, got l2, linf"):
        contradictions.larger_budget_worse([healthy[0], PGD(norm="l2", eps=0.3)(clf, x, y)])
    with pytest.raises(AssayError, match="of one attack, got fgsm, pgd"):
        contradictions.larger_budget_worse([healthy[0], FGSM(eps=0.01)(clf, x, y)])
    with pytest.raises(AssayError, match="their images differ"):
        contradictions.larger_budget_worse([*healthy, PGD(eps=0.1, steps=5)(clf, x.flip(0), y)])


def test_many_steps_do_worse_than_one(net: nn.Module, x: Tensor, y: Tensor) -> None:
    single = saw_result(FGSM(eps=0.03))
    overshooting = PGD(eps=0.03, steps=2, step_size=0.03, random_start=False)
    many = saw_result(overshooting)
    assert int(many.success.sum()) == 8  # the projection saves it
    passing = saw_result(PGD(eps=0.03, steps=1, step_size=0.015, random_start=False))
    flag = contradictions.iterated_worse(single, passing)
    assert (flag.code, flag.raised) == ("REL-003", True)
    assert "fgsm fooled 8 and pgd 0 of 8" in flag.detail
    clf = Classifier(net)
    assert not contradictions.iterated_worse(
        FGSM(eps=0.01)(clf, x, y), PGD(eps=0.01)(clf, x, y)
    ).raised
    with pytest.raises(AssayError, match="one threat"):
        contradictions.iterated_worse(FGSM(eps=0.01)(clf, x, y), PGD(eps=0.02)(clf, x, y))
    with pytest.raises(AssayError, match="their labels differ"):
        contradictions.iterated_worse(FGSM(eps=0.01)(clf, x, y), PGD(eps=0.01)(clf, x, (y + 1) % 5))


@pytest.mark.parametrize(
    "attack",
    [
        PGD(eps=0.001, steps=10, step_size=0.0002),
        PGD(eps=0.001, steps=10, step_size=0.0013),  # longer than the radius, as in Wong et al.
        PGD(norm="l2", eps=0.01),
        PGD(norm="l1", eps=0.1),
    ],
)
def test_unbounded_and_still_failing(net: nn.Module, x: Tensor, y: Tensor, attack: PGD) -> None:
    healthy = rel.unbounded_fails(attack, Classifier(net), x, y)
    assert (healthy.code, healthy.raised) == ("REL-004", False)
    assert f"{N} of {N}" in healthy.detail
    assert not bool(attack(Classifier(net), x, y).success.all())  # it was not trivially so
    steps = {**attack.model_dump(), "random_start": False}
    hidden = rel.unbounded_fails(PGD.parse(steps), Classifier(Rounded(net)), x, y)
    assert hidden.raised


def test_unbounded_where_the_step_has_nothing_to_do_with_the_radius(
    net: nn.Module, x: Tensor, y: Tensor
) -> None:
    """Carlini-Wagner has no limit to begin with, and Adam's step size is no distance."""
    few = CarliniWagner(steps=60, searches=4, initial_c=1)
    healthy = rel.unbounded_fails(few, Classifier(net), x, y)
    assert (healthy.raised, f"{N} of {N}" in healthy.detail) == (False, True)
    assert rel.unbounded_fails(few, Classifier(Rounded(net)), x, y).raised
    with pytest.raises(AssayError, match="no unbounded form of the norm l0"):
        rel.unbounded_fails(FewPixel(), Classifier(net), x, y)


def test_randomised_labels(x: Tensor) -> None:
    """Of a function that says no more than a label, the label is what may change."""
    rng = np.random.default_rng(0)

    def steady(x: Any) -> Any:
        return (x.mean((1, 2, 3)) > 0.5).astype(int)

    def wavering(x: Any) -> Any:
        return steady(x) ^ (rng.random(len(x)) < 0.2)

    assert not rel.randomised(BlackBox(steady, classes=2, access="labels"), x).raised
    assert rel.randomised(BlackBox(wavering, classes=2, access="labels"), x).raised


def test_randomised(net: nn.Module, x: Tensor) -> None:
    assert not rel.randomised(Classifier(net), x).raised
    flag = rel.randomised(Classifier(Noisy(net)), x)
    assert (flag.code, flag.raised) == ("REL-005", True)


def test_dropout_does_not_count_as_random(net: nn.Module, x: Tensor) -> None:
    assert not rel.randomised(Classifier(nn.Sequential(nn.Dropout(0.5), net).train()), x).raised


def test_probabilities(net: nn.Module) -> None:
    model = nn.Sequential(net, nn.Softmax(1))
    flag = rel.outputs_were_probabilities(Classifier(model, outputs="probabilities"))
    assert (flag.code, flag.raised) == ("REL-006", True)
    assert not rel.outputs_were_probabilities(Classifier(net)).raised


def test_rounding_undoes_success(net: nn.Module, x: Tensor) -> None:
    grey = (x * 255).round() / 255
    labels = Classifier(net).predict(grey)
    found = PGD(eps=0.03, steps=5)(Classifier(net), grey, labels)
    assert found.success_rate.value > 0.5
    assert not contradictions.rounding_undoes(found).raised
    # a quarter of a grey level: rounding brings every pixel back
    bright = torch.full((6, 1, 4, 4), 128 / 255)
    edge = Classifier(Threshold(128.1 / 255))
    fine = PGD(eps=0.25 / 255, steps=5)(edge, bright, torch.zeros(6).long())
    assert fine.success_rate.value == 1.0
    assert fine.after_rounding.value == 0.0
    flag = contradictions.rounding_undoes(fine)
    assert (flag.code, flag.raised) == ("REL-007", True)
    assert flag_says(flag, "0 of 6 successes survive rounding to 8 bits: make eps at least one")
    fooled = PGD(eps=0.25 / 255, steps=5)(edge, bright, torch.zeros(6).long(), stop="fooled")
    assert flag_says(contradictions.rounding_undoes(fooled), 'run every step (stop="never")')
    near = DeepFool(overshoot=0.001)(edge, bright, torch.zeros(6).long())
    assert flag_says(
        contradictions.rounding_undoes(near), "the nearest images lie on the decision boundary"
    )


class Threshold(nn.Module):
    """Class 1 where the mean brightness exceeds `at`."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([self.at - mean, mean - self.at], 1) * 100


def test_a_lost_success_of_a_few_says_little() -> None:
    """One of six may be lost by chance, twelve of 72 may not."""
    edge = Classifier(Threshold(128.1 / 255))
    x = torch.full((6, 1, 4, 4), 127.9 / 255)  # ends at 128.65, which rounds to 129
    x[0] = 127.6 / 255  # ends at 128.35: 128
    found = [
        PGD(eps=0.75 / 255, steps=5)(edge, images, torch.zeros(len(images)).long())
        for images in (x, x.repeat(12, 1, 1, 1))
    ]
    for result in found:
        assert result.success_rate.value == 1.0
        assert result.after_rounding.value == pytest.approx(5 / 6)
    assert [contradictions.rounding_undoes(result).raised for result in found] == [False, True]


def test_the_losses_that_attacks_follow() -> None:
    named = {
        PGD(): ("cross_entropy",),
        APGDT(): ("dlr",),
        FewPixel(loss="margin"): ("margin",),
        DeepFool(): ("margin",),
        Auto(): ("cross_entropy", "dlr", "margin"),
        Auto(eot=3): ("cross_entropy", "dlr"),
        Square(): (),
    }
    for attack, losses in named.items():
        assert rel.followed(attack) == losses, attack.name


@pytest.mark.parametrize("factor", [50.0, 1e6])
def test_a_scale_that_the_loss_does_not_see_is_no_doubt(
    net: nn.Module, x: Tensor, y: Tensor, factor: float
) -> None:
    scaled = Classifier(Scaled(net, 40 * factor))
    assert rel.vanishing_gradients(scaled, x, y).raised
    for attack in (APGDT(), DeepFool(), CarliniWagner(), Auto()):
        flag = rel.vanishing_gradients(scaled, x, y, losses=rel.followed(attack))
        assert not flag.raised, flag.detail
    few = Auto(eps=0.01, steps=10)
    assert rel.loss_does_not_rise(few.stages[0], scaled, x, y).raised
    assert not rel.loss_does_not_rise(few, scaled, x, y).raised


def test_checks_leave_the_model_as_it_was(net: nn.Module, x: Tensor, y: Tensor) -> None:
    checks: list[Callable[[Classifier], object]] = [
        lambda clf: rel.vanishing_gradients(clf, x, y),
        lambda clf: rel.unbounded_fails(PGD(eps=0.01, steps=3), clf, x, y),
        lambda clf: rel.randomised(clf, x),
    ]
    for check in checks:
        net.train()
        check(Classifier(net))
        assert all(module.training for module in net.modules())
        assert all(p.requires_grad and p.grad is None for p in net.parameters())
    net.eval()


def test_the_loss_does_not_rise(net: nn.Module, x: Tensor, y: Tensor) -> None:
    steady = PGD(eps=0.03, steps=10)
    healthy = rel.loss_does_not_rise(steady, Classifier(net), x, y)
    assert (healthy.code, healthy.raised) == ("REL-008", False)
    assert f"on 0 of {N} images" in healthy.detail
    flat = rel.loss_does_not_rise(
        PGD(eps=0.03, steps=10, random_start=False), Classifier(Rounded(net)), x, y
    )
    assert flag_says(flat, f"on {N} of {N} images it does not rise")
    assert not rel.loss_does_not_rise(FGSM(eps=0.03), Classifier(net), x, y).raised


def test_steps_that_overshoot_let_the_loss_fall() -> None:
    """The mean lies at 0.56 and is right where it is far from 0.6; steps of 0.2 pass that by."""
    wild = PGD(eps=0.3, steps=5, step_size=0.2, random_start=False)
    x, y = torch.full((8, 1, 4, 4), 0.56), torch.zeros(8).long()
    assert flag_says(rel.loss_does_not_rise(wild, Classifier(Saw()), x, y), "too long")


class Brightness(nn.Module):
    """Cross entropy of class 0 rises with the mean brightness."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.full_like(mean, -2), 10 * mean], dim=1)


class Path(PGD):
    """Goes where it is told, whatever the gradient."""

    brightness: tuple[float, ...] = ()

    def search(self, model: Any, x: Tensor, y: Tensor, **rest: Any) -> Search:
        del model, y, rest
        for each in self.brightness:
            yield Iterate(torch.full_like(x, each))


@pytest.mark.parametrize(
    ("brightness", "falls"),
    [
        ((0.8, 0.9, 0.4, 0.3, 0.3), True),  # a mean of 0.6 in the first half, of 0.33 in the second
        ((0.3, 0.3, 0.4, 0.9, 0.3), False),  # the last step alone does not decide
        ((0.8, 0.3), False),  # too few steps to have halves
    ],
)
def test_a_loss_that_falls_in_the_second_half_of_the_steps(
    brightness: tuple[float, ...], falls: bool
) -> None:
    x, y = torch.full((4, 1, 2, 2), 0.1), torch.zeros(4).long()
    flag = rel.loss_does_not_rise(Path(brightness=brightness), Classifier(Brightness()), x, y)
    assert "on 0 of 4 images it does not rise" in flag.detail, "all end above the clean image"
    assert flag.raised is falls


@pytest.mark.parametrize("attack", [APGDT(eps=0.01, steps=10), Auto(eps=0.01, steps=10)])
def test_the_loss_of_an_attack_of_several_climbs_rises(
    net: nn.Module, x: Tensor, y: Tensor, attack: Attack
) -> None:
    """The way to the fourth class is harder than that to the first: as one climb, it would fall."""
    assert not rel.loss_does_not_rise(attack, Classifier(net), x, y).raised
    assert rel.loss_does_not_rise(attack, Classifier(Rounded(net, 2)), x, y).raised
    with pytest.raises(AssayError, match="looks for the nearest image"):
        rel.loss_does_not_rise(DeepFool(), Classifier(net), x, y)
    with pytest.raises(AssayError, match="square follows no gradient"):
        rel.loss_does_not_rise(Square(), Classifier(net), x, y)


def test_the_climb_is_on_the_copy_and_its_end_is_judged_on_the_model(
    net: nn.Module, x: Tensor, y: Tensor
) -> None:
    steady = PGD(eps=0.03, steps=10, random_start=False)
    for model, raised in ((net, False), (Rounded(net), True)):
        clf = Classifier(model)
        own = rel.loss_does_not_rise(steady, clf, x, y)
        copied = rel.loss_does_not_rise(steady, clf, x, y, copies=Copies(clf, x))
        assert own.raised == copied.raised == raised

    class Other(Copies):
        """Lends the brightness net, whose loss rises where it is bright."""

        def of(self, precision: Any) -> Any:
            return Classifier(Brightness()), super().of(precision)[1]

    x, y = torch.full((4, 1, 2, 2), 0.6), torch.zeros(4).long()
    clf, path = Classifier(Scaled(Brightness(), -1.0)), Path(brightness=(0.7, 0.7, 0.8, 0.9))
    flag = rel.loss_does_not_rise(path, clf, x, y, copies=Other(clf, x))
    assert flag_says(flag, "on 4 of 4 images it does not rise"), "whatever the copy says"


def flag_says(flag: rel.Indicator, what: str) -> bool:
    return flag.raised and what in flag.detail


class Guess(Attack):
    """Asks for no gradient: goes to one corner of the ball or the other, whichever fools."""

    needs: ClassVar[Access] = "labels"
    name: Literal["guess"] = "guess"
    """The method's name in configs."""
    eps: float = 0.03
    """Radius."""

    @property
    def threat(self) -> NormBall:
        return NormBall(norm="linf", eps=self.eps)

    def search(self, model: Any, x: Tensor, y: Tensor, **rest: Any) -> Search:
        del rest
        up = (x + self.eps).clamp(0, 1)
        answer = model.query(up)
        down = (x - self.eps).clamp(0, 1)
        yield Iterate(torch.where(per_row(wins(answer, y, False), x), up, down))


def test_a_black_box_beats_the_white_box() -> None:
    """Half of the images fall to a guess; PGD on the rounded model finds no gradient at all."""
    dark, light = torch.full((4, 1, 4, 4), 0.56), torch.full((4, 1, 4, 4), 0.7)
    x, y = torch.cat([dark, light]), torch.zeros(8).long()
    clf = Classifier(Rounded(Saw(), levels=100))
    white, black = PGD(eps=0.04, random_start=False)(clf, x, y), Guess(eps=0.04)(clf, x, y)
    assert (int(white.success.sum()), int(black.success.sum())) == (0, 4)
    flag = contradictions.black_box_beats_white_box(white, black)
    assert flag.code == "REL-009"
    assert flag_says(flag, "guess fools 4 that pgd does not")
    open_clf = Classifier(Saw())
    seen = PGD(eps=0.04, random_start=False)(open_clf, x, y)
    assert not contradictions.black_box_beats_white_box(
        seen, Guess(eps=0.04)(open_clf, x, y)
    ).raised
    with pytest.raises(AssayError, match="one threat"):
        contradictions.black_box_beats_white_box(white, Guess(eps=0.05)(clf, x, y))
    with pytest.raises(AssayError, match="in this order; got guess, which needs the labels"):
        contradictions.black_box_beats_white_box(black, white)
    with pytest.raises(AssayError, match=r"in this order; got pgd.*, and fgsm"):
        contradictions.black_box_beats_white_box(white, FGSM(eps=0.04)(clf, x, y))
    with pytest.raises(AssayError, match=r"got guess.*, and guess"):
        contradictions.black_box_beats_white_box(black, black)
    with pytest.raises(AssayError, match="same images, but their images differ"):
        contradictions.black_box_beats_white_box(white, Guess(eps=0.04)(clf, x.flip(0), y))
    with pytest.raises(AssayError, match="same images, got 8 and 7"):
        contradictions.black_box_beats_white_box(white, Guess(eps=0.04)(clf, x[:7], y[:7]))
    with pytest.raises(AssayError, match="one targeted alone"):
        contradictions.black_box_beats_white_box(white, Guess(eps=0.04)(clf, x, y, targets=1))


def test_black_and_white_box_are_compared_image_by_image() -> None:
    """As many fooled, and no more in sum, but two others."""
    clf = Classifier(Saw())
    x, y = torch.full((8, 1, 4, 4), 0.56), torch.zeros(8).long()
    correct = torch.ones(8, dtype=torch.bool)
    masks = torch.arange(8) < 4, (torch.arange(8) >= 2) & (torch.arange(8) < 6)
    white, black = (
        dataclasses.replace(attack(clf, x, y), correct=correct, success=mask)
        for attack, mask in zip((PGD(eps=0.04), Guess(eps=0.04)), masks, strict=True)
    )
    flag = contradictions.black_box_beats_white_box(white, black)
    assert flag_says(flag, "of 8 correctly classified images, guess fools 2 that pgd does not")
    assert not contradictions.black_box_beats_white_box(white, black, allowed=0.25).raised


def test_a_model_without_gradients_is_refused(net: nn.Module, x: Tensor, y: Tensor) -> None:
    box = BlackBox(lambda x: Classifier(net).query(x), classes=5, access="logits")
    checks: list[Callable[[], object]] = [
        lambda: rel.vanishing_gradients(box, x, y),
        lambda: rel.loss_does_not_rise(PGD(eps=0.03), box, x, y),
    ]
    for check in checks:
        with pytest.raises(AssayError, match="this model answers with logits only"):
            check()
