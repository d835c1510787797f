"""What the tests of runs share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from stores import study

from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.runs.worker import work

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def _toy_tasks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def toy():
    """Makes a trial of toy_tasks: toy("walk", seed=1, epochs=3)."""

    def make(task: str, *, seed: int = 0, label: str = "", needs: Any = (), **config: Any) -> Trial:
        threads = config.pop("threads", 1)
        return Trial(
            task=f"toy_tasks:{task}",
            config=config,
            seed=seed,
            needs=tuple(needs),
            label=label,
            threads=threads,
        )

    return make


@pytest.fixture
def python() -> list[str]:
    """The beginning of a command that runs a script where toy_tasks can be imported."""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n"]


@pytest.fixture
def full(store, toy):
    """A store with a study of two trials, the trial that both need, and one of nobody's."""
    need = toy("walk", epochs=1)
    walks = [toy("walk", seed=seed, epochs=2, needs=[need]) for seed in (1, 2)]
    for trial in (need, *walks, toy("walk", seed=9, epochs=1)):
        assert work(store, trial, lambda _: None, again=False).kind == "done"
    study(store, walks)
    return store
