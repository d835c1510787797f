"""How a trial was made: what its record says beside its metrics, and what may differ between
two runs of the same trial."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("assay", "torch", "numpy")


@cache
def surroundings() -> Mapping[str, Any]:
    """Return the code, the libraries and the machine: {"code", "versions", "hardware", "host"}."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "code": {"version": versions.pop("assay"), "commit": commit()},
        "versions": versions,
        "hardware": {
            "processor": processor(),
            "cores": cores(),
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        },
        "host": platform.node(),
    }


@cache
def cores() -> int:
    """Return how many cores this process may use: its affinity, within its cgroup's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        return available


@cache
def processor() -> str:
    """Return the name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def commit() -> str | None:
    """Return the git commit of this code, with "-dirty" if it was changed; None if installed.

    A virtual environment may lie in a checkout of something else, so the checkout must be ours.
    """
    package = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(package)]
    try:
        top = subprocess.run(
            [*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, timeout=10
        )
        if top.returncode or Path(top.stdout.strip()) / "src" / "assay" != package:
            return None
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def forget_peak() -> None:
    """Let the peak memory of this process start anew, where the kernel can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes, since `forget_peak`."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def accelerator() -> str | None:
    """Return the name of the CUDA device in use, without importing torch."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return str(torch.cuda.get_device_name())
