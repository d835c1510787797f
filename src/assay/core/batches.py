"""A batch of what a model takes and an attack moves: images or texts, and how rows of it are taken.

Images are one tensor (N, C, H, W), texts a list of N strings. What handles a batch by these
functions alone, as the runner of attacks does, has no path of its own for either.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import TypeVar

from assay.core.images import check_images, rows_that_fit
from assay.errors import AssayError

X = TypeVar("X", Tensor, list[str], default=Tensor)
"""Images or texts; images where a type does not say."""

TEXTS_AT_A_TIME = 128


def checked(x: X) -> X:
    """Return the batch, images as float32 in [0, 1].

    Raises:
        AssayError: it is no batch of images or texts; says what was seen.
    """
    if not isinstance(x, list):
        return check_images(x).detach().float()
    odd = next((text for text in x if not isinstance(text, str)), None)
    if odd is not None:
        raise AssayError(f"texts are a list of str, but one of these is a {type(odd).__name__}")
    return x


def copied(x: X) -> X:
    """Return a copy, without gradients."""
    return list(x) if isinstance(x, list) else x.detach().clone()


def detached(x: X) -> X:
    """Return the batch without gradients."""
    return x if isinstance(x, list) else x.detach()


def take(x: X, rows: Tensor) -> X:
    """Return the rows at int64 (n,), on whatever device, as a batch of their own."""
    if isinstance(x, list):
        return [x[row] for row in rows.tolist()]
    return x[rows.to(x.device)]


def put(x: X, rows: Tensor, new: X) -> None:
    """Write the batch `new` (n, ...) into the rows of `x` at int64 (n,), in place."""
    if isinstance(x, list):
        for row, text in zip(rows.tolist(), new, strict=True):
            x[row] = text
    else:
        x[rows.to(x.device)] = new.to(x.device, x.dtype)


def parts(x: X, sizes: list[int]) -> list[X]:
    """Return the batch in parts of the given sizes, which add up to its own."""
    if not isinstance(x, list):
        return list(torch.split(x, sizes))
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return [x[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def joined(batches: list[X]) -> X:
    """Return one batch of all rows, in order; there is at least one of them."""
    if isinstance(batches[0], list):
        return [text for batch in batches for text in batch]
    return torch.cat(batches)


def device_of(x: X) -> torch.device:
    """Return where the batch is; texts are on the CPU."""
    return torch.device("cpu") if isinstance(x, list) else x.device


def placed(x: X, device: torch.device, layout: torch.memory_format) -> X:
    """Return images on `device` in the memory format; texts as they are."""
    return x if isinstance(x, list) else x.to(device).contiguous(memory_format=layout)


def laid_out(x: X, layout: torch.memory_format) -> X:
    """Return images in the memory format, with the strides of that format even where a dimension
    of size 1 makes it two at once; texts as they are."""
    return x if isinstance(x, list) else x.to(memory_format=layout)


def rows_at_a_time(x: X) -> int:
    """Return how many rows a model is best given at a time."""
    return TEXTS_AT_A_TIME if isinstance(x, list) else rows_that_fit(x)


def width(x: X) -> int:
    """Return the values of one image, or the characters of the longest text, at least 1."""
    if isinstance(x, list):
        return max([1, *map(len, x)])
    return max(1, x[0].numel()) if len(x) else 1


def named(x: X) -> str:
    """Return what the rows are called."""
    return "texts" if isinstance(x, list) else "images"
