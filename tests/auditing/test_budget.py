"""A budget of time on made-up costs: what is run, on how many images, and what is said of it."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch

from assay import audit, stats
from assay.attacks import FGSM, PGD, Square
from assay.auditing import AuditConfig
from assay.auditing.checks import Criterion, Value
from assay.auditing.cost import Pace, Work, attack_work
from assay.auditing.rounds import Share, in_turn, sizes, within_budget
from assay.auditing.section import Measured, Section
from assay.auditing.timed import time_chapter
from assay.auditing.watch import OutOfTime, Watch
from assay.errors import AssayError
from assay.report.schema import Chapter
from auditing.made_up import evidence

N = 1000


class Clock:
    """Stands still, but for the work that is done."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class Made(Section):
    """Says that each image takes a second, in `parts` stretches, and takes `slow` times that."""

    fewest: ClassVar[int] = 50
    name: str = "made"
    code: str = ""
    rows: int = 200
    slow: float = 1.0
    parts: int = 4
    early: bool = False

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        one = Criterion(self.code, "t", "q?", config.thresholds.accuracy, "at least")
        return (one,) if self.code else ()

    def rests_on(self, evidence: Any) -> int:
        return evidence.first(self.rows)

    def work(self, evidence: Any) -> tuple[Work, ...]:
        each = self.rests_on(evidence) / self.parts
        return (Work(self.name, forward=each, early=self.early),) * self.parts

    def measure(self, evidence: Any) -> Measured:
        n = self.rests_on(evidence)
        for part in range(self.parts):
            evidence.tick(f"{self.name} {part}")
            CLOCK.now += self.slow * n / self.parts
        value = Value(stats.proportion(n // 2, n, "images"))
        return Measured(
            {self.name: Chapter(title=f"{n} images")}, {self.code: value} if self.code else {}
        )


class Whole(Made):
    """Cannot be measured on fewer images."""

    fewest: ClassVar[int] = 0


def run(budget: float | None, *sections: Section, counted: tuple[str, ...] = ()) -> Any:
    """Return the shares of some sections by name, and the seconds that they took together."""
    CLOCK.now = 0.0
    watch = Watch(budget=budget, clock=CLOCK)
    watch.pace = Pace(forward=1.0, gradient=1.0)
    config = AuditConfig().model_copy(update={"sections": sections})
    known = evidence([0] * N, [0] * N, config=config, tick=watch.tick)
    known.answer  # noqa: B018 - the clean pass
    shares = in_turn(known, watch) if budget is None else within_budget(known, watch, counted)
    assert [share.section for share in shares] == list(sections), "in the order of the config"
    return {share.section.name: share for share in shares}, CLOCK.now, (known, watch, shares)


def rows(share: Share) -> int:
    chapter = share.found.chapters[share.section.name]
    return int(chapter.title.split()[0]) if isinstance(chapter, Chapter) else 0


A = Made(name="a", code="A-001")
B = Made(name="b", code="B-001", rows=100)
C = Made(name="c", rows=400)


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf])
def test_what_is_no_budget_is_refused(seconds: float) -> None:
    with pytest.raises(AssayError, match="budget is a number of seconds above 0, or None"):
        audit(object(), torch.zeros(20, 1, 4, 4), torch.zeros(20), budget=seconds)


def test_a_budget_that_is_long_enough_leaves_nothing_out() -> None:
    free, took, _ = run(None, A, B, C)
    found, same, (known, watch, shares) = run(1500, A, B, C, counted=("A-001",))
    assert took == same == 700
    assert [rows(found[name]) for name in "abc"] == [200, 100, 400]
    assert [one.found for one in found.values()] == [one.found for one in free.values()]
    assert time_chapter(shares, known, watch, N).lead == "Nothing was left out."


def test_what_counts_gets_what_the_others_leave() -> None:
    found, took, (known, watch, shares) = run(300, A, B, C, counted=("A-001",))
    assert 100 < rows(found["a"]) < 200, "it counts: what is left once the others had their least"
    assert rows(found["b"]) == 50
    assert rows(found["c"]) == 50
    assert took <= 300
    other, took, _ = run(300, A, B, C, counted=("B-001",))
    assert rows(other["b"]) == 100
    assert 50 < rows(other["a"]) < 200, "what was left went to it"
    assert rows(other["c"]) == 50
    assert took <= 300
    chapter = time_chapter(shares, known, watch, 1200)
    assert chapter.lead == (
        "Of 1,200 images the first 1,000 were used; measured on fewer: a (122 of 200), "
        "b (50 of 100), c (50 of 400)."
    )


def test_what_there_is_no_time_for_is_not_run_and_says_so() -> None:
    found, took, (known, watch, shares) = run(70, A, B, C, counted=("B-001",))
    assert rows(found["b"]) == 50
    assert not found["a"].run
    assert not found["c"].run
    why = "the budget of 1 min 10 s is too small: it takes about 50 s at least, and 20 s were left"
    assert found["a"].found.values["A-001"].not_run == why
    assert found["c"].found.chapters["c"].not_run == why
    assert took == 50
    assert "not run: a, c" in time_chapter(shares, known, watch, N).lead


