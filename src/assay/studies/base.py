"""What every study has in common: its settings, and what it must return."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from pydantic import Field

from assay.config import Config, Repeats, Threads
from assay.report.result import Drawing, Inputs, StudyResult, Table
from assay.runs.results import Results
from assay.runs.trial import Cost, Trial
from assay.stats import Claim, Effect
from assay.studies import answers


@dataclass(frozen=True)
class Findings:
    """What a study makes of its finished trials."""

    effects: Sequence[Effect]
    """What the claims rest on; all of a study's claims are judged together. Each has a code of its
    own, which names how its values are computed: one that is computed otherwise gets another."""
    tables: Sequence[Table] = field(default_factory=tuple)
    figures: Sequence[Drawing] = field(default_factory=tuple)
    """What is drawn of the trials: `role` says where each stands on the page, `finding` what is
    seen in it, `beside` which table it belongs to."""
    summary: str = ""
    """One sentence with the main figures; shown where the study has no answer."""
    notes: Sequence[str] = field(default_factory=tuple)
    """What a reader must know to read the page rightly, a sentence each, the most important first:
    four of them stand in the open."""


class Study(Config):
    """A question, the trials that answer it, and how their results are judged."""

    NAME: ClassVar[str]
    QUESTION: ClassVar[str]
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Settings by preset; `quick` is there in every study, and is the default."""
    METRICS: ClassVar[Sequence[str]] = (
        "test_accuracy",
        "train_accuracy",
        "test_loss",
        "train_loss",
    )
    """The metrics that the page shows beside each trial that has them; the first as a dot."""

    INPUTS: ClassVar[Inputs] = "images"
    """What its networks classify."""

    preset: str = "quick"
    """The preset these settings started from."""
    data: str = "cifar10"
    """Data set: a bundled name, a hub id or a folder."""
    seeds: Repeats = 3
    """How many seeds every cell is run with."""
    judged_before: int = Field(default=0, ge=0)
    """How often claims on some of these seeds were judged elsewhere, by another study or in another
    store; those analyses are paid for as well."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where trials compute; auto takes CUDA or MPS where there is one."""
    threads: Threads = 1
    """Threads that each trial computes with."""

    @classmethod
    def preset_values(cls, preset: str) -> dict[str, Any]:
        """Return the settings of a preset, to be overridden."""
        return {**cls.PRESETS[preset], "preset": preset}

    def resolved(self) -> Self:
        """Return these settings with the device that will be used written in.

        Raises:
            AssayError: for a device that this machine does not have.
        """
        from assay.core.device import device_here  # loads torch, which help does without

        return self.model_copy(update={"device": device_here(self.device)})

    @abstractmethod
    def plan(self, done: Results) -> Sequence[Trial]:
        """Return the trials wanted, given those done; called again until it adds nothing."""

    @abstractmethod
    def findings(self, done: Results) -> Findings:
        """Judge the claims and draw the figures; never part of a trial's address."""

    def answer(self, claims: Sequence[Claim]) -> str:
        """Return what the study answers, in words that need no page; empty: it judges nothing.

        Written from the judged claims alone, so that it cannot contradict them; `**` marks what is
        set in bold. Studies that say it better use `answers.compose`.
        """
        return answers.from_texts(claims)

    def figures_of(self, result: StudyResult) -> Sequence[Drawing]:
        """Return the figures that the claims, tables and figures of a result are enough for, as of
        an old one: the one that leads, and those whose finding is read off a table. They take the
        place of figures of the same titles, and come first."""
        del result
        return ()

    def cost(self, trial: Trial) -> Cost | None:
        """Return what an unrun trial is expected to take, or None where nothing is known."""
        del trial
        return None
