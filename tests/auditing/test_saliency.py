"""Saliency maps before and after an attack, made up: what is counted, shown and left out."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from assay import stats
from assay.attacks import PGD
from assay.auditing import AuditConfig, Thresholds
from assay.auditing.checks import judged
from assay.auditing.outcome import outcome
from assay.auditing.sections.saliency import Maps, Saliency, Shown, attention, empty_maps, galleries
from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.explain.base import Explainer
from assay.explain.shift import HARDLY, saliency_shift
from assay.report.record import NotRun

from .made_up import evidence, result

N = 4


def maps_at(columns: list[int | None]) -> Attribution:
    """Return maps (N, 5, 5) that are 1 in one column; None: an empty one."""
    values = torch.zeros(len(columns), 5, 5)
    for row, column in enumerate(columns):
        if column is not None:
            values[row, :, column] = 1
    empty = torch.tensor([column is None for column in columns])
    return Attribution(values, values, empty, "layer", torch.zeros(len(columns)).long())


def made_up(before: list[int | None], after: list[int | None], fooled: set[int]) -> Shown:
    first, then = maps_at(before), maps_at(after)
    shift, none = saliency_shift(first, then), saliency_shift(first, first)
    maps = Maps(first, then, first, shift=shift, null=none, mates=none)
    return Shown(torch.arange(len(before)), result(fooled, n=len(before), k=5, attack=PGD()), maps)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([0] * N, [None] * N, "pass"),
        ([None] * N, [0] * N, "fail"),
        ([0, 0, 0, None], [None] * N, "undecided"),
    ],
)
def test_maps_of_clean_images_must_be_seldom_empty(
    before: list[int | None], after: list[int | None], verdict: str
) -> None:
    """Each ten times over: the interval is narrow. Maps of attacked images count for nothing."""
    config = AuditConfig(thresholds=Thresholds(explanation=0.25))
    (criterion,) = Saliency().criteria(config)
    shown = made_up(before * 10, after * 10, set())
    value = empty_maps(shown.maps)
    assert value.estimate.value == before.count(None) / N
    check = judged(criterion, value)
    assert (check.code, check.direction, check.threshold) == ("EXP-001", "at most", 0.25)
    assert check.verdict == (verdict)
    if verdict == "undecided":
        assert "number of maps in reach" in check.advice, "it is 25 % of 25 %"


def test_an_undecided_share_of_empty_maps_says_how_many_more_would_decide() -> None:
    (criterion,) = Saliency().criteria(AuditConfig(thresholds=Thresholds(explanation=0.2)))
    shown = made_up([0, 0, 0, None] * 10, [None] * 4 * 10, set())
    check = judged(criterion, empty_maps(shown.maps))
    n = stats.proportion(10, 40, "maps")
    more = 40 * (((n.value - n.low) / 0.05) ** 2 - 1)
    assert check.verdict == "undecided"
    assert check.advice == (
        f"about {math.ceil(more)} more maps would decide it at this value "
        "(--attacked; beyond 128 also --gallery)"
    )


def test_galleries_show_what_moved_most_and_what_was_fooled_and_hardly_moved() -> None:
    e = evidence([0] * N, [0] * N, k=5, config=AuditConfig(gallery=2))
    shown = made_up([0, 0, 0, None], [0, 4, 0, 0], {0, 1})
    most, hardly = galleries(shown, e)
    assert [item.id for item in most.items] == [1, 0], "the furthest first"
    assert [item.overlap for item in most.items] == [0, 1]
    assert [item.id for item in hardly.items] == [0], "image 1 moved, image 2 was not fooled"
    assert all(item.overlap >= HARDLY for item in hardly.items)
    assert hardly.items[0].adversarial_prediction == "1"
    _, none = galleries(made_up([0] * N, [4] * N, {0, 1}), e)
    assert "in no image that was fooled" in none.not_run


def test_no_gallery_is_no_mistake() -> None:
    e = evidence([0] * N, [0] * N, config=AuditConfig(gallery=0))
    none = NotRun(not_run="no gallery was requested")
    assert galleries(made_up([0] * N, [4] * N, {0}), e) == (none, none)


def test_no_answer_is_said_to_be_none() -> None:
    e = evidence([0] * N, [0] * N, config=AuditConfig(gallery=N))
    shown = Shown(torch.arange(N), result({0}, n=N, silenced={1}), None, "no maps")
    gallery, hardly = galleries(shown, e)
    assert hardly.not_run == "no maps"
    said = [item.adversarial_prediction for item in gallery.items]
    assert said == ["1", "no answer", "0", "0"]
    assert [item.adversarial_confidence is None for item in gallery.items] == [
        False, True, False, False,
    ]  # fmt: skip


def test_measures_stand_beside_noise_and_another_image() -> None:
    first, then, mate = maps_at([0, 0]), maps_at([4, 0]), maps_at([4, 4])
    maps = Maps(
        first,
        then,
        first,
        shift=saliency_shift(first, then),
        null=saliency_shift(first, first),
        mates=saliency_shift(first, mate),
    )
    chapter = attention(maps, "grad-cam")
    held = {measure.name: measure for measure in chapter.measures}
    overlap = held["overlap of the top 20 %"]
    assert (overlap.estimate.value, overlap.noise.value, overlap.mate.value) == (0.5, 1, 0)
    assert overlap.beyond.value == -0.5
    assert held["shift of the centre"].estimate.value == 2
    assert held["change of entropy"].mate is None
    assert "share inside the object" not in held, "nobody said where the objects are"
    assert (chapter.n, chapter.empty_before, chapter.empty_after) == (2, 0, 0)


class Points(Explainer):
    """The map is the image's own first channel; it fails where it is told to."""

    name: Literal["points"] = "points"
    fails: bool = False

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        del clf
        if self.fails:
            raise ZeroDivisionError("by zero")
        assert targets is not None
        return x[:, 0], targets, "layer"


def audited(**more: Any) -> Any:
    settings = {"explainer": Points(**more), "attacks": (PGD(steps=3),)}
    config = AuditConfig(eps=0.3, budgets=(0.3,), gallery=1).model_copy(update=settings)
    return outcome(Saliency(), evidence([0, 1, 2, 0], [0, 1, 2, 1], sure=0.5, config=config))


def test_only_what_is_classified_correctly_is_attacked_with_every_step() -> None:
    measured = audited()
    assert measured.arrays["gallery/ids"].tolist() == [0, 1, 2]
    assert measured.chapters["gallery"].items[0].distance == pytest.approx(0.3)
    assert measured.values["EXP-001"].estimate.n == 3


def test_an_explainer_that_fails_takes_away_the_maps_alone() -> None:
    measured = audited(fails=True)
    why = NotRun(not_run="ZeroDivisionError: by zero")
    assert measured.chapters["attention"] == measured.chapters["hardly"] == why
    assert measured.values["EXP-001"] == why
    (item,) = measured.chapters["gallery"].items
    assert (item.id, item.map_before) == (0, None)


def test_where_nothing_is_right_nothing_is_shown() -> None:
    measured = outcome(Saliency(), evidence([0, 0], [1, 1]))
    assert {one.not_run for one in (*measured.chapters.values(), *measured.values.values())} == {
        "no image is classified correctly, so there is nothing to attack"
    }
    with pytest.raises(AssayError, match="no image"):
        Saliency().measure(evidence([0, 0], [1, 1]))
