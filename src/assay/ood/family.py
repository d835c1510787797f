"""The union of all detectors: what a config's `detector:` may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from assay.core.family import members, union
from assay.ood.base import Detector
from assay.ood.confidence import Energy, MaxLogit, MaxSoftmax

BUILT_IN: tuple[type[Detector], ...] = (MaxSoftmax, MaxLogit, Energy)


def detectors() -> dict[str, type[Detector]]:
    """Return every detector by its name: ours, then those of the group `assay.detectors`."""
    return members(Detector, BUILT_IN, "assay.detectors")


if TYPE_CHECKING:
    AnyDetector = Annotated[MaxSoftmax | MaxLogit | Energy, Field(discriminator="name")]
else:
    AnyDetector = union(detectors().values())
