"""What the page of the study `skip` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assay import stats
from assay.report import figures as draw
from assay.report.heroes import Line, hero, measured_lines, said, seen
from assay.report.numerals import bare, scientific
from assay.report.result import Cell, Drawing, StudyResult, Table
from assay.runs.entry import Result
from assay.runs.results import Results
from assay.studies.answers import Wording, compose, points
from assay.studies.cells import Cells, Column
from assay.studies.rates import rates_table
from assay.studies.skip.networks import BARE, HE_ONLY, NORM_ONLY, at, name
from assay.tasks.train_time import expected_seconds

if TYPE_CHECKING:
    from assay.studies.skip.study import Skip

COURSE = {
    "plain [2,2]": 0.68,
    "plain [5,5]": 0.77,
    "plain [7,7]": 0.75,
    "skip [2,2]": 0.63,
    "skip [5,5]": 0.79,
    "skip [7,7]": 0.82,
}
"""The course's test accuracies: one seed, early stopping on the test set."""
NORMS, CURES = "Gradient norm from layer to layer", "What batch norm and He initialisation do"
REACH = "gradient of the first layer over the last, at the start"
"""Titles of a figure, a table and its column."""
WHEN = {"before the first step": 0.0, "halfway": 0.5, "at the end": 1.0}
"""Which gradients are shown, as a share of all of a training."""


def tables(study: Skip, cells: Cells, done: Results) -> tuple[Table, ...]:
    """Return the main cells; those that lack a cure; the learning rates tried."""
    found = [_main(study, cells)]
    if study.bare or study.cures:
        found.append(_cures(study, cells))
    if study.rates is not None:
        found.append(rates_table(study.rates, cells.chosen_by, done))
    return tuple(found)


def figures(study: Skip, cells: Cells, done: Results) -> tuple[Drawing, ...]:
    """Return learning curves, gradient norms from layer to layer, and loss surfaces."""
    names = [cell for cell in study.grid() if cells.finished(cell)]
    reached = {cell: _reach(cells, cell) for cell in names}
    return (
        Drawing(
            title="Validation accuracy while training",
            caption="Mean over seeds, with the range from the least to the greatest seed, on "
            f"{study.watch.images:,} validation images. Solid: skip connections. Dashed: plain.",
            svg=draw.inline_svg(
                draw.learning_curves(
                    _bands(study, cells, "look_val_accuracy"), x_label="optimizer step"
                )
            ),
        ),
        Drawing(
            title="Training loss",
            caption="Degradation is about this: a deeper plain network that does not even fit "
            "its training data (He et al. 2015). Mean of the loss since the previous point.",
            svg=draw.inline_svg(
                draw.learning_curves(
                    _bands(study, cells, "look_loss"),
                    x_label="optimizer step",
                    y_label="training loss",
                    fraction=False,
                )
            ),
        ),
        Drawing(
            title=NORMS,
            finding=gradients_said(study, reached),
            caption="From the first convolution (left) to the linear layer (right), two "
            "convolutions to a block; before the first step, halfway and at the end. A line "
            "that falls to the left is a gradient that vanishes: where it does not, and the "
            "deeper network still has the higher training loss, that is degradation.",
            svg=draw.inline_svg(
                draw.panels(
                    [
                        [
                            draw.Panel(
                                title,
                                [
                                    band
                                    for cell in names
                                    if (band := _norms(study, cells, cell, when))
                                ],
                            )
                            for title, when in WHEN.items()
                        ]
                    ],
                    x_label="layer, from input to output",
                    y_label="gradient norm",
                    log_y=True,
                )
            ),
        ),
        *_surfaces(study, cells, done),
    )


def figures_of(study: Skip, result: StudyResult) -> list[Drawing]:
    """Return accuracy by depth, and the two figures that tell degradation from vanishing."""
    table = result.table(_title(study))
    if table is None:
        return []
    accuracy, loss = table.column("test accuracy"), table.column("training loss")
    depths, high = sorted(study.depths), max(study.depths)
    lines = []
    for colour, skip in ((0, True), (1, False)):
        there = [depth for depth in depths if name(skip, depth) in accuracy]
        if there:
            own = [accuracy[name(skip, depth)] for depth in there]
            places = [float(depths.index(depth)) for depth in there]
            label = "skip" if skip else "plain"
            lines.append(Line(label, places, own, colour, int(not skip)))
    plain, skipping = name(False, high), name(True, high)
    found = []
    if lines:
        reached = [
            f"{said(accuracy[cell])} {what}"
            for cell, what in ((skipping, "with skip connections"), (plain, "without"))
            if cell in accuracy
        ]
        found.append(
            hero(
                "Test accuracy by depth",
                f"At {at(high)} test accuracy is {', '.join(reached) or 'not known'}",
                "Mean over seeds and its 95 % interval. Depth: blocks in each of the two stages.",
                lambda width: measured_lines(
                    lines,
                    [(float(place), at(depth)) for place, depth in enumerate(depths)],
                    width=width,
                    x_label="depth",
                    y_label="test accuracy",
                    from_zero=False,
                ),
            )
        )
    if {plain, skipping} <= loss.keys():
        ends = [bare(loss[cell].value, "number") for cell in (plain, skipping)]
        found += seen(
            result.figure("Training loss"),
            f"After training the loss of {plain} is {ends[0]}, that of {skipping} {ends[1]}",
        )
    if norms := result.figure(NORMS):
        cures = result.table(CURES)
        told = gradients_said(study, cures.texts(REACH)) if cures else norms.finding
        found += seen(norms, told)
    found += seen(
        result.figure("Validation accuracy while training"), role="data", beside=table.title
    )
    return found


