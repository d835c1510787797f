"""The gradients study: its measures by hand and against theory, its claims, and a run for real."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from assay import stats
from assay.core.random import Stream
from assay.errors import AssayError
from assay.models import MLP
from assay.report.result import StudyResult
from assay.runs.results import Results
from assay.runs.store import Store
from assay.studies.gradients import Gradients
from assay.studies.gradients.networks import Net, gain_per_layer, lag, rms_gradients, widths_of
from assay.studies.interim import analyses_now
from assay.train import Adam, Constant, Recipe, Watch
from assay.train.watch import gradient_lengths, layer_weights
from assay.workflows import run as running
from studies.made_up import cells as made_up
from studies.made_up import fake

TINY = Gradients(
    preset="smoke",
    data="digits",
    seeds=2,
    shapes=("2x16", "4x16"),
    activations=("sigmoid", "relu"),
    cures_from=4,
    train_images=320,
    test_images=100,
    device="cpu",
    watch=Watch(every=5, images=50),
    recipe=Recipe(epochs=2, batch_size=32, optimizer=Adam(lr=1e-2), schedule=Constant()),
)


class TestMeasures:
    def test_a_shape_is_depth_by_width_or_one_of_the_course(self) -> None:
        assert widths_of("3x8") == (8, 8, 8)
        assert widths_of("course") == (256, 256, 128, 128, 64, 64, 32, 32, 16, 16)

    def test_gradients_compare_by_weight_and_only_between_hidden_layers(self) -> None:
        """Layers of 5, 4, 9 and 1 units: the norms of 4 x 5, 9 x 4 and 1 x 9 weights."""
        run = fake(0.5, look_gradient_norms=np.array([[99.0, math.sqrt(20), 12.0, 3.0, 99.0]]))
        found = rms_gradients(run, (5, 4, 9, 1))  # type: ignore[arg-type]
        assert found.tolist() == [pytest.approx([1.0, 2.0, 1.0])]

    def test_the_gain_is_the_slope_of_the_logarithm(self) -> None:
        assert gain_per_layer(np.array([1e-3, 1e-2, 1e-1])) == pytest.approx(math.log(10))
        assert gain_per_layer(np.array([4.0, 2.0, 1.0])) == pytest.approx(-math.log(2))
        # by hand: ln 1, 3, 2 over 0, 1, 2 has the slope (2 - 1) / 2
        assert gain_per_layer(np.exp([1.0, 3.0, 2.0])) == pytest.approx(0.5)

    def test_a_gradient_of_zero_is_the_smallest_there_is(self) -> None:
        assert gain_per_layer(np.array([0.0, 1.0])) == pytest.approx(45 * math.log(10))
        assert math.isnan(gain_per_layer(np.array([0.1])))

    def test_the_lag_is_in_decades_between_the_first_third_and_the_last(self) -> None:
        change = np.array([[9.0] * 6, [0.001, 0.003, 7.0, 7.0, 0.1, 0.3]])
        assert lag(fake(0.5, look_weight_change=change)) == pytest.approx(2.0)  # type: ignore[arg-type]

    def test_what_did_not_move_at_all_lags_by_as_much_as_float32_tells(self) -> None:
        change = np.array([[0.0, 0.5, 1.0]])
        assert lag(fake(0.5, look_weight_change=change)) == pytest.approx(9.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("activation", "variant", "kept", "within"),
    [
        ("sigmoid", "default", 0.25 / math.sqrt(3), 0.01),  # Var(w) = 1 / (3 fan)
        # Xavier: Var(w) = 1 / fan; what enters a sigmoid has variance 1/4, so that the root mean
        # square of its slope, 1/4 · (1 - z²/4 + ...), is a little below 1/4: sqrt(7/8) of it
        ("sigmoid", "proper", 0.25 * math.sqrt(7 / 8), 0.01),
        ("relu", "proper", 1.0, 0.06),  # He: Var(w) = 2 / fan, and half of the slopes are 1
        ("relu", "default", 1 / math.sqrt(6), 0.05),  # near the input the signal still shrinks
        ("tanh", "default", 1 / math.sqrt(3), 0.06),
    ],
)
def test_the_first_gradient_falls_as_theory_has_it(
    activation: Any, variant: Any, kept: float, within: float
) -> None:
    """Glorot & Bengio 2010, equations 5 to 7; He et al. 2015, equation 14."""
    net = Net(activation, "20x64", variant)
    found = []
    for seed in range(4):
        stream = Stream(seed)
        model = net.config().build((1, 28, 28), 10, stream)
        generator = stream.child("images").torch()
        x = torch.randn(64, 1, 28, 28, generator=generator)
        y = torch.randint(10, (64,), generator=generator)
        F.cross_entropy(model(x), y).backward()
        norms = gradient_lengths(layer_weights(model)).double().numpy()
        run = fake(0.5, look_gradient_norms=norms[None])
        found.append(math.exp(-net.gain(run)))  # type: ignore[arg-type]
    assert np.mean(found) == pytest.approx(kept, abs=within)


class TestTheGrid:
    def test_it_has_what_the_issue_names(self) -> None:
        grid = Gradients().grid()
        assert len(grid) == 5 * 5 * 2 + 5 * 3 * 2
        for activation in ("sigmoid", "tanh", "relu", "leaky_relu", "gelu"):
            proper = "xavier" if activation in ("sigmoid", "tanh") else "he"
            for shape in ("2x64", "5x64", "10x64", "20x64", "course"):
                init = {v: _mlp(grid[f"{activation} {shape} {v}"]) for v in ("default", "proper")}
                assert init["default"] == MLP(widths=widths_of(shape), activation=activation)
                assert init["proper"] == init["default"].model_copy(update={"init": proper})
            for shape in ("10x64", "20x64", "course"):
                bare = _mlp(grid[f"{activation} {shape} default"])
                for cure, change in (
                    ("batch norm", {"norm": "batch"}),
                    ("residual", {"residual": True}),
                ):
                    cured = _mlp(grid[f"{activation} {shape} {cure}"])
                    assert cured == bare.model_copy(update=change), "one change at a time"

    def test_nothing_regularizes_and_the_longest_come_first(self) -> None:
        grid = Gradients().grid()
        for cell in grid.values():
            assert _mlp(cell).dropout == 0
            assert cell.recipe.optimizer.weight_decay == 0
            assert (cell.recipe.label_smoothing, cell.recipe.mixup) == (0, 0)
            assert cell.augmentation.name == "none"
        depths = [len(_mlp(cell).widths) for cell in grid.values()]
        assert depths == sorted(depths, reverse=True)

    def test_paper_is_the_course(self) -> None:
        paper = Gradients.parse(Gradients.preset_values("paper"))
        assert {_mlp(cell).widths for cell in paper.grid().values()} == {
            (256, 128),
            (512, 256, 128, 64),
            (256, 256, 128, 128, 64, 64, 32, 32, 16, 16),
        }
        assert (paper.recipe.epochs, paper.recipe.patience, paper.seeds) == (50, 15, 1)
        assert (paper.recipe.optimizer.name, paper.recipe.optimizer.lr) == ("adam", 1e-3)
        assert paper.train_images is None

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"shapes": ("20x64", "dep")}, "'dep' is neither depth x width"),
            ({"shapes": ("20x64", "20 x 64")}, "each one once"),
            ({"shapes": ("2x64", "5x64")}, "the deepest shape is 5x64"),
            ({"activations": ("sigmoid", "tanh")}, "sigmoid and relu must be there"),
        ],
    )
    def test_what_cannot_be_judged_is_refused(self, settings: dict[str, Any], said: str) -> None:
        with pytest.raises(AssayError, match=said):
            Gradients(**settings)


def _mlp(cell: Any) -> MLP:
    assert isinstance(cell.network, MLP)
    return cell.network


# -- claims on results made by hand ----------------------------------------------------------------


def run_of(accuracy: float, *, keeps: float = 1.0, first: float = 0.1) -> Any:
    """A 20-layer run whose gradient changes by `keeps` per layer towards the input, and whose
    first third of layers moved by `first`, the rest by 0.2."""
    norms = keeps ** np.arange(20, -1, -1.0)[None]
    change = np.array([[first] * 7 + [0.2] * 14])
    collapsed = accuracy < 0.125
    return fake(accuracy, collapsed=collapsed, look_gradient_norms=norms, look_weight_change=change)


def several(accuracy: float, *, keeps: float = 1.0, first: float = 0.1) -> list[Any]:
    """Three seeds that differ a little, and in cells that differ not alike."""
    spread = (0.004 * (accuracy - 0.5), -0.002 * accuracy, 0.005 * keeps)
    return [run_of(accuracy + d, keeps=keeps * (1 + d), first=first * (1 + d)) for d in spread]


RUNS = {
    "sigmoid 20x64 default": several(0.11, keeps=0.14, first=1e-7),
    "sigmoid 20x64 proper": several(0.112, keeps=0.25),
    "sigmoid 20x64 batch norm": several(0.93),
    "sigmoid 20x64 residual": several(0.91),
    "tanh 20x64 default": several(0.8, keeps=0.58),
    "relu 20x64 default": several(0.7, keeps=0.41),
    "relu 20x64 proper": several(0.9),
}


def judged(runs: dict[str, list[Any]]) -> dict[str, stats.Claim]:
    claims = stats.judge_claims(Gradients(seeds=3).effects(made_up(runs)))
    return {claim.code.removeprefix("gradients."): claim for claim in claims}


def test_claims_are_judged_by_the_right_numbers_with_the_right_sign() -> None:
    claims = judged(RUNS)
    values = {code: claim.estimate.value for code, claim in claims.items()}
    assert values == {
        "sigmoid_vanishes": pytest.approx(-math.log(0.14), abs=1e-3),
        "sigmoid_steeper": pytest.approx(math.log(0.41 / 0.14), abs=1e-3),
        "tanh_steeper": pytest.approx(math.log(0.41 / 0.58), abs=1e-3),
        "first_layers": pytest.approx(math.log10(0.2 / 1e-7), abs=1e-3),
        "he_keeps": pytest.approx(-math.log(0.41), abs=2e-3),
        "proper": pytest.approx(0.002, abs=2e-3),
        "batch_norm": pytest.approx(0.82, abs=2e-3),
        "residual": pytest.approx(0.80, abs=2e-3),
    }
    verdicts = {code: claim.verdict for code, claim in claims.items()}
    assert verdicts == dict.fromkeys(verdicts, "holds") | {
        "tanh_steeper": "does not hold",
        "proper": "does not hold",
    }
    assert [claims[c].unit for c in ("sigmoid_vanishes", "first_layers")] == ["factor", "decades"]
    assert claims["proper"].unit == "points"


def test_what_collapsed_counts_since_it_is_asked_about() -> None:
    claims = judged(RUNS)
    assert {claim.estimate.n for claim in claims.values()} == {3}
    assert not any(claim.collapsed for claim in claims.values())


def test_healthy_sigmoid_nets_would_refute_the_claims() -> None:
    healthy = {
        cell: several(0.9 + 0.002 * place, keeps=0.95 + 0.002 * place, first=0.2)
        for place, cell in enumerate(RUNS)
    }
    claims = judged(healthy)
    assert {claim.verdict for claim in claims.values()} == {"does not hold"}


def test_each_claim_looks_at_its_own_nets(tmp_path: Path) -> None:
    def kinds(**change: Any) -> dict[str, tuple[str, ...]]:
        study = TINY.model_copy(update=change)
        effects = study.effects(study.cells(Results()))
        analyses = analyses_now(study, effects, Results(), Store(tmp_path))
        return {e.code: one.kinds for e, one in zip(effects, analyses, strict=True)}

    now = kinds()
    nets = {"sigmoid_vanishes": 1, "sigmoid_steeper": 2, "first_layers": 1, "he_keeps": 2}
    nets |= dict.fromkeys(("proper", "batch_norm", "residual"), 2)
    assert {code.split(".")[1]: len(found) for code, found in now.items()} == nets
    assert kinds(delta_gain=0.5, shapes=("4x16",)) == now
    tanh = kinds(activations=("sigmoid", "tanh", "relu"))
    assert tanh.pop("gradients.tanh_steeper")
    assert tanh == now
    deeper = kinds(shapes=("2x16", "6x16"))
    assert not any(deeper[code] == found for code, found in now.items())


def test_a_run_that_failed_is_left_out_and_said() -> None:
    claims = judged(
        {**RUNS, "sigmoid 20x64 residual": ["diverged", *RUNS["sigmoid 20x64 residual"][1:]]}
    )
    assert claims["residual"].estimate.n == 2
    assert claims["residual"].failed == {"sigmoid 20x64 residual": 1}
    assert claims["batch_norm"].estimate.n == 3


# -- a run for real --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which the tiny study was run once."""
    root = tmp_path_factory.mktemp("store")
    assert running.run(TINY, root, workers=1, progress=False) == 0
    return Store(root)


