"""Whether a user's network takes these images at all: whatever it raises becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.oracle import differentiable
from assay.errors import AssayError


@contextmanager
def answering(x: Tensor) -> Iterator[None]:
    """Turn whatever a user's module raises about images (N, C, H, W) into one line.

    Raises:
        AssayError: the module raised, or wanted to end the program.
    """
    try:
        yield
    except AssayError:
        raise
    except (Exception, SystemExit) as error:
        seen = " ".join(str(error).split())[:200]
        raise AssayError(
            f"the model fails on these images, {tuple(x.shape[1:])} each: "
            f"{type(error).__name__}: {seen}"
        ) from error


def check_gradient(clf: Classifier, x: Tensor) -> None:
    """See that the outputs have a gradient with respect to the images (N, C, H, W).

    Raises:
        AssayError: they have none.
    """
    with clf.borrowed(), torch.enable_grad():
        differentiable(clf.logits(clf.encode(x[:2].detach().clone().requires_grad_(True))))