def gradients_said(study: Skip, reached: Mapping[str, str]) -> str:
    """Return how far the gradient of the deepest networks reaches before the first step, by what
    is written of each: the gradient of its first layer over that of its last."""
    deep = max(study.depths)
    cells = (name(False, deep), name(True, deep), name(False, deep, BARE))
    known = [f"{reached[cell]} in {cell}" for cell in cells if cell in reached]
    if not known:
        return ""
    return f"Gradient of the first layer over the last, before the first step: {', '.join(known)}"


def answer(study: Skip, claims: Sequence[stats.Claim]) -> str:
    """Return what the verdicts answer."""
    low, high = at(min(study.depths)), at(max(study.depths))
    middle = at(sorted(study.depths)[-2])
    test = points("test accuracy")
    return compose(
        claims,
        {
            "skip.wins": Wording(
                f"Skip connections win at {high}",
                f"Skip connections do not win at {high}",
                f"skip connections win at {high}",
                test,
            ),
            "skip.undoes": Wording(
                f"From {low} to {high} depth does better with skip connections than without",
                f"From {low} to {high} depth does no better with skip connections than without",
                f"depth does better with skip connections than without from {low} to {high}",
                test,
            ),
            "skip.degrades": Wording(
                f"Plain networks degrade from {middle} to {high}",
                f"Plain networks do not degrade from {middle} to {high}",
                f"plain networks degrade from {middle} to {high}",
                points("training accuracy lost"),
            ),
            "skip.gains": Wording(
                f"Networks with skip connections gain from {low} to {high}",
                f"Networks with skip connections do not gain from {low} to {high}",
                f"networks with skip connections gain from {low} to {high}",
                test,
            ),
            "skip.shallow": Wording(
                f"At {low} skip connections change nothing that matters",
                f"At {low} skip connections do make a difference",
                f"skip connections make no difference at {low}",
                replace(test, matters=""),
            ),
        },
    )


def summary(study: Skip, cells: Cells) -> str:
    """Return the test accuracy of the deepest networks."""
    high = max(study.depths)
    said = [
        f"{cell} reaches {cells.mean(cell, 'test_accuracy').percent()}"
        if cells.kept(cell)
        else f"{cell} has no run that trained"
        for cell in (name(False, high), name(True, high))
    ]
    return "; ".join(said) + " test accuracy."


def notes(study: Skip, cells: Cells) -> tuple[str, ...]:
    """Return what a reader must know."""
    fair = study.norm == "batch" and study.init == "he"
    first = (
        "Batch norm (Ioffe & Szegedy 2015) and He initialisation (He et al. 2015, fan out) "
        "keep gradients healthy, so a difference between plain and skip is not a vanished "
        "gradient: these are the fair cells. The course had neither."
        if fair
        else "As the course did it: without batch norm and with PyTorch's initialisation, a "
        "deep plain network fails mostly because its gradient vanishes, which is not what He "
        "et al. 2015 call degradation. Preset quick tells the two apart."
    )
    second = (
        f"The first convolution has stride {study.stem_stride} and the second stage begins with "
        f"stride {study.stage_stride}, so that every cell trains in minutes: less accurate than "
        "at full size, where the course worked."
        if study.stem_stride * study.stage_stride > 1
        else "The stages see images at full size, as in the course."
    )
    recipe = study.recipe
    rate = "chosen for each cell" if study.rates else f"of {recipe.optimizer.lr:g}"
    third = (
        f"Every cell is trained for {recipe.epochs} epochs with {recipe.optimizer.name} at a "
        f"learning rate {rate} ({recipe.schedule.name.replace('_', '-')} "
        f"schedule) in batches of {recipe.batch_size}; the course: Adam, constant 0.001, "
        "batches of 64, up to 100 epochs."
    )
    fourth = (
        "A validation set is held out of the training data; test images are used once. The "
        "course chose its epoch on the test set."
    )
    return (first, second, third, fourth, *_cost_of_paper(study, cells))


def style(study: Skip, cell: str) -> tuple[int, int]:
    """Return a colour for each depth, and others for what lacks a cure; plain is dashed."""
    kinds = [*(at(depth) for depth in sorted(study.depths)), BARE, HE_ONLY, NORM_ONLY]
    colour = next(i for i, kind in enumerate(kinds) if cell.endswith(kind))
    return colour, int(cell.startswith("plain"))


