"""Convolutions of a fast copy that add and rectify too, while their output is in the cache.

Of a narrow CNN's forward pass in bfloat16 a third is memory: a sum and a ReLU each read and write
what the convolution has just written. oneDNN does all three in one pass, by the operators that
torch's own compiler (inductor) calls for it; nothing is compiled here.

oneDNN's ReLU makes 0 of NaN. It is used only where nothing before it can make one: where what leads
there are convolutions, sums, pools and the like, which exceed float32 by overflow alone.
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
IN_PLACE = {operator.iadd, "add_"}
RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}
IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d)
"""Modules that hand on what they get, in eval mode."""
FINITE_MODULES = (
    *IDLE,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.ZeroPad2d,
)
FINITE = {
    *SUMS,
    *RELUS,
    operator.getitem,
    torch.cat,
    F.pad,
    F.max_pool2d,
    F.avg_pool2d,
    F.adaptive_avg_pool2d,
    "mean",
    "contiguous",
}
"""What makes finite numbers of finite numbers, but for overflow."""


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
    """The gradients of `FusedConv2d` by its inputs, once; its weights are frozen."""

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


def fuse(model: GraphModule, *, finite: bool) -> None:
    """Let each convolution of `model`, in eval mode, do the sum and the ReLU that alone take its
    output.

    The graph is changed in place, and not everything in it has shapes and types that oneDNN takes:
    the caller compares.

    Args:
        model: a traced network.
        finite: whether what it is given is; otherwise ReLUs stay where they are.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    graph = model.graph
    for node in list(graph.nodes):
        idle = _module(node, modules)
        if isinstance(idle, IDLE) and not hooked(idle) and len(node.args) == 1:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    safe = _finite_nodes(model, modules) if finite else set()
    for node in list(graph.nodes):
        conv = _module(node, modules)
        if type(conv) is not nn.Conv2d or hooked(conv) or calls.count(node.target) > 1:
            continue
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or len(node.args) != 1:
            continue
        chain = [node]
        inputs = node.args
        after = _only_user(node)
        if after is not None and conv.groups == 1 and _adds_to(after, node):
            chain.append(after)
            inputs = (*inputs, after.args[after.args[0] is node])
            after = _only_user(after)
        rectifies = after is not None and _rectifies(after, modules) and safe.issuperset(inputs)
        if after is not None and rectifies:
            chain.append(after)
        if len(chain) == 1:
            continue
        name = str(node.target)
        model.set_submodule(name, FusedConv2d(conv, rectifies=rectifies))
        with graph.inserting_before(chain[-1]):
            made = graph.call_module(name, inputs)
            chain[-1].replace_all_uses_with(made)
        if safe.issuperset(inputs):
            safe.add(made)
        for gone in reversed(chain):
            graph.erase_node(gone)


def is_fused(model: nn.Module) -> bool:
    """Return whether any convolution of a network does more than its own."""
    return any(isinstance(module, FusedConv2d) for module in model.modules())


def hooked(module: nn.Module) -> bool:
    """Return whether others listen to a module, or change what it is given or returns."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _finite_nodes(model: GraphModule, modules: dict[str, nn.Module]) -> set[Any]:
    """Return the nodes whose outputs are finite where the network's inputs are."""
    found: set[Any] = set()
    for node in model.graph.nodes:
        module = _module(node, modules)
        plain = isinstance(module, FINITE_MODULES) and not hooked(module)
        done = node.op in ("call_function", "call_method") and node.target in FINITE
        known = node.op == "placeholder" or plain or done
        if known and found.issuperset(node.all_input_nodes):
            found.add(node)
    return found


def _module(node: Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _adds_to(node: Node, first: Node) -> bool:
    """Return whether a node adds another tensor to `first`, and changes no other in doing so."""
    nodes = {arg for arg in node.args if isinstance(arg, Node)}
    sums = node.op != "call_module" and node.target in SUMS and len(nodes) == 2 and not node.kwargs
    return sums and (node.target not in IN_PLACE or node.args[0] is first)


def _rectifies(node: Node, modules: dict[str, nn.Module]) -> bool:
    module = _module(node, modules)
    if module is not None:
        return type(module) is nn.ReLU and not hooked(module)
    return node.target in RELUS
