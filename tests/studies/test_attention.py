"""The study of attention: what its trial measures, and one small run."""

from __future__ import annotations

import numpy as np
import pytest

from assay.errors import AssayError
from assay.runs.engine import execute
from assay.runs.results import Results
from assay.runs.store import Store
from assay.studies.attending import AttendNetwork
from assay.studies.attention import Attention, beyond_noise
from assay.studies.skip import Skip
from assay.studies.subjects import ROBUST, cell


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


def test_a_small_run_measures_against_null_and_ceiling(done: tuple[Attention, Results]) -> None:
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
            hardly = held.arrays["hardly"]
            shown = held.arrays["attacked_overlap"][held.arrays["shown"]]
            assert (np.diff(shown[~hardly]) >= 0).all()
            assert held.arrays["fooled"][held.arrays["shown"]][hardly].all()
            moved = np.abs(held.arrays["shown_attacked"] - held.arrays["shown_image"])
            assert 0 < moved.max() <= held.trial.config["attack"]["eps"] + 1e-6


def test_claims_are_what_they_say(done: tuple[Attention, Results]) -> None:
    study, results = done
    found = study.findings(results)
    effects = {effect.code: effect for effect in found.effects}
    assert list(effects) == ["attention.moves", "attention.success", "attention.steadier"]
    trials = study.trials()

    def overlaps(name: str, what: str = "attacked") -> np.ndarray:
        return np.array([results[t].metrics[f"{what}_overlap"] for t in trials[name]])

    names = ("fgsm 0.05", "pgd 0.1")
    beyond = sum(overlaps(name, "noise") - overlaps(name) for name in names) / 2
    assert list(effects["attention.moves"].values) == pytest.approx(list(beyond))
    assert beyond_noise(results[trials["pgd 0.1"][0]]) > 0
    steadier = overlaps(cell("pgd 0.1", ROBUST)) - overlaps("pgd 0.1")
    assert list(effects["attention.steadier"].values) == pytest.approx(list(steadier))
    assert (steadier > 0).all()
    gap = [
        sum(r.metrics["gap"] * r.metrics["gap_weight"] for r in runs if r.metrics["gap"])
        / sum(r.metrics["gap_weight"] for r in runs)
        for runs in zip(*([results[t] for t in trials[name]] for name in names), strict=True)
    ]
    assert list(effects["attention.success"].values) == pytest.approx(gap)
    titles = [table.title for table in found.tables]
    assert sum("Secondary" in title for title in titles) == 1
    drawn = [drawing.title for drawing in found.figures]
    assert sum("attention moved most" in title for title in drawn) == 3
    assert "Fooled, though attention hardly moved" in drawn
