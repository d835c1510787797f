"""The figures of the study of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from assay.models.mlp import Activation
from assay.report import figures
from assay.report.heroes import NARROW, WIDE
from assay.report.result import Drawing
from assay.runs.entry import Result
from assay.studies.gradients.networks import (
    SMALLEST,
    UNMOVED,
    VARIANTS,
    Floats,
    Net,
    Variant,
    rms_gradients,
    widths_of,
)
from assay.studies.gradients.page import FIRST, LOSS, VALIDATION, Page

BY_LAYER = "layer, from input to output"
HEAT = (1e-12, 1.0)
"""The ends of the scale of gradients, so that pages compare; beyond is the colour of the end."""


def drawings(page: Page) -> list[Drawing]:
    """Return all figures."""
    layers = len(widths_of(page.deepest))
    return [
        *_first_of_deepest(page),
        _drawing(
            f"Training loss, {layers} layers",
            "Mean over seeds, with the range from the least to the greatest seed, on a "
            "logarithmic axis. A net that knows only how frequent the classes are stays at "
            "ln(10) = 2.3.",
            _over_steps(page, "look_loss", [page.deepest]),
            x_label="step",
            y_label="training loss",
            log_y=True,
        ),
        _drawing(
            LOSS,
            "Mean over seeds, with the range from the least to the greatest seed, of "
            "the loss on the batches since the previous point, on a logarithmic axis. A net "
            "that knows only how frequent the classes are stays at ln(10) = 2.3.",
            _over_steps(page, "look_loss", page.shapes),
            x_label="step",
            y_label="training loss",
            log_y=True,
        ),
        _drawing(
            VALIDATION,
            "Likewise, on the same few hundred validation images at every point.",
            _over_steps(page, "look_val_accuracy", page.shapes),
            x_label="step",
            y_label="validation accuracy",
            fraction=True,
        ),
        _drawing(
            FIRST,
            "Root mean square over the weights of each hidden-to-hidden layer, from "
            "the input (left) to the output, on the first batch. A straight line that falls "
            "to the left is a gradient that vanishes exponentially. Mean over seeds of the "
            "logarithm, and range.",
            _at_start(page),
            x_label=BY_LAYER,
            y_label="RMS gradient per weight",
            log_y=True,
        ),
        *_heat(page),
        _drawing(
            f"How far each layer moved, {layers} layers",
            "Distance of a layer's weights from their start at the end of training, "
            "over their norm at the start; the first layer and the last are included. Adam "
            "moves every weight by about as much, however small its gradient is, until that "
            "is lost beside Adam's eps of 1e-8. What did not move in float32 is drawn at 1e-9. "
            "Mean over seeds of the logarithm, and range.",
            [_by_layer(page, "look_weight_change")],
            x_label=BY_LAYER,
            y_label="relative change",
            log_y=True,
        ),
        _drawing(
            f"Saturated and dead units, {layers} layers",
            "At the end of training, by layer. Above: the share of activations whose "
            "slope is below a twentieth of the steepest (sigmoid and tanh: both flat ends; "
            "ReLU and its kin: the flat side, where half of them are at rest). Below: the "
            "share of units for which that is so on every validation image: next to no "
            "gradient passes them. Mean and range over seeds.",
            [
                _by_layer(page, "look_saturated", ", saturated"),
                _by_layer(page, "look_dead", ", dead"),
            ],
            x_label=BY_LAYER,
            y_label="share",
            fraction=True,
        ),
    ]


def _drawing(
    title: str, caption: str, rows: Sequence[Sequence[figures.Panel]], **axes: Any
) -> Drawing:
    """Return rows of panels with one kind of axes (see `figures.panels`) as a figure."""
    svg = figures.inline_svg(figures.panels(rows, **axes))
    return Drawing(title=title, caption=caption, svg=svg)


def _first_of_deepest(page: Page) -> list[Drawing]:
    """Return the first gradient of each layer of the deepest nets as they are, a line for each
    activation, named at its end."""
    widths = widths_of(page.deepest)
    first = partial(_first_gradients, widths=widths)
    lines = []
    for place, activation in enumerate(page.activations):
        name = Net(activation, page.deepest, "default").name
        layers = range(2, len(widths) + 1)
        band = page.cells.band(name, first, x=layers, label=activation, colour=place)
        lines += [_exponentials(band)] if band else []
    if not lines:
        return []

    def drawn(width: float) -> str:
        y_label = "RMS gradient per weight"
        return figures.inline_svg(figures.gradient_norms(lines, y_label=y_label, width=width))

    return [
        Drawing(
            title=f"The gradient of each of {len(widths)} layers",
            caption="Before the first step, as PyTorch initialises them: root mean square over the "
            "weights of each hidden-to-hidden layer, from the input (left) to the output. A "
            "straight line that falls to the left is a gradient that vanishes exponentially. Mean "
            "over seeds of the logarithm, and range.",
            svg=drawn(WIDE),
            narrow=drawn(NARROW),
        )
    ]


def _over_steps(page: Page, array: str, shapes: Sequence[str]) -> list[list[figures.Panel]]:
    """Return a panel of curves over steps for each shape (down) and activation (across)."""
    return [
        [
            figures.Panel(
                f"{activation} {shape}",
                page.lines(activation, shape, array, "look_steps"),
            )
            for activation in page.activations
        ]
        for shape in shapes
    ]


def _at_start(page: Page) -> list[list[figures.Panel]]:
    """Return a panel of first gradients by layer for each deep shape and activation."""
    rows = []
    for shape in dict.fromkeys(net.shape for net in page.nets if net.variant == "residual"):
        widths = widths_of(shape)
        numbers = range(2, len(widths) + 1)
        first = partial(_first_gradients, widths=widths)
        rows.append(
            [
                figures.Panel(
                    f"{activation} {shape}",
                    [_exponentials(line) for line in page.lines(activation, shape, first, numbers)],
                )
                for activation in page.activations
            ]
        )
    return rows


def _by_layer(page: Page, array: str, what: str = "") -> list[figures.Panel]:
    """Return a panel for each activation: what was measured of each layer last."""

    def last(run: Result) -> Floats:
        row: Floats = run.arrays[array][-1]
        return row

    def last_logs(run: Result) -> Floats:
        return _logs(last(run), UNMOVED)

    found = []
    for activation in page.activations:
        if array == "look_weight_change":
            lines = page.lines(activation, page.deepest, last_logs)
            lines = [_exponentials(line) for line in lines]
        else:
            lines = page.lines(activation, page.deepest, last)
        found.append(figures.Panel(activation + what, lines))
    return found


def _heat(page: Page) -> list[Drawing]:
    """Return the map of gradients over layers and steps, for those nets that tell the story."""
    story: list[tuple[Activation, Variant]] = [
        *(("sigmoid", variant) for variant in VARIANTS),
        ("relu", "default"),
        ("relu", "proper"),
    ]
    titles, maps, steps = [], [], []
    for activation, variant in story:
        net = Net(activation, page.deepest, variant)
        runs = [rms_gradients(run, net.widths) for run in page.cells.finished(net.name)]
        if not runs:
            continue
        length = min(len(run) for run in runs)
        titles.append(f"{activation}, {variant}")
        maps.append(np.exp(np.mean([_logs(run[:length], SMALLEST) for run in runs], axis=0)).T)
        steps.append(page.cells.finished(net.name)[0].arrays["look_steps"][:length])
    if not maps:
        return []
    shortest = min(steps, key=len)
    rows = [str(layer) for layer in range(2, len(widths_of(page.deepest)) + 1)]
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
