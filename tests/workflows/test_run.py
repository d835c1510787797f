"""What `assay run` publishes."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.report.record import Provenance
from assay.report.result import StudyResult
from assay.studies.skip import Skip
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
