"""The galleries of the study `attention`: images, maps and what the network says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.attacks.base import Attack
from assay.explain.shift import HARDLY
from assay.report import figures as draw
from assay.report.numerals import budget
from assay.report.result import Drawing
from assay.runs.entry import Result
from assay.studies.cells import Cells
from assay.studies.subjects import NATURAL, cell
from assay.tasks.saliency_shift import SHOWN_AS
from assay.tasks.train import settings, split

if TYPE_CHECKING:
    from assay.studies.attention.study import Attention


def named(attack: Attack) -> str:
    """Return what an attack at its budget is called: "pgd 8/255"."""
    return f"{attack.name} {budget(attack.threat.eps, attack.threat.norm)}"


def attack_cells(study: Attention, network: str) -> dict[str, str]:
    """Return the cells of a network by the attack's name and budget."""
    names = [named(attack) for attack in study.attacks]
    return {name: cell(name, network) for name in names}


COMMON = "The same images under every attack"
"""Title of the gallery of images that were drawn at random."""
ENDS = "Where saliency moved most, and where by the median"
"""Title of the gallery of one attack."""
SHARED = 4
"""How many images the first of them shows at most."""


def galleries(study: Attention, cells: Cells) -> list[Drawing]:
    """Return images drawn at random under every attack on the natural network, and for each network
    under the strongest attack those whose map moved most, those of the median and random ones, all
    of the first seed."""
    found = _common(study, cells)
    for network in study.networks():
        strongest = study.strongest() or named(study.attacks[-1])
        for run in cells.kept(cell(strongest, network))[:1]:
            rows = [
                (run, int(row))
                for kind in ("moved most", "median", "drawn at random")
                for row in _rows_of(run, kind)[: max(1, study.kept // 3)]
            ]
            found.append(
                Drawing(
                    title=f"{ENDS}: {strongest}, {network} network",
                    caption=f"Of {run.metrics['n_success']} correctly classified images those "
                    "whose maps overlap least, those in the middle of the order, and some drawn "
                    f"at random, seed {run.trial.seed}. {LEGEND}",
                    svg=_pictures(rows, kind=True),
                )
            )
    return found


def _common(study: Attention, cells: Cells) -> list[Drawing]:
    """Return the map of the same few images under every attack on the natural network."""
    runs = {
        name: run
        for name, own in attack_cells(study, NATURAL).items()
        for run in cells.kept(own)[:1]
    }
    if not runs:
        return []
    first, *_ = runs.values()
    rows = {
        name: _rows_of(run, "drawn at random")[:SHARED]
        for name, run in runs.items()
        if run.trial.seed == first.trial.seed
    }
    classes, own = _classes(first), rows[next(iter(rows))]
    captions = [
        [
            _predicted(first.arrays["shown_before"][one], classes),
            *(
                f"{_predicted(runs[name].arrays['shown_after'][rows[name][k]], classes)}\n"
                f"{_kept(runs[name], int(rows[name][k]))}"
                for name in rows
            ),
        ]
        for k, one in enumerate(own)
    ]
    return [
        Drawing(
            title=COMMON,
            caption="Correctly classified images drawn at random, first seed, natural network; all "
            "maps are of the true class. The line bounds the top fifth of the map of the clean "
            "image, on all of them. Above each map: what the network predicts, with which "
            "probability, and how much of the top fifth stays.",
            svg=draw.inline_svg(
                draw.attention_grid(
                    first.arrays["shown_image"][own],
                    first.arrays["shown_map_before"][own],
                    [runs[name].arrays["shown_map_after"][rows[name]] for name in rows],
                    names=[_label(first, int(one), classes) for one in own],
                    headings=list(rows),
                    captions=captions,
                )
            ),
        )
    ]


def _rows_of(run: Result, kind: str) -> NDArray[np.intp]:
    """Return the rows of what a trial kept for this reason."""
    return np.flatnonzero(run.arrays["shown_as"] == SHOWN_AS.index(kind))


LEGEND = (
    "Both maps are of the true class; a line bounds their top fifth on the images. Above: what the "
    "network predicts, and with which probability."
)


def hardly(study: Attention, cells: Cells) -> list[Drawing]:
    """Return images of all attacks that were fooled although their saliency map hardly moved."""
    rows = []
    for own in attack_cells(study, NATURAL).values():
        for run in cells.kept(own)[:1]:
            least = [(run, int(row)) for row in _rows_of(run, "hardly moved")]
            rows += [one for one in least if _overlap(*one) >= HARDLY]
    if not rows:
        return []
    rows.sort(key=lambda one: -_overlap(*one))
    return [
        Drawing(
            title="Fooled, though the saliency map hardly moved",
            caption="Of all attacks on the natural network those fooled images whose maps overlap "
            f"most ({100 * HARDLY:.0f} % at least), first seed: evidence at the same place is no "
            f"proof of the same evidence. {LEGEND}",
            svg=_pictures(rows[: study.kept]),
        )
    ]


def _overlap(run: Result, row: int) -> float:
    return float(run.arrays["attacked_overlap"][run.arrays["shown"][row]])


def _kept(run: Result, row: int) -> str:
    overlap = _overlap(run, row)
    return f"overlap {100 * overlap:.0f} %" if np.isfinite(overlap) else "no map"


def _classes(run: Result) -> tuple[str, ...]:
    return split(settings(run.trial.needs[0]), "test").classes


def _label(run: Result, row: int, classes: tuple[str, ...]) -> str:
    return classes[int(run.arrays["labels"][run.arrays["shown"][row]])]


def _pictures(rows: list[tuple[Result, int]], *, kind: bool = False) -> str:
    """Return pictures of the given rows of what trials kept, named by why they are shown (`kind`)
    or by the attack."""
    classes = _classes(rows[0][0])
    names, captions = [], []
    for run, row in rows:
        what = SHOWN_AS[int(run.arrays["shown_as"][row])] if kind else run.trial.label
        names.append("\n".join([what, _label(run, row, classes), _kept(run, row)]))
        captions.append(
            (
                _predicted(run.arrays["shown_before"][row], classes),
                _predicted(run.arrays["shown_after"][row], classes),
            )
        )
    held = {
        key: np.stack([run.arrays[f"shown_{key}"][row] for run, row in rows])
        for key in ("image", "attacked", "map_before", "map_after")
    }
    return draw.inline_svg(
        draw.attention_rows(
            held["image"],
            held["attacked"],
            held["map_before"],
            held["map_after"],
            names=names,
            captions=captions,
        )
    )


def _predicted(probabilities: NDArray[Any], classes: tuple[str, ...]) -> str:
    if not np.isfinite(probabilities).all():
        return "no answer"
    best = int(probabilities.argmax())
    return f"{classes[best]}, {100 * probabilities[best]:.0f} %"
