"""`assay compare` of two audits that were kept with --out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import chromium, opens

from assay.cli import app, call
from assay.errors import AssayError
from assay.report.leaves import settings_differing
from assay.report.record import Provenance
from assay.report.schema import AuditReport, Check
from assay.runs.comparing import compare, why
from assay.runs.files import write_arrays
from assay.runs.reading import show
from assay.runs.store import Store
from assay.stats import proportion

LABELS = np.arange(40) % 4


def kept(
    folder: Path,
    wrong: range,
    fooled: range,
    *,
    threshold: float = 0.5,
    data: str = "d" * 64,
    eps: float = 0.1,
    sections: tuple[dict[str, Any], ...] = (),
) -> Path:
    """Keep an audit of 40 images, of which these are predicted wrongly, and these fooled."""
    right = 40 - len(wrong)
    accuracy = {"code": "ACC-001", "title": "clean accuracy", "question": "?"}
    errors = {"code": "ERR-001", "title": "errors", "question": "?"}
    checks = (
        Check(**accuracy, threshold=threshold, direction="at least", verdict="pass",
              value=proportion(right, 40, "images")),
        Check(**errors, threshold=0.5, direction="at most", verdict="pass",
              value=proportion(len(wrong), 40, "images")),
    )  # fmt: skip
    made = Provenance(
        command="",
        config={
            "eps": eps,
            "steps": len(fooled),
            "thresholds": {"accuracy": threshold},
            "sections": list(sections),
        },
        seeds=(0,),
        versions={},
        hardware={},
        started="",
        seconds=1.0,
        data={"digits/test": data},
    )
    folder.mkdir()
    report = AuditReport(title=folder.name, created="", summary="", checks=checks, made=made)
    (folder / "report.json").write_text(report.to_json())
    logits = np.eye(4)[(LABELS + np.isin(np.arange(40), wrong)) % 4]
    success = np.isin(np.arange(20), fooled)
    write_arrays(
        folder / "arrays.npz", {"labels": LABELS, "logits": logits, "pgd/success": success}
    )
    return folder


@pytest.mark.parametrize("name", ["", "report.json"])
def test_two_kept_audits_are_compared_image_by_image(tmp_path: Path, name: str) -> None:
    a = kept(tmp_path / "a", range(30, 40), range(8))
    b = kept(tmp_path / "b", range(38, 40), range(6, 8), threshold=0.7)
    view = compare(Store(tmp_path / "runs"), str(a / name), str(b / name))
    accuracy, errors = view.data["checks"]
    assert accuracy["change"]["value"] == pytest.approx(0.2)
    assert errors["change"]["value"] == pytest.approx(-0.2)
    assert accuracy["better"] == errors["better"] == "B", "by the direction of each check"
    clean, attacked = view.data["paired"]["clean"], view.data["paired"]["under attack"]
    assert (clean["a_alone"], clean["b_alone"]) == (0, 8)
    assert clean["p"] == pytest.approx(2 * 0.5**8)
    assert clean["difference"]["value"] == pytest.approx(0.2)
    assert (attacked["a_alone"], attacked["b_alone"], attacked["difference"]["n"]) == (0, 6, 20)
    assert view.data["thresholds"] == [
        {"code": "ACC-001", "a": "at least 50.0 %", "b": "at least 70.0 %"}
    ]
    assert [one["setting"] for one in view.data["settings"]] == ["steps"]


WHOLE: tuple[dict[str, Any], ...] = (
    {"name": "outliers", "fitted_on": 500, "quality": 75},
    {"name": "accuracy"},
    {"name": "slices", "least": 20, "deepest": {"name": "two", "columns": 3}},
)
FEW: tuple[dict[str, Any], ...] = ({"name": "accuracy"}, {**WHOLE[2], "least": 30})


@pytest.mark.parametrize("swapped", [False, True])
def test_a_section_of_one_audit_alone_is_said_once_and_the_common_ones_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], swapped: bool
) -> None:
    folders = [
        str(kept(tmp_path / "whole", range(10), range(8), sections=WHOLE)),
        str(kept(tmp_path / "few", range(2), range(8), sections=FEW)),
    ]
    folders = folders[::-1] if swapped else folders
    expected = {"sections.outliers": ("only here", None), "sections.slices.least": (20, 30)}
    store = Store(tmp_path / "runs")
    for told, path in (
        (compare(store, *folders).data["settings"], "setting"),
        (why(store, *folders).data["differences"], "path"),
    ):
        found = {one[path].removeprefix("config."): (one["a"], one["b"]) for one in told}
        assert found == {k: v[::-1] if swapped else v for k, v in expected.items()}
    assert call(app, ["compare", *folders, "--store", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.count("outliers") == 1


def test_another_order_of_the_same_sections_is_told() -> None:
    one, other = ({"sections": [{"name": n} for n in names]} for names in ("ab", "bac"))
    assert settings_differing(one, other) == [
        ("sections.c", None, "only here"),
        ("sections", ["a", "b"], ["b", "a"]),
    ]


@pytest.mark.parametrize("fault", ["data", "labels", "gone", "garbled", "no answer"])
def test_audits_that_are_not_of_the_same_images_are_not_paired(tmp_path: Path, fault: str) -> None:
    a = kept(tmp_path / "a", range(4), range(8))
    b = kept(tmp_path / "b", range(2), range(8), data=("e" if fault == "data" else "d") * 64)
    arrays: dict[str, Any] = {"labels": LABELS}
    if fault == "labels":
        write_arrays(b / "arrays.npz", {"labels": LABELS[::-1], "logits": np.eye(4)[LABELS]})
    elif fault == "gone":
        (b / "arrays.npz").unlink()
    elif fault == "garbled":
        (b / "arrays.npz").write_bytes(b"PK")
    elif fault == "no answer":
        write_arrays(b / "arrays.npz", arrays)
    view = compare(Store(tmp_path / "runs"), str(a), str(b))
    assert view.data["paired"] == {}
    assert view.data["not_paired"]
    assert view.lines[-1].startswith("! not paired: ")
    assert len(view.data["checks"]) == 2


def test_the_command_shows_two_kept_audits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    folders = [
        str(kept(tmp_path / "a", range(10), range(8))),
        str(kept(tmp_path / "b", range(2), range(8))),
    ]
    assert call(app, ["compare", *folders, "--store", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr().out
    assert "McNemar" in shown
    assert "ACC-001" in shown
    assert not (tmp_path / "runs").exists()


def test_two_kept_audits_make_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [
        str(kept(tmp_path / "<b>a", range(10), range(8))),
        str(kept(tmp_path / "b", range(2), range(8), threshold=0.7)),
    ]
    page, store = tmp_path / "new" / "both.html", str(tmp_path / "runs")
    assert call(app, ["compare", *folders, "--store", store, "--out", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text().replace("\u00a0", " ")
    assert "<b>a" not in text
    assert "default-src 'none'" in text
    for said in ("ACC-001", "McNemar", "at least 70.0", "20.0 points"):
        assert said in text


def test_the_page_of_two_audits_fits_a_phone(tmp_path: Path) -> None:
    chromium()
    a = kept(tmp_path / "a", range(10), range(8), eps=8 / 255)
    b = kept(tmp_path / "b", range(2), range(8), threshold=0.7)
    page = tmp_path / "both.html"
    store = str(tmp_path / "runs")
    assert call(app, ["compare", str(a), str(b), "--store", store, "--out", str(page)]) == 0
    assert "8/255" in page.read_text(), "a setting is written as papers write it"
    opens(tmp_path, {"two audits": page.read_text()})


def test_a_kept_audit_is_shown_and_its_settings_told_apart(tmp_path: Path) -> None:
    a = kept(tmp_path / "a", range(30, 40), range(8))
    b = kept(tmp_path / "b", range(38, 40), range(6, 8))
    store = Store(tmp_path / "runs")
    shown = show(store, str(a))
    assert [one.code for one in shown.judged] == ["ACC-001", "ERR-001"]
    assert shown.whole == (str(a),)
    assert show(store, str(a / "report.json")).data == shown.data
    assert [one["path"] for one in why(store, str(a), str(b)).data["differences"]] == [
        "config.steps"
    ]
    assert why(store, str(a), str(a)).lines == ("the same model, settings, versions and data",)


def test_an_audit_and_something_else_are_not_of_a_kind(tmp_path: Path) -> None:
    a, store = str(kept(tmp_path / "a", range(10), range(8))), Store(tmp_path / "runs")
    study = Path(__file__).parents[2] / "docs" / "results" / "sentiment"
    for ask in (compare, why):
        for pair in ((a, str(study)), (str(study), a)):
            with pytest.raises(AssayError, match="give two of a kind"):
                ask(store, *pair)
        with pytest.raises(AssayError, match="no run or trial 'nothing'"):
            ask(store, a, "nothing")


def test_neither_is_better_where_the_interval_cannot_tell(tmp_path: Path) -> None:
    a = kept(tmp_path / "a", range(30, 40), range(8))
    b = kept(tmp_path / "b", range(31, 40), range(8))
    accuracy, _ = compare(Store(tmp_path / "runs"), str(a), str(b)).data["checks"]
    assert accuracy["change"]["value"] > 0
    assert accuracy["better"] == ""


def test_robustness_at_other_budgets_is_not_compared(tmp_path: Path) -> None:
    a = kept(tmp_path / "a", range(30, 40), range(8))
    b = kept(tmp_path / "b", range(38, 40), range(6, 8), eps=8 / 255)
    for folder in (a, b):
        report = (folder / "report.json").read_text()
        (folder / "report.json").write_text(report.replace("ERR-001", "ROB-001"))
    view = compare(Store(tmp_path / "runs"), str(a), str(b))
    accuracy, robust = view.data["checks"]
    assert (accuracy["better"], robust["better"], robust["change"]) == ("B", "", None)
    assert list(view.data["paired"]) == ["clean"]
    assert "! attacked at L∞ 0.1 and at L∞ 8/255: not compared" in view.lines


def test_robustness_to_queries_alone_is_not_compared_with_that_to_gradients(tmp_path: Path) -> None:
    a = kept(tmp_path / "a", range(30, 40), range(8))
    b = kept(tmp_path / "b", range(38, 40), range(6, 8))
    for folder, title in ((a, "accuracy"), (b, "accuracy (by queries alone)")):
        report = (folder / "report.json").read_text()
        report = report.replace("ERR-001", "ROB-001").replace('"errors"', f'"{title}"')
        (folder / "report.json").write_text(report)
    view = compare(Store(tmp_path / "runs"), str(a), str(b))
    assert view.data["checks"][1]["change"] is None
    assert list(view.data["paired"]) == ["clean"]
    assert "! attacked at L∞ 0.1 and at L∞ 0.1 by queries alone: not compared" in view.lines
