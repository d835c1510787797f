"""Trials: what a study is made of, and their addresses. Never imports torch."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from assay.config import Config, digest
from assay.runs.tasks import in_address, named


@cache
def torch_version() -> str:
    """Return the version of torch that is installed here; reading it takes milliseconds."""
    return importlib.metadata.version("torch")


class Trial(Config):
    """One unit of work: a pure function of its address, which covers everything but `label`."""

    task: str
    """What does it: a name of `runs.tasks`, or a function elsewhere as "module:function"."""
    config: dict[str, Any]
    """Its settings as JSON: every default written, every `auto` resolved."""
    seed: int = 0
    """Seed of all of the trial's random streams."""
    needs: tuple[Trial, ...] = ()
    """Trials whose results it reads."""
    data: dict[str, str] = Field(default_factory=dict)
    """Fingerprint of each data set it reads, by name."""
    versions: dict[str, int] = Field(default_factory=dict)
    """VERSION of each component it uses, by class name."""
    device: str = "cpu"
    """Class of device: cpu, cuda or mps."""
    threads: int = 1
    """Threads it computes with; part of the address, since sums depend on it."""
    torch: str = Field(default_factory=torch_version)
    """Version of torch; a trial read from the store keeps the one it was run with."""
    label: str = ""
    """What people call it; not part of the address."""
    places: dict[str, str] = Field(default_factory=dict)
    """Where each data set of the config is found here; not part of the address, since a name and
    a folder may hold the same data (`data` has its fingerprint)."""

    @field_validator("task")
    @classmethod
    def _by_name(cls, task: str) -> str:
        return named(task)

    @cached_property
    def material(self) -> dict[str, Any]:
        """What the address is the digest of; `assay why` compares these."""
        return {
            "task": in_address(self.task),
            "config": self.config,
            "seed": self.seed,
            "needs": [need.address for need in self.needs],
            "data": self.data,
            "versions": self.versions,
            "device": self.device,
            "threads": self.threads,
            "torch": self.torch,
        }

    @cached_property
    def address(self) -> str:
        """The SHA-256 of `material`, 64 hexadecimal digits."""
        return digest(self.material)

    @property
    def short(self) -> str:
        """The first 12 digits of the address: the name of the folder, and enough to find it by."""
        return self.address[:12]

    @property
    def group(self) -> str:
        """What people call it and the same with other seeds: its label, or its task."""
        return self.label or self.task.rpartition(":")[2]

    @property
    def title(self) -> str:
        """What people call it, with its seed."""
        return f"{self.group} (seed {self.seed})"


def kin(trial: Trial) -> str:
    """Return what trials have in common that are equal but for seed and versions."""
    return digest(
        {
            "task": trial.task,
            "config": trial.config,
            "needs": [kin(need) for need in trial.needs],
            "data": trial.data,
            "device": trial.device,
            "threads": trial.threads,
        }
    )


@dataclass(frozen=True)
class Outcome:
    """What a task returns.

    `metrics` (JSON) becomes metrics.json and `arrays` arrays.npz; both must be byte-identical
    whenever the same trial is run. Times and memory are not metrics: the record keeps them, and
    with them `timings`, the seconds that parts of the task took.
    """

    metrics: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a trial is expected to take: a study may know it from the size of its network."""

    seconds: float
    bytes: int
