"""What was judged, read back from what is kept of it: the words of a result are written anew, its
numbers and verdicts stay; so does the population of a claim, unless seeds are no longer said to
have met images of their own."""

from __future__ import annotations

import math
from dataclasses import replace

from assay import stats
from assay.errors import AssayError
from assay.report.record import EstimateModel
from assay.report.result import Claim, Inputs, StudyResult
from assay.runs.results import Results
from assay.stats.claims import THESE_IMAGES
from assay.studies import load, names
from assay.studies.base import Study


def judged(claim: Claim) -> stats.Claim:
    """Return a claim as it was judged; one that was not run is undecided, and rests on nothing."""
    return stats.Claim(
        code=claim.code,
        text=claim.text,
        delta=claim.delta or 0.0,
        estimate=_estimate(claim.estimate),
        verdict="undecided" if claim.verdict == "not run" else claim.verdict,
        seeds_needed=claim.seeds_needed,
        collapsed=claim.collapsed,
        note=claim.note,
        failed=claim.failed,
        unit=claim.unit,
        look=claim.look,
        latest=None if claim.latest is None else _estimate(claim.latest),
        images_needed=claim.images_needed,
        about=claim.about or THESE_IMAGES,
        asks=claim.asks,
        why_delta=claim.why_delta,
        per=claim.per,
    )


def told_anew(result: StudyResult) -> StudyResult:
    """Return a result with today's words for it: the question and the answer, how its effects are
    written and why they matter, the figure that leads. Of a study that is not here, or whose
    settings are no longer known, it comes back as it is; where its data are not here, effects are
    written as they were."""
    if result.study not in names():
        return result
    try:
        study = load(result.study).parse(result.made.config)
    except AssayError:
        return result
    try:
        known = {effect.code: effect for effect in study.findings(Results()).effects}
    except AssayError:
        known = {}
    claims = tuple(
        _explained(claim, known.get(claim.code), study.INPUTS) for claim in result.claims
    )
    said = result.model_copy(
        update={
            "question": study.QUESTION,
            "claims": claims,
            "answer": study.answer([judged(claim) for claim in claims]),
        }
    )
    return led(study, said)


def led(study: Study, result: StudyResult) -> StudyResult:
    """Return a result with the figures that its study draws of it in the lead."""
    first = study.figures_of(result)
    titles = {figure.title for figure in first}
    others = (figure for figure in result.figures if figure.title not in titles)
    return result.model_copy(update={"figures": (*first, *others)})


def _explained(claim: Claim, effect: stats.Effect | None, inputs: Inputs) -> Claim:
    claim = claim.model_copy(update={"inputs": inputs})
    if not claim.about:  # judged over seeds alone: nothing is known of what images would decide
        claim = claim.model_copy(update={"seeds_needed": None, "images_needed": None})
    if effect is None or claim.delta != effect.delta:
        return claim
    if claim.about and not (effect.images_drawn or effect.by_image):
        claim = claim.model_copy(update={"about": THESE_IMAGES})
    return claim.model_copy(
        update={
            "unit": effect.unit,
            "asks": effect.asks,
            "why_delta": effect.why_delta,
            "per": effect.per,
        }
    )


def _estimate(kept: EstimateModel | None) -> stats.Estimate:
    if kept is None or kept.value is None:
        nothing = stats.mean_interval((), "seeds")
        return nothing if kept is None else replace(nothing, of=kept.of, level=kept.level)
    return stats.Estimate(
        value=kept.value,
        low=-math.inf if kept.low is None else kept.low,
        high=math.inf if kept.high is None else kept.high,
        n=kept.n,
        of=kept.of,
        level=kept.level,
    )
