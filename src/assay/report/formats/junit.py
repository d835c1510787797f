"""A report as JUnit's XML, which CI systems show as tests."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from assay.report.numerals import full
from assay.report.schema import AuditReport, Check

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What XML 1.0 cannot hold, not even escaped."""


def junit(report: AuditReport) -> str:
    """Return a suite with a test case per check: a failure where it fails or is undecided, with the
    verdict as its type; skipped where it was not run."""
    suite = ElementTree.Element("testsuite")
    for check in report.checks:
        _add(suite, check)
    failed = sum(check.verdict in ("fail", "undecided") for check in report.checks)
    skipped = sum(check.verdict == "not run" for check in report.checks)
    counts = {
        "name": clean(report.title),
        "tests": str(len(report.checks)),
        "failures": str(failed),
        "errors": "0",
        "skipped": str(skipped),
        "time": f"{report.made.seconds:.3f}",
        "timestamp": report.created,
    }
    suite.attrib.update(counts)
    suites = ElementTree.Element("testsuites", {"name": "assay audit", "time": counts["time"]})
    suites.append(suite)
    ElementTree.indent(suites)
    text = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def clean(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return FORBIDDEN.sub("", text)


def _add(suite: ElementTree.Element, check: Check) -> None:
    names = {"classname": "assay.audit", "name": clean(f"{check.code} {check.title}"), "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", names)
    value = "" if check.value is None else f"{full(check.value, check.unit)}. "
    if check.verdict == "not run":
        ElementTree.SubElement(case, "skipped", {"message": clean(check.reason)})
    elif check.verdict != "pass":
        said = {"message": clean(f"{value}{check.reason}"), "type": check.verdict}
        ElementTree.SubElement(case, "failure", said).text = clean(check.advice)
    else:
        ElementTree.SubElement(case, "system-out").text = clean(value.rstrip(". "))