@pytest.fixture(scope="module")
def result(store: Store) -> StudyResult:
    (run,) = store.runs()
    return StudyResult.read(run.folder / "result.json")


class TestARun:
    def test_the_tables_hold_what_the_trials_measured(
        self, store: Store, result: StudyResult
    ) -> None:
        gains, accuracies = result.tables
        runs = [store.result(trial) for trial in TINY.trials()["sigmoid 4x16 default"]]
        slopes, right = [], []
        for run in runs:
            assert run is not None
            inner = run.arrays["look_gradient_norms"][0, 1:4] / 16
            slopes.append(np.polyfit([1, 2, 3], np.log(inner), 1)[0])
            right.append(run.metrics["test_accuracy"])
        (row,) = (r for r in gains.rows if (r[0].text, r[1].text) == ("sigmoid", "default"))
        assert gains.columns == ("activation", "variant", "4x16"), "2 layers have no slope"
        assert row[2].estimate is not None
        assert row[2].estimate.value == pytest.approx(math.exp(-np.mean(slopes)))
        low, high = row[2].estimate.low, row[2].estimate.high
        assert low is not None
        assert high is not None
        assert low < math.exp(-max(slopes))
        assert math.exp(-min(slopes)) < high
        assert row[2].trials == "sigmoid 4x16 default"
        (row,) = (r for r in accuracies.rows if (r[0].text, r[1].text) == ("relu", "residual"))
        assert row[2].text == "–", "the cures are tried on deep nets"
        assert row[3].estimate is not None

    def test_the_page_has_its_claims_and_figures(self, store: Store, result: StudyResult) -> None:
        (run,) = store.runs()
        html = (run.folder / "index.html").read_text()
        assert len(result.claims) == 7, "tanh was not asked for"
        for claim in result.claims:
            assert claim.estimate is not None
            assert claim.estimate.n == 2
            assert claim.code in html
        assert [(drawing.title, drawing.role) for drawing in result.figures] == [
            ("The gradient of each of 4 layers", "hero"),
            ("The gradient of each layer, before the first step", "data"),
            ("Training loss, 4 layers", "why"),
            ("How far each layer moved, 4 layers", "why"),
            ("Training loss", "data"),
            ("Validation accuracy", "data"),
            ("The gradient of each layer over training, 4 layers", "data"),
            ("Saturated and dead units, 4 layers", "data"),
        ]
        assert result.figures[0].finding.startswith("Of the gradient of the next layer")
        assert "sigmoid 0.1" in result.summary

    def test_a_page_without_results_says_so(self) -> None:
        found = TINY.findings(Results())
        assert found.summary == "No network was trained."
        assert {claim.verdict for claim in stats.judge_claims(found.effects)} == {"undecided"}
        cells = {cell.text for row in found.tables[1].rows for cell in row[2:]}
        assert cells == {"no result", "–"}


def test_the_dry_run_names_the_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert running.dry_run(TINY, tmp_path / "runs", workers=1) == 0
    said = capsys.readouterr().out
    assert "24 trials" in said
    assert "sigmoid 4x16 batch norm" in said
