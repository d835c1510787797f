"""The study of hardening: equal compute, what each recipe is, and a page of made-up results."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from assay.attacks import PGD
from assay.errors import AssayError
from assay.report.record import EstimateModel
from assay.report.result import Cell, StudyResult, Table
from assay.runs.results import Results
from assay.stats import judge_claims
from assay.studies.hardening import Hardening
from assay.studies.hardening.lead import on_the_front
from assay.studies.hardening.names import NATURAL, NOISY, SHORT, under
from assay.tasks.adversaries import NFGSM, StaticMix
from assay.tasks.attack import AttackNetwork
from assay.train import IBP, Trades
from studies.made_up import cells as made_up

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def preset(name: str, **settings: object) -> Hardening:
    return Hardening.parse({**Hardening.preset_values(name), "device": "cpu", **settings})


@pytest.mark.parametrize("name", ["smoke", "quick", "cifar10", "full", "paper"])
def test_recipes_compute_about_the_same(name: str) -> None:
    study = preset(name)
    spent = {
        recipe: study.costs()[recipe] * config.recipe.epochs
        for recipe, config in study.grid().items()
        if recipe != SHORT
    }
    assert max(spent.values()) <= study.passes
    assert min(spent.values()) >= 0.6 * study.passes  # whole epochs of 21 passes each
    assert study.epochs(NOISY) / 3.5 <= study.epochs(SHORT) <= study.epochs(NOISY) / 3


def test_each_recipe_is_what_it_is_called() -> None:
    grid = preset("quick", eps=0.1).grid()
    assert grid["natural"].moves is None
    assert isinstance(grid["N-FGSM"].hardening, NFGSM)
    assert isinstance(grid["static mix"].hardening, StaticMix)
    assert isinstance(grid["IBP"].recipe.loss, IBP)
    assert isinstance(grid["TRADES"].recipe.loss, Trades)
    fast, several = grid["Fast-AT"].adversary, grid["PGD-AT"].adversary
    assert isinstance(fast, PGD)
    assert isinstance(several, PGD)
    assert (fast.steps, fast.step_size) == (1, pytest.approx(0.125))
    assert (several.steps, several.step_size) == (7, pytest.approx(0.025))
    guard = grid["Fast-AT"].recipe.guard
    assert guard is not None
    assert guard.response == "note"  # the collapse is to be seen
    assert all(config.recipe.ema for config in grid.values())


@pytest.mark.parametrize("name", ["eps", "mixed_by", "budgets"])
def test_a_budget_in_grey_levels_is_understood_and_refused(name: str) -> None:
    with pytest.raises(AssayError, match="8/255"):
        preset("quick", **{name: [8] if name == "budgets" else 8})


def test_interval_bounds_are_for_networks_without_norms() -> None:
    assert "IBP" in preset("paper").grid()
    assert "IBP" not in preset("full").grid()


def test_images_are_changed_alike_in_every_recipe_and_nothing_is_said_where_none_are() -> None:
    flipped = {config.augmentation.name for config in preset("cifar10").grid().values()}
    assert flipped == {"crop-flip"}
    assert "augmentation" not in preset("full").model_dump()


def test_whom_another_recipe_beats_is_not_on_the_front() -> None:
    both = {"natural": (0.9, 0.1), "mix": (0.9, 0.0), "noisy": (0.6, 0.4), "several": (0.6, 0.3)}
    assert on_the_front(both) == ["natural", "noisy"]
    assert on_the_front({"a": (0.5, 0.5), "b": (0.5, 0.5)}) == ["a", "b"]  # neither beats the other


def test_figures_say_what_the_table_says_and_of_how_many_images() -> None:
    study = preset("quick")

    def share(value: float) -> Cell:
        return Cell(estimate=EstimateModel(value=value, low=value, high=value, n=3, of="seeds"))

    table = Table(
        title="Accuracy, clean and attacked at 0.15",
        columns=("recipe", "clean", "under auto"),
        rows=(
            (Cell(text="natural"), share(0.97), share(0.13)),
            (Cell(text="PGD-AT"), share(0.90), share(0.70)),
            (Cell(text="TRADES"), share(0.89), share(0.69)),
        ),
    )
    told = StudyResult.read(RESULTS / "hardening" / "result.json")
    hero, front = study.figures_of(told.model_copy(update={"tables": (table,)}))
    assert hero.finding == (
        "PGD-AT leaves 70 % right under auto, natural training 13 %; clean they have 90 % and 97 %"
    )
    assert "Clean of 2,000 test images, under auto of 100 of them" in hero.caption
    assert front.finding == "natural and PGD-AT are on the Pareto front"
    assert study.figures_of(told.model_copy(update={"tables": ()})) == []


def test_every_network_meets_every_judge_at_the_budget_of_its_hardening() -> None:
    study = preset("smoke")
    cells = study.measured()
    for recipe in study.costs():
        for attack in study.judges:
            config = AttackNetwork.parse(cells[under(recipe, attack.name)][0].config)
            assert config.attack.threat.eps == study.eps
        assert under(recipe, "examined") in cells
        for attack in study.course:
            config = AttackNetwork.parse(cells[under(recipe, attack.name)][0].config)
            assert config.attack.threat.eps == (
                attack.threat.eps if attack.threat.norm == "l0" else study.eps
            )
            assert config.images == study.course_images
    trained = len(study.costs()) + 1  # and the autoencoder
    assert len(study.plan(Results())) == study.seeds * (len(cells) + trained)


HARDENED = {"PGD-AT": 0.60, "N-FGSM": 0.66, "short N-FGSM": 0.50, "static mix": 0.20}
"""Robust accuracies, natural training's being 0.10, of which every claim holds."""
NOT = {"PGD-AT": 0.11, "N-FGSM": 0.09, "short N-FGSM": 0.10, "static mix": 0.10}
"""Those of which none holds."""


