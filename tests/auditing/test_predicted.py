"""An audit of saved predictions, and kinds of examples by their metadata."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from assay.auditing import AuditConfig
from assay.auditing.groups import kinds_by
from assay.auditing.predicted import WITHOUT_MODEL, audit_predictions
from assay.cli import main
from assay.data.predictions import load_predictions
from assay.errors import AssayError
from assay.report.record import NotRun

MEASURED = {"ACC-001", "CAL-001", "SLI-001"}


def written(file: Path, by_phone: float, n: int = 400, seed: int = 0) -> Path:
    """Write predictions that are right on 90 %, but of images by phone on so many."""
    draw = np.random.default_rng(seed)
    rows = ["id,label,p_cat,p_dog,camera,hour"]
    for row in range(n):
        phone, label = draw.uniform() < 0.3, int(draw.integers(2))
        right = draw.uniform() < (by_phone if phone else 0.9)
        p = 0.9 if right == (label == 0) else 0.1
        camera = "phone" if phone else "slr"
        rows.append(f"{row},{('cat', 'dog')[label]},{p},{1 - p},{camera},{draw.uniform():.3f}")
    file.write_text("\n".join(rows) + "\n")
    return file


def test_what_predictions_are_enough_for_is_measured_and_the_rest_says_why(tmp_path: Path) -> None:
    found = audit_predictions(load_predictions(written(tmp_path / "said.csv", 0.4)))
    checks = {check.code: check for check in found.checks}
    assert {code for code, check in checks.items() if check.verdict != "not run"} == MEASURED
    assert {c.reason for c in checks.values() if c.code not in MEASURED} == {WITHOUT_MODEL}
    right = found.arrays["labels"] == found.arrays["scores"].argmax(1)
    accuracy = checks["ACC-001"].value
    assert accuracy is not None
    assert accuracy.value == pytest.approx(right.mean())
    assert checks["SLI-001"].title.endswith("(camera = phone)")
    assert checks["SLI-001"].verdict == "fail"
    title = found.report.more["slices"].title  # type: ignore[union-attr]
    assert re.match(r"Right on [\d.]+ % of \w+ with camera = phone, on [\d.]+ % of the rest", title)
    assert isinstance(found.report.robustness, NotRun)


def test_labels_alone_say_nothing_of_confidence(tmp_path: Path) -> None:
    file = tmp_path / "said.csv"
    file.write_text("label,prediction\n" + "cat,cat\ndog,cat\n" * 30)
    checks = {check.code: check for check in audit_predictions(load_predictions(file)).checks}
    assert checks["CAL-001"].verdict == "not run"
    assert "needs the model's scores" in checks["CAL-001"].reason
    value = checks["ACC-001"].value
    assert value is not None
    assert value.value == 0.5
    file.write_text("label,prediction\n" + "cat,cat\ndog,cat\n" * 5)
    with pytest.raises(AssayError, match="at least 20 predictions, got 10"):
        audit_predictions(load_predictions(file), config=AuditConfig())


def code_of(*tokens: str) -> int:
    """Return the exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(["audit", *tokens])
    return int(str(end.value.code or 0))


def test_by_the_command_with_policy_formats_and_an_older_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (written(tmp_path / f"{at}.csv", at) for at in (0.3, 0.8))
    policy = tmp_path / "policy.yaml"
    policy.write_text("checks: {ACC-001: {threshold: 0.8}, ROB-001: {not_run: accepted}}")
    usual = ["--policy", str(policy), "--store", str(tmp_path / "runs")]
    assert code_of(str(old), "--out", str(tmp_path / "a"), *usual) == 1
    formats = ["--formats", "markdown", "junit", "sarif"]
    against = ["--against", str(tmp_path / "a"), "--out", str(tmp_path / "b")]
    assert code_of(str(new), *usual, *against, *formats) == 0
    said = capsys.readouterr()
    assert "ACC-001 (at least 80.0 %): 400 images pass it from" in said.err
    assert "ROB-001 (at least" not in said.err
    assert "p (McNemar)" in said.out
    assert {"report.md", "junit.xml", "report.sarif"} < {f.name for f in (tmp_path / "b").iterdir()}
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    assert report["made"]["config"]["inputs"]["columns"] == ["camera", "hour"]
    assert code_of(str(tmp_path / "none.csv")) == 2


def test_numbers_are_parted_at_their_quartiles_and_names_of_images_make_no_kinds() -> None:
    kinds, left_out = kinds_by(
        {
            "age": [str(k) for k in range(100)],
            "file": [f"{k}.png" for k in range(100)],
            "site": ["a", "b"] * 49 + ["a", None],
            "same": ["x"] * 100,
        }
    )
    assert left_out == ["file"]
    counts = {name: int(rows.sum()) for name, rows in kinds.items()}
    assert counts == {
        "age ≤ 24": 25,
        "24 < age ≤ 49": 25,
        "49 < age ≤ 74": 25,
        "age > 74": 25,
        "site = a": 50,
        "site = b": 49,
        "site is missing": 1,
    }
    mostly, _ = kinds_by({"z": [0.0] * 90 + [float(k) for k in range(1, 21)]})
    assert {name: int(rows.sum()) for name, rows in mostly.items()} == {"z ≤ 0": 90, "z > 0": 20}
