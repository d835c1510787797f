"""What the page of the study `hardening` shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.report import figures as draw
from assay.report import heroes
from assay.report.numerals import budget
from assay.report.result import Cell, Drawing, Table
from assay.report.tiles import rows
from assay.runs.entry import Result
from assay.studies.cells import Cells, Column

if TYPE_CHECKING:
    from assay.studies.hardening.study import Hardening


def recipes(study: Hardening) -> list[str]:
    """Return the recipes, natural training first."""
    return ["natural", *(name for name in study.costs() if name != "natural")]


def accuracies(study: Hardening) -> str:
    """Return what the table of accuracies is called."""
    return f"Accuracy, clean and attacked at {budget(study.eps, 'linf')}"


def tables(study: Hardening, cells: Cells) -> tuple[Table, ...]:
    """Return accuracies under every attack, over budgets, and what else changes."""
    names = recipes(study)
    at = budget(study.eps, "linf")
    found = (
        _accuracies(study, cells, names, at),
        _over_budgets(study, cells, names),
        cells.table(
            "What else changes",
            [
                Column("corrupted", "corrupted_accuracy", best="highest"),
                Column("calibration error", "ece", best="lowest"),
            ],
            cells=[f"{name}, examined" for name in names],
            caption="Corrupted: each image under one of the common corruptions, at severity 3.",
            heading="recipe",
        ),
        cells.table(
            "Outliers found by max-logit and by reconstruction (AUROC)",
            [
                Column(f"{kind}, {by}", f"{code}{mark}_auroc", best="highest")
                for by, mark in (("max-logit", ""), ("reconstruction", "_rebuilt"))
                for kind, code in (
                    ("noise", "noise"),
                    (study.near, "near"),
                    ("attacked noise", "attacked"),
                )
            ],
            cells=[f"{name}, examined" for name in names],
            caption="50 % is guessing, below it outliers look more like a class than the classes "
            f"do. Attacked noise was moved within {at} so that the largest logit rises. The "
            "reconstruction is that of one autoencoder per seed, whatever the recipe.",
            heading="recipe",
        ),
        cells.table(
            "How far saliency moves under PGD",
            [
                Column("top fifth kept", _stays("attacked"), best="highest"),
                Column("kept under noise", _stays("noise")),
                Column("fooled", "success_share", best="lowest"),
            ],
            cells=[f"{name}, attention" for name in names],
            caption="Of Grad-CAM's map of the true class, the share of the top fifth that stays "
            f"under PGD at {at}, and under noise of the same size. On images that the network "
            "classifies correctly.",
            heading="recipe",
        ),
    )
    return tuple(map(_by_recipe, found))


def _by_recipe(table: Table) -> Table:
    """Return a table whose rows are called as their recipes are, not as their cells."""
    rows = tuple(
        (row[0].model_copy(update={"text": row[0].text.partition(", ")[0]}), *row[1:])
        for row in table.rows
    )
    return table.model_copy(update={"rows": rows})


def _accuracies(study: Hardening, cells: Cells, names: list[str], at: str) -> Table:
    def attacked(attack: str, name: str) -> Cell:
        return Cell(estimate=cells.mean(f"{name}, {attack}", "robust_accuracy"), unit="fraction")

    def certified(name: str) -> Cell | str:
        if name != "IBP":
            return ""
        return Cell(estimate=cells.mean(name, "certified_accuracy"), unit="fraction")

    costs = study.costs()
    more: dict[str, Callable[[str], Cell | str]] = {
        f"under {attack.name}": partial(attacked, attack.name)
        for attack in (*study.judges, *study.course)
    }
    if study.bounded:
        more[f"certified at {at}"] = certified
    more |= {
        "passes per image and epoch": lambda name: str(costs[name]),
        "epochs": lambda name: str(study.epochs(name)),
        "seconds": lambda name: _seconds(cells, name),
        "collapses": lambda name: _collapses(cells, name),
    }
    return cells.table(
        accuracies(study),
        [Column("clean", "test_accuracy", best="highest")],
        cells=names,
        caption=f"Every recipe computes about {study.passes} passes per training image (forward 1, "
        "backward 2, by the image alone 1), short N-FGSM a third of them; the static mix with the "
        "network that it is made on. "
        "Collapses: catastrophic overfitting, by the guard; Fast-AT is only watched. "
        f"{_seen(study)}",
        heading="recipe",
        more=more,
    )


def _stays(under: str) -> Callable[[Result], float]:
    """Return the metric of what stays of a map; it is missing where every map is empty."""
    return lambda run: float(run.metrics.get(f"{under}_overlap", np.nan))


def _seen(study: Hardening) -> str:
    """Return on how many images each column is measured, and what the course's other attacks are
    allowed."""
    threats = {attack.name: attack.threat for attack in study.course}
    told = [f"{name} {budget(own.eps, 'l0')}" for name, own in threats.items() if own.norm == "l0"]
    allowed = f" ({', '.join(told)})" if told else ""
    names = " and ".join(attack.name for attack in study.course)
    clean = "Clean and certified are" if study.bounded else "Clean is"
    return (
        f"{clean} of {_some(study.test_images)} test images per seed; {study.images} of them are "
        f"attacked, by {names} {study.course_images}{allowed}."
    )


def _seconds(cells: Cells, name: str) -> str:
    taken = [float(run.record["seconds"]) for run in cells.finished(name)]
    return f"{np.mean(taken):.0f}" if taken else "no result"


def _collapses(cells: Cells, name: str) -> str:
    runs = [run.metrics["history"] for run in cells.finished(name)]
    if not any("strong_looks" in history for history in runs):
        return ""
    fell = sum(bool(history.get("collapses")) for history in runs)
    return f"{fell} of {len(runs)}"


def _over_budgets(study: Hardening, cells: Cells, names: list[str]) -> Table:
    def attacked(eps: float, name: str) -> Cell:
        found = cells.mean(f"{name}, pgd {budget(eps, 'linf')}", "robust_accuracy")
        return Cell(estimate=found, unit="fraction")

    return cells.table(
        "Accuracy against ε, under PGD",
        [Column("0", "test_accuracy")],
        cells=names,
        caption="20 steps. An accuracy that does not fall to 0 where ε is large masks gradients.",
        heading="recipe",
        more={budget(eps, "linf"): partial(attacked, eps) for eps in study.budgets},
    )


def figures(study: Hardening, cells: Cells) -> tuple[Drawing, ...]:
    """Return the collapse of Fast-AT, input gradients, and accuracy over budgets."""
    return (
        *_collapse(study, cells),
        *_slopes(study, cells),
        *_fronts(study, cells),
    )


def _collapse(study: Hardening, cells: Cells) -> list[Drawing]:
    curves = [
        band
        for array, label in (("fast_looks", "one step"), ("strong_looks", "ten steps"))
        if (band := cells.band("Fast-AT", array, label=label))
    ]
    if len(curves) < 2:
        return []
    runs = cells.finished("Fast-AT")
    fell = sum(bool(run.metrics["history"].get("collapses")) for run in runs)
    return [
        Drawing(
            title="Fast-AT as it trains",
            role="why",
            finding=f"The guard notices a collapse in {fell} of {len(runs)} trainings by Fast-AT",
            caption=f"Accuracy on {study.guard.images} validation images under one step and under "
            f"{study.guard.steps}, at {study.guard.looks} looks an epoch; mean over seeds, and "
            "their range. In a collapse the lines part.",
            svg=draw.inline_svg(
                draw.learning_curves(
                    curves,
                    x_label=f"look, {study.guard.looks} an epoch",
                    y_label="accuracy under attack",
                )
            ),
        )
    ]


def _slopes(study: Hardening, cells: Cells) -> list[Drawing]:
    shown: dict[str, NDArray[Any]] = {}
    for name in recipes(study):
        runs = cells.kept(f"{name}, examined")
        if not runs:
            continue
        arrays = runs[0].arrays
        if not shown:
            shown["image"] = arrays["images"]
        size = np.abs(arrays["slopes"]).max((1, 2, 3), keepdims=True)
        shown[name] = 0.5 + 0.5 * arrays["slopes"] / np.where(size > 0, size, 1)
    if not shown:
        return []
    return [
        Drawing(
            title="Gradients of the loss by the image",
            role="why",
            finding="What each network's loss rises by: grey is nothing, white more light",
            caption="Of the first images of the first seed, each gradient over its largest value. "
            "Of hardened networks it follows the object (Tsipras et al. 2019).",
            svg=draw.inline_svg(rows(shown)),
        )
    ]


def _fronts(study: Hardening, cells: Cells) -> list[Drawing]:
    lines = []
    for colour, name in enumerate(recipes(study)):
        if not cells.kept(name):
            continue
        estimates = [cells.mean(name, "test_accuracy")]
        estimates += [
            cells.mean(f"{name}, pgd {budget(eps, 'linf')}", "robust_accuracy")
            for eps in study.budgets
        ]
        lines.append(heroes.Line(name, [0.0, *study.budgets], estimates, colour, colour // 6))
    if not lines:
        return []
    ticks = [(0.0, "0"), *((eps, budget(eps, "linf")) for eps in study.budgets)]
    return [
        Drawing(
            title="Accuracy against ε",
            caption="Under PGD with 20 steps; mean over seeds with its 95 % interval.",
            svg=draw.inline_svg(
                heroes.measured_lines(lines, ticks, width=8.5, x_label="ε", y_label="accuracy")
            ),
            beside="Accuracy against ε, under PGD",
        )
    ]


def summary(study: Hardening, cells: Cells) -> str:
    """Return the accuracies under the judging attack, natural and by PGD-AT."""
    found = [
        f"{name} {cells.mean(f'{name}, {study.judge}', 'robust_accuracy').percent()}"
        for name in ("natural", "PGD-AT")
        if cells.kept(f"{name}, {study.judge}")
    ]
    return f"Under {study.judge}: {', '.join(found)}." if found else "Nothing was attacked."


def notes(study: Hardening) -> tuple[str, ...]:
    """Return what a reader must know."""
    return (
        "Equal compute, not equal epochs: a recipe whose steps are cheap makes more of them. "
        "With more compute for all the order may be another.",
        f"Claims are about networks of this one architecture on {study.data}, each trained on "
        f"{_some(study.train_images)} training images, and about its test images: "
        f"{_some(study.test_images)} clean, {study.images} under {study.judge}, per seed. Networks "
        "are small: levels are below published ones, and what is compared is recipes.",
        "Whether the static mix defends (hardening.defends, hardening.little) was asked after the "
        "published seeds, 0 to 7 on MNIST, had been seen: on these it is exploratory.",
        "In training TRADES and N-FGSM attack the network in eval mode, as PGD-AT does here. What "
        "the guard computes at its looks is not counted among the passes.",
        "Reconstruction depends on how a classifier was trained in one column alone: attacked "
        "noise was moved against that classifier. More on saliency is measured in `attention`.",
        "Certified is what interval bounds prove: of the same images no attack can leave less.",
    )


def _some(images: int | None) -> str:
    return f"{images:,}" if images else "all"
