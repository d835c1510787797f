"""Data-parallel training: what the processes that `torchrun` or `accelerate launch` start do
together, through gloo on a CPU and NCCL on GPUs.

The batches of a recipe are those of all processes together, and every draw is by row: so a network
whose layers see one row at a time (group norm, not batch norm) has the same curve with any number
of processes, to rounding, and a training goes on with another number of them. Gradients are summed
once per step, after the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from assay.core.random import Stream
from assay.errors import AssayError, told
from assay.train.batches import Batch
from assay.train.recipe import Recipe

T = TypeVar("T")


def several() -> bool:
    """Return whether `torchrun` or `accelerate launch` started this process and others with it."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def check_device(device: torch.device) -> None:
    """Refuse a network on the CPU where these processes have begun to talk over GPUs.

    Raises:
        AssayError: says so, which accelerate would say of its own settings.
    """
    # PartialState makes a group where there is none: only one that is there may be asked.
    begun = PartialState().device.type if PartialState._shared_state else device.type
    if several() and device.type == "cpu" and begun != "cpu":
        raise AssayError(
            f"these processes have trained on {begun} and exchange gradients over NCCL, which "
            "takes none of a network on the CPU: train it in processes of its own"
        )


def mixing(model: nn.Module, recipe: Recipe) -> bool:
    """Return whether a training sees more than one row at a time, and so differs with the number of
    processes by more than rounding: batch norm, dropout, mixup."""
    drops = any(isinstance(one, _DropoutNd) and one.p > 0 for one in model.modules())
    norms = any(isinstance(one, _BatchNorm) for one in model.modules())
    return drops or norms or recipe.mixup > 0


class Counted(Protocol):
    """What knows which of how many processes this one is: accelerate's Accelerator or its state."""

    @property
    def num_processes(self) -> int: ...

    @property
    def process_index(self) -> int: ...


class Peers:
    """The processes that train one network; one alone asks nobody.

    Args:
        state: says which of how many this one is.

    Attributes:
        count: how many there are.
        rank: which of them this one is, from 0.
    """

    def __init__(self, state: Counted) -> None:
        self.count: int = state.num_processes
        self.rank: int = state.process_index

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    def check(self, recipe: Recipe) -> None:
        """Refuse what processes cannot do together.

        Raises:
            AssayError: for a guard, whose decisions would have to be theirs together.
        """
        if self.count > 1 and recipe.guard is not None:
            raise AssayError(
                f"recipe.guard looks at the training of one process, and there are {self.count}: "
                "drop the guard, or train in one"
            )

    def own(self, stream: Stream) -> Stream:
        """Return the stream that this process draws from what is not drawn by row."""
        return stream.child("process", self.rank) if self.rank else stream

    def part(self, batch: Batch) -> Batch:
        """Return the rows of a batch that are this process's, every `count`-th; maybe none."""
        if self.count == 1:
            return batch
        ids, x, y = batch
        mine = slice(self.rank, None, self.count)
        return ids[mine], x[mine], y[mine]

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes, in each of them."""
        if self.count == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make every gradient the sum over the processes, all in one message for each type of
        number; a process that had no row adds nothing. A parameter that has no gradient in any of
        them has none after: of a gradient of zeros an optimizer would make a step, by decay."""
        if self.count == 1:
            return
        for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
            own = [parameter for parameter in parameters if parameter.dtype == dtype]
            there = [parameter.grad is not None for parameter in own]
            for parameter in own:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            grads = [parameter.grad for parameter in own if parameter.grad is not None]
            flags = torch.tensor(there, dtype=dtype, device=own[0].device)
            flat = torch.cat([*(grad.flatten() for grad in grads), flags])
            dist.all_reduce(flat)
            *parts, flags = torch.split(flat, [*(grad.numel() for grad in grads), len(own)])
            for grad, part in zip(grads, parts, strict=True):
                grad.copy_(part.view_as(grad))
            if all(there):  # reading the flags waits for the device
                continue
            for parameter, found in zip(own, flags.tolist(), strict=True):
                if not found:
                    parameter.grad = None

    def of_first(self, value: T) -> T:
        """Return what the first process has: decisions rest on one process's numbers."""
        if self.count == 1:
            return value
        held = [value]
        broadcast_object_list(held, from_process=0)
        return held[0]

    def by_first(self, action: Callable[[], T]) -> T:
        """Do in the first process what it alone can do or see, such as reading a file; return what
        it gave there, in all of them.

        Raises:
            AssayError: it failed in the first process, where its own error is raised.
        """
        if self.count == 1:
            return action()
        done: tuple[T | None, str] = (None, "")
        failed: Exception | None = None
        if self.first:
            try:
                done = action(), ""
            except Exception as error:
                done, failed = (None, told(error)), error
        found, why = self.of_first(done)
        if failed is not None:
            raise failed
        if why:
            raise AssayError(f"the first of {self.count} processes stopped: {why}")
        return found  # type: ignore[return-value]

    def share(self, model: nn.Module, *, weights: bool = True) -> None:
        """Give all processes the buffers of the first one, such as batch norm's running statistics,
        and its weights too."""
        if self.count == 1:
            return
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
        for parameter in model.parameters() if weights else ():
            dist.broadcast(parameter.data, src=0)
