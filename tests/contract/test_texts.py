"""Texts are attacked by the runner that attacks images: one suite over a toy of each part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from assay.attacks import runner
from assay.attacks.runner import run
from assay.core.batches import joined, parts, put, take
from assay.errors import AssayError
from contract.texts import SENTENCES, Edits, Swaps, WordCounter

FOOLED = [True, False, True, False, False, False]
"""By hand: of two characters exchanged, one "good" may be lost, or the one "bad" beside one "good".
A tie is "negative", which the other sentences are, and three times "good" remains positive."""


def test_what_can_be_fooled_is_fooled_within_the_threat() -> None:
    oracle = WordCounter()
    result = run(Swaps(steps=200), oracle, SENTENCES, seed=0)
    assert result.clean_prediction.tolist() == [1, 0, 0, 1, 0, 0]
    assert result.success.tolist() == FOOLED
    assert bool(result.threat.contains(SENTENCES, result.adversarial).all())
    assert result.distance[result.success].tolist() == [2, 2]
    assert oracle.query(result.adversarial).argmax(1).tolist() == [0, 0, 1, 1, 0, 0]
    assert result.adversarial_prediction.tolist() == [0, 0, 1, 1, 0, 0]
    assert (result.success_rate.value, result.success_rate.n) == (2 / 6, 6)
    assert result.robust_accuracy.value == 4 / 6
    assert result.refused == 0


@pytest.mark.parametrize("stop", ["fooled", "never"])
def test_queries_are_those_the_model_saw(stop: Any) -> None:
    oracle = WordCounter()
    result = run(Swaps(steps=200, restarts=2), oracle, SENTENCES, stop=stop, seed=0)
    assert int(result.queries.sum()) == oracle.queries == sum(result.evaluations.values())
    longest = 1 + 2 * (201 + 1)  # the clean text, then twice all steps and a confirmation
    assert result.queries[~result.success].tolist() == [longest] * 4
    stopped = bool((result.queries[result.success] < longest).all())
    assert stopped == (stop == "fooled")
    assert (result.median_queries is None) == (stop == "never")


@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize("budget", [1, 2, 10])
def test_a_query_budget_is_kept(stop: Any, budget: int) -> None:
    result = run(Swaps(steps=200), WordCounter(), SENTENCES, stop=stop, query_budget=budget)
    assert int(result.queries.max()) <= budget
    assert torch.equal(result.cut, ~result.success)


def test_restarts_have_draws_of_their_own_and_go_on_from_none() -> None:
    once = run(Swaps(steps=4), WordCounter(), SENTENCES, stop="fooled", seed=1)
    often = run(Swaps(steps=4, restarts=20), WordCounter(), SENTENCES, stop="fooled", seed=1)
    assert int(once.success.sum()) < int(often.success.sum()) == 2


def test_an_input_is_attacked_as_it_would_be_alone() -> None:
    whole = run(Swaps(steps=200), WordCounter(), SENTENCES, stop="fooled", seed=3)
    small = run(Swaps(steps=200), WordCounter(), SENTENCES, stop="fooled", seed=3, batch_size=1)
    other = run(Swaps(steps=200), WordCounter(), SENTENCES, stop="fooled", seed=4)
    last = run(Swaps(steps=200), WordCounter(), SENTENCES[2:3], seed=3, ids=torch.tensor([2]))
    assert small.adversarial == whole.adversarial != other.adversarial
    assert torch.equal(small.queries, whole.queries)
    assert bool(last.success.all())


def test_labels_and_targets_are_kept_to() -> None:
    y = torch.tensor([1, 1, 1, 1, 0, 0])
    result = run(Swaps(steps=200), WordCounter(), SENTENCES, y, attack_wrong=False)
    assert result.correct.tolist() == [True, False, False, True, True, True]
    assert result.success.tolist() == [True, False, False, False, False, False]
    assert result.adversarial[1:3] == SENTENCES[1:3]
    y = torch.tensor([1, 0, 0, 1, 0, 0])
    aimed = run(Swaps(steps=200), WordCounter(), SENTENCES, y, targets=1 - y)
    assert aimed.success.tolist() == FOOLED


class Slow(WordCounter):
    """Takes a second per query, by a clock of its own."""

    now = 0.0

    def query(self, x: list[str]) -> Tensor:
        Slow.now += len(x)
        return super().query(x)


class Patient(Swaps):
    """Tries every step of the search before it yields."""

    def search(self, model: Any, x: list[str], y: Tensor, **settings: Any) -> Any:
        *_, last = super().search(model, x, y, **settings)
        yield last


def test_what_a_step_had_found_that_a_time_limit_broke_off_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner.time, "monotonic", lambda: Slow.now)
    result = run(Patient(steps=10_000), Slow(), SENTENCES, time_limit=1200)
    assert Slow.now <= 1200 + len(SENTENCES)
    assert result.success.tolist() == FOOLED
    assert torch.equal(result.cut, ~result.success)


def test_a_result_says_and_saves_itself(tmp_path: Path) -> None:
    result = run(Swaps(steps=200), WordCounter(), SENTENCES, seed=0)
    assert repr(result).startswith(
        "AttackResult(SWAPS, most 2: 33.3% of 6 correctly classified texts fooled"
    )
    assert result.to_dict()["threat"] == {"most": 2}
    assert "33.3%" in result._repr_html_()
    folder = result.save(tmp_path)
    assert json.loads((folder / "texts.json").read_text()) == result.adversarial
    assert json.loads((folder / "attack.json").read_text())["success"] == 2
    arrays = load_file(folder / "arrays.safetensors")
    assert torch.equal(arrays["success"], result.success)
    assert "adversarial" not in arrays
    for ask in (result.plot, lambda: result.survives_rounding):
        with pytest.raises(AssayError, match="texts cannot be"):
            ask()


def test_perturb_gives_every_text_and_filters_none() -> None:
    from assay.core.random import Stream

    attack, y = Swaps(steps=200), torch.tensor([1, 0, 0, 1, 0, 0])
    draws = Stream(0).rows(range(6))
    moved = attack.perturb(
        WordCounter(), SENTENCES, y, threat=attack.threat, loss=attack.objective(False), rng=draws
    )
    assert len(moved) == 6
    assert WordCounter().query(moved).argmax(1).tolist() == [0, 0, 1, 1, 0, 0]


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(AssayError, match="list of str, but one of these is a int"):
        run(Swaps(), WordCounter(), ["fine", 3])
    with pytest.raises(AssayError, match="nothing to attack: x has no texts"):
        run(Swaps(), WordCounter(), [])


def test_a_text_is_owned_by_the_nearest() -> None:
    x = ["abcd", "wxyz", "abyz"]
    owners = Edits().nearest(x, ["abxz", "wxyd", "abcd"])
    assert owners.tolist() == [2, 1, 0]


@pytest.mark.parametrize("x", [list("abcde"), torch.arange(5.0)], ids=["texts", "tensor"])
def test_rows_are_taken_written_parted_and_joined_alike(x: Any) -> None:
    rows = torch.tensor([3, 1])
    taken = take(x, rows)
    assert list(taken) == [x[3], x[1]]
    assert list(joined(parts(x, [2, 0, 3]))) == list(x)
    assert [len(part) for part in parts(x, [2, 0, 3])] == [2, 0, 3]
    put(x, torch.tensor([0, 4]), taken)
    assert [x[0], x[4]] == list(taken)
