"""The study of fine-tuning, run for real with a tiny encoder on made-up sentences."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from contract.tiny import encoder_folder

from assay.errors import AssayError
from assay.models.adaptation import Full, LoRA
from assay.models.text import load_text
from assay.report.result import StudyResult
from assay.runs.engine import execute
from assay.runs.results import Results
from assay.runs.store import Store
from assay.studies.sentiment import Sentiment
from assay.studies.sentiment.lead import AMOUNTS
from assay.studies.sentiment.methods import FROZEN, FULL, LAYERED, LORA, READERS, Tuned
from assay.tasks.read_text import Forest, LinearSVM, Logistic, ReadText, WordCounts
from assay.tasks.text_features import FILE, TextFeatures, read_features
from assay.tasks.texts import part
from assay.train import AdamW, Recipe
from assay.workflows import run as running

WORDS = ["the", "film", "is", "very", "and", "plot", "acting"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder, and sentences that one word decides."""
    made = tmp_path_factory.mktemp("sentiment")
    encoder_folder(made / "encoder")
    (made / "films").mkdir()
    for name, count, start in (("train", 200, 0), ("validation", 60, 1000), ("test", 80, 2000)):
        with (made / "films" / f"{name}.csv").open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(("text", "label"))
            for k in range(start, start + count):
                words = [WORDS[(k * 7 + j) % len(WORDS)] for j in range(2 + k % 9)]
                words.insert(k % len(words), "good" if k % 2 else "bad")
                writer.writerow((" ".join(words), "pos" if k % 2 else "neg"))
    return made


@pytest.fixture(scope="module")
def study(folder: Path) -> Sentiment:
    return Sentiment(
        data=str(folder / "films"),
        base=str(folder / "encoder"),
        seeds=2,
        device="cpu",
        sizes=(40,),
        tuned_at=120,
        search=60,
        methods=(
            Tuned(title=FULL, adaptation=Full(), rates=(1e-2, 2e-2)),
            Tuned(title=LORA, adaptation=LoRA(rank=4), rates=(1e-2,)),
        ),
        recipe=Recipe(epochs=8, batch_size=16, optimizer=AdamW()),
    )


