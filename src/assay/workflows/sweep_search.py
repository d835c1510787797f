"""Which settings a sweep tries, and which of their trials are wanted next."""

from __future__ import annotations

import importlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from assay.config import digest
from assay.disk import write_atomic
from assay.errors import AssayError
from assay.runs.results import Results
from assay.runs.store import JOURNAL, Store
from assay.runs.trial import Trial
from assay.studies.cell_study import CellStudy
from assay.studies.measures import validation_accuracy
from assay.studies.searching import Param, Value, at, own_value, written
from assay.workflows.sweep_page import Judged, Tried

FIRST = 2000
"""The first seed that settings are tried with."""
JUDGED, BEFORE, WHY = "judged", "before", "why"
"""What the journal keeps: the winners that were judged, in their order; how many settings had ended
when one was proposed; why one failed."""
LEAST = 4
"""Scored settings below whose median another is given up."""


@dataclass(frozen=True)
class Sweep:
    """What is searched, and how.

    Attributes:
        study: its own settings: what the winner is compared with.
        params: what is varied.
        tries: how many settings are tried.
        cell: the cell that is searched on; None: the mean over all.
        seeds: with how many seeds each setting is tried; none of them is judged on.
        delta: the smallest gain in test accuracy that matters.
    """

    study: CellStudy
    params: tuple[Param, ...]
    tries: int
    cell: str | None = None
    seeds: int = 1
    delta: float = 0.01

    @cached_property
    def address(self) -> str:
        """What the sweep is known by: with more tries it goes on, with other data it begins anew,
        since a score on those says nothing beside one on these."""
        varied = [vars(param) for param in self.params]
        config = self.study.model_dump(mode="json", exclude={"seeds"})
        trials = [trial.address for trial in self.tried(self.own)]
        return digest([self.study.NAME, config, varied, self.cell, self.seeds, trials])

    @property
    def own(self) -> dict[str, Value]:
        """What the study itself has for what is varied."""
        return {param.path: own_value(self.study, param.path) for param in self.params}

    @property
    def chosen_on(self) -> range:
        """The seeds that settings are tried on: beyond any that a study is judged on."""
        return range(FIRST, FIRST + self.seeds)

    def cells(self, values: Mapping[str, Value], seeds: Sequence[int]) -> dict[str, list[Trial]]:
        """Return the trials of a setting by cell."""
        found = at(self.study, values).resolved().on_seeds(seeds)
        if self.cell is None:
            return found
        if self.cell not in found:
            raise AssayError(
                f"--cell {self.cell}: {self.study.NAME} has the cells {', '.join(found)}"
            )
        return {self.cell: found[self.cell]}

    def tried(self, values: Mapping[str, Value]) -> list[Trial]:
        """Return the trials that a setting is chosen by, in the order they are run."""
        by_seed = zip(*self.cells(values, self.chosen_on).values(), strict=True)
        name = written(values, self.params)
        return [
            trial.model_copy(update={"label": f"{trial.label}, {name}"})
            for row in by_seed
            for trial in row
        ]

    def check(self) -> None:
        """Refuse a sweep whose settings the study refuses, or that would try the same ones.

        Raises:
            AssayError: says which.
        """
        _ = self.tried(self.own)
        for param in self.params:
            ends = param.choices or (param.value(param.low or 0), param.value(param.high or 0))
            found = {
                tuple(trial.address for trial in self.tried({**self.own, param.path: end}))
                for end in (int(one) if param.whole else one for one in ends)
            }
            if len(found) < 2:
                cell = f" of the cell {self.cell}" if self.cell else ""
                raise AssayError(
                    f"--param {param.path}: {param.described()} changes no training{cell}; vary "
                    "what does"
                )


