"""A model that is held for a while, and given back as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from assay.core.source import as_bytes
from assay.errors import AssayError


@contextmanager
def borrowed(model: nn.Module) -> Iterator[nn.Module]:
    """Hold `model` in eval mode with frozen parameters, and put back the mode of every module and
    the `requires_grad` of every parameter on the way out, also after an exception."""
    modes = modes_of(model)
    wants = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for module, training in modes:
            if training:  # to set what is so already takes as long as a layer of a small model
                module.training = False
        for parameter, want in wants:
            if want:
                parameter.requires_grad_(False)
        yield model
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training
        for parameter, want in wants:
            if parameter.requires_grad != want:
                parameter.requires_grad_(want)


def modes_of(model: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Return whether each module is in train mode; a frozen TorchScript module has no mode."""
    return [(m, m.training) for m in model.modules() if hasattr(m, "training")]


def check_weights(model: nn.Module) -> None:
    """Refuse weights with which nothing can be computed here."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise AssayError(
                f"the model's {name} is not made yet, as of a LazyLinear: evaluate the model once "
                "on a batch of images, model(images), then hand it over"
            )
        if tensor.is_meta:
            raise AssayError(
                f"the model's {name} is on the meta device, which holds shapes and no numbers: "
                "model.to_empty(device='cpu'), then load its weights"
            )
        if tensor.is_complex() and isinstance(tensor, nn.Parameter):
            raise AssayError(
                f"the model's {name} is complex ({tensor.dtype}), but images are real: give a "
                "model of real weights"
            )


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same bytes: NaN is NaN."""
    return torch.equal(a, b) or bool(as_bytes(a) == as_bytes(b))


@torch.no_grad()
def put_back(model: nn.Module, written: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Give the model the tensors that it had, with the values that they had."""
    for name, (tensor, values) in written.items():
        owner, _, own = name.rpartition(".")
        module = model.get_submodule(owner)
        if getattr(module, own, None) is not tensor:
            setattr(module, own, tensor)
        if not same(tensor, values):
            tensor.copy_(values)
