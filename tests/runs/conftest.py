"""What the tests of runs share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from assay.runs.store import Store
from assay.runs.trial import Trial

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
