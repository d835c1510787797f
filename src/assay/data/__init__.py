"""Names → image sets: bundled, synthetic, from a folder or from the hub; outliers; augmentation."""

from __future__ import annotations

from assay.data.dataset import Dataset
from assay.data.load import load_data
from assay.data.outliers import noise

__all__ = ["Dataset", "load_data", "noise"]
