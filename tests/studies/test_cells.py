"""Cells over seeds: means, effects in pairs, marks, bands, and data that no cell can learn from."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from assay import stats
from assay.data.dataset import in_memory
from assay.errors import AssayError
from assay.report.result import Cell
from assay.runs.results import Results
from assay.studies.attention import Attention
from assay.studies.cells import Column
from assay.studies.hardening import Hardening
from assay.studies.measured import least_variance
from assay.studies.ood import OOD
from assay.studies.skip import Skip
from studies.made_up import cells, fake

A = [fake(0.70), fake(0.72), fake(0.71)]
B = [fake(0.60), fake(0.64), fake(0.62)]


def test_a_mean_is_over_the_runs_that_trained() -> None:
    found = cells({"a": [*A, fake(0.1, collapsed=True), "killed", None]})
    mean = found.mean("a", "test_accuracy")
    assert mean.n == 3
    assert mean.value == pytest.approx(0.71)
    assert found.mean("a", "test_accuracy", all_runs=True).value == pytest.approx(0.5575)
    assert (found.collapsed("a"), found.failed("a")) == (1, 1)


@pytest.mark.parametrize(
    ("metric", "values", "low", "high"),
    [
        ("attacked_overlap", (0.4, 0.6), 0.0, 1.0),
        ("attacked_correlation", (-0.9, 0.9), -1.0, 1.0),
        ("attacked_distance", (1.0, 2.0), 0.0, None),
        ("attacked_entropy", (-1.0, 1.0), None, None),
    ],
)
def test_an_interval_holds_nothing_that_cannot_be(
    metric: str, values: tuple[float, float], low: float | None, high: float | None
) -> None:
    runs = [fake(0.7), fake(0.7)]
    for run, value in zip(runs, values, strict=True):
        run.metrics[metric] = value
    found, whole = cells({"a": runs}).mean("a", metric), stats.mean_interval(values)
    assert found.low == (whole.low if low is None else low)
    assert found.high == (whole.high if high is None else high)
    assert low is None or whole.low < low


def test_one_seed_has_no_interval() -> None:
    found = cells({"a": A[:1]}).mean("a", "test_accuracy")
    assert (found.value, found.low, found.high) == (pytest.approx(0.7), -math.inf, math.inf)


def test_an_effect_is_paired_by_seed() -> None:
    effect = cells({"a": A, "b": B}).difference("x", "", "a", "b", "test_accuracy", delta=0.02)
    assert effect.values == pytest.approx([0.10, 0.08, 0.09])
    variance = stats.binomial_variance(0.71, 10_000) + stats.binomial_variance(0.62, 10_000)
    assert effect.floor_variance == pytest.approx(variance)


def test_a_claim_rests_on_every_trial_of_its_cells_and_of_those_they_were_chosen_from() -> None:
    found = cells({"a": [*A, "failed", None], "b": [*B, B[0], B[0]], "c": A, "d": A})
    effect = found.difference("x", "", "a", "b", "test_accuracy", delta=0.0, among=("a", "c"))
    n = len(A) + 2
    assert effect.rests_on == (
        *(f"a, {k}" for k in range(n)),
        *(f"b, {k}" for k in range(n)),
        *(f"c, {k}" for k in range(len(A))),
    )


def test_a_seed_counts_only_where_both_of_its_runs_trained() -> None:
    found = cells(
        {
            "a": [A[0], fake(0.1, collapsed=True), A[2], A[0]],
            "b": [B[0], B[1], "diverged: loss is nan", None],
        }
    )
    effect = found.difference("x", "", "a", "b", "test_accuracy", delta=0.02)
    assert effect.values == pytest.approx([0.10])
    assert effect.collapsed == {"a": 1}
    assert effect.failed == {"b": 1}
    everything = found.effect(
        "x",
        "",
        delta=0.0,
        of=("a", "b"),
        value=lambda a, b: a.metrics["test_accuracy"] - b.metrics["test_accuracy"],
        all_runs=True,
    )
    assert everything.values == pytest.approx([0.10, -0.54])
    assert everything.collapsed == {}


def test_what_is_not_finite_is_counted_as_lost() -> None:
    wild = fake(0.5)
    wild.metrics["train_loss"] = math.inf
    found = cells({"a": [*A, wild], "b": [*B, fake(0.5)]})
    assert found.mean("a", "train_loss").n == 3
    effect = found.difference("x", "", "a", "b", "train_loss", delta=0.0)
    assert len(effect.values) == 3
    assert effect.collapsed == {"a": 1}
    assert found.within_noise("a", "b", "train_loss"), "the three others are equal"


def test_no_accuracy_is_said_to_be_above_one_or_below_nought() -> None:
    mean = cells({"a": [fake(0.55), fake(0.95)]}).mean("a", "test_accuracy")
    assert (mean.low, mean.high) == (0.0, 1.0)


def test_a_table_marks_the_best_and_what_cannot_be_told_from_it() -> None:
    near = [fake(0.705), fake(0.715), fake(0.712)]
    found = cells({"b": B, "near": near, "a": A, "lost": [fake(0.1, collapsed=True)] * 3})
    columns = (
        Column("test", "test_accuracy", best="highest"),
        Column("loss", "train_loss", "number", best="lowest"),
        Column("log", lambda run: math.log(run.metrics["test_accuracy"]), "number"),
    )
    table = found.table("T", columns, more={"more": lambda cell: cell.upper()})
    marks = {row[0].text: row[1].mark for row in table.rows}
    assert marks == {"b": None, "near": "best", "a": "within noise", "lost": None}
    rows = {row[0].text: row for row in table.rows}
    assert rows["lost"][1] == Cell(text="all collapsed")
    assert rows["lost"][-1].text == "3 collapsed of 3"
    assert rows["b"][-2].text == "B"
    assert rows["b"][3].estimate is not None
    assert rows["b"][3].estimate.value == pytest.approx(
        np.mean([math.log(v) for v in (0.60, 0.64, 0.62)])
    )
    assert table.columns == ("network", "test", "loss", "log", "more", "not averaged")


def test_one_seed_marks_nothing() -> None:
    table = cells({"a": A[:1], "b": B[:1]}).table(
        "T", [Column("t", "test_accuracy", best="highest")]
    )
    assert [row[1].mark for row in table.rows] == [None, None]


def test_a_band_holds_a_curve_that_ended_early() -> None:
    runs = [fake(0.5, curve=np.array([1.0, 2.0, 3.0])), fake(0.5, curve=np.array([3.0, 4.0]))]
    band = cells({"a": runs}).band("a", "curve", label="it", colour=2, dash=1)
    assert band is not None
    assert (band.x, band.y) == ([1, 2, 3], [2.0, 3.0, 3.5])
    assert (band.low, band.high) == ([1.0, 2.0, 3.0], [3.0, 4.0, 4.0])
    assert (band.label, band.colour, band.dash) == ("it", 2, 1)
    assert cells({"a": runs}).band("a", "other") is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train_images": 12}, r"classes have no image among the 12 used"),
        ({"test_images": 12}, r"digits \(test\): \d+ of 10 classes have no image"),
        ({"train_images": 100}, r"100 images are fewer than one batch of 128"),
    ],
)
def test_data_that_no_cell_can_learn_from_are_refused_at_once(
    settings: dict[str, int], said: str
) -> None:
    study = Skip.parse({"data": "digits", "device": "cpu", **settings})
    with pytest.raises(AssayError, match=said):
        study.resolved()


def test_a_data_set_with_one_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(200, 1, 8, 8, dtype=torch.uint8)
    cats = in_memory("cats", "train", ("cat",), images, torch.zeros(200, dtype=torch.int64))
    monkeypatch.setattr("assay.tasks.images.load_data", lambda *_, **__: cats)
    with pytest.raises(AssayError, match="cats has 1 class; a study of classifiers needs two"):
        Skip(data="cats", device="cpu").resolved()


def test_a_run_on_no_image_lends_no_floor_and_takes_none_away() -> None:
    """What a share may vary by at least is over the runs' own numbers of images."""

    def runs(*pairs: tuple[float, int]) -> list[Any]:
        return [
            SimpleNamespace(metrics={"success_share": share, "n_success": n}) for share, n in pairs
        ]

    many, few = stats.binomial_variance(0.5, 10_000), stats.binomial_variance(0.5, 10)
    mixed = runs((0.5, 10_000), (0.5, 10), (0.5, 10))
    assert least_variance([mixed], "success_share") == pytest.approx((many + 2 * few) / 3)
    assert least_variance([mixed[::-1]], "success_share") == least_variance(
        [mixed], "success_share"
    )
    silent = runs((1.0, 10), (1.0, 10), (math.nan, 0))
    assert least_variance([silent], "success_share") == stats.binomial_variance(1.0, 10)
    assert least_variance([runs((math.nan, 0))], "success_share") is None


