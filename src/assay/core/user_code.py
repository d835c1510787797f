"""Calls of code that is not ours: what a user's model or function raises becomes one error."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from assay.core.memory import is_out_of_memory
from assay.core.misfits import advice
from assay.errors import AssayError, told

LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
"""Where lines of code are not the user's."""


@contextmanager
def user_code(x: Tensor, name: str = "the model", kind: str = "images") -> Iterator[None]:
    """Say in one line, and with the line of code, what a user's code raises about images.

    Only a call of the user's code belongs inside, so that mistakes of ours remain tracebacks. What
    says that memory ran out goes on as it is: the images are then evaluated in smaller parts.

    Args:
        x: the images (N, C, H, W) that it is given, or the tokens (N, T) of texts.
        name: what the error calls it.
        kind: what the error calls them.

    Raises:
        AssayError: it raised, or wanted to end the program; the cause is what it raised.
    """
    try:
        yield
    except (AssayError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever a user's module may raise
        if is_out_of_memory(error):
            raise
        raise AssayError(
            f"{name} fails on these {kind}, {tuple(x.shape[1:])} each, {len(x)} at a time"
            f"{_place(error)}: {told(error)}{_advice(error, x)}"
        ) from error


def _advice(error: BaseException, x: Tensor) -> str:
    found = advice(str(error), x)
    return f"; {found}" if found else ""


def slopes_by(score: Tensor, inputs: Sequence[Tensor], x: Tensor) -> Sequence[Tensor | None]:
    """Return d score / d of each input, None where none arrives, in one backward pass through the
    model, which was evaluated on the images `x`.

    Raises:
        AssayError: the model fails on the way back.
    """
    with user_code(x):
        return torch.autograd.grad(score, list(inputs), allow_unused=True)


def _place(error: BaseException) -> str:
    """Return where in the user's code an error was raised, as far as that can be seen."""
    called = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in called if not frame.filename.startswith(LIBRARIES)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
