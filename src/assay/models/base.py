"""What every network's config is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.config import Config

if TYPE_CHECKING:
    from torch import nn

    from assay.core.random import Stream


class Architecture(Config):
    """The config of a network: a network is made from it, and from a stream of random numbers.

    To add one: derive from this, tag it with `name: Literal["..."] = "..."` and write `build`. It
    never imports torch before it builds. One that computes something from training images before it
    is trained has a method `prepare(module, x)` beside `build` (see `Whitened`).

    >>> net = assay.models.MLP(widths=(8,)).build((1, 8, 8), 3, assay.Stream(0))
    >>> net(x).shape
    torch.Size([12, 3])
    """

    name: str
    """The kind of network."""

    def build(self, in_shape: tuple[int, int, int], classes: int, stream: Stream) -> nn.Module:
        """Return the network, float32, from (N, C, H, W) to logits (N, classes).

        The initial weights depend on `stream` alone; torch's own generator is left as it was.
        """
        raise NotImplementedError