class Search:
    """The settings tried so far, kept in a journal, and the trials that are wanted next.

    Settings are proposed by TPE (Bergstra et al. 2011), the study's own first, then ten at random.
    A proposal depends on what is in the journal alone, so a sweep that was stopped goes on as it
    would have. A setting whose running mean after some of its trials is below the median of the
    others' at that point is given up (the median rule; Golovin et al. 2017). The others are those
    that had ended when it was proposed: by those beside it, the faster ones would decide.
    """

    def __init__(self, sweep: Sweep, optuna: Any, folder: Path, store: Store, width: int) -> None:
        self.sweep, self.optuna, self.store, self.width = sweep, optuna, store, width
        journal = importlib.import_module("optuna.storages.journal")
        whole_lines(folder / JOURNAL)
        path = str(folder / JOURNAL)
        lock = journal.JournalFileOpenLock(path)
        backend = journal.JournalFileBackend(path, lock_obj=lock)
        self.study = optuna.create_study(
            study_name=sweep.address,
            storage=optuna.storages.JournalStorage(backend),
            direction="maximize",
            load_if_exists=True,
        )
        if not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(self._params(sweep.own))
        self.made: dict[int, list[Trial]] = {}
        running = self._in_state("RUNNING")
        reopened = [optuna.trial.Trial(self.study, one._trial_id) for one in running]
        self.open = [one for one in reopened if self._begun(one)]

    def plan(self, done: Results) -> Sequence[Trial]:
        """Return the trials wanted next: those of open settings, or else those of the judgement."""
        while True:
            self.open = [one for one in self.open if not self._ended(one, done)]
            if self.open:
                break
            left = self.sweep.tries - len(self._finished())
            if left <= 0:
                return [*self._there(), *self.judgement().trials]
            asked = [self.study.ask() for _ in range(min(self.width, left))]
            self.open = [one for one in asked if self._begun(one)]
        return [self._next(one, done) for one in self.open]

    def _begun(self, one: Any) -> bool:
        """Propose the values of a setting, those that it lacks; return whether it can be tried. One
        that the study refuses counts as tried, and says why."""
        if BEFORE not in one.user_attrs:
            one.set_user_attr(BEFORE, len(self._finished()))
        self.study.sampler = self.optuna.samplers.TPESampler(
            seed=int(digest([self.sweep.address, one.number])[:8], 16), constant_liar=True
        )
        for param in self.sweep.params:
            self._suggest(one, param)
        try:
            self.made[one.number] = self.sweep.tried(self.values(one))
        except AssayError as error:
            one.set_user_attr(WHY, str(error))
            self._tell(one, None, "FAIL")
            return False
        return True

    def _suggest(self, asked: Any, param: Param) -> Value:
        found: Value
        if param.choices:
            found = asked.suggest_categorical(param.path, list(param.choices))
        elif param.whole:
            found = asked.suggest_int(
                param.path, int(param.low or 0), int(param.high or 0), log=param.log
            )
        else:
            found = asked.suggest_float(param.path, param.low, param.high, log=param.log)
        return param.value(found)

    def _params(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return values as optuna has them, of those that lie in their range."""
        found: dict[str, Any] = {}
        for param in self.sweep.params:
            value = values[param.path]
            if param.choices:
                if str(value) in param.choices:
                    found[param.path] = str(value)
            elif isinstance(value, int | float) and (param.low or 0) <= value <= (param.high or 0):
                found[param.path] = value
        return found

    def values(self, one: Any) -> dict[str, Value]:
        """Return the setting of a trial of optuna's, as it is tried."""
        return {param.path: param.value(one.params[param.path]) for param in self.sweep.params}

    def _ended(self, one: Any, done: Results) -> bool:
        """Report what is new of an open setting; return whether it has ended."""
        trials = self._trials(one)
        known = self.study.get_trials(deepcopy=False)[one.number].intermediate_values
        scores: list[float] = []
        for step, trial in enumerate(trials):
            if done.failure(trial) is not None:
                one.set_user_attr(WHY, done.failure(trial).message)  # type: ignore[union-attr]
                self._tell(one, None, "FAIL")
                return True
            if trial not in done:
                return False
            scores.append(validation_accuracy(done[trial]))
            if step not in known:
                one.report(sum(scores) / len(scores), step)
            last = step == len(trials) - 1
            if not last and self._behind(one, step, sum(scores) / len(scores)):
                self._tell(one, None, "PRUNED")
                return True
        self._tell(one, sum(scores) / len(scores), "COMPLETE")
        return True

    def _behind(self, one: Any, step: int, mean: float) -> bool:
        """Return whether a mean is below the median of those that others had at this step."""
        ended = [
            other for other in self._in_state("COMPLETE") if other.number < one.user_attrs[BEFORE]
        ]
        means = [other.intermediate_values[step] for other in ended]
        return len(means) >= LEAST and mean < statistics.median(means)

    def _tell(self, one: Any, value: float | None, state: str) -> None:
        self.study.tell(one.number, value, state=self.optuna.trial.TrialState[state])

    def _next(self, one: Any, done: Results) -> Trial:
        """Return the next trial of an open setting; one at a time, so that it may be given up."""
        return next(trial for trial in self._trials(one) if trial not in done)

    def _there(self) -> list[Trial]:
        """Return the trials of finished settings that the store still holds."""
        ran = [
            t for one in self._finished() if _steps(one) for t in self._trials(one)[: _steps(one)]
        ]
        return [trial for trial in ran if self.store.result(trial) is not None]

    def _trials(self, one: Any) -> list[Trial]:
        if one.number not in self.made:
            self.made[one.number] = self.sweep.tried(self.values(one))
        return self.made[one.number]

    def _in_state(self, *names: str) -> list[Any]:
        states = tuple(self.optuna.trial.TrialState[name] for name in names)
        return list(self.study.get_trials(deepcopy=False, states=states))

    def _finished(self) -> list[Any]:
        return self._in_state("COMPLETE", "PRUNED", "FAIL")

    # -- what was found ----------------------------------------------------------------------------

    def settings(self) -> list[Tried]:
        """Return every setting that was tried, in the order of the trials."""
        return [
            Tried(
                self.values(one),
                one.value if one.state.name == "COMPLETE" else None,
                one.state.name.lower(),
                _steps(one),
                one.intermediate_values[_steps(one) - 1] if _steps(one) else None,
                one.user_attrs.get(WHY, ""),
            )
            for one in self._finished()
        ]

    def best(self) -> dict[str, Value] | None:
        """Return the setting with the highest validation accuracy, the first of those alike."""
        scored = self._in_state("COMPLETE")
        return self.values(max(scored, key=lambda one: one.value)) if scored else None

    def judgement(self) -> Judged:
        """Return the best setting beside the study's own, on the seeds that are judged."""
        best, own = self.best(), self.sweep.own
        if best is None:
            return Judged(None, own, {}, {}, self.sweep.delta, 1)
        seeds = range(self.sweep.study.seeds)
        name = written(best, self.sweep.params)
        ours, others = self.sweep.cells(best, seeds), self.sweep.cells(own, seeds)
        if _addresses(ours) == _addresses(others):
            return Judged(best, own, {}, others, self.sweep.delta, 1)
        ours = {
            cell: [t.model_copy(update={"label": f"{cell}, {name}"}) for t in trials]
            for cell, trials in ours.items()
        }
        return Judged(best, own, ours, others, self.sweep.delta, 1)

    def judged(self, done: Results) -> Judged:
        """Return the judgement, numbered: each further winner, or other trials that it rests on,
        such as more seeds or one that had failed before, is one more."""
        found = self.judgement()
        there = sorted(trial.address for trial in found.trials if trial in done)
        if not there:
            return found
        mark = digest([found.best, there])
        before: list[str] = json.loads(self.study.user_attrs.get(JUDGED, "[]"))
        if mark not in before:
            before.append(mark)
            self.study.set_user_attr(JUDGED, json.dumps(before))
        return Judged(
            found.best, found.own, found.ours, found.others, found.delta, before.index(mark) + 1
        )

    def importance(self) -> dict[str, float]:
        """Return how much of the spread among good settings each parameter explains (PED-ANOVA,
        Watanabe et al. 2023); nothing for one parameter, or fewer than ten scored settings."""
        if len(self.sweep.params) < 2 or len(self._in_state("COMPLETE")) < 10:
            return {}
        importance = importlib.import_module("optuna.importance")
        judge = importance.PedAnovaImportanceEvaluator()
        found = importance.get_param_importances(self.study, evaluator=judge)
        return {path: float(share) for path, share in found.items()}


def _steps(one: Any) -> int:
    """Return after how many of its trials the mean of a setting was reported."""
    return len(one.intermediate_values)


def _addresses(cells: Mapping[str, Sequence[Trial]]) -> list[str]:
    return [trial.address for trials in cells.values() for trial in trials]


def whole_lines(journal: Path) -> None:
    """Cut off a line that was not written to its end (a full disk, no power), after which optuna
    reads no further, and a lock that a killed process left. For who holds the folder."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.exists():
        written = journal.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        if whole != written:
            write_atomic(journal, whole)
