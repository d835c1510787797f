"""The regularization study, run for real on a few digits, and its claims on results by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assay import stats
from assay.errors import AssayError
from assay.models import MLP
from assay.models.autoencoder import MLPAutoencoder
from assay.report.result import StudyResult
from assay.runs.entry import Failure
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.studies.interim import analyses_now
from assay.studies.measures import calibration_error, gap, validation_accuracy
from assay.studies.regularization import Regularization, page
from assay.studies.regularization.variants import NONE
from assay.tasks.autoencode import Autoencoding
from assay.tasks.feature_space import FeatureSpace
from assay.train import AdamW, Recipe
from assay.workflows import run as running
from studies.made_up import cells as made_up
from studies.made_up import fake

TINY = Regularization(
    preset="smoke",
    data="digits",
    seeds=1,
    network=MLP(widths=(32,)),
    train_images=100,
    test_images=100,
    device="cpu",
    recipe=Recipe(epochs=4, batch_size=20, optimizer=AdamW(lr=1e-2, weight_decay=0)),
    features=FeatureSpace(
        learning=Autoencoding(network=MLPAutoencoder(widths=(16,), code=8), epochs=2)
    ),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which the tiny study was run once."""
    root = tmp_path_factory.mktemp("store")
    assert running.run(TINY, root, workers=1, progress=False) == 0
    return Store(root)


@pytest.fixture(scope="module")
def done(store: Store) -> Results:
    """What was run, as the study is given it."""
    found = Results()
    for entry in store.trials():
        found.trials[entry.trial.address] = entry.trial
        result = entry.result()
        assert result is not None
        found.keep(result)
    return found


class TestARun:
    def test_every_variant_is_there_and_takes_the_same_steps(self, done: Results) -> None:
        cells = TINY.cells(done)
        assert len(cells.names) == len(TINY.variants()) + 1 == 15
        steps = {cells.finished(name)[0].metrics["history"]["steps"] for name in cells.names}
        assert steps == {4 * 5}
        autoencoders = [t for t in done.trials.values() if t.label == "autoencoder"]
        assert len(autoencoders) == 1, "three methods, and maybe the best two, share it"
        assert len(done) == 16

    def test_every_variant_differs_in_what_it_says(self, done: Results) -> None:
        cells = TINY.cells(done)
        losses = {
            name: cells.finished(name)[0].metrics["history"]["train_loss"][0]
            for name in cells.names
        }
        assert len({f"{loss:.4f}" for loss in losses.values()}) == 15

    def test_the_best_two_were_chosen_by_validation_accuracy(self, done: Results) -> None:
        cells = TINY.cells(done)
        kinds = {variant.name: variant.kind for variant in TINY.variants()}
        reached = {
            name: cells.finished(name)[0].metrics["history"]["val_accuracy"][-1]
            for name in kinds
            if name != NONE
        }
        first = max(reached, key=lambda name: reached[name])
        others = {n: value for n, value in reached.items() if kinds[n] != kinds[first]}
        second = max(others, key=lambda name: others[name])
        (both,) = set(cells.names) - kinds.keys()
        assert both == f"{first} + {second}"

    def test_the_page_holds_what_was_measured(self, store: Store, done: Results) -> None:
        (run,) = store.runs()
        result = StudyResult.read(run.folder / "result.json")
        cells = TINY.cells(done)
        rows = {row[0].text: row for row in result.tables[0].rows}
        assert list(rows) == cells.names
        for name, row in rows.items():
            (one,) = cells.finished(name)
            assert row[1].estimate.value == pytest.approx(one.metrics["test_accuracy"])
            assert row[3].estimate.value == pytest.approx(gap(one))
            assert row[5].estimate.value == pytest.approx(calibration_error(one))
        assert len(result.figures) == 5
        assert next(one for one in result.figures if one.role == "hero").narrow
        assert result.figures[-1].svg.count("<image") == 7 * 10, "examples of seven kinds"
        assert {claim.verdict for claim in result.claims} == {"undecided"}, "on one seed"


