"""The small network of the first convolutional classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from assay.errors import AssayError
from assay.models.base import Architecture

if TYPE_CHECKING:
    from torch import nn

    from assay.core.random import Stream


class LeNet(Architecture):
    """Two 5 × 5 convolutions of 6 and 16 filters, each with ReLU and 2 × 2 max pooling, then layers
    of 120, 84 and the classes (after LeCun et al. 1998, LeNet-5, with ReLU and max pooling as it is
    taught today).

    >>> net = assay.models.LeNet().build((1, 28, 28), 10, assay.Stream(0))
    >>> net(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    name: Literal["lenet"] = "lenet"
    """The kind of network."""

    def build(self, in_shape: tuple[int, int, int], classes: int, stream: Stream) -> nn.Module:
        """Return the network, float32, from (N, C, H, W) to logits (N, classes).

        The initial weights depend on `stream` alone; torch's own generator is left as it was.

        Raises:
            AssayError: for images too small for both convolutions.
        """
        from torch import nn

        height, width = (((side - 4) // 2 - 4) // 2 for side in in_shape[1:])
        if min(height, width) < 1:
            raise AssayError(
                f"images of {in_shape[1]} × {in_shape[2]} pixels are too small for two "
                "convolutions of 5 × 5 with pooling: LeNet needs 16 × 16"
            )
        with stream.seeding():
            return nn.Sequential(
                nn.Conv2d(in_shape[0], 6, 5),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 16, 5),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(16 * height * width, 120),
                nn.ReLU(),
                nn.Linear(120, 84),
                nn.ReLU(),
                nn.Linear(84, classes),
            )
