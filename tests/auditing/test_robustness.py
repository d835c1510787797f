"""Robustness by made-up attacks: all of them together image by image, and when it is believed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import APGDT, FGSM, PGD, CarliniWagner, HopSkipJump, Noise, Square
from assay.attacks.base import Attack
from assay.attacks.contradictions import black_box_beats_white_box
from assay.auditing import AuditConfig, audit
from assay.auditing.attacking import attack_all, label, stand_in
from assay.auditing.evidence import Evidence
from assay.auditing.outcome import outcome
from assay.auditing.reliability import flags_of, strongest
from assay.auditing.sections.robustness import Robustness, arrays_of, proved, worst_value
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.core.fast import Copies
from assay.core.threats import NormBall
from assay.errors import AssayError
from assay.report.record import NotRun
from assay.report.schema import Check, Flag

from .made_up import Reads, black_box, evidence, result, saying


def flag(code: str, raised: bool | None = True) -> Flag:
    return Flag(code=code, title="", raised=raised)


def test_the_worst_case_is_taken_image_by_image() -> None:
    value = worst_value([result({0, 1}), result({1, 2})], [], {})
    assert value.estimate.value == 0
    value = worst_value([result({0, 1}), result({1})], [], {})
    assert value.estimate.value == pytest.approx(1 / 3)
    assert value.estimate.n == 3
    assert worst_value([result({0}), result({0})], [], {}).estimate.value == pytest.approx(2 / 3)
    assert worst_value([result({0}, wrong={1})], [], {}).estimate.value == pytest.approx(1 / 3)
    assert worst_value([result({0}, silenced={1})], [], {}).estimate.value == pytest.approx(1 / 3)


def test_flags_and_attacks_that_could_not_be_run_bar_a_pass() -> None:
    assert worst_value([result(set())], [flag("REL-001", False)], {}).barred == ""
    unseen = worst_value([result(set())], [flag("REL-001", False), flag("REL-009", None)], {})
    assert unseen.flags == ()
    assert unseen.barred.endswith("REL-009 could not be looked at"), "unknown is not clear"
    value = worst_value([result(set())], [flag("REL-001"), flag("REL-004", False)], {})
    assert (value.flags, value.barred[-13:]) == (("REL-001",), "REL-001 is up")
    several = worst_value([result(set())], [flag("REL-001"), flag("REL-009")], {})
    assert several.barred.endswith("REL-001, REL-009 are up")
    assert "PGD could not be run" in worst_value([result(set())], [], {"PGD": "no"}).barred


@pytest.mark.parametrize(("certified", "passes"), [(100, True), (55, False), (None, False)])
def test_what_is_certified_passes_whatever_flags_are_up(
    certified: int | None, passes: bool
) -> None:
    """At 0.5: of 100 images 55 certified give an interval that spans it, 100 one that does not."""
    value = worst_value([result(set())], [flag("REL-001")], {})
    found = None if certified is None else torch.arange(100) < certified
    after = proved(value, found, 0.5)
    assert (after.barred == "") == (after.remedy == "") == passes
    assert after.flags == ("REL-001",), "it is shown all the same"
    assert after.estimate == value.estimate
    assert ("100.0 % certified" in after.detail) == passes


def test_rounding_bars_no_pass() -> None:
    for raised in (True, None):
        value = worst_value([result(set())], [flag("REL-007", raised)], {})
        assert (value.flags, value.barred) == ((), "")


@pytest.mark.parametrize(
    ("found", "place"),
    [
        ([(PGD(), {0}), (PGD(steps=5), {0, 1})], 1),
        ([(PGD(), {0, 1}), (PGD(steps=5), {0})], 0),
        ([(PGD(), {0}), (PGD(steps=5), {0})], 1),
        ([(PGD(), {0}), (FGSM(), {0, 1})], 0),
        ([(PGD(), {0}), (Square(), {0, 1, 2})], 0),
        ([(FGSM(), set()), (Square(), {0, 1, 2})], 0),
        ([(Square(), {0}), (Noise(), {0, 1})], 0),
        ([(Noise(), {0, 1}), (Square(), set()), (FGSM(), {0}), (PGD(), set())], 3),
    ],
)
def test_the_strongest_is_by_many_gradients_first(
    found: list[tuple[Attack, set[int]]], place: int
) -> None:
    assert strongest([result(fooled, attack=attack) for attack, fooled in found]) == place


def looked_at(*attacks: Attack, n: int = 6, **more: Any) -> dict[str, Flag]:
    """Return the flags of an audit with these attacks, on a model that is easily fooled."""
    config = AuditConfig(attacks=attacks, eps=0.3, budgets=(0.2, 0.3), **more)
    e = evidence([0, 1, 2] * (n // 3), [0, 1, 2] * (n // 3), sure=0.5, config=config)
    curves, failed = attack_all(e, config.attacks)
    assert not failed
    return {flag.code: flag for flag in flags_of(e, [dict(curve) for curve in curves.values()])}


@pytest.mark.parametrize(
    "attacks",
    [(FGSM(), PGD(steps=5)), (Noise(draws=2), PGD(steps=5)), (PGD(steps=5), Square(queries=20))],
)
def test_flags_are_about_the_strongest_attack(attacks: tuple[Attack, ...]) -> None:
    flags = looked_at(*attacks)
    assert list(flags) == sorted(flags)
    assert [code for code, one in flags.items() if one.raised] == []
    assert {"REL-001", "REL-002", "REL-004", "REL-008", "REL-009"} <= set(flags)
    single = any(isinstance(attack, FGSM) for attack in attacks)
    assert ("REL-003" in flags) == single, "against one step, where that is among them"
    if single:
        assert flags["REL-003"].detail.startswith("fgsm fooled")
        assert "pgd" in flags["REL-003"].detail


class Hidden(nn.Module):
    """Says 1 of a bright image, by a step that no gradient goes through."""

    def forward(self, x: Tensor) -> Tensor:
        mean = (x.mean((1, 2, 3)) * 50).round() / 50 + 0 * x.mean((1, 2, 3))
        return 20 * torch.stack([0.5 - mean, mean - 0.5], 1)


@pytest.mark.parametrize("hides", [True, False])
def test_the_black_box_is_run_on_what_is_left_and_says_the_same(
    hides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Hidden() if hides else Reads()
    x = torch.full((12, 1, 4, 4), 0.48) if hides else saying([0, 1, 2] * 4, sure=0.5)
    y = torch.zeros(12).long() if hides else torch.tensor([0, 1, 2] * 4)
    config = AuditConfig(attacks=(PGD(steps=3, random_start=False),), eps=0.3, budgets=(0.3,))
    e = Evidence(Classifier(model), x, y, config)
    (curve,) = attack_all(e, config.attacks)[0].values()
    at = dict(curve)[0.3]
    seen: list[int] = []
    call = Square.__call__

    def counted(self: Square, oracle: Any, x: Tensor, *rest: Any, **more: Any) -> Any:
        seen.append(len(x))
        return call(self, oracle, x, *rest, **more)

    monkeypatch.setattr(Square, "__call__", counted)
    (flag,) = (one for one in flags_of(e, [dict(curve)]) if one.code == "REL-009")
    assert flag.raised is hides
    assert seen == ([12] if hides else []), "what the gradient has fooled is not attacked again"
    everything = Square(eps=0.3, queries=200)(e.model, x, y, stop="fooled")
    whole = black_box_beats_white_box(at, everything)
    assert (whole.raised, whole.detail) == (flag.raised, flag.detail)


def test_what_is_looked_at_depends_on_the_attack() -> None:
    without = looked_at(Noise())
    assert not {"REL-004", "REL-008", "REL-009"} & set(without)
    once = AuditConfig(attacks=(FGSM(),), eps=0.3, budgets=(0.3,))
    e = evidence([0, 1, 2], [0, 1, 2], config=once)
    (curve,) = attack_all(e, once.attacks)[0].values()
    assert "REL-002" not in {one.code for one in flags_of(e, [dict(curve)])}, "nothing to compare"


def test_a_flag_that_cannot_be_looked_at_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise AssayError("no memory for that")

    monkeypatch.setattr("assay.attacks.reliability.unbounded_fails", fails)
    found = looked_at(PGD(steps=2))["REL-004"]
    assert (found.raised, found.detail) == (None, "no memory for that")


def test_the_clean_point_has_all_images_and_the_curve_all_budgets() -> None:
    config = AuditConfig(attacks=(FGSM(),), eps=0.3, budgets=(0.01, 0.3), attacked=4)
    e = evidence([0, 1, 2, 1, 1], [0, 1, 2, 0, 1], sure=0.5, config=config)
    measured = Robustness().measure(e)
    chapter = measured.chapters["robustness"]
    assert (chapter.clean.n, chapter.clean.value) == (4, pytest.approx(3 / 4))
    assert [point.eps for point in chapter.curves[0].points] == [0.01, 0.3]
    assert [point.robust_accuracy.value for point in chapter.curves[0].points] == [0.75, 0]
    assert [point.success.n for point in chapter.curves[0].points] == [3, 3]
    assert measured.values["ROB-001"].estimate.value == 0, "at eps, not at the smallest budget"
    assert measured.arrays["fgsm/success"].tolist() == [True, True, True, False]


class Fails(FGSM):
    """Cannot be run."""

    def search(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("by zero")


def test_an_attack_that_cannot_be_run_takes_away_its_own_curve() -> None:
    config = AuditConfig(eps=0.3, budgets=(0.3,))
    e = evidence([0, 1, 2], [0, 1, 2], config=config)
    curves, failed = attack_all(e, (FGSM(loss="margin"), Fails()))
    assert list(curves) == ["FGSM, loss margin"]
    assert failed == {"FGSM": "ZeroDivisionError: by zero"}
    none = config.model_copy(update={"attacks": (Fails(),)})
    alone = outcome(Robustness(), evidence([0], [0], config=none))
    why = NotRun(not_run="no attack could be run; FGSM: ZeroDivisionError: by zero")
    assert alone.chapters == {"robustness": why, "fooled": why}


def test_the_images_shown_are_fooled_and_of_different_classes() -> None:
    config = AuditConfig(attacks=(FGSM(),), eps=0.3, budgets=(0.3,))
    labels = [0, 0, 1, 1, 2, 0]
    e = evidence([0, 0, 1, 0, 2, 0], labels, sure=0.2, config=config)
    chapter = Robustness().measure(e).chapters["fooled"]
    assert [item.id for item in chapter.items] == [0, 2, 4], "3 is wrong as it is"
    assert [item.label for item in chapter.items] == ["0", "1", "2"]
    for item in chapter.items:
        assert item.prediction == item.label != item.adversarial_prediction
        assert item.confidence == pytest.approx(0.787, abs=0.001), "e² of e² + 2"
        assert item.adversarial_confidence is not None
    held = config.model_copy(update={"eps": 0.01, "budgets": (0.01,)})
    none = Robustness().measure(evidence([0, 1], [0, 1], config=held)).chapters["fooled"]
    assert none == NotRun(not_run="FGSM fools the model on no image at L∞ 0.01")


def test_images_that_fool_what_can_only_be_queried_are_shown_without_confidence() -> None:
    config = AuditConfig(attacks=(Square(queries=40),), eps=0.5, budgets=(0.5,))
    e = evidence([0, 1, 2], [0, 1, 2], sure=0.1, config=config, model=black_box("scores"))
    items = Robustness().measure(e).chapters["fooled"].items
    assert items
    for item in items:
        assert item.confidence is item.adversarial_confidence is None


def test_every_attack_is_handed_the_one_copy_and_the_clean_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    build = Copies.of
    monkeypatch.setattr(Copies, "of", lambda self, p: (made.append(id(self)), build(self, p))[1])
    config = AuditConfig(attacks=(FGSM(), PGD(steps=2)), eps=0.01, budgets=(0.01, 0.02))
    e = evidence([0, 1, 2], [0, 1, 2], config=config)
    assert e.predictions.tolist() == [0, 1, 2]
    before = e.model.queries
    e.copies.of("float32")
    checked = e.model.queries
    curves, _ = attack_all(e, config.attacks)
    assert len(made) == 5
    assert len(set(made)) == 1
    spent = [found.evaluations for curve in curves.values() for _, found in curve]
    assert e.model.queries - checked == sum(one["forward"] - 3 for one in spent)
    assert before < checked


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("access", ["labels", "scores", "logits"])
def test_what_stands_in_needs_no_more_than_there_is(access: Any, norm: Any) -> None:
    eps = 1 if norm == "l0" else 0.1
    attack = stand_in(access, AuditConfig(norm=norm, eps=eps, budgets=(eps,)))
    assert attack.needs == ("labels" if access == "labels" else "scores")
    assert attack.threat == NormBall(norm=norm, eps=eps)


def test_attacks_go_by_what_is_unusual_about_them() -> None:
    assert label(FGSM()) == "FGSM"
    assert label(PGD(steps=7, restarts=2, loss="margin")) == "PGD, 7 steps, 2 restarts, loss margin"
    assert label(HopSkipJump(queries=100)) == "HopSkipJump, queries 100"


def bright(x: Any) -> Tensor:
    """Scores of "dark" and "bright": far from the boundary of images that are all of one level."""
    level = torch.from_numpy(x).flatten(1).mean(1)
    return torch.stack([1 - level, level], 1)


@pytest.mark.parametrize("access", ["labels", "scores"])
def test_what_can_only_be_queried_passes_what_the_usual_attacks_cannot_break(
    access: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FGSM and PGD need gradients that no attacker of it has: they are not missed."""
    monkeypatch.setattr("assay.auditing.attacking.QUERIES", 50)
    levels = torch.tensor([0.1, 0.9]).repeat(10)
    x, y = levels[:, None, None, None].expand(20, 1, 2, 2).clone(), (levels > 0.5).long()
    answer = bright if access == "scores" else lambda x: bright(x).argmax(1)
    model = BlackBox(answer, classes=("dark", "bright"), access=access)

    def judge(**chosen: Any) -> Check:
        config = AuditConfig(sections=("robustness",), budgets=(8 / 255,), **chosen)  # type: ignore[arg-type]
        (check,) = audit(model, x, y, config=config).checks
        return check

    found = judge()
    assert (found.verdict, found.flags) == ("pass", ())
    assert found.title.endswith("(by queries alone)")
    chosen = judge(attacks=(FGSM(), *AuditConfig().attacks[1:], Noise()))
    assert chosen.verdict == "undecided", "asked for by name, they are missed"
    assert "FGSM, PGD, 20 steps could not be run" in chosen.reason
    assert "leave that flag away" in chosen.advice


