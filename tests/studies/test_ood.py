"""The study of outliers: its plan, what it claims, and one small run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from assay import stats
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.data import load_data
from assay.errors import AssayError
from assay.ood import detectors
from assay.runs.engine import execute
from assay.runs.results import Results
from assay.runs.store import Store
from assay.stats import judge_claims
from assay.studies.cells import Cells
from assay.studies.ood import OOD
from assay.studies.ood.measures import fewest, measured, share
from assay.studies.ood.presets import DETECTORS, KINDS, LOGIT_NORM, NATURAL
from assay.tasks.detect import scorers
from assay.tasks.outside import RAW


def smoke(**settings: object) -> OOD:
    return OOD.parse({**OOD.preset_values("smoke"), "device": "cpu", **settings})


def test_every_detector_of_ours_is_there() -> None:
    ours = {name for name, kind in detectors().items() if kind.__module__.startswith("assay.")}
    assert {one["name"] for one in DETECTORS} == ours


def test_over_five_seeds_each_class_is_held_out_once() -> None:
    study = smoke(seeds=5)
    held = [label for seed in range(5) for label in study.without(seed) or ()]
    assert sorted(held) == list(range(10))
    for name, trials in study.networks().items():
        assert [trial.config["without"] for trial in trials] == [
            list(study.without(seed) or ()) for seed in range(5)
        ]
        assert ("loss" in trials[0].config["recipe"]) == (name == LOGIT_NORM)


def test_detectors_with_an_autoencoder_have_a_row_for_each_kind() -> None:
    study = smoke()
    names = [row.name for row in scorers(study.detectors, ("conv", "variational"))]
    assert names[-4:] == [
        "reconstruction",
        "reconstruction, variational",
        "evidence-bound",
        "complexity",
    ]
    again = [detectors()["reconstruction"].parse({"by": "ssim"})]
    assert [row.name for row in scorers(again, ("conv",))] == ["reconstruction (ssim)"]


@pytest.mark.parametrize("preset", ["quick", "full", "relu", "paper"])
def test_presets_are_whole(preset: str) -> None:
    study = OOD.parse(OOD.preset_values(preset))
    assert set(study.outliers) <= {*KINDS}
    assert OOD.from_yaml(study.to_yaml()) == study


def test_networks_for_ash_have_no_negative_features_and_no_autoencoder_beside_them(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_DATA", str(shared_data))
    study = OOD.parse({**OOD.preset_values("relu"), "device": "cpu"})
    assert {"ash", "scale", "max-softmax"} <= {one.name for one in study.detectors}
    assert study.reconstructing() == {}
    assert {len(trial.needs) for trial in study.scored()[NATURAL]} == {1}
    x = torch.randn(40, 3, 32, 32)
    for network, negative in ((study.network, False), (OOD().network, True)):
        model = network.network.build((3, 32, 32), 8, Stream(0))
        e = Classifier(model.eval()).embed(x.sigmoid(), readers=study.detectors)
        assert bool((e.features < 0).any()) == negative


def judged(code: str, low: float, high: float) -> stats.Claim:
    """Return a claim of five networks whose verdict follows from where its interval lies."""
    values = tuple(np.linspace(low, high, 5))
    effect = stats.Effect(code, code, values=values, delta=0.01, unit="points")
    return judge_claims([effect])[0]


def test_the_answer_begins_with_the_comparison_of_the_course() -> None:
    study = OOD.parse({**OOD.preset_values("paper"), "device": "cpu"})
    claims = [judged("ood.near", -0.5, -0.4), judged("ood.complexity", -0.2, -0.15)]
    claims += [judged("ood.course", -0.2, 0.9), judged("ood.matched", 0.7, 0.8)]
    answer = study.answer(claims)
    assert answer.startswith("**Reconstruction, each model fed what it was trained on, beats max-")
    assert "Whether reconstruction, run as the course ran it, beats max-logit on noise is" in answer
    assert "fake" not in answer, "the same question twice"
    assert study.answer([judged("ood.ash", -0.2, -0.1)]).startswith(
        "**On fake data ASH is a point better than max-softmax"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attacked": ("vim",)}, "attacked: vim is not one of the detectors"),
        ({"held_out": False}, "held-out needs held_out=true"),
        ({"outliers": ("flat", "flat")}, "outliers: each is there once; flat is not"),
        ({"attacked": ("knn", "gen", "knn")}, "attacked: each is there once; knn is not"),
        ({"raw": ("flat",)}, "raw: every kind there is one of the outliers too"),
        ({"outliers": ("corrupted-3",), "raw": ()}, "one kind that is no corruption"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        smoke(**settings)


class MadeUp:
    """Stands in for the cells of a study: one network each with an AUROC and its images."""

    def __init__(self, values: list[float], inliers: int, outliers: int) -> None:
        counts = {"in": inliers, "flat": outliers}
        self.runs = [
            SimpleNamespace(metrics={"auroc": {"knn": {"flat": value}}, "counts": counts})
            for value in values
        ]

    def kept(self, _: str) -> list[Any]:
        return self.runs


def made_up(values: list[float], inliers: int = 1500, outliers: int = 500) -> stats.Estimate:
    cells = cast("Cells", MadeUp(values, inliers, outliers))
    return share(cells, NATURAL, measured("auroc", "knn", "flat"), fewest("flat"))


def test_networks_that_agree_exactly_are_as_sure_as_their_images_allow() -> None:
    certain = made_up([1.0] * 5)
    assert (certain.value, certain.high, certain.n) == (1.0, 1.0, 5)
    assert 0.99 < certain.low < 0.999, "neither 0 to 100 % nor no width"
    assert made_up([1.0] * 5, outliers=50).low < made_up([1.0] * 5, inliers=200).low < certain.low
    half = made_up([0.5] * 5)
    assert 0.02 < half.high - half.low < 0.1


def test_networks_that_differ_are_as_unsure_as_they_differ() -> None:
    values = [0.6, 0.7, 0.75, 0.8, 0.65]
    mine, plain = made_up(values), stats.mean_interval(values, "seeds")
    assert (mine.low, mine.high) == (plain.low, plain.high)
    assert made_up([0.9, float("nan"), 0.8]).n == 2, (
        "a detector that could not be used says nothing"
    )
    assert made_up([0.9]).low == 0.0, "one network says nothing of others"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[OOD, Results]:
    study = smoke(
        seeds=2,
        detectors=(
            {"name": "max-softmax"},
            {"name": "max-logit"},
            {"name": "knn"},
            {"name": "reconstruction"},
            {"name": "complexity"},
        ),
        outliers=("held-out", "letters", "uniform-noise"),
        fitted_on=300,
        outside=40,
        attack_steps=3,
    )
    store = Store(tmp_path_factory.mktemp("ood") / "runs")
    results = execute(study.plan, store, workers=1, progress=False)
    assert not results.failures
    return study, results


def test_what_is_measured_is_what_the_scores_say(done: tuple[OOD, Results]) -> None:
    study, results = done
    run = results.need(study.scored()[NATURAL][1])
    metrics, arrays = run.metrics, run.arrays
    assert metrics["kinds"] == ["held-out", "letters", "uniform-noise", "letters" + RAW]
    assert metrics["failed"] == {}
    for place, name in enumerate(metrics["detectors"]):
        inside = arrays["scores_in"][place]
        for kind in metrics["kinds"]:
            outside = arrays[f"scores_{kind}"][place]
            assert len(outside) == metrics["counts"][kind]
            found = metrics["auroc"][name][kind]
            assert found == pytest.approx(stats.auroc(inside, outside).value, abs=1e-3)
        flagged = (inside > metrics["threshold"][name]).sum()
        assert metrics["flagged"][name]["in"] == pytest.approx(flagged, abs=1)
    right = arrays["correct"].astype(bool)
    assert metrics["accuracy"] == pytest.approx(right.mean())
    assert metrics["auroc"]["complexity"]["uniform-noise"] > 0.95
    whole = load_data("digits", split="test")
    labels = dict(zip(whole.ids.tolist(), whole.labels.tolist(), strict=True))
    tested = {labels[one] for one in arrays["image_ids"].tolist()}
    assert not tested & set(study.without(1) or ())


def test_an_attacker_who_knows_a_detector_makes_it_worse(done: tuple[OOD, Results]) -> None:
    study, results = done
    for trial in study.evaded():
        run = results.need(trial)
        assert run.metrics["failed"] == {}
        for name in study.attacked:
            clean, moved = (run.metrics[what][name]["held-out"] for what in ("clean", "attacked"))
            assert moved < clean - 0.05
            before = run.arrays["outliers"].astype(float)
            after = run.arrays[f"moved_{name}"].astype(float)
            assert 0 < np.abs(after - before).max() <= 8.5


def test_the_page_has_every_table(done: tuple[OOD, Results]) -> None:
    study, results = done
    found = study.findings(results)
    codes = [effect.code for effect in found.effects]
    assert codes == [
        "ood.course",
        "ood.matched",
        "ood.near",
        "ood.complexity",
        "ood.best",
        "ood.logit-norm",
        "ood.evaded",
    ]
    assert all(len(effect.values) == 2 for effect in found.effects)
    titles = [table.title for table in found.tables]
    assert titles == [
        f"AUROC, trained by {NATURAL}",
        f"AUROC, trained by {LOGIT_NORM}",
        f"AUPR, outliers, trained by {NATURAL}",
        f"AUPR, test images, trained by {NATURAL}",
        f"FPR95, trained by {NATURAL}",
        "What is gained by leaving out the codec",
        "Fake data, as the course did it and with matched preprocessing",
        "Confusion matrices at the calibrated threshold",
        "What rejecting by each score does to the accuracy of what is kept",
        "Attacks of 8/255 on detectors",
        "Beside OpenOOD v1.5 on CIFAR-10",
        "The outliers, and what each probes",
    ]
    measures = [t for t in found.tables if t.title.startswith(("AUROC", "AUPR", "FPR95"))]
    assert all("accuracy of the 2 networks" in t.caption.lower() for t in measures)
    assert [figure.role for figure in found.figures].count("hero") == 1
    assert study.answer(judge_claims(found.effects)).startswith("**Undecided after 2 seeds:**")
