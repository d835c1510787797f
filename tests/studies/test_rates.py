"""A learning rate for each cell, chosen on validation by trainings that no claim is judged on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from assay.errors import AssayError
from assay.runs.entry import Failure
from assay.runs.results import Results
from assay.studies.rates import RateGrid, rates_table
from assay.studies.skip import Skip

SMALL = {
    **Skip.preset_values("smoke"),
    "device": "cpu",
    "seeds": 2,
    "depths": (1, 2),
    "rates": {"rates": (0.01, 0.1, 1.0), "epochs": 1, "seed": 7},
}


def study(**changes: Any) -> Skip:
    return Skip.parse({**SMALL, **changes})


def done_with(study: Skip, accuracy: dict[tuple[str, float], float | None]) -> Results:
    """Return results in which the try of a cell at a rate has this accuracy, or failed."""
    done = Results()
    assert study.rates is not None
    for cell, searched in study.searches().items():
        for trial, rate in zip(searched, study.rates.rates, strict=True):
            found = accuracy.get((cell, rate), 0.5)
            if found is None:
                done.failures[trial.address] = Failure("error", "diverged")
            else:
                history = {"val_accuracy": [0.9, found], "restored": False}
                done._results[trial.address] = SimpleNamespace(metrics={"history": history})  # type: ignore[assignment]
    return done


def rates_of(study: Skip, done: Results) -> dict[str, float]:
    trained = study.trials(done)
    return {c: t[0].config["recipe"]["optimizer"]["lr"] for c, t in trained.items()}


def test_searches_come_first_and_nothing_is_trained_before_all_have_ended() -> None:
    searched = [trial for cell in study().searches().values() for trial in cell]
    assert len(searched) == 4 * 3
    assert {trial.seed for trial in searched} == {7}
    assert {trial.config["recipe"]["epochs"] for trial in searched} == {1}
    assert list(study().plan(Results())) == searched
    nearly = done_with(study(), {})
    del nearly._results[searched[5].address]
    assert list(study().plan(nearly)) == searched
    planned = study().plan(done_with(study(), {}))
    assert list(planned[: len(searched)]) == searched
    assert len(planned) == len(searched) + 4 * 2 + 2, "cells × seeds, and two loss surfaces"


def test_each_cell_is_trained_at_its_own_best_rate() -> None:
    best = {"plain [1,1]": 0.01, "skip [1,1]": 0.1, "plain [2,2]": 1.0, "skip [2,2]": 0.1}
    done = done_with(study(), dict.fromkeys(best.items(), 0.6))
    assert rates_of(study(), done) == best
    epochs = {t.config["recipe"]["epochs"] for ts in study().trials(done).values() for t in ts}
    assert epochs == {3}
    seeds = [[trial.seed for trial in trials] for trials in study().trials(done).values()]
    assert seeds == [[0, 1]] * 4


def test_a_training_that_went_back_to_its_best_epoch_is_scored_by_that_epoch() -> None:
    done = done_with(study(), {("plain [2,2]", 0.01): 0.6})
    (back, *_) = study().searches()["plain [1,1]"]
    history = {"val_accuracy": [0.8, 0.1], "restored": True, "best_epoch": 1}
    done._results[back.address] = SimpleNamespace(metrics={"history": history})  # type: ignore[assignment]
    assert rates_of(study(), done)["plain [1,1]"] == 0.01


def test_of_two_rates_alike_the_lower_is_taken_and_one_that_failed_never() -> None:
    cell = "plain [2,2]"
    tied = done_with(study(), {(cell, 0.01): 0.4})
    assert rates_of(study(), tied)[cell] == 0.1
    failed = done_with(study(), {(cell, 0.1): None, (cell, 1.0): 0.7})
    assert rates_of(study(), failed)[cell] == 1.0
    nothing = done_with(study(), dict.fromkeys([(cell, 0.01), (cell, 0.1), (cell, 1.0)]))
    assert rates_of(study(), nothing)[cell] == study().recipe.optimizer.lr


def test_a_claim_rests_on_the_searches_too() -> None:
    done = done_with(study(), {})
    cells = study().cells(done)
    searched = {trial.address for trial in study().searches()["plain [2,2]"]}
    assert searched <= set(cells.addresses("plain [2,2]"))
    assert not searched & set(cells.addresses("skip [2,2]"))


def test_the_table_marks_the_rate_that_was_chosen() -> None:
    one = study()
    done = done_with(one, {("plain [2,2]", 1.0): 0.6, ("plain [2,2]", 0.1): None})
    assert one.rates is not None
    table = rates_table(one.rates, one.searches(), done)
    rows = {row[0].text: [(cell.text, cell.mark) for cell in row[1:]] for row in table.rows}
    assert rows["plain [2,2]"] == [("50.0 %", None), ("failed", None), ("60.0 %", "best")]
    assert rows["skip [1,1]"] == [("50.0 %", "best"), ("50.0 %", None), ("50.0 %", None)]


def test_the_seed_of_the_searches_is_none_of_those_judged() -> None:
    with pytest.raises(AssayError, match=r"rates.seed 7 is one of the 8 seeds"):
        study(seeds=8)
    study(seeds=7)


@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.2, 0.1), (0.1,), (0.0, 0.1)])
def test_rates_rise_and_there_are_two_or_more(rates: tuple[float, ...]) -> None:
    with pytest.raises(AssayError):
        RateGrid.parse({"rates": rates})
