"""What leads the page of the study `hardening`, and the Pareto front: drawn of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.report import figures as draw
from assay.report.heroes import Dot, dots, hero
from assay.report.record import EstimateModel
from assay.report.result import Drawing, StudyResult
from assay.report.scatter import Point, scatter
from assay.studies.hardening.names import NATURAL
from assay.studies.hardening.page import accuracies

if TYPE_CHECKING:
    from assay.studies.hardening.study import Hardening

Pair = tuple[EstimateModel, EstimateModel]
"""Clean and robust accuracy."""


def figures_of(study: Hardening, result: StudyResult) -> list[Drawing]:
    """Return both accuracies of each recipe, and robust against clean accuracy."""
    table = result.table(accuracies(study))
    if table is None:
        return []
    clean, robust = table.column("clean"), table.column(f"under {study.judge}")
    both = {name: (clean[name], robust[name]) for name in clean if name in robust}
    if not both:
        return []
    front = on_the_front({name: (_value(a), _value(b)) for name, (a, b) in both.items()})
    return [_both(study, both, front), _against(study, both, front)]


def _value(estimate: EstimateModel) -> float:
    return float(estimate.value or 0.0)  # a column has those with a value alone


def on_the_front(accuracies: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return those that none beats: is as good both clean and attacked, and better once.

    >>> from assay.studies.hardening.lead import on_the_front
    >>> on_the_front({"natural": (0.9, 0.0), "mixed": (0.8, 0.0), "robust": (0.6, 0.3)})
    ['natural', 'robust']
    """
    return [
        name
        for name, here in accuracies.items()
        if not any(
            clean >= here[0] and robust >= here[1] and (clean, robust) != here
            for clean, robust in accuracies.values()
        )
    ]


def _whole(estimate: EstimateModel) -> str:
    return f"{100 * _value(estimate):.0f} %"


def _both(study: Hardening, both: Mapping[str, Pair], front: list[str]) -> Drawing:
    judge = study.judge
    best = max(both, key=lambda name: _value(both[name][1]))
    if best == NATURAL or NATURAL not in both:
        finding = f"{best} leaves most right under {judge}, {_whole(both[best][1])}"
    else:
        clean, robust = both[NATURAL]
        finding = (
            f"{best} leaves {_whole(both[best][1])} right under {judge}, natural training "
            f"{_whole(robust)}; clean they have {_whole(both[best][0])} and {_whole(clean)}"
        )
    rows = [
        (
            f"{name}{' ◆' if name in front else ''}",
            [Dot("clean", clean, 0), Dot(f"under {judge}", robust, 1)],
        )
        for name, (clean, robust) in both.items()
    ]
    clean_of = f"{study.test_images:,}" if study.test_images else "all"
    return hero(
        "Clean and robust accuracy",
        finding,
        f"{study.data}: mean over seeds with its 95 % interval, at equal compute but for short "
        f"N-FGSM. Clean of {clean_of} test images, under {judge} of {study.images} of them, per "
        f"seed. ◆: on the Pareto front, no recipe is better both clean and under {judge}.",
        lambda width: dots(rows, width=width, x_label="accuracy"),
    )


def _against(study: Hardening, both: Mapping[str, Pair], front: list[str]) -> Drawing:
    points = [
        Point(name, _value(clean), robust, colour, clean)
        for colour, (name, (clean, robust)) in enumerate(both.items())
    ]
    ahead = " and ".join([", ".join(front[:-1]), front[-1]] if len(front) > 1 else front)
    return Drawing(
        title="Robust against clean accuracy",
        role="why",
        finding=f"{ahead} {'are' if len(front) > 1 else 'is'} on the Pareto front",
        caption=f"The line joins the recipes that no other beats both clean and under {study.judge}"
        ". Bars are 95 % intervals: where they overlap, another sample may order them otherwise.",
        svg=draw.inline_svg(
            scatter(points, "clean accuracy", f"accuracy under {study.judge}", joined=front)
        ),
    )