def test_noise_in_the_place_of_an_attack_passes_nothing() -> None:
    """Of labels there is no attack in L1: nothing but noise was tried."""
    x, y = torch.tensor([0.1, 0.9]).repeat(20)[:, None, None, None], torch.arange(40) % 2
    model = BlackBox(lambda x: bright(x).argmax(1), classes=("dark", "bright"), access="labels")
    config = AuditConfig(sections=("robustness",), norm="l1", eps=0.1, budgets=(0.1,))  # type: ignore[arg-type]
    (check,) = audit(model, x, y, config=config).checks
    assert (check.verdict, "FGSM" in check.reason) == ("undecided", True)


@pytest.mark.parametrize(
    ("attack", "verdict"), [(Square(queries=50), "pass"), (Noise(), "undecided")]
)
@pytest.mark.parametrize("bounded", [False, True])
def test_attacks_without_gradients_say_so_of_a_network_too(
    attack: Attack, verdict: str, bounded: bool
) -> None:
    x = torch.tensor([0.1, 0.9]).repeat(20)[:, None, None, None]
    y, linear = torch.arange(40) % 2, nn.Linear(1, 2, bias=False)
    far = nn.Sequential(nn.Flatten(), linear, nn.Identity() if bounded else nn.GELU())
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    model = Classifier(far, classes=("dark", "bright"), mean=[0.5], std=[0.1])
    config = AuditConfig(sections=("robustness",), budgets=(8 / 255,), attacks=(attack,))  # type: ignore[arg-type]
    (check,) = audit(model, x, y, config=config).checks
    certified = bounded and verdict == "undecided"  # nothing bars what is proved
    assert check.verdict == ("pass" if certified else verdict)
    assert ("100.0 % certified, whatever the attack" in check.title) == certified
    assert check.title.endswith("(by queries alone)") == (verdict == "pass")
    assert ("noise, which is no attack" in check.reason) == (not certified and verdict != "pass")


def test_arrays_are_called_as_configs_call_the_attack() -> None:
    run = (APGDT(steps=5), CarliniWagner())
    found = arrays_of({label(one): [(0.1, result({0}, attack=one))] for one in run}, 0.1)
    assert {name.split("/")[0] for name in found} == {"apgdt-5-steps", "carlini-wagner-1000-steps"}
