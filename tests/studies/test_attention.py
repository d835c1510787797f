"""The study of attention: what its trial measures, and one small run."""

from __future__ import annotations

import math
import shlex
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from assay.errors import AssayError
from assay.models.loading import load_model
from assay.runs.engine import execute
from assay.runs.results import Results
from assay.runs.store import Store
from assay.stats import judge_claims
from assay.studies.attention import Attention
from assay.studies.attention.study import (
    beyond_noise,
    by_class,
    entropy_of_predicted,
    mean_of_images,
)
from assay.studies.skip import Skip
from assay.studies.subjects import ROBUST, cell, of_skip
from assay.tasks.saliency_shift import AttendNetwork, chosen
from assay.workflows import run as running
from studies.made_up import cells as made_up


def smoke(**settings: object) -> Attention:
    return Attention.parse({**Attention.preset_values("smoke"), "device": "cpu", **settings})


def test_networks_are_those_of_skip_and_robust_ones_differ_in_their_adversary_alone() -> None:
    study = smoke()
    theirs = Skip.parse({**Skip.preset_values("smoke"), "device": "cpu"}).trials()["skip [1,1]"]
    networks = study.networks()
    assert [t.address for t in networks["natural"]] == [t.address for t in theirs]
    natural, robust = (networks[name][0].config for name in ("natural", "robust"))
    assert robust.pop("adversary")["name"] == "pgd"
    assert robust == natural


