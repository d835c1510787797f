"""Sweeps: what is tried, what is given up, what is judged, on made-up trainings in this process."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from browsing import chromium, opens
from engines import Here

from assay.cli import app, call
from assay.errors import AssayError
from assay.report.result import StudyResult
from assay.runs.entry import Failure
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Message
from assay.studies.regularization import Regularization
from assay.studies.searching import Param, at, read_param, written
from assay.workflows import sweep as working

pytest.importorskip("optuna")

BEST = 0.01
"""The learning rate at which made-up trainings do best."""
SMALL = ("regularization", "--data", "digits", "--quiet", "--train-images", "300")
LR = ("--param", "recipe.lr=1e-4..1e-1")


def made_up(trial: Trial) -> Outcome:
    """Return what a training might have found: the best at `BEST`, a little other by seed and cell.

    On seeds that choose, chance adds more to large rates: whoever believes that score is misled.
    """
    rate = trial.config["recipe"]["optimizer"]["lr"]
    accuracy = 0.9 - 0.1 * abs(math.log10(rate / BEST)) + 0.001 * (trial.seed % 7)
    kept = accuracy + (0.02 if trial.seed >= 2000 else 0.0)
    history = {"val_accuracy": [kept, 0.1], "best_epoch": 1, "restored": True}
    metrics: dict[str, Any] = {"test_accuracy": accuracy, "train_accuracy": accuracy, "n_test": 500}
    return Outcome({**metrics, "history": history, "collapsed": False})


def train(store: Store, trial: Trial, tell: object, *, again: bool, fails: float) -> Message:
    """Make a result up, or fail: where the rate is above `fails`, and where none can be made up."""
    del tell, again
    entry = store.entry(trial)
    with entry.lock():
        entry.begin()
        try:
            if trial.config["recipe"]["optimizer"]["lr"] > fails:
                raise KeyError
            entry.finish(made_up(trial), {"seconds": 1.0})
        except KeyError:
            failure = Failure(kind="error", message="the loss is not finite")
            entry.fail(failure)
            return Message("failed", failure=failure)
    return Message("done")


Command = Callable[..., tuple[int, list[Trial]]]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `assay sweep` on made-up trainings: (exit code, the trials that it ran)."""
    monkeypatch.chdir(tmp_path)

    def run(
        *tokens: str, most: float = float("inf"), fails: float = float("inf")
    ) -> tuple[int, list[Trial]]:
        engine = Here(tmp_path / "runs", most=most, do=partial(train, fails=fails))
        monkeypatch.setattr(working, "execute", engine.execute)
        return call(app, ["sweep", *SMALL, *tokens]), engine.taken

    return run


def found(folder: Path) -> StudyResult:
    (path,) = folder.glob("runs/studies/sweep-regularization-*/result.json")
    return StudyResult.model_validate_json(path.read_text())


ONE = ("--cell", "none")


def test_the_best_is_found_and_judged_on_seeds_that_chose_nothing(
    sweep: Command, tmp_path: Path
) -> None:
    command = (*LR, "--tries", "12", "--seeds", "4", *ONE)
    code, ran = sweep(*command)
    assert code == 0
    chose = [trial for trial in ran if trial.seed >= 2000]
    judged = [trial for trial in ran if trial.seed < 2000]
    rates = {trial.config["recipe"]["optimizer"]["lr"] for trial in chose}
    assert len(chose) == len(rates) == 12  # one training each
    assert {trial.seed for trial in judged} == {0, 1, 2, 3}
    winner = min(rates, key=lambda rate: abs(math.log10(rate / BEST)))
    own = chose[0].config["recipe"]["optimizer"]["lr"]
    assert {t.config["recipe"]["optimizer"]["lr"] for t in judged} == {winner, own}
    result = found(tmp_path)
    (claim,) = result.claims
    gain = 0.1 * (abs(math.log10(own / BEST)) - abs(math.log10(winner / BEST)))
    assert claim.estimate is not None
    assert claim.estimate.value == pytest.approx(gain, abs=1e-6)  # without what chance added
    assert claim.estimate.level == pytest.approx(0.975)  # one claim, its first look: 1 - 0.05 / 2
    assert "12 settings" in claim.text
    table = result.table("Every setting that was tried")
    assert table is not None
    assert len(table.rows) == 12
    assert sweep(*command) == (0, [])  # all of it is there
    code, more = sweep(*LR, "--tries", "14", "--seeds", "4", *ONE)
    assert len([trial for trial in more if trial.seed >= 2000]) == 2
    look = found(tmp_path).claims[0].look
    assert look == (2 if any(trial.seed < 2000 for trial in more) else 1)


def test_the_page_fits_a_phone(sweep: Command, tmp_path: Path) -> None:
    chromium()
    assert sweep(*LR, "--tries", "3", "--seeds", "2", *ONE)[0] == 0
    (page,) = tmp_path.glob("runs/studies/sweep-*/index.html")
    opens(tmp_path, {"sweep": page.read_text()})


