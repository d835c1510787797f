"""The networks of ours: a line each. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.registry import Registry
from assay.lazy import made_late
from assay.models.base import Architecture
from assay.models.mlp import MLP as MLP
from assay.models.cnn import CNN as CNN
from assay.models.lenet import LeNet as LeNet
from assay.models.strided import Strided as Strided
from assay.models.whitened import Whitened as Whitened
from assay.models.vit import ViT as ViT

networks = Registry(Architecture, __name__, "assay.models")
"""Every network's config by its name: ours, then those of the entry-point group `assay.models`."""

if TYPE_CHECKING:
    Network = Architecture
else:
    # the union, for the fields of configs; other packages are loaded for it, so it is made late
    __getattr__ = made_late(__name__, Network=networks.union)
