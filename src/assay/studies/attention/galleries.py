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


def galleries(study: Attention, cells: Cells) -> list[Drawing]:
    """Return the images whose saliency map moved most, for every attack, of the first seed."""
    found = []
    for network in study.networks():
        for name, own in attack_cells(study, network).items():
            if network != NATURAL and name != study.strongest():
                continue
            runs = cells.kept(own)
            if not runs:
                continue
            run = runs[0]
            rows = [(run, int(row)) for row in np.flatnonzero(~run.arrays["hardly"])]
            found.append(
                Drawing(
                    title=f"Where saliency moved most: {name}, {network} network",
                    caption=f"Of {run.metrics['n_success']} correctly classified images those "
                    f"whose maps overlap least, seed {run.trial.seed}. {LEGEND}",
                    svg=_rows(rows[: study.kept]),
                )
            )
    return found


LEGEND = (
    "Both maps are of the true class; a line bounds their top fifth on the images. Above: what the "
    "network predicts, and with which probability."
)


def hardly(study: Attention, cells: Cells) -> list[Drawing]:
    """Return images of all attacks that were fooled although their saliency map hardly moved."""
    rows = []
    for own in attack_cells(study, NATURAL).values():
        for run in cells.kept(own)[:1]:
            hardly = [(run, int(row)) for row in np.flatnonzero(run.arrays["hardly"])]
            rows += [one for one in hardly if _overlap(*one) >= HARDLY]
    if not rows:
        return []
    rows.sort(key=lambda one: -_overlap(*one))
    return [
        Drawing(
            title="Fooled, though the saliency map hardly moved",
            caption="Of all attacks on the natural network those fooled images whose maps overlap "
            f"most ({100 * HARDLY:.0f} % at least), first seed: evidence at the same place is no "
            f"proof of the same evidence. {LEGEND}",
            svg=_rows(rows[: study.kept], attack=True),
        )
    ]


def _overlap(run: Result, row: int) -> float:
    return float(run.arrays["attacked_overlap"][run.arrays["shown"][row]])


def _rows(rows: list[tuple[Result, int]], *, attack: bool = False) -> str:
    """Return pictures of the given rows of what trials kept."""
    first = rows[0][0]
    classes = split(settings(first.trial.needs[0]), "test").classes
    names, captions = [], []
    for run, row in rows:
        label = classes[int(run.arrays["labels"][run.arrays["shown"][row]])]
        overlap = f"overlap {100 * _overlap(run, row):.0f} %"
        names.append("\n".join([run.trial.label, label, overlap] if attack else [label, overlap]))
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
