"""The skip study, run for real on synthetic shapes, and its claims on results made by hand."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from assay import stats
from assay.models.loading import load_model
from assay.report.result import StudyResult
from assay.runs.results import Results
from assay.runs.store import Store
from assay.studies import running
from assay.studies.skip import Skip, _mean
from assay.train import SGD, AdamW, OneCycle, Recipe

TINY = Skip(
    preset="smoke",
    data="digits",
    seeds=2,
    depths=(1, 2),
    widths=(8, 16),
    stem_stride=2,
    train_images=1200,
    test_images=300,
    device="cpu",
    recipe=Recipe(epochs=3, batch_size=50, optimizer=AdamW(lr=1e-2), schedule=OneCycle()),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which the tiny study was run once."""
    root = tmp_path_factory.mktemp("store")
    assert running.run(TINY, root, workers=2, progress=False) == 0
    return Store(root)


def files(store: Store) -> dict[str, bytes]:
    """Everything that must be byte-identical whenever the same trials are run."""
    return {
        f"{entry.trial.address[:12]}/{name}": (entry.folder / name).read_bytes()
        for entry in store.trials()
        for name in ("metrics.json", "arrays.npz", "model.safetensors")
    }


class TestARun:
    def test_it_learns_and_its_tables_hold_the_metrics(self, store: Store) -> None:
        (run,) = store.runs()
        result = StudyResult.read(run.folder / "result.json")
        trials = TINY.plan(Results())
        assert len(trials) == 8
        assert {line.status for line in result.trials} == {"done"}
        accuracies = {}
        for trial in trials:
            found = store.result(trial)
            assert found is not None
            accuracies.setdefault(trial.label, []).append(found.metrics["test_accuracy"])
            assert found.metrics["n_test"] == 300
            assert found.arrays["test_correct"].mean() == pytest.approx(
                found.metrics["test_accuracy"]
            )
        assert np.mean(accuracies["skip [2,2]"]) > 0.5
        rows = {row[0].text: row[1] for row in result.tables[0].rows}
        for label, values in accuracies.items():
            assert rows[label].estimate.value == pytest.approx(np.mean(values))
            assert rows[label].estimate.n == 2
        assert {claim.verdict for claim in result.claims} <= {
            "holds",
            "does not hold",
            "undecided",
        }

    def test_the_saved_network_is_the_one_that_was_tested(self, store: Store) -> None:
        trial = TINY.plan(Results())[-1]
        found = store.result(trial)
        assert found is not None
        from assay.data import load_data

        test = load_data("digits").sample(300)
        x, y = next((x, y) for _, x, y in test.batches(300))
        said = load_model(found.path("model.safetensors")).predict(x)
        assert ((said == y).numpy() == found.arrays["test_correct"]).all()

    def test_gradient_norms_are_kept_for_every_layer(self, store: Store) -> None:
        for trial in TINY.plan(Results()):
            found = store.result(trial)
            assert found is not None
            norms, layers = found.arrays["gradient_norms"], found.metrics["history"]["layers"]
            assert norms.shape == (4, len(layers))
            assert (norms[0] > 0).all()

    def test_the_page_opens_with_the_verdicts_and_needs_no_network(self, store: Store) -> None:
        (run,) = store.runs()
        html = (run.folder / "index.html").read_text()
        for claim in run.document["claims"]:
            assert claim["verdict"] in html
        assert html.count("<svg") >= 3
        assert 'src="http' not in html

    def test_again_it_runs_nothing(self, store: Store) -> None:
        before = {p: p.stat().st_mtime_ns for p in store.root.glob("trials/*/record.json")}
        assert len(before) == 8
        running.run(TINY, store.root, workers=1, progress=False)
        assert {p: p.stat().st_mtime_ns for p in store.root.glob("trials/*/record.json")} == before

    def test_another_seed_changes_no_trial(self) -> None:
        more = TINY.model_copy(update={"seeds": 3})
        addresses = {trial.address for trial in more.plan(Results())}
        assert {trial.address for trial in TINY.plan(Results())} < addresses
        assert len(addresses) == 12

    def test_the_printed_command_makes_the_same_study(self, store: Store) -> None:
        import shlex

        from assay.commands.flags import merge
        from assay.commands.run import study_app

        (run,) = store.runs()
        made = StudyResult.read(run.folder / "result.json").made
        words = shlex.split(made.command)
        assert words[:3] == ["assay", "run", "skip"]
        assert merge({}, made.config) == TINY.model_dump(mode="json")
        with pytest.MonkeyPatch.context() as patch:
            seen: list[Any] = []
            patch.setattr(running, "run", lambda study, *_, **__: seen.append(study) or 0)
            study_app(Skip)(words[3:], exit_on_error=False, print_error=False)
        assert seen == [TINY]


