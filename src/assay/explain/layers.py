"""The layer that is explained: finding it in a network, and what it gives and is given back."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any

from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.user_code import slopes_by
from assay.errors import AssayError, unknown
from assay.explain.layout import channels_last, named
from assay.explain.probe import Call, Probe, probe
from assay.explain.tokens import Sizes


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
    modules = named(model)
    for layer in layers:
        if layer not in modules:
            known = [name for name in modules if name and "_orig_mod" not in name]
            raise unknown("layer", layer, known)
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


def output_of(outputs: Mapping[str, Any], layer: str, sizes: Sizes) -> Tensor:
    """Return the last output of a layer, or say why there is no map of it."""
    if layer not in outputs:
        raise AssayError(f"layer {layer!r} is never called when the model runs; name another one")
    last = outputs[layer]
    if not isinstance(last, Tensor):
        raise AssayError(
            f"layer {layer!r} returns {type(last).__name__}, not a tensor; name one inside it"
        )
    spatial(last, layer, sizes)
    return last


def spatial(output: Tensor, layer: str, sizes: Sizes) -> Tensor:
    """Return a layer's output, or a gradient of its shape, as (N, C, H, W).

    Channels that stand last, (N, H, W, C), are moved. Tokens (N, T, D) are put in the rows and
    columns of their patches; a class token, and what else is no patch, is left out.
    """
    if output.ndim in (3, 4) and len(output) != sizes.rows:
        raise AssayError(
            f"layer {layer!r} returns shape {tuple(output.shape)} for {sizes.rows} images: it "
            "works on parts of them, such as windows; name a layer that has each image in one piece"
        )
    if output.ndim == 3:
        return sizes.grid(output.shape[1], f"layer {layer!r}").maps(output)
    if output.ndim != 4 or math.prod(sizes.extent(layer, output.shape)) == 1:
        raise AssayError(
            f"layer {layer!r} returns shape {tuple(output.shape)}, which has no spatial extent; "
            "a map needs (N, C, H, W) with more than one pixel, or tokens (N, T, D): name an "
            "earlier layer"
        )
    last = sizes.last(layer, output.shape)
    if last is None:
        raise AssayError(
            f"layer {layer!r} returns shape {tuple(output.shape)}, and it cannot be told where the "
            "channels are: other layers return this shape with channels first, and with channels "
            "last; name a convolution, a layer norm or a linear layer inside it"
        )
    return output.permute(0, 3, 1, 2) if last else output


def slopes(score: Tensor, outputs: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Return d score / d output of every layer, in one backward pass; `x` are the images."""
    found: Sequence[Tensor | None] = [None] * len(outputs)
    if score.requires_grad:
        found = slopes_by(score, list(outputs.values()), x)
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
    """Return the name of the layer to explain, found by running the model on `x` once.

    The model must be held (`held`).

    In a CNN it is the last module to return, among those whose output has the height and width of
    the last convolution's: that convolution's block, after its normalisation, activation and skip
    connection, and before any pooling. Where channels stand last, a linear layer is a convolution
    of one pixel, and a norm counts as one. A container counts as its last child does, and goes
    before it. Of a module that is called several times, only the last call counts, since that is
    the one that `GradCAM` explains. What is in window layout, as inside of a Swin transformer or a
    MaxViT, is no image: several rows to one, or rows and columns of no convolution's size that have
    not the proportions of the image. Without a convolution (one made by a function, say) it is the
    last output with spatial extent. What the logits do not depend on by a gradient, such as a
    decoder beside the head, is left out, unless a gradient reaches nothing.

    Where the model goes on with tokens, as vision transformers do, it is the last module to return
    some, linear layers aside, on whose patches the logits depend by a gradient. After the last
    attention a head that reads the class token alone depends on no patch: the layer is then what
    that attention reads, the first norm of the last block. With a head on the mean of the patches
    it is the last block, or a norm after it.

    Raises:
        AssayError: where nothing has spatial extent, or the logits depend on none of the tokens.
    """
    seen = probe(clf, x)
    calls = seen.calls
    last = {call.name: place for place, call in enumerate(calls)}
    final = [
        place
        for place, call in enumerate(calls)
        if last[call.name] == place and call.shape[:1] == (len(x),)
    ]
    lengths = {call.shape[1] for call in calls if len(call.shape) == 3}
    extent = {
        place: seen.sizes.extent(calls[place].name, calls[place].shape)
        for place in final
        if len(calls[place].shape) == 4 and not _attends(calls[place], lengths)
    }
    spatial = [place for place, size in extent.items() if math.prod(size) > 1]
    counts = seen.counts([calls[place] for place in spatial])
    if any(counts):
        spatial = list(compress(spatial, counts))
    spatial = [place for place in spatial if seen.sizes.whole(extent[place])] or spatial
    end = -1  # where rows and columns end
    if spatial:
        convolved = [place for place in spatial if _convolves(calls[place], seen.sizes)]
        size = extent[(convolved or spatial)[-1]]
        end = next(place for place in reversed(spatial) if extent[place] == size)
    tokens = [
        calls[place]
        for place in final
        if place > end
        and len(calls[place].shape) == 3
        and calls[place].shape[2] > 1
        and not (spatial and _flattens(calls[place], calls[end]))
    ]
    if tokens:
        return _that_counts(tokens, seen)
    if spatial:
        return calls[end].name
    raise AssayError(
        f"no module of {type(clf.model).__name__} returns (N, C, H, W) with more than one pixel, "
        "or tokens (N, T, D): Grad-CAM explains networks with spatial layers, and transformers"
    )


def _attends(call: Call, lengths: Collection[int]) -> bool:
    """Return whether a call gave weights of attention (N, heads, T, T), of as many tokens as there
    are elsewhere: that is no image."""
    _, _, rows, columns = call.shape
    weighs = isinstance(call.module, nn.Softmax | nn.Dropout)
    return weighs and rows == columns and rows in lengths


def _flattens(call: Call, last: Call) -> bool:
    """Return whether a call has only put the rows of the last (N, C, h, w) one after the other,
    (N, C, h · w): these are channels still, and no tokens. With as many channels as pixels the
    shape does not say which."""
    channels, pixels = last.shape[1], math.prod(last.shape[2:])
    flat = tuple(call.shape[1:]) == (channels, pixels)
    return flat and (channels != pixels or isinstance(call.module, nn.Flatten))


def _convolves(call: Call, sizes: Sizes) -> bool:
    """Return whether a call is a convolution's, or that of a layer that has its channels last."""
    if isinstance(call.module, nn.Conv2d):
        return True
    return bool(channels_last(call.module, call.shape, sizes.image))


def _that_counts(tokens: Sequence[Call], seen: Probe) -> str:
    """Return the name of the last of the calls on whose patches the logits depend."""
    for call in reversed(tokens):
        grid, slope = seen.sizes.fit(call.shape[1]), seen.slope(call)
        if grid is not None and slope is not None and bool(grid.maps(slope).any()):
            return call.name
    last = tokens[-1]
    seen.sizes.grid(last.shape[1], f"layer {last.name!r}")
    raise AssayError(
        f"the model goes on with tokens (N, T, D), up to {last.name!r}, and the logits depend on "
        "the patches of none by a gradient; name the layer to explain"
    )
