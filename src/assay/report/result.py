"""The models that are result.json, the result of a study."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from assay.report.record import EstimateModel, Maybe, Provenance, Record, Svg, Unit

Inputs = Literal["images", "texts"]
ClaimVerdict = Literal["holds", "equivalent", "does not hold", "undecided", "not run"]


VERDICTS: dict[ClaimVerdict, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "equivalent": ("is equivalent", "are equivalent"),
    "does not hold": ("does not hold", "do not hold"),
    "undecided": ("undecided", "undecided"),
    "not run": ("not run", "not run"),
}
"""What one claim of a verdict is said to do, and what several are, in the order of tallies."""


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
    """holds (the interval lies above delta), does not hold (below), undecided or not run; where a
    claim is that there is no difference, equivalent (within ± delta) in place of holds."""
    about: str = ""
    """Which population the claim is about: networks and images, or networks on these images."""
    seeds_needed: int | None = None
    """Further seeds that would decide at the spread observed; null where it is decided, and where
    no number of seeds would."""
    images_needed: int | None = None
    """Further test images, for each network, that would decide; null where it is decided, and where
    the test set has fewer."""
    note: str = ""
    """What else one should know."""
    collapsed: dict[str, int] = Field(default_factory=dict)
    """How many runs collapsed, by what they were runs of; they are not in the estimate."""
    failed: dict[str, int] = Field(default_factory=dict)
    """How many runs failed (raised, or their process died), likewise."""
    asks: Literal["larger", "equivalent"] = "larger"
    """Whether the claim is that the effect exceeds delta, or that it lies within ± delta."""
    why_delta: str = ""
    """Why an effect of delta matters, and a smaller one does not: one sentence."""
    per: str = ""
    """What the effect is counted by, such as "layer"; empty: nothing."""
    inputs: Inputs = Field(default="images", exclude_if=lambda inputs: bool(inputs == "images"))
    """What the networks classify."""
    look: int = 1
    """Which interim analysis the estimate is of: that which decided, or the newest."""
    latest: EstimateModel | None = None
    """What all seeds say at the newest interim analysis, where an earlier one decided."""

    @property
    def population(self) -> str:
        """What `about` says, of images or of texts."""
        return self.about.replace("images", self.inputs)


class Cell(Record):
    """One cell of a table: text, or a number with its doubt. Takes either alone."""

    text: str = ""
    """What is shown where there is no estimate; otherwise shown after it."""
    estimate: EstimateModel | None = None
    """A number with its doubt."""
    unit: Unit = "fraction"
    """How the estimate is shown."""
    mark: Literal["best", "within noise"] | None = None
    """The best of those it is compared with, or one that cannot be told from the best."""
    trials: str = ""
    """The cell of the study whose trials it leads to; empty: the one that is called as its text
    is, if there is one."""

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
    digits: Annotated[int, Field(ge=0, le=3)] = 1
    """Digits after the point of its percentages."""

    @model_validator(mode="after")
    def _rectangle(self) -> Self:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"every row needs {len(self.columns)} cells, one for each column")
        return self

    def column(self, title: str) -> dict[str, EstimateModel]:
        """Return the numbers of a column that have a value, by the text of the first cell; empty
        where there is no such column."""
        if title not in self.columns:
            return {}
        place = self.columns.index(title)
        found = {row[0].text: row[place].estimate for row in self.rows}
        return {name: one for name, one in found.items() if one and one.value is not None}

    def texts(self, title: str) -> dict[str, str]:
        """Return what is written in a column, by the text of the first cell; empty where there is
        no such column."""
        if title not in self.columns:
            return {}
        place = self.columns.index(title)
        return {row[0].text: text for row in self.rows if (text := row[place].text)}


class Drawing(Record):
    """A figure of a study's page."""

    title: str
    """What it is a figure of: the same for every result of the study."""
    caption: str
    """What it shows, and how to read it."""
    svg: Svg
    """What `figures.inline_svg` returns."""
    role: Literal["hero", "why", "data"] = "data"
    """Where it stands: below the answer (one), in the open as a reason (two, three), or folded."""
    finding: str = ""
    """What is seen in it, a sentence: its heading; empty: its title is. It says numbers that were
    measured, and nothing that a verdict could contradict."""
    beside: str = ""
    """Title of the table that it stands under; empty: alone."""
    narrow: Svg | Literal[""] = ""
    """The same for a phone; empty: the figure is scrolled there."""

    @property
    def heading(self) -> str:
        """What stands over it."""
        return self.finding or self.title


