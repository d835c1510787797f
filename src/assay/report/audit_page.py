"""The page of an audit: the verdict, two pictures, the checks, then chapters headed by what they
found; tables, provenance and settings fold away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from assay.report import findings
from assay.report.audit_figures import audit_figures, explainers, groups
from assay.report.page import rendered, track
from assay.report.record import NotRun
from assay.report.schema import (
    AuditReport,
    Chapter,
    Check,
    Gallery,
    GalleryItem,
    Part,
    ReportChapter,
    worst_first,
)

SHOWN = 3
"""Fooled images beside the first figure."""
OPEN = 4
"""Images of a gallery that are shown; the others fold away."""
WORST = 15
"""With more classes than this, those above it are left to the table."""

PARTS: dict[Part, tuple[str, tuple[str, ...]]] = {
    "accuracy": ("Accuracy", ("accuracy", "calibration", "confusion")),
    "robustness": ("Robustness", ("robustness",)),
    "saliency": ("Saliency", ("gallery", "hardly", "attention", "faithful")),
    "outliers": ("Unfamiliar inputs", ("ood",)),
}
"""The parts of the page, what the contents call them, and the chapters that have a place there."""


@dataclass(frozen=True)
class Shown:
    """A chapter on the page.

    Attributes:
        id: its anchor.
        template: what draws it.
        title: its heading: what was found.
        chapter: what it is made of.
    """

    id: str
    template: str
    title: str
    chapter: ReportChapter | Chapter | NotRun


@dataclass(frozen=True)
class Stretch:
    """A part of the page: what the contents call it, and its chapters."""

    name: str
    chapters: tuple[Shown, ...]

    @property
    def off(self) -> bool:
        """Whether nothing of it was run."""
        return all(isinstance(shown.chapter, NotRun) for shown in self.chapters)


def render_audit(report: AuditReport) -> str:
    """Return the report as one HTML page."""
    return rendered(
        "audit.html.j2",
        report=report,
        checks=worst_first(report.checks),
        place=place,
        stretches=list(stretches(report)),
        figures=audit_figures(report),
        fooled=fooled(report),
        found=findings,
        missing=missing(report),
        groups=groups,
        explainers=explainers,
        shown_open=OPEN,
        worst=WORST,
    )


def stretches(report: AuditReport) -> Iterator[Stretch]:
    """Yield the parts of the page: ours with what belongs to them, then those of other sections."""
    own = []
    placed: dict[Part | None, list[Shown]] = {}
    for name, chapter in report.more.items():
        heading = findings.finding(name, chapter, report.kind)
        shown = Shown(f"section-{name}", "more", heading, chapter)
        part = None if isinstance(chapter, NotRun) else chapter.part
        placed.setdefault(part, []).append(shown)
        if part is None:
            title = shown.title if isinstance(chapter, NotRun) else chapter.name or chapter.title
            own.append(Stretch(title, (shown,)))
    for key, (title, names) in PARTS.items():
        ours = []
        for name in names:
            chapter = getattr(report, name)
            heading = findings.finding(name, chapter, report.kind)
            ours.append(Shown(name, name, heading, chapter))
        yield Stretch(title, (*ours, *placed.get(key, ())))
    yield from own


def missing(report: AuditReport) -> dict[str, list[str]]:
    """Return what was not run, by the reason: codes of checks, and what chapters are about."""
    found: dict[str, list[str]] = {}
    for name, why in findings.not_tested(report).items():
        found.setdefault(why, []).append(findings.TOPICS.get(name, name))
    return found


def fooled(report: AuditReport) -> tuple[Gallery, list[GalleryItem]] | None:
    """Return the first fooled images and the gallery that they are of; None where there are none.
    A report from before there were any holds some in its gallery."""
    for gallery in (report.fooled, report.gallery):
        if isinstance(gallery, Gallery):
            items = [item for item in gallery.items if item.fooled][:SHOWN]
            if items:
                return gallery, items
    return None


def place(check: Check) -> dict[str, Any] | None:
    """Return where value, interval and threshold of a check lie on its bar.

    All bars run from 0 to 1 (100 %), so that they can be compared; one whose numbers do not fit
    there has its own ends.
    """
    value, threshold = check.value, check.threshold
    numbers = [] if value is None else [value.value, value.low, value.high, threshold]
    inside = all(number is None or 0 <= number <= 1 for number in numbers)
    if check.unit == "points" or not inside:
        return track(value, check.unit, threshold, check.direction)
    if value is None or value.value is None:
        return None
    at = 100 * (threshold or 0.0)
    return {
        "value": 100 * value.value,
        "low": 100 * (value.value if value.low is None else value.low),
        "high": 100 * (value.value if value.high is None else value.high),
        "threshold": at,
        "from": at if check.direction == "at least" else 0.0,
        "to": 100.0 if check.direction == "at least" else at,
    }
