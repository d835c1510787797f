"""`assay audit` of what can only be queried, and the settings that all commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.cli import app, call

FEW = ("--data", "digits", "--images", "40", "--attacked", "10", "--budgets", "8/255", "--quiet")


@pytest.fixture
def audited(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Audit a function of box.py: its report as JSON."""

    def run(access: str, *flags: str) -> dict[str, Any]:
        model = f"{models}/box.py:{access}"
        where = ("--out", str(tmp_path / "out"), "--store", str(tmp_path / "runs"))
        code = call(app, ["audit", model, "--access", access, *FEW, *where, *flags])
        said = capsys.readouterr()
        assert code == 0, said.err
        assert said.out == f"{tmp_path}/out/report.html\n"
        found: dict[str, Any] = json.loads((tmp_path / "out" / "report.json").read_text())
        return found

    return run


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {check["code"]: check["verdict"] for check in report["checks"]}


@pytest.mark.parametrize("access", ["scores", "labels"])
def test_what_can_only_be_queried_is_audited_as_far_as_that_goes(audited: Any, access: str) -> None:
    report = audited(access)
    found = verdicts(report)
    run = {code for code, verdict in found.items() if verdict != "not run"}
    assert run == {"ACC-001", "COR-001", "ROB-001"} | ({"CAL-001"} if access == "scores" else set())
    assert {"EXP-001", "OOD-003"} < found.keys()
    assert report["accuracy"]["overall"]["value"] > 0.7, "a linear classifier of digits"
    curves = {curve["attack"].split(",")[0] for curve in report["robustness"]["curves"]}
    assert curves == {"Square" if access == "scores" else "HopSkipJump"}
    why = [check["reason"] for check in report["checks"] if check["code"] == "EXP-001"]
    assert access in why[0]
    assert set(report["made"]["data"]) == {"digits/test"}, "detectors are not fitted on anything"


def test_what_the_budget_of_queries_is_too_small_for_says_so(audited: Any) -> None:
    report = audited("scores", "--max-queries", "100")
    reasons = {check["code"]: check["reason"] for check in report["checks"]}
    assert verdicts(report)["ACC-001"] != "not run"
    for code in ("ROB-001", "COR-001"):
        assert verdicts(report)[code] == "not run"
        assert "budget spent: " in reasons[code]


def test_attacks_are_named(audited: Any) -> None:
    flags = ("--attacks", "noise", '{"name": "square", "queries": 50}', "--batch-size", "7")
    report = audited("scores", *flags)
    assert [attack["name"] for attack in report["made"]["config"]["attacks"]] == ["noise", "square"]
    assert [curve["attack"] for curve in report["robustness"]["curves"]][1].endswith("queries 50")


def test_a_function_without_access_is_told_of_a_flag_that_is_there(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(app, ["audit", f"{models}/box.py:scores", *FEW]) == 2
    err = capsys.readouterr().err
    assert "--access labels, scores or logits" in err
    assert err.count("\n") == 1
