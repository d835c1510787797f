"""`assay sweep`: settings of a study tried on seeds of their own, the best judged on fresh ones."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assay.config import digest
from assay.disk import write_atomic
from assay.errors import AssayError
from assay.report.study_page import render_study
from assay.runs.cluster import Ray
from assay.runs.engine import Engine, execute
from assay.runs.environment import cores
from assay.runs.remote import url_of
from assay.runs.results import Results
from assay.runs.store import JOURNAL, Run, Store
from assay.runs.trial import Trial
from assay.studies.cell_study import CellStudy
from assay.studies.searching import Param, Value, at, own_value, written
from assay.workflows.shards import Spread
from assay.workflows.sweep_page import Judged, Tried, swept

LOCK = ".lock"
JUDGED = "judged"
"""What the journal keeps of the winners that were judged, in their order."""


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

    @property
    def address(self) -> str:
        """What the sweep is known by: with more tries it goes on."""
        varied = [vars(param) for param in self.params]
        config = self.study.model_dump(mode="json", exclude={"seeds"})
        return digest([self.study.NAME, config, varied, self.cell, self.seeds])

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


FIRST = 2000
"""The first seed that settings are tried with."""


def run(sweep: Sweep, store: Path, spread: Spread, *, command: str, progress: bool) -> int:
    """Try what is left to try, judge the best setting, write the page, and say where it is.

    Returns 0 whatever the verdict is; 1 if no setting could be scored, or a judged trial failed.

    Raises:
        AssayError: for settings that cannot be tried, or a sweep that another process works on.
    """
    started, clock = datetime.now().astimezone(), time.perf_counter()
    optuna = load_optuna()
    if sweep.study.seeds > FIRST:
        raise AssayError(f"--seeds must be at most {FIRST}: settings are tried on those beyond")
    _ = sweep.tried(sweep.own)  # a mistake in the settings shows before anything is written
    if url_of(store) is not None:
        raise AssayError(
            f"--store {url_of(store)}: a sweep keeps a journal, which is added to in place; give a "
            "folder, and `assay sync` copies it"
        )
    home = Store(store)
    name = f"sweep-{sweep.study.NAME}-{sweep.study.preset}"
    with home.using(), alone(home.run_folder("study", name, sweep.address)) as folder:
        search = Search(sweep, optuna, folder, home, spread.workers or at_once(sweep))
        engine: Engine | None = None
        if spread.engine == "ray":
            engine = Ray(home.root, spread.ray_address, spread.workers)
        done = execute(
            search.plan,
            home,
            engine=engine,
            workers=spread.workers,
            progress=progress,
            rerun_failed=True,
        )
        judged = search.judged(done)
        result = swept(
            sweep.study,
            sweep.params,
            search.settings(),
            judged,
            trials=[*done.trials.values()],
            done=done,
            importance=search.importance(),
            command=command,
            started=started,
            seconds=time.perf_counter() - clock,
        )
        write_atomic(folder / "result.json", result.to_json())
        write_atomic(folder / "index.html", render_study(result))
        keep(home, folder, sweep, result, done)
    for line in (result.answer.replace("**", ""), result.summary):
        print(line)
    print(folder / "index.html")
    return 1 if judged.best is None or any(done.failure(t) for t in judged.trials) else 0


def keep(home: Store, folder: Path, sweep: Sweep, result: Any, done: Results) -> Run:
    """Write the run.json of a sweep, which makes it a finished one."""
    return home.save_run(
        "study",
        folder.name,
        {
            "name": result.study,
            "address": sweep.address,
            "seeds": sweep.study.seeds,
            "config": sweep.study.model_dump(mode="json"),
            "trials": [trial.address for trial in done.trials.values()],
            "claims": [claim.model_dump(mode="json") for claim in result.claims],
            "headline": result.answer.replace("**", ""),
        },
    )


def load_optuna() -> Any:
    """Return optuna, which says nothing by itself.

    Raises:
        AssayError: it is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ModuleNotFoundError as error:
        raise AssayError("assay sweep needs optuna: pip install 'assay[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def at_once(sweep: Sweep) -> int:
    """Return how many settings are tried side by side: as many as fill this machine."""
    return max(1, cores() // sweep.study.threads)


@contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Hold a sweep's folder against other processes; yields it.

    Raises:
        AssayError: one works there.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AssayError(
            f"another process works on this sweep, in {folder}: wait for it"
        ) from error
    try:
        yield folder
    finally:
        lock.release()


class Search:
    """The settings tried so far, kept in a journal, and the trials that are wanted next.

    Settings are proposed by TPE (Bergstra et al. 2011), the study's own first, then ten at random.
    A proposal depends on what is in the journal alone, so a sweep that was stopped goes on as it
    would have. A setting whose running mean after some of its trials is below the median of the
    others' at that point is given up (the median rule; Golovin et al. 2017).
    """

    def __init__(self, sweep: Sweep, optuna: Any, folder: Path, store: Store, width: int) -> None:
        self.sweep, self.optuna, self.store, self.width = sweep, optuna, store, width
        journal = importlib.import_module("optuna.storages.journal")
        path = str(folder / JOURNAL)
        lock = journal.JournalFileOpenLock(path)
        backend = journal.JournalFileBackend(path, lock_obj=lock)
        self.study = optuna.create_study(
            study_name=sweep.address,
            storage=optuna.storages.JournalStorage(backend),
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            load_if_exists=True,
        )
        if not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(self._params(sweep.own))
        running = self._in_state("RUNNING")
        self.open = [optuna.trial.Trial(self.study, one._trial_id) for one in running]
        self.made: dict[int, list[Trial]] = {}

    def plan(self, done: Results) -> Sequence[Trial]:
        """Return the trials wanted next: those of open settings, or else those of the judgement."""
        while True:
            self.open = [one for one in self.open if not self._ended(one, done)]
            if self.open:
                break
            left = self.sweep.tries - len(self._finished())
            if left <= 0:
                return [*self._there(), *self.judgement().trials]
            self.open = [self._ask() for _ in range(min(self.width, left))]
        return [self._next(one, done) for one in self.open]

    def _ask(self) -> Any:
        """Propose a setting; a refused one counts as tried, and says why."""
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = self.optuna.samplers.TPESampler(
            seed=int(digest([self.sweep.address, number])[:8], 16), constant_liar=True
        )
        asked = self.study.ask()
        for param in self.sweep.params:
            self._suggest(asked, param)
        return asked

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
                one.set_user_attr("why", done.failure(trial).message)  # type: ignore[union-attr]
                self._tell(one, None, "FAIL")
                return True
            if trial not in done:
                return False
            scores.append(validated(done, trial))
            if step not in known:
                one.report(sum(scores) / len(scores), step)
            last = step == len(trials) - 1
            if not last and one.should_prune():
                self._tell(one, None, "PRUNED")
                return True
        self._tell(one, sum(scores) / len(scores), "COMPLETE")
        return True

    def _tell(self, one: Any, value: float | None, state: str) -> None:
        self.study.tell(one.number, value, state=self.optuna.trial.TrialState[state])

    def _next(self, one: Any, done: Results) -> Trial:
        """Return the next trial of an open setting; one at a time, so that it may be given up."""
        return next(trial for trial in self._trials(one) if trial not in done)

    def _there(self) -> list[Trial]:
        """Return the trials of finished settings that the store still holds."""
        ran = [t for one in self._finished() for t in self._trials(one)[: _steps(one)]]
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
                one.user_attrs.get("why", ""),
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
        if all(str(best[path]) == str(own[path]) for path in own):
            return Judged(best, own, {}, self.sweep.cells(own, seeds), self.sweep.delta, 1)
        ours = {
            cell: [t.model_copy(update={"label": f"{cell}, {name}"}) for t in trials]
            for cell, trials in self.sweep.cells(best, seeds).items()
        }
        return Judged(best, own, ours, self.sweep.cells(own, seeds), self.sweep.delta, 1)

    def judged(self, done: Results) -> Judged:
        """Return the judgement, numbered: each further winner, or number of seeds, is one more."""
        found = self.judgement()
        if not found.ours or not all(trial in done for trial in found.trials):
            return found
        mark = digest([found.best, sorted(trial.address for trial in found.trials)])
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


def validated(done: Results, trial: Trial) -> float:
    """Return the validation accuracy that a training ended with."""
    history: list[float] = done[trial].metrics["history"]["val_accuracy"]
    return float(history[-1])
