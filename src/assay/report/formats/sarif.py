"""A report as SARIF 2.1.0 (OASIS), which code scanning shows beside the file of the model."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import PurePath
from typing import Any

from assay.report.numerals import full
from assay.report.schema import AuditReport, Check

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

KINDS = {
    "pass": ("pass", "none"),
    "fail": ("fail", "error"),
    "undecided": ("review", "none"),
    "not run": ("open", "none"),
}
"""By verdict: the kind of a result, and its level, which is `none` for all kinds but `fail`."""


def sarif(report: AuditReport) -> str:
    """Return a run with a rule and a result per check, and a notification per flag that is up.

    Every result has the file of the model as its place, as the command names it.
    """
    place = [{"physicalLocation": {"artifactLocation": {"uri": model_file(report)}}}]
    version = report.made.versions.get("assay", "")
    driver: dict[str, Any] = {"name": "assay", "rules": [_rule(check) for check in report.checks]}
    if version:
        driver["version"] = version
    flags = [
        {
            "descriptor": {"id": flag.code},
            "level": "warning",
            "message": {"text": f"{flag.title}. {flag.detail}".strip()},
        }
        for flag in report.flags
        if flag.raised
    ]
    invocation = {
        "executionSuccessful": True,
        "commandLine": report.made.command,
        "toolExecutionNotifications": flags,
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "results": [_result(number, check, place) for number, check in enumerate(report.checks)],
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def model_file(report: AuditReport) -> str:
    """Return the file or address of the model, as a relative reference: what follows `audit` in the
    command; "model" where it came from Python."""
    try:
        words = shlex.split(report.made.command)
    except ValueError:
        return "model"
    if words[:2] != ["assay", "audit"] or len(words) < 3:
        return "model"
    named = words[2]
    if "://" in named:
        return named
    file = re.sub(r"(\.py):.*", r"\1", named)
    path = PurePath(file)
    return path.name if path.is_absolute() else path.as_posix().replace(" ", "%20")


def _rule(check: Check) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": check.code,
        "shortDescription": {"text": check.title},
        "fullDescription": {"text": check.question or check.title},
    }
    if check.advice:
        rule["help"] = {"text": check.advice}
    return rule


def _result(number: int, check: Check, place: list[dict[str, Any]]) -> dict[str, Any]:
    kind, level = KINDS[check.verdict]
    value = "" if check.value is None else f" {full(check.value, check.unit)}."
    text = f"{check.title}: {check.verdict}.{value} {check.reason}".strip()
    return {
        "ruleId": check.code,
        "ruleIndex": number,
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": place,
    }
