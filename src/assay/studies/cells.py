"""What most studies compare: cells, each a trial that is repeated over seeds.

A study says which cells there are, and what it claims of them; here is what is made of their
results: means with intervals, effects paired by seed, tables that mark the best, curves with bands.
Runs that collapsed (a network that stays at chance) or failed are counted, and left out of the
means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from assay import stats
from assay.report import figures
from assay.report.record import Unit
from assay.report.result import Cell, Table
from assay.runs.entry import Result
from assay.runs.results import Results, address_of
from assay.runs.trial import Trial
from assay.studies.measured import is_share, least_variance, lies_between, value_of
from assay.studies.on_images import SHARES, Metric, per_image


@dataclass(frozen=True)
class Column:
    """A column of a table of cells.

    Attributes:
        title: its heading.
        metric: what stands in it.
        unit: how it is shown.
        best: which end of it is better, for the marks; None: no marks.
    """

    title: str
    metric: Metric
    unit: Unit = "fraction"
    best: Literal["highest", "lowest"] | None = None


class Cells:
    """The results of a study by cell and seed.

    Args:
        trials: the trials of each cell by its name, one per seed, in the same order of seeds.
        done: what has been run.
        chosen_by: the trials by which a cell's settings were chosen; what rests on the cell rests
            on them too.
        images_drawn: whether each seed drew images of its own, such that numbers of which only one
            per seed is known are a sample of images too.
        there_are: how many images the test set has; None: those met, and no more.
    """

    def __init__(
        self,
        trials: Mapping[str, Sequence[Trial]],
        done: Results,
        chosen_by: Mapping[str, Sequence[Trial]] | None = None,
        *,
        images_drawn: bool = False,
        there_are: int | None = None,
    ) -> None:
        self.trials = trials
        self.done = done
        self.chosen_by = chosen_by or {}
        self.images_drawn = images_drawn
        self.there_are = there_are

    def with_cell(self, cell: str, trials: Sequence[Trial]) -> Cells:
        """Return these results with one more cell."""
        return Cells(
            {**self.trials, cell: trials},
            self.done,
            self.chosen_by,
            images_drawn=self.images_drawn,
            there_are=self.there_are,
        )

    @property
    def names(self) -> list[str]:
        """The names of all cells."""
        return list(self.trials)

    def results(self, cell: str) -> list[Result | None]:
        """Return a cell's result for every seed; None where it failed or was not run."""
        return [self.done.get(trial) for trial in self.trials[cell]]

    def finished(self, cell: str) -> list[Result]:
        """Return the results that there are, collapsed ones included."""
        return [result for result in self.results(cell) if result is not None]

    def kept(self, cell: str) -> list[Result]:
        """Return the results of the runs that did not collapse."""
        return [r for r in self.finished(cell) if not r.metrics["collapsed"]]

    def collapsed(self, cell: str) -> int:
        """Return how many runs collapsed."""
        return len(self.finished(cell)) - len(self.kept(cell))

    def failed(self, cell: str) -> int:
        """Return how many runs failed."""
        return sum(self.done.failure(trial) is not None for trial in self.trials[cell])

    def mean(self, cell: str, metric: Metric, *, all_runs: bool = False) -> stats.Estimate:
        """Return the mean of a metric over seeds with its 95 % interval.

        Args:
            all_runs: collapsed runs count too, where the metric is about them.
        """
        runs = self.finished(cell) if all_runs else self.kept(cell)
        finite = [run for run in runs if math.isfinite(value_of(run, metric))]
        images = per_image([[run] for run in finite], (1.0,), metric)
        if images is not None:
            return stats.crossed_mean(images.values, images.kind).estimate
        values = [value_of(run, metric) for run in finite]
        found = stats.mean_interval(values, "seeds", floor_variance=least_variance([runs], metric))
        if not found.bounded:
            return found
        least, most = lies_between(metric)
        return replace(found, low=max(least, found.low), high=min(most, found.high))

    def effect(
        self,
        code: str,
        text: str,
        *,
        delta: float,
        of: Sequence[str],
        value: Callable[..., float],
        floor: Metric | None = None,
        all_runs: bool = False,
        note: str = "",
        among: Sequence[str] = (),
        images: Callable[[Sequence[Sequence[Result]]], stats.PerImage | None] | None = None,
        unit: stats.Unit = "points",
        why_delta: str = "",
        per: str = "",
    ) -> stats.Effect:
        """Return what a claim rests on: one value per seed, from the cells' results of that seed.

        Args:
            of: the cells that `value` is called with, in this order.
            value: the effect for one seed.
            floor: the accuracy (or other share) whose binomial variance is the least that a
                difference can have.
            all_runs: collapsed runs count too; otherwise a seed for which any cell collapsed is
                left out, and the claim says so, as where the effect is not finite.
            among: the cells that `of` were chosen from by their results; the claim rests on all.
            images: the effect image by image, from the same results, a row for each seed.
            unit, why_delta, per: as in `Effect`.
        """
        seeds = zip(*(self.results(cell) for cell in of), strict=True)
        whole = [row for row in seeds if all(run is not None for run in row)]
        if not all_runs:
            whole = [row for row in whole if not any(r and r.metrics["collapsed"] for r in row)]
        cells = dict.fromkeys(of)
        lost = {} if all_runs else {cell: self.collapsed(cell) for cell in cells}
        values = [value(*row) for row in whole]
        finite = [one for one in values if math.isfinite(one)]
        rows = [row for row, one in zip(whole, values, strict=True) if math.isfinite(one)]
        by_image = images([[run for run in row if run] for row in rows]) if images else None
        if len(finite) < len(values):  # a loss or a weight beyond float32: lost as well
            lost[of[0]] = lost.get(of[0], 0) + len(values) - len(finite)
        return stats.Effect(
            code=code,
            text=text,
            delta=delta,
            values=finite,
            floor_variance=None
            if floor is None
            else least_variance(
                [[r for r in column if r] for column in zip(*whole, strict=True)], floor
            ),
            collapsed={cell: count for cell, count in lost.items() if count},
            failed={cell: self.failed(cell) for cell in cells if self.failed(cell)},
            note=note,
            rests_on=self.addresses(*of, *among),
            images_drawn=self.images_drawn,
            by_image=images is not None,
            per_image=replace(by_image, there_are=self.there_are) if by_image else None,
            unit=unit,
            why_delta=why_delta,
            per=per,
        )

    def addresses(self, *cells: str) -> tuple[str, ...]:
        """Return the addresses of the trials of these cells, each once."""
        return tuple(
            address_of(trial)
            for cell in dict.fromkeys(cells)
            for trial in (*self.trials[cell], *self.chosen_by.get(cell, ()))
        )

    def difference(
        self,
        code: str,
        text: str,
        a: str,
        b: str,
        metric: Metric,
        *,
        delta: float,
        note: str = "",
        among: Sequence[str] = (),
        why_delta: str = "",
    ) -> stats.Effect:
        """Return the effect "a has more of the metric than b", paired by seed and by image."""
        return self.contrast(
            code,
            text,
            {a: 1.0, b: -1.0},
            metric,
            delta=delta,
            note=note,
            among=among,
            why_delta=why_delta,
        )

    def contrast(
        self,
        code: str,
        text: str,
        weights: Mapping[str, float],
        metric: Metric,
        *,
        delta: float,
        note: str = "",
        among: Sequence[str] = (),
        asks: stats.Asks = "larger",
        why_delta: str = "",
    ) -> stats.Effect:
        """Return a weighted sum of the metric of some cells, paired by seed and, where runs know
        their images, by image (see `effect`).

        Args:
            weights: what the metric of each cell is multiplied by; 1 and -1 for a difference,
                1, -1, -1 and 1 for an interaction.
            asks: whether the effect is larger than delta, or equivalent to none.
        """
        factors = tuple(weights.values())
        effect = self.effect(
            code,
            text,
            delta=delta,
            of=tuple(weights),
            value=lambda *runs: sum(
                weight * value_of(run, metric) for weight, run in zip(factors, runs, strict=True)
            ),
            floor=metric if is_share(metric) else None,
            note=note,
            among=among,
            images=(lambda rows: per_image(rows, factors, metric)) if metric in SHARES else None,
            why_delta=why_delta,
        )
        return replace(effect, asks=asks)

    def best(
        self, metric: Metric, which: Literal["highest", "lowest"], among: Sequence[str] = ()
    ) -> str | None:
        """Return the cell with the best mean, or None where no cell has one."""
        sign = 1 if which == "highest" else -1
        means = {cell: self.mean(cell, metric).value for cell in among or self.names}
        known = {cell: mean for cell, mean in means.items() if not math.isnan(mean)}
        return max(known, key=lambda cell: sign * known[cell]) if known else None

    def within_noise(self, cell: str, other: str, metric: Metric) -> bool:
        """Return whether the 95 % interval of two cells' difference, paired by seed, spans 0."""
        pairs = [
            (one, two)
            for one, two in zip(self.results(cell), self.results(other), strict=True)
            if one and two and not (one.metrics["collapsed"] or two.metrics["collapsed"])
        ]
        images = per_image(pairs, (1.0, -1.0), metric)
        if images is not None:
            found = stats.crossed_mean(images.values, images.kind).estimate
            return found.low <= 0 <= found.high
        differences = [value_of(one, metric) - value_of(two, metric) for one, two in pairs]
        found = stats.mean_interval(
            [difference for difference in differences if math.isfinite(difference)],
            floor_variance=least_variance([[p[i] for p in pairs] for i in (0, 1)], metric),
        )
        return found.low <= 0 <= found.high

    def mark(
        self, cell: str, best: str | None, metric: Metric
    ) -> Literal["best", "within noise"] | None:
        """Return how a cell is marked beside the best one; a single run is not."""
        if best is None or len(self.kept(cell)) < 2:
            return None
        if cell == best:
            return "best"
        return "within noise" if self.within_noise(cell, best, metric) else None

    def table(
        self,
        title: str,
        columns: Sequence[Column],
        *,
        cells: Sequence[str] = (),
        caption: str = "",
        heading: str = "network",
        more: Mapping[str, Callable[[str], Cell | str]] | None = None,
    ) -> Table:
        """Return a table with a row for each cell, the best of each column marked.

        Args:
            cells: which cells; none given: all.
            more: further columns by heading, from the name of the cell.
        """
        cells = cells or self.names
        best = {c.title: self.best(c.metric, c.best, cells) for c in columns if c.best}
        further = dict(more or {})
        lost = any(self.collapsed(cell) + self.failed(cell) for cell in cells)
        if lost:
            further["not averaged"] = self._lost
        rows = [
            (
                Cell(text=cell),
                *(self._cell(cell, column, best.get(column.title)) for column in columns),
                *(Cell.model_validate(make(cell)) for make in further.values()),
            )
            for cell in cells
        ]
        said = "Mean over seeds with its 95 % interval."
        if best:
            said += (
                " Within noise of best: the interval of the difference, paired by seed, spans zero."
            )
        if lost:
            said += " Runs that collapsed (stayed at chance) or failed are counted, not averaged."
        return Table(
            title=title,
            columns=(heading, *(column.title for column in columns), *further),
            rows=tuple(rows),
            caption=" ".join(part for part in (said, caption) if part),
        )

    def _cell(self, cell: str, column: Column, best: str | None) -> Cell:
        if not self.kept(cell):
            return Cell(text="all collapsed" if self.collapsed(cell) else "no result")
        mark = self.mark(cell, best, column.metric)
        return Cell(estimate=self.mean(cell, column.metric), unit=column.unit, mark=mark)

    def _lost(self, cell: str) -> Cell:
        collapsed, failed = self.collapsed(cell), self.failed(cell)
        said = [f"{collapsed} collapsed"] if collapsed else []
        said += [f"{failed} failed"] if failed else []
        return Cell(text=f"{' and '.join(said)} of {len(self.trials[cell])}" if said else "")

    def band(
        self,
        cell: str,
        array: str | Callable[[Result], np.ndarray[Any, Any]],
        *,
        x: str | Sequence[float] | None = None,
        label: str | None = None,
        colour: int | None = None,
        dash: int = 0,
    ) -> figures.Series | None:
        """Return the mean of a curve over seeds and its range, collapsed runs included.

        Args:
            array: the name of an array (n,) of the results, or what makes one from a result.
            x: the array that the curve is drawn over, or its values; None: 1, 2, 3, …
            label: what stands at its end; None: the name of the cell.

        Returns:
            None where no run has the curve. A curve that ended early is held at its last value.
        """
        runs = self.finished(cell)
        curves = [array(r) if callable(array) else r.arrays.get(array) for r in runs]
        there = [np.asarray(curve) for curve in curves if curve is not None and len(curve)]
        if not there:
            return None
        length = max(len(curve) for curve in there)
        held = np.array([np.pad(c, (0, length - len(c)), mode="edge") for c in there])
        points: Sequence[float] = list(range(1, length + 1))
        if isinstance(x, str):
            points = max((list(r.arrays[x]) for r in runs if x in r.arrays), key=len)
        elif x is not None:
            points = x
        return figures.Series(
            cell if label is None else label,
            list(points),
            list(held.mean(0)),
            list(held.min(0)),
            list(held.max(0)),
            colour=colour,
            dash=dash,
        )
