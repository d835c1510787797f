"""The models that are result.json, the result of a study."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, Self

from pydantic import model_validator

from assay.report.record import EstimateModel, Made, Maybe, Record, Svg, Unit

ClaimVerdict = Literal["holds", "does not hold", "undecided", "not run"]


class Claim(Record):
    """A sentence that a study judges."""

    code: str
    """Stable name, such as SKIP-1."""
    text: str
    """The sentence."""
    delta: Maybe
    """The smallest effect that matters, set before the data was seen."""
    unit: Unit = "points"
    """How delta and estimate are shown."""
    estimate: EstimateModel | None = None
    """The effect."""
    verdict: ClaimVerdict
    """holds (the interval lies above delta), does not hold (below), undecided or not run."""
    seeds_needed: int | None = None
    """Further seeds that would decide at the spread observed; null where it is decided."""
    note: str = ""
    """What else one should know."""


class Cell(Record):
    """One cell of a table: text, or a number with its doubt. Takes either alone."""

    text: str = ""
    """What is shown where there is no estimate; otherwise shown after it."""
    estimate: EstimateModel | None = None
    """A number with its doubt."""
    unit: Unit = "fraction"
    """How the estimate is shown."""
    mark: Literal["best", "within noise"] | None = None
    """best of its column, or not distinguishable from the best."""

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"text": data}
        if isinstance(data, EstimateModel) or dataclasses.is_dataclass(data):
            return {"estimate": data}
        return data


class Table(Record):
    """A table of a study's page."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    """Each as long as `columns`."""
    caption: str = ""
    """How to read it."""

    @model_validator(mode="after")
    def _rectangle(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"every row needs {len(self.columns)} cells, one for each column")
        return self


class Drawing(Record):
    """A figure of a study's page."""

    title: str
    caption: str
    """What it shows, and how to read it."""
    svg: Svg
    """What `figures.inline_svg` returns."""


class TrialLine(Record):
    """One trial of a study."""

    address: str
    """64 hexadecimal digits."""
    label: str
    """What people call it."""
    status: Literal["done", "failed", "missing"]
    seconds: Maybe = None
    """How long it took."""
    reason: str = ""
    """Why it failed."""


class StudyResult(Record):
    """What a study found; result.json is exactly this."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    study: str
    """Its name on the command line."""
    question: str
    """What it asks."""
    preset: str
    """smoke, quick or paper."""
    created: str = ""
    """When the result was written: ISO 8601."""
    summary: str = ""
    """One paragraph for somebody who reads nothing else."""
    claims: tuple[Claim, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Drawing, ...] = ()
    notes: tuple[str, ...] = ()
    """Known faults of the protocol, and what else one should know."""
    trials: tuple[TrialLine, ...] = ()
    made: Made
    """How this was made."""
