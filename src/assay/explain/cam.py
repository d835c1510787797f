"""Class activation maps: the channels of a layer, weighted by what they say for a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.memory import in_parts
from assay.errors import AssayError
from assay.explain.base import Explainer, Targets, checked, chosen, held
from assay.explain.layers import cut, find_layer, output_of, slopes, spatial
from assay.explain.passes import quick_logits, rows_at_once
from assay.explain.tokens import measured


class ActivationMap(Explainer):
    """A map made of a layer's channels and of their gradients; an author writes `weigh`.

    Only what comes after the layer is differentiated: the layer's output is detached, so no graph
    is recorded before it, and neither the parameters nor their gradients are touched. It is also
    cloned, so an in-place ReLU after the layer does not spoil it. Of a layer that the model calls
    several times, the last call is explained. Images that `preprocess` resizes are fine; one that
    crops shifts the map.
    """

    by_gradient: ClassVar[bool] = True
    """Whether `weigh` reads the gradient; without, the model is only run."""

    layer: str | None = None
    """The layer to explain, by its name in the model; null finds it (`find_layer`)."""

    def weigh(self, channels: Tensor, slope: Tensor) -> Tensor:
        """Return signed maps (N, h, w) of a layer's channels: an author's part.

        Args:
            channels: float32 (N, C, h, w), what the layer returned.
            slope: float32 (N, C, h, w), d logit of the class / d channels; zeros where the method
                does without gradients.
        """
        raise NotImplementedError

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        layer = find_layer(clf, x[:1]) if self.layer is None else self.layer
        (raw,), explained = passes((self,), clf, x, targets, (layer,))
        return raw[layer], explained, layer

    def by_layer(
        self, clf: Classifier, x: Tensor, layers: Sequence[str], targets: Targets = None
    ) -> dict[str, Attribution]:
        """Explain several layers from one forward and one backward pass.

        Each map is the one that `layer` would give; what `layer` says is left aside.

        Args:
            clf, x, targets: as for a call.
            layers: names of the model's modules, at least one.

        Raises:
            AssayError: as a call, for any of the layers.
        """
        if not layers:
            raise AssayError("there is nothing to explain: layers holds no names")
        x, wanted = checked(x, targets)
        with held(clf):
            (raw,), explained = passes((self,), clf, x, wanted, tuple(dict.fromkeys(layers)))
        return {layer: self.finished(raw[layer], explained, layer, x) for layer in raw}


def passes(
    methods: Sequence[ActivationMap],
    clf: Classifier,
    x: Tensor,
    targets: Tensor | None,
    layers: tuple[str, ...],
) -> tuple[list[dict[str, Tensor]], Tensor]:
    """Return the maps (N, h, w) of every layer by each of the methods, and the classes they explain
    (N,), from one forward and, if any method needs it, one backward pass. The model is held."""
    raw: list[dict[str, list[Tensor]]] = [{layer: [] for layer in layers} for _ in methods]
    rows = torch.arange(len(x))
    evaluate = quick_logits(clf)
    by_gradient = any(method.by_gradient for method in methods)

    def explain(part: Tensor, some: Tensor) -> Tensor:
        outputs.clear()
        logits = evaluate(part)
        wanted = chosen(logits, None if targets is None else targets[some])
        channels = {layer: output_of(outputs, layer, sizes) for layer in layers}
        found: Mapping[str, Tensor] = {}
        if by_gradient:
            found = slopes(logits.gather(1, wanted[:, None]).sum(), channels, part)
        made = []
        for layer, output in channels.items():
            values = spatial(output.detach(), layer, sizes).float()
            none = torch.zeros_like(values)
            slope = spatial(found[layer], layer, sizes).float() if by_gradient else none
            made += [
                (kept[layer], method.weigh(values, slope if method.by_gradient else none))
                for method, kept in zip(methods, raw, strict=True)
            ]
        for kept, maps in made:  # once all are there: where memory ends, the part is run again
            kept.append(maps)
        return wanted

    with (
        cut(clf.model, layers) as outputs,
        measured(clf.model) as sizes,
        torch.set_grad_enabled(by_gradient),
    ):
        size = rows_at_once(clf, x)
        kind = f"explain {', '.join(layers)}"
        explained = in_parts(
            explain, size, x.detach(), rows, tally=clf.tally, kind=kind, in_vain=False
        )
    return [{layer: torch.cat(each[layer]) for layer in layers} for each in raw], explained


class GradCAM(ActivationMap):
    """Where a layer's channels speak for a class (Selvaraju et al. 2017, "Grad-CAM: visual
    explanations from deep networks via gradient-based localization").

        raw(p) = Σ_c w_c A_c(p),    w_c = mean over places q of ∂z / ∂A_c(q)

    A_c(p) is channel c of the layer at place p, and z the logit of the class. `raw` stands before
    the paper's ReLU, so it is signed: negative where the layer speaks against the class. `values`
    is made of its positive part.

    >>> maps = assay.explain.GradCAM(layer="0")(clf, x, targets=y)
    >>> maps.values.shape, maps.layer
    (torch.Size([12, 8, 8]), '0')
    """

    VERSION: ClassVar[int] = 2  # channels last, 64 rows at a time: other last bits

    name: Literal["grad-cam"] = "grad-cam"
    """The method's name in configs."""

    def weigh(self, channels: Tensor, slope: Tensor) -> Tensor:
        return torch.einsum("nc,nchw->nhw", slope.mean((2, 3)), channels)


