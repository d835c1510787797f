"""What the page of the study `sentiment` shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from assay import stats
from assay.report import figures as draw
from assay.report.result import Cell, Drawing, Table
from assay.runs.entry import Result
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.studies.answers import Wording, compose, points
from assay.studies.cells import Cells, Column
from assay.studies.measures import validation_accuracy
from assay.studies.sentiment.lead import (
    AMOUNTS,
    COLOURS,
    DATA,
    DEPTHS,
    LAYERS,
    METHODS,
    amount,
)
from assay.studies.sentiment.methods import READERS
from assay.tasks.text_features import POOLS

if TYPE_CHECKING:
    from assay.studies.sentiment.study import Sentiment


def main(study: Sentiment, cells: Cells) -> list[str]:
    """Return the cells at the number of sentences that claims are judged at."""
    titles = [method.title for method in study.methods] + list(READERS)
    return [title for title in titles if title in cells.names]


def trained_share(cells: Cells, name: str) -> float:
    """Return which share of all weights a method trains; 0 where it is not known yet."""
    runs = cells.finished(name) if name in cells.names else []
    if not runs:
        return 0.0
    return float(runs[0].metrics["parameters"] / runs[0].metrics["parameters_in_all"])


def tables(study: Sentiment, cells: Cells, done: Results) -> tuple[Table, ...]:
    """Return the methods, what more data does, the learning rates tried, and the layers."""
    found = [_methods(study, cells, done)]
    if study.sizes:
        found.append(_data(study, cells))
    if study.searches():
        found.append(_rates(study, done))
    if study.probes(done):
        found.append(_layers(study, done))
    return tuple(found)


def figures(study: Sentiment, cells: Cells, done: Results) -> tuple[Drawing, ...]:
    """Return accuracy against data, and layer by layer; `lead` draws what its tables say."""
    drawings: list[Drawing] = []
    curves = [line for title in _curved(study) if (line := _line(study, cells, title))]
    if curves and study.sizes:
        drawings.append(
            Drawing(
                title=AMOUNTS,
                caption="Mean over seeds, with the range from the least to the greatest seed. "
                "Ticks are not to scale: each step has more sentences.",
                svg=draw.inline_svg(
                    draw.learning_curves(curves, x_label=_ticks(study), y_label="test accuracy")
                ),
                role="why",
            )
        )
    layers = _by_layer(study, done)
    if layers:
        drawings.append(
            Drawing(
                title=DEPTHS,
                caption="Test accuracy of a logistic regression on the frozen features of each "
                "layer, all training sentences; 0 is the embeddings, before any attention.",
                svg=draw.inline_svg(
                    draw.learning_curves(layers, x_label="layer", y_label="test accuracy")
                ),
                role="why",
            )
        )
    return tuple(drawings)


def answer(study: Sentiment, claims: Sequence[stats.Claim]) -> str:
    """Return what the verdicts answer."""
    test = points("test accuracy")
    at = amount(study.tuned_at)
    return compose(
        claims,
        {
            "sentiment.tuning": Wording(
                f"With {at} full fine-tuning beats frozen features",
                f"With {at} full fine-tuning does not beat frozen features",
                f"full fine-tuning beats frozen features with {at}",
                test,
            ),
            "sentiment.lora": Wording(
                "LoRA is as accurate as full fine-tuning",
                "LoRA is not as accurate as full fine-tuning",
                "LoRA is as accurate as full fine-tuning",
                test,
            ),
            "sentiment.trees": Wording(
                "On frozen features logistic regression beats a random forest",
                "On frozen features logistic regression does not beat a random forest",
                "logistic regression beats a random forest on frozen features",
                test,
            ),
            "sentiment.counts": Wording(
                "Frozen features beat TF-IDF",
                "Frozen features do not beat TF-IDF",
                "frozen features beat TF-IDF",
                test,
            ),
        },
    )


def summary(study: Sentiment, cells: Cells) -> str:
    """Return the accuracy of the best method and of the simplest."""
    best = cells.best("test_accuracy", "highest", main(study, cells))
    if best is None:
        return "No run has finished."
    return f"{best} reaches {cells.mean(best, 'test_accuracy').percent()} test accuracy."


def notes(study: Sentiment, cells: Cells) -> tuple[str, ...]:
    """Return what a reader must know."""
    found = [
        f"Everything is chosen on validation sentences: the learning rate of each method by short "
        f"trainings on {study.search:,} sentences with a seed that no claim is judged on, the "
        "penalty of each classical classifier for each seed. Test sentences are used once.",
        f"Fine-tuning is {study.recipe.epochs} epochs of {study.recipe.optimizer.name} in batches "
        f"of {study.recipe.batch_size}, computed in {study.recipe.precision}; sentences are put "
        "together by length, so that there is hardly any padding.",
        "With all training sentences the linear classifiers are the same for every seed: what "
        "differs there is the forest alone.",
    ]
    if study.preset != "full":
        found.append(
            "Preset full (5 seeds, all sentences, BitFit, LoRA of other ranks and of attention "
            "alone) has not been run for this page."
        )
    treated = {
        line
        for name in main(study, cells)
        for run in cells.finished(name)
        for line in run.metrics.get("treated", ())
    }
    found += [f"Of the test sentences: {line}." for line in sorted(treated)]
    return tuple(found)


def _methods(study: Sentiment, cells: Cells, done: Results) -> Table:
    return cells.table(
        METHODS,
        (
            Column("test accuracy", "test_accuracy", best="highest"),
            Column("test loss", _maybe("test_loss"), "number", best="lowest"),
            Column("calibration error", _maybe("calibration_error")),
        ),
        cells=main(study, cells),
        heading="method",
        caption=f"Learnt from {amount(study.tuned_at)}. Frozen features are the mean over tokens "
        "of the last layer; of all layers, their means side by side. Calibration error: ECE of 15 "
        "bins on test sentences (Guo et al. 2017); an SVM gives no probabilities. Peak memory is "
        "that of the whole process, libraries included.",
        more={
            "trained parameters": lambda name: _count(cells, name),
            "of all weights": lambda name: _of_all(cells, name),
            "seconds": lambda name: _span(_seconds(study, cells, done, name)),
            "peak memory, MB": lambda name: _span(
                [run.record["peak_memory"] / 1e6 for run in cells.kept(name)]
            ),
        },
    )


def _data(study: Sentiment, cells: Cells) -> Table:
    sizes = tuple(dict.fromkeys((*study.sizes, None)))
    titles = _curved(study)
    rows = []
    for title in titles:
        row: list[Cell] = [Cell(text=title)]
        for size in sizes:
            name = study.cell(title, size)
            known = name in cells.names and cells.kept(name)
            row.append(Cell(estimate=cells.mean(name, "test_accuracy")) if known else Cell(text=""))
        rows.append(tuple(row))
    return Table(
        title=DATA,
        columns=("method", *("all" if size is None else f"{size:,}" for size in sizes)),
        rows=tuple(rows),
        caption="Test accuracy by number of training sentences, mean over seeds with its 95 % "
        "interval. A seed's larger samples hold its smaller ones.",
    )


def _rates(study: Sentiment, done: Results) -> Table:
    rows = []
    for method in study.methods:
        searched = study.searches().get(method.title)
        if searched is None:
            continue
        chosen = study.chosen(method, done)
        for rate, trial in zip(method.rates, searched, strict=True):
            found = f"{100 * validation_accuracy(done[trial]):.1f} %" if trial in done else "failed"
            mark = "best" if rate == chosen else None
            rows.append((method.title, f"{rate:g}", Cell(text=found, mark=mark)))
    return Table(
        title="The learning rate of each method",
        columns=("method", "learning rate", "validation accuracy"),
        rows=tuple(tuple(Cell.model_validate(cell) for cell in row) for row in rows),
        caption=f"After {study.recipe.epochs} epochs on {study.search:,} training sentences, one "
        "run each; the best is what the method is then trained with, the lower of two alike.",
    )


def _layers(study: Sentiment, done: Results) -> Table:
    probes = study.probes(done)
    count = len(probes) // len(POOLS)
    return Table(
        title=LAYERS,
        columns=("features", *(str(layer) for layer in range(count))),
        rows=tuple(
            (
                Cell(text={"mean": "mean over tokens", "first": "first token (CLS)"}[pooling]),
                *(_accuracy(done, probes[f"{pooling} {layer}"]) for layer in range(count)),
            )
            for pooling in POOLS
        ),
        caption="Test accuracy of a logistic regression on frozen features, all training "
        "sentences, with Wilson's interval over test sentences; 0 is the embeddings.",
    )


def _accuracy(done: Results, trial: Trial) -> Cell:
    run = done.get(trial)
    if run is None:
        return Cell(text="no result")
    n = run.metrics["n_test"]
    right = round(run.metrics["test_accuracy"] * n)
    return Cell(estimate=stats.proportion(right, n, "test sentences"))


def _by_layer(study: Sentiment, done: Results) -> list[draw.Series]:
    probes = study.probes(done)
    count = len(probes) // len(POOLS)
    lines = []
    for colour, pooling in enumerate(POOLS):
        runs = [done.get(probes[f"{pooling} {layer}"]) for layer in range(count)]
        if count and all(run is not None for run in runs):
            y = [run.metrics["test_accuracy"] for run in runs if run is not None]
            label = {"mean": "mean", "first": "CLS"}[pooling]
            lines.append(draw.Series(label, list(range(count)), y, colour=colour))
    return lines


def _curved(study: Sentiment) -> list[str]:
    tuned = [method.title for method in study.methods[:2]] if study.efficiency else []
    return [*tuned, *READERS]


def _line(study: Sentiment, cells: Cells, title: str) -> draw.Series | None:
    """Return accuracy over the numbers of training sentences, in steps."""
    sizes = tuple(dict.fromkeys((*study.sizes, None)))
    names = [study.cell(title, size) for size in sizes]
    if not all(name in cells.names and cells.kept(name) for name in names):
        return None
    values = [[run.metrics["test_accuracy"] for run in cells.kept(name)] for name in names]
    return draw.Series(
        title,
        list(range(1, len(sizes) + 1)),
        [_mean(some) for some in values],
        [min(some) for some in values],
        [max(some) for some in values],
        colour=COLOURS.get(title, 4),
    )


def _ticks(study: Sentiment) -> str:
    sizes = [*(f"{size:,}" for size in study.sizes), "all"]
    return "training sentences: " + ", ".join(f"{k} = {s}" for k, s in enumerate(sizes, start=1))


def _seconds(study: Sentiment, cells: Cells, done: Results, name: str) -> list[float]:
    """Return what each run took to learn: training, or fitting and its share of the features."""
    shared = done.get(study.features())
    found = []
    for run in cells.kept(name):
        timings = run.record.get("timings", {})
        if "training" in timings:
            found.append(float(timings["training"]))
        elif "fitting" in timings:
            share = 0.0
            if shared is not None and run.trial.needs:
                whole = float(shared.record["timings"]["train"])
                share = whole * run.metrics["n_train"] / shared.metrics["n_train"]
            found.append(float(timings["fitting"]) + share)
    return found


def _maybe(metric: str) -> Callable[[Result], float]:
    def value(run: Result) -> float:
        return float(run.metrics.get(metric, math.nan))

    return value


def _count(cells: Cells, name: str) -> str:
    runs = cells.kept(name)
    return f"{_mean([run.metrics['parameters'] for run in runs]):,.0f}" if runs else ""


def _of_all(cells: Cells, name: str) -> str:
    runs = cells.kept(name)
    if not runs or "parameters_in_all" not in runs[0].metrics:
        return ""
    return f"{100 * trained_share(cells, name):.2g} %"


def _span(values: Sequence[float]) -> str:
    mean = _mean(values)
    return "" if not values else f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
