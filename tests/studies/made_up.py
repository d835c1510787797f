"""Results made by hand, for judging claims without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from assay.studies.cells import Cells


def fake(
    accuracy: float, train: float = 0.5, *, collapsed: bool = False, **more: Any
) -> SimpleNamespace:
    """Return what stands for a trial's result."""
    metrics = {
        "test_accuracy": accuracy,
        "train_accuracy": train,
        "train_loss": 1 - train,
        "n_test": 10_000,
        "n_train": 45_000,
        "collapsed": collapsed,
    }
    return SimpleNamespace(metrics=metrics, arrays=more)


class Done(dict[str, Any]):
    """What stands for `Results`: a run that is a text failed, with that reason."""

    def get(self, trial: str, default: Any = None) -> Any:
        found = super().get(trial, default)
        return None if isinstance(found, str) else found

    def failure(self, trial: str) -> str | None:
        found = super().get(trial)
        return found if isinstance(found, str) else None


def cells(runs: Mapping[str, Sequence[Any]]) -> Cells:
    """Return cells with these runs: results, texts for failed ones, None for those not run."""
    trials = {cell: [f"{cell}, {k}" for k in range(len(found))] for cell, found in runs.items()}
    done = Done({f"{c}, {k}": run for c, found in runs.items() for k, run in enumerate(found)})
    return Cells(trials, done)  # type: ignore[arg-type]
