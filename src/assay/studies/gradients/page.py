"""What the page of the study of gradients shows: its tables, and which figures lead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assay import stats
from assay.models.mlp import Activation
from assay.report import figures
from assay.report.heroes import said, seen
from assay.report.numerals import bare
from assay.report.record import EstimateModel
from assay.report.result import Cell, Drawing, StudyResult, Table
from assay.runs.entry import Result
from assay.studies.cells import Cells
from assay.studies.gradients.networks import (
    PROPER,
    VARIANTS,
    Floats,
    Net,
    Variant,
    deepest,
    widths_of,
)

if TYPE_CHECKING:
    from assay.studies.gradients.study import Gradients

GAINS, ACCURACIES = "What is left of the gradient, layer by layer", "Test accuracy"
"""Titles of the tables."""
FIRST = "The gradient of each layer, before the first step"
LOSS, VALIDATION = "Training loss", "Validation accuracy"
"""Titles of figures that stand under a table."""


@dataclass(frozen=True)
class Page:
    """The tables and figures of networks, by activation, shape and variant.

    Attributes:
        cells: their results; a cell is called as its network is.
        nets: the networks, in the order in which they are shown.
    """

    cells: Cells
    nets: Sequence[Net]

    @property
    def activations(self) -> list[Activation]:
        """The activations that there are."""
        return list(dict.fromkeys(net.activation for net in self.nets))

    @property
    def shapes(self) -> list[str]:
        """The shapes that there are."""
        return list(dict.fromkeys(net.shape for net in self.nets))

    @property
    def deepest(self) -> str:
        """The shape with the most layers."""
        return deepest(self.shapes)

    def _pivot(
        self, title: str, caption: str, shapes: Sequence[str], cell: Callable[[Net], Cell]
    ) -> Table:
        """Return a table of activations and variants by shape."""
        there = set(self.nets)
        return Table(
            title=title,
            columns=("activation", "variant", *shapes),
            rows=tuple(
                (
                    Cell(text=activation),
                    Cell(text=_called(activation, variant)),
                    *(
                        cell(net) if net in there else Cell(text="–")
                        for net in (Net(activation, shape, variant) for shape in shapes)
                    ),
                )
                for activation in self.activations
                for variant in VARIANTS
            ),
            caption=caption,
        )

    def gains(self) -> Table:
        """Return what each network keeps of its gradient from layer to layer."""

        def cell(net: Net) -> Cell:
            gain = self.cells.mean(net.name, net.gain, all_runs=True)
            if not gain.n:
                return Cell(text="no result", trials=net.name)
            return Cell(estimate=_factor(gain), unit="number", trials=net.name)

        return self._pivot(
            GAINS,
            "The factor by which a layer's gradient (root mean square over its weights) changes "
            "from one layer to the next nearer to the input, before the first step, with its 95 % "
            "interval over seeds; 1: it is kept. From the least-squares slope of its logarithm "
            "over the hidden-to-hidden layers. Near zero, theory has 0.25/√3 = 0.14 for sigmoid "
            "under PyTorch's default, 0.41 for ReLU and 0.58 for tanh, where biases keep the "
            "signal up; just under 0.25 for sigmoid under Xavier.",
            [shape for shape in self.shapes if len(widths_of(shape)) > 2],
            cell,
        )

    def accuracies(self) -> Table:
        """Return the test accuracy of each network."""
        best = {
            shape: self.cells.best(
                "test_accuracy", "highest", [n.name for n in self.nets if n.shape == shape]
            )
            for shape in self.shapes
        }

        def cell(net: Net) -> Cell:
            of = len(self.cells.trials[net.name])
            lost = [
                f"{count} of {of} {what}"
                for count, what in (
                    (self.cells.collapsed(net.name), "collapsed"),
                    (self.cells.failed(net.name), "failed"),
                )
                if count
            ]
            if not self.cells.kept(net.name):
                return Cell(text=", ".join(lost) or "no result", trials=net.name)
            return Cell(
                estimate=self.cells.mean(net.name, "test_accuracy"),
                text=", ".join(lost),
                mark=self.cells.mark(net.name, best[net.shape], "test_accuracy"),
                trials=net.name,
            )

        return self._pivot(
            ACCURACIES,
            "Mean over seeds with its 95 % interval. Runs that collapsed (stayed at chance) are "
            "counted, not averaged in. Marks compare the networks of one shape; within noise of "
            "best: the interval of the difference, paired by seed, spans zero.",
            self.shapes,
            cell,
        )

    def lines(
        self,
        activation: Activation,
        shape: str,
        array: str | Callable[[Result], Floats],
        x: str | Sequence[float] | None = None,
    ) -> list[figures.Series]:
        """Return a line with its band for each variant; see `Cells.band`."""
        found = []
        for place, variant in enumerate(VARIANTS):
            net = Net(activation, shape, variant)
            if net in self.nets:
                line = self.cells.band(net.name, array, x=x, label=variant, colour=place)
                found += [line] if line is not None else []
        return found


def figures_of(study: Gradients, result: StudyResult) -> list[Drawing]:
    """Return which figure leads, which say why, and which stand under a table."""
    layers, shape = len(widths_of(deepest(study.shapes))), deepest(study.shapes)
    kept = _of_shape(result.table(GAINS), shape)
    reached = _of_shape(result.table(ACCURACIES), shape)
    found: list[Drawing] = []
    factors = [
        f"{activation} {100 * (kept[activation, 'default'].value or 0):.0f} %"
        for activation in ("sigmoid", "relu", "tanh")
        if (activation, "default") in kept
    ]
    if factors:
        leads = result.figure(f"The gradient of each of {layers} layers")
        told = f"Of the gradient of the next layer, a layer passes on: {', '.join(factors)}"
        found += seen(leads or result.figure(FIRST), told, role="hero")
        found += seen(result.figure(FIRST), beside=GAINS, role="data") if leads else []
    ends = [
        f"{said(reached['sigmoid', variant])} {what}"
        for variant, what in (
            ("default", "as it is"),
            ("proper", "with Xavier"),
            ("batch norm", "with batch norm"),
            ("residual", "with residual connections"),
        )
        if ("sigmoid", variant) in reached
    ]
    found += seen(
        result.figure(f"Training loss, {layers} layers"),
        f"Test accuracy of the {layers}-layer sigmoid net: {', '.join(ends) or 'not known'}",
    )
    claim = result.claim("gradients.first_layers")
    if claim and claim.estimate and claim.estimate.value is not None:
        factor = bare(claim.estimate.value, "decades")
        found += seen(
            result.figure(f"How far each layer moved, {layers} layers"),
            f"The first third of the sigmoid net's layers moved {factor} times as far as the last",
        )
    for title in (LOSS, VALIDATION):
        found += seen(result.figure(title), beside=ACCURACIES, role="data")
    return found


def _of_shape(table: Table | None, shape: str) -> dict[tuple[str, str], EstimateModel]:
    """Return the numbers of a shape by activation and variant, from a table of `Page.pivot`."""
    if table is None or shape not in table.columns:
        return {}
    place = table.columns.index(shape)
    found = {(row[0].text, row[1].text.split(" (")[0]): row[place].estimate for row in table.rows}
    return {name: one for name, one in found.items() if one and one.value is not None}


def _called(activation: Activation, variant: Variant) -> str:
    """Return a variant's name, with that of the initialisation it stands for."""
    if variant != "proper":
        return variant
    return f"proper ({PROPER.get(activation, 'he').capitalize()})"


def _factor(gain: stats.Estimate) -> stats.Estimate:
    """Return what a layer keeps of the next one's gradient, from the gain per layer in nats."""
    if not gain.bounded:
        return replace(gain, value=math.exp(-gain.value))
    return replace(
        gain, value=math.exp(-gain.value), low=math.exp(-gain.high), high=_exp(-gain.low)
    )


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
