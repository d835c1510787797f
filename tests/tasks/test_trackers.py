"""Runs of trackers, read back from their files: TensorBoard's events, wandb's offline file,
trackio's database. None of it may reach a network."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import PartialState
from accelerate.logging import get_logger

from assay.cli import app, call
from assay.errors import AssayError
from assay.report.record import EstimateModel
from assay.report.result import Claim, Drawing, StudyResult
from assay.runs.store import Store
from assay.runs.tracked import VARIABLE, current, tracking
from assay.runs.trial import Trial
from assay.tasks.trackers import OPENERS, TrialRun, runs_of, stays_here
from assay.workflows.track import write_runs
from assay.workflows.track_study import write_study

RESULTS = Path(__file__).resolve().parent.parent.parent / "docs" / "results"
FEW = ("--data", "digits", "--network.name", "mlp", "--network.widths", "8", "--threads", "1")
FEW += ("--train-images", "60", "--test-images", "40", "--quiet")


def needs(name: str) -> Any:
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"{name} is not installed (extra track)")


def trial(seed: int = 0, label: str = "net / one") -> Trial:
    return Trial(task="toy:task", config={"lr": 0.1}, seed=seed, label=label)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curves in a folder of TensorBoard's: (step, value) by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in names}


def records(content: bytes) -> list[Any]:
    """Return the records of an offline run of wandb: LevelDB's log format below its own header."""
    from wandb.proto import wandb_internal_pb2

    found, begun, place, block = [], b"", 7, 32768
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        part = content[place + 7 : place + 7 + length]
        place += 7 + length
        begun = part if kind in (1, 2) else begun + part  # whole, or a first part
        if kind in (1, 4):  # whole, or a last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(begun)
            found.append(record)
    return found


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Refuse every connection that leaves this machine, and note it."""
    tried: list[Any] = []
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1", "localhost", "::1",
        ):  # fmt: skip
            tried.append(address)
            raise OSError("no network in this test")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield tried
    assert not tried


def test_the_curves_of_a_training_are_there_and_change_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One training is tracked while it trains, the same one exported when it is finished."""
    settings = (*FEW, "--recipe.epochs", "3", "--watch.every", "2")
    stores = {name: str(tmp_path / name) for name in ("tracked", "plain")}
    more = ("--track", "tensorboard")
    assert call(app, ["train", *settings, "--store", stores["tracked"], *more]) == 0
    assert call(app, ["train", *settings, "--store", stores["plain"]]) == 0
    assert os.environ.get(VARIABLE) is None
    one, two = (next(Store(store).trials()) for store in stores.values())
    assert one.trial.address == two.trial.address
    assert (one.folder / "metrics.json").read_bytes() == (two.folder / "metrics.json").read_bytes()
    capsys.readouterr()
    for count in ("1 of 1", "0 of 1"):
        where = ("--to", "tensorboard", "--store", stores["plain"])
        assert call(app, ["track", two.trial.short, *where]) == 0
        assert capsys.readouterr().out.startswith(f"{count} trials as new runs")
    result = one.result()
    assert result is not None
    for name, group in (("tracked", "train"), ("plain", "trials")):
        (folder,) = (tmp_path / name / "tracking" / "tensorboard").glob("*/*/*")
        assert folder.parent.name == "mlp on digits"
        assert folder.parent.parent.name == group
        found = scalars(folder)
        for curve in ("train_loss", "val_accuracy", "lr"):
            assert [step for step, _ in found[curve]] == [1, 2, 3]
            expected = result.metrics["history"][curve]
            assert [value for _, value in found[curve]] == pytest.approx(expected, rel=1e-5)
        (last,) = found["final/test_accuracy"]
        assert last == (3, pytest.approx(result.metrics["test_accuracy"], rel=1e-5))
        layer, norms = result.metrics["history"]["looks"]["layers"][0], "look_gradient_norms"
        if name == "tracked":
            shown = found[f"gradient_norms/{layer}"][-1][1]
            assert shown == pytest.approx(result.arrays[norms][-1, 0], rel=1e-5)


