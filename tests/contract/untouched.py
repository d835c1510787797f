"""A model that somebody lends must come back exactly as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that a borrower could leave changed, by a name to show when it did."""
    seen: dict[str, Any] = {}
    for name, module in model.named_modules():
        seen[f"mode of {name!r}"] = module.training
        for hooks in HOOKS:
            seen[f"{hooks} of {name!r}"] = dict(getattr(module, hooks))
        seen[f"forward of {name!r}"] = "forward" in vars(module)
    for name, parameter in model.named_parameters():
        seen[f"requires_grad of {name}"] = parameter.requires_grad
        seen[f"gradient of {name}"] = None if parameter.grad is None else parameter.grad.tolist()
    for name, tensor in model.state_dict().items():
        seen[f"value of {name}"] = tensor.tolist()
    return seen


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Fail if the model is not the same after the block, even if the block raises."""
    before = state(model)
    enabled, modes = torch.is_grad_enabled(), torch._C._len_torch_function_stack()
    try:
        yield
    finally:
        after = state(model)
        changed = [what for what in before | after if before.get(what) != after.get(what)]
        assert not changed, f"left changed: {changed}"
        assert torch.is_grad_enabled() == enabled, "gradients were left switched"
        left = torch._C._len_torch_function_stack()
        assert left == modes, "something still stands between the model and torch's functions"
