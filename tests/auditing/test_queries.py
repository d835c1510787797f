"""What an audit attacks of a model that may be asked a limited number of times: at eps first, and
no more images than there are queries for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from assay.attacks import PGD, Noise, Square
from assay.attacks.base import Attack
from assay.auditing import AuditConfig
from assay.auditing.attacking import attack_within, attacks_on, joined, nearest_first
from assay.auditing.evidence import Evidence
from assay.auditing.outcome import outcome
from assay.auditing.registry import Corruptions, Robustness
from assay.core.blackbox import BlackBox
from assay.errors import AssayError
from auditing.made_up import saying

IMAGES = 60
SQUARE = Square(queries=20)
EACH = 22
"""Queries that an image is attacked with at most: those of Square, its clean answer, and one that
confirms a success."""


def brittle(x: Any) -> Tensor:
    """Say class 0 of everything, until any pixel has changed by more than 0.3."""
    moved = torch.from_numpy(x).flatten(1)[:, :3].amin(1) < 0.2
    return torch.stack([0.6 - 0.2 * moved, 0.4 + 0.2 * moved, torch.zeros(len(x))], 1)


def steady(x: Any) -> Tensor:
    """Say class 0, whatever is shown."""
    return torch.tensor([[0.8, 0.1, 0.1]]).expand(len(x), 3).clone()


def limited(most: int | None, *, y: list[int] | None = None, **more: Any) -> Evidence:
    """Return evidence of a steady model that may be asked so often after the clean pass."""
    settings: dict[str, Any] = {
        "eps": 0.1,
        "budgets": (0.025, 0.05, 0.1, 0.2),
        "attacks": (SQUARE,),
        "sections": (Robustness(),),
    } | more
    most = None if most is None else IMAGES + most
    model = BlackBox(steady, classes=3, access="scores", most=most)
    labels = torch.tensor(y or [0] * IMAGES)
    found = Evidence(model, saying([0] * IMAGES), labels, AuditConfig(**settings))
    found.answer  # noqa: B018 - the clean pass
    return found


def attacked(known: Evidence, *attacks: Attack) -> tuple[int, list[float], list[str]]:
    """Return how many images were attacked, at which budgets, and what is said of the rest."""
    found = attack_within(known, attacks or (SQUARE,))
    assert not found.failed
    images = len(found.evidence.attacked)
    for curve in found.curves.values():
        assert all(len(result) == images for _, result in curve)
    [budgets] = {tuple(eps for eps, _ in curve) for curve in found.curves.values()}
    return images, list(budgets), [flag.detail for flag in found.flags]


def test_enough_queries_leave_nothing_out() -> None:
    assert attacked(limited(10_000)) == (IMAGES, [0.025, 0.05, 0.1, 0.2], [])


def test_eps_goes_first_and_then_the_nearest_budget() -> None:
    found, curves, _ = attacked(limited(3 * IMAGES * EACH))
    assert found == IMAGES
    assert curves == [0.05, 0.1], "which is as near as 0.2, and 0.025 is further"
    assert nearest_first(limited(1).config) == (0.1, 0.05, 0.2, 0.025)


def test_too_few_queries_attack_fewer_images_and_say_so() -> None:
    n, curves, said = attacked(limited(500))
    assert 10 < n < 500 // EACH + 1
    assert curves == [0.1]
    assert said == [
        f"With 560 queries in all (--max-queries) of 60 images the first {n} were attacked, and "
        "none was at 0.025, 0.05, 0.2: allow more, or name attacks with fewer queries for each "
        "image (--attacks)"
    ]


def test_images_that_take_few_queries_leave_them_to_further_images() -> None:
    model = BlackBox(brittle, classes=3, access="scores", most=IMAGES + 500)
    x = torch.full((IMAGES, 1, 3, 3), 0.25)
    known = Evidence(model, x, torch.zeros(IMAGES, dtype=torch.int64), limited(500).config)
    known.answer  # noqa: B018 - the clean pass
    assert attacked(known)[0] > attacked(limited(500))[0]


def test_images_that_are_not_classified_correctly_take_no_query() -> None:
    half = [0, 1] * (IMAGES // 2)
    assert attacked(limited(500, y=half))[0] > 1.8 * attacked(limited(500))[0]


def test_all_attacks_share_the_queries_at_eps() -> None:
    one, two = attacked(limited(500)), attacked(limited(500), SQUARE, Square(queries=19))
    assert two[0] < 0.7 * one[0]
    assert two[1] == [0.1]


def test_a_part_at_a_time_is_what_all_at_once_would_be() -> None:
    known = limited(None)
    rows = known.attacked
    whole = known.run(SQUARE, rows, "fooled")
    parts = [known.run(SQUARE, rows[some], "fooled", ids=rows[some])
             for some in (slice(0, 17), slice(17, None))]  # fmt: skip
    both = joined(parts)
    assert torch.equal(whole.adversarial, both.adversarial)
    assert torch.equal(whole.queries, both.queries)
    assert torch.equal(whole.inputs, both.inputs)
    assert whole.evaluations["forward"] == both.evaluations["forward"]


def test_other_sections_keep_theirs() -> None:
    alone = attacked(limited(1500))[0]
    corrupted = Corruptions(kinds=("contrast",), severities=(1,), images=IMAGES)
    beside = attacked(limited(1500, sections=(Robustness(), corrupted)))[0]
    assert beside <= alone
    known = limited(900, sections=(Robustness(), corrupted))
    outcome(Robustness(), known)
    assert known.model.queries <= 960 - IMAGES
    found = outcome(corrupted, known)
    assert "not_run" not in str(found.values["COR-001"])


def test_none_is_attacked_where_not_even_one_can_be() -> None:
    with pytest.raises(AssayError, match="budget spent: an image is attacked with up to 22 quer"):
        attack_within(limited(15), (SQUARE,))


def test_the_chapter_rests_on_what_was_attacked() -> None:
    known = limited(700, attacks=(SQUARE, PGD(steps=2)))
    assert [one.name for one in attacks_on(known)] == ["square"]
    found = outcome(Robustness(), known)
    value: Any = found.values["ROB-001"]
    chapter: Any = found.chapters["robustness"]
    assert value.estimate.n == len(found.arrays["square-queries-20/success"]) < IMAGES
    assert [flag.code for flag in found.flags][-1] == "FLAG-QUERIES"
    assert "needs access to the gradient" in chapter.failed["PGD, 2 steps"]
    looked = {flag.code: flag.raised for flag in found.flags}
    assert looked["REL-004"] is True, "it is steady, whatever is shown: queries were kept for that"
    assert known.model.queries <= IMAGES + 700


def test_a_model_that_may_be_asked_without_end_is_attacked_as_before() -> None:
    found = outcome(Robustness(), limited(None, attacks=(Noise(),)))
    chapter: Any = found.chapters["robustness"]
    assert [point.eps for point in chapter.curves[0].points] == [0.025, 0.05, 0.1, 0.2]
    assert "FLAG-QUERIES" not in [flag.code for flag in found.flags]
