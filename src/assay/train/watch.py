"""What is measured while a network trains: loss, gradients, weights and activations over steps.

Measuring changes nothing: a training that is watched ends with the same bytes as one that is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.source import Source, TensorSource
from assay.data.dataset import to_float
from assay.train.batches import in_memory
from assay.train.evaluate import evaluate
from assay.train.history import Looks
from assay.train.recipe import Watch

FLAT = 0.05
"""An activation is saturated where its slope is below this share of its greatest slope."""

STEEPEST = {nn.Sigmoid: 0.25, nn.Tanh: 1.0, nn.ReLU: 1.0, nn.LeakyReLU: 1.0, nn.GELU: 1.13}
"""The greatest slope of each activation function."""


class Watcher:
    """Measures one training; what it finds goes to `looks`.

    Args:
        watch: when, and on how many images.
        classifier: the network in training, with its initial weights.
        validation: where the images of every measurement come from; None: no curves of it, and no
            activations.
        looks: what to add to.
    """

    def __init__(
        self, watch: Watch, classifier: Classifier, validation: Source | None, looks: Looks
    ) -> None:
        self.watch = watch
        self.classifier = classifier
        self.looks = looks
        self.images = None if validation is None else rows_of(validation, watch.images)
        self.weights = layer_weights(classifier.model)
        self.initial = [weight.detach().clone() for weight in self.weights.values()]
        looks.layers = list(self.weights)

    def due(self, step: int) -> bool:
        """Return whether the step with this number, from 0, is measured in any case."""
        return step % self.watch.every == 0

    def before(self, step: int) -> None:
        """Measure the network as it is before the step: validation, activations, weights."""
        self.looks.steps.append(step)
        changes = [
            float(torch.linalg.vector_norm(now.detach() - then) / then.norm().clamp_min(1e-30))
            for now, then in zip(self.weights.values(), self.initial, strict=True)
        ]
        self.looks.weight_change.append(changes)
        if self.images is None:
            return
        with saturation(self.classifier.model) as seen:
            loss, accuracy = evaluate(self.classifier, TensorSource(*self.images))
        self.looks.val_loss.append(loss)
        self.looks.val_accuracy.append(accuracy)
        self.looks.activations = list(seen)
        flat = [torch.cat(masks) for masks in seen.values()]
        self.looks.saturated.append([float(mask.float().mean()) for mask in flat])
        self.looks.dead.append([float(mask.all(0).float().mean()) for mask in flat])

    def gradients(self) -> None:
        """Measure the gradient of the step: the L2 norm of each layer's weight, before clipping."""
        self.looks.gradient_norms.append(gradient_lengths(self.weights).tolist())


def layer_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weight of every module that multiplies (linear, convolution), by its name."""
    return {
        name.removesuffix(".weight"): parameter
        for name, parameter in model.named_parameters()
        if name.endswith("weight") and parameter.ndim >= 2 and parameter.requires_grad
    }


def gradient_lengths(weights: dict[str, nn.Parameter]) -> Tensor:
    """Return the L2 norm of the gradient of each weight, (layers,); 0 where there is none.

    The norm is taken of the gradient over its largest element: in float32 the squares of what has
    vanished (1e-23) would be zero.
    """
    found = []
    for weight in weights.values():
        if weight.grad is None:
            found.append(torch.zeros((), device=weight.device))
            continue
        gradient = weight.grad.detach().float()
        largest = gradient.abs().max()
        unit = gradient / torch.where(largest > 0, largest, 1.0)
        found.append(largest * torch.linalg.vector_norm(unit))
    return torch.stack(found)


@contextmanager
def saturation(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Record which activations are saturated in each forward pass, by module, bool (B, units).

    Saturated: the slope of the activation function is below a twentieth of its greatest. For
    sigmoid and tanh these are the flat ends on both sides (Glorot & Bengio 2010), for ReLU and
    its kin the flat side. A unit that is saturated for every image is dead: it passes no gradient.
    """
    seen: dict[str, list[Tensor]] = {}
    hooks = []

    def watch(name: str, most: float) -> None:
        seen[name] = []

        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            with torch.enable_grad():
                z = inputs[0].detach().clone().requires_grad_()
                answer = type(module).forward(module, z * 1.0)  # it may work in place
                (slope,) = torch.autograd.grad(answer.sum(), z)
            seen[name].append((slope.abs() < FLAT * most).flatten(1).cpu())

        hooks.append(module.register_forward_pre_hook(hook))

    for name, module in model.named_modules():
        most = STEEPEST.get(type(module))
        if most is not None:
            watch(name, most)
    try:
        yield seen
    finally:
        for handle in hooks:
            handle.remove()


def rows_of(source: Source, count: int) -> tuple[Tensor, Tensor]:
    """Return so many rows of a labelled source, evenly spaced: x float32 or uint8, y int64."""
    held = in_memory(source)
    if held is None:  # what comes first: to space them evenly all of it would have to be read
        _, x, y = next(iter(source.batches(count)))
        return x, y
    _, x, y = held
    rows = torch.linspace(0, len(x) - 1, min(count, len(x))).round().long()
    chosen = x[rows]
    return (to_float(chosen) if chosen.dtype == torch.uint8 else chosen), y[rows]
