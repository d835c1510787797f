"""What a section came to; or, in all of its places, why it came to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
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
        _kind(section, name).validate_python(chapter)
    TypeAdapter(tuple[Flag, ...]).validate_python(found.flags)
    for code, value in found.values.items():
        if code not in codes:
            raise AssayError(f"it has a value for {code}, which is none of its criteria")
        if not isinstance(value, Value | NotRun):
            raise AssayError(f"{code} is a {type(value).__name__}, not a Value or a NotRun")
    return found


def _kind(section: Section, name: str) -> TypeAdapter[Any]:
    """Return what a chapter of a section may be."""
    known = AuditReport.model_fields if name in section.chapters else {}
    kind: Any = known[name].annotation if name in known else Chapter | NotRun
    return TypeAdapter(kind)


def written(found: Measured) -> dict[str, Any]:
    """Return all but the arrays of what a section came to as JSON, of which `restored` makes the
    same: to measure it in one process and report it from another."""
    return {
        "chapters": {name: one.model_dump(mode="json") for name, one in found.chapters.items()},
        "values": {code: _value(one) for code, one in found.values.items()},
        "flags": [flag.model_dump(mode="json") for flag in found.flags],
    }


def _value(one: Value | NotRun) -> dict[str, Any]:
    return one.model_dump(mode="json") if isinstance(one, NotRun) else asdict(one)


def restored(section: Section, held: Mapping[str, Any], arrays: Mapping[str, Any]) -> Measured:
    """Return what `written` wrote.

    Args:
        section: which measured it.
        held: what was written.
        arrays: what arrays.npz is to keep of it.

    Raises:
        ValidationError: something else was written.
    """
    chapters = {
        name: _kind(section, name).validate_python(one) for name, one in held["chapters"].items()
    }
    values: TypeAdapter[dict[str, Value | NotRun]] = TypeAdapter(dict[str, Value | NotRun])
    flags = TypeAdapter(tuple[Flag, ...]).validate_python(held["flags"])
    return Measured(chapters, values.validate_python(held["values"]), dict(arrays), flags)
