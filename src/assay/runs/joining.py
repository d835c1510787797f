"""Ray itself: loaded without telling anybody, started on this machine, or joined where it runs."""

from __future__ import annotations

import hashlib
import importlib
import os
import socket
from functools import cache
from pathlib import Path
from typing import Any

import assay
from assay.errors import AssayError, told
from assay.runs.environment import cores

REACH_WITHIN = 5.0  # seconds that a cluster may take to accept a connection
OBJECTS = 100 * 2**20  # bytes of Ray's object store where we start Ray: results do not go by it


def load_ray(*, alone: bool) -> Any:
    """Return Ray, which tells nobody that it is used.

    Args:
        alone: for this machine only: it listens on the loopback address. Read when it is imported.

    Raises:
        AssayError: it is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if alone:  # what its name does not say: "0" is one machine on its loopback address
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        importlib.import_module("ray.util.scheduling_strategies")
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise AssayError("--engine ray needs Ray: pip install 'assay[ray]'") from error


def _unprinted(data: Any, ignore_prefix: bool = False) -> None:
    del data, ignore_prefix


def connect(ray: Any, address: str | None) -> None:
    """Join the cluster at an address, or start Ray on this machine: no dashboard, loopback only.

    Raises:
        AssayError: it is out of reach, or of another Ray or Python.
    """
    # It prints a page about each worker that is lost, in the midst of the display; we say it in a
    # line. `log_to_driver` does not cover that, and nothing public does (2.60).
    printing: Any = importlib.import_module("ray._private.worker")
    printing.print_to_stdstream = _unprinted
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(
            address="local",
            num_cpus=cores(),
            include_dashboard=False,
            object_store_memory=OBJECTS,
            **quiet,
        )
        return
    try:
        if ":" in address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), REACH_WITHIN).close()
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise AssayError(
            f"no Ray cluster answers at {address!r} ({told(error)}); give --ray-address HOST:PORT "
            "as `ray start --head` said it"
        ) from error


@cache
def code() -> str:
    """Return the digest of assay's source: what decides whether two nodes run the same code."""
    root, found = Path(assay.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()