def test_the_best_two_are_planned_once_every_single_change_has_ended(done: Results) -> None:
    cells = TINY.cells(done)
    (both,) = set(cells.names) - set(TINY.grid())
    full = {trial.label for trial in TINY.plan(done)}
    assert full == set(cells.names)
    assert {trial.label for trial in TINY.plan(Results())} == full - {both}
    waiting, failed = Results(), Results()
    for found in (waiting, failed):
        for trial in TINY.plan(Results()):
            if trial.label != "mixup":
                found.keep(done[trial])
    assert {trial.label for trial in TINY.plan(waiting)} == full - {both}
    (mixup,) = TINY.trials()["mixup"]
    failed.failures[mixup.address] = Failure("error", "diverged: training loss is nan")
    assert len(TINY.plan(failed)) == 15, "one that failed holds nothing up"


def test_the_best_two_have_the_learning_rate_that_was_chosen_for_the_best() -> None:
    """Otherwise they would be compared with it at another rate, which nobody chose."""
    study = Regularization.parse({**TINY.model_dump(), "rates": {"rates": (0.003, 0.03)}})
    done = Results()

    def keep(trial: Trial, accuracy: float) -> None:
        metrics = {"history": {"val_accuracy": [accuracy], "restored": False}, "collapsed": False}
        done._results[trial.address] = SimpleNamespace(metrics=metrics, arrays={})  # type: ignore[assignment]

    for searched in study.searches().values():
        for trial, accuracy in zip(searched, (0.5, 0.6), strict=True):
            keep(trial, accuracy)
    for cell, (trial,) in study.trials(done).items():
        keep(trial, {"mixup": 0.9, "batch norm": 0.8}.get(cell, 0.5))
    rates = {trial.label: trial.config["recipe"]["optimizer"]["lr"] for trial in study.judged(done)}
    assert "mixup + batch norm" in rates
    assert set(rates.values()) == {0.03}


# -- on results made by hand ---------------------------------------------------------------------

STUDY = Regularization(seeds=3)
SPREAD = (-0.001, 0.0, 0.001)


def runs(test: float, train: float, validation: float, *, collapsed: bool = False) -> list[Any]:
    found = []
    for off in SPREAD:
        one = fake(test + off, train + off, collapsed=collapsed)
        values = [0.1, validation + off]
        one.metrics["history"] = {
            "val_accuracy": values,
            "best_epoch": 1,
            "restored": False,
        }
        found.append(one)
    return found


def given(**changed: tuple[float, float, float]) -> dict[str, list[Any]]:
    """Results of every single change: 0.91 on test, 1 on training, 0.90 on validation images."""
    names = [variant.name for variant in STUDY.variants()]
    values = dict.fromkeys(names, (0.91, 1.0, 0.90))
    values |= {name.replace("_", " "): value for name, value in changed.items()}
    assert len(values) == len(names)
    return {name: runs(*value) for name, value in values.items()}


def claims(values: dict[str, list[Any]]) -> dict[str, stats.Claim]:
    effects = STUDY.effects(made_up(values))
    return {claim.code.split(".")[1]: claim for claim in stats.judge_claims(effects)}


COURSE = given(
    layer_norm=(0.92, 1.0, 0.915),
    batch_norm=(0.93, 1.0, 0.912),
    heavy_augmentation=(0.94, 0.96, 0.935),
    simple_augmentation=(0.96, 1.0, 0.95),
    **{"feature space: noise": (0.925, 1.0, 0.92), "feature space: extrapolate": (0.95, 1, 0.91)},
) | {"dropout 0.8": runs(0.85, 0.93, 0.84)}
TOGETHER = "simple augmentation + feature space: noise"


