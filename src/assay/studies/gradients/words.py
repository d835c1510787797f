"""What the study of gradients says: its answer, its summary, its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from assay import stats
from assay.report.numerals import bare
from assay.studies.answers import Scale, Wording, compose, points
from assay.studies.cells import Cells
from assay.studies.gradients.networks import VARIANTS, Net, deepest, widths_of

if TYPE_CHECKING:
    from assay.studies.gradients.study import Gradients

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
