"""What `assay audit` does beyond the audit: what it calibrates on, and its exit code."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.auditing import AuditConfig
from assay.auditing.checks import Value, judged
from assay.auditing.conduct import _summary
from assay.auditing.policy import Policy
from assay.auditing.registry import Accuracy, Calibration, Outliers
from assay.data import load_texts
from assay.errors import AssayError
from assay.inputs import Inputs, load_part
from assay.report.record import EstimateModel
from assay.report.schema import Check
from assay.stats import Estimate
from assay.workflows import audit as workflow
from assay.workflows.audit_inputs import parts_of
from assay.workflows.gate import Asked, gated

VERDICTS = ("pass", "fail", "undecided", "not run")
CODES = ("C-0", "C-1", "C-2")
TODAY = date(2026, 11, 28)


class Found:
    """An audit whose checks came to these verdicts."""

    def __init__(self, *verdicts: Any) -> None:
        self.checks = [
            Check(
                code=f"C-{k}",
                title="",
                question="",
                threshold=0.5,
                direction="at least",
                verdict=verdict,
            )
            for k, verdict in enumerate(verdicts)
        ]


@pytest.mark.parametrize(
    ("fail_on", "refused"),
    [("never", set()), ("fail", {"fail", "not run"}), ("undecided", set(VERDICTS) - {"pass"})],
)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_one_refused_verdict_among_others_fails_the_policy(
    fail_on: Any, refused: set[str], verdict: str
) -> None:
    asked = Asked(fail_on, CODES)
    for verdicts in (("pass", verdict), (verdict, "pass"), ("pass", verdict, "pass")):
        code, lines = asked.judged(Found(*verdicts).checks, AuditConfig(), TODAY)
        assert (code, len(lines)) == (verdict in refused,) * 2
    assert asked.judged(Found().checks, AuditConfig(), TODAY) == (0, [])


def test_the_sentence_says_of_how_many_images_another_number_is() -> None:
    def check(code: str, n: int) -> Check:
        value = EstimateModel(value=0.5, low=0.4, high=0.6, n=n, of="images")
        return Found("pass").checks[0].model_copy(update={"code": code, "value": value})

    same = _summary((check("ACC-001", 100), check("ROB-001", 100)), AuditConfig())
    assert "of them" not in same
    fewer = _summary((check("ACC-001", 100), check("ROB-001", 20)), AuditConfig())
    assert "50.0 % (40.0 to 60.0) of 20 of them when each may be changed" in fewer


def test_the_checks_that_count_are_a_choice() -> None:
    checks = Found("pass", "fail", "not run").checks
    assert Asked("fail", ["C-0"]).judged(checks, AuditConfig(), TODAY) == (0, [])
    code, (line,) = Asked("fail", ["C-0", "C-2"]).judged(checks, AuditConfig(), TODAY)
    assert code == 1
    assert line.startswith("C-2 not run: ")
    assert gated(AuditConfig()) == ["ACC-001", "CAL-001", "ROB-001", "EXP-001"], (
        "outliers count where they are named"
    )
    policy = Policy.model_validate({"checks": {"C-0": {}}})
    met = Asked(policy=policy)
    assert met.judged(checks, AuditConfig(), TODAY) == (0, ["the policy is met"])
    policy = Policy.model_validate({"checks": {"C-0": {}, "C-1": {}}})
    code, lines = Asked(policy=policy).judged(checks, AuditConfig(), TODAY)
    assert (code, lines[-1]) == (1, "the policy is not met: a check failed (exit code 1)")
    with pytest.raises(AssayError, match="unknown check 'ROB-01'"):
        Asked("fail", ["ROB-01"]).refuse_unknown(AuditConfig())


def test_a_check_that_failed_says_what_to_do() -> None:
    config = AuditConfig()
    asked = [one for section in config.sections for one in section.criteria(config)]
    assert {one.code for one in asked} >= {"ACC-001", "CAL-001", "ROB-001", "EXP-001", "OOD-003"}
    for one in asked:
        bad = 0.0 if one.direction == "at least" else 1.0
        found = judged(one, Value(Estimate(bad, bad, bad, 100, "images")))
        assert found.verdict == "fail"
        assert found.advice == one.advice != ""


@pytest.mark.parametrize(
    ("split", "reference", "held_out"),
    [
        ("test", "train", True),
        ("validation", "train", False),
        ("test", "validation", False),
        ("test", None, False),
    ],
)
def test_thresholds_are_never_calibrated_on_what_is_audited(
    split: str, reference: str | None, held_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation split calibrates, unless it is itself what is audited or fitted on."""
    given: dict[str, Any] = {}

    def seen(*_: Any, **settings: Any) -> None:
        given.update(settings)
        raise InterruptedError

    monkeypatch.setattr(workflow, "audit", seen)
    inputs = Inputs(model="m", data="digits", split=split, images=20)
    data = load_part(inputs)
    parts = parts_of(inputs, data, reference)
    with pytest.raises(InterruptedError):
        workflow.examine(None, parts, AuditConfig(), title="", command="")
    assert (given["calibration"] is not None) == held_out
    assert (given["reference"] is not None) == (reference is not None)
    assert ("digits/validation" in given["data"]) == (
        held_out or "validation" in (split, reference)
    )


