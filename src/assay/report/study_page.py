"""The page of a study: question, answer, one hero figure, the claims as forest plots, why, limits,
and all the data folded below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assay.report.forest import forests
from assay.report.page import rendered
from assay.report.result import Drawing, StudyResult, Table

MOST_LIMITS = 4
"""Notes that stand in the open; the others fold away."""

OLDER = (
    "These verdicts rest on an older computation, over seeds alone: its intervals are about "
    "networks, on these very images, and would be wider for images in general."
)
"""The first limit of a result whose claims do not say what they are about."""


@dataclass(frozen=True)
class Chapter:
    """A part of the folded data: a table with the figures that belong to it, or figures alone."""

    title: str
    tables: tuple[Table, ...] = ()
    figures: tuple[Drawing, ...] = ()


@dataclass(frozen=True)
class Strips:
    """Where each trial's first metric lies between the least and the greatest of a study.

    Attributes:
        name: the metric; empty where no trial has any.
        low, high: its least and greatest value.
        places: percent of the way from `low` to `high`, by the anchor of a cell.
    """

    name: str
    low: float
    high: float
    places: Mapping[str, Sequence[float]]


def render_study(result: StudyResult) -> str:
    """Return the result of a study as one HTML page; its figures were drawn when it ended."""
    limits = list(result.notes)
    if any(claim.estimate and not claim.about for claim in result.claims):
        limits.insert(0, OLDER)
    return rendered(
        "study.html.j2",
        result=result,
        hero=next((figure for figure in result.figures if figure.role == "hero"), None),
        forests=forests(result.claims),
        why=[figure for figure in result.figures if figure.role == "why"],
        limits=limits[:MOST_LIMITS],
        notes=limits[MOST_LIMITS:],
        chapters=chapters(result),
        places={group.name: group.id for group in result.groups},
        strips=strips(result),
    )


def chapters(result: StudyResult) -> tuple[Chapter, ...]:
    """Return the folded data: every table with the figures beside it, then the other figures."""
    folded = [figure for figure in result.figures if figure.role == "data"]
    titles = {table.title for table in result.tables}
    found = [
        Chapter(
            table.title,
            (table,),
            tuple(figure for figure in folded if figure.beside == table.title),
        )
        for table in result.tables
    ]
    found += [
        Chapter(figure.heading, figures=(figure,))
        for figure in folded
        if figure.beside not in titles
    ]
    return tuple(found)


def strips(result: StudyResult) -> Strips:
    """Return what the folded cells show of their trials: a dot for each."""
    named = [name for group in result.groups for name in group.metrics]
    name = named[0] if named else ""
    found = {
        group.id: [v for trial in group.trials if (v := trial.metrics.get(name)) is not None]
        for group in result.groups
    }
    values = [value for group in found.values() for value in group]
    low, high = min(values, default=0.0), max(values, default=0.0)
    span = (high - low) or 1.0
    places = {id: [round(100 * (v - low) / span, 1) for v in own] for id, own in found.items()}
    return Strips(name if values else "", low, high, places)