def _main(study: Skip, cells: Cells) -> Table:
    main = study.main()
    course = study.data == "cifar10" and any(cell in COURSE for cell in main)
    made = cells.table(
        _title(study),
        (
            Column("test accuracy", "test_accuracy", best="highest"),
            Column("training accuracy", "train_accuracy", best="highest"),
            Column("training loss", "train_loss", "number", best="lowest"),
        ),
        cells=main,
        caption="Training accuracy and loss are those of the final network in eval mode."
        + (" The course's figures are from one seed, chosen on the test set." * course),
        more={"course": _course} if course else None,
    )
    return made.model_copy(update={"digits": 2})


def _title(study: Skip) -> str:
    return "The six cells" if len(study.main()) == 6 else "The cells"


def _course(cell: str) -> str:
    return f"{100 * COURSE[cell]:.0f} %" if cell in COURSE else ""


def _cures(study: Skip, cells: Cells) -> Table:
    """Return the cells without one cure or both, each beside the one that has both."""
    deep = max(study.depths)
    rows = [name(skip, depth, BARE) for skip in (False, True) for depth in sorted(study.bare)]
    if study.cures:
        rows += [name(False, deep, HE_ONLY), name(False, deep, NORM_ONLY)]
    rows += [name(skip, deep) for skip in (False, True)]
    return Table(
        title=CURES,
        columns=(
            "network",
            "test accuracy",
            "training loss",
            REACH,
            "stayed at chance",
        ),
        rows=tuple(
            (
                Cell(text=cell),
                Cell(estimate=cells.mean(cell, "test_accuracy", all_runs=True)),
                Cell(estimate=cells.mean(cell, "train_loss", all_runs=True), unit="number"),
                Cell(text=_reach(cells, cell)),
                Cell(text=f"{cells.collapsed(cell)} of {len(cells.finished(cell))}"),
            )
            for cell in rows
        ),
        caption="Bare: neither batch norm nor He initialisation, as in the course. Cells "
        f"without batch norm are trained with {study.bare_optimizer.name} at a learning rate "
        f"of {study.bare_optimizer.lr:g}, as in the course, on the schedule of all others: what "
        "lacks batch norm differs in its optimizer too. Means over all seeds, those that "
        "stayed at chance included, with 95 % intervals. A network whose gradient does not "
        "reach its first layers does not show degradation, but a gradient that vanished.",
    )


def _reach(cells: Cells, cell: str) -> str:
    norms = [run.arrays["look_gradient_norms"][0] for run in cells.finished(cell)]
    if not norms:
        return "no result"
    ratio = sum(n[0] / max(n[-1], 1e-300) for n in norms) / len(norms)
    return f"{ratio:.2g}" if ratio >= 0.01 else scientific(ratio)


def _bands(study: Skip, cells: Cells, array: str) -> Sequence[draw.Series]:
    """Return a curve over steps for each of the main cells."""
    found = []
    for cell in study.main():
        colour, dash = style(study, cell)
        band = cells.band(cell, array, x="look_steps", colour=colour, dash=dash)
        found += [band] if band else []
    return found


def _norms(study: Skip, cells: Cells, cell: str, when: float) -> draw.Series | None:
    """Return the gradient norm of each layer at one of the measurements of a training."""

    def measured(run: Result) -> Any:
        norms = run.arrays["look_gradient_norms"]
        return norms[round(when * (len(norms) - 1))]

    colour, dash = style(study, cell)
    return cells.band(cell, measured, colour=colour, dash=dash)


def _surfaces(study: Skip, cells: Cells, done: Results) -> list[Drawing]:
    trials = study.surfaces(cells.trials)
    taken = {cell: done[trial] for cell, trial in trials.items() if trial in done}
    if not taken:
        return []
    said = "; ".join(_of_surface(cell, result) for cell, result in taken.items())
    return [
        Drawing(
            title="The loss surface around the deepest networks",
            caption="Training loss on the plane of two random filter-normalised directions "
            f"around the trained weights (Li et al. 2018), of the first seed: {said}. One "
            "plane of one seed: a picture, not evidence for a claim.",
            svg=draw.inline_svg(
                draw.surfaces(
                    list(taken),
                    [result.arrays["loss"] for result in taken.values()],
                    list(next(iter(taken.values())).arrays["alphas"]),
                )
            ),
        )
    ]


def _of_surface(cell: str, result: Result) -> str:
    loss = result.metrics["loss"]
    rise = result.metrics["sharpness"] * (1 + loss)
    return f"around {cell} it is {loss:.2f} and rises by up to {rise:.2f} within half their norm"


def _cost_of_paper(study: Skip, cells: Cells) -> tuple[str, ...]:
    trained = any(cells.finished(cell) for cell in cells.names)
    if study.preset == "paper" or study.data != "cifar10" or not trained:
        return ()
    paper = type(study).parse(study.preset_values("paper"))
    costs = [expected_seconds(cell, study.device, probe_steps=2) for cell in paper.grid().values()]
    hours = sum(costs) / 3600
    return (
        f"The course's own protocol at full size (--preset paper, one seed) would take about "
        f"{hours:.0f} hours of one core here, less where patience ends a training early.",
    )
