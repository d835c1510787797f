"""What is said of the time left, on made-up durations: within 30 % after the first quarter."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import pytest

from assay.runs.display import Display
from assay.runs.entry import Failure
from assay.runs.pace import Guess, Pace
from assay.runs.trial import Cost, Trial

EVERY = 5.0  # seconds between two things that a training says
Plan = list[tuple[Trial, float]]
"""Trials with the seconds that each takes."""


def trial(task: str, size: int = 0, seed: int = 0) -> Trial:
    needs = (trial("train", 1, seed),) if task == "attack" else ()
    return Trial(task=f"toy:{task}", config={"size": size}, seed=seed, needs=needs, torch="0")


def guessed(one: Trial) -> Cost | None:
    """Twice too fast, as on an idle machine; of attacks it knows nothing."""
    return Cost(0.5 * (40.0, 200.0)[one.config["size"]], 0) if one.task == "toy:train" else None


def cheap_first() -> Plan:
    """Ten kinds of attack, three seeds each, on networks that are there, before six trainings."""
    attacks = [(trial("attack", k, 9 + s), 3.0 + 0.1 * k) for k in range(10) for s in range(3)]
    return attacks + [(trial("train", 1, s), 300.0 + 5 * s) for s in range(6)]


def dear_first() -> Plan:
    """Trainings first; many cheap trials wait behind them, each a sixtieth of what it needs."""
    nets = [(trial("train", 1, s), 300.0 - 5 * s) for s in range(5)]
    return nets + [(trial("attack", k, s), 5.0) for k in range(15) for s in range(3)]


def mixed() -> Plan:
    """Small and large networks, one seed after the other."""
    return [(trial("train", k, s), (40.0, 200.0)[k] + s) for s in range(6) for k in range(2)]


def small_first() -> Plan:
    """All small networks, then the large ones, which take five times as long."""
    return [(trial("train", k, s), (80.0, 400.0)[k] + s) for k in range(2) for s in range(4)]


def played(
    plan: Plan,
    workers: int,
    *,
    done: float = 0.0,
    known: Plan | None = None,
    dumb: tuple[str, ...] = ("toy:attack",),
    guess: Guess | None = None,
) -> Iterator[tuple[float, float | None, float]]:
    """Run a plan on made-up time, and yield at each event: when, what is said, how long it took.

    Args:
        done: how much of the first trial an earlier run had done.
        known: what an earlier run has finished.
        dumb: tasks that do not say how far they are.
    """
    pace, now = Pace([one for one, _ in plan], guess), 0.0
    for one, seconds in known or []:
        pace.learn(one, seconds)
    said: list[tuple[float, float | None]] = []
    queue, running = list(plan), []  # (end, number, begun, trial, seconds)
    for number in range(len(plan) + workers):
        while queue and len(running) < workers:
            one, seconds = queue.pop(0)
            before = done if one == plan[0][0] else 0.0
            pace.begin(one, now)
            if one.task not in dumb:
                pace.update(one, before, now)
            end = now + seconds * (1 - before)
            heapq.heappush(running, (end, number + len(queue) * 1000, now, one, seconds))
        if not running:
            break
        end = running[0][0]
        while now + EVERY < end:
            now += EVERY
            for ends, _, _, one, seconds in running:
                if one.task not in dumb:
                    pace.update(one, 1 - (ends - now) / seconds, now)
            said.append((now, pace.left(now)))
        now = end
        pace.end(heapq.heappop(running)[3], now, well=True)
        said.append((now, pace.left(now)))
    for at, left in said:
        yield at, left, now


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("plan", [dear_first, mixed])
def test_it_is_right_after_the_first_quarter(plan: Callable[[], Plan], workers: int) -> None:
    late = [one for one in played(plan(), workers) if one[2] / 4 <= one[0] <= 0.95 * one[2]]
    assert len(late) > 20
    for at, left, total in late:
        assert left == pytest.approx(total - at, rel=0.3), f"at {at:.0f} of {total:.0f} s"


@pytest.mark.parametrize("workers", [1, 2])
def test_cheap_trials_first_mislead_until_a_dear_one_has_begun(workers: int) -> None:
    """Nothing is known of a training before there is one; then its own pace says it, at once."""
    told = list(played(cheap_first(), workers))
    begun = 120.0 / workers
    for at, left, total in told:
        if begun + 30 <= at <= 0.95 * total:
            assert left == pytest.approx(total - at, rel=0.3), f"at {at:.0f} of {total:.0f} s"
    assert any(total / 12 < at < total / 4 for at, _, total in told)


@pytest.mark.parametrize("workers", [1, 2])
def test_dear_ones_that_come_later_are_known_by_their_study(workers: int) -> None:
    """Small networks alone would say a third of it; the study guesses that large ones take more."""
    told = list(played(small_first(), workers, guess=guessed))
    late = [one for one in told if one[2] / 16 <= one[0] <= 0.95 * one[2]]
    for at, left, total in late:
        assert left == pytest.approx(total - at, rel=0.3), f"at {at:.0f} of {total:.0f} s"
    at, left, total = next(one for one in played(small_first(), workers) if one[0] >= total / 16)
    assert left is not None
    assert left < 0.5 * (total - at), "without a guess"


def test_a_guess_is_asked_once_for_each_kind_and_only_where_it_is_worth_it() -> None:
    asked: list[int] = []

    def guess(one: Trial) -> Cost | None:
        asked.append(one.config["size"])
        return guessed(one)

    for seconds, expected in ((10.0, []), (100.0, [1, 0])):
        pace = Pace([trial("train", k, s) for s in range(3) for k in range(2)], guess)
        pace.learn(trial("train", 0, 9), seconds)
        pace.left(0.0)
        pace.left(1.0)
        assert asked == expected


def test_a_label_says_more_than_a_task() -> None:
    """Of one task with another configuration for each seed, those that are called the same are
    alike."""
    slow, fast, next_slow, nameless = (
        trial("train", size, size).model_copy(update={"label": label})
        for size, label in ((1, "slow"), (2, "fast"), (3, "slow"), (4, ""))
    )
    pace = Pace([next_slow])
    pace.learn(slow, 300.0)
    pace.learn(fast, 10.0)
    assert pace.left(0.0) == 300.0
    pace.add([nameless])
    assert pace.left(0.0) == 300.0 + 155.0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_an_earlier_run_has_finished_is_known_from_the_start(workers: int) -> None:
    plan = cheap_first()
    before = [plan[0], plan[30]]
    rest = [one for one in plan if one not in before]
    for at, left, total in played(rest, workers, known=before):
        if at <= 0.95 * total:
            assert left == pytest.approx(total - at, rel=0.3), f"at {at:.0f} of {total:.0f} s"


def test_a_training_goes_on_from_its_checkpoint() -> None:
    """Nine tenths of the first training were done before; it is not taken for a short one."""
    plan = [(trial("train", 1, s), 300.0) for s in range(3)]
    for at, left, total in played(plan, 1, done=0.9):
        if 20 <= at <= 0.95 * total:
            assert left == pytest.approx(total - at, rel=0.05), f"at {at:.0f} of {total:.0f} s"


def test_who_is_held_waits_again_and_who_fails_teaches_nothing() -> None:
    one, two, three = (trial("train", 1, seed) for seed in range(3))
    pace = Pace([one, two, three])
    assert pace.left(0.0) is None, "nothing is known"
    pace.begin(one, 0.0)
    pace.begin(two, 0.0)
    pace.put_back(two)
    assert list(pace.waiting) == [three.address, two.address]
    pace.end(one, 1.0, well=False)
    assert pace.left(1.0) is None
    pace.learn(one, 50.0)
    assert pace.left(1.0) == pytest.approx(50.0), "two at once, as was seen"
    pace.begin(three, 1.0)
    pace.begin(three, 31.0)  # its worker was lost: it starts again
    assert pace.left(41.0) == pytest.approx(50.0)


def test_what_is_no_time_says_nothing() -> None:
    one, two = (trial("train", size) for size in (0, 1))
    pace = Pace([one, two], lambda _: Cost(float("nan"), 0))
    for absurd in (float("nan"), float("inf"), -5.0):
        pace.learn(trial("train", 0, seed=7), absurd)
    assert pace.left(0.0) is None
    pace.learn(trial("train", 0, seed=7), 100.0)
    assert pace.left(0.0) == 200.0
    assert pace.left(0.0) == 200.0, "after a guess that is none"


def test_the_display_asks_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("assay.runs.display.time.monotonic", lambda: now)
    display = Display()
    net, attack, other = trial("train"), trial("attack", 1), trial("attack", 2)
    display.plan(there=1, to_do=[net, attack, other], failed=0)
    display.known(trial("attack", 1, seed=5), 7.0)
    display.begin(net)
    now = 130.0
    display.update(net, 0.5, "epoch 5")
    assert display.left() == pytest.approx(30.0 + 7.0 + 7.0)
    display.end(net, None)
    display.begin(attack)
    display.end(attack, Failure("died", "it was killed"))
    assert display.left() == pytest.approx(7.0)
    assert display.to_do == 3
