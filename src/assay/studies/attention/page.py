"""What the page of the study `attention` shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay import stats
from assay.report import figures as draw
from assay.report.numerals import bare
from assay.report.record import Unit
from assay.report.result import Cell, Drawing, Table
from assay.runs.entry import Result
from assay.stats.matching import STRATA
from assay.studies.answers import Scale, Wording, compose, points
from assay.studies.attention.galleries import attack_cells, galleries, hardly
from assay.studies.cells import Cells, Column
from assay.studies.subjects import NATURAL

if TYPE_CHECKING:
    from assay.studies.attention.study import Attention

OVERLAPS = "How much of the top fifth of the map stays"
"""Title of the first table."""
PREDICTED = "Secondary: the attacked image's map is that of the class then predicted"
"""Title of the table of the class then predicted."""
MARGINS = "Successes and failures at equal clean margin"
"""Title of the figure of overlaps against margins."""
FINER = 20
"""Parts that images are also cut into by their clean margin, to see what coarser ones leave."""
MEASURES: tuple[tuple[str, Unit], ...] = (
    ("overlap", "fraction"),
    ("correlation", "number"),
    ("distance", "number"),
    ("entropy", "number"),
    ("gini", "number"),
    ("clinging", "number"),
    ("inside", "number"),
)
HEADINGS = {
    "overlap": "overlap of the top 20 %",
    "correlation": "rank correlation",
    "distance": "centre moved, pixels",
    "entropy": "entropy",
    "gini": "Gini",
    "clinging": "clings to the perturbation",
    "inside": "share inside the object",
}


def tables(study: Attention, cells: Cells) -> tuple[Table, ...]:
    """Return the overlap beside noise baseline and same-class control; every measure; the predicted
    class apart."""
    every = [name for network in study.networks() for name in attack_cells(study, network).values()]
    there = [
        (measure, unit)
        for measure, unit in MEASURES
        if any(f"attacked_{measure}" in run.metrics for name in every for run in cells.kept(name))
    ]

    def measured(what: str) -> list[Column]:
        return [Column(HEADINGS[measure], f"{what}_{measure}", unit) for measure, unit in there]

    accuracy = ", ".join(
        f"{name} {cells.mean(f'{name} network', 'test_accuracy').percent()}"
        for name in study.networks()
    )
    return (
        cells.table(
            OVERLAPS,
            [
                Column("fooled", "success_share"),
                Column("under the attack", "attacked_overlap"),
                Column("the same, emptied maps as 0", _all_overlap),
                Column("under noise of the same size", "noise_overlap"),
                Column("another image of the class", "mate_overlap"),
            ],
            cells=every,
            caption="Intersection over union of the top 20 % of pixels of two maps of the true "
            "class: 100 % where nothing moved, 11 % by chance. Only images that are classified "
            f"correctly (test accuracy: {accuracy}). Noise is as large as the budget allows: the "
            "noise baseline. Another image of the same class is what could be expected of "
            "unrelated pictures: the same-class control. Where an attack leaves no evidence "
            "for the true class there are no two maps to compare: such pairs are left out, and "
            "counted as moved altogether in the column beside.",
            heading="attack and budget",
            more={"empty maps, clean / attacked": lambda name: _empty(cells, name)},
        ),
        cells.table(
            "Every measure under attack, for the true class",
            measured("attacked"),
            cells=every,
            caption=READING,
            heading="attack and budget",
        ),
        cells.table(
            "The same under noise of the same size",
            measured("noise"),
            cells=every,
            caption="What a change of that size does to a map that no attacker has chosen.",
            heading="budget of",
        ),
        cells.table(
            PREDICTED,
            measured("predicted"),
            cells=every,
            caption="A successful attack changes the class that is explained, and the map moves by "
            "that alone: these figures are no measure of where the network looks for one class.",
            heading="attack and budget",
        ),
        cells.table(
            "Successes against failures",
            [],
            cells=every,
            caption="By how many points less of the top fifth stays where the attack succeeded "
            "than where it failed. At equal margin: within parts of equal size by the lead of the "
            "true class on the clean image; where more parts say less, the margin explains more. "
            "Mean over seeds.",
            heading="attack and budget",
            more={
                "fooled / not": lambda name: _counts(cells, name),
                "as they are": lambda name: _points(cells, name, _raw_gap),
                f"at equal clean margin, {STRATA} parts": lambda name: _points(
                    cells, name, lambda run: run.metrics["gap"]
                ),
                f"{FINER} parts": lambda name: _points(cells, name, _finer_gap),
            },
        ),
    )


READING = (
    "Means over images, then over seeds. Rank correlation: Spearman's, 1 where nothing moved. "
    "Entropy and Gini: by how much they rose; entropy up and Gini down is a map that scatters, the "
    "other way round one that concentrates. Clings: by how much more of the perturbation's energy "
    "lies where the map is high, over its mean everywhere; above 0 the map went to the "
    "perturbation (0 by construction where every pixel has moved by as much)."
)


def figures(study: Attention, cells: Cells) -> tuple[Drawing, ...]:
    """Return overlap against clean margin, and the galleries."""
    return (
        *_margins(study, cells),
        *galleries(study, cells),
        *hardly(study, cells),
    )


def answer(study: Attention, claims: Sequence[stats.Claim]) -> str:
    """Return what the verdicts answer."""
    under, lost = study.strongest() or "attack", points("overlap lost")
    return compose(
        claims,
        {
            "attention.moves": Wording(
                "Attacks move the saliency map further than noise of the same size",
                "Attacks move the saliency map no further than noise of the same size",
                "attacks move the saliency map further than noise of the same size",
                lost,
            ),
            "attention.steadier": Wording(
                f"Adversarial training keeps the saliency map steadier under {under}",
                f"Adversarial training does not keep the saliency map steadier under {under}",
                f"adversarial training keeps the saliency map steadier under {under}",
                points("overlap"),
            ),
            "attention.scatters": Wording(
                "Under attack the map scatters, as the course says",
                "Under attack the map does not scatter",
                "the map scatters under attack",
                points("the greatest entropy"),
            ),
            "attention.clings": Wording(
                "Under few-pixel attacks the map clings to the perturbation, as the course says",
                "Under few-pixel attacks the map does not cling to the perturbation",
                "the map clings to the perturbation of few-pixel attacks",
                CLINGING,
            ),
            "attention.success": Wording(
                "Attacks that succeed move the saliency map further than attacks that fail",
                "Attacks that succeed move the saliency map no further than attacks that fail",
                "attacks that succeed move the saliency map further than attacks that fail",
                lost,
            ),
            "attention.course-class": Wording(
                "Explained for the class that is then predicted, as the course did, a map seems to "
                "move further than it does for the true class",
                "Explained for the class that is then predicted, as the course did, a map seems to "
                "move no further than for the true class",
                "a map seems to move further when the class is explained that is then predicted",
                points("overlap"),
            ),
            "attention.course-scatters": Wording(
                "Explained so, the map scatters, as the course says",
                "Explained so, the map does not scatter",
                "the map scatters when it is explained so",
                points("the greatest entropy"),
            ),
        },
    )


CLINGING = Scale(
    "{value} beside a random map's 0 ({low} to {high})",
    lambda x: bare(x, "number"),
    "{delta} would matter",
)
"""The scale of how much more of the perturbation is where the map is high than elsewhere."""


def summary(study: Attention, cells: Cells) -> str:
    """Return what is left of the top fifth of the map under the strongest attack and noise."""
    name = study.strongest() or next(iter(attack_cells(study, NATURAL)))
    if not cells.kept(name):
        return "Nothing was attacked and explained."
    under, noise = (cells.mean(name, f"{what}_overlap").value for what in ("attacked", "noise"))
    return (
        f"Under {name} {100 * under:.0f} % of the top fifth of the map stays, under noise of that "
        f"size {100 * noise:.0f} %."
    )


COURSE = (
    "The attack is the course's, FGSM of 0.06 in normalised units (4/255) towards class 6, whose "
    "own images are left out; but attacked images stay in [0, 1], as pictures do."
)


def notes(study: Attention) -> tuple[str, ...]:
    """Return what a reader must know."""
    return (
        *((COURSE,) if study.course else ()),
        "The course showed Grad-CAM for the class that is predicted, of ten images under one "
        "attack in normalised units that were not clipped. Here the true class is explained on "
        "both images, and what the predicted one's map shows stands apart.",
        f"Saliency is what {study.explainer.name} shows: an explanation of a layer's evidence, not "
        "of all that the network computes. `assay explain` measures how faithful it is to a model.",
        "All attacks make all their steps. No attack was made to move the map: that it does "
        "is a side effect.",
    )


def _empty(cells: Cells, name: str) -> str:
    runs = cells.kept(name)
    if not runs:
        return "no result"
    counts = [sum(run.metrics[f"{what}_empty"] for run in runs) for what in ("clean", "attacked")]
    return f"{counts[0]} / {counts[1]} of {sum(run.metrics['n_success'] for run in runs)}"


def _counts(cells: Cells, name: str) -> str:
    fooled = [run.arrays["fooled"] for run in cells.kept(name)]
    return f"{sum(f.sum() for f in fooled)} / {sum((~f).sum() for f in fooled)}"


def _raw_gap(run: Result) -> float | None:
    fooled, overlap = run.arrays["fooled"], run.arrays["attacked_overlap"]
    known = np.isfinite(overlap)
    one, other = overlap[known & fooled], overlap[known & ~fooled]
    return float(other.mean() - one.mean()) if len(one) and len(other) else None


def _finer_gap(run: Result) -> float | None:
    arrays = run.arrays
    lost = 1 - arrays["attacked_overlap"]
    gap, weight = stats.stratified_difference(lost, arrays["fooled"], arrays["lead"], FINER)
    return gap if weight else None


def _all_overlap(run: Result) -> float:
    """Return the mean overlap under attack, 0 where the attack emptied a map that noise left."""
    overlap = run.arrays["attacked_overlap"]
    emptied = np.isnan(overlap) & np.isfinite(run.arrays["noise_overlap"])
    return float(np.where(emptied, 0.0, overlap)[emptied | np.isfinite(overlap)].mean())


def _points(cells: Cells, name: str, value: Callable[[Result], float | None]) -> Cell | str:
    """Return the mean over seeds of a difference of fractions, where any seed has it."""
    found = [gap for run in cells.kept(name) if (gap := value(run)) is not None]
    if not found:
        return "no two groups"
    return Cell(estimate=stats.mean_interval(found, "seeds"), unit="points")


def _margins(study: Attention, cells: Cells) -> list[Drawing]:
    """Return the overlap of fooled and other images against their clean margin."""
    panels = []
    for name in attack_cells(study, NATURAL).values():
        runs = cells.kept(name)
        if not runs:
            continue
        lead, overlap, fooled = (
            np.concatenate([run.arrays[key] for run in runs])
            for key in ("lead", "attacked_overlap", "fooled")
        )
        series = []
        for label, group in (("fooled", fooled), ("not fooled", ~fooled)):
            x, y, low, high = _binned(lead, overlap, group)
            if len(x):
                series.append(draw.Series(label, x, y, low, high, colour=int(label != "fooled")))
        panels.append(draw.Panel(name, series))
    if not panels:
        return []
    return [
        Drawing(
            title=MARGINS,
            caption="Overlap of the top 20 % against the lead of the true class on the clean image "
            "(logits), in five parts of equal size, all seeds of the natural network together; "
            "the band is one standard error over images.",
            svg=draw.inline_svg(
                draw.panels(
                    [panels[k : k + 3] for k in range(0, len(panels), 3)],
                    x_label="clean margin, logits",
                    y_label="overlap",
                    fraction=True,
                )
            ),
        )
    ]


def _binned(
    lead: NDArray[Any], overlap: NDArray[Any], group: NDArray[Any]
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return margin, mean overlap and its standard error's ends, a point for each part that has
    at least five images of the group."""
    x, y, low, high = [], [], [], []
    for part in np.array_split(np.argsort(lead, kind="stable"), STRATA):
        own = part[group[part] & np.isfinite(overlap[part])]
        if len(own) >= 5:
            error = float(overlap[own].std(ddof=1) / np.sqrt(len(own)))
            x.append(float(lead[part].mean()))
            y.append(float(overlap[own].mean()))
            low.append(y[-1] - error)
            high.append(y[-1] + error)
    return x, y, low, high