class GradCAMPlusPlus(ActivationMap):
    """Grad-CAM for several objects of one class (Chattopadhay et al. 2018, "Grad-CAM++: generalized
    gradient-based visual explanations for deep convolutional networks").

        raw(p) = Σ_c w_c A_c(p),    w_c = Σ_q α_c(q) ReLU(g_c(q)),    α = g² / (2 g² + g³ Σ A)

    A_c is a channel of the layer, Σ A its sum over places, and g_c the gradient of the class's
    logit S by it: the paper's equation 19, for a class score exp(S) and a layer after which S is
    piecewise linear.

    The paper's weights also hold the factor exp(S). It is the same all over an image and would
    overflow, so `raw` leaves it out; `values` does not depend on it. The authors' code divides α by
    its sum over space as well; here, as in the paper, it does not. Where g is 0, so is α.

    >>> assay.explain.GradCAMPlusPlus()(clf, x).raw.shape
    torch.Size([12, 8, 8])
    """

    name: Literal["grad-cam++"] = "grad-cam++"
    """The method's name in configs."""

    def weigh(self, channels: Tensor, slope: Tensor) -> Tensor:
        # numerator and denominator over g², which may be too small for a float32
        below = 2 + slope * channels.sum((2, 3), keepdim=True)
        share = torch.where((slope != 0) & (below != 0), 1 / below, 0.0)
        weights = (share * slope.relu()).sum((2, 3))
        return torch.einsum("nc,nchw->nhw", weights, channels)


class HiResCAM(ActivationMap):
    """Where a layer itself speaks for a class, pixel by pixel (Draelos & Carin 2020, "Use HiResCAM
    instead of Grad-CAM for faithful explanations of convolutional neural networks").

        raw(p) = Σ_c A_c(p) ∂z / ∂A_c(p)

    Nothing is averaged over space. Where the rest of the network is piecewise linear, the map sums
    to the logit z but for the share of the biases:

    >>> maps = assay.explain.HiResCAM()(clf, x, targets=y)
    >>> logits = clf.query(x).gather(1, y[:, None])[:, 0]
    >>> torch.allclose(maps.raw.sum((1, 2)) + clf.model[4].bias[y], logits, atol=1e-4)
    True
    """

    name: Literal["hires-cam"] = "hires-cam"
    """The method's name in configs."""

    def weigh(self, channels: Tensor, slope: Tensor) -> Tensor:
        return (slope * channels).sum(1)


class LayerCAM(ActivationMap):
    """Where a layer's channels speak for a class, also in early layers (Jiang et al. 2021,
    "LayerCAM: exploring hierarchical class activation maps for localization").

        raw(p) = Σ_c A_c(p) ReLU(∂z / ∂A_c(p))

    `by_layer` gives the maps of several layers from one pass:

    >>> maps = assay.explain.LayerCAM().by_layer(clf, x, ["0", "1"])
    >>> maps["0"].values.shape
    torch.Size([12, 8, 8])
    """

    name: Literal["layer-cam"] = "layer-cam"
    """The method's name in configs."""

    def weigh(self, channels: Tensor, slope: Tensor) -> Tensor:
        return (slope.relu() * channels).sum(1)


class EigenCAM(ActivationMap):
    """What a layer sees most of, whatever the class (Muhammad & Yeasin 2020, "Eigen-CAM: class
    activation map using principal components").

        raw = A v₁,    A = U Σ Vᵀ with a row per place and a column per channel

    v₁ is the first right singular vector; A is not centred, as in the paper. The map is the same
    for every target, which is only handed on. A singular vector has no sign; it is chosen so that
    the map's sum is positive, which makes it positive everywhere after a ReLU.

    >>> explainer = assay.explain.EigenCAM()
    >>> torch.equal(explainer(clf, x, 0).values, explainer(clf, x, 1).values)
    True
    """

    class_specific: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False

    name: Literal["eigen-cam"] = "eigen-cam"
    """The method's name in configs."""

    def weigh(self, channels: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG002
        places = channels.flatten(2).double()  # (N, C, h·w)
        bad = ~places.isfinite().flatten(1).all(1)
        places = places.masked_fill(bad[:, None, None], 0.0)  # which have no eigenvectors
        if places.shape[1] <= places.shape[2]:
            vector = torch.linalg.eigh(places @ places.mT).eigenvectors[:, :, -1]  # (N, C)
            flat = torch.einsum("nc,ncp->np", vector, places)
        else:  # the same map, from the smaller of the two products
            values, vectors = torch.linalg.eigh(places.mT @ places)
            flat = vectors[:, :, -1] * values[:, -1:].clamp_min(0).sqrt()
        flat = torch.where(flat.sum(1, keepdim=True) < 0, -flat, flat)
        flat = flat.masked_fill(bad[:, None], torch.nan)
        return flat.float().view(-1, *channels.shape[2:])
