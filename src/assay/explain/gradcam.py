"""Grad-CAM (Selvaraju et al. 2017, "Visual explanations from deep networks")."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.oracle import Encoded
from assay.errors import AssayError, unknown
from assay.explain.base import Explainer, chosen


class GradCAM(Explainer):
    """Where a layer's channels speak for a class (Selvaraju et al. 2017).

    Each channel of the layer is weighted by the mean, over space, of the gradient of the class's
    logit. `raw` is the weighted sum of the channels before the paper's ReLU, so it is signed:
    negative where the layer speaks against the class. `values` is made of its positive part.

    Only what comes after the layer is differentiated: the layer's output is detached, so no graph
    is recorded before it, and neither the parameters nor their gradients are touched. It is also
    cloned, so an in-place ReLU after the layer does not spoil it. Of a layer that the model calls
    several times, the last call is explained. Images that `preprocess` resizes are fine; one that
    crops shifts the map.
    """

    name: Literal["grad-cam"] = "grad-cam"
    """The method's name in configs."""
    layer: str | None = None
    """The layer to explain, by its name in the model; null finds the last convolution's block."""

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        layer = find_layer(clf, x[:1]) if self.layer is None else self.layer
        rows = clf.rows_per_batch(x)
        raw: list[Tensor] = []
        explained: list[Tensor] = []
        with _cut(clf.model, layer) as cut:
            for start in range(0, len(x), rows):
                some = slice(start, start + rows)
                cut.clear()
                logits = clf.logits(Encoded(x[some].detach()))
                wanted = chosen(logits, None if targets is None else targets[some])
                score = logits.gather(1, wanted[:, None]).sum()
                activation = _last(cut, layer)
                slope = _slope(score, activation, layer)
                weights = slope.mean((2, 3), dtype=torch.float32)
                raw.append(torch.einsum("nc,nchw->nhw", weights, activation.detach().float()))
                explained.append(wanted)
        return torch.cat(raw), torch.cat(explained), layer


@contextmanager
def _cut(model: nn.Module, layer: str) -> Iterator[list[Any]]:
    """Start the graph at `layer`: each of its outputs is replaced by one that requires a gradient.

    Yields the outputs of the layer, in order of its calls.
    """
    modules = dict(model.named_modules())
    if layer not in modules:
        raise unknown("layer", layer, [name for name in modules if name])
    outputs: list[Any] = []

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            outputs.append(output)
            return output
        leaf = output.detach().requires_grad_(True)
        outputs.append(leaf)
        return leaf.clone()  # what follows may work in place

    handle = modules[layer].register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


def _last(outputs: list[Any], layer: str) -> Tensor:
    """Return the layer's last output (N, C, H, W), or say why there is no map of it."""
    if not outputs:
        raise AssayError(f"layer {layer!r} is never called when the model runs; name another one")
    last = outputs[-1]
    if not isinstance(last, Tensor):
        raise AssayError(
            f"layer {layer!r} returns {type(last).__name__}, not a tensor; name one inside it"
        )
    if last.ndim != 4 or last.shape[2] * last.shape[3] == 1:
        raise AssayError(
            f"layer {layer!r} returns shape {tuple(last.shape)}, which has no spatial extent; "
            "Grad-CAM needs (N, C, H, W) with more than one pixel: name an earlier layer"
        )
    return last


def _slope(score: Tensor, activation: Tensor, layer: str) -> Tensor:
    """Return d score / d activation (N, C, H, W)."""
    slope = None
    if score.requires_grad:
        (slope,) = torch.autograd.grad(score, activation, allow_unused=True)
    if slope is None:
        raise AssayError(
            f"the logits do not depend on layer {layer!r} by a gradient; name a layer on the way "
            "to the output, and let the model not detach it"
        )
    return slope


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