def test_claims_compare_what_validation_chose_on_test_images() -> None:
    found = claims({**COURSE, TOGETHER: runs(0.965, 1.0, 0.955)})
    # by validation: simple (not heavy), layer norm (not batch norm), noise (not extrapolate)
    expected = {
        "augments": 0.96 - 0.92,
        "features": 0.925 - 0.92,
        "underfits": 1.0 - 0.93,
        "overdoes": 0.91 - 0.85,
        "adds": 0.965 - 0.96,
    }
    for code, value in expected.items():
        assert found[code].estimate.value == pytest.approx(value), code
    assert "Simple augmentation against layer norm" in found["augments"].note
    assert "among 10 pairs" in found["augments"].note, "2 in input space; 3 dropouts, 2 norms"


def test_many_seeds_decide_and_the_opposite_does_not_hold() -> None:
    study = Regularization(seeds=30)
    plain = {**COURSE, TOGETHER: runs(0.965, 1.0, 0.955)}
    swapped = {
        **plain,
        "simple augmentation": runs(0.80, 1.0, 0.95),
        "dropout 0.8": runs(0.94, 1.0, 0.84),
        TOGETHER: runs(0.70, 1.0, 0.955),
    }
    for values, verdict in ((plain, "holds"), (swapped, "does not hold")):
        many = {name: found * 10 for name, found in values.items()}
        judged = stats.judge_claims(study.effects(made_up(many)))
        seen = {claim.code.split(".")[1]: claim.verdict for claim in judged}
        for code in ("augments", "underfits", "overdoes"):
            assert seen[code] == verdict, code
    assert seen["adds"] == "does not hold"


def test_claims_rest_on_all_that_validation_chose_from() -> None:
    other = {**COURSE, "dropout 0.5": runs(0.9, 1, 0.97), "layer norm": runs(0.9, 1, 0.98)}
    chosen = {TOGETHER: runs(0.965, 1.0, 0.955)}
    one, two = (
        {effect.code.split(".")[1]: set(effect.rests_on) for effect in STUDY.effects(made_up(all))}
        for all in ({**COURSE, **chosen}, other)
    )
    together = {f"{TOGETHER}, {k}" for k in range(3)}
    assert one == {**two, "adds": two["adds"] | together}, "whichever were the best"
    assert len(one["augments"]) == 3 * (2 + 3 + 2), "input space, dropout, norms"
    assert len(one["features"]) == 3 * (3 + 3 + 2)
    assert len(two["adds"]) == 3 * len(STUDY.variants())
    assert two["underfits"] == {f"{name}, {k}" for name in (NONE, "dropout 0.8") for k in range(3)}


def test_what_a_claim_is_a_sample_of(done: Results, tmp_path: Path) -> None:
    def kinds(results: Results, **change: Any) -> dict[str, tuple[str, ...]]:
        study = TINY.model_copy(update=change)
        effects = study.effects(study.cells(results))
        analyses = analyses_now(study, effects, results, Store(tmp_path))
        return {e.code.split(".")[1]: one.kinds for e, one in zip(effects, analyses, strict=True)}

    now = kinds(done)
    assert kinds(Results()) == now, "also before the best two are known"
    assert len(now["adds"]) == len(TINY.variants())
    for change, others in (
        ({"delta": 0.2}, set()),
        ({"mixup": 0.3}, {"adds"}),
        ({"simple": TINY.simple.model_copy(update={"degrees": 5})}, {"augments", "adds"}),
        ({"dropout": (0.1, 0.5, 0.8)}, {"augments", "features", "overdoes", "adds"}),
    ):
        changed = kinds(Results(), **change)
        assert {code for code in now if changed[code] != now[code]} == others, change


def test_two_of_one_kind_are_not_put_together() -> None:
    pair = STUDY.best_two(made_up(COURSE))
    assert pair is not None
    assert [v.name for v in pair] == ["simple augmentation", "feature space: noise"]
    both = pair[1].of(pair[0].of(STUDY.plain()))
    assert both.augmentation == STUDY.simple
    assert both.features == FeatureSpace(method="noise")


