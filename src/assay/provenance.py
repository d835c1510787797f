"""How a result was made: what a reader needs to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from assay.report.record import Provenance
from assay.runs.environment import accelerator, surroundings

PACKAGES = ("scipy", "scikit-learn", "accelerate", "safetensors", "matplotlib", "pydantic")


def provenance(
    *,
    command: str,
    config: dict[str, Any],
    seeds: tuple[int, ...],
    started: datetime,
    seconds: float,
    threads: int,
    data: Mapping[str, str],
    model: str = "",
) -> Provenance:
    """Return the record of a result that took `seconds` from `started` on this machine."""
    around = surroundings()
    code, hardware = around["code"], around["hardware"]
    commit = f" ({code['commit']})" if code["commit"] else ""
    versions = {"assay": f"{code['version']}{commit}", **around["versions"]}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Provenance(
        command=command,
        config=config,
        seeds=seeds,
        versions=versions,
        hardware={
            "processor": hardware["processor"],
            "cores": str(hardware["cores"]),
            "threads": str(threads),
            "accelerator": accelerator() or "none",
            "memory": f"{hardware['memory'] / 2**30:.0f} GiB",
            "system": hardware["system"],
        },
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
        model=model,
        data=dict(data),
    )
