"""A report in the forms of others: read back by their own libraries, and whole whatever it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import xmlschema
import yaml
from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries
from huggingface_hub.repocard import ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from jsonschema import Draft7Validator
from junitparser import Failure, JUnitXml, Skipped
from sarif_pydantic import Sarif

from assay.commands.audit import Format
from assay.report.findings import not_tested
from assay.report.formats import FORMATS, write_formats
from assay.report.formats.junit import junit
from assay.report.formats.markdown import markdown
from assay.report.formats.model_card import eval_results, model_card
from assay.report.formats.sarif import model_file, sarif
from assay.report.record import EstimateModel, NotRun, Provenance
from assay.report.schema import AuditReport, Check, Flag

EVIL = "a|b <script>alert(1)</script> [x](javascript:y) `z` & \x01 *c*"
JUNIT_SCHEMA = Path(__file__).parent / "schemas" / "junit-10.xsd"
SARIF_SCHEMA = Path(__file__).parent / "schemas" / "sarif-schema-2.1.0.json"
VERDICTS = ("pass", "fail", "undecided", "not run")


def report(
    title: str = "net on digits", command: str = "assay audit nets/my.py:net --data d"
) -> Any:
    half = EstimateModel(value=0.5, low=0.4, high=0.6, n=100, of="images")
    checks = [
        Check(code=f"C-{k}", title=title, question="is it?", threshold=0.45, direction="at least",
              value=None if verdict == "not run" else half, verdict=verdict,
              reason=f"because {title}", advice="do this" if verdict == "fail" else "")
        for k, verdict in enumerate(VERDICTS)
    ]  # fmt: skip
    made = Provenance(command=command, config={}, seeds=(0,), versions={"assay": "1.2"},
                      hardware={}, started="2026-11-28T10:00:00+00:00", seconds=1.5,
                      data={"me/digits/test": "abc"})  # fmt: skip
    return AuditReport(
        title=title, created="2026-11-28T10:00:01+00:00", answer="Fine; **not robust**.",
        summary="", checks=tuple(checks), ood=NotRun(not_run="no reference"), made=made,
        flags=(Flag(code="REL-1", title="Masked", raised=True, detail="seen"),
               Flag(code="REL-2", title="Clear", raised=False)),
    )  # fmt: skip


def test_markdown_has_the_answer_first_and_the_worst_check_first() -> None:
    lines = markdown(report()).splitlines()
    assert lines[0] == "# net on digits"
    assert lines[2] == "Fine; **not robust**."
    rows = [line for line in lines if line.startswith("| ") and "C-" in line]
    assert [row.split(" | ")[1] for row in rows] == ["C-1", "C-2", "C-3", "C-0"]
    assert "fail: 50.0 % (40.0 to 60.0, n = 100) | at least 45.0 %" in rows[0]
    assert "- REL-1: Masked. Seen" in lines
    assert "- C-1: do this" in lines
    assert not_tested(report())["ood"] == "no reference"
    assert "- ood: no reference" in lines


def test_junit_is_read_by_junitparser() -> None:
    suite = next(iter(JUnitXml.fromstring(junit(report()).encode())))
    assert (suite.tests, suite.failures, suite.skipped) == (4, 2, 1)
    kinds = [type(case.result[0]) if case.result else None for case in suite]
    assert kinds == [None, Failure, Failure, Skipped]
    assert [case.result[0].type for case in suite if case.result][:2] == ["fail", "undecided"]
    assert "50.0 %" in next(case for case in suite if case.name.startswith("C-1")).result[0].message


@pytest.mark.parametrize("title", ["net on digits", EVIL])
def test_junit_fits_the_schema_of_jenkins(title: str) -> None:
    schema = xmlschema.XMLSchema(JUNIT_SCHEMA)
    text = junit(report(title))
    assert [error.reason for error in schema.iter_errors(text)] == []
    assert not schema.is_valid(
        text.replace('<testcase classname="assay.audit" name=', "<testcase id=")
    )


def test_sarif_fits_its_model() -> None:
    found = Sarif.model_validate_json(sarif(report()))
    (run,) = found.runs
    assert run.results is not None
    assert [result.rule_id for result in run.results] == ["C-0", "C-1", "C-2", "C-3"]
    plain = json.loads(sarif(report()))["runs"][0]
    assert [one["kind"] for one in plain["results"]] == ["pass", "fail", "review", "open"]
    assert [one["level"] for one in plain["results"]] == ["none", "error", "none", "none"]
    place = plain["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "nets/my.py"}
    assert plain["tool"]["driver"]["version"] == "1.2"
    told = plain["invocations"][0]["toolExecutionNotifications"]
    assert [one["descriptor"]["id"] for one in told] == ["REL-1"]


@pytest.mark.parametrize("title", ["net on digits", EVIL])
def test_sarif_fits_the_schema_of_oasis(title: str) -> None:
    validator = Draft7Validator(json.loads(SARIF_SCHEMA.read_text(encoding="utf-8")))
    document = json.loads(sarif(report(title)))
    assert [error.message for error in validator.iter_errors(document)] == []
    del document["runs"][0]["results"][0]["message"]
    assert [error.message for error in validator.iter_errors(document)] == [
        "'message' is a required property"
    ]


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("assay audit m.safetensors --data d", "m.safetensors"),
        ("assay audit /home/me/m.onnx --data d", "m.onnx"),
        ("assay audit 'my nets/a.py:net' --data d", "my%20nets/a.py"),
        ("assay audit https://a.b/c --data d", "https://a.b/c"),
        ("assay.audit(clf, x, y, ...), called from Python", "model"),
        ("assay audit 'unclosed", "model"),
    ],
)
def test_the_place_of_a_result_is_the_file_of_the_model(command: str, file: str) -> None:
    assert model_file(report(command=command)) == file


def test_the_hub_reads_the_card_and_the_results() -> None:
    card = ModelCard(model_card(report()))
    values = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert values == {"c-0": 0.5, "c-1": 0.5, "c-2": 0.5}
    assert card.data.eval_results[0].dataset_name == "me/digits"
    assert "## Audit: net on digits" in card.text
    entries = parse_eval_result_entries(yaml.safe_load(eval_results(report())))
    assert [(one.dataset_id, one.task_id) for one in entries] == [
        ("me/digits", f"c-{k}") for k in range(3)
    ]


@pytest.mark.parametrize(("inputs", "task"), [({}, "image"), ({"tokens": 64}, "text")])
def test_the_hub_writes_again_what_it_has_read(inputs: dict[str, int], task: str) -> None:
    """Nothing is lost on the way through its classes, so nothing is there that it does not know."""
    known = report()
    made = known.made.model_copy(update={"config": {"inputs": inputs}})
    known = known.model_copy(update={"made": made})
    written = yaml.safe_load(model_card(known).split("---")[1])["model-index"]
    name, found = model_index_to_eval_results(written)
    assert {one.task_type for one in found} == {f"{task}-classification"}
    (again,) = eval_results_to_model_index(name, found)
    results = again["results"]
    assert again["name"] == written[0]["name"]
    assert [metric for one in results for metric in one["metrics"]] == [
        {"type": f"c-{k}", "value": 0.5, "name": "net on digits"} for k in range(3)
    ]
    assert all(one["dataset"] == written[0]["results"][0]["dataset"] for one in results)
    entries = yaml.safe_load(eval_results(known))
    assert eval_result_entries_to_yaml(parse_eval_result_entries(entries)) == entries


def test_what_comes_from_elsewhere_is_text_in_all_of_them() -> None:
    evil = report(EVIL)
    text = markdown(evil)
    assert "<script>" not in text
    assert "\\<script\\>" in text
    assert all(row.count(" | ") == 4 for row in text.splitlines() if row.startswith("| ✅"))
    suite = next(iter(JUnitXml.fromstring(junit(evil).encode())))
    assert "<script>alert(1)</script>" in suite.name
    assert "\x01" not in suite.name
    assert Sarif.model_validate_json(sarif(evil))
    assert ModelCard(model_card(evil)).data.model_name.startswith("a|b")


def test_the_flag_offers_each_of_them() -> None:
    assert set(get_args(Format)) == set(FORMATS)


def test_files_lie_beside_the_report(tmp_path: Path) -> None:
    written = write_formats(report(), tuple(FORMATS), tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "report.md", "junit.xml", "report.sarif", "model-card.md", ".eval_results/assay.yaml",
    ]  # fmt: skip
    assert all(path.stat().st_size > 100 for path in written)