def test_what_cannot_be_cut_is_run_whole_or_not_at_all() -> None:
    whole = Whole(name="whole", code="W-001")
    found, _, _ = run(260, whole, B, counted=("W-001", "B-001"))
    assert rows(found["whole"]) == 200
    assert rows(found["b"]) == 50, "the cheapest first, as long as there is time for the others"
    found, took, _ = run(190, whole, B, counted=("W-001", "B-001"))
    assert not found["whole"].run
    assert rows(found["b"]) == 100
    assert took <= 190


def test_a_model_slower_than_thought_ends_in_time() -> None:
    slow = A.model_copy(update={"slow": 5.0})
    found, took, _ = run(110, slow, C, counted=("A-001",))
    assert took <= 1.2 * 110 + 5 * 50 / 4, "a stretch that was begun is ended"
    assert not found["a"].run
    assert found["a"].found.values["A-001"].not_run == "the budget of 1 min 50 s was spent"
    assert not found["c"].run
    found, took, _ = run(400, slow, C, counted=("A-001",))
    assert rows(found["a"]) == 50
    assert not found["c"].run, "250 s were spent, and at this pace it takes 250 s more"
    assert took <= 1.2 * 400


def test_a_model_faster_than_thought_gets_more_images_in_a_second_round() -> None:
    fast = A.model_copy(update={"slow": 0.2})
    found, took, _ = run(120, fast, C, counted=("A-001",))
    assert rows(found["a"]) == 200, "first 50, which took 10 s rather than 50; then all, in 40 s"
    assert took <= 120
    assert rows(found["c"]) == 50


def test_a_second_round_that_is_broken_off_keeps_the_first() -> None:
    class Grows(Made):
        name: str = "grows"

        def measure(self, evidence: Any) -> Measured:
            if self.rests_on(evidence) > 50:
                CLOCK.now += 1000
                evidence.tick("too late")
            return super().measure(evidence)

    found, _, _ = run(150, Grows(code="G-001"), counted=("G-001",))
    assert rows(found["grows"]) == 50
    assert found["grows"].run


def test_attacks_keep_their_steps_and_curves_lose_budgets_first() -> None:
    from assay.auditing.registry import Robustness

    config = AuditConfig(eps=0.1, budgets=(0.01, 0.05, 0.1, 0.3), attacks=(PGD(steps=20),))
    known = evidence([0] * N, [0] * N, config=config)
    plan = sizes(Robustness(), known)
    assert plan[0].most == 64
    assert (plan[-2].most, plan[-2].short) == (None, True)
    assert (plan[-1].most, plan[-1].short) == (None, False)
    assert [len(known.within(one.most, short=True).attacked) for one in plan[-2:]] == [500, 500]
    assert known.within(None, short=True).config.curve == (0.1, 0.3)
    assert all(
        known.within(one.most, short=one.short).config.attacks == config.attacks for one in plan
    )


def test_what_attacks_take() -> None:
    assert attack_work(FGSM(), 10).gradient == 10
    assert attack_work(PGD(steps=20, restarts=3), 10).gradient == 600
    square = attack_work(Square(queries=500), 10)
    assert (square.forward, square.gradient) == (5020, 0)


def test_the_time_left_is_right_after_the_first_quarter() -> None:
    said: list[tuple[float, float]] = []

    class Kept(Watch):
        def tick(self, doing: str) -> None:
            super().tick(doing)
            said.append((CLOCK.now, self.left() or 0.0))

    sections = (
        Made(name="attacks", rows=300, slow=0.4, parts=10, early=True),
        Made(name="corruptions", rows=200, slow=1.3, parts=15),
        Made(name="maps", rows=100, slow=0.8, parts=1),
        Made(name="outliers", rows=150, slow=1.2, parts=1),
    )
    CLOCK.now = 0.0
    watch = Kept(clock=CLOCK)
    watch.pace = Pace(forward=1.0)
    config = AuditConfig().model_copy(update={"sections": sections})
    in_turn(evidence([0] * N, [0] * N, config=config, tick=watch.tick), watch)
    late = [(at, left) for at, left in said if at >= CLOCK.now / 4]
    assert len(late) > 10
    for at, left in late:
        assert left == pytest.approx(CLOCK.now - at, rel=0.3)


def test_a_watch_that_has_run_out_stops_the_work() -> None:
    CLOCK.now = 0.0
    watch = Watch(budget=10, clock=CLOCK)
    watch.tick("early")
    CLOCK.now = 10.0
    with pytest.raises(OutOfTime):
        watch.tick("late")
    assert not issubclass(OutOfTime, Exception), "nobody's `except Exception` holds it back"
