"""What leads the page of the study `attention`, and what says why: drawn of claims and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.report.heroes import Dot, dots, hero, said, seen
from assay.report.numerals import interval, with_unit
from assay.report.result import Drawing, StudyResult, Table
from assay.studies.attention.galleries import COMMON, attack_cells
from assay.studies.attention.page import MARGINS, OVERLAPS
from assay.studies.subjects import NATURAL

if TYPE_CHECKING:
    from assay.studies.attention.study import Attention


def figures_of(study: Attention, result: StudyResult) -> list[Drawing]:
    """Return how much of the map stays, per network, and which of the other figures say why."""
    table = result.table(OVERLAPS)
    if table is None:
        return []
    found: list[Drawing] = []
    for network in study.networks():
        found += _overlaps(study, table, network)
    if (claim := result.claim("attention.success")) and claim.estimate and claim.estimate.n:
        effect = claim.estimate
        found += seen(
            result.figure(MARGINS),
            f"At equal margin the overlap is {with_unit(effect.value, claim.unit).lstrip('+')} "
            f"less where an attack succeeds ({interval(effect, claim.unit)})",
        )
    found += seen(result.figure(COMMON), "The same images under every attack")
    return found


def _overlaps(study: Attention, table: Table, network: str) -> list[Drawing]:
    """Return overlaps under attack beside noise baseline and same-class control."""
    under, noise = (table.column(c) for c in ("under the attack", "under noise of the same size"))
    names = {one: own for one, own in attack_cells(study, network).items() if own in under}
    if not names:
        return []
    rows = [
        (
            name,
            (
                Dot("under the attack", under[own], 1),
                *([Dot("under noise of that size", noise[own], 0)] if own in noise else []),
            ),
        )
        for name, own in names.items()
    ]
    mates = table.column("another image of the class")
    first = next(iter(names.values()))
    references = [(1 / 9, "chance")]
    if first in mates:
        references.append((float(mates[first].value or 0.0), "another image"))
    worst = study.strongest() if study.strongest() in names else next(iter(names))
    assert worst is not None
    own = names[worst]
    beside = f", under noise of that size {said(noise[own])}" if own in noise else ""
    drawing = hero(
        f"How much of the map's top fifth stays, {network} network",
        f"Under {worst} {said(under[own])} of the map's top fifth stays{beside}"
        + ("" if network == NATURAL else f" ({network} network)"),
        "Intersection over union of the top 20 % of pixels of two maps of the true class: mean "
        "over seeds with its 95 % interval. Chance: two random fifths. Another image: one of "
        "the same class, as a reference.",
        lambda width: dots(
            rows, width=width, x_label="overlap of the top 20 %", references=references
        ),
    )
    return [drawing if network == NATURAL else drawing.model_copy(update={"role": "why"})]
