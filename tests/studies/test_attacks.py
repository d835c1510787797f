"""The study of attacks: its plan, its verdicts on made-up results, and one small run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from assay.errors import AssayError
from assay.runs.engine import execute
from assay.runs.entry import Result
from assay.runs.results import Results
from assay.runs.store import Store
from assay.stats import judge_claims
from assay.studies.attacks import Attacks, page
from assay.studies.attacks.page import notes
from assay.studies.skip import Skip
from assay.studies.subjects import cell
from assay.tasks.attack import TASK
from assay.tasks.images import how_many
from studies.made_up import cells as made_up


def smoke(**settings: object) -> Attacks:
    return Attacks.parse({**Attacks.preset_values("smoke"), "device": "cpu", **settings})


def test_networks_are_those_of_skip() -> None:
    """A network is trained once: the trials that both studies plan have the same addresses."""
    ours = smoke(network=Attacks.PRESETS["smoke"]["network"]).networks()["natural"]
    theirs = Skip.parse({**Skip.preset_values("smoke"), "device": "cpu"}).trials()["skip [1,1]"]
    assert [trial.address for trial in ours] == [trial.address for trial in theirs]


def test_every_attack_meets_every_budget_of_its_norm() -> None:
    study = smoke()
    names = [run.name for run in study.runs()]
    assert "pgd 0.02" in names
    assert "pgd 0.05" in names
    assert "one-pixel L0 5 pixels" in names
    assert names.count("deepfool L2") == 1  # it has no budget
    attacked = [trial for trial in study.plan(Results()) if trial.task == TASK]
    assert len(attacked) == 2 * len(names) + len(study.attacks)
    assert study.transferred() in study.plan(Results())
    assert smoke(seeds=1).transferred() is None


def test_the_page_says_what_black_boxes_may_ask() -> None:
    one_pixel = {"name": "one-pixel", "population": 10, "steps": 4}
    said = " ".join(notes(smoke(attacks=({"name": "square", "queries": 70}, one_pixel))))
    assert "square about 70, one-pixel about 50" in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"at": 0.1}, "at must be one of the budgets, 0.02, 0.05; not 0.1"),
        ({"budgets": (0.1, 0.1)}, "each is there once"),
        ({"attacks": ()}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        smoke(**settings)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Attacks, Results]:
    study = smoke(
        attacks=(
            {"name": "noise"},
            {"name": "fgsm"},
            {"name": "pgd", "steps": 10},
            {"name": "few-pixel", "steps": 3},
            {"name": "one-pixel", "population": 8, "steps": 4},
            {"name": "deepfool"},
        ),
        images=40,
        shown=8,
    )
    store = Store(tmp_path_factory.mktemp("attacks") / "runs")
    results = execute(study.plan, store, workers=1, progress=False)
    assert not results.failures
    return study, results


def assert_rates_are_kept_by_image(tried: Result) -> None:
    """The rates of a matrix are those of the images that were kept."""
    right = tried.arrays["correct"]
    for name in ("transfer", "universal"):
        fooled = tried.arrays[f"{name}_fooled"]
        assert fooled.shape == (len(right), *right.shape)
        kept = [[row[right[k]].mean() for k, row in enumerate(source)] for source in fooled]
        rates = [[rate["value"] for rate in row] for row in tried.metrics[name]]
        np.testing.assert_allclose(kept, rates)
    assert len(set(tried.arrays["image_ids"].tolist())) == right.shape[1]


def test_a_small_run_shows_what_attacks_do(done: tuple[Attacks, Results]) -> None:
    study, results = done
    found = study.findings(results)
    codes = {effect.code: effect for effect in found.effects}
    assert list(codes) == ["attacks.iterate", "attacks.pixels", "attacks.noise"]
    trials = study.trials()
    shares = {
        name: [results[trial].metrics["success_share"] for trial in trials[name]]
        for name in ("noise 0.05", "fgsm 0.05", "pgd 0.05", "pgd 0.02")
    }
    for seed in range(2):
        assert shares["pgd 0.05"][seed] > shares["noise 0.05"][seed] + 0.2
        assert shares["pgd 0.05"][seed] > shares["pgd 0.02"][seed]
    iterate = [a - b for a, b in zip(shares["pgd 0.05"], shares["fgsm 0.05"], strict=True)]
    assert list(codes["attacks.iterate"].values) == pytest.approx(iterate)
    assert list(codes["attacks.noise"].values) == pytest.approx(
        [1 - share for share in shares["noise 0.05"]]
    )
    for effect in found.effects:
        assert effect.per_image is not None
        assert np.nanmean(effect.per_image.values, axis=1) == pytest.approx(list(effect.values))
        assert effect.per_image.there_are == how_many("digits", "test")
    table, transfer, universal = found.tables
    assert [row[0].text for row in table.rows] == [cell(run.name) for run in study.runs()]
    estimate = next(row[1].estimate for row in table.rows if row[0].text == "pgd 0.05")
    assert estimate is not None
    of_pgd = [results[trial] for trial in trials["pgd 0.05"]]
    fooled = np.concatenate([run.arrays["success"][run.arrays["correct"]] for run in of_pgd])
    assert estimate.value == pytest.approx(fooled.mean()), "every image counts as much"
    alone = [run.record["timings"]["attack"] for run in of_pgd]
    assert all(0 < s < run.record["seconds"] for s, run in zip(alone, of_pgd, strict=True))
    each = [1000 * s / run.metrics["n_success"] for s, run in zip(alone, of_pgd, strict=True)]
    row = next(row for row in table.rows if row[0].text == "pgd 0.05")
    assert row[table.columns.index("ms per image")].text == f"{sum(each) / 2:.3g}"
    made = [row[0].text for row in transfer.rows]
    compared = study.transferred()
    assert compared is not None
    tried = results[compared]
    assert_rates_are_kept_by_image(tried)
    assert made == list(transfer.columns[1:]) == ["natural 0", "natural 1"]
    for matrix in (transfer, universal):
        rates = [[cell.estimate.value for cell in row[1:]] for row in matrix.rows]
        assert min(rates[0][0], rates[1][1]) > max(shares["noise 0.05"]), "on its own network"
        right = tried.arrays["correct"].sum(1).tolist()
        assert [cell.estimate.n for cell in matrix.rows[0][1:]] == right
        assert "of the 40 images those that the latter classifies correctly" in matrix.caption
    own, other = (transfer.rows[0][k].estimate.value for k in (1, 2))
    assert own > other
    titles = [drawing.title for drawing in found.figures]
    assert sum("under every attack" in title for title in titles) == 4
    assert "Where the few pixels are" in titles
    assert "Which classes become which" in titles
    assert all(len(drawing.svg) < 300_000 for drawing in found.figures)


@pytest.mark.parametrize(
    ("fgsm", "pgd", "one_pixel", "noise", "verdicts"),
    [
        (0.60, 0.80, 0.20, 0.02, ["holds", "holds", "holds"]),
        (0.80, 0.60, 0.02, 0.20, ["does not hold", "does not hold", "does not hold"]),
        # the smallest share that matters is 0.05, on either side of which
        (0.60, 0.66, 0.06, 0.04, ["holds", "holds", "holds"]),
        (0.60, 0.64, 0.04, 0.06, ["does not hold", "does not hold", "does not hold"]),
    ],
)
def test_verdicts_on_results_by_hand(
    fgsm: float, pgd: float, one_pixel: float, noise: float, verdicts: list[str]
) -> None:
    shares = {
        "fgsm 0.05": fgsm,
        "pgd 0.05": pgd,
        "one-pixel L0 1 pixel": one_pixel,
        "noise 0.05": noise,
        # of other budgets, which are not to be looked at
        "fgsm 0.02": 0.0,
        "pgd 0.02": 0.0,
        "one-pixel L0 5 pixels": 0.5,
        "noise 0.02": 0.5,
    }
    runs = {
        name: [
            SimpleNamespace(
                metrics={"success_share": share + off, "n_success": 10**6, "collapsed": False},
                arrays={},
            )
            for off in (-1e-4, 0, 1e-4)
        ]
        for name, share in shares.items()
    }
    claims = judge_claims(smoke(seeds=3).effects(made_up(runs)))
    assert [claim.code for claim in claims] == [
        "attacks.iterate",
        "attacks.pixels",
        "attacks.noise",
    ]
    assert [claim.verdict for claim in claims] == verdicts


def test_a_matrix_of_many_networks_has_no_room_for_intervals(
    done: tuple[Attacks, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, results = done
    _, wide, _ = study.findings(results).tables
    monkeypatch.setattr(page, "MOST_WIDE", 1)
    _, transfer, _ = study.findings(results).tables
    estimates = [[cell.estimate for cell in row[1:]] for row in wide.rows]
    assert [[cell.text for cell in row[1:]] for row in transfer.rows] == [
        [f"{100 * one.value:.0f} %" for one in row] for row in estimates
    ]
    most = max(100 * (one.high - one.low) / 2 for row in estimates for one in row)
    assert f"at most ± {most:.0f} points, are left out" in transfer.caption


def test_claims_rest_on_the_trials_they_name(done: tuple[Attacks, Results]) -> None:
    study, results = done
    trials = study.trials()
    rests = {effect.code: set(effect.rests_on) for effect in study.findings(results).effects}
    own = {trial.address for trial in trials["pgd 0.05"]}
    assert own <= rests["attacks.iterate"]
    assert not own & rests["attacks.noise"]


def test_attacks_that_would_have_one_name_are_refused() -> None:
    twice = [{"name": "pgd", "steps": 40}, {"name": "pgd", "steps": 1}]
    apart = [{"name": "pgd", "norm": "l2", "eps": 0.5}, {"name": "pgd", "norm": "l2", "eps": 2.0}]
    for attacks in (twice, apart):
        with pytest.raises(AssayError, match="every attack is there once in each norm; pgd"):
            smoke(attacks=attacks)
