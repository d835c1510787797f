"""What leads the page of the study `sentiment`, and what says why: drawn of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.report.heroes import NARROW, hero, seen
from assay.report.numerals import with_unit
from assay.report.record import EstimateModel
from assay.report.result import Drawing, StudyResult, Table
from assay.report.scatter import Point, scatter
from assay.report.style import Picture
from assay.studies.sentiment.methods import COUNTS, FROZEN, FULL, LAYERED, LORA, SVM, TREES

if TYPE_CHECKING:
    from assay.studies.sentiment.study import Sentiment

COLOURS = {FULL: 1, LORA: 0, FROZEN: 2, SVM: 5, TREES: 3, COUNTS: 6, LAYERED: 7}
METHODS, DATA, LAYERS = "The methods", "More data", "Layer by layer"
"""The tables that figures are read off."""
AMOUNTS, DEPTHS = "Accuracy against training sentences", "What each layer knows"
"""The figures that stand with the last two."""


def amount(texts: int | None) -> str:
    """Return so many training sentences in words."""
    return "all training sentences" if texts is None else f"{texts:,} training sentences"


def figures_of(study: Sentiment, result: StudyResult) -> list[Drawing]:
    """Return accuracy against parameters and against time, and what is seen in the other two."""
    found: list[Drawing] = []
    if methods := result.table(METHODS):
        found += _parameters(study, methods) + _time(methods)
    if data := result.table(DATA):
        found += seen(result.figure(AMOUNTS), more_data(data))
    if layers := result.table(LAYERS):
        found += seen(result.figure(DEPTHS), by_layer(layers))
    return found


def _parameters(study: Sentiment, table: Table) -> list[Drawing]:
    accuracy, counted = table.column("test accuracy"), _numbers(table, "trained parameters")
    finding = parameters_said(accuracy, counted)
    if not finding:
        return []
    return [
        hero(
            "Accuracy against trained parameters",
            finding,
            f"Mean over seeds with its 95 % interval, {amount(study.tuned_at)}. Parameters of a "
            "forest are its leaves, of TF-IDF one per word or pair of words.",
            lambda width: _drawn(accuracy, counted, "trained parameters", width),
        )
    ]


def _time(table: Table) -> list[Drawing]:
    accuracy, taken = table.column("test accuracy"), _numbers(table, "seconds")
    finding = time_said(accuracy, taken)
    if not finding:
        return []
    drawing = hero(
        "Accuracy against time",
        finding,
        "Seconds of training and, for frozen features, of embedding the training sentences once; "
        "one thread. Machines that are busy with other things take longer.",
        lambda width: _drawn(accuracy, taken, "seconds", width if width == NARROW else 6.6),
    )
    return [drawing.model_copy(update={"role": "why"})]


def _drawn(
    accuracy: dict[str, EstimateModel], cost: dict[str, float], label: str, width: float
) -> Picture:
    shown = [
        Point(name, cost[name], one, COLOURS.get(name, 4))
        for name, one in accuracy.items()
        if cost.get(name, 0.0) > 0
    ]
    return scatter(shown, label, "test accuracy", width=width)


def parameters_said(accuracy: dict[str, EstimateModel], counted: dict[str, float]) -> str:
    """Return what the best method reaches with how many parameters, beside frozen features."""
    names = [name for name in accuracy if name in counted]
    if not names:
        return ""
    best = max(names, key=lambda name: accuracy[name].value or 0.0)
    said = f"{best} reaches {_reached(accuracy[best])} with {counted[best]:,.0f} trained parameters"
    if FROZEN in names and best != FROZEN:
        said += f", {FROZEN} {_reached(accuracy[FROZEN])} with {counted[FROZEN]:,.0f}"
    return _upper(said)


def time_said(accuracy: dict[str, EstimateModel], taken: dict[str, float]) -> str:
    """Return what the best method reaches in which time, beside the quickest; where that is the
    best, beside the one that takes longest."""
    names = [name for name in accuracy if name in taken]
    if not names:
        return ""
    best = max(names, key=lambda name: accuracy[name].value or 0.0)
    other = min(names, key=taken.__getitem__)
    if other == best:
        other = max(names, key=taken.__getitem__)
    said = f"{best} reaches {_reached(accuracy[best])} in {_seconds(taken[best])}"
    if other != best:
        said += f", {other} {_reached(accuracy[other])} in {_seconds(taken[other])}"
    return _upper(said)


def more_data(table: Table) -> str:
    """Return from what to what the method goes whose accuracy more sentences change most."""
    _, *sizes = table.columns
    rows = []
    for first, *cells in table.rows:
        known = [(size, c.estimate) for size, c in zip(sizes, cells, strict=True) if c.estimate]
        if len(known) > 1:
            rows.append((first.text, known[0], known[-1]))
    if not rows:
        return ""
    name, (few, low), (many, high) = max(rows, key=lambda row: _apart(row[1][1], row[2][1]))
    way = f"{_reached(low)} to {_reached(high)}"
    return f"From {few} to {many} training sentences {name} goes from {way}"


def by_layer(table: Table) -> str:
    """Return at which layer each kind of feature is read best, and how well."""
    said = []
    for features, *cells in table.rows:
        known = [(place, c.estimate) for place, c in enumerate(cells) if c.estimate is not None]
        if known:
            place, most = max(known, key=lambda one: _value(one[1]))
            said.append((features.text, place, most))
    if not said:
        return ""
    (name, place, most), *others = said
    ways = [f"Read from the {name} layer {place} knows most ({_reached(most)})"]
    ways += [f"from the {name} layer {place} ({_reached(most)})" for name, place, most in others]
    return ", ".join(ways)


def _numbers(table: Table, column: str) -> dict[str, float]:
    """Return a column that is written as text, by method."""
    texts = table.texts(column).items()
    return {name: float(text.replace(",", "")) for name, text in texts}


def _value(estimate: EstimateModel) -> float:
    return estimate.value or 0.0


def _apart(one: EstimateModel, other: EstimateModel) -> float:
    return abs(_value(one) - _value(other))


def _reached(estimate: EstimateModel) -> str:
    return with_unit(estimate.value, "fraction")


def _seconds(taken: float) -> str:
    return f"{taken:,.0f} s" if taken >= 10 else f"{taken:.2g} s"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