@pytest.mark.parametrize(
    "settings",
    [
        {"robust": None},
        {"robust": {"name": "fgsm", "eps": 0.1}},
        {"robust": None, "attacks": ({"name": "fgsm", "eps": 0.25}, {"name": "pgd", "steps": 3})},
        {"network": {**of_skip("smoke", 1).model_dump(mode="json"), "adversary": {"name": "pgd"}}},
    ],
)
def test_the_printed_command_makes_the_same_study(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.commands.run import study_app

    study = Attention.parse({**Attention.preset_values("smoke"), "preset": "smoke", **settings})
    words = shlex.split(running.command(study))
    seen: list[Any] = []
    monkeypatch.setattr(running, "run", lambda made, *_, **__: seen.append(made) or 0)
    study_app(Attention, everything=True)(words[3:], exit_on_error=False, print_error=False)
    assert seen == [study]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--robust", "pgdd"], "pgdd.*pgd"),
        (["--robust", "none", "--robust.eps", "0.1"], "nothing that --robust.eps could set"),
    ],
)
def test_what_is_not_to_be_has_no_settings(words: list[str], message: str) -> None:
    from assay.commands.run import study_app

    with pytest.raises(AssayError, match=message):
        study_app(Attention, everything=True)(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attacks": ({"name": "fgsm"}, {"name": "fgsm"})}, "fgsm 8/255 is not"),
        ({"attacks": ()}, "at least 1"),
        ({"explainer": {"name": "grad-camm"}}, "grad-cam"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        smoke(**settings)


def test_an_attack_without_a_budget_has_no_noise_of_its_size() -> None:
    with pytest.raises(AssayError, match="deepfool has no budget"):
        AttendNetwork.parse({"attack": {"name": "deepfool"}})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Attention, Results]:
    study = smoke(
        attacks=({"name": "fgsm", "eps": 0.05}, {"name": "pgd", "eps": 0.1, "steps": 5}),
        images=50,
        kept=2,
    )
    store = Store(tmp_path_factory.mktemp("attention") / "runs")
    results = execute(study.plan, store, workers=1, progress=False)
    assert not results.failures
    return study, results


def test_a_small_run_measures_against_references(done: tuple[Attention, Results]) -> None:
    study, results = done
    trials = study.trials()
    assert list(trials) == ["fgsm 0.05", "pgd 0.1", "fgsm 0.05, robust", "pgd 0.1, robust"]
    for runs in trials.values():
        for held in (results[trial] for trial in runs):
            for name in ("attacked", "noise", "mate", "predicted"):
                values = held.arrays[f"{name}_overlap"]
                known = values[np.isfinite(values)]
                assert held.metrics[f"n_{name}"] == len(known)
                assert held.metrics[f"{name}_overlap"] == pytest.approx(known.mean())
            # Maps of an image that was not fooled are the same for the true and the predicted class
            same = ~held.arrays["fooled"] & np.isfinite(held.arrays["predicted_overlap"])
            for measure in ("overlap", "correlation"):
                np.testing.assert_array_equal(
                    held.arrays[f"attacked_{measure}"][same],
                    held.arrays[f"predicted_{measure}"][same],
                )
            shown = held.arrays["attacked_overlap"][held.arrays["shown"]]
            kind = held.arrays["shown_as"]
            assert (np.diff(shown[kind == 0]) >= 0).all()
            assert held.arrays["fooled"][held.arrays["shown"]][kind == 1].all()
            moved = np.abs(held.arrays["shown_attacked"] - held.arrays["shown_image"])
            assert 0 < moved.max() <= held.trial.config["attack"]["eps"] + 1e-6


def test_images_drawn_at_random_are_the_same_under_every_attack_on_a_network(
    done: tuple[Attention, Results],
) -> None:
    study, results = done
    for seed in range(2):
        ids = [
            held["ids"][held["shown"][held["shown_as"] == 3]].tolist()
            for name in ("fgsm 0.05", "pgd 0.1")
            for held in [results[study.trials()[name][seed]].arrays]
        ]
        assert len(ids[0]) == study.kept
        assert ids[0] == ids[1]


def test_rows_that_are_kept_are_of_their_kind() -> None:
    overlap = np.array([0.9, math.nan, 0.1, 0.5, 0.3, 0.7, 0.2])
    fooled = np.array([True, True, False, True, False, True, True])
    most, least, middle, drawn = chosen(overlap, fooled, 2, seed=0)
    assert most.tolist() == [2, 6]
    assert least.tolist() == [0, 5]
    assert middle.tolist() == [4, 3], "the two in the middle of 0.1 0.2 | 0.3 0.5 | 0.7 0.9"
    assert len(set(drawn.tolist())) == 2
    again = chosen(1 - overlap, ~fooled, 2, seed=0)[3]
    assert drawn.tolist() == again.tolist(), "what is drawn does not depend on what was measured"
    assert drawn.tolist() != chosen(overlap, fooled, 2, seed=1)[3].tolist()
    assert [len(kind) for kind in chosen(overlap[:1], fooled[:1], 2, seed=0)] == [1, 1, 1, 1]


def test_both_maps_are_of_the_true_class_on_fooled_images_too(
    done: tuple[Attention, Results],
) -> None:
    """The maps that are kept are made anew; where the model was fooled, another class's differ."""
    study, results = done
    trial = study.trials()["pgd 0.1"][0]
    held = results[trial].arrays
    clf = load_model(results[trial.needs[0]].path("model.safetensors"))
    images = torch.from_numpy(held["shown_attacked"])
    y = torch.from_numpy(held["labels"][held["shown"]])
    fooled = torch.from_numpy(held["fooled"][held["shown"]])
    assert fooled.any()
    assert (clf.predict(images)[fooled] != y[fooled]).all()
    maps = {
        name: study.explainer(clf, images, targets=targets).values.numpy()
        for name, targets in (("true", y), ("predicted", None))
    }
    np.testing.assert_allclose(held["shown_map_after"], maps["true"], atol=1e-5)
    assert np.abs(held["shown_map_after"] - maps["predicted"])[fooled.numpy()].max() > 0.1


def test_claims_are_what_they_say(done: tuple[Attention, Results]) -> None:
    """Differences are those of one image, and of images that have both maps."""
    study, results = done
    found = study.findings(results)
    effects = {effect.code: effect for effect in found.effects}
    assert list(effects) == [
        "attention.moves",
        "attention.success",
        "attention.scatters",
        "attention.steadier",
    ]
    for code in ("attention.moves", "attention.steadier"):
        by_image = effects[code].per_image
        assert by_image is not None
        assert np.nanmean(by_image.values, axis=1) == pytest.approx(list(effects[code].values))
    assert {effect.about for effect in effects.values()} == {"networks and images"}
    trials = study.trials()

    def overlaps(name: str, seed: int, what: str = "attacked") -> dict[int, float]:
        held = results[trials[name][seed]].arrays
        rows = zip(held["ids"].tolist(), held[f"{what}_overlap"].tolist(), strict=True)
        return {image: value for image, value in rows if value == value}

    def difference(a: dict[int, float], b: dict[int, float]) -> float:
        return float(np.mean([a[image] - b[image] for image in a.keys() & b.keys()]))

    names = ("fgsm 0.05", "pgd 0.1")
    for seed in range(2):
        beyond = [difference(overlaps(name, seed, "noise"), overlaps(name, seed)) for name in names]
        assert effects["attention.moves"].values[seed] == pytest.approx(np.mean(beyond))
        robust, natural = overlaps(cell("pgd 0.1", ROBUST), seed), overlaps("pgd 0.1", seed)
        assert robust.keys() != natural.keys()
        steadier = effects["attention.steadier"].values[seed]
        assert steadier == pytest.approx(difference(robust, natural))
        assert steadier > 0
    assert beyond_noise(results[trials["pgd 0.1"][0]]) > 0
    gap = [
        sum(r.metrics["gap"] * r.metrics["gap_weight"] for r in runs if r.metrics["gap"])
        / sum(r.metrics["gap_weight"] for r in runs)
        for runs in zip(*([results[t] for t in trials[name]] for name in names), strict=True)
    ]
    assert list(effects["attention.success"].values) == pytest.approx(gap)
    emptied = next(iter(found.tables)).rows[names.index("pgd 0.1")][3].estimate
    counted = [
        np.mean([overlaps("pgd 0.1", seed).get(image, 0.0) for image in with_noise])
        for seed in range(2)
        for with_noise in [overlaps("pgd 0.1", seed, "noise")]
    ]
    assert emptied is not None
    assert emptied.value == pytest.approx(np.mean(counted))
    titles = [table.title for table in found.tables]
    assert sum("Secondary" in title for title in titles) == 1
    drawn = [drawing.title for drawing in found.figures]
    assert sum("saliency moved most" in title for title in drawn) == 2
    assert "The same images under every attack" in drawn
    assert "Fooled, though the saliency map hardly moved" in drawn


@pytest.fixture(scope="module")
def as_course(tmp_path_factory: pytest.TempPathFactory) -> tuple[Attention, Results]:
    study = smoke(course=True, robust=None, attacks=({"name": "pgd", "eps": 0.2},), images=40)
    store = Store(tmp_path_factory.mktemp("course") / "runs")
    results = execute(study.plan, store, workers=1, progress=False)
    assert not results.failures
    return study, results


def test_the_course_s_attack_leads_to_its_class(as_course: tuple[Attention, Results]) -> None:
    """Its images are left out, and the class that is then explained is the target."""
    study, results = as_course
    (trials,) = study.trials().values()
    fooled = 0
    for held in (results[trial].arrays for trial in trials):
        assert 6 not in held["labels"]
        fooled += int(held["fooled"].sum())
        shown = held["shown_after"].argmax(1)
        assert (shown[held["fooled"][held["shown"]]] == 6).all()
    assert fooled > 10
    effects = {effect.code: effect for effect in study.findings(results).effects}
    assert list(effects) == ["attention.course-class", "attention.course-scatters"]
    for code, of in (("class", by_class), ("scatters", entropy_of_predicted)):
        effect = effects[f"attention.course-{code}"]
        assert effect.values == [mean_of_images(of(results[trial])) for trial in trials]
        assert effect.about == "networks and images"


@pytest.mark.parametrize(
    ("moved", "entropy", "verdicts"),
    [
        (0.30, 0.05, ["holds", "holds"]),
        (0.06, 0.011, ["holds", "holds"]),
        (0.04, 0.009, ["does not hold", "does not hold"]),
        (-0.3, -0.05, ["does not hold", "does not hold"]),
    ],
)
def test_verdicts_on_the_course_s_maps_by_hand(
    moved: float, entropy: float, verdicts: list[str]
) -> None:
    """Of fooled images alone: the others would turn every verdict round."""
    fooled = np.arange(200) < 100
    off = np.linspace(-1e-4, 1e-4, 200)

    def run(seed: int) -> SimpleNamespace:
        arrays = {
            "ids": np.arange(200) + 1000 * seed,
            "fooled": fooled,
            "attacked_overlap": np.full(200, 0.5),
            "predicted_overlap": 0.5 - np.where(fooled, moved, 0.1 - moved) + off,
            "predicted_entropy": np.where(fooled, entropy, 0.02 - entropy) + off,
        }
        return SimpleNamespace(metrics={"collapsed": False}, arrays=arrays)

    study = smoke(course=True, robust=None, attacks=({"name": "fgsm"},), seeds=3)
    claims = judge_claims(study.effects(made_up({"fgsm 8/255": [run(seed) for seed in range(3)]})))
    assert [claim.verdict for claim in claims] == verdicts
    assert ("does not scatter" in study.answer(claims)) == (verdicts[1] == "does not hold")
