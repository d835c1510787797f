"""The sections of an audit: a line each, in the order of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.auditing.section import Section
from assay.auditing.sections.accuracy import Accuracy as Accuracy
from assay.auditing.sections.calibration import Calibration as Calibration
from assay.auditing.sections.confusion import Confusion as Confusion
from assay.auditing.sections.robustness import Robustness as Robustness
from assay.auditing.sections.certificate import Certificate as Certificate
from assay.auditing.sections.corruptions import Corruptions as Corruptions
from assay.auditing.sections.slices import Slices as Slices
from assay.auditing.sections.saliency import Saliency as Saliency
from assay.auditing.sections.faithfulness import Faithfulness as Faithfulness
from assay.auditing.sections.outliers import Outliers as Outliers
from assay.core.registry import Registry
from assay.lazy import made_late

sections = Registry(Section, __name__, "assay.sections")
"""Every section by its name: ours, then those of the entry-point group `assay.sections`."""

if TYPE_CHECKING:
    AnySection = Section
else:
    # the union, for the fields of configs; other packages are loaded for it, so it is made late
    __getattr__ = made_late(__name__, AnySection=sections.union)