# -- image by image ------------------------------------------------------------------------------


def on_images(correct: list[int], ids: list[int] | None = None) -> Any:
    """A run that knows which of its test images are right."""
    more: dict[str, Any] = {"test_correct": np.array(correct, bool)}
    if ids is not None:
        more["image_ids"] = np.array(ids)
    return fake(float(np.mean(correct)), **more)


def test_a_difference_is_paired_by_image_where_runs_keep_them() -> None:
    a = [on_images([1, 1, 0, 1]), on_images([1, 1, 1, 0])]
    b = [on_images([1, 0, 0, 1]), on_images([0, 1, 1, 1])]
    found = cells({"a": a, "b": b}).difference("x", "", "a", "b", "test_accuracy", delta=0.02)
    assert found.per_image is not None
    assert found.per_image.kind == "difference"
    assert found.per_image.values.tolist() == [[0, 1, 0, 0], [1, 0, 0, -1]]
    assert found.about == "networks and images"
    b[1] = fake(0.75)
    found = cells({"a": a, "b": b}).difference("x", "", "a", "b", "test_accuracy", delta=0.02)
    assert found.per_image is None
    assert found.about == "networks, on these images"
    of_loss = cells({"a": a, "b": b}).difference("x", "", "a", "b", "train_loss", delta=0.02)
    assert of_loss.per_image is None


