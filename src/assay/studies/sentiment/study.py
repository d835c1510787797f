"""How much fine-tuning does a sentence classifier need?

A pretrained encoder is used as it is (its frozen features read by classical classifiers, layer by
layer), through low-rank additions (LoRA, Hu et al. 2022), or with all of its weights trained; word
counts without any encoder are the floor. Settings are chosen on validation sentences alone: the
penalty of a classical classifier for each seed, the learning rate of a fine-tuning by short
trainings with a seed that no claim is judged on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator

from assay import stats
from assay.config import Number
from assay.errors import AssayError
from assay.models.adaptation import Full
from assay.models.textnet import TextNetwork
from assay.report.result import Drawing, Inputs, StudyResult
from assay.runs.results import Results
from assay.runs.trial import Cost, Trial
from assay.studies.base import Findings, Study
from assay.studies.cells import Cells
from assay.studies.measures import validation_accuracy
from assay.studies.sentiment import lead, page
from assay.studies.sentiment.methods import (
    COUNTS,
    FROZEN,
    FULL,
    LORA,
    READERS,
    READS,
    TREES,
    Tuned,
    everything,
    few,
)
from assay.tasks.read_text import ReadText
from assay.tasks.text_features import POOLS, TextFeatures
from assay.tasks.texts import part
from assay.tasks.train_text import TASK as TRAIN
from assay.tasks.train_text import TrainText, expected_seconds, settings
from assay.train import AdamW, Cosine, Recipe

SEARCHED = 1000
"""The seed of the short trainings by which learning rates are chosen."""


WHY = "Nobody would change how a classifier is made for less."
"""Why the smallest effect that matters is what it is."""


ALL_SENTENCES: Mapping[str, Any] = {
    "seeds": 5,
    "tuned_at": None,
    "search": 2000,
    "searched_on": None,
    "recipe": {
        "epochs": 3,
        "batch_size": 32,
        "optimizer": {"name": "adamw", "lr": 1e-4, "weight_decay": 0.01},
        "schedule": {"name": "cosine", "warmup": 0.1},
        "grad_clip": 1.0,
        "precision": "bfloat16",
    },
}
"""How `whole` and `full` train: on all sentences, at a rate chosen on 2,000."""


class Sentiment(Study):
    """Frozen features, LoRA and full fine-tuning of one encoder, over seeds and amounts of data."""

    NAME: ClassVar[str] = "sentiment"
    INPUTS: ClassVar[Inputs] = "texts"
    QUESTION: ClassVar[str] = "How much fine-tuning does a sentence classifier need?"
    METRICS: ClassVar[Sequence[str]] = ("test_accuracy", "test_loss", "calibration_error")
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "seeds": 2,
            "sizes": (60, 120),
            "tuned_at": 60,
            "test_texts": 100,
            "search": 40,
            "searched_on": 100,
            "all_texts": 200,
            "validation_texts": 100,
            "layers": False,
            "recipe": {"epochs": 1, "batch_size": 16},
        },
        "quick": {},
        "whole": {
            **ALL_SENTENCES,
            "sizes": (),
            "layers": False,
            "methods": (
                Tuned(title=FULL, adaptation=Full(), rates=(5e-5, 1e-4, 2e-4)).model_dump(
                    mode="json"
                ),
            ),
        },
        "full": {
            **ALL_SENTENCES,
            "methods": tuple(one.model_dump(mode="json") for one in everything()),
            "efficiency": True,
        },
    }

    data: str = "rotten_tomatoes"
    """Data set of texts: a name, a hub id, a folder or a file."""
    base: str = "minilm"
    """The encoder: minilm, a folder, or an id on the Hugging Face hub (distilbert-base-uncased)."""
    methods: tuple[Tuned, ...] = few()
    """The ways of fine-tuning."""
    sizes: tuple[int, ...] = (100, 500, 2000)
    """Numbers of training sentences that classical classifiers also learn from, besides all."""
    tuned_at: int | None = Field(default=2000, ge=10)
    """How many training sentences fine-tuning learns from, and claims are judged at; none: all."""
    efficiency: bool = False
    """Also fine-tune on each of `sizes`, as the first two methods do."""
    layers: bool = True
    """Read every layer of the frozen encoder."""
    search: int = Field(default=500, ge=10)
    """How many training sentences the short trainings learn from that choose a learning rate."""
    searched_on: int | None = Field(default=500, ge=10)
    """How many validation sentences they are judged by; none: all."""
    all_texts: int | None = Field(default=None, ge=10)
    """How many training sentences all of them are; none: all that there are."""
    validation_texts: int | None = Field(default=None, ge=10)
    """How many validation sentences classical classifiers are chosen by; none: all."""
    test_texts: int | None = Field(default=None, ge=10)
    """How many test sentences; none: all."""
    recipe: Recipe = Recipe(
        epochs=2,
        batch_size=32,
        optimizer=AdamW(lr=1e-4, weight_decay=0.01),
        schedule=Cosine(warmup=0.1),
        grad_clip=1.0,
        precision="bfloat16",
    )
    """How every method is trained, but for its learning rate."""
    delta: Number = Field(default=0.01, ge=0)
    """Smallest difference of accuracy that matters, as a fraction."""

    @field_validator("methods")
    @classmethod
    def _each_once(cls, methods: tuple[Tuned, ...]) -> tuple[Tuned, ...]:
        titles = [one.title for one in methods]
        if len(set(titles)) < len(titles):
            raise ValueError("every method must be there once")
        return methods

    def resolved(self) -> Self:
        made = super().resolved()
        if made.device != "cpu" and made.recipe.precision == "bfloat16":
            return made
        train = part(made.data, "train")
        most = max((*made.sizes, made.tuned_at or 0))
        if most > len(train):
            raise AssayError(f"{made.data} has {len(train):,} training texts, fewer than {most:,}")
        return made

    # -- trials ----------------------------------------------------------------------------------

    def features(self) -> Trial:
        """Return the trial that keeps the features of the frozen encoder."""
        config = TextFeatures(
            data=self.data,
            base=self.base,
            train_texts=None if self.layers else self.all_texts,
            seeds=None if self.layers or self.all_texts is None else self.seeds,
            validation_texts=self.validation_texts,
            test_texts=self.test_texts,
            threads=self.threads,
        )
        return config.trial(self.device, "frozen features")

    def training(self, method: Tuned, texts: int | None) -> TrainText:
        """Return a fine-tuning on so many sentences, at the first of its rates."""
        recipe = self.recipe.model_copy(update={"threads": self.threads})
        network = TextNetwork(base=self.base, adaptation=method.adaptation)
        return TrainText(
            data=self.data,
            network=network,
            recipe=at_rate(recipe, method.rates[0]),
            train_texts=self.all_texts if texts is None else texts,
            test_texts=self.test_texts,
            validated=False,
        )

    def searches(self) -> dict[str, list[Trial]]:
        """Return the short trainings that choose the learning rate of each method."""
        found = {}
        for method in self.methods:
            if len(method.rates) < 2:
                continue
            found[method.title] = [
                trial
                for rate in method.rates
                for trial in self.training(method, self.search)
                .model_copy(
                    update={
                        "recipe": at_rate(self.recipe, rate).model_copy(
                            update={"threads": self.threads}
                        ),
                        "validated": True,
                        "validation_texts": self.searched_on,
                        "tested": False,
                        "kept": False,
                    }
                )
                .trials((SEARCHED,), self.device, f"{method.title} at {rate:g}")
            ]
        return found

    def chosen(self, method: Tuned, done: Results) -> float | None:
        """Return the learning rate that validation chose, the lower of two alike; the first where
        there is one alone; None while one has not run, or if all failed."""
        searched = self.searches().get(method.title)
        if searched is None:
            return method.rates[0]
        if not all(trial in done or done.failure(trial) for trial in searched):
            return None
        scored = [
            (-validation_accuracy(done[trial]), rate)
            for trial, rate in zip(searched, method.rates, strict=True)
            if trial in done
        ]
        return min(scored)[1] if scored else None

    def trials(self, done: Results) -> dict[str, list[Trial]]:
        """Return the trials of every cell, a seed each. A cell is called as its method, and the
        number of sentences where they are others than `tuned_at`."""
        cells: dict[str, list[Trial]] = {}
        seeds = range(self.seeds)
        for place, method in enumerate(self.methods):
            rate = self.chosen(method, done) or method.rates[0]
            sizes = (*self.sizes, None) if self.efficiency and place < 2 else ()
            for size in dict.fromkeys((self.tuned_at, *sizes)):
                config = self.training(method, size)
                config = config.model_copy(update={"recipe": at_rate(config.recipe, rate)})
                name = self.cell(method.title, size)
                cells[name] = config.trials(seeds, self.device, name)
        features = self.features()
        for title, reader in READERS.items():
            for size in dict.fromkeys((self.tuned_at, *self.sizes, None)):
                config_of = ReadText(
                    data=self.data,
                    reader=reader,
                    layer=READS.get(title, -1),
                    train_texts=self.all_texts if size is None else size,
                    validation_texts=self.validation_texts,
                    test_texts=self.test_texts,
                )
                name = self.cell(title, size)
                needs = None if title == COUNTS else features
                cells[name] = config_of.trials(seeds, needs, name, self.threads)
        return cells

    def cell(self, title: str, size: int | None) -> str:
        """Return what a method is called where it learns from so many sentences."""
        if size == self.tuned_at:
            return title
        return f"{title}, {'all' if size is None else f'{size:,}'}"

    def probes(self, done: Results) -> dict[str, Trial]:
        """Return the trials that read each layer, by "pooling layer"; once that of the features has
        said how many there are."""
        features = self.features()
        if not self.layers or features not in done:
            return {}
        found = {}
        for pooling in POOLS:
            for layer in range(done[features].metrics["layers"]):
                config = ReadText(
                    data=self.data,
                    layer=layer,
                    pooling=pooling,
                    validation_texts=self.validation_texts,
                    test_texts=self.test_texts,
                )
                label = f"layer {layer}, {pooling}"
                found[f"{pooling} {layer}"] = config.trials((0,), features, label, self.threads)[0]
        return found

    def plan(self, done: Results) -> Sequence[Trial]:
        searched = [trial for trials in self.searches().values() for trial in trials]
        first = [self.features(), *searched]
        if not all(trial in done or done.failure(trial) for trial in first):
            return first
        cells = self.trials(done)
        tuned = [name for name in cells if name.split(", ")[0] not in READERS]
        by_seed = zip(*(cells[name] for name in tuned), strict=True)
        judged = [trial for name in READERS for trial in cells[name]]
        judged += [trial for seed in by_seed for trial in seed]
        rest = [trial for name in cells if name not in tuned for trial in cells[name]]
        return [*first, *judged, *self.probes(done).values(), *rest]

    def cost(self, trial: Trial) -> Cost | None:
        if trial.task != TRAIN:
            return None
        config = settings(trial)
        size = 91_000_000 if config.kept and config.network.adaptation.name == "full" else 2_000_000
        return Cost(expected_seconds(config), size)

    # -- what is made of them --------------------------------------------------------------------

    def findings(self, done: Results) -> Findings:
        cells = Cells(
            self.trials(done),
            done,
            chosen_by=self.searches(),
            there_are=len(part(self.data, "test")),
        )
        return Findings(
            effects=self.effects(cells),
            tables=page.tables(self, cells, done),
            figures=page.figures(self, cells, done),
            summary=page.summary(self, cells),
            notes=page.notes(self, cells),
        )

    def answer(self, claims: Sequence[stats.Claim]) -> str:
        return page.answer(self, claims)

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        return lead.figures_of(self, result)

    def effects(self, cells: Cells) -> tuple[stats.Effect, ...]:
        """Return what each claim rests on."""
        at = lead.amount(self.tuned_at)
        share = page.trained_share(cells, LORA)
        of = f", which trains {100 * share:.1f} % as many weights," if share else ""
        found = []
        titles = {method.title for method in self.methods}
        if FULL in titles:
            found.append(
                cells.difference(
                    "sentiment.tuning",
                    f"Full fine-tuning is more accurate than frozen features ({at}).",
                    FULL,
                    FROZEN,
                    "test_accuracy",
                    delta=self.delta,
                    why_delta=WHY,
                )
            )
        if {FULL, LORA} <= titles:
            found.append(
                cells.contrast(
                    "sentiment.lora",
                    f"LoRA{of} is as accurate as full fine-tuning ({at}).",
                    {LORA: 1.0, FULL: -1.0},
                    "test_accuracy",
                    delta=self.delta,
                    asks="equivalent",
                    why_delta=WHY,
                )
            )
        found += [
            cells.difference(
                "sentiment.trees",
                f"On frozen features logistic regression beats a random forest ({at}).",
                FROZEN,
                TREES,
                "test_accuracy",
                delta=self.delta,
                why_delta=WHY,
            ),
            cells.difference(
                "sentiment.counts",
                f"Frozen features beat TF-IDF, both with logistic regression ({at}).",
                FROZEN,
                COUNTS,
                "test_accuracy",
                delta=self.delta,
                why_delta=WHY,
            ),
        ]
        return tuple(found)


def at_rate(recipe: Recipe, rate: float) -> Recipe:
    """Return the recipe at another learning rate."""
    return recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": rate})})