@pytest.fixture(scope="module")
def store(study: Sentiment, tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("store")
    assert running.run(study, root, workers=1, progress=False) == 0
    return Store(root)


def results(study: Sentiment, store: Store) -> Results:
    """Return what the store holds already."""
    return execute(study.plan, store, progress=False)


def test_the_study_ends_with_its_four_claims(store: Store) -> None:
    (file,) = store.root.glob("studies/*/result.json")
    result = StudyResult.model_validate_json(file.read_text())
    codes = [claim.code for claim in result.claims]
    assert codes == ["sentiment.tuning", "sentiment.lora", "sentiment.trees", "sentiment.counts"]
    by_code = {claim.code: claim for claim in result.claims}
    # one word decides: random features of a random encoder say little of it, its training much
    assert by_code["sentiment.tuning"].estimate.value > 0.1
    assert {table.title for table in result.tables} == {
        "The methods",
        "More data",
        "The learning rate of each method",
        "Layer by layer",
    }
    assert len(result.figures) == 4
    assert all(trial.status == "done" for trial in result.trials)


def test_one_amount_of_data_makes_no_curve_over_amounts(study: Sentiment, store: Store) -> None:
    whole = study.model_copy(update={"sizes": ()})
    found = whole.findings(results(study, store))
    assert {drawing.title for drawing in found.figures}.isdisjoint({AMOUNTS})
    assert "More data" not in {table.title for table in found.tables}
    assert AMOUNTS in {drawing.title for drawing in study.findings(results(study, store)).figures}


def test_the_rate_is_the_best_on_validation(study: Sentiment, store: Store) -> None:
    done = results(study, store)
    method = study.methods[0]
    searched = study.searches()[FULL]
    reached = [done[trial].metrics["history"]["val_accuracy"][-1] for trial in searched]
    assert len(reached) == 2
    assert study.chosen(method, done) == method.rates[reached.index(max(reached))]
    used = {trial.config["recipe"]["optimizer"]["lr"] for trial in study.trials(done)[FULL]}
    assert used == {study.chosen(method, done)}
    assert all("test_accuracy" not in done[trial].metrics for trial in searched)


def test_a_kept_model_answers_as_it_was_tested(study: Sentiment, store: Store) -> None:
    done = results(study, store)
    for name in (FULL, LORA):
        run = done[study.trials(done)[name][0]]
        clf = load_text(run.path("model.safetensors"))
        test = part(study.data, "test")
        right = clf.predict(list(test.texts)) == test.labels
        assert right.tolist() == run.arrays["test_correct"].tolist()


def test_seeds_draw_their_own_sentences_and_larger_samples_hold_smaller(
    study: Sentiment, store: Store
) -> None:
    done = results(study, store)
    cells = study.trials(done)
    marks = [trial.data["films/train"] for trial in cells[FROZEN]]
    assert len(set(marks)) == 2
    assert marks == [trial.data["films/train"] for trial in cells[FULL]], "paired"
    few, many = (part(study.data, "train", n, seed=1) for n in (40, 120))
    assert few.texts == many.texts[:40]
    assert set(READERS) <= set(cells)


@pytest.mark.parametrize("reader", [Logistic(), LinearSVM(), Forest(trees=20), WordCounts()])
def test_a_reader_is_tuned_on_validation_and_tested_once(
    study: Sentiment, store: Store, reader: object, tmp_path: Path
) -> None:
    from assay.runs.worker import Workspace
    from assay.tasks.read_text import read

    done = results(study, store)
    features = study.features()
    config = ReadText.model_validate({"data": study.data, "reader": reader})
    (trial,) = config.trials((0,), features, "one")
    outcome = read(trial, Workspace(tmp_path, (done[features],)))
    scores = outcome.metrics["validation_accuracies"]
    grid = config.reader.grid
    assert outcome.metrics["chosen"] == grid[scores.index(max(scores))]
    assert outcome.metrics["n_test"] == 80
    again = read(trial, Workspace(tmp_path / "again", (done[features],)))
    assert again.metrics == outcome.metrics
    assert all((again.arrays[k] == v).all() for k, v in outcome.arrays.items())
    if isinstance(config.reader, WordCounts):
        assert outcome.metrics["test_accuracy"] > 0.9


def test_all_layers_are_read_side_by_side(study: Sentiment, store: Store) -> None:
    done = results(study, store)
    path = done[study.features()].path(FILE)
    layers = [read_features(path, at, "mean")["test"]["x"] for at in range(3)]
    assert torch.equal(read_features(path, "all", "mean")["test"]["x"], torch.cat(layers, 1))
    (trial, *_) = study.trials(done)[LAYERED]
    assert trial.config["layer"] == "all"
    assert done[trial].metrics["parameters"] == layers[0].shape[1] * 3 + 1
    assert {trial.config["layer"] for trial in study.trials(done)[FROZEN]} == {-1}


def test_whole_tunes_everything_alone_on_all_sentences(folder: Path) -> None:
    made_up = {"data": str(folder / "films"), "base": str(folder / "encoder"), "search": 60}
    whole = Sentiment.parse({**Sentiment.preset_values("whole"), **made_up})
    assert [(one.title, one.adaptation) for one in whole.methods] == [(FULL, Full())]
    rates = whole.methods[0].rates
    cells = whole.trials(Results())  # before anything has run: at the lowest of the rates
    assert set(cells) == {FULL, *READERS}
    assert {len(trials) for trials in cells.values()} == {5}
    for trials in cells.values():
        assert [trial.seed for trial in trials] == list(range(5))
        assert all(trial.config.get("train_texts") is None for trial in trials), "all sentences"
        assert all(trial.config.get("test_texts") is None for trial in trials)
    searched = whole.searches()[FULL]
    for trial in (*searched, *cells[FULL]):
        recipe = trial.config["recipe"]
        assert (recipe["precision"], recipe["epochs"]) == ("bfloat16", 3)
    assert [trial.config["recipe"]["optimizer"]["lr"] for trial in searched] == list(rates)
    assert {trial.config["train_texts"] for trial in searched} == {60}
    assert all(trial.config.get("validation_texts") is None for trial in searched)
    assert not whole.layers
    assert not whole.efficiency


def test_more_sentences_than_there_are_is_said(study: Sentiment) -> None:
    with pytest.raises(AssayError, match="has 200 training texts, fewer than 5,000"):
        study.model_copy(update={"sizes": (5000,)}).resolved()


def test_features_of_what_several_seeds_draw(folder: Path) -> None:
    films = str(folder / "films")
    config = TextFeatures(data=films, train_texts=20, seeds=3, validation_texts=10)
    ids = set(config.part("train").ids.tolist())
    assert ids == {k for seed in range(3) for k in part(films, "train", 20, seed).ids.tolist()}
    assert 20 < len(ids) <= 60
    assert len(config.part("validation")) == 10