def test_seeds_may_have_images_of_their_own() -> None:
    a = [on_images([1, 1, 0], [5, 2, 9]), on_images([1, 0, 0], [2, 3, 5])]
    b = [on_images([0, 1, 1], [2, 5, 7]), on_images([1, 1, 0], [5, 2, 3])]
    found = cells({"a": a, "b": b}).difference("x", "", "a", "b", "test_accuracy", delta=0.02)
    assert found.per_image is not None
    first, second = found.per_image.values.tolist()
    assert (first[:1], first[2:]) == ([1], [0]), "images 2 and 5, which both have met"
    assert math.isnan(first[1])
    assert second == [0, 0, -1], "images 2, 3 and 5"


def test_results_older_than_ids_are_of_the_same_images_as_those_beside_them() -> None:
    """A store holds seeds of both kinds at one address; only their order pairs them."""
    a = [on_images([1, 1, 0]), on_images([1, 0, 0], [7, 2, 9])]
    b = [on_images([0, 1, 1], [7, 2, 9]), on_images([1, 1, 0])]
    found = cells({"a": a, "b": b}).difference("x", "", "a", "b", "test_accuracy", delta=0.02)
    assert found.per_image is not None
    assert found.per_image.values.tolist() == [[1, 0, -1], [0, -1, 0]]
    b[0] = on_images([0, 1, 1], [2, 7, 9])
    found = cells({"a": a, "b": b}).difference("x", "", "a", "b", "test_accuracy", delta=0.02)
    assert found.per_image is None, "which images the older ones met cannot be known"


