"""Names → sets of images or texts: bundled, synthetic, from a folder or from the hub; outliers;
augmentation."""

from __future__ import annotations

from assay.data.augment import Augmentation, CropFlip, Heavy, NoAugmentation, Simple
from assay.data.dataset import Dataset
from assay.data.load import load_data
from assay.data.loadtexts import load_texts
from assay.data.outliers import noise, outliers
from assay.data.predictions import Predictions, load_predictions
from assay.data.textset import TextSet

__all__ = [
    "Augmentation",
    "CropFlip",
    "Dataset",
    "Heavy",
    "NoAugmentation",
    "Predictions",
    "Simple",
    "TextSet",
    "load_data",
    "load_predictions",
    "load_texts",
    "noise",
    "outliers",
]