def test_runs_stay_here_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = {"WANDB_MODE": "online", "TRACKIO_SPACE_ID": "me/runs", "TRACKIO_SERVER_URL": "x"}
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)
    for tracker in ("wandb", "trackio"):
        stays_here(tracker)
    assert {name: os.environ.get(name) for name in elsewhere} == {
        "WANDB_MODE": "offline", "TRACKIO_SPACE_ID": None, "TRACKIO_SERVER_URL": None
    }  # fmt: skip
    monkeypatch.setenv("WANDB_MODE", "disabled")
    stays_here("wandb")
    assert os.environ["WANDB_MODE"] == "disabled"


def test_a_tracker_that_logs_works_where_nothing_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Logs:
        def start(self) -> None:
            get_logger(__name__).debug("started")

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            assert values["label"] == trial().label

    PartialState._reset_state()
    monkeypatch.setitem(OPENERS, "wandb", lambda *_: Logs())  # type: ignore[arg-type]
    told = tracking(["wandb"], tmp_path, "study")
    assert told is not None
    run = TrialRun(told, trial(), pytest.fail)
    run.start()
    assert list(run.runs) == ["wandb"]


def test_a_run_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    told = tracking(["tensorboard"], tmp_path, "study")
    assert told is not None
    first = TrialRun(told, trial(), pytest.fail)
    first.start()
    first.log({"loss": 2.0}, step=1)  # and the process is killed
    again = TrialRun(told, trial(), pytest.fail)
    again.start()
    again.log({"loss": 1.0}, step=2)
    again.close({"accuracy": 0.5, "name": "x", "ok": True}, step=2)
    (folder,) = (tmp_path / "tracking" / "tensorboard").glob("*/*/*")
    found = scalars(folder)
    assert found["loss"] == [(1, 2.0), (2, 1.0)]
    assert found["final/accuracy"] == [(2, 0.5)]
    assert "final/ok" not in found
    whole = TrialRun(told, trial(), pytest.fail)
    whole.start()
    assert not whole.runs, "a whole run is not written again"


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    told = tracking(["tensorboard"], tmp_path, "study")
    assert told is not None
    run = TrialRun(told, trial(), said.append)
    run.start()

    def full(*_: Any, **__: Any) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr(run.runs["tensorboard"], "log", full)
    for step in range(3):
        run.log({"loss": 1.0}, step=step)
    run.close({"accuracy": 1.0}, step=3)
    assert said == ["tensorboard does not track net / one (seed 0): OSError: disk is full"]
    assert not told.mark("tensorboard", trial().address).exists()


def test_what_this_process_was_told(tmp_path: Path) -> None:
    told = tracking(["wandb", "wandb"], tmp_path, "skip-quick")
    assert told is not None
    assert told.to == ("wandb",)
    assert runs_of(trial()) == []
    with told.told():
        assert current() == told
        assert [run.tracking for run in runs_of(trial())] == [told]
    assert current() is None
    assert tracking([], tmp_path, "x") is None
    with pytest.raises(AssayError, match="unknown tracker 'wanb': did you mean 'wandb'"):
        tracking(["wanb"], tmp_path, "x")


