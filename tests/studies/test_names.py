"""Studies by name: ours, and those that other packages bring by entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from assay import studies
from assay.errors import AssayError
from assay.studies.base import Study


class Brought(Study):
    """A study of another package."""


@pytest.mark.parametrize("name", studies.BUILT_IN)
def test_a_study_of_ours_is_listed_by_its_own_name_and_question(name: str) -> None:
    kind = studies.load(name)
    assert (name, studies.BUILT_IN[name][1]) == (kind.NAME, kind.QUESTION)


def test_a_study_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("brought", f"{__name__}:Brought", studies.GROUP)
    monkeypatch.setattr(studies, "entry_points", lambda **_: [point])
    assert "brought" in studies.names()
    assert studies.load("brought") is Brought


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (f"{__name__}:Nowhere", "fails: AttributeError"),
        ("nowhere:Study", "fails: ModuleNotFoundError"),
        (f"{__name__}:EntryPoint", "is not a class derived from Study"),
    ],
)
def test_an_entry_point_that_leads_to_no_study_is_one_line(
    monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    point = EntryPoint("brought", target, studies.GROUP)
    monkeypatch.setattr(studies, "entry_points", lambda **_: [point])
    with pytest.raises(AssayError, match=rf"the entry point brought = {target}.*{message}"):
        studies.load("brought")


def test_a_study_that_nobody_knows_is_told_with_the_nearest() -> None:
    with pytest.raises(AssayError, match="unknown study 'skp': did you mean 'skip'"):
        studies.load("skp")
