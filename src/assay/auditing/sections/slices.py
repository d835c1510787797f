"""Kinds of images, or of texts, on which the model is worse than on the rest: found on one half,
tried on the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import false_discovery_control, fisher_exact

from assay import stats
from assay.auditing.checks import Criterion, Value, Words
from assay.auditing.cost import Work
from assay.auditing.groups import as_numbers, kinds_by
from assay.auditing.section import Measured, Section
from assay.auditing.seen import Seen, of_images, of_texts
from assay.core.halves import halves
from assay.errors import AssayError
from assay.report.record import NotRun
from assay.report.result import Table
from assay.report.schema import Chapter

if TYPE_CHECKING:
    from assay.auditing.config import AuditConfig
    from assay.auditing.evidence import Evidence

TAKES = 0.5
"""Seconds, about: most of them scikit-learn needs to be loaded."""
FEWEST = 20
"""Images of a slice, at least, in the half that it is tried on."""
DISCOVERIES = 0.05
"""The share of false ones among those that are reported, at most (Benjamini & Hochberg 1995)."""


@dataclass(frozen=True)
class Slice:
    """A kind of images, and what the model gets right of it and of the rest.

    Attributes:
        name: what they have in common.
        right, n: of the slice.
        rest_right, rest_n: of all others that it was tried on.
        of: what they are.
    """

    name: str
    right: int
    n: int
    rest_right: int
    rest_n: int
    of: str = "images"

    @cached_property
    def p(self) -> float:
        """Of the one-sided exact test of Fisher that the slice is worse than the rest."""
        table = [[self.right, self.n - self.right],
                 [self.rest_right, self.rest_n - self.rest_right]]  # fmt: skip
        return float(fisher_exact(np.asarray(table), alternative="less").pvalue)

    @property
    def gap(self) -> stats.Estimate:
        """Accuracy of the rest less that of the slice."""
        return stats.independent_difference(
            self.rest_right, self.rest_n, self.right, self.n, self.of
        )


class Slices(Section):
    """Classes, and what a shallow tree finds: where is the model worse than elsewhere?

    The tree splits half of the images of each class by brightness, contrast, colour and sharpness
    so that right and wrong part (half of the texts by how many words they have, and by the common
    ones); its leaves are tried on the other half, which it has not seen. Classes and the values of
    metadata (numbers by their quarters) are tried on that half too. Of saved predictions the tree
    splits columns of numbers. SLI-001 is the gap of the leaf, or the value of
    metadata, that was worst on the first half (of the class, where predictions are all there is):
    one slice, chosen before it is tried, so that its interval is honest.
    """

    texts: ClassVar[bool] = True
    saved: ClassVar[bool] = True

    name: Literal["slices"] = "slices"
    """The section's name in configs."""
    depth: int = Field(default=2, ge=1, le=4)
    """Splits above each leaf of the tree, at most."""

    def criteria(self, config: AuditConfig) -> tuple[Criterion, ...]:
        return (
            Criterion(
                "SLI-001",
                "gap between the worst kind of images and the rest",
                "Is it about as accurate on the kind of images that looks hardest as on the rest?",
                config.thresholds.gap,
                "at most",
                unit="points",
                advice="collect and train on more images of this kind, or say that the model is "
                "not for them",
                gated=False,
                words=Words(
                    "even over kinds of images",
                    "much worse on some kinds of images",
                    "it is even over kinds of images",
                    "kinds of images",
                ),
            ),
        )

    def work(self, evidence: Evidence) -> tuple[Work, ...]:
        del evidence
        return (Work("slices", seconds=TAKES),)

    def measure(self, evidence: Evidence) -> Measured:
        evidence.tick("slices")
        correct = evidence.correct.numpy()
        half = np.zeros(len(correct), dtype=bool)
        half[halves(len(correct), evidence.y)[0].numpy()] = True
        known = {
            f"class {name}": (evidence.y == label).numpy()
            for label, name in enumerate(evidence.classes)
        }
        by_metadata, left_out = kinds_by(evidence.metadata)
        known |= by_metadata
        seen = seen_of(evidence)
        leaves = tree_leaves(seen, correct, half, self.depth) if seen else {}
        slices = [
            tried(name, rows, correct, ~half, evidence.kind)
            for name, rows in (known | leaves).items()
        ]
        slices = [one for one in slices if min(one.n, one.rest_n) >= FEWEST]
        if not slices:
            raise AssayError(
                f"no kind of {evidence.kind} has {FEWEST} in the half that it is tried on: give "
                f"more {evidence.kind}"
            )
        sure = significant([one.p for one in slices])
        worse = [one for one, is_sure in zip(slices, sure, strict=True) if is_sure]
        names = [one.name for one in worse]
        table = _table(slices, names, evidence.kind, bool(by_metadata), left_out)
        chapter = Chapter(
            title=said(worse, len(slices), evidence.kind),
            lead=f"Worse than on the rest, and not by chance: {'; '.join(names)}."
            if len(worse) > 1
            else "",
            tables=(table,),
            name="Slices",
        )
        rows = leaves | by_metadata or ({} if seen else known)
        candidates = [one for one in slices if one.name in rows and (rows[one.name] & half).any()]
        value: Value | NotRun = NotRun(
            not_run=f"half of the {evidence.kind} is too few, or too often right, to grow a tree on"
        )
        if candidates:
            chosen = min(candidates, key=lambda one: float(correct[half & rows[one.name]].mean()))
            value = Value(chosen.gap, detail=chosen.name)
        return Measured({self.name: chapter}, {"SLI-001": value})


