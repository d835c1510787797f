"""The figures of the study `ood`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from assay import stats
from assay.report import figures as draw
from assay.report.curves import log_axis
from assay.report.heroes import Dot, dots, hero
from assay.report.numerals import Doubtful, budget
from assay.report.result import Drawing, StudyResult
from assay.report.style import DASHES, INK, MARKERS, SERIES, grid, percent_axis, picture, styled
from assay.runs.entry import Result
from assay.studies.cells import Cells
from assay.studies.ood.claims import called
from assay.studies.ood.measures import detectors, fewest, measured, share

if TYPE_CHECKING:
    from assay.studies.ood.study import OOD

SHOWN = ("max-softmax", "gen", "knn", "relative-mahalanobis", "reconstruction", "complexity")
"""Detectors in the figures that have no room for all."""
BINS = 40


def figures(study: OOD, cells: Cells) -> tuple[Drawing, ...]:
    """Return the figures that there are results for."""
    natural = next(iter(study.networks()))
    runs = cells.kept(natural)
    if not runs:
        return ()
    first = runs[0]
    shown = [name for name in SHOWN if name in first.metrics["detectors"]]
    kinds = _leading_kinds(study)

    def aurocs(name: str) -> list[stats.Estimate]:
        return [
            share(cells, natural, measured("auroc", name, kind), fewest(kind)) for kind in kinds
        ]

    return (
        _leading([(name, aurocs(name)) for name in detectors(cells, natural)], kinds),
        *_complexity(study, first),
        _histograms(first, shown, kinds),
        *(_roc(runs, shown, kind) for kind in kinds[:2]),
        _coverage(runs, shown),
        _fooling(first),
        *_reconstructions(study, first),
        *_moved(study, cells),
    )


def figures_of(study: OOD, result: StudyResult) -> list[Drawing]:
    """Return AUROC by detector, from the table of the networks that are not trained for it."""
    table = result.table(f"AUROC, trained by {next(iter(study.networks()))}")
    if table is None:
        return []
    kinds = _leading_kinds(study)
    columns = [table.column(kind) for kind in kinds]
    names = [name for name in columns[0] if all(name in column for column in columns)]
    found = [(name, [column[name] for column in columns]) for name in names]
    return [_leading(found, kinds)] if found else []


def _leading_kinds(study: OOD) -> list[str]:
    """Return the nearest outliers, photographs and the furthest, of those that are asked for."""
    far = next((kind for kind in ("uniform-noise", "letters") if kind in study.outliers), "")
    return list(
        dict.fromkeys(kind for kind in (study.near, "clothing", far) if kind in study.outliers)
    )


def _leading(found: Sequence[tuple[str, Sequence[Doubtful]]], kinds: Sequence[str]) -> Drawing:
    """Return AUROC by detector: of each the name, and the values by kind."""
    rows = [
        (
            name,
            [
                Dot(called(kind), value, colour)
                for colour, (kind, value) in enumerate(zip(kinds, values, strict=True))
            ],
        )
        for name, values in found
    ]
    rows.sort(key=lambda row: -np.nan_to_num(row[1][0].estimate.value or 0.0))
    best, worst = rows[0], rows[-1]

    def said(row: tuple[str, list[Dot]]) -> str:
        return f"{row[0]} {100 * float(row[1][0].estimate.value or 0):.0f} %"

    return hero(
        "AUROC by detector",
        f"On {called(kinds[0])}, AUROC goes from {said(worst)} to {said(best)}",
        f"Mean over networks with its 95 % interval, by kind, in the order of "
        f"{called(kinds[0])}. "
        "At 50 % a score is a coin; below, outliers look more normal than test images do.",
        lambda width: dots(rows, width=width, x_label="AUROC", references=((0.5, "a coin"),)),
    )


def _row(run: Result, name: str, kind: str) -> NDArray[np.float64]:
    scores = run.arrays[f"scores_{kind}"][run.metrics["detectors"].index(name)]
    return np.asarray(scores, dtype=np.float64)


def _complexity(study: OOD, run: Result) -> list[Drawing]:
    """Return the reconstruction score of images against their complexity."""
    if not {"reconstruction", "complexity"} <= set(run.metrics["detectors"]):
        return []
    kinds = [
        kind
        for kind in ("in", study.near, "clothing", "letters", "flat", "uniform-noise")
        if kind == "in" or kind in study.outliers
    ]
    every = [(_row(run, "complexity", kind), _row(run, "reconstruction", kind)) for kind in kinds]
    x, y = (np.concatenate(values) for values in zip(*every, strict=True))
    order = float(spearmanr(x, y).statistic)
    with styled():
        figure = picture(6.4, 4.2)
        axes = figure.add_subplot()
        for place, (kind, (bits, error)) in enumerate(zip(kinds, every, strict=True)):
            few = slice(0, 150)
            axes.plot(
                bits[few],
                np.maximum(error[few], 1e-6),
                MARKERS[place],
                color=SERIES[place],
                alpha=0.5,
                markersize=3,
                markeredgewidth=0,
                label="test images" if kind == "in" else called(kind),
            )
        axes.set(xlabel="bits per value as a PNG", ylabel="squared error per value")
        log_axis(axes)
        grid(axes)
        axes.legend(frameon=False, labelcolor=INK, markerscale=2, fontsize=8)
    return [
        Drawing(
            title="Reconstruction against complexity",
            role="why",
            finding=f"Reconstruction and length order images alike: rank correlation {order:.2f}",
            caption="Images of the first network's sets. An autoencoder keeps what is smooth and "
            "loses what is fine, so noise, which is all fine, is easily told, and a photograph of "
            "something else, no more detailed than those it learned from, is not.",
            svg=draw.inline_svg(figure),
        )
    ]


def _histograms(run: Result, shown: Sequence[str], kinds: Sequence[str]) -> Drawing:
    with styled():
        figure = picture(7.2, 1.5 * len(shown) + 0.3)
        grid_of = figure.subplots(len(shown), len(kinds), squeeze=False)
        for axes_row, name in zip(grid_of, shown, strict=True):
            inside = _row(run, name, "in")
            every = np.concatenate([inside, *(_row(run, name, kind) for kind in kinds)])
            low, high = np.quantile(every, [0.002, 0.998])
            edges = np.linspace(low, high, BINS + 1)
            if edges[0] == edges[-1]:
                edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, BINS + 1)
            for axes, kind in zip(axes_row, kinds, strict=True):
                right = run.arrays["correct"].astype(bool)
                sets = (
                    (inside[right], SERIES[0], "test, right"),
                    (inside[~right], SERIES[2], "test, wrong"),
                    (_row(run, name, kind), SERIES[1], "outliers"),
                )
                for values, colour, label in sets:
                    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
                    axes.stairs(counts / max(1, len(values)), edges, color=colour, label=label)
                cut = run.metrics["threshold"][name]
                axes.axvline(cut, color=INK, linewidth=1.0, linestyle=DASHES[1], alpha=0.7)
                axes.set(yticks=[], xlim=(edges[0], edges[-1]))
                axes.tick_params(labelsize=7)
                if axes in grid_of[0]:
                    axes.set_title(kind, fontsize=9)
            axes_row[0].set_ylabel(name, fontsize=7)
        handles, labels = grid_of[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return Drawing(
        title="Scores",
        caption="Of the first network: test images that it gets right, those that it gets wrong, "
        "and outliers, each as a share of its own set; dashed: the calibrated threshold.",
        svg=draw.inline_svg(figure),
    )


def _roc(runs: Sequence[Result], shown: Sequence[str], kind: str) -> Drawing:
    at = np.geomspace(1e-3, 1, 120)
    with styled():
        figure = picture(7.2, 3.7)
        linear, log = figure.subplots(1, 2)
        for place, name in enumerate(shown):
            curves = []
            for run in runs:
                if name in run.metrics["detectors"]:
                    fpr, tpr, _ = stats.roc_curve(_row(run, name, "in"), _row(run, name, kind))
                    curves.append(np.interp(at, fpr, tpr))
            mean = np.mean(curves, axis=0)
            for axes in (linear, log):
                axes.plot(at, mean, color=SERIES[place % 7], label=name)
        for axes in (linear, log):
            axes.plot(at, at, color=INK, linewidth=1.0, linestyle=DASHES[2], alpha=0.6)
            axes.set(ylim=(-0.01, 1.01), xlabel="test images called outliers")
            percent_axis(axes, "y")
            grid(axes)
        log.set_xscale("log")
        log.set_xticks([0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"])
        percent_axis(linear, "x")
        linear.set_ylabel("outliers found")
        handles, labels = linear.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return Drawing(
        title=f"ROC on {kind}",
        caption="Mean over networks, on a linear and on a logarithmic axis: whoever may turn away "
        "one image in a hundred reads the right one.",
        svg=draw.inline_svg(figure),
        beside="AUROC, trained by cross-entropy",
    )


def _coverage(runs: Sequence[Result], shown: Sequence[str]) -> Drawing:
    at = np.linspace(0.05, 1, 96)
    with styled():
        figure = picture(6.0, 3.6)
        axes = figure.add_subplot()
        for place, name in enumerate(shown):
            curves = []
            for run in runs:
                if name in run.metrics["detectors"]:
                    wrong = ~run.arrays["correct"].astype(bool)
                    kept, risk = stats.risk_coverage(_row(run, name, "in"), wrong)
                    curves.append(np.interp(at, kept, risk))
            axes.plot(at, np.mean(curves, axis=0), color=SERIES[place % 7], label=name)
        axes.set(xlabel="test images kept", ylabel="wrong among them", ylim=(0, None))
        percent_axis(axes, "x")
        percent_axis(axes, "y")
        grid(axes)
        axes.legend(frameon=False, labelcolor=INK, fontsize=8)
    return Drawing(
        title="Risk and coverage",
        caption="The share of mistakes among the test images that are kept, those of the lowest "
        "scores first; mean over networks.",
        svg=draw.inline_svg(figure),
        beside="What rejecting by each score does to the accuracy of what is kept",
    )


def _fooling(run: Result) -> Drawing:
    names = run.metrics["detectors"]
    images = run.arrays["fooling_images"] / np.float32(255)
    rows = {name: images[place] for place, name in enumerate(names)}
    kinds = run.metrics["kinds"]
    most = [
        kinds[np.bincount(run.arrays["fooling_kinds"][place]).argmax()]
        for place in range(len(names))
    ]
    often = max(set(most), key=most.count)
    return Drawing(
        title="The outliers that fool each detector most",
        caption="Of the first network: those with the lowest scores, at most two of a kind, "
        f"corruptions left out. The kind met most often is {often}.",
        svg=draw.inline_svg(draw.rows(rows)),
    )


def _reconstructions(study: OOD, run: Result) -> list[Drawing]:
    made = {
        name: run.arrays[f"shown_{name}"]
        for name in ("conv", "variational")
        if f"shown_{name}" in run.arrays
    }
    if not made:
        return []
    rows = {"image": run.arrays["shown_images"], **made}
    half = len(rows["image"]) // 2 * 2
    return [
        Drawing(
            title="Originals beside reconstructions",
            caption="Two images each of the test set, then of "
            f"{', '.join(study.outliers)}, and what the autoencoders of the first seed make of "
            "them.",
            svg=draw.inline_svg(draw.rows({name: row[:half] for name, row in rows.items()})),
        )
    ]


def _moved(study: OOD, cells: Cells) -> list[Drawing]:
    runs = cells.kept("attack") if study.attacked else []
    if not runs:
        return []
    arrays = runs[0].arrays
    rows = {"as they are": arrays["outliers"] / np.float32(255)}
    rows |= {
        name.removeprefix("moved_"): values / np.float32(255)
        for name, values in arrays.items()
        if name.startswith("moved_")
    }
    return [
        Drawing(
            title="Outliers before and after the attack",
            caption="Of the first network; each row is moved so that one detector finds it normal.",
            svg=draw.inline_svg(draw.rows(rows)),
            beside=f"Attacks of {budget(study.eps, 'linf')} on detectors",
        )
    ]
