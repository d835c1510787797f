"""The libraries that assay is compared with."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

import pytest


def peer(name: str) -> Any:
    """Import a peer, or skip. foolbox's model zoo wants packages that no attack needs."""
    if name == "foolbox":
        sys.modules.setdefault("foolbox.zoo", types.ModuleType("foolbox.zoo"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed (the `bench` extra)")
