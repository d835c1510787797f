"""What leads the page of the study `attention`, and what says why: drawn of claims and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.report.heroes import Dot, dots, hero, said, seen
from assay.report.numerals import interval, with_unit
from assay.report.record import EstimateModel
from assay.report.result import Drawing, StudyResult, Table
from assay.studies.attention.galleries import COMMON, attack_cells
from assay.studies.attention.page import HEADINGS, MARGINS, OVERLAPS, PREDICTED
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
        apart = result.table(PREDICTED) if study.course else None
        predicted = apart.column(HEADINGS["overlap"]) if apart else {}
        found += _overlaps(study, table, network, predicted)
    if (claim := result.claim("attention.success")) and claim.estimate and claim.estimate.n:
        found += seen(result.figure(MARGINS), margins_said(claim.estimate))
    found += seen(result.figure(COMMON), "The same images under every attack")
    return found


def margins_said(effect: EstimateModel) -> str:
    """Return what success costs of the overlap at equal margin; where it costs nothing, adds."""
    value = effect.value or 0.0
    way = "less" if value >= 0 else "more"
    return (
        f"At equal margin the overlap is {with_unit(abs(value), 'points').lstrip('+')} {way} where "
        f"an attack succeeds ({interval(effect if value >= 0 else _turned(effect), 'points')})"
    )


def _turned(effect: EstimateModel) -> EstimateModel:
    low, high = (None if end is None else -end for end in (effect.high, effect.low))
    return effect.model_copy(update={"low": low, "high": high})


def _overlaps(
    study: Attention, table: Table, network: str, predicted: Mapping[str, EstimateModel]
) -> list[Drawing]:
    """Return overlaps under attack beside noise baseline and same-class control, and beside those
    of the predicted class where they are asked for."""
    under, noise = (table.column(c) for c in ("under the attack", "under noise of the same size"))
    names = {one: own for one, own in attack_cells(study, network).items() if own in under}
    if not names:
        return []
    rows = [
        (
            name,
            (
                Dot("under the attack", under[own], 1),
                *(
                    [Dot("explained for the class then predicted", predicted[own], 2)]
                    if own in predicted
                    else []
                ),
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
