"""Ray itself: loaded without telling anybody, started on this machine, or joined where it runs."""

from __future__ import annotations

import atexit
import hashlib
import importlib
import os
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import assay
from assay.errors import AssayError, told
from assay.runs.environment import cores
from assay.runs.worker import logged

REACH_WITHIN = 5.0  # seconds that a cluster may take to accept a connection
STILL_WITHIN = 2.0  # the same, of one that has been joined
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
    if ":" in address:
        try:
            knock(address, REACH_WITHIN)
        except (OSError, ValueError) as error:
            raise AssayError(
                f"no Ray cluster answers at {address!r} ({told(error)}); give --ray-address "
                "HOST:PORT as `ray start --head` said it"
            ) from error
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        try:
            with logged(log):  # its C++ prints a line for each of its tries
                ray.init(address=address, **quiet)
        except Exception as error:  # its own are many
            raise AssayError(_refusal(address, error, log.read_text(errors="replace"))) from error


def knock(address: str, within: float) -> None:
    """See that something accepts connections at "host:port".

    Raises:
        OSError: nothing does; ValueError: that is no address.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), within).close()


def head_of(ray: Any) -> str:
    """Return "host:port" of the head of the cluster that was joined."""
    return str(ray.get_runtime_context().gcs_address)


def answers(head: str) -> bool:
    """Return whether the head of a cluster is still there."""
    try:
        knock(head, STILL_WITHIN)
    except OSError:
        return False
    return True


def abandon(ray: Any) -> None:
    """Let go of a cluster whose head is gone: whatever Ray is asked now, also as this process ends,
    waits for the head, and after a minute Ray ends the process itself."""
    atexit.unregister(ray.shutdown)


def _refusal(address: str, error: Exception, log: str) -> str:
    """Return why Ray cannot join what listens at an address, in a line."""
    if "InvalidAuthToken" in log or type(error).__name__ == "AuthenticationError":
        return (
            f"the Ray cluster at {address!r} wants a token, which Ray sends to an address only "
            "where it is told to: give RAY_AUTH_MODE=token, and the token of its head in "
            "~/.ray/auth_token or the file RAY_AUTH_TOKEN_PATH"
        )
    return (
        f"cannot join a Ray cluster at {address!r} ({told(error)}); give --ray-address HOST:PORT "
        "as `ray start --head` said it, and the same Ray and Python here as there"
    )


@cache
def code() -> str:
    """Return the digest of assay's source: what decides whether two nodes run the same code."""
    root, found = Path(assay.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()
