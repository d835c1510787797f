"""What a section came to; or, in all of its places, why it came to nothing."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from assay.auditing.checks import Value
from assay.auditing.evidence import Evidence
from assay.auditing.section import Measured, Section
from assay.core.oracle import granted
from assay.errors import AssayError, told
from assay.report.record import NotRun
from assay.report.schema import AuditReport, Chapter, Flag

NOT_MEASURED = NotRun(not_run="the section measured nothing of it")


def outcome(section: Section, evidence: Evidence) -> Measured:
    """Return what a section measures; where it cannot be run, the reason in all of its places."""
    try:
        if why_not := refusal(section, evidence):
            raise AssayError(why_not)
        codes = {criterion.code for criterion in section.criteria(evidence.config)}
        return _fitting(section, section.measure(evidence), codes)
    except Exception as error:  # whatever a user's model, or another package's section, may raise
        return unrun(section, evidence, told(error))


def refusal(section: Section, evidence: Evidence) -> str:
    """Return why a section cannot be run on this model; "" where it can."""
    if why_not := evidence.refuses(section):
        return why_not
    if granted(evidence.model, section.needs):
        return ""
    what = "a network" if section.needs == "gradient" else f"the model's {section.needs}"
    return f"it needs {what}; this model answers with {evidence.model.access} only"


def unrun(section: Section, evidence: Evidence, reason: str) -> Measured:
    """Return what a section that was not run came to: the reason, in all of its places."""
    why = NotRun(not_run=reason)
    names = section.chapters or (section.name,)
    codes = [criterion.code for criterion in section.criteria(evidence.config)]
    return Measured(dict.fromkeys(names, why), dict.fromkeys(codes, why))


def _fitting(section: Section, found: Measured, codes: set[str]) -> Measured:
    """Return what a section measured, if the report can hold it.

    Raises:
        AssayError, ValidationError: it cannot, and why.
    """
    for name, chapter in found.chapters.items():
        known = AuditReport.model_fields if name in section.chapters else {}
        kind: Any = known[name].annotation if name in known else Chapter | NotRun
        TypeAdapter(kind).validate_python(chapter)
    TypeAdapter(tuple[Flag, ...]).validate_python(found.flags)
    for code, value in found.values.items():
        if code not in codes:
            raise AssayError(f"it has a value for {code}, which is none of its criteria")
        if not isinstance(value, Value | NotRun):
            raise AssayError(f"{code} is a {type(value).__name__}, not a Value or a NotRun")
    return found
