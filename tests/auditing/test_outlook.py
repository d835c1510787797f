"""How long an audit still takes, on made-up timelines: right within 30 % after the first quarter,
whatever the model, the machine and the images make of what was thought to be likely."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assay.auditing.cost import Pace, Work
from assay.auditing.outlook import Outlook
from assay.auditing.watch import Watch

PACE = Pace(forward=0.001, gradient=0.002)
BUDGETS = 5
NATURAL = (0.45, 0.31, 0.16, 0.10, 0.08)
ROBUST = (0.97, 0.95, 0.94, 0.9, 0.85)
SECTIONS: dict[str, list[Work]] = {
    "robustness": [
        *[Work("fgsm", 900, 450, likely=0.7)] * BUDGETS,
        *[Work("pgd", 900, 9000, likely=0.6, early=True)] * BUDGETS,
        Work("flags", 15000, 5000, likely=0.4),
    ],
    "corruptions": [Work("corruption", 500, seconds=0.05, likely=0.55)] * 15,
    "slices": [Work("slices", seconds=0.5)],
    "saliency": [Work("saliency", 400, 3000, 0.25, likely=0.75)],
    "faithfulness": [Work("faithfulness", 3000, 2000, likely=0.7)],
    "outliers": [Work("learning", 2000), *[Work("embedding", 1000)] * 5],
}
"""About what an audit of 1,000 images comes to; a second is a thousand forward passes."""

Takes = Callable[[str, int, float], float]
"""Of a kind of work, how often it was done before, and what it was likely to take: what it takes.
"""


def as_thought(shares: tuple[float, ...] = NATURAL) -> Takes:
    def takes(kind: str, place: int, likely: float) -> float:
        return shares[place] / 0.6 * likely if kind == "pgd" else likely

    return takes


def longer(some: str, times: float, *, at: int | None = None) -> Takes:
    """Return a timeline in which one kind takes that many times as long; or one stretch of it."""

    def takes(kind: str, place: int, likely: float) -> float:
        usual = as_thought()(kind, place, likely)
        return usual * times if kind == some and at in (None, place) else usual

    return takes


def all_longer(times: float) -> Takes:
    return lambda kind, place, likely: times * as_thought()(kind, place, likely)


def told(
    takes: Takes, pace: Pace = PACE, *, failing: str = ""
) -> tuple[list[tuple[float, float]], float]:
    """Return when something was said of the time left, and what; and when all had ended.

    Args:
        failing: a section that fails in its third stretch.
    """
    now = 0.0
    watch = Watch(clock=lambda: now)
    watch.pace = pace
    watch.ahead = dict(SECTIONS)
    said = []
    for name, works in SECTIONS.items():
        watch.begin(name, works)
        met: dict[str, int] = {}
        for place, work in enumerate(works):
            watch.tick(work.kind)
            said.append((now, watch.left() or 0.0))
            if name == failing and place == 2:
                now += 0.01
                break
            now += takes(work.kind, met.get(work.kind, 0), pace.likely(work))
            met[work.kind] = met.get(work.kind, 0) + 1
        watch.end()
    return said, now


def wrong(said: list[tuple[float, float]], end: float, since: float = 0.25) -> list[float]:
    """Return by what factor it was missed wherever that is by more than 30 %, as the benchmark
    counts: after a quarter of the time, and while more than a tenth is left."""
    late = [(left, end - at) for at, left in said if since * end <= at <= 0.9 * end]
    assert len(late) > 5
    return [left / real for left, real in late if abs(left - real) > 0.3 * real]


@pytest.mark.parametrize(
    ("takes", "pace"),
    [
        (as_thought(), PACE),
        (as_thought(ROBUST), PACE),
        (as_thought(), Pace(forward=0.05, gradient=0.1)),
        (as_thought(), Pace(forward=0.0003, gradient=0.0006)),
        (all_longer(2.0), PACE),
        (all_longer(0.6), PACE),
        (longer("faithfulness", 0.5), PACE),
        (longer("corruption", 2.5), PACE),
        (longer("fgsm", 1.3), PACE),
        (longer("corruption", 10, at=3), PACE),
        (longer("saliency", 1.8), PACE),
        (longer("embedding", 0.5), PACE),
    ],
    ids=[
        "as it is thought to be",
        "a robust model",
        "a large model",
        "a small model",
        "all twice as long",
        "all in three fifths of the time",
        "a part that is cut short",
        "a kind that was thought too cheap",
        "one attack a third as long again",
        "a machine that stands still for a while",
        "one part that ends late",
        "one part that ends early",
    ],
)
def test_the_end_is_told_within_30_percent_after_the_first_quarter(
    takes: Takes, pace: Pace
) -> None:
    assert not wrong(*told(takes, pace))


@pytest.mark.parametrize("some", ["corruption", "embedding"])
def test_what_takes_ten_times_as_long_is_known_once_one_of_it_was_seen(some: str) -> None:
    said, end = told(longer(some, 10))
    kinds = [work.kind for works in SECTIONS.values() for work in works]
    known = kinds.index(some) + 1
    for at, left in said[known:]:
        assert left == pytest.approx(end - at, rel=0.3)


def test_a_section_that_fails_says_nothing_of_the_others() -> None:
    assert not wrong(*told(as_thought(), failing="corruptions"))


def test_images_that_leave_an_attack_early_do_not_make_other_work_cheap() -> None:
    outlook = Outlook()
    for share in (0.2, 0.1):
        outlook.learn(SECTIONS["robustness"][5], PACE, share)
    assert outlook.each(SECTIONS["faithfulness"], PACE) == pytest.approx([0.7 * 7.0])


def test_an_attack_that_takes_more_than_it_can_makes_other_work_dear() -> None:
    outlook = Outlook()
    most = PACE.seconds([SECTIONS["robustness"][5]])
    outlook.learn(SECTIONS["robustness"][5], PACE, 2 * most)
    [dear] = outlook.each(SECTIONS["faithfulness"], PACE)
    assert dear == pytest.approx(2 * 0.7 * 7.0, rel=0.05)


def test_a_stretch_is_known_by_what_is_said_when_it_begins() -> None:
    """An attack that fails at its first budget leaves out the others."""
    now = 0.0
    watch = Watch(clock=lambda: now)
    watch.pace = Pace(forward=1.0)
    watch.begin("attacks", [Work("a", 10, doing=f"a {k}") for k in range(3)] + [Work("b", 5)])
    watch.tick("something else")
    assert watch.left() == 35.0, "which none of them is"
    watch.tick("a 2")
    assert watch.left() == 15.0