def test_settings_of_both_kinds_come_together() -> None:
    better = {**COURSE, "dropout 0.5": runs(0.9, 1, 0.97), "layer norm": runs(0.9, 1, 0.98)}
    pair = STUDY.best_two(made_up(better))
    assert pair is not None
    both = pair[1].of(pair[0].of(STUDY.plain()))
    assert (both.network.norm, both.network.dropout) == ("layer", 0.5)
    better |= {"mixup": runs(0.9, 1, 0.985), "weight decay": runs(0.9, 1, 0.99)}
    pair = STUDY.best_two(made_up(better))
    assert pair is not None
    recipe = pair[1].of(pair[0].of(STUDY.plain())).recipe
    assert (recipe.mixup, recipe.optimizer.weight_decay) == (STUDY.mixup, STUDY.weight_decay)


def test_without_the_best_two_their_claim_is_not_run() -> None:
    found = claims({**COURSE, "mixup": [None, None, None]})
    assert len(found) == 5, "how many claims there are corrects their level"
    assert found["adds"].estimate.n == 0


def test_a_variant_that_collapsed_is_counted_and_never_chosen() -> None:
    lost = {**COURSE, "simple augmentation": runs(0.1, 0.1, 0.99, collapsed=True)}
    pair = STUDY.best_two(made_up(lost))
    assert pair is not None
    assert pair[0].name == "heavy augmentation"
    low = {**COURSE, "dropout 0.8": runs(0.1, 0.1, 0.1, collapsed=True)}
    underfits = claims(low)["underfits"]
    assert underfits.estimate.n == 0
    assert "dropout 0.8" in underfits.note


def test_a_method_that_failed_has_no_example(done: Results) -> None:
    """Where a class has one image, extrapolate has no neighbour to go from; the page is made."""
    left = Results()
    for address, trial in done.trials.items():
        left.trials[address] = trial
        if trial.label == "feature space: extrapolate":
            left.failures[address] = Failure("error", "no neighbour")
        else:
            left.keep(done[trial])
    (drawing,) = page.examples(TINY, TINY.cells(left))
    assert drawing.svg.count("<image") == 6 * 10


def test_metrics_by_hand() -> None:
    (_, one, _) = runs(0.9, 0.97, 0.88)
    assert gap(one) == pytest.approx(0.07)
    assert validation_accuracy(one) == 0.88
    one.metrics["history"]["restored"] = True
    assert validation_accuracy(one) == 0.1, "of the weights that were put back"
    one.arrays = {
        "test_confidence": np.array([0.75, 0.75], dtype=np.float32),
        "test_correct": np.array([True, False]),
    }
    assert calibration_error(one) == pytest.approx(0.25)


def test_presets_are_what_they_say() -> None:
    quick = Regularization.parse(Regularization.preset_values("quick"))
    assert quick == Regularization(images_by_seed=True)
    whole = Regularization.parse(Regularization.preset_values("whole"))
    assert (whole.network, whole.seeds, whole.plain().train_images) == (quick.network, 5, None)
    assert whole.recipe.optimizer == quick.recipe.optimizer
    assert {one.recipe.epochs for one in whole.grid().values()} == {10}
    paper = Regularization.parse(Regularization.preset_values("paper"))
    plain = paper.plain()
    assert (plain.data, plain.train_images) == ("mnist", None)
    assert plain.network == MLP(widths=(512, 256, 128, 64))
    recipe = plain.recipe
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.batch_size) == ("adam", 1e-3, 64)
    assert (recipe.epochs, recipe.schedule.name, recipe.patience) == (50, "constant", 15)
    assert [paper.grid()[f"dropout {p}"].network.dropout for p in (0.5, 0.8)] == [0.5, 0.8]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dropout": (0.5, 0.2)}, "and rise"),
        ({"dropout": (0.5, 1.0)}, "between 0 and 1"),
        ({"network": {"dropout": 0.3}}, "has no dropout and no norm"),
        ({"features": {"strength": 1.5}}, "strength 1, not 1.5"),
    ],
)
def test_mistakes_are_said(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(AssayError, match=words):
        Regularization(**settings)
