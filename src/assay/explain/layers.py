"""The layer that is explained: finding it in a network, and what it gives and is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.oracle import Encoded
from assay.errors import AssayError, unknown


@contextmanager
def cut(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Start the graph at the first of `layers`, and keep what each of them returns.

    What comes before is not differentiated: a layer's output is detached, so that no graph is
    recorded before it. With several layers only what no other of them leads to is detached, so
    that one backward pass reaches all. The model goes on with a clone: it may work in place.

    Yields the last output of each layer that has been called, by its name; clear it before each
    pass.

    Raises:
        AssayError: for a layer that does not exist; the nearest name is given.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for layer in layers:
        if layer not in modules:
            raise unknown("layer", layer, [name for name in modules if name])
    outputs: dict[str, Any] = {}

    def keep(layer: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            outputs[layer] = output
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return output
            if len(layers) == 1 or not output.requires_grad:
                outputs[layer] = output.detach().requires_grad_(True)
            return outputs[layer].clone()

        return hook

    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def output_of(outputs: Mapping[str, Any], layer: str) -> Tensor:
    """Return the last output of a layer, or say why there is no map of it."""
    if layer not in outputs:
        raise AssayError(f"layer {layer!r} is never called when the model runs; name another one")
    last = outputs[layer]
    if not isinstance(last, Tensor):
        raise AssayError(
            f"layer {layer!r} returns {type(last).__name__}, not a tensor; name one inside it"
        )
    spatial(last, layer)
    return last


def spatial(output: Tensor, layer: str) -> Tensor:
    """Return a layer's output, or a gradient of its shape, as (N, C, H, W)."""
    if output.ndim != 4 or output.shape[2] * output.shape[3] == 1:
        raise AssayError(
            f"layer {layer!r} returns shape {tuple(output.shape)}, which has no spatial extent; "
            "a map needs (N, C, H, W) with more than one pixel: name an earlier layer"
        )
    return output


def slopes(score: Tensor, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return d score / d output of every layer, in one backward pass."""
    found: Sequence[Tensor | None] = [None] * len(outputs)
    if score.requires_grad:
        found = torch.autograd.grad(score, list(outputs.values()), allow_unused=True)
    given: dict[str, Tensor] = {}
    for layer, slope in zip(outputs, found, strict=True):
        if slope is None:
            raise AssayError(
                f"the logits do not depend on layer {layer!r} by a gradient; name a layer on the "
                "way to the output, and let the model not detach it"
            )
        given[layer] = slope
    return given


def find_layer(clf: Classifier, x: Tensor) -> str:
    """Return the name of the layer to explain in a CNN, found by running it on `x` once.

    The model must be held in eval mode (`clf.borrowed()`).

    It is the last module to return, among those whose output has the height and width of the last
    convolution's: that convolution's block, after its normalisation, activation and skip
    connection, and before any pooling. A container counts as its last child does, and goes before
    it. Of a module that is called several times, only the last call counts, since that is the one
    that `GradCAM` explains. Without a convolution (one made by a function, say) it is the last
    output with spatial extent.

    Raises:
        AssayError: where nothing has spatial extent, or where the model goes on with tokens.
    """
    calls: list[tuple[str, nn.Module, tuple[int, ...]]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            calls.append((name, module, shape))

        return hook

    handles = []
    try:
        for name, module in clf.model.named_modules():
            if name:
                handles.append(module.register_forward_hook(note(name)))
        with torch.no_grad():
            clf.logits(Encoded(x))
    finally:
        for handle in handles:
            handle.remove()
    last = {name: place for place, (name, _, _) in enumerate(calls)}
    spatial = [
        (place, name, module, shape)
        for place, (name, module, shape) in enumerate(calls)
        if len(shape) == 4 and shape[2] * shape[3] > 1 and last[name] == place
    ]
    if not spatial:
        raise AssayError(
            f"no module of {type(clf.model).__name__} returns (N, C, H, W) with more than one "
            "pixel: Grad-CAM explains networks with spatial layers"
        )
    sizes = [shape[2:] for _, _, module, shape in spatial if isinstance(module, nn.Conv2d)]
    size = sizes[-1] if sizes else spatial[-1][3][2:]
    place, name, _, _ = next(entry for entry in reversed(spatial) if entry[3][2:] == size)
    if any(len(shape) == 3 for _, _, shape in calls[place + 1 :]):
        raise AssayError(
            f"after {name!r} the model goes on with tokens (N, T, D), which have no rows and "
            "columns; name a layer that returns (N, C, H, W): GradCAM(layer=...)"
        )
    return name
