"""What the page of the study `regularization` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from assay import stats
from assay.core.random import Stream
from assay.data.dataset import to_float
from assay.models.autoencoder import load_autoencoder
from assay.report import figures as draw
from assay.report.heroes import NARROW, WIDE, seen
from assay.report.numerals import with_unit
from assay.report.record import EstimateModel, Unit
from assay.report.result import Drawing, StudyResult, Table
from assay.studies.answers import Wording, compose, points
from assay.studies.cells import Cells, Column
from assay.studies.measures import calibration_error, gap, validation_accuracy
from assay.studies.regularization.variants import NONE
from assay.tasks.train import split

if TYPE_CHECKING:
    from assay.studies.regularization.study import Regularization

LOSSES, GAINS = "Validation loss while training", "What each variant gains"
GAP, CALIBRATION = "Generalisation gap", "Calibration"
"""Titles of figures."""
COLOURS = {
    NONE: 6,
    "dropout": 0,
    "norm": 0,
    "weight decay": 2,
    "label smoothing": 2,
    "mixup": 2,
    "input space": 1,
    "feature space": 3,
    "two": 4,
}
"""Of each kind of change, into the palette."""


def tables(cells: Cells) -> tuple[Table, ...]:
    """Return every variant."""
    return (_variants(cells),)


def figures(study: Regularization, cells: Cells) -> tuple[Drawing, ...]:
    """Return losses, gains, gaps and calibration of every variant, and what augmentation does."""
    return (*_measured(study, cells), *examples(study, cells))


EVERY = "Every variant"
"""Title of the table."""


def figures_of(result: StudyResult) -> list[Drawing]:
    """Return the gains, which lead, and the figures that say why."""
    table = result.table(EVERY)
    if table is None:
        return []
    accuracy, error = table.column("test accuracy"), table.column("calibration error")
    loss = table.column("test loss")
    found: list[Drawing] = []
    if NONE in accuracy:
        alone = [name for name in accuracy if " + " not in name]
        best = max(alone, key=lambda name: accuracy[name].value or 0.0)
        found += seen(
            result.figure(GAINS),
            f"Test accuracy is {_said(accuracy, best)} with {best}, {_said(accuracy, NONE)} "
            "without regularization",
            role="hero",
        )
    if NONE in loss:
        least = min(loss, key=lambda name: loss[name].value or 0.0)
        found += seen(
            result.figure(LOSSES),
            f"The test loss ends at {with_unit(loss[NONE].value, 'number')} without "
            f"regularization, at {with_unit(loss[least].value, 'number')} with {least}",
        )
    if NONE in error:
        most = max(error, key=lambda name: error[name].value or 0.0)
        found += seen(
            result.figure(CALIBRATION),
            f"The calibration error is {_said(error, NONE)} without regularization, and greatest, "
            f"{_said(error, most)}, with {most}"
            if most != NONE
            else f"The calibration error is greatest, {_said(error, NONE)}, without regularization",
        )
    return [*found, *seen(result.figure(GAP), role="data", beside=EVERY)]


def _said(column: Mapping[str, EstimateModel], name: str) -> str:
    return with_unit(column[name].value, "fraction")


def _variants(cells: Cells) -> Table:
    return cells.table(
        EVERY,
        (
            Column("test accuracy", "test_accuracy", best="highest"),
            Column("training accuracy", "train_accuracy"),
            Column("generalisation gap", gap, "points"),
            Column("test loss", "test_loss", "number", best="lowest"),
            Column("calibration error", calibration_error, best="lowest"),
            Column("validation accuracy", validation_accuracy),
        ),
        heading="variant",
        caption="The gap is training minus test accuracy, both of the final network in eval "
        "mode, on images as they are. The calibration error is the ECE of 15 bins on the test "
        "images (Guo et al. 2017). The best two were chosen by validation accuracy.",
    )


def _measured(study: Regularization, cells: Cells) -> tuple[Drawing, ...]:
    shown = [name for name in cells.names if cells.finished(name)]
    kept = [name for name in shown if cells.kept(name)]
    if not kept:
        return ()
    gains = {name: _gain(cells, name) for name in kept if name != NONE}

    def gained(width: float) -> str:
        figure = _forest(study, gains, "gain of test accuracy", "points", 0.0, width=width)
        return draw.inline_svg(figure)

    return (
        Drawing(
            title=LOSSES,
            caption="Mean over seeds, with the range from the least to the greatest seed. Grey "
            "in every panel: without regularization. A line that turns upwards overfits.",
            svg=draw.inline_svg(_losses(study, cells, [name for name in shown if name != NONE])),
        ),
        Drawing(
            title=GAINS,
            caption="Test accuracy minus that without regularization, paired by seed, with its "
            "95 % interval. Blue: changes to the architecture; green: to the weights, the "
            "labels or both; orange: images in input space; violet: in feature space; yellow: "
            "the best two.",
            svg=gained(WIDE),
            narrow=gained(NARROW),
        ),
        Drawing(
            title=GAP,
            caption="How much more accurate the final network is on its training images than "
            "on test images. A small gap alone is no merit: a network that learnt nothing has "
            "none.",
            svg=draw.inline_svg(
                _forest(
                    study,
                    {name: cells.mean(name, gap) for name in kept},
                    "training minus test accuracy",
                    "points",
                )
            ),
        ),
        Drawing(
            title=CALIBRATION,
            caption="By how much confidence and accuracy differ on test images (ECE, 15 bins).",
            svg=draw.inline_svg(
                _forest(
                    study,
                    {name: cells.mean(name, calibration_error) for name in kept},
                    "expected calibration error",
                    "fraction",
                )
            ),
        ),
    )


def _forest(
    study: Regularization,
    estimates: Mapping[str, stats.Estimate],
    label: str,
    unit: Unit,
    reference: float | None = None,
    width: float = 6.6,
) -> draw.Picture:
    """Return the estimates as a forest plot, the highest on top."""
    colours = {variant.name: COLOURS[variant.kind] for variant in study.variants()}
    rows = [
        (name, estimate, colours.get(name, COLOURS["two"])) for name, estimate in estimates.items()
    ]
    rows.sort(key=lambda row: row[1].value, reverse=True)
    return draw.intervals(rows, label, reference, unit=unit, width=width)


def _losses(study: Regularization, cells: Cells, names: Sequence[str]) -> draw.Picture:
    plain = cells.band(NONE, "val_loss", label="none", colour=COLOURS[NONE], dash=1)
    panels = []
    for name in names:
        band = cells.band(name, "val_loss", label="the variant", colour=0)
        title = name if name in study.grid() else "the best two"
        panels.append(draw.Panel(title, [b for b in (plain, band) if b is not None]))
    grid = [panels[start : start + 4] for start in range(0, len(panels), 4)]
    return draw.panels(grid, x_label="epoch", y_label="validation loss", log_y=True)


def examples(study: Regularization, cells: Cells) -> list[Drawing]:
    """Return a picture of what the augmentations make of an image of each class."""
    settings = {v.name: v for v in study.variants()}
    spaces = {
        name.removeprefix("feature space: "): variant.training["features"]
        for name, variant in settings.items()
        if variant.kind == "feature space" and cells.finished(name)
    }
    first = cells.trials[next(n for n, v in settings.items() if v.kind == "feature space")][0]
    learnt = cells.done.get(first.needs[0]) if first.needs else None
    if learnt is None:
        return []
    data = split(study.plain(), "train")
    labels = data.labels.tolist()
    some = data.subset([labels.index(label) for label in sorted(set(labels))[:10]])
    x = to_float(some.images)
    rng = Stream(0).child("examples")
    model = load_autoencoder(learnt.path("model.safetensors"))
    with torch.no_grad():
        rows = {"image": x, "decoded": model(x)}
    for name, space in spaces.items():
        rows[name] = space.fitted(model, data).draw(rng.child(name).rows(some.ids))
    for name, augment in (("simple", study.simple), ("heavy", study.heavy)):
        rows[name] = augment(x, rng.child(name).rows(some.ids))
    errors = learnt.metrics
    return [
        Drawing(
            title="What a network is trained on",
            caption="An image of each class, as its code is decoded, and one draw of each "
            f"augmentation. The autoencoder learnt from the same {len(data):,} images, without "
            f"labels; its mean squared error is {errors['train_error']:.4f} on them and "
            f"{errors['validation_error']:.4f} on validation images, where the mean image has "
            f"{errors['mean_image_error']:.4f}.",
            svg=draw.inline_svg(draw.rows({name: row.numpy() for name, row in rows.items()})),
        )
    ]


def answer(claims: Sequence[stats.Claim]) -> str:
    """Return what the verdicts answer."""
    test = points("test accuracy")
    return compose(
        claims,
        {
            "regularization.augments": Wording(
                "Augmented images regularize better than a changed architecture",
                "Augmented images do not regularize better than a changed architecture",
                "augmented images regularize better than a changed architecture",
                test,
            ),
            "regularization.features": Wording(
                "Augmentation in feature space regularizes better than a changed architecture",
                "Augmentation in feature space does not regularize better than a changed "
                "architecture",
                "augmentation in feature space regularizes better than a changed architecture",
                test,
            ),
            "regularization.adds": Wording(
                "The best two methods together beat the best one",
                "The best two methods together do not beat the best one",
                "the best two methods together beat the best one",
                test,
            ),
            "regularization.overdoes": Wording(
                "Aggressive dropout generalises worse than low dropout",
                "Aggressive dropout does not generalise worse than low dropout",
                "aggressive dropout generalises worse than low dropout",
                points("test accuracy lost"),
            ),
            "regularization.underfits": Wording(
                "Aggressive dropout underfits",
                "Aggressive dropout does not underfit",
                "aggressive dropout underfits",
                points("training accuracy lost"),
            ),
        },
    )


def summary(cells: Cells) -> str:
    best = cells.best(validation_accuracy, "highest")
    if best is None or not cells.kept(NONE):
        return "No network was trained."
    return (
        f"Without regularization {cells.mean(NONE, 'test_accuracy').percent()} test accuracy; "
        f"best by validation is {best} with {cells.mean(best, 'test_accuracy').percent()}."
    )


def notes(study: Regularization) -> tuple[str, ...]:
    recipe = study.recipe
    images = "all" if study.train_images is None else f"{study.train_images:,}"
    steps = (
        f"Every variant takes the same optimizer steps ({recipe.epochs} epochs over {images} "
        f"training images in batches of {recipe.batch_size}), and its last weights are tested: "
        "stopping early would itself regularize."
        if not recipe.patience
        else f"Training stops after {recipe.patience} epochs without a lower validation loss, "
        "and the best weights are tested, as in the course: stopping early itself regularizes, "
        "which makes the variants more alike than they are."
    )
    return (
        steps,
        "Each method has one customary strength: a verdict is about these strengths. Those of "
        "weight decay (of 0.1 and 1) and mixup (of 0.2 and 1) were chosen by the validation "
        "accuracy of one seed of the quick preset, which is among its seeds, and the smallest "
        "effect that matters was set after that. Only dropout is judged at several strengths.",
        "The course cites augmentation in feature space (DeVries & Taylor 2017), but applied "
        "it in input space alone. Here new codes are decoded to images, so that every variant "
        "trains the same network; the paper also classifies codes themselves. The autoencoder "
        "sees no image that the classifier does not.",
        "What is compared is chosen by validation accuracy, of the same seeds, and judged by "
        "test accuracy. The course chose its epoch on the test set, with one seed, and read "
        "differences of two points as effects.",
        "Batch norm stands after the activation, as in the course.",
    )


def _gain(cells: Cells, name: str) -> stats.Estimate:
    effect = cells.difference("", "", name, NONE, "test_accuracy", delta=0.0)
    return stats.mean_interval(effect.values, floor_variance=effect.floor_variance)
