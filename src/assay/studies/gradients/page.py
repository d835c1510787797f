"""What the page of the study of gradients shows: its tables and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from assay import stats
from assay.models.mlp import Activation
from assay.report import figures
from assay.report.numerals import bare
from assay.report.result import Cell, Drawing, Table
from assay.runs.entry import Result
from assay.studies.answers import Scale, Wording, compose, points
from assay.studies.cells import Cells
from assay.studies.gradients.networks import (
    PROPER,
    SMALLEST,
    UNMOVED,
    VARIANTS,
    Floats,
    Net,
    Variant,
    deepest,
    rms_gradients,
    widths_of,
)

if TYPE_CHECKING:
    from assay.studies.gradients.study import Gradients

HEAT = (1e-12, 1.0)
"""The ends of the scale of gradients, so that pages compare; beyond is the colour of the end."""


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
            "What is left of the gradient, layer by layer",
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
            kept, of = len(self.cells.kept(net.name)), len(self.cells.trials[net.name])
            lost = [
                f"{count} of {of} {what}"
                for count, what in (
                    (self.cells.collapsed(net.name), "collapsed"),
                    (self.cells.failed(net.name), "failed"),
                )
                if count
            ]
            if not kept:
                return Cell(text=", ".join(lost) or "no result", trials=net.name)
            mark: Literal["best", "within noise"] | None = None
            winner = best[net.shape]
            if kept > 1 and winner == net.name:
                mark = "best"
            elif kept > 1 and winner and self.cells.within_noise(net.name, winner, "test_accuracy"):
                mark = "within noise"
            return Cell(
                estimate=self.cells.mean(net.name, "test_accuracy"),
                text=", ".join(lost),
                mark=mark,
                trials=net.name,
            )

        return self._pivot(
            "Test accuracy",
            "Mean over seeds with its 95 % interval. Runs that collapsed (stayed at chance) are "
            "counted, not averaged in. Marks compare the networks of one shape; within noise of "
            "best: the interval of the difference, paired by seed, spans zero.",
            self.shapes,
            cell,
        )

    def drawings(self) -> list[Drawing]:
        """Return all figures."""
        layers = len(widths_of(self.deepest))
        return [
            Drawing(
                title="Training loss",
                caption="Mean over seeds, with the range from the least to the greatest seed, of "
                "the loss on the batches since the previous point, on a logarithmic axis. A net "
                "that knows only how frequent the classes are stays at ln(10) = 2.3.",
                svg=figures.inline_svg(
                    figures.panels(
                        self._over_steps("look_loss"),
                        x_label="step",
                        y_label="training loss",
                        log_y=True,
                    )
                ),
            ),
            Drawing(
                title="Validation accuracy",
                caption="Likewise, on the same few hundred validation images at every point.",
                svg=figures.inline_svg(
                    figures.panels(
                        self._over_steps("look_val_accuracy"),
                        x_label="step",
                        y_label="validation accuracy",
                        fraction=True,
                    )
                ),
            ),
            Drawing(
                title="The gradient of each layer, before the first step",
                caption="Root mean square over the weights of each hidden-to-hidden layer, from "
                "the input (left) to the output, on the first batch. A straight line that falls "
                "to the left is a gradient that vanishes exponentially. Mean over seeds of the "
                "logarithm, and range.",
                svg=figures.inline_svg(
                    figures.panels(
                        self._at_start(),
                        x_label="layer, from input to output",
                        y_label="RMS gradient per weight",
                        log_y=True,
                    )
                ),
            ),
            *self._heat(),
            Drawing(
                title=f"How far each layer moved, {layers} layers",
                caption="Distance of a layer's weights from their start at the end of training, "
                "over their norm at the start; the first layer and the last are included. Adam "
                "moves every weight by about as much, however small its gradient is, until that "
                "is lost beside Adam's eps of 1e-8. What did not move in float32 is drawn at 1e-9. "
                "Mean over seeds of the logarithm, and range.",
                svg=figures.inline_svg(
                    figures.panels(
                        [self._by_layer("look_weight_change")],
                        x_label="layer, from input to output",
                        y_label="relative change",
                        log_y=True,
                    )
                ),
            ),
            Drawing(
                title=f"Saturated and dead units, {layers} layers",
                caption="At the end of training, by layer. Above: the share of activations whose "
                "slope is below a twentieth of the steepest (sigmoid and tanh: both flat ends; "
                "ReLU and its kin: the flat side, where half of them are at rest). Below: the "
                "share of units for which that is so on every validation image: next to no "
                "gradient passes them. Mean and range over seeds.",
                svg=figures.inline_svg(
                    figures.panels(
                        [
                            self._by_layer("look_saturated", ", saturated"),
                            self._by_layer("look_dead", ", dead"),
                        ],
                        x_label="layer, from input to output",
                        y_label="share",
                        fraction=True,
                    )
                ),
            ),
        ]

    def _over_steps(self, array: str) -> list[list[figures.Panel]]:
        """Return a panel of curves over steps for each shape (down) and activation (across)."""
        return [
            [
                figures.Panel(
                    f"{activation} {shape}",
                    self._lines(activation, shape, array, "look_steps"),
                )
                for activation in self.activations
            ]
            for shape in self.shapes
        ]

    def _at_start(self) -> list[list[figures.Panel]]:
        """Return a panel of first gradients by layer for each deep shape and activation."""
        rows = []
        for shape in dict.fromkeys(net.shape for net in self.nets if net.variant == "residual"):
            widths = widths_of(shape)
            numbers = range(2, len(widths) + 1)
            first = partial(_first_gradients, widths=widths)
            rows.append(
                [
                    figures.Panel(
                        f"{activation} {shape}",
                        [
                            _exponentials(line)
                            for line in self._lines(activation, shape, first, numbers)
                        ],
                    )
                    for activation in self.activations
                ]
            )
        return rows

    def _by_layer(self, array: str, what: str = "") -> list[figures.Panel]:
        """Return a panel for each activation: what was measured of each layer last."""

        def last(run: Result) -> Floats:
            row: Floats = run.arrays[array][-1]
            return row

        def last_logs(run: Result) -> Floats:
            return _logs(last(run), UNMOVED)

        found = []
        for activation in self.activations:
            if array == "look_weight_change":
                lines = self._lines(activation, self.deepest, last_logs)
                lines = [_exponentials(line) for line in lines]
            else:
                lines = self._lines(activation, self.deepest, last)
            found.append(figures.Panel(activation + what, lines))
        return found

    def _lines(
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

    def _heat(self) -> list[Drawing]:
        """Return the map of gradients over layers and steps, for those nets that tell the story."""
        story: list[tuple[Activation, Variant]] = [
            *(("sigmoid", variant) for variant in VARIANTS),
            ("relu", "default"),
            ("relu", "proper"),
        ]
        titles, maps, steps = [], [], []
        for activation, variant in story:
            net = Net(activation, self.deepest, variant)
            runs = [rms_gradients(run, net.widths) for run in self.cells.finished(net.name)]
            if not runs:
                continue
            length = min(len(run) for run in runs)
            titles.append(f"{activation}, {variant}")
            maps.append(np.exp(np.mean([_logs(run[:length], SMALLEST) for run in runs], axis=0)).T)
            steps.append(self.cells.finished(net.name)[0].arrays["look_steps"][:length])
        if not maps:
            return []
        shortest = min(steps, key=len)
        rows = [str(layer) for layer in range(2, len(widths_of(self.deepest)) + 1)]
        return [
            Drawing(
                title=f"The gradient of each layer over training, {len(rows) + 1} layers",
                caption="Root mean square over the weights of each hidden-to-hidden layer, mean "
                "over seeds of its logarithm, all on one scale.",
                svg=figures.inline_svg(
                    figures.heat_maps(
                        titles,
                        [values[:, : len(shortest)] for values in maps],
                        x=[int(step) for step in shortest],
                        y=[rows] * len(maps),
                        bar_label="RMS gradient per weight",
                        limits=HEAT,
                    )
                ),
            )
        ]


KEPT = Scale(
    "a layer passes on {value} % of the gradient ({low} to {high})",
    lambda gain: bare(math.exp(-gain), "fraction"),
    "{delta} % would matter",
    falls=True,
)
"""The scale of a gain per layer, in nats."""

SLOWER = Scale(
    "{value} times as much per layer ({low} to {high})",
    lambda nats: f"{math.exp(-nats):.2f}",
    "{delta} would matter",
    falls=True,
)
"""The scale of a difference of gains: what one network keeps of its gradient over the other."""

KEEPS = replace(SLOWER, write=lambda nats: f"{math.exp(nats):.2f}", falls=False)
"""The same, of the network that keeps more over the one that keeps less."""


def answer(study: Gradients, claims: Sequence[stats.Claim]) -> str:
    """Return what the verdicts answer; that sigmoid is steeper than ReLU, and that its first layers
    do not learn, is left to the page."""
    layers = len(widths_of(deepest(study.shapes)))
    net = f"the {layers}-layer sigmoid net"

    def cure(what: str, makes: str, does_not: str) -> Wording:
        clause = f"{what} {makes} {net} learn"
        return Wording(
            clause[0].upper() + clause[1:],
            f"{what[0].upper()}{what[1:]} {does_not} make {net} learn",
            clause,
            points("test accuracy"),
        )

    return compose(
        claims,
        {
            "gradients.sigmoid_vanishes": Wording(
                f"Yes, with sigmoid, over {layers} layers",
                f"Not with sigmoid, over {layers} layers",
                f"the gradient vanishes with sigmoid over {layers} layers",
                KEPT,
            ),
            "gradients.tanh_steeper": Wording(
                "With tanh the gradient falls faster than with ReLU",
                "With tanh the gradient falls no faster than with ReLU",
                "the gradient falls faster with tanh than with ReLU",
                SLOWER,
            ),
            "gradients.he_keeps": Wording(
                "With ReLU He initialisation keeps more of the gradient than PyTorch's default",
                "With ReLU He initialisation keeps no more of the gradient than PyTorch's default",
                "He initialisation keeps more of ReLU's gradient than PyTorch's default",
                KEEPS,
            ),
            "gradients.batch_norm": cure("batch norm", "makes", "does not"),
            "gradients.residual": cure("residual connections", "make", "do not"),
            "gradients.proper": cure("Xavier initialisation", "makes", "does not"),
        },
    )


def summary(study: Gradients, cells: Cells) -> str:
    """Return what is left of a gradient per layer, and the test accuracy of the sigmoid net."""
    factors = []
    for activation in study.activations:
        net = Net(activation, deepest(study.shapes), "default")
        gain = cells.mean(net.name, net.gain, all_runs=True).value
        factors += [f"{activation} {math.exp(-gain):.2f}"] if math.isfinite(gain) else []
    if not factors:
        return "No network was trained."
    layers = len(widths_of(deepest(study.shapes)))
    reached = []
    for variant in VARIANTS:
        name = Net("sigmoid", deepest(study.shapes), variant).name
        mean = cells.mean(name, "test_accuracy", all_runs=True).value
        reached += [f"{mean:.0%} {variant}"] if math.isfinite(mean) else []
    return (
        f"With {layers} layers as PyTorch initialises them, a layer keeps of the gradient of "
        f"the next: {', '.join(factors)}. Test accuracy of the sigmoid net: "
        f"{', '.join(reached)}."
    )


def notes(study: Gradients) -> tuple[str, ...]:
    """Return what a reader must know."""
    images = "all" if study.train_images is None else f"{study.train_images:,}"
    passes = f"{study.recipe.epochs} pass{'es' if study.recipe.epochs > 1 else ''}"
    found = [
        f"Not to learn means here: not within {passes} over {images} training images. "
        "Saturated nets can leave their plateau later (Glorot & Bengio 2010). The course "
        "trained for up to 50 epochs, widths from 512 to 16; preset paper does.",
        "The gain is that of weight gradients, what a layer has to learn from: a product of "
        "the error that came back to the layer, and the activations that came forward to it. "
        "Where both shrink by as much per layer, all layers have the same small gradient, and "
        "the factor is 1 although little arrives anywhere: see the height of the lines too.",
        "No unit need be saturated for a gradient to vanish: at its steepest the slope of "
        "sigmoid is a quarter. The last figure has the saturated shares, the first table the "
        "theory.",
        "Batch norm stands after the activation, as in the course, and residual connections "
        "go around layers whose widths agree: in the course's shape only every other one. "
        "Both are tried with PyTorch's default initialisation, one change at a time.",
        "Test images are used once, after training; nothing is chosen by them. The course "
        "stopped and chose its epoch on the test set, with one seed.",
        "The smallest effects that matter were set from theory, but on the day of the first "
        "runs: they are not blind.",
    ]
    if study.recipe.optimizer.name != "sgd":
        found.insert(
            1,
            "Adam divides each gradient by its own running size. It so hides differences "
            "between layers until gradients are lost beside its eps of 1e-8: what vanishes "
            "less than that may still be learnt from, and with plain SGD would not be. The "
            "course used Adam with the same learning rate, 1e-3.",
        )
    return tuple(found)


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


def _first_gradients(run: Result, widths: Sequence[int]) -> Floats:
    return _logs(rms_gradients(run, widths)[0], SMALLEST)


def _logs(values: Floats, least: float) -> Floats:
    logs: Floats = np.log(np.maximum(values, least))
    return logs


def _exponentials(line: figures.Series) -> figures.Series:
    """Return a line of logarithms as one of numbers: a mean of logarithms is a geometric one."""
    assert line.low is not None
    assert line.high is not None
    y, low, high = (list(np.exp(part)) for part in (line.y, line.low, line.high))
    return replace(line, y=y, low=low, high=high)
