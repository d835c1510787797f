"""Ray itself: loaded without telling anybody, started on this machine, or joined where it runs; and
what its errors mean."""

from __future__ import annotations

import atexit
import hashlib
import importlib
import os
import queue
import socket
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import assay
from assay.errors import AssayError, one_line, told
from assay.runs.environment import cores
from assay.runs.worker import logged

T = TypeVar("T")

REACH_WITHIN = 5.0  # seconds that a cluster may take to accept a connection, and to answer
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS = 4  # the kind of frame that HTTP/2, which Ray speaks, answers a greeting with (RFC 9113)
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
        AssayError: it does not start, is out of reach, or is of another Ray or Python.
    """
    # It prints a page about each worker that is lost, in the midst of the display; we say it in a
    # line. `log_to_driver` does not cover that, and nothing public does (2.60).
    printing: Any = importlib.import_module("ray._private.worker")
    printing.print_to_stdstream = _unprinted
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        try:
            ray.init(
                address="local",
                num_cpus=cores(),
                include_dashboard=False,
                object_store_memory=OBJECTS,
                **quiet,
            )
        except Exception as error:  # its own are many: a busy machine, a full disk
            raise AssayError(
                f"Ray does not start on this machine ({told(error)}); the same command goes on "
                "once it does, and --engine local needs no Ray"
            ) from error
        return
    if ":" in address:
        try:
            knock(address)
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


def knock(address: str) -> None:
    """See that something at "host:port" speaks as Ray does: Ray itself would wait without end.

    Raises:
        OSError: nothing does; ValueError: that is no address.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), REACH_WITHIN) as line:
        if os.environ.get("RAY_USE_TLS", "0") != "0":  # which begins otherwise
            return
        line.sendall(GREETING)
        if line.recv(9)[3:4] != bytes((SETTINGS,)):
            raise OSError("what listens there is no Ray")


def head_of(ray: Any) -> str:
    """Return "host:port" of the head of the cluster that was joined."""
    return str(ray.get_runtime_context().gcs_address)


def asked(call: Callable[[], T]) -> queue.SimpleQueue[T | None]:
    """Ask Ray in a thread of its own: without its head it may never answer. Returns where the
    answer will be; None: it could not give one."""
    answer: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(call())
        except Exception:  # its own are many
            answer.put(None)

    threading.Thread(target=ask, daemon=True).start()
    return answer


abandoned: list[Any] = []
"""Clusters whose head is gone while this process works with them. Whatever Ray is asked then, also
as the interpreter ends, waits for the head, crashes, or ends the process after a minute."""


def abandon(ray: Any) -> None:
    """Let go of a cluster whose head is gone."""
    abandoned.append(ray)
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


def last_line(text: str) -> str:
    """Return the last line of a remote traceback, which names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error: " in line]
    return one_line((errors or lines or ["no message"])[-1])


def how_lost(error: Exception) -> str:
    """Return in a few words why a worker gave no answer; Ray takes a page for it."""
    text = str(error)
    if "OutOfMemory" in type(error).__name__ or "low on memory" in text:
        return "memory ran out on its node"
    if "node has died" in text or "node died" in text or "NodeDied" in type(error).__name__:
        return "its node is gone"
    if "Unschedulable" in type(error).__name__ or "NodeAffinity" in text:
        return "its node went before it began"
    if type(error).__name__.startswith("RayTaskError"):
        return f"its worker failed: {last_line(text)}"
    return "its worker process is gone"


@cache
def code() -> str:
    """Return the digest of assay's source: what decides whether two nodes run the same code."""
    root, found = Path(assay.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()
