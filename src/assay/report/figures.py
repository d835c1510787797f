"""The figures of reports: plain data in, a matplotlib figure out. No pyplot, nothing global.

Functions that take estimates take anything with `value`, `low`, `high` and `n`, all as fractions.
"""

from __future__ import annotations

from assay.report.attention import attention_grid, attention_rows
from assay.report.charts import (
    confusion,
    histograms,
    intervals,
    reliability,
    roc,
)
from assay.report.curves import Series, accuracy_against_eps, gradient_norms, learning_curves
from assay.report.maps import heat_map, heat_maps, surfaces
from assay.report.panels import Panel, panels
from assay.report.style import Picture, inline_svg
from assay.report.tiles import before_after, maps, rows

__all__ = [
    "Panel",
    "Picture",
    "Series",
    "accuracy_against_eps",
    "attention_grid",
    "attention_rows",
    "before_after",
    "confusion",
    "gradient_norms",
    "heat_map",
    "heat_maps",
    "histograms",
    "inline_svg",
    "intervals",
    "learning_curves",
    "maps",
    "panels",
    "reliability",
    "roc",
    "rows",
    "surfaces",
]
