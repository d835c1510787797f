"""A flag as one line of text: its code, what it is, and what was seen."""

from __future__ import annotations

from typing import Protocol


class Raised(Protocol):
    """What a flag of a report and a reliability check of an attack have in common."""

    @property
    def code(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def detail(self) -> str: ...


def flagged(flag: Raised) -> str:
    """Return a flag as sentences.

    >>> from assay.report.schema import Flag
    >>> flagged(Flag(code="REL-001", title="Gradients vanish", raised=True, detail="of 60, 9"))
    'REL-001: Gradients vanish. Of 60, 9'
    """
    said = f"{flag.title}. {flag.detail[:1].upper()}{flag.detail[1:]}".strip()
    return f"{flag.code}: {said}"
