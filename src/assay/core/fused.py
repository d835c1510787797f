"""Convolutions of a fast copy that add and rectify too, while their output is in the cache.

Of a narrow CNN's forward pass in bfloat16 a third is memory: a sum and a ReLU each read and write
what the convolution has just written. oneDNN does all three in one pass, by the operators that
torch's own compiler (inductor) calls for it; nothing is compiled here.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.fx import GraphModule, Node
from torch.nn import functional as F

SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}


def can_fuse(device: torch.device) -> bool:
    """Return whether convolutions can be fused there: on a CPU, by a torch that has oneDNN."""
    return device.type == "cpu" and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class FusedConv2d(nn.Module):
    """`conv(x)`, or `conv(x) + other`, and, if it `rectifies`, the ReLU of that.

    It has the convolution's own weight and bias, float32 or bfloat16 on a CPU. `other` has the
    shape of the output, or spreads to it; the output does not spread.
    """

    def __init__(self, conv: nn.Conv2d, *, rectifies: bool) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.window = conv.padding, conv.stride, conv.dilation, conv.groups
        self.rectifies = rectifies

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        if not torch.is_grad_enabled():
            return self.ask(x, other)
        return _Fused.apply(x, other, self)  # type: ignore[no-any-return, no-untyped-call]

    def ask(self, x: Tensor, other: Tensor | None) -> Tensor:
        """Return the output, without a gradient."""
        ops: Any = torch.ops.mkldnn._convolution_pointwise
        relu = "relu" if self.rectifies else None
        if other is None:
            return ops(x, self.weight, self.bias, *self.window, relu or "none", [], "")  # type: ignore[no-any-return]
        other = other.contiguous(memory_format=torch.channels_last)
        return ops.binary(  # type: ignore[no-any-return]
            x, other, self.weight, self.bias, *self.window, "add", 1.0, relu, [], ""
        )


class _Fused(torch.autograd.Function):
    """The gradients of `FusedConv2d` by its inputs; its weights are frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor | None, module: FusedConv2d) -> Tensor:
        output = module.ask(x, other)
        ctx.module = module
        ctx.save_for_backward(x, output if module.rectifies else None)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, output = ctx.saved_tensors
        # A mean over space sends back the other layout, and a mask of mixed ones takes ten times
        # as long.
        slope = slope.contiguous(memory_format=torch.channels_last)
        if output is not None:
            slope = torch.ops.aten.threshold_backward(slope, output, 0)
        back: Tensor | None = None
        if ctx.needs_input_grad[0]:
            padding, stride, dilation, groups = ctx.module.window
            back = torch.ops.aten.convolution_backward(
                slope, x, ctx.module.weight, None, stride, padding, dilation, False, [0, 0],
                groups, [True, False, False],
            )[0]  # fmt: skip
        return back, slope if ctx.needs_input_grad[1] else None, None


def fuse(model: GraphModule) -> int:
    """Let each convolution of `model` do the sum and the ReLU that alone take its output, and
    return how many have something to do.

    The graph is changed in place, and not everything in it has shapes and types that oneDNN takes:
    the caller compares.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    graph = model.graph
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    found = 0
    for node in list(graph.nodes):
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or calls.count(node.target) > 1:
            continue
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or len(node.args) != 1:
            continue
        chain = [node]
        inputs = node.args
        after = _only_user(node)
        if after is not None and _sums(after):
            chain.append(after)
            inputs = (*inputs, after.args[after.args[0] is node])
            after = _only_user(after)
        rectifies = after is not None and _rectifies(after, modules)
        if after is not None and rectifies:
            chain.append(after)
        if len(chain) == 1:
            continue
        name = str(node.target)
        model.set_submodule(name, FusedConv2d(conv, rectifies=rectifies))
        with graph.inserting_before(chain[-1]):
            chain[-1].replace_all_uses_with(graph.call_module(name, inputs))
        for gone in reversed(chain):
            graph.erase_node(gone)
        found += 1
    return found


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _sums(node: Node) -> bool:
    """Return whether a node adds two different tensors, and does no more."""
    nodes = {arg for arg in node.args if isinstance(arg, Node)}
    return node.op != "call_module" and node.target in SUMS and len(nodes) == 2 and not node.kwargs


def _rectifies(node: Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.ReLU)
    return node.target in RELUS
