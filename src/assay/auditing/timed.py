"""The chapter on a budget of time: what each section got of it, and what there was no time for."""

from __future__ import annotations

from collections.abc import Sequence

from assay.auditing.evidence import Evidence
from assay.auditing.rounds import Share
from assay.auditing.watch import Watch
from assay.report.numerals import MISSING, duration
from assay.report.result import Table
from assay.report.schema import Chapter

TIME = "time"
"""The chapter's name."""
ORDER = (
    "Checks that count go first, and of these the cheapest; then the other checks; then what has "
    "none. What there is no time for is measured on fewer images, with wider intervals, and with "
    "curves of two budgets; or it is not run. Attacks keep their steps, restarts and queries."
)


def time_chapter(shares: Sequence[Share], evidence: Evidence, watch: Watch, given: int) -> Chapter:
    """Return the chapter.

    Args:
        shares: what each section got.
        evidence: whose images are as many as the clean pass had time for, of
        given: those that there are.
    """
    skipped = [share.section.name for share in shares if not share.run]
    fewer, rows = [], []
    for share in shares:
        section, size = share.section, share.size
        full = section.rests_on(evidence)
        had = section.rests_on(evidence.within(size.most, short=size.short)) if share.run else 0
        if 0 < had < full:
            fewer.append(f"{section.name} ({had:,} of {full:,})")
        elif share.run and size.short:
            fewer.append(f"{section.name} (curves of two budgets)")
        images = f"{had:,} of {full:,}" if share.run else "not run"
        took = duration(share.seconds) if share.seconds else MISSING
        rows.append((section.name, took, images, "two" if size.short and share.run else ""))
    budget, own = duration(watch.budget), evidence.kind
    left = []
    if len(evidence.y) < given:
        left.append(f"of {given:,} {own} the first {len(evidence.y):,} were used")
    if fewer:
        left.append(f"measured on fewer: {', '.join(fewer)}")
    if skipped:
        left.append(f"not run: {', '.join(skipped)}")
    missed = "; ".join(left)
    return Chapter.model_validate(
        {
            "title": f"{budget} were too short for all" if missed else f"{budget} were enough",
            "lead": f"{missed[:1].upper()}{missed[1:]}." if missed else "Nothing was left out.",
            "tables": (
                Table.model_validate(
                    {
                        "title": "What each section got",
                        "columns": ("section", "took", own, "budgets of its curves"),
                        "rows": rows,
                        "caption": f"{duration(watch.spent())} were spent. {ORDER}",
                    }
                ),
            ),
            "name": "Budget of time",
        }
    )