class TrialLine(Record):
    """One trial of a study."""

    address: str
    """64 hexadecimal digits."""
    label: str
    """What people call it."""
    status: Literal["done", "failed", "missing"]
    cell: str = ""
    """What it is a seed of, such as plain [7,7]; empty: its label."""
    seed: int | None = None
    """Seed of its random streams."""
    metrics: dict[str, Maybe] = Field(default_factory=dict)
    """Its main numbers; those whose name ends in accuracy are fractions."""
    seconds: Maybe = None
    """How long it took."""
    reason: str = ""
    """Why it failed, or what is wrong with what it found."""


@dataclasses.dataclass(frozen=True)
class TrialGroup:
    """The trials of one cell of a study, which differ in nothing but the seed.

    Attributes:
        name: what people call the cell.
        id: its anchor on the page.
        trials: in the order of the plan.
    """

    name: str
    id: str
    trials: tuple[TrialLine, ...]

    @property
    def seconds(self) -> float:
        """What its trials took, one after another."""
        return sum(trial.seconds or 0.0 for trial in self.trials)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials there are of each status."""
        return dict(Counter(trial.status for trial in self.trials))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics that any of its trials has."""
        return tuple(dict.fromkeys(name for trial in self.trials for name in trial.metrics))

    @property
    def reasons(self) -> bool:
        """Whether there is anything to be said of any trial."""
        return any(trial.reason for trial in self.trials)


class StudyResult(Record):
    """What a study found; result.json is exactly this."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    study: str
    """Its name on the command line."""
    question: str
    """The question it answers."""
    preset: str
    """smoke, quick or paper."""
    created: str = ""
    """When the result was written: ISO 8601."""
    answer: str = ""
    """What its verdicts answer, in words that need no page; `**` marks what is set in bold."""
    summary: str = ""
    """One paragraph for somebody who reads nothing else."""
    claims: tuple[Claim, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Drawing, ...] = ()
    notes: tuple[str, ...] = ()
    """Known faults of the protocol, and what else one should know."""
    trials: tuple[TrialLine, ...] = ()
    trials_at: Annotated[str, Field(pattern=r"^((\.\./)+[\w-]+)?$")] = ""
    """Where the store keeps the trials' folders, relative to the page; empty: out of reach."""
    work_seconds: Maybe = None
    """What all trials took, one after another, whenever they were run."""
    made: Provenance
    """How this was made; its seconds are those of the last call, which finds old trials done."""

    def table(self, title: str) -> Table | None:
        """Return the table of this title."""
        return next((table for table in self.tables if table.title == title), None)

    def figure(self, title: str) -> Drawing | None:
        """Return the figure of this title."""
        return next((figure for figure in self.figures if figure.title == title), None)

    def claim(self, code: str) -> Claim | None:
        """Return the claim with this code."""
        return next((claim for claim in self.claims if claim.code == code), None)

    @property
    def tally(self) -> dict[str, str]:
        """How many claims have each verdict, in words: "6 hold", "1 does not hold"."""
        counts = Counter(claim.verdict for claim in self.claims)
        return {
            verdict: f"{counts[verdict]} {words[counts[verdict] > 1]}"
            for verdict, words in VERDICTS.items()
            if counts[verdict]
        }

    @property
    def groups(self) -> tuple[TrialGroup, ...]:
        """The trials by cell, in the order of the plan."""
        cells: dict[str, list[TrialLine]] = {}
        for trial in self.trials:
            cells.setdefault(trial.cell or trial.label, []).append(trial)
        return tuple(
            TrialGroup(name, f"trials-{place}", tuple(trials))
            for place, (name, trials) in enumerate(cells.items(), 1)
        )

    def __str__(self) -> str:
        from assay.report.brief import study_text

        return study_text(self)

    def __repr__(self) -> str:
        count = ", ".join(self.tally.values()) or "none"
        return f"StudyResult({self.study!r}, preset {self.preset}, claims: {count})"

    def _repr_html_(self) -> str:
        from assay.report.brief import study_cell

        return study_cell(self)

    def to_json(self) -> str:
        """Return the JSON text that `read` takes back; a study has many trials: a line each."""
        whole = self.model_copy(update={"trials": ()}).model_dump_json(indent=1)
        lines = ",\n  ".join(trial.model_dump_json(exclude_defaults=True) for trial in self.trials)
        # A line break cannot be in a JSON string, so this is the list itself.
        return whole.replace('\n "trials": []', f'\n "trials": [\n  {lines}\n ]', 1) + "\n"