def test_a_function_is_audited_by_what_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "import numpy as np\ndef ask(x):\n    return np.full((len(x), 10), 0.1)\n"
    )
    inputs = Inputs(model="mine.py:ask", access="scores", data="digits", images=20)
    config = AuditConfig(sections=(Accuracy(), Calibration(), Outliers()))
    code = workflow.run(
        inputs,
        config,
        store=Path("runs"),
        out=None,
        asked=Asked("undecided"),
        quiet=True,
        command="",
    )
    assert code == 1, "a check that was not run is none that passed"
    page = Path(capsys.readouterr().out.strip())
    report = json.loads(page.with_name("report.json").read_text())
    verdicts = {check["code"]: check["verdict"] for check in report["checks"]}
    assert verdicts["ACC-001"] == "fail"
    assert verdicts["OOD-003"] == "not run"
    given = report["made"]["config"]["inputs"]
    assert given == {
        "images": [1, 28, 28],
        "access": "scores",
        "size": None,
        "crop": 1.0,
        "channels": "rgb",
    }
    assert report["calibration"]["mean_confidence"] == pytest.approx(0.1)
    (run,) = Path("runs").glob("**/run.json")
    assert json.loads(run.read_text())["config"]["model"], "known by its file when audited again"


def test_a_folder_of_test_images_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a train split detectors learn from a part of what is audited, and that is said."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        folder = Path("pets/test") / name
        folder.mkdir(parents=True)
        for level in range(3):
            Image.new("L", (8, 8), 40 * level + len(folder.parts)).save(folder / f"{level}.png")
    inputs = Inputs(model="m", data="pets", images=6)
    data = load_part(inputs)
    parts = parts_of(inputs, data, "train")
    assert (parts.reference, parts.calibration) == (None, None)
    assert list(parts.marks) == ["pets/test"]
    (note,) = parts.notes
    assert "pets has no train split" in note
    with pytest.raises(AssayError, match=r"no split 'validation'.*--reference-split"):
        parts_of(inputs, data, "validation")


def test_all_of_a_file_of_texts_leaves_nothing_to_fit_detectors_on(tmp_path: Path) -> None:
    """Nothing that is audited serves as reference: PRE-010 would say that the model knows it."""
    file = tmp_path / "mine.csv"
    file.write_text("text,label\n" + "".join(f"line {i},{'ab'[i % 2]}\n" for i in range(40)))
    inputs = Inputs(model="m", data=str(file), split="all", images=40)
    parts = parts_of(inputs, load_texts(str(file), split="all"), "train")
    assert (parts.reference, parts.calibration) == (None, None)
    (note,) = parts.notes
    assert "--split all leaves nothing else" in note
    assert "of the audited texts" in note
