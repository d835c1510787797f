"""An audit whose sections are measured side by side is the audit of one process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from networks.trained import FOLDER

from assay.auditing import AuditConfig
from assay.auditing.checks import Value, Words
from assay.auditing.outcome import restored, written
from assay.auditing.registry import Accuracy, Calibration
from assay.auditing.section import Measured
from assay.cli import app, call
from assay.errors import AssayError
from assay.report.record import NotRun
from assay.runs.entry import Failure
from assay.runs.files import from_json, to_json
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.stats import Estimate
from assay.workflows import audit_sections as spreading

MODEL = str(FOLDER / "robust.safetensors")
GIVEN = ("--data", "digits", "--images", "24", "--attacked", "20", "--budgets", "0.1", "--eps")
QUICK = (
    "0.1",
    "--attacks",
    "fgsm",
    "--gallery",
    "2",
    "--threads",
    "1",
    "--reference-split",
    "none",
)


def audited(out: Path, *more: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run an audit; return its report, without its times, and its arrays."""
    store = ("--store", str(out.parent / "runs"), "--out", str(out), "--quiet")
    assert call(app, ["audit", MODEL, *GIVEN, *QUICK, *more, *store]) == 0
    return report_of(out)


def report_of(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the report in a folder, without its times, and its arrays."""
    report = json.loads((out / "report.json").read_text())
    for name in ("created", "command"):
        report.pop(name, None)
        report["made"].pop(name, None)
    for name in ("started", "seconds"):
        report["made"].pop(name)
    for curve in report["robustness"].get("curves", []):
        for point in curve["points"]:
            point.pop("seconds")
    with np.load(out / "arrays.npz") as arrays:
        return report, {name: arrays[name].tobytes() for name in arrays}


SOME = ("--sections", "accuracy", "calibration", "robustness", "outliers")


def same(tmp_path: Path, sections: tuple[str, ...], *spreads: tuple[str, ...]) -> None:
    whole = audited(tmp_path / "whole", *sections)
    for k, spread in enumerate(spreads):
        assert audited(tmp_path / f"spread-{k}", *sections, *spread) == whole
    assert [path.name for path in (tmp_path / "runs" / "audits").glob(".*")] == []


def test_two_workers_report_what_one_process_does(tmp_path: Path) -> None:
    same(tmp_path, SOME, ("--workers", "2"))


@pytest.mark.slow
def test_every_section_is_reported_the_same_by_any_number_of_workers(tmp_path: Path) -> None:
    same(tmp_path, (), ("--workers", "1"), ("--workers", "2"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sections_on_ray_are_reported_the_same(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    same(tmp_path, SOME, ("--engine", "ray", "--workers", "2"))


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_an_audit_that_is_stopped_goes_on_from_its_sections(
    tmp_path: Path, by: signal.Signals
) -> None:
    whole = audited(tmp_path / "whole", *SOME)
    store = ("--store", str(tmp_path / "runs"), "--workers", "2")
    command = ["audit", MODEL, *GIVEN, *QUICK, *SOME, *store, "--out", str(tmp_path / "out")]
    running = subprocess.Popen(
        [sys.executable, "-m", "assay.cli", *command], stderr=subprocess.PIPE, text=True
    )
    parts = tmp_path / "runs" / "audits"
    while not (done := list(parts.glob(".*/parts/trials/*/record.json"))):
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(by)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == (130 if by == signal.SIGINT else -signal.SIGKILL)
    assert ("assay: interrupted; what was finished is kept" in said) == (by == signal.SIGINT)
    assert all(path.is_file() for path in done)
    assert not (tmp_path / "out" / "report.json").exists()
    again = subprocess.run(
        [sys.executable, "-m", "assay.cli", *command], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    found = re.search(r"4 trials: (\d) done already", again.stderr)
    assert found, again.stderr
    assert len(done) <= int(found[1]) < 4
    assert report_of(tmp_path / "out") == whole
    assert not list(parts.glob(".*")), "what was kept to go on from is gone"


def test_what_a_section_came_to_is_read_as_it_was_written() -> None:
    (section, *_) = AuditConfig().sections
    nan = float("nan")
    value = spreading_value(Estimate(nan, -float("inf"), 0.1 + 0.2, 0, "images"))
    found = Measured({}, {"ACC-001": value})
    again = restored(section, from_json(to_json(written(found))), {})
    assert repr(again.values) == repr(dict(found.values))


def spreading_value(estimate: Estimate) -> Any:
    return Value(estimate, "detail", ("REL-001",), "barred", "remedy", Words("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--budget", "5s"), "--budget is shared out by one process"),
        (("--access", "labels"), "can only be queried"),
    ],
)
def test_what_one_process_does_is_not_spread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], said: str
) -> None:
    code = call(
        app, ["audit", MODEL, *GIVEN, *QUICK, *more, "--workers", "2", "--store", str(tmp_path)]
    )
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_section_that_fails_says_why_and_takes_no_other_away(tmp_path: Path) -> None:
    config = AuditConfig(sections=(Accuracy(), Calibration()))
    evidence: Any = SimpleNamespace(config=config)
    trials = [Trial(task="audit-section", config={"section": k}) for k in range(2)]
    (tmp_path / spreading.MEASURED).write_text(to_json(written(Measured({}))))
    results = Results()
    results.failures[trials[1].address] = Failure("died", "its process died")
    done: Any = SimpleNamespace(
        address=trials[0].address,
        path=tmp_path.joinpath,
        arrays={},
        record={"timings": {"section": 2.0}},
    )
    results.keep(done)
    one, other = spreading.joined(evidence, trials, results)
    assert (one.run, one.seconds, dict(one.found.chapters)) == (True, 2.0, {})
    assert other.found.chapters["calibration"] == NotRun(not_run="its process died")
    assert not other.run
    results.failures[trials[0].address] = results.failures[trials[1].address]
    del results._results[trials[0].address]
    with pytest.raises(AssayError, match="no section could be measured: its process died"):
        spreading.joined(evidence, trials, results)
