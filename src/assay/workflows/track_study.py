"""What a tracked study leaves beside the runs of its trials: a run with its claims and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from assay.report.charts import intervals
from assay.report.forest import TITLES
from assay.report.result import Claim, StudyResult
from assay.runs.tracked import Tracking
from assay.runs.trial import Trial
from assay.tasks.trackers import TrialRun

TASK = "judgement"
COLOURS: Mapping[str, int] = {"holds": 2, "equivalent": 2, "does not hold": 1}
"""Index into the palette, by verdict; that of others is 0."""


def write_study(told: Tracking, result: StudyResult, say: Callable[[str], None]) -> bool:
    """Write a study's answer, claims and figures as one run of each tracker that does not have it;
    return whether there was any.

    Every claim is a number with its interval (`claims/CODE`, `claims/CODE/low`, `/high`), all of
    them are drawn as forest plots, and the figures of the page follow where a tracker shows SVG
    (wandb, trackio). A judgement of other values is a run of its own.

    Args:
        told: which trackers, and where they write.
        result: the judged study.
        say: told, once per tracker, what failed.
    """
    run = TrialRun(told, _trial(result), say)
    run.start()
    if not run.runs:
        return False
    text = in_markdown(result)
    drawn = {f"claims/{unit}": raster(plot) for unit, plot in forest_plots(result).items()}
    pages = {f"figures/{one.title}": one.svg for one in result.figures}
    for name in list(run.runs):
        with run.guarded(name):
            SHOW[name](run.runs[name], text, drawn, pages)
    run.close(numbers_of(result), step=0)
    return bool(run.runs)


def _trial(result: StudyResult) -> Trial:
    """Return what the run is known by: the values that were judged."""
    judged = {claim.code: claim.model_dump(mode="json") for claim in result.claims}
    config = {"study": result.study, "preset": result.preset, "claims": judged}
    return Trial(task=TASK, config=config, label=f"claims of {result.study}, {result.preset}")


def numbers_of(result: StudyResult) -> dict[str, float]:
    """Return every estimate and the ends of its interval, those that there are."""
    found: dict[str, float] = {}
    for claim in result.claims:
        if claim.estimate is not None:
            ends = {"": claim.estimate.value, "/low": claim.estimate.low}
            ends["/high"] = claim.estimate.high
            found |= {f"claims/{claim.code}{end}": v for end, v in ends.items() if v is not None}
    return found


def in_markdown(result: StudyResult) -> str:
    """Return the answer, and a table of the claims."""
    rows = "".join(
        f"| {claim.verdict} | `{claim.code}` | {claim.text} |\n" for claim in result.claims
    )
    return f"{result.answer}\n\n| verdict | claim | |\n| --- | --- | --- |\n{rows}"


def forest_plots(result: StudyResult) -> dict[str, Figure]:
    """Return the claims with an estimate as a forest plot for each unit."""
    units: dict[str, list[Claim]] = {}
    for claim in result.claims:
        if claim.estimate is not None and claim.estimate.n:
            units.setdefault(claim.unit, []).append(claim)
    return {
        unit: intervals(
            [(c.code, c.estimate, COLOURS.get(c.verdict, 0)) for c in claims if c.estimate],
            TITLES[claims[0].unit].partition(",")[0],
            unit=claims[0].unit,
        )
        for unit, claims in units.items()
    }


def raster(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as RGB, uint8 (height, width, 3)."""
    png = BytesIO()
    figure.savefig(png, format="png", facecolor="white", dpi=120)
    png.seek(0)
    return (imread(png)[..., :3] * 255).round().astype(np.uint8)


Images = Mapping[str, NDArray[np.uint8]]
Pages = Mapping[str, str]


def _in_tensorboard(run: Any, text: str, images: Images, pages: Pages) -> None:
    del pages  # it shows no SVG
    run.writer.add_text("answer", text, 0)
    for name, image in images.items():
        run.writer.add_image(name, image, 0, dataformats="HWC")


def _in_wandb(run: Any, text: str, images: Images, pages: Pages) -> None:
    import wandb

    shown: dict[str, Any] = {name: wandb.Image(image) for name, image in images.items()}
    for name, page in {"answer": f"<pre>{escape(text)}</pre>", **pages}.items():
        shown[name] = wandb.Html(page, inject=False)
    run.log(shown, step=0)


def _in_trackio(run: Any, text: str, images: Images, pages: Pages) -> None:
    import trackio

    shown: dict[str, Any] = {"answer": trackio.Markdown(text)}
    shown |= {name: trackio.Image(image) for name, image in images.items()}
    shown |= {name: trackio.Html(page, inject=False) for name, page in pages.items()}
    run.log(shown, step=0)


SHOW: Mapping[str, Callable[[Any, str, Images, Pages], None]] = {
    "tensorboard": _in_tensorboard,
    "wandb": _in_wandb,
    "trackio": _in_trackio,
}
