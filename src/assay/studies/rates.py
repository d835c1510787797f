"""A learning rate for each cell: short trainings at every rate of a grid, judged on validation.

One rate for all cells measures how fast each of them fits at that rate. A deep plain network may
want another than one with skip connections; the choice is made on validation images, by trainings
with a seed that no claim is judged on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, field_validator

from assay.config import Config, Number
from assay.report.result import Cell, Table
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.studies.measures import validation_accuracy
from assay.tasks.train import TrainNetwork

Rate = Annotated[Number, Field(gt=0)]


class RateGrid(Config):
    """The learning rates that every cell is trained with for a short while beforehand."""

    rates: tuple[Rate, ...] = Field(default=(0.05, 0.15, 0.45), min_length=2)
    """Highest learning rates of the schedule, rising."""
    epochs: int = Field(default=3, ge=1)
    """Passes over the training data of each short training, on the whole schedule."""
    seed: int = Field(default=1000, ge=0)
    """Seed of these short trainings; not one of those that the study is judged on."""

    @field_validator("rates")
    @classmethod
    def _rise(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if list(rates) != sorted(set(rates)):
            raise ValueError(f"the rates must rise, each there once; got {list(rates)}")
        return rates

    def trials(
        self, cell: str, config: TrainNetwork, device: str, marks: Mapping[int, Mapping[str, str]]
    ) -> list[Trial]:
        """Return the short trainings of a cell, one for each rate."""
        found = []
        for rate in self.rates:
            tuned = at_rate(config, rate)
            recipe = tuned.recipe.model_copy(update={"epochs": self.epochs})
            short = tuned.model_copy(update={"recipe": recipe, "watch": None})
            found += short.trials((self.seed,), device, f"{cell} at {rate:g}", marks)
        return found

    def validated(self, trials: Sequence[Trial], done: Results) -> list[float | None] | None:
        """Return the validation accuracy at each rate, None where a training failed; or None while
        there are trials that have not run."""
        if not all(trial in done or done.failure(trial) for trial in trials):
            return None
        return [validation_accuracy(done[trial]) if trial in done else None for trial in trials]

    def best(self, validated: Sequence[float | None]) -> float | None:
        """Return the rate of the highest accuracy, the lower of two alike; None if all failed."""
        scored = zip(validated, self.rates, strict=True)
        known = [(-accuracy, rate) for accuracy, rate in scored if accuracy is not None]
        return min(known)[1] if known else None


def at_rate(config: TrainNetwork, rate: float) -> TrainNetwork:
    """Return a training at another learning rate."""
    optimizer = config.recipe.optimizer.model_copy(update={"lr": rate})
    recipe = config.recipe.model_copy(update={"optimizer": optimizer})
    return config.model_copy(update={"recipe": recipe})


def rates_table(grid: RateGrid, searched: Mapping[str, Sequence[Trial]], done: Results) -> Table:
    """Return the validation accuracy of each cell at each rate, the chosen one marked."""
    rows = []
    for cell, trials in searched.items():
        validated = grid.validated(trials, done) or [None] * len(trials)
        chosen = grid.best(validated)
        shown = ["failed" if one is None else f"{100 * one:.1f} %" for one in validated]
        marked = [
            Cell(text=text, mark="best" if rate == chosen else None)
            for text, rate in zip(shown, grid.rates, strict=True)
        ]
        rows.append((Cell(text=cell), *marked))
    return Table(
        title="The learning rate of each cell",
        columns=("network", *(f"{rate:g}" for rate in grid.rates)),
        rows=tuple(rows),
        caption=f"Validation accuracy after {grid.epochs} epochs on the whole schedule, one run at "
        f"each highest learning rate (seed {grid.seed}, on which no claim is judged); the best is "
        "the rate that the cell is then trained with, the lower of two alike.",
    )
