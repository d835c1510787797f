"""What the networks of the study `skip` are called."""

from __future__ import annotations

BARE, HE_ONLY, NORM_ONLY = "bare", "He only", "batch norm only"
"""What the cells beside the main ones lack; `bare` is neither normalised nor well initialised."""


def at(depth: int) -> str:
    """Return how many blocks each stage has: "[7,7]"."""
    return f"[{depth},{depth}]"


def name(skip: bool, depth: int, lacks: str = "") -> str:
    """Return what a cell is called: "skip [7,7]", "plain [7,7] bare"."""
    return " ".join(part for part in ("skip" if skip else "plain", at(depth), lacks) if part)
