"""A study of trainings, whole: what CONTRIBUTING.md shows."""

from collections.abc import Mapping
from typing import Any, ClassVar

from assay.models import MLP
from assay.report import figures
from assay.report.result import Drawing
from assay.runs.results import Results
from assay.studies.base import Findings
from assay.studies.cell_study import CellStudy
from assay.studies.cells import Column
from assay.tasks.train import TrainNetwork
from assay.train import AdamW, Recipe


class Wider(CellStudy):
    """A narrow MLP against a wide one."""

    NAME: ClassVar[str] = "wider"
    QUESTION: ClassVar[str] = "Is a wider MLP better?"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {}}

    data: str = "digits"
    recipe: Recipe = Recipe(epochs=3, optimizer=AdamW(lr=3e-3))

    def grid(self) -> Mapping[str, TrainNetwork]:
        return {
            f"{width} units": TrainNetwork(
                data=self.data, network=MLP(widths=(width,)), recipe=self.recipe
            )
            for width in (64, 4)
        }

    def findings(self, done: Results) -> Findings:
        cells = self.cells(done)
        claim = ("wider.wins", "64 units are better than 4.", "64 units", "4 units")
        curves = [cells.band(name, "val_accuracy") for name in cells.names]
        drawing = figures.learning_curves([curve for curve in curves if curve])
        return Findings(
            effects=[cells.difference(*claim, "test_accuracy", delta=0.02)],
            tables=[cells.table("Accuracy", [Column("test", "test_accuracy", best="highest")])],
            figures=[Drawing(title="Learning", caption="", svg=figures.inline_svg(drawing))],
        )
