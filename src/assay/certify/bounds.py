"""Interval bound propagation: between which values the logits lie, for every image of a box.

Gowal et al. 2018, "On the effectiveness of interval bound propagation for training verifiably
robust models". A box is a centre c and a radius r ≥ 0 per unit. A linear layer maps it to
W c + b and |W| r; a monotone activation maps its two ends.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.nn import functional as F

from assay.core.memory import is_out_of_memory
from assay.errors import AssayError, told


@dataclass(frozen=True)
class Box:
    """All values within `radius` of `centre`, each tensor of the shape of the values."""

    centre: Tensor
    radius: Tensor

    @classmethod
    def between(cls, lower: Tensor, upper: Tensor) -> Box:
        """Return the box from `lower` to `upper`."""
        return cls((upper + lower) / 2, (upper - lower) / 2)

    @property
    def lower(self) -> Tensor:
        return self.centre - self.radius

    @property
    def upper(self) -> Tensor:
        return self.centre + self.radius

    @property
    def shape(self) -> torch.Size:
        return self.centre.shape


class Bounds:
    """What bounds the answers of one network; its weights are read as they are at each call.

    Known are linear and convolutional layers, batch norm (by its running statistics, also in
    training), ReLU, leaky ReLU, sigmoid, tanh, hard tanh, average and max pooling, sums of layers,
    means, padding and reshaping. Dropout is taken as it is in eval mode.

    Args:
        model: the network, from (N, C, H, W) to logits (N, K).

    Raises:
        AssayError: for a network whose forward depends on its input, or with a layer that no bound
            is known for, which is named.

    >>> bounds = assay.certify.Bounds(clf.model)
    >>> box = bounds(clf.normalise(x - 0.01), clf.normalise(x + 0.01))
    >>> bool((box.lower <= box.upper).all())
    True
    """

    def __init__(self, model: nn.Module) -> None:
        try:
            graph = symbolic_trace(model)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise AssayError(
                f"no bound is known of {type(model).__name__}: its forward cannot be read as a "
                f"graph of layers ({type(error).__name__}); certify by smoothing instead"
            ) from error
        self.graph: GraphModule = graph
        self.modules: dict[str, nn.Module] = dict(graph.named_modules())
        for node in graph.graph.nodes:
            _known(node, self.modules)
        self.head = _head(graph, self.modules)

    def __call__(self, lower: Tensor, upper: Tensor) -> Box:
        """Return the box of the logits (N, K), for inputs from `lower` to `upper` as the model
        takes them (normalised); differentiable by its weights."""
        return self._through(Box.between(lower, upper), None)

    def margins(self, lower: Tensor, upper: Tensor, y: Tensor) -> Tensor:
        """Return the greatest value that z_k - z_y can have, (N, K); 0 in the column of y.

        Where the network ends in a linear layer it is read together with the difference: the same
        features cannot be high for z_k and low for z_y (Gowal et al. 2018, section 3).
        """
        box = Box.between(lower, upper)
        if self.head is None:
            logits = self._through(box, None)
            most = logits.upper - logits.lower.gather(1, y[:, None])
        else:
            name, head = self.head
            features = self._through(box, name)
            rows = head.weight[None] - head.weight[y][:, None]  # (N, K, D)
            most = torch.einsum("nkd,nd->nk", rows, features.centre)
            most = most + torch.einsum("nkd,nd->nk", rows.abs(), features.radius)
            if head.bias is not None:
                most = most + head.bias[None] - head.bias[y][:, None]
        own = F.one_hot(y, most.shape[1]).bool()
        return most.masked_fill(own, 0.0)

    def _through(self, box: Box, until: Node | None) -> Box:
        """Return the box behind the whole graph, or before the node `until`."""
        values: dict[Node, Any] = {}

        def look(item: Any) -> Any:
            return torch.fx.node.map_arg(item, lambda node: values[node])

        for node in self.graph.graph.nodes:
            if until is not None and node is until:
                found = look(node.args[0])
                assert isinstance(found, Box)
                return found
            if node.op == "placeholder":
                values[node] = box
            elif node.op == "get_attr":
                values[node] = operator.attrgetter(node.target)(self.graph)
            elif node.op == "output":
                found = look(node.args[0])
                assert isinstance(found, Box)
                return found
            else:
                args, kwargs = look(node.args), look(node.kwargs)
                values[node] = self._applied(node, args, kwargs)
        raise AssertionError("a graph ends in its output")

    def _applied(self, node: Node, args: Any, kwargs: Any) -> Any:
        try:
            return _apply(node, self.modules, args, kwargs)
        except Exception as error:  # known layers can be called in ways that are not
            if isinstance(error, AssayError) or is_out_of_memory(error):
                raise
            raise AssayError(
                f"no bound is known of {_called(node, self.modules)} as it is called here "
                f"({told(error)}); certify by smoothing instead"
            ) from error


def _linear(layer: nn.Linear, box: Box) -> Box:
    return Box(
        F.linear(box.centre, layer.weight, layer.bias), F.linear(box.radius, layer.weight.abs())
    )


def _conv(layer: nn.Conv2d, box: Box) -> Box:
    def convolved(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(
            values, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups
        )

    return Box(
        convolved(box.centre, layer.weight, layer.bias),
        convolved(box.radius, layer.weight.abs(), None),
    )


def _norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, box: Box) -> Box:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    scale = (layer.running_var + layer.eps).rsqrt()
    scale = scale if layer.weight is None else scale * layer.weight
    shift = -layer.running_mean * scale
    shift = shift if layer.bias is None else shift + layer.bias
    size = (1, -1, *[1] * (box.centre.ndim - 2))
    scale = scale.view(size)
    return Box(torch.addcmul(shift.view(size), box.centre, scale), box.radius * scale.abs())


def _rising(function: Callable[[Tensor], Tensor], box: Box) -> Box:
    if function is torch.relu:
        return Box(*_BoxReLU.apply(box.centre, box.radius))  # type: ignore[no-untyped-call]
    return Box.between(function(box.lower), function(box.upper))


class _BoxReLU(torch.autograd.Function):
    """ReLU of a box, forward and backward in half as many passes over its values as by autograd's
    own graph, with the same bytes."""

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = (centre - radius).relu_(), (centre + radius).relu_()
        ctx.save_for_backward(lower, upper)
        return (upper + lower).div_(2), (upper - lower).div_(2)

    @staticmethod
    def backward(ctx: Any, by_centre: Tensor, by_radius: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = ctx.saved_tensors
        low = torch.where(lower > 0, by_centre - by_radius, 0.0)
        high = torch.where(upper > 0, by_centre + by_radius, 0.0)
        return (high + low).div_(2), (high - low).div_(2)


LINEAR = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity)
"""Modules that take means or change no more than the shape: the same for centre and radius."""
RISING = (
    *(nn.ReLU, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.Hardtanh),
    *(nn.MaxPool2d, nn.AdaptiveMaxPool2d),
)
RISING_BY_NAME: dict[Any, Callable[[Tensor], Tensor]] = {
    F.relu: torch.relu,
    torch.relu: torch.relu,
    "relu": torch.relu,
    torch.sigmoid: torch.sigmoid,
    "sigmoid": torch.sigmoid,
    torch.tanh: torch.tanh,
    "tanh": torch.tanh,
}
SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
SHAPES = (
    *(torch.flatten, "flatten", "view", "reshape", "contiguous", "mean", torch.mean, F.pad),
    *(operator.getitem, F.adaptive_avg_pool2d, F.avg_pool2d),
)
SIZES = ("size", getattr)


def _known(node: Node, modules: dict[str, nn.Module]) -> None:
    """Refuse what no bound is known for, by its name."""
    if node.op in ("placeholder", "get_attr", "output"):
        return
    if node.op == "call_module":
        module = modules[str(node.target)]
        fits = isinstance(module, (nn.Linear, nn.Dropout, *LINEAR, *RISING))
        if isinstance(module, nn.Conv2d):
            fits = module.padding_mode == "zeros"
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            fits = module.running_mean is not None
        elif isinstance(module, nn.LeakyReLU):
            fits = module.negative_slope >= 0
    else:
        plain_sum = node.target in SUMS and not node.kwargs  # torch.add can multiply by alpha
        fits = plain_sum or node.target in SHAPES or node.target in SIZES
        fits = fits or node.target in RISING_BY_NAME
    if not fits:
        raise AssayError(
            f"no bound is known of {_called(node, modules)}: interval bounds know linear layers, "
            "convolutions, batch norm, ReLU, sigmoid, tanh, pooling and sums; certify by smoothing "
            "instead"
        )


def _called(node: Node, modules: dict[str, nn.Module]) -> str:
    """Return what a layer or an operation is called in errors."""
    if node.op == "call_module":
        return f"the layer {node.target!r} ({type(modules[str(node.target)]).__name__})"
    return f"the operation {getattr(node.target, '__name__', node.target)} ({node.name})"


def _apply(node: Node, modules: dict[str, nn.Module], args: Any, kwargs: Any) -> Any:
    """Return what a node gives for boxes (and plain values) as its arguments."""
    if node.op == "call_module":
        return _module(modules[str(node.target)], args[0])
    boxes = [arg for arg in args if isinstance(arg, Box)]
    target = node.target
    if target in SIZES:
        if target is getattr and args[1] != "shape":
            raise AssayError(f"no bound is known of a network that reads .{args[1]} of a layer")
        shape = args[0].shape if isinstance(args[0], Box) else getattr(args[0], "shape", args[0])
        return shape if target is getattr or len(args) == 1 else shape[args[1]]

    def plainly(first: Any) -> Any:
        if isinstance(target, str):
            return getattr(first, target)(*args[1:], **kwargs)
        return target(first, *args[1:], **kwargs)

    if not boxes:
        return plainly(args[0])
    if target in SUMS:
        return _sum(args[0], args[1])
    if target in RISING_BY_NAME:
        return _rising(RISING_BY_NAME[target], args[0])
    (box,) = boxes
    if target is F.pad and ((len(args) > 3 and args[3]) or kwargs.get("value")):
        raise AssayError("no bound is known of padding with anything but zeros")
    return Box(plainly(box.centre), plainly(box.radius))


def _module(module: nn.Module, box: Box) -> Box:
    if isinstance(module, nn.Linear):
        return _linear(module, box)
    if isinstance(module, nn.Conv2d):
        return _conv(module, box)
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return _norm(module, box)
    if isinstance(module, nn.Dropout):
        return box
    if isinstance(module, LINEAR):
        return Box(module(box.centre), module(box.radius))
    if isinstance(module, nn.ReLU):  # it may work in place
        return _rising(torch.relu, box)
    return _rising(module, box)


def _sum(a: Any, b: Any) -> Box:
    boxes = [item for item in (a, b) if isinstance(item, Box)]
    if len(boxes) == 2:
        return Box(boxes[0].centre + boxes[1].centre, boxes[0].radius + boxes[1].radius)
    return Box(boxes[0].centre + (b if isinstance(a, Box) else a), boxes[0].radius)


def _head(graph: GraphModule, modules: dict[str, nn.Module]) -> tuple[Node, nn.Linear] | None:
    """Return the last linear layer, where the network ends in it; None where it does not."""
    last: Any = list(graph.graph.nodes)[-1].args[0]
    if not isinstance(last, Node) or last.op != "call_module":
        return None
    module = modules[str(last.target)]
    return (last, module) if type(module) is nn.Linear and len(last.args) == 1 else None