def test_an_interaction_is_a_sum_of_four_cells() -> None:
    runs = {"a": [1, 1], "b": [0, 1], "c": [1, 0], "d": [0, 0]}
    found = cells({name: [on_images(right)] * 2 for name, right in runs.items()}).contrast(
        "x",
        "",
        {"a": 1.0, "b": -1.0, "c": -1.0, "d": 1.0},
        "test_accuracy",
        delta=0.0,
        asks="equivalent",
    )
    assert found.values == pytest.approx([1.0 - 0.5 - 0.5 + 0.0] * 2)
    assert found.per_image is not None
    assert found.per_image.values.tolist() == [[0, 0], [0, 0]]
    assert (found.per_image.kind, found.asks) == ("number", "equivalent")


def test_the_share_that_an_attack_fools_is_one_of_images_classified_correctly() -> None:
    run = fake(0.5, success=np.array([1, 0, 1], bool), correct=np.array([1, 1, 0], bool))
    run.metrics |= {"success_share": 0.5, "n_success": 2}
    found = cells({"a": [run, run]}).contrast("x", "", {"a": 1.0}, "success_share", delta=0.0)
    assert found.per_image is not None
    assert found.per_image.values.tolist() == [[1, 0], [1, 0]]
    assert found.per_image.kind == "share"


def test_a_mean_and_the_mark_of_the_best_know_the_images_too() -> None:
    """Three copies of one network on 50 images: over seeds alone their means would be exact."""
    rng = np.random.default_rng(0)
    right = (rng.random(50) < 0.8).astype(int).tolist()
    other = [1 - one if k in (3, 4) else one for k, one in enumerate(right)]
    found = cells({"a": [on_images(right)] * 3, "b": [on_images(other)] * 3})
    mean = found.mean("a", "test_accuracy")
    assert mean.high - mean.low > 0.15
    assert found.within_noise("b", "a", "test_accuracy")


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [
        ({"train_images": 120}, True),
        ({"train_images": 120, "seeds": 4}, False),
        ({"train_images": None}, False),
        ({"train_images": 120, "images_by_seed": False}, False),
    ],
)
def test_one_number_per_seed_is_of_images_in_general_where_seeds_trained_on_others(
    settings: dict[str, Any], drawn: bool
) -> None:
    """Test images are drawn in each; digits has 4,500 training images."""
    study = Skip.parse({**Skip.preset_values("smoke"), "device": "cpu", **settings})
    effects = {effect.code: effect for effect in study.effects(study.cells(Results()))}
    assert (effects["skip.degrades"].about == "networks and images") is drawn


def test_outliers_are_of_images_in_general_where_more_images_than_a_few_are_met_by_one_seed() -> (
    None
):
    """Two seeds, and the 1,000 test images of digits but those of two classes; `hardening` looks
    for outliers among more images than it attacks."""
    ood = OOD.parse({**OOD.preset_values("smoke"), "device": "cpu", "inside": 45})
    assert not ood.cells(Results()).images_drawn
    ood = ood.model_copy(update={"inside": 35})
    assert ood.cells(Results()).images_drawn
    smoke = {**Hardening.preset_values("smoke"), "device": "cpu", "images": 20, "examined": 60}
    about = {e.code: e.about for e in Hardening.parse(smoke).findings(Results()).effects}
    assert about["hardening.seen"] == "networks and images"
    assert about["hardening.noise"] == about["hardening.near"] == "networks, on these images"


@pytest.mark.parametrize(("images", "drawn"), [(50, True), (51, False), (5000, False)])
def test_one_number_per_seed_is_of_images_in_general_where_seeds_attacked_others(
    images: int, drawn: bool
) -> None:
    """Two seeds, and the 1,000 test images of digits."""
    study = Attention.parse({**Attention.preset_values("smoke"), "device": "cpu", "images": images})
    effects = {effect.code: effect for effect in study.findings(Results()).effects}
    assert (effects["attention.success"].about == "networks and images") is drawn