def test_only_what_is_finished_can_be_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(app, ["track", "nothing", "--to", "wandb", "--store", str(tmp_path)]) == 2
    assert call(app, ["train", *FEW, "--store", str(tmp_path), "--track", "wanb"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.slow
@needs("wandb")
def test_wandb_writes_a_run_without_a_network(
    tmp_path: Path, offline: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    told = tracking(["wandb"], tmp_path, "study")
    assert told is not None
    run = TrialRun(told, trial(), pytest.fail)
    run.start()
    run.log({"loss": 2.0}, step=1)
    run.close({"accuracy": 0.5}, step=2)
    (file,) = (tmp_path / "tracking" / "wandb").glob("wandb/offline-run-*/*.wandb")
    seen = records(file.read_bytes())
    (opened,) = [record.run for record in seen if record.WhichOneof("record_type") == "run"][:1]
    assert (opened.run_group, opened.display_name) == ("study", "net / one (seed 0)")
    rows = [
        {item.nested_key[0] if item.nested_key else item.key: json.loads(item.value_json)
         for item in record.history.item}
        for record in seen if record.WhichOneof("record_type") == "history"
    ]  # fmt: skip
    assert [row["loss"] for row in rows if "loss" in row] == [2.0]
    assert [row["final/accuracy"] for row in rows if "final/accuracy" in row] == [0.5]
    assert not offline


@pytest.mark.slow
@needs("trackio")
def test_trackio_keeps_a_run_in_its_database(tmp_path: Path, offline: list[Any]) -> None:
    told = tracking(["trackio"], tmp_path, "study")
    assert told is not None
    run = TrialRun(told, trial(), pytest.fail)
    run.start()
    run.log({"loss": 2.0}, step=1)
    run.close({"accuracy": 0.5}, step=2)
    with sqlite3.connect(tmp_path / "tracking" / "trackio" / "assay.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics order by step").fetchall()
    assert [(name, step) for name, step, _ in rows] == [
        (f"net / one (seed 0) ({trial().short})", step) for step in (1, 2)
    ]
    assert json.loads(rows[0][2])["loss"] == 2.0
    assert not offline


def test_results_are_written_to_what_lacks_them(tmp_path: Path) -> None:
    told = tracking(["tensorboard"], tmp_path, "study")
    assert told is not None

    metrics = {"history": {"train_loss": [3.0, 2.0]}, "test_accuracy": 0.5}
    kept: Any = SimpleNamespace(trial=trial(), metrics=metrics)
    labels = {trial().address: "as the study calls it"}
    assert [write_runs(told, [kept], labels) for _ in range(2)] == [1, 0]
    (folder,) = (tmp_path / "tracking" / "tensorboard" / "study").iterdir()
    assert folder.name == "as the study calls it"


def judged(low: float = 0.02) -> StudyResult:
    """A result with one decided claim, one that nothing was measured of, and a figure."""
    estimate = EstimateModel(value=0.05, low=low, high=0.08, n=3, of="seeds")
    made = StudyResult.read(RESULTS / "skip" / "result.json")
    claims = (
        Claim(code="toy.wins", text="It wins.", delta=0.01, estimate=estimate, verdict="holds"),
        Claim(code="toy.open", text="It may.", delta=0.01, verdict="not run"),
    )
    figures = (
        Drawing(title="A line", caption="", svg="<svg xmlns='http://www.w3.org/2000/svg'></svg>"),
    )
    return made.model_copy(update={"claims": claims, "figures": figures, "answer": "**It wins.**"})


def test_a_study_leaves_its_claims_as_a_run(tmp_path: Path) -> None:
    """Once for each judgement: other values are another run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = tracking(["tensorboard"], tmp_path, "study")
    assert told is not None
    assert [write_study(told, judged(), pytest.fail) for _ in range(2)] == [True, False]
    (folder,) = (tmp_path / "tracking" / "tensorboard" / "study").glob("claims of skip*/*")
    found = scalars(folder)
    ends = {name: value for name, ((_, value),) in found.items()}
    assert ends == {
        "final/claims/toy.wins": pytest.approx(0.05),
        "final/claims/toy.wins/low": pytest.approx(0.02),
        "final/claims/toy.wins/high": pytest.approx(0.08),
    }
    events = EventAccumulator(str(folder))
    events.Reload()
    (picture,) = events.Images("claims/points")
    assert picture.width > 300 < 4 * picture.height
    (answer,) = events.Tensors("answer/text_summary")
    said = answer.tensor_proto.string_val[0].decode()
    assert "**It wins.**" in said
    assert "| not run | `toy.open` | It may. |" in said
    assert write_study(told, judged(low=0.03), pytest.fail)
    assert len(list(folder.parent.iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_other_trackers_get_claims_and_figures(
    name: str, tmp_path: Path, offline: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (extra track)")
    monkeypatch.setenv("WANDB_MODE", "online")
    told = tracking([name], tmp_path, "study")
    assert told is not None
    assert write_study(told, judged(), pytest.fail)
    kept = {path.suffix for path in (tmp_path / "tracking" / name).rglob("*") if path.is_file()}
    assert {".png", ".html"} <= kept
    assert not offline