def said(worse: list[Slice], tried_on: int, of: str) -> str:
    """Return on which kinds it is worse than on the rest, in a sentence; of several the one with
    the widest gap, and how many there are."""
    if not worse:
        return f"None of {tried_on} kinds of {of} is known to be worse than the rest"
    most = max(worse, key=lambda one: one.gap.value)
    right, rest = most.right / most.n, most.rest_right / most.rest_n
    kind = most.name if most.name.startswith("class ") else f"{of} with {most.name}"
    found = f"Right on {100 * right:.1f} % of {kind}, on {100 * rest:.1f} % of the rest"
    return found if len(worse) == 1 else f"{found}; {len(worse)} of {tried_on} kinds are worse"


def seen_of(evidence: Evidence) -> Seen:
    """Return what the tree splits by: what is seen of images and of texts; of saved predictions the
    columns of numbers without gaps."""
    if evidence.kind == "images":
        return of_images(evidence.x)
    if evidence.kind == "texts":
        return of_texts(list(evidence.x))
    columns = {name: as_numbers(values) for name, values in evidence.metadata.items()}
    return {
        name: numbers
        for name, numbers in columns.items()
        if numbers is not None and not np.isnan(numbers).any()
    }


def tree_leaves(
    found: Seen,
    correct: NDArray[np.bool_],
    half: NDArray[np.bool_],
    depth: int,
) -> dict[str, NDArray[np.bool_]]:
    """Return the leaves of a tree that is grown on `half` of the images: rows of all, by what the
    images in them have in common."""
    try:
        from sklearn.tree import DecisionTreeClassifier
    except ImportError as error:
        raise AssayError(
            "kinds of images are found by scikit-learn: pip install scikit-learn"
        ) from error
    table = np.stack([values.astype(np.float64) for values in found.values()], 1)
    tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=2 * FEWEST, random_state=0)
    if half.sum() < 4 * FEWEST or len(set(correct[half].tolist())) < 2:
        return {}
    tree.fit(table[half], correct[half])
    leaf = tree.apply(table)
    if tree.get_n_leaves() < 2:
        return {}
    return {_path(tree.tree_, node, found): leaf == node for node in np.unique(leaf)}


def _path(tree: Any, node: int, found: Seen) -> str:
    """Return the splits above a node in words: "brightness ≤ 0.31, contrast > 0.2"; of counts the
    last whole number below, and of what is there or not: "“good”, no “film”"."""
    steps: list[str] = []
    names = list(found)
    while node != 0:
        left = np.flatnonzero(tree.children_left == node)
        parent = int(left[0] if len(left) else np.flatnonzero(tree.children_right == node)[0])
        name, cut = names[tree.feature[parent]], tree.threshold[parent]
        if found[name].dtype == bool:
            steps.append(f"no {name}" if len(left) else name)
        else:
            whole = bool((found[name] % 1 == 0).all())
            shown = f"{math.floor(cut)}" if whole else f"{cut:.2g}"
            steps.append(f"{name} {'≤' if len(left) else '>'} {shown}")
        node = parent
    return ", ".join(reversed(steps))


def tried(
    name: str,
    rows: NDArray[np.bool_],
    correct: NDArray[np.bool_],
    half: NDArray[np.bool_],
    of: str = "images",
) -> Slice:
    """Return how a slice and the rest fare on the half it is tried on; `of` is what they are."""
    inside, outside = rows & half, ~rows & half
    return Slice(
        name,
        int(correct[inside].sum()),
        int(inside.sum()),
        int(correct[outside].sum()),
        int(outside.sum()),
        of,
    )


def significant(p: list[float]) -> list[bool]:
    """Return which are discoveries, of which at most `DISCOVERIES` are expected to be false."""
    return [bool(q <= DISCOVERIES) for q in false_discovery_control(p)]


def _table(
    slices: list[Slice], worse: list[str], kind: str, parted: bool, left_out: list[str]
) -> Table:
    rows = [
        (
            one.name,
            stats.proportion(one.right, one.n, kind),
            {"estimate": one.gap, "unit": "points"},
            f"{one.p:.2g}",
            "worse" if one.name in worse else "not known to be",
        )
        for one in sorted(slices, key=lambda one: one.p)
    ]
    more = "Metadata: numbers of many values are parted at their quartiles. " if parted else ""
    if left_out:
        more += f"Too many values to be kinds: {', '.join(left_out)}. "
    return Table.model_validate(
        {
            "title": f"Kinds of {kind}",
            "columns": ("kind", "accuracy", "rest less kind", "p", "worse than the rest"),
            "rows": rows,
            "caption": f"On the half of the {kind} that the tree has not seen. {more}"
            "p is of Fisher's "
            "exact test, one-sided; of those called worse at most 5 % are expected to be no worse "
            "(Benjamini & Hochberg 1995). Intervals are for each alone, at 95 % (Newcombe 1998).",
        }
    )