def results(
    robust: dict[str, float], clean: float, seen: float, area: float
) -> dict[str, list[SimpleNamespace]]:
    """Return three runs of every cell that a claim is about."""

    def runs(value: float, *metrics: str, spread: float = 1e-4) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                metrics=dict.fromkeys(metrics, value + off)
                | {"n_robust": 10**6, "n_test": 10**6, "n_examined": 10**6, "collapsed": False},
                arrays={},
            )
            for off in (-spread, 0, spread)
        ]

    areas = ("noise_auroc", "near_auroc")
    found = {under(name, "auto"): runs(value, "robust_accuracy") for name, value in robust.items()}
    found |= {name: runs(clean, "test_accuracy") for name in robust}
    found |= {
        NATURAL: runs(0.95, "test_accuracy"),
        under(NATURAL, "auto"): runs(0.10, "robust_accuracy"),
        under("static mix", "fgsm"): runs(seen, "robust_accuracy"),
        under(NATURAL, "fgsm"): runs(0.15, "robust_accuracy"),
        under(NOISY, "examined"): runs(area, *areas),
        under(NATURAL, "examined"): runs(0.60, *areas, spread=3e-4),
    }
    return found


@pytest.mark.parametrize(
    ("robust", "clean", "seen", "area", "verdict"),
    [
        (HARDENED, 0.80, 0.70, 0.90, "holds"),
        (NOT, 0.95, 0.10, 0.60, "does not hold"),
    ],
)
def test_verdicts_on_results_by_hand(
    robust: dict[str, float], clean: float, seen: float, area: float, verdict: str
) -> None:
    study = preset("quick")
    claims = judge_claims(study.effects(made_up(results(robust, clean, seen, area))))
    assert {claim.code: claim.verdict for claim in claims} == dict.fromkeys(CLAIMS, verdict)
    said = study.answer(claims)
    no_more = "PGD-AT is no more robust under auto than N-FGSM at a third of the compute"
    assert (no_more in said) == (verdict == "does not hold")


CLAIMS = [
    *(f"hardening.holds.{code}" for code in ("mix", "noisy", "several")),
    *(f"hardening.costs.{code}" for code in ("noisy", "several")),
    "hardening.seen",
    "hardening.defends",
    "hardening.little",
    "hardening.cheap",
    "hardening.third",
    "hardening.noise",
    "hardening.near",
]


@pytest.mark.parametrize(
    ("mix", "verdict"), [(0.32, "holds"), (0.33, "undecided"), (0.34, "does not hold")]
)
def test_what_the_mix_brings_is_measured_by_half_of_what_pgd_at_brings(
    mix: float, verdict: str
) -> None:
    """Natural 10 %, PGD-AT 60 %: half of the gain leaves 35 %, and two points less are little."""
    found = results({**HARDENED, "static mix": mix}, 0.8, 0.7, 0.9)
    claims = judge_claims(preset("quick").effects(made_up(found)))
    (little,) = (claim for claim in claims if claim.code == "hardening.little")
    assert little.estimate.value == pytest.approx(0.35 - mix)
    assert little.verdict == verdict
