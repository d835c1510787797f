"""What `assay run` publishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.cli import app, call
from assay.errors import AssayError
from assay.report.record import Provenance
from assay.report.result import StudyResult
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Outcome, Trial
from assay.studies.skip import Skip
from assay.workflows import run as working
from assay.workflows.run import command, publish, without_folders


def test_a_published_command_has_no_folder_of_this_machine() -> None:
    command = "assay run skip --data '/home/me/my data/flowers' --attack.eps 8/255 --note a/b"
    assert without_folders(command) == (
        "assay run skip --data flowers --attack.eps 8/255 --note a/b"
    )


@pytest.mark.parametrize("data", ["/home/me/flowers", "owner/flowers", "digits"])
def test_nothing_published_says_where_data_lies_here(data: str, tmp_path: Path) -> None:
    study = Skip(data=data)
    made = Provenance(
        command=command(study),
        config=study.model_dump(mode="json"),
        seeds=(0, 1, 2),
        versions={},
        hardware={},
        started="2026-03-01T12:04:09+00:00",
        seconds=1.0,
    )
    result = StudyResult(study="skip", question="Why?", preset="quick", made=made)
    publish(study, result, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        text = path.read_text()
        assert "/home/me" not in text
        assert ("owner/flowers" in text) == (data == "owner/flowers")
        assert data.split("/")[-1] in text


def test_gc_takes_no_trial_of_a_study_that_is_being_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its trials have ended, and its run.json, which names them, is not written yet."""

    def judge(*_: object, **__: object) -> None:
        assert call(app, ["gc", str(tmp_path), "--yes", "--only", "unreferenced"]) == 2
        raise AssayError("seen")

    monkeypatch.setattr(working, "execute", finish_one)
    monkeypatch.setattr(working, "write", judge)
    with pytest.raises(AssayError, match="seen"):
        working.run(Skip(data="digits"), tmp_path, progress=False)
    assert "is being worked on" in capsys.readouterr().err
    assert call(app, ["gc", str(tmp_path), "--yes"]) == 0
    assert "1 of 1 removed" in capsys.readouterr().out


def finish_one(plan: object, store: Store, **_: object) -> Results:
    del plan
    trial = Trial(task="made-up", config={})
    with store.entry(trial).lock():
        store.entry(trial).begin()
        store.entry(trial).finish(Outcome({}), {"seconds": 0.0})
    return Results()
