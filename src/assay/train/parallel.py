"""Data-parallel training: what the processes that `torchrun` or `accelerate launch` start do
together, through gloo on a CPU and NCCL on GPUs.

The batches of a recipe are those of all processes together, and every draw is by row: so a network
whose layers see one row at a time (group norm, not batch norm) has the same curve with any number
of processes, to rounding, and a training goes on with another number of them. Gradients are summed
once per step, after the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from assay.core.random import Stream
from assay.errors import AssayError
from assay.train.batches import Batch
from assay.train.recipe import Recipe

T = TypeVar("T")


class Peers:
    """The processes that train one network; one alone asks nobody.

    Args:
        accelerator: says which of how many this one is.

    Attributes:
        count: how many there are.
        rank: which of them this one is, from 0.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.count: int = accelerator.num_processes
        self.rank: int = accelerator.process_index

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
        number; a process that had no row adds nothing."""
        if self.count == 1:
            return
        for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
            own = [parameter for parameter in parameters if parameter.dtype == dtype]
            for parameter in own:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            grads = [parameter.grad for parameter in own if parameter.grad is not None]
            flat = torch.cat([grad.flatten() for grad in grads])
            dist.all_reduce(flat)
            parts = torch.split(flat, [grad.numel() for grad in grads])
            for grad, part in zip(grads, parts, strict=True):
                grad.copy_(part.view_as(grad))

    def of_first(self, value: T) -> T:
        """Return what the first process has: decisions rest on one process's numbers."""
        if self.count == 1:
            return value
        held = [value]
        broadcast_object_list(held, from_process=0)
        return held[0]

    def share(self, model: nn.Module, *, weights: bool = True) -> None:
        """Give all processes the buffers of the first one, such as batch norm's running statistics,
        and its weights too."""
        if self.count == 1:
            return
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
        for parameter in model.parameters() if weights else ():
            dist.broadcast(parameter.data, src=0)
