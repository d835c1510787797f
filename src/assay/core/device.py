"""The device that a model computes on."""

from __future__ import annotations

from typing import Literal

import torch

from assay.errors import AssayError

Device = Literal["auto", "cpu", "cuda", "mps"]
"""What may be chosen; `auto` is CUDA or MPS where there is one."""


def device_here(asked: str) -> str:
    """Return the class of device that is meant: `auto` is CUDA or MPS where there is one.

    Raises:
        AssayError: for a device that this machine does not have.
    """
    here = ["cuda"] if torch.cuda.is_available() else []
    here += ["mps"] if torch.backends.mps.is_available() else []
    if asked not in ("auto", "cpu", *here):
        raise AssayError(
            f"there is no {asked} device here; use --device {' or '.join([*here, 'cpu'])}"
        )
    return [*here, "cpu"][0] if asked == "auto" else asked
