"""What most studies are: a grid of trainings, each repeated over seeds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from assay.errors import AssayError
from assay.runs.results import Results
from assay.runs.trial import Cost, Trial
from assay.studies.base import Study
from assay.studies.cells import Cells
from assay.studies.rates import RateGrid, at_rate
from assay.tasks.images import BY_SEED, apart, how_many
from assay.tasks.train import TASK, TrainNetwork, settings, split
from assay.tasks.train_time import expected_seconds
from assay.train import Recipe


class CellStudy(Study):
    """A study of cells: each a training, repeated over seeds."""

    recipe: Recipe = Recipe()
    """How every cell is trained."""
    train_images: int | None = Field(default=None, ge=10)
    """How many training images are used; none: all."""
    test_images: int | None = Field(default=None, ge=10)
    """How many test images are used; none: all."""
    images_by_seed: bool = False
    """Each seed draws these subsets anew, so that claims are about images in general, not about
    those of one draw; presets do."""
    rates: RateGrid | None = None
    """Choose a learning rate for each cell on validation beforehand; none: the recipe's for all."""

    @model_validator(mode="after")
    def _rates_are_chosen_apart(self) -> Self:
        if self.rates is not None and self.rates.seed < self.seeds:
            raise ValueError(
                f"rates.seed {self.rates.seed} is one of the {self.seeds} seeds that are judged: "
                f"give one of {self.seeds} or more"
            )
        return self

    @classmethod
    def preset_values(cls, preset: str) -> dict[str, Any]:
        return {BY_SEED: True, **super().preset_values(preset)}

    @abstractmethod
    def grid(self) -> Mapping[str, TrainNetwork]:
        """Return the training of each cell by the cell's name, those that take longest first."""

    def trainings(self) -> dict[str, TrainNetwork]:
        """Return the grid, with images drawn as the study says."""
        return {cell: self.drawn(config) for cell, config in self.grid().items()}

    def drawn(self, config: TrainNetwork) -> TrainNetwork:
        """Return a training whose images are drawn as the study says."""
        return config.model_copy(update={BY_SEED: self.images_by_seed or None})

    def trials(self, done: Results | None = None) -> dict[str, list[Trial]]:
        """Return the trials of each cell, one per seed; with `rates`, at the rate chosen by what is
        done, and at the recipe's where nothing is chosen yet."""
        seeds = range(self.seeds)
        marked, searched = self._marks(seeds), self.searches()
        found = {}
        for cell, config in self.trainings().items():
            chosen = (
                self.chosen_rate(searched[cell], done) if done is not None and searched else None
            )
            tuned = config if chosen is None else at_rate(config, chosen)
            found[cell] = tuned.trials(seeds, self.device, cell, marked[cell])
        return found

    def on_seeds(self, seeds: Sequence[int]) -> dict[str, list[Trial]]:
        """Return the trials of each cell on any seeds, at the recipe's learning rate."""
        marked = self._marks(seeds)
        return {
            cell: config.trials(seeds, self.device, cell, marked[cell])
            for cell, config in self.trainings().items()
        }

    def searches(self) -> dict[str, list[Trial]]:
        """Return the trials by which each cell's learning rate is chosen; empty without `rates`."""
        if self.rates is None:
            return {}
        marked = self._marks([self.rates.seed])
        return {
            cell: self.rates.trials(cell, config, self.device, marked[cell])
            for cell, config in self.trainings().items()
        }

    def chosen_rate(self, searched: Sequence[Trial], done: Results) -> float | None:
        """Return the rate that these trials chose; None while one has not run, or if all failed."""
        validated = self.rates.validated(searched, done) if self.rates else None
        return self.rates.best(validated) if self.rates and validated else None

    def _marks(self, seeds: Sequence[int]) -> dict[str, dict[int, dict[str, str]]]:
        """Return the fingerprints of what each cell reads, by seed; each data set once."""
        marks: dict[tuple[Any, ...], dict[int, dict[str, str]]] = {}
        found = {}
        for cell, config in self.trainings().items():
            reads = (config.data, config.train_images, config.test_images)
            if reads not in marks:
                marks[reads] = config.fingerprints(seeds)
            found[cell] = marks[reads]
        return found

    def resolved(self) -> Self:
        made = super().resolved()
        largest = next(iter(made.grid().values()))
        check_data(largest)
        return made.model_copy(update={"recipe": largest.settled(made.device)})

    def plan(self, done: Results) -> Sequence[Trial]:
        searched = [trial for cell in self.searches().values() for trial in cell]
        if not all(trial in done or done.failure(trial) for trial in searched):
            return searched
        return [*searched, *self.judged(done)]

    def judged(self, done: Results) -> Sequence[Trial]:
        """Return what is run once every cell has its learning rate."""
        return [trial for seed in zip(*self.trials(done).values(), strict=True) for trial in seed]

    def cells(self, done: Results) -> Cells:
        """Return the results so far. What is known of a seed by one number (a loss, a gradient, the
        accuracy on training images) is of the images that it was trained on."""
        configs = list(self.trainings().values())
        return Cells(
            self.trials(done),
            done,
            chosen_by=self.searches(),
            images_drawn=self.images_by_seed
            and all(
                apart(
                    config.train_images,
                    self.seeds,
                    how_many(config.data, "train", size=config.size),
                )
                for config in configs
            ),
            there_are=how_many(configs[0].data, "test", size=configs[0].size),
        )

    def cost(self, trial: Trial) -> Cost | None:
        if trial.task != TASK:
            return None
        return Cost(expected_seconds(settings(trial), trial.device), 2_000_000)


def check_data(config: TrainNetwork) -> None:
    """Refuse a data set that no network can learn from, before anything is run.

    Raises:
        AssayError: for a data set without labels or with one class, one with a class that is
            missing from the images chosen for training or test, or fewer images than a batch.
    """
    for name in ("train", "test"):
        part = split(config, name)
        there = set(part.labels.tolist())
        if len(part.classes) < 2:
            raise AssayError(
                f"{config.data} has {len(part.classes)} class"
                f"{'es' if not part.classes else ''}; a study of classifiers needs two or more"
            )
        missing = [c for k, c in enumerate(part.classes) if k not in there]
        if missing:
            raise AssayError(
                f"{config.data} ({name}): {len(missing)} of {len(part.classes)} classes have no "
                f"image among the {len(part)} used, {missing[0]!r} for one; use more images "
                "or a data set that has them"
            )
        if name == "train" and len(part) < config.recipe.batch_size:
            raise AssayError(
                f"{config.data} (train): {len(part)} images are fewer than one batch of "
                f"{config.recipe.batch_size}; use more images or a smaller --recipe.batch-size"
            )
