"""What leads the page of the study `attacks`, and what says why: drawn of its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from assay.report import figures as draw
from assay.report.heroes import Line, hero, measured_lines, said, seen
from assay.report.numerals import budget, norm_name
from assay.report.record import EstimateModel
from assay.report.result import Cell, Drawing, StudyResult
from assay.report.style import colour_of
from assay.studies.attacks import course
from assay.studies.attacks.page import done_to
from assay.studies.subjects import NATURAL, cell

if TYPE_CHECKING:
    from assay.studies.attacks.study import Attacks


def figures_of(study: Attacks, result: StudyResult) -> list[Drawing]:
    """Return success against budget, one figure per norm, and how well what is made on one network
    transfers to others."""
    found = course.figures_of(result)
    for network in study.networks():
        table = result.table(done_to(network))
        fooled = table.column("fooled") if table else {}
        for norm in ("linf", "l0"):
            found += _against_budget(study, fooled, norm, network)
    for drawing in result.figures:
        if drawing.title.startswith("One ") and drawing.title.endswith(" under every attack"):
            found += seen(drawing)
            break
    return [*found, *_transferred(result)]


def _against_budget(
    study: Attacks, fooled: Mapping[str, EstimateModel], norm: str, network: str
) -> list[Drawing]:
    """Return the share of fooled images at each budget: that of L∞ on the natural network leads."""
    scale, unit = (255, "/255") if norm == "linf" else (1, " pixels")
    runs = [
        run
        for run in study.runs()
        if run.attack.threat.norm == norm
        and not run.attack.minimum_norm
        and cell(run.name, network) in fooled
    ]
    lines, at_last = [], {}
    for place, method in enumerate(dict.fromkeys(run.method for run in runs)):
        own = [run for run in runs if run.method == method]
        shares = [fooled[cell(run.name, network)] for run in own]
        plain = method.split()[0]
        plain = plain.upper() if plain in ("fgsm", "pgd") else plain
        places = [run.eps * scale for run in own]
        lines.append(Line(plain, places, shares, colour_of(plain, place)))
        shown = [run for run in own if run.eps == study.at] or own[:1]
        at_last[plain] = (fooled[cell(shown[0].name, network)], budget(shown[0].eps, norm))
    ticks = sorted({place for line in lines for place in line.x})
    if not lines or (study.course and len(ticks) == 1):  # the table says it
        return []
    first = next(iter(at_last.values()))[1]
    best = sorted(at_last.items(), key=lambda one: -(one[1][0].value or 0))
    told = ", ".join(f"{method} {said(share)}" for method, (share, _) in best[:3])
    hardened = "" if network == NATURAL else ", network trained against attacks"
    lead = norm == "linf" and network == NATURAL and not study.course
    drawing = hero(
        f"Success against budget, {norm_name(norm)}{hardened}",
        f"Fooled at {first}{hardened}: {told}",
        "Share of the correctly classified images that are fooled, mean over seeds with its 95 % "
        "interval; a mark at every budget that was measured. Noise is the baseline: what it fools "
        "is no attack's merit.",
        lambda width: measured_lines(
            lines,
            [(place, f"{place:g}") for place in ticks],
            width=width,
            x_label=f"budget, {'grey levels of 255' if unit == '/255' else 'pixels'}",
            y_label="fooled",
            log_x=True,
        ),
    )
    return [drawing if lead else drawing.model_copy(update={"role": "why"})]


def _transferred(result: StudyResult) -> list[Drawing]:
    """Return the matrix of transfer in colours, and its median."""
    table = next((one for one in result.tables if one.title.startswith("Transfer of PGD")), None)
    if table is None:
        return []
    shares = np.array([[_share(cell) for cell in row[1:]] for row in table.rows])
    others = shares[~np.eye(len(shares), dtype=bool)]
    if not np.isfinite(others).any():
        return []
    low, middle, high = np.nanpercentile(others, [0, 50, 100])
    return [
        Drawing(
            title="Transfer from network to network",
            role="why",
            finding="What was made on one network fools another on a median of "
            f"{100 * middle:.0f} % of its images",
            caption=f"{table.title}: between two networks {100 * low:.0f} to {100 * high:.0f} %; "
            "on the diagonal each network under its own.",
            svg=draw.inline_svg(
                draw.heat_map(
                    shares,
                    x=list(range(len(shares))),
                    y=list(table.columns[1:]),
                    x_label="evaluated on (in the order of the rows)",
                    y_label="made on",
                    bar_label="fooled",
                    log=False,
                    limits=(0.0, 1.0),
                )
            ),
        )
    ]


def _share(cell: Cell) -> float:
    """Return the number of a cell of a matrix, which a wide one has as a text."""
    if cell.estimate is not None:
        return math.nan if cell.estimate.value is None else cell.estimate.value
    try:
        return float(cell.text.removesuffix(" %")) / 100
    except ValueError:
        return math.nan
