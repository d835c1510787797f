"""The tables of the study `ood`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from assay import stats
from assay.data.outliers import KINDS
from assay.report.numerals import budget
from assay.report.result import Cell, Table
from assay.runs.entry import Result
from assay.studies.cells import Cells
from assay.studies.ood.measures import (
    MEASURES,
    Value,
    accuracy,
    detectors,
    fewest,
    in_all,
    measured,
    share,
)
from assay.tasks.outside import HELD_OUT, RAW

if TYPE_CHECKING:
    from assay.studies.ood.study import OOD

OPEN_OOD: dict[str, tuple[str, float, float]] = {
    "max-softmax": ("MSP", 88.0, 90.7),
    "gen": ("GEN", 88.2, 91.4),
    "knn": ("KNN", 90.6, 93.0),
    "relative-mahalanobis": ("RMDS", 89.8, 92.2),
    "vim": ("ViM", 88.7, 93.5),
    "odin": ("ODIN", 82.9, 88.0),
    "ash": ("ASH", 75.3, 78.5),
    "gradnorm": ("GradNorm", 54.9, 57.6),
}
"""OpenOOD v1.5's CIFAR-10: its name, AUROC near (CIFAR-100, Tiny ImageNet), far (MNIST, SVHN,
Textures, Places365), in percent, mean of three networks."""
COVERAGES = (1.0, 0.9, 0.8, 0.5)


def tables(study: OOD, cells: Cells) -> tuple[Table, ...]:
    """Return every table; the first is the one that the others are read beside."""
    plain = study.uncorrupted
    corrupted = [kind for kind in study.outliers if kind not in plain]
    found = [_by_kind(cells, cell, "auroc", plain) for cell in study.networks()]
    natural = next(iter(study.networks()))
    found += [
        _by_kind(cells, natural, measure, plain) for measure in MEASURES if measure != "auroc"
    ]
    if corrupted:
        found.append(
            _by_kind(cells, natural, "auroc", corrupted, "AUROC by severity of corruption")
        )
    found += [
        *_codec(study, cells, natural),
        *_course(cells, natural),
        _confusion(study, cells, natural),
        _rejection(cells, natural),
        *_evaded(study, cells),
        *_published(study, cells, natural),
        _probes(study, cells, natural),
        *_unusable(cells, study.networks()),
    ]
    return tuple(found)


def _by_kind(cells: Cells, cell: str, measure: str, kinds: Sequence[str], title: str = "") -> Table:
    name, means = MEASURES[measure]
    rows = detectors(cells, cell)
    highest = measure != "fpr95"
    best = {
        kind: _best(cells, cell, [measured(measure, row, kind) for row in rows], highest=highest)
        for kind in kinds
    }
    return Table(
        title=title or f"{name}, trained by {cell}",
        columns=("detector", *kinds),
        rows=tuple(
            (
                Cell(text=row),
                *(
                    Cell(
                        estimate=share(cells, cell, measured(measure, row, kind), fewest(kind)),
                        mark="best" if best[kind] == place else None,
                    )
                    for kind in kinds
                ),
            )
            for place, row in enumerate(rows)
        ),
        caption=f"{name}: {means}. Mean over networks with its 95 % interval; the best of each "
        f"kind is marked, and need not be better than the next by more than chance. "
        f"{_upper(accuracy(cells, cell))}.",
    )


def _best(cells: Cells, cell: str, values: Sequence[Value], *, highest: bool) -> int | None:
    means = [cells.mean(cell, value).value for value in values]
    if not means or all(np.isnan(mean) for mean in means):
        return None
    return int(np.nanargmax(means) if highest else np.nanargmin(means))


def _codec(study: OOD, cells: Cells, cell: str) -> list[Table]:
    """Return what is gained by not passing generated outliers through the codec of the set."""
    if not study.raw or study.quality is None:
        return []

    def gain(row: str, kind: str) -> Value:
        with_, without = (measured("auroc", row, k) for k in (kind, kind + RAW))
        return lambda run: without(run) - with_(run)

    return [
        Table(
            title="What is gained by leaving out the codec",
            columns=("detector", *study.raw),
            rows=tuple(
                (
                    Cell(text=row),
                    *(
                        Cell(estimate=cells.mean(cell, gain(row, kind)), unit="points")
                        for kind in study.raw
                    ),
                )
                for row in detectors(cells, cell)
            ),
            caption="AUROC of generated outliers as they are, less that of the same ones as a "
            f"JPEG of quality {study.quality} gives them back, which the images of the classes "
            "have been through. What is above zero is detection of JPEG, not of outliers. "
            f"{_upper(accuracy(cells, cell))}.",
        )
    ]


def _course(cells: Cells, cell: str) -> list[Table]:
    runs = [run for run in cells.kept(cell) if "course" in run.metrics]
    if not runs:
        return []

    def value(name: str) -> Value:
        return lambda run: float(run.metrics["course"][name])

    return [
        Table(
            title="Fake data, as the course did it and with matched preprocessing",
            columns=("preprocessing", "max-logit", "reconstruction"),
            rows=tuple(
                (
                    Cell(text=said),
                    *(
                        Cell(estimate=share(cells, cell, value(f"{one}, {how}"), in_all))
                        for one in ("max-logit", "reconstruction")
                    ),
                )
                for how, said in (
                    ("course", "the course's: both fed [−1, 1], the classifier trained otherwise"),
                    ("matched", "what each was trained on"),
                )
            ),
            caption="AUROC. The course trained its classifier on standardised images and tested it "
            "on images in [−1, 1], and asked an autoencoder that ends in a sigmoid for images in "
            "[−1, 1]; it found 94 % for reconstruction and 59 % for confidence, with one network "
            f"each. {_upper(accuracy(cells, cell))}.",
        )
    ]


def _confusion(study: OOD, cells: Cells, cell: str) -> Table:
    """Return the confusion matrices at the calibrated thresholds, one a row."""
    kinds = [
        study.near,
        *(kind for kind in ("clothing", "uniform-noise") if kind in study.outliers),
    ]
    runs = cells.kept(cell)

    def counted(row: str, kind: str) -> str:
        flagged = sum(run.metrics["flagged"].get(row, {}).get(kind, 0) for run in runs)
        there = sum(run.metrics["counts"][kind] for run in runs if row in run.metrics["flagged"])
        return f"{there - flagged:,} / {flagged:,}"

    names = dict.fromkeys(("in", *kinds))
    return Table(
        title="Confusion matrices at the calibrated threshold",
        columns=("detector", *("test images" if name == "in" else name for name in names)),
        rows=tuple(
            (Cell(text=row), *(Cell(text=counted(row, name)) for name in names))
            for row in detectors(cells, cell)
        ),
        caption="Kept / flagged, summed over networks. The threshold is set by "
        f"{study.calibrated_on:,} validation images so that 95 % of such images are kept; no "
        f"outlier is seen for it. {_upper(accuracy(cells, cell))}.",
    )


def _rejection(cells: Cells, cell: str) -> Table:
    def aurc(row: str) -> Value:
        return lambda run: float(run.metrics["aurc"].get(row, np.nan))

    def right(row: str, coverage: float) -> Value:
        def read(run: Result) -> float:
            if row not in run.metrics["detectors"]:
                return np.nan
            scores = run.arrays["scores_in"][run.metrics["detectors"].index(row)]
            _, risk = stats.risk_coverage(scores, ~run.arrays["correct"].astype(bool))
            return 1 - float(risk[max(0, round(coverage * len(risk)) - 1)])

        return read

    return Table(
        title="What rejecting by each score does to the accuracy of what is kept",
        columns=("detector", "AURC", *(f"{100 * c:g} % kept" for c in COVERAGES)),
        rows=tuple(
            (
                Cell(text=row),
                Cell(estimate=share(cells, cell, aurc(row), fewest())),
                *(Cell(estimate=share(cells, cell, right(row, c), fewest())) for c in COVERAGES),
            )
            for row in detectors(cells, cell)
        ),
        caption="On test images of the classes alone. AURC: the share of mistakes among what is "
        "kept, on the mean over all coverages; lower is better (Geifman & El-Yaniv 2017). A score "
        "that finds outliers need not find mistakes. "
        f"{_upper(accuracy(cells, cell))}.",
    )


def _evaded(study: OOD, cells: Cells) -> list[Table]:
    runs = cells.kept("attack") if study.attacked else []
    if not runs:
        return []
    names = list(dict.fromkeys(name for run in runs for name in run.metrics["attacked"]))

    def value(what: str, name: str, key: str) -> Value:
        def read(run: Result) -> float:
            found = run.metrics[what].get(name, {}).get(key)
            return np.nan if found is None else float(found)

        return read

    columns = (
        ("clean", study.near, f"{study.near}, not moved"),
        ("attacked", study.near, f"{study.near}, moved to look normal"),
        ("adversarial", "blind", "adversarial, blind to it"),
        ("adversarial", "aware", "adversarial, aware of it"),
        ("fooled", "aware", "fooled by the aware"),
    )
    return [
        Table(
            title=f"Attacks of {budget(study.eps, 'linf')} on detectors",
            columns=("detector", *(said for *_, said in columns)),
            rows=tuple(
                (
                    Cell(text=name),
                    *(
                        Cell(
                            estimate=share(
                                cells,
                                "attack",
                                value(what, name, key),
                                lambda _: study.attacked_images,
                            )
                        )
                        for what, key, _ in columns
                    ),
                )
                for name in names
            ),
            caption=f"AUROC against test images that nobody moved. {study.attack_steps} steps of "
            "PGD by the gradient of the detector's own score, on "
            f"{study.attacked_images} images per network. Adversarial: test images that the "
            "network gets wrong, made by its loss alone, or by its loss and the score at once; "
            "fooled is the share of images of which the latter makes such ones.",
        )
    ]


def _published(study: OOD, cells: Cells, cell: str) -> list[Table]:
    there = [name for name in OPEN_OOD if name in detectors(cells, cell)]
    far = [kind for kind in study.uncorrupted if kind not in (study.near, "scrambled")]
    if not there or not far or study.near != HELD_OUT:
        return []

    def mean(row: str) -> Value:
        return lambda run: float(np.mean([measured("auroc", row, kind)(run) for kind in far]))

    return [
        Table(
            title="Beside OpenOOD v1.5 on CIFAR-10",
            columns=("detector", "near, ours", "near, theirs", "far, ours", "far, theirs"),
            rows=tuple(
                (
                    Cell(text=f"{name} ({OPEN_OOD[name][0]})"),
                    Cell(
                        estimate=share(
                            cells, cell, measured("auroc", name, study.near), fewest(study.near)
                        )
                    ),
                    Cell(text=f"{OPEN_OOD[name][1]:.1f} %"),
                    Cell(estimate=share(cells, cell, mean(name), fewest(*far))),
                    Cell(text=f"{OPEN_OOD[name][2]:.1f} %"),
                )
                for name in there
            ),
            caption="Not the same experiment. Theirs: ResNet-18, 100 epochs, 95.1 % accurate on "
            "ten classes; near are CIFAR-100 and Tiny ImageNet, far MNIST, SVHN, Textures and "
            "Places365; means of three networks (Zhang et al. 2023). Ours: "
            f"{accuracy(cells, cell)}; near are the classes held out, far is the mean of "
            f"{', '.join(far)}. AUROC follows accuracy: compare orders, not figures.",
        )
    ]


def _probes(study: OOD, cells: Cells, cell: str) -> Table:
    runs = cells.kept(cell)

    def count(kind: str) -> str:
        return f"{sum(run.metrics['counts'].get(kind, 0) for run in runs):,}"

    def twice(kind: str) -> str:
        found = sum(run.metrics["duplicates"].get(kind, 0) for run in runs)
        return f"{found:,}" if found else "none"

    return Table(
        title="The outliers, and what each probes",
        columns=("kind", "images", "also among images of the classes", "what it probes"),
        rows=tuple(
            (
                Cell(text=kind),
                Cell(text=count(kind)),
                Cell(text=twice(kind)),
                Cell(text=KINDS[kind].probes if kind in KINDS else "Images of the user's own."),
            )
            for kind in study.outliers
        ),
        caption="Images summed over networks. An outlier that is pixel for pixel an image that was "
        "trained on or tested is counted, and stays in.",
    )


def _unusable(cells: Cells, networks: Iterable[str]) -> list[Table]:
    reasons = {
        (name, why)
        for cell in networks
        for run in cells.kept(cell)
        for name, why in run.metrics["failed"].items()
    }
    if not reasons:
        return []
    return [
        Table(
            title="Detectors that could not be used",
            columns=("detector", "why"),
            rows=tuple((Cell(text=name), Cell(text=why)) for name, why in sorted(reasons)),
        )
    ]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