def test_it_goes_on_where_it_was_stopped(sweep: Command, tmp_path: Path) -> None:
    command = (*LR, "--tries", "6", "--seeds", "2", *ONE, "--workers", "2")
    whole = [trial.address for trial in sweep(*command)[1]]
    for path in (tmp_path / "runs").rglob("*"):
        if path.is_file():
            path.unlink()
    code, first = sweep(*command, most=3)
    assert (code, len(first)) == (130, 3)
    code, rest = sweep(*command)
    assert code == 0
    assert [trial.address for trial in (*first, *rest)] == whole


def test_settings_that_start_badly_are_given_up(sweep: Command, tmp_path: Path) -> None:
    code, ran = sweep(*LR, "--tries", "14", "--seeds", "2", *ONE, "--select-seeds", "3")
    assert code == 0
    table = found(tmp_path).table("Every setting that was tried")
    assert table is not None
    given_up = [row for row in table.rows if row[-1].text == "given up early"]
    assert given_up
    steps = [int(row[-2].text) for row in table.rows]
    assert sum(steps) == len([trial for trial in ran if trial.seed >= 2000]) < 3 * 14
    best = [row for row in table.rows if row[2].mark == "best"]
    assert [row[-1].text for row in best] == [""]


def test_failed_settings_count_as_tried_and_say_why(
    sweep: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = sweep(*LR, "--tries", "8", "--seeds", "2", *ONE, fails=3e-3)
    assert code == 0
    table = found(tmp_path).table("Every setting that was tried")
    assert table is not None
    assert len(table.rows) == 8
    assert any("failed: the loss is not finite" in row[-1].text for row in table.rows)
    code, _ = sweep(*LR, "--tries", "3", "--seeds", "2", "--cell", "dropout 0.2", fails=0.0)
    assert code == 1
    assert "None of 3 settings could be scored: the loss is not finite" in capsys.readouterr().out


MISTAKES = {
    "study": (("nostudy", *LR), "nostudy"),
    "no cells": (("attacks", *LR), "attacks is no study of trainings side by side"),
    "none": ((), "say what is varied: --param recipe.lr=1e-4..1e-1"),
    "no values": (("--param", "recipe.lr"), "--param is NAME=LOW..HIGH or NAME=A,B,C"),
    "one value": (("--param", "recipe.lr=0.1"), "'0.1' is one value"),
    "backwards": (("--param", "recipe.lr=1..0.1"), "a range goes from less to more"),
    "words": (("--param", "recipe.lr=a..b"), "the ends of a range are numbers"),
    "unknown": (("--param", "recipe.lrr=1e-4..1"), "did you mean recipe.optimizer.lr?"),
    "many": (("--param", "name=a,b"), "--param name could be recipe.optimizer.name"),
    "a choice": (("--param", "recipe.optimizer=sgd,adamw"), "give recipe.optimizer.name=A,B"),
    "run": (("--param", "seeds=2..9"), "seeds says how the study is run or judged"),
    "data": (("--param", "data=digits,mnist"), "data says how the study is run or judged"),
    "delta of the study": (("--param", "delta=0.01..0.1"), "delta says how"),
    "refused at an end": (("--param", "recipe.epochs=0..3"), "--param recipe.epochs=0"),
    "refused choice": (("--param", "recipe.epochs=2,x"), "--param recipe.epochs=x"),
    "no change": (
        ("--param", "mixup=0.1..0.5", "--cell", "none"),
        "--param mixup: 0.1 to 0.5 changes no training of the cell none",
    ),
    "same values": (("--param", "recipe.lr=0.1,0.10"), "'0.1,0.10' is one value"),
    "twice": ((*LR, "--param", "recipe.optimizer.lr=1..2"), "was given twice"),
    "cell": ((*LR, "--cell", "nine"), "--cell nine: regularization has the cells"),
    "tries": ((*LR, "--tries", "1"), "--tries must be at least 2, got 1"),
    "bucket": ((*LR, "--store", "s3://b/runs"), "--store s3://b/runs: a sweep keeps a journal"),
    "delta": ((*LR, "--delta", "2"), "--delta is a difference of fractions"),
}


@pytest.mark.parametrize("which", MISTAKES)
def test_mistakes_are_one_line(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tokens, words = MISTAKES[which]
    given = tokens if which in ("study", "no cells") else (*SMALL, *tokens)
    assert call(app, ["sweep", *given]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_ranges_are_read_as_they_are_written() -> None:
    study = Regularization.parse({"data": "digits"})
    rate = read_param("recipe.lr=1e-4..1e-1", study)
    assert rate == Param("recipe.optimizer.lr", 1e-4, 0.1, whole=False, log=True)
    assert read_param("recipe.epochs=2..9", study) == Param("recipe.epochs", 2, 9, whole=True)
    assert read_param("recipe.label-smoothing=0..0.5", study).log is False
    choice = read_param("recipe.optimizer.name=sgd,adamw", study)
    assert choice.choices == ("sgd", "adamw")
    values = {"recipe.optimizer.lr": 0.25, "recipe.epochs": 3}
    other = at(study, values)
    assert (other.recipe.optimizer.lr, other.recipe.epochs) == (0.25, 3)
    assert at(study, {"recipe.optimizer.name": "sgd"}).recipe.optimizer.name == "sgd"
    assert written({"recipe.optimizer.lr": 0.25}, [rate]) == "lr 0.25"
    assert rate.at_an_end(1.1e-4)
    assert rate.at_an_end(0.095)
    assert not rate.at_an_end(0.01)
    with pytest.raises(AssayError, match=r"--param recipe.epochs=0"):
        at(study, {"recipe.epochs": 0})
    zero = read_param("recipe.label-smoothing=0,0.1", study)
    assert zero.choices == ("0.0", "0.1")  # the study's own is among them


def test_another_optimizer_keeps_the_rate_that_is_tried_with_it() -> None:
    study = Regularization.parse({"data": "digits"})
    tried = {"recipe.optimizer.lr": 0.25, "recipe.optimizer.name": "sgd"}
    assert at(study, tried).recipe.optimizer.lr == 0.25
    assert at(study, dict(reversed(tried.items()))).recipe.optimizer.lr == 0.25


def test_two_settings_of_one_name_are_told_apart() -> None:
    study = Regularization.parse({"data": "digits"})
    names = ("recipe.optimizer.name=sgd,adamw", "recipe.schedule.name=cosine,constant")
    params = [read_param(text, study) for text in names]
    setting = {"recipe.optimizer.name": "sgd", "recipe.schedule.name": "cosine"}
    assert written(setting, params) == "optimizer.name sgd, schedule.name cosine"


def test_a_setting_that_the_study_refuses_counts_as_tried(
    sweep: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # nesterov without momentum is refused; each alone is not
    sgd = ("--recipe.optimizer.name", "sgd", "--recipe.optimizer.momentum", "0.9")
    varied = ("--param", "momentum=0,0.9", "--param", "nesterov=true,false")
    command = (*sgd, *varied, "--tries", "9", "--seeds", "2", *ONE)
    code, _ = sweep(*command)
    assert code == 0, capsys.readouterr().err
    table = found(tmp_path).table("Every setting that was tried")
    assert table is not None
    assert len(table.rows) == 9
    assert any("failed: --param " in row[-1].text for row in table.rows)


def test_a_proposal_cut_short_and_half_a_line_go_on(sweep: Command, tmp_path: Path) -> None:
    command = (*LR, "--param", "recipe.epochs=2..9", "--tries", "3", "--seeds", "2", *ONE)
    command = (*command, "--workers", "1")
    whole = [trial.address for trial in sweep(*command)[1]]
    (journal,) = tmp_path.rglob("settings.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    asked = max(k for k, line in enumerate(lines) if b'"op_code":4' in line)
    journal.write_bytes(b"".join(lines[: asked + 1]) + lines[asked + 1][:9])
    for path in (tmp_path / "runs" / "trials").rglob("*"):
        if path.is_file():
            path.unlink()
    code, again = sweep(*command)
    assert code == 0
    assert [trial.address for trial in again][-5:] == whole[-5:]


def test_a_judgement_that_lost_a_trial_counts_as_one(
    sweep: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(trial: Trial) -> Outcome:
        if trial.seed == 0:
            raise KeyError
        return whole(trial)

    whole = made_up
    command = (*LR, "--tries", "5", "--seeds", "3", *ONE)
    monkeypatch.setitem(globals(), "made_up", lossy)
    assert sweep(*command)[0] == 1
    (claim,) = found(tmp_path).claims
    assert (claim.look, claim.estimate.n) == (1, 2)
    monkeypatch.setitem(globals(), "made_up", whole)
    assert sweep(*command)[0] == 0
    (claim,) = found(tmp_path).claims
    assert (claim.look, claim.estimate.n) == (2, 3)


@pytest.mark.slow
def test_a_sweep_on_ray_whose_command_is_killed_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray")
    words = ["sweep", *SMALL, *LR, *ONE, "--recipe.epochs", "4", "--tries", "5", "--seeds", "2"]
    command = [sys.executable, "-m", "assay.cli", *words, "--workers", "2", "--store"]

    def swept(store: str, *engine: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, store, *engine], cwd=tmp_path, start_new_session=True)

    ray = ("--engine", "ray")
    assert swept("local").wait(600) == 0
    killed = swept("spread", *ray)
    while len(done := list(tmp_path.glob("spread/trials/*/record.json"))) < 3:
        assert killed.poll() is None
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    written = {path: path.stat().st_mtime_ns for path in done}
    assert swept("spread", *ray).wait(600) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written, "nothing is run twice"
    kept, others = (
        {
            path.parent.name: path.read_bytes()
            for path in tmp_path.glob(f"{store}/trials/*/metrics*")
        }
        for store in ("spread", "local")
    )
    assert kept == others
    results = [
        json.loads(path.read_text())
        for store in ("spread", "local")
        for path in tmp_path.glob(f"{store}/studies/*/result.json")
    ]
    same = ("claims", "tables", "answer")
    assert [results[0][key] for key in same] == [results[1][key] for key in same]
    assert "5 settings" in results[0]["claims"][0]["text"]
