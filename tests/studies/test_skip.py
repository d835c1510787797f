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
from typing import Any

import numpy as np
import pytest
import yaml

from assay import stats
from assay.errors import AssayError
from assay.models import CNN
from assay.models.loading import load_model
from assay.report.result import StudyResult
from assay.runs.engine import execute
from assay.runs.results import Results
from assay.runs.store import Store
from assay.studies.interim import Analyses, analyses_now
from assay.studies.skip import Skip, page
from assay.tasks.loss_surface import TASK as SURFACE
from assay.tasks.loss_surface import SurfaceOf
from assay.train import SGD, AdamW, OneCycle, Recipe, Watch
from assay.workflows import run as running
from studies.made_up import cells as made_up
from studies.made_up import fake

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
    watch=Watch(every=30, images=100),
    surface=SurfaceOf(images=50, size=5),
    bare=(2,),
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
        if name != "model.safetensors" or entry.trial.task != SURFACE
    }


class TestARun:
    def test_it_learns_and_its_tables_hold_the_metrics(self, store: Store) -> None:
        (run,) = store.runs()
        result = StudyResult.read(run.folder / "result.json")
        trials = TINY.plan(Results())
        assert len(trials) == 14, "(4 cells + 2 bare ones) × 2 seeds, 2 surfaces"
        trials = [trial for trial in trials if trial.task != SURFACE]
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
        rows = {row[0].text: row[1] for table in result.tables for row in table.rows}
        for label, values in accuracies.items():
            assert rows[label].estimate.value == pytest.approx(np.mean(values))
            assert rows[label].estimate.n == 2
        assert {claim.verdict for claim in result.claims} <= {
            "holds",
            "does not hold",
            "undecided",
        }

    def test_the_saved_network_is_the_one_that_was_tested(self, store: Store) -> None:
        trial = TINY.plan(Results())[0]
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
            if trial.task == SURFACE:
                continue
            norms = found.arrays["look_gradient_norms"]
            layers = found.metrics["history"]["looks"]["layers"]
            assert norms.shape == (len(found.arrays["look_steps"]), len(layers))
            assert (norms[0] > 0).all()

    def test_the_gradient_of_the_bare_plain_network_falls_towards_the_input(
        self, store: Store
    ) -> None:
        reach = {}
        for trial in TINY.plan(Results()):
            found = store.result(trial)
            if found is not None and trial.task != SURFACE:
                norms = found.arrays["look_gradient_norms"][0]
                reach.setdefault(trial.label, []).append(norms[0] / norms[-1])
        assert max(reach["plain [2,2] bare"]) < 0.1 * min(reach["skip [2,2] bare"])
        assert max(reach["plain [2,2] bare"]) < 0.1 * min(reach["plain [2,2]"])

    def test_the_surfaces_are_those_of_the_deepest_networks(self, store: Store) -> None:
        surfaces = [trial for trial in TINY.plan(Results()) if trial.task == SURFACE]
        assert [t.needs[0].label for t in surfaces] == ["plain [2,2]", "skip [2,2]"]
        (run,) = store.runs()
        assert "loss surface" in (run.folder / "index.html").read_text()

    def test_the_page_opens_with_the_verdicts_and_needs_no_network(self, store: Store) -> None:
        (run,) = store.runs()
        html = (run.folder / "index.html").read_text()
        for claim in run.document["claims"]:
            assert claim["verdict"] in html
        assert html.count("<svg") >= 3
        assert 'src="http' not in html

    def test_what_is_published_stands_alone(
        self, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "docs" / "skip"
        assert running.run(TINY, store.root, workers=1, progress=False, out=out) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(out / "index.html")
        assert {path.name for path in out.iterdir()} == {"index.html", "result.json", "config.yaml"}
        assert StudyResult.read(out / "result.json").trials_at == ""
        assert "../trials/" not in (out / "index.html").read_text()
        (run,) = store.runs()
        assert "../trials/" in (run.folder / "index.html").read_text()
        assert Skip.parse(yaml.safe_load((out / "config.yaml").read_text())) == TINY

    def test_a_folder_that_cannot_be_published_to_is_refused_first(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(AssayError, match="is or lies below a file"):
            running.run(TINY, tmp_path / "runs", progress=False, out=tmp_path / "file" / "out")
        assert not (tmp_path / "runs").exists()

    def test_again_it_runs_nothing(self, store: Store) -> None:
        before = {p: p.stat().st_mtime_ns for p in store.root.glob("trials/*/record.json")}
        assert len(before) == 14
        running.run(TINY, store.root, workers=1, progress=False)
        assert {p: p.stat().st_mtime_ns for p in store.root.glob("trials/*/record.json")} == before

    def test_another_seed_changes_no_trial(self) -> None:
        more = TINY.model_copy(update={"seeds": 3})
        addresses = {trial.address for trial in more.plan(Results())}
        assert {trial.address for trial in TINY.plan(Results())} < addresses
        assert len(addresses) == 20

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
            study_app(Skip, everything=True)(words[3:], exit_on_error=False, print_error=False)
        assert seen == [TINY]


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(store: Store, tmp_path: Path) -> None:
    """kill -9 of the whole process group at random moments, then the same command."""
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY.to_yaml())
    root = tmp_path / "runs"
    command = [sys.executable, "-m", "assay.cli", "run", "skip", "--config", str(config)]
    command += ["--store", str(root), "--workers", "2", "--quiet"]
    moments = random.Random(int(os.environ.get("ASSAY_TEST_SEED", "0")))
    for _ in range(3):
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


def judged(values: dict[str, list[Any]]) -> list[stats.Claim]:
    return list(stats.judge_claims(Skip(seeds=3).effects(made_up(values))))


PLAIN_DEGRADES = {
    "plain [2,2]": [fake(0.60, 0.62)] * 3,
    "plain [5,5]": [fake(0.700, 0.80), fake(0.702, 0.802), fake(0.698, 0.799)],
    "plain [7,7]": [fake(0.60, 0.65), fake(0.603, 0.653), fake(0.598, 0.651)],
    "skip [2,2]": [fake(0.63, 0.7), fake(0.631, 0.7), fake(0.628, 0.7)],
    "skip [5,5]": [fake(0.79, 0.9)] * 3,
    "skip [7,7]": [fake(0.82, 0.95), fake(0.823, 0.95), fake(0.819, 0.95)],
}


def analyses(store: Store, done: Results | None = None, **change: Any) -> list[Analyses]:
    study = TINY.model_copy(update=change)
    found = execute(study.plan, store, progress=False) if done is None else done
    return list(analyses_now(study, study.effects(study.cells(found)), found, store))


def test_analyses_are_of_the_networks_that_a_claim_compares(store: Store) -> None:
    unrelated = [{"delta": 0.3}, {"surface": None}, {"bare": ()}]
    for change in unrelated:
        assert [one.at for one in analyses(store, **change)] == [(2,)] * 5, change
    both = {**unrelated[0], **unrelated[1], "seeds": 3, "bare_optimizer": SGD(lr=0.1)}
    nothing = Results()
    assert [one.at for one in analyses(store, nothing, **both)] == [(2, 3)] * 5, "a further one"
    other = {"recipe": TINY.recipe.model_copy(update={"epochs": 4})}
    for change in (other, {"dropout": 0.1}, {"train_images": 1000}, {"watch": Watch(every=9)}):
        assert [one.at for one in analyses(store, nothing, **change)] == [(2,)] * 5, "begins anew"
        assert not {one.kinds for one in analyses(store, nothing, **change)} & {
            one.kinds for one in analyses(store, nothing)
        }


def test_the_command_says_switches_as_the_command_line_takes_them() -> None:
    quick = Skip.preset_values("quick")
    made = Skip.parse({**quick, "recipe": {"optimizer": {"name": "sgd", "nesterov": False}}})
    assert "--no-recipe.optimizer.nesterov" in running.command(made).split()
    assert "nesterov" not in running.command(Skip.parse(quick))


def test_every_kind_of_cell_has_its_colour_also_at_a_depth_that_only_bare_ones_have() -> None:
    study = TINY.model_copy(update={"bare": (3,), "cures": True})
    colours = {cell: page.style(study, cell) for cell in study.grid()}
    assert colours["plain [3,3] bare"] == (2, 1)
    assert colours["skip [2,2]"] == (1, 0)
    assert len({colour for colour, _ in colours.values()}) == 5


def test_claims_take_the_right_difference_with_the_right_sign() -> None:
    degrades, gains, wins, undoes, shallow = judged(PLAIN_DEGRADES)
    assert degrades.estimate.value == pytest.approx(0.149, abs=1e-6), "training accuracy, 5 − 7"
    assert gains.estimate.value == pytest.approx(0.191, abs=1e-6), "test accuracy, skip 7 − 2"
    assert wins.estimate.value == pytest.approx(0.2203333, abs=1e-6), "skip 7 − plain 7"
    assert undoes.estimate.value == pytest.approx(0.1906667, abs=1e-6), "skip 7 − 2, less plain's"
    assert shallow.estimate.value == pytest.approx(0.0296667, abs=1e-6), "skip 2 − plain 2"
    assert [c.verdict for c in (degrades, gains, wins, undoes)] == ["holds"] * 4
    assert shallow.verdict == "undecided", "three points, on three seeds"


def test_networks_alike_at_the_shallow_end_are_equivalent() -> None:
    def shallow(plain: float, skip: float) -> str:
        cells = {"plain [2,2]": [fake(plain)] * 5, "skip [2,2]": [fake(skip)] * 5}
        return judged({**dict.fromkeys(PLAIN_DEGRADES, [fake(0.6)] * 5), **cells})[-1].verdict

    assert shallow(0.60, 0.602) == "equivalent"
    assert shallow(0.60, 0.62) == "undecided"
    assert shallow(0.60, 0.66) == shallow(0.66, 0.60) == "does not hold"


def test_the_opposite_does_not_hold() -> None:
    other = {"plain": "skip", "skip": "plain"}
    swapped = {f"{other[c[:-6]]} {c[-5:]}": found for c, found in PLAIN_DEGRADES.items()}
    degrades, _, wins, *_ = judged(swapped)
    assert degrades.verdict == "does not hold"
    assert wins.verdict == "does not hold"


def test_collapsed_runs_are_counted_and_left_out() -> None:
    broken = [fake(0.10, 0.10, collapsed=True), *PLAIN_DEGRADES["plain [7,7]"][1:]]
    degrades, _, wins, *_ = judged({**PLAIN_DEGRADES, "plain [7,7]": broken})
    assert wins.estimate.n == 2
    assert wins.estimate.value == pytest.approx(0.2205, abs=1e-6)
    assert "1 of plain [7,7]" in wins.note
    assert "1 of plain [7,7]" in degrades.note


def test_one_seed_decides_nothing() -> None:
    single = {cell: found[:1] for cell, found in PLAIN_DEGRADES.items()}
    assert {claim.verdict for claim in judged(single)} == {"undecided"}


def test_equal_seeds_are_no_certainty() -> None:
    """Three identical accuracies: the binomial floor keeps the interval open."""
    same = {c: [fake(0.5 + 0.0201 * c.startswith("skip"), 0.5)] * 3 for c in PLAIN_DEGRADES}
    _, _, wins, *_ = judged(same)
    assert wins.estimate.low < wins.estimate.value < wins.estimate.high
    assert wins.verdict == "undecided"


def test_presets_are_what_they_say() -> None:
    paper = Skip.parse(Skip.preset_values("paper"))
    cell = paper.grid()["skip [7,7]"].network
    assert isinstance(cell, CNN)
    assert (cell.norm, cell.init, cell.stem_stride, cell.depths) == ("none", "default", 1, (7, 7))
    assert paper.recipe.optimizer.name == "adam"
    assert paper.recipe.batch_size == 64
    quick = Skip.parse(Skip.preset_values("quick"))
    assert quick == Skip(images_by_seed=True)
    assert isinstance(quick.recipe.optimizer, SGD)
    assert quick.seeds >= 3
    assert len(quick.grid()) == 6
    assert {(c.network.norm, c.network.init) for c in quick.grid().values()} == {("batch", "he")}
    full = Skip.parse(Skip.preset_values("full")).grid()
    assert len(full) == 14
    bare = full["plain [7,7] bare"].network
    assert isinstance(bare, CNN)
    assert (bare.norm, bare.init, bare.skip) == ("none", "default", False)
    optimizers = {cell: training.recipe.optimizer.name for cell, training in full.items()}
    assert optimizers["plain [7,7] bare"] == optimizers["plain [7,7] He only"] == "adam"
    assert optimizers["plain [7,7] batch norm only"] == optimizers["skip [7,7]"] == "sgd"


def test_dry_run_says_the_cost_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert running.dry_run(TINY, tmp_path / "runs", workers=1) == 0
    said = capsys.readouterr().out
    assert "14 trials" in said
    assert "skip [2,2]" in said
    assert not (tmp_path / "runs").exists()


def test_a_failed_trial_is_said_and_the_others_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = TINY.model_copy(
        update={
            "recipe": TINY.recipe.model_copy(update={"optimizer": SGD(lr=1e20)}),
            "seeds": 1,
            "bare": (),
            "surface": None,
        }
    )
    assert running.run(wild, tmp_path, workers=1, progress=False) == 1
    said = capsys.readouterr().out
    assert "failed: plain [1,1]: diverged: training loss is" in said
    (run,) = Store(tmp_path).runs()
    document = json.loads((run.folder / "result.json").read_text())
    assert {claim["verdict"] for claim in document["claims"]} == {"not run"}
    assert "1 failed of 1" in json.dumps(document["tables"])
    assert "diverged" in document["claims"][0]["note"]


def test_the_paper_preset_is_the_course_s_protocol() -> None:
    paper = Skip.parse(Skip.preset_values("paper"))
    assert (paper.data, paper.depths, paper.widths) == ("cifar10", (2, 5, 7), (16, 32))
    cell = paper.grid()["skip [7,7]"]
    assert cell.network.model_dump(exclude={"name"}) == {
        "depths": (7, 7),
        "widths": (16, 32),
        "skip": True,
        "shortcut": "none",
        "norm": "none",
        "stem_stride": 1,
        "stage_stride": 1,
        "dropout": 0.0,
        "init": "default",
    }
    assert cell.augmentation.model_dump() == {
        "name": "simple",
        "degrees": 10.0,
        "translate": 0.05,
        "scale": (0.95, 1.05),
        "blur": (0.1, 0.5),
        "blur_p": 0.3,
    }
    recipe = cell.recipe
    assert recipe.optimizer.model_dump() == {"name": "adam", "lr": 1e-3, "weight_decay": 0.0}
    assert (recipe.schedule.name, recipe.batch_size, recipe.accumulate) == ("constant", 64, 1)
    assert (recipe.epochs, recipe.patience, recipe.precision) == (100, 15, "float32")
    assert (recipe.label_smoothing, recipe.grad_clip) == (0.0, 0.0)