def test_killed_at_any_moment_it_ends_with_the_same_bytes(store: Store, tmp_path: Path) -> None:
    """kill -9 of the whole process group at random moments, then the same command."""
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY.to_yaml())
    root = tmp_path / "runs"
    command = [sys.executable, "-m", "assay.cli", "run", "skip", "--config", str(config)]
    command += ["--store", str(root), "--workers", "2", "--quiet"]
    moments = random.Random(int(os.environ.get("ASSAY_TEST_SEED", "0")))
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        begun = time.monotonic()
        while not any(root.glob("trials/*/trial.json")) and time.monotonic() - begun < 60:
            time.sleep(0.05)
        time.sleep(moments.uniform(0.2, 4.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    assert files(Store(root)) == files(store)


# -- claims on results made by hand ----------------------------------------------------------------


def fake(accuracy: float, train: float, *, collapsed: bool = False) -> Any:
    metrics = {
        "test_accuracy": accuracy,
        "train_accuracy": train,
        "train_loss": 1 - train,
        "n_test": 10_000,
        "n_train": 45_000,
        "collapsed": collapsed,
    }
    return SimpleNamespace(metrics=metrics)


def cells(values: dict[tuple[bool, int], list[Any]]) -> list[stats.Claim]:
    study = Skip(seeds=3)
    return list(stats.judge_claims(study._effects(values)))


PLAIN_DEGRADES = {
    (False, 2): [fake(0.60, 0.62)] * 3,
    (False, 5): [fake(0.700, 0.80), fake(0.702, 0.802), fake(0.698, 0.799)],
    (False, 7): [fake(0.60, 0.65), fake(0.603, 0.653), fake(0.598, 0.651)],
    (True, 2): [fake(0.63, 0.7), fake(0.631, 0.7), fake(0.628, 0.7)],
    (True, 5): [fake(0.79, 0.9)] * 3,
    (True, 7): [fake(0.82, 0.95), fake(0.823, 0.95), fake(0.819, 0.95)],
}


def test_the_command_says_switches_as_the_command_line_takes_them() -> None:
    quick = Skip.preset_values("quick")
    made = Skip.parse({**quick, "recipe": {"optimizer": {"name": "sgd", "nesterov": False}}})
    assert "--no-recipe.optimizer.nesterov" in running.command(made).split()
    assert "nesterov" not in running.command(Skip.parse(quick))


def test_claims_take_the_right_difference_with_the_right_sign() -> None:
    degrades, gains, wins = cells(PLAIN_DEGRADES)
    assert degrades.estimate.value == pytest.approx(0.149, abs=1e-6), "training accuracy, 5 − 7"
    assert gains.estimate.value == pytest.approx(0.191, abs=1e-6), "test accuracy, skip 7 − 2"
    assert wins.estimate.value == pytest.approx(0.2203333, abs=1e-6), "skip 7 − plain 7"
    assert [c.verdict for c in (degrades, gains, wins)] == ["holds"] * 3


def test_the_opposite_does_not_hold() -> None:
    swapped = {(not skip, depth): found for (skip, depth), found in PLAIN_DEGRADES.items()}
    degrades, _, wins = cells(swapped)
    assert degrades.verdict == "does not hold"
    assert wins.verdict == "does not hold"


def test_collapsed_runs_are_counted_and_left_out() -> None:
    broken = [fake(0.10, 0.10, collapsed=True), *PLAIN_DEGRADES[False, 7][1:]]
    degrades, _, wins = cells({**PLAIN_DEGRADES, (False, 7): broken})
    assert wins.estimate.n == 2
    assert wins.estimate.value == pytest.approx(0.2205, abs=1e-6)
    assert "1 of plain [7,7]" in wins.note
    assert "1 of plain [7,7]" in degrades.note


def test_no_accuracy_is_said_to_be_above_one_or_below_nought() -> None:
    apart = [fake(0.55, 0.5), fake(0.95, 0.5)]
    assert (_mean(apart, "test_accuracy").low, _mean(apart, "test_accuracy").high) == (0.0, 1.0)


def test_one_seed_decides_nothing() -> None:
    study = Skip(seeds=1)
    single = {key: found[:1] for key, found in PLAIN_DEGRADES.items()}
    assert {c.verdict for c in stats.judge_claims(study._effects(single))} == {"undecided"}


def test_equal_seeds_are_no_certainty() -> None:
    """Three identical accuracies: the binomial floor keeps the interval open."""
    same = {key: [fake(0.5 + 0.0201 * key[0], 0.5)] * 3 for key in PLAIN_DEGRADES}
    _, _, wins = cells(same)
    assert wins.estimate.low < wins.estimate.value < wins.estimate.high
    assert wins.verdict == "undecided"


def test_each_further_number_of_seeds_is_a_look_that_costs(store: Store) -> None:
    assert running.look_at(TINY, store) == 1, "the same number of seeds again is the same look"
    assert running.look_at(TINY.model_copy(update={"seeds": 5}), store) == 2
    assert running.look_at(TINY.model_copy(update={"seeds": 5, "delta": 0.5}), store) == 1
    values = PLAIN_DEGRADES
    first, second = (
        stats.judge_claims(Skip()._effects(values), look=look)[0].estimate for look in (1, 2)
    )
    assert second.high - second.low > first.high - first.low


def test_presets_are_what_they_say() -> None:
    paper = Skip.parse(Skip.preset_values("paper"))
    cell = paper.cell(7, skip=True).network
    assert (cell.norm, cell.init, cell.stem_stride, cell.depths) == ("none", "default", 1, (7, 7))
    assert paper.recipe.optimizer.name == "adam"
    assert paper.recipe.batch_size == 64
    quick = Skip.parse(Skip.preset_values("quick"))
    assert quick == Skip()
    assert isinstance(quick.recipe.optimizer, SGD)
    assert quick.seeds >= 3


def test_dry_run_says_the_cost_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert running.dry_run(TINY, tmp_path / "runs", workers=1) == 0
    said = capsys.readouterr().out
    assert "8 trials" in said
    assert "skip [2,2]" in said
    assert not (tmp_path / "runs").exists()


def test_a_failed_trial_is_said_and_the_others_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = TINY.model_copy(
        update={"recipe": TINY.recipe.model_copy(update={"optimizer": SGD(lr=1e20)}), "seeds": 1}
    )
    assert running.run(wild, tmp_path, workers=1, progress=False) == 0, "a collapse is a result"
    capsys.readouterr()
    (run,) = Store(tmp_path).runs()
    document = json.loads((run.folder / "result.json").read_text())
    assert {claim["verdict"] for claim in document["claims"]} == {"not run"}
    assert "1 of 1" in json.dumps(document["tables"])
