"""What a section of an audit is: it measures, is judged, and fails for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from assay.auditing.checks import Criterion, Value
from assay.auditing.cost import Work
from assay.config import Config
from assay.core.oracle import Access
from assay.report.record import NotRun
from assay.report.schema import Chapter, Flag, ReportChapter

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence


@dataclass(frozen=True)
class Measured:
    """What a section came to.

    Attributes:
        chapters: what the report holds of it, by the names in `Section.chapters`; of a section
            that has none there, a `Chapter` by the section's own name. Figures are drawn from it.
        values: by the code of each criterion what it is judged by, or why there is nothing.
        arrays: what arrays.npz keeps of it, by name.
        flags: reasons not to trust some of it.

    >>> from assay import auditing
    >>> value = auditing.Value(assay.stats.proportion(3, 40, "images"))
    >>> sorted(auditing.Measured(chapters={}, values={"DBT-001": value}).values)
    ['DBT-001']
    """

    chapters: Mapping[str, ReportChapter | Chapter | NotRun]
    values: Mapping[str, Value | NotRun] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    flags: tuple[Flag, ...] = ()


class Section(Config):
    """A part of an audit.

    To add one: derive from this, tag it with `name: Literal["..."] = "..."`, say what it `needs`
    and by what `criteria` it is judged, and write `measure`. What it raises takes away its own
    chapters and checks, which then say why, and nothing else.

    >>> from assay import auditing
    >>> class Doubt(auditing.Section):
    ...     pass
    >>> Doubt(name="doubt").criteria(auditing.AuditConfig())
    ()
    """

    needs: ClassVar[Access] = "labels"
    """The least access to the model that it works with."""
    texts: ClassVar[bool] = False
    """Whether it measures texts as it measures images: it then looks at no pixel."""
    saved: ClassVar[bool] = False
    """Whether saved predictions are enough for it: it then looks at no image and asks no model."""
    chapters: ClassVar[tuple[str, ...]] = ()
    """The chapters of the report that it fills; none: one of its own, called by its name."""
    fewest: ClassVar[int] = 0
    """The fewest images that it is measured on where there is no time for more (then it is not run
    at all); 0: it takes what it takes."""

    name: str
    """The section's name in configs."""

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        """Return what it is judged by; known before anything is measured."""
        del config
        return ()

    def rests_on(self, evidence: Evidence) -> int:
        """Return how many images it is measured on."""
        return len(evidence.y)

    def work(self, evidence: Evidence) -> tuple[Work, ...]:
        """Return what `measure` does beyond the clean pass, a stretch for each `evidence.tick`:
        what says how long it takes. Nothing here: as good as no time."""
        del evidence
        return ()

    def measure(self, evidence: Evidence) -> Measured:
        """Return what is found, from the evidence and further evaluations of the model.

        Raises:
            AssayError: it cannot be measured, and why; any other error of a model's or a
                section's own is said likewise.
        """
        raise NotImplementedError
