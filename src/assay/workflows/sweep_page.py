"""The page of a sweep: the best setting on fresh seeds, and all that were tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from assay import stats
from assay.provenance import provenance
from assay.report.heroes import hero
from assay.report.result import Cell, Drawing, StudyResult, Table
from assay.report.style import DASHES, INK, SERIES, Picture, grid, percent_axis, picture, styled
from assay.runs.results import Results
from assay.runs.trial import Trial
from assay.studies import answers
from assay.studies.cell_study import CellStudy
from assay.studies.cells import Cells
from assay.studies.searching import Param, Value, written
from assay.workflows.judged import claim_of, line_of

WINS = "sweep.best"
METRICS = ("test_accuracy", "train_accuracy")
"""What is shown of each trial."""
SHOWN = 200
"""Settings in the table, the best ones."""


@dataclass(frozen=True)
class Tried:
    """A setting that was tried.

    Attributes:
        values: by the paths of the parameters.
        score: the mean validation accuracy; None where it was given up or failed.
        state: complete, pruned or fail.
        steps: how many of its trials were run.
        so_far: their mean, also of one that was given up.
        why: why it failed.
    """

    values: Mapping[str, Value]
    score: float | None
    state: str
    steps: int
    so_far: float | None
    why: str = ""


@dataclass(frozen=True)
class Judged:
    """The best setting beside the study's own, on seeds that nothing was chosen by.

    Attributes:
        best: the best setting; None: none was scored.
        own: that of the study.
        ours, others: the trials of each cell at the best setting, and at the study's own.
        delta: the smallest gain that matters.
        look: which judgement of this sweep it is.
    """

    best: Mapping[str, Value] | None
    own: Mapping[str, Value]
    ours: Mapping[str, Sequence[Trial]]
    others: Mapping[str, Sequence[Trial]]
    delta: float
    look: int

    @property
    def trials(self) -> list[Trial]:
        """All of them; none where there is nothing to compare."""
        if not self.ours:
            return []
        return [t for cells in (self.ours, self.others) for row in cells.values() for t in row]


def swept(
    study: CellStudy,
    params: Sequence[Param],
    tried: Sequence[Tried],
    judged: Judged,
    *,
    trials: Sequence[Trial],
    done: Results,
    importance: Mapping[str, float],
    command: str,
    started: datetime,
    seconds: float,
) -> StudyResult:
    """Return the result of a sweep, as the page of a study shows it."""
    effects, tables = _judged(study, params, tried, judged, done)
    claims = stats.judge_claims(effects, look=judged.look)
    names = " and ".join(param.path for param in params)
    scored = [one for one in tried if one.score is not None]
    figures = [_drawn(params, tried, judged)] if scored else []
    tables += [_settings(params, tried)]
    if importance:
        tables.append(_importance(importance))
    return StudyResult(
        study=f"sweep-{study.NAME}",
        question=f"With which {names} does {study.NAME} do best?",
        preset=study.preset,
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        answer=answers.from_texts(claims) if claims else _unjudged(params, tried, judged),
        summary=_summary(params, tried, judged),
        claims=tuple(claim_of(claim, (), done, study.INPUTS) for claim in claims),
        tables=tuple(tables),
        figures=tuple(figures),
        notes=tuple(_notes(study, params, tried, judged)),
        trials=tuple(line_of(trial, done, METRICS) for trial in trials),
        trials_at="../../trials",
        work_seconds=sum(result.record["seconds"] for result in done.values()),
        made=provenance(
            command=command,
            config=study.model_dump(mode="json"),
            seeds=tuple(range(study.seeds)),
            started=started,
            seconds=seconds,
            threads=study.threads,
            data={name: mark for trial in trials for name, mark in trial.data.items()},
        ),
    )


def _judged(
    study: CellStudy,
    params: Sequence[Param],
    tried: Sequence[Tried],
    judged: Judged,
    done: Results,
) -> tuple[list[stats.Effect], list[Table]]:
    """Return the one effect that is judged, and the table of what it rests on."""
    if judged.best is None or not judged.ours:
        return [], []
    best, own = written(judged.best, params), written(judged.own, params)
    rows = {f"{cell}, {best}": trials for cell, trials in judged.ours.items()}
    rows |= {f"{cell}, {own}": trials for cell, trials in judged.others.items()}
    base = study.cells(done)
    cells = Cells(rows, done, images_drawn=base.images_drawn, there_are=base.there_are)
    share = 1 / len(judged.ours)
    weights = {name: share if k < len(judged.ours) else -share for k, name in enumerate(rows)}
    effect = cells.contrast(
        WINS,
        f"With {best} (the best of {len(tried)} settings on validation) networks are more accurate "
        f"than with the study's own {own}.",
        weights,
        "test_accuracy",
        delta=judged.delta,
        why_delta=f"A gain below {100 * judged.delta:g} points is not worth another setting than "
        "the study's own.",
    )
    table = Table(
        title="The best setting beside the study's own",
        columns=("setting", "test accuracy on fresh seeds"),
        rows=tuple(
            (Cell(text=name), Cell.model_validate(cells.mean(name, "test_accuracy")))
            for name in cells.names
        ),
        caption="On seeds that no setting was tried with, and on test images.",
    )
    return [effect], [table]


def _unjudged(params: Sequence[Param], tried: Sequence[Tried], judged: Judged) -> str:
    if judged.best is None:
        why = next((one.why for one in tried if one.why), "none was run")
        return f"None of {len(tried)} settings could be scored: {why}"
    return (
        f"**None of {len(tried)} settings was better on validation than the study's own "
        f"{written(judged.own, params)}**: there is nothing to judge."
    )


def _summary(params: Sequence[Param], tried: Sequence[Tried], judged: Judged) -> str:
    scored = [one for one in tried if one.score is not None]
    if judged.best is None or not scored:
        return ""
    best = max(one.score for one in scored if one.score is not None)
    pruned = sum(one.state == "pruned" for one in tried)
    failed = sum(one.state == "fail" for one in tried)
    lost = [f"{n} {what}" for n, what in ((pruned, "given up early"), (failed, "failed")) if n]
    aside = f" ({', '.join(lost)})" if lost else ""
    return (
        f"{len(tried)} settings were tried{aside}; the best, "
        f"{written(judged.best, params)}, has {100 * best:.1f} % validation accuracy on the seeds "
        "that chose it."
    )


def _notes(
    study: CellStudy, params: Sequence[Param], tried: Sequence[Tried], judged: Judged
) -> list[str]:
    """Return what a reader must know: above all what the search costs the claim."""
    notes = [
        f"The best of {len(tried)} settings was chosen on validation images, by seeds of its own, "
        f"and is judged on the {study.seeds} seeds of the study and on test images, which chose "
        "nothing: it is one claim, whose interval needs no correction for the number of settings. "
        "An interval corrected for them around the score that won would still be centred too high.",
        "The validation accuracy of the best setting is the greatest of many, and so too high: it "
        "is shown to choose by, not to be believed.",
    ]
    if judged.look > 1:
        notes.append(
            f"This is judgement {judged.look} of this sweep, each of another winner or of more "
            f"seeds; its interval has a level of {100 * stats.level_at(1, judged.look):g} %, "
            "so that all of them together err with at most 5 %."
        )
    edges = [p for p in params if judged.best is not None and p.at_an_end(judged.best[p.path])]
    for param in edges:
        assert judged.best is not None
        notes.append(
            f"The best {param.name}, {judged.best[param.path]}, lies at an end of its range "
            f"({param.described()}): a wider range may hold a better one."
        )
    if study.rates is not None:
        notes.append("The study's own choice of a learning rate for each cell is left out here.")
    steps = max((one.steps for one in tried), default=1)
    if steps < 2:
        notes.append(
            "Each setting is one training, so none could be given up early; more cells or "
            "--select-seeds would allow it."
        )
    return notes


def _drawn(params: Sequence[Param], tried: Sequence[Tried], judged: Judged) -> Drawing:
    scored = [one.score for one in tried if one.score is not None]
    best = max(scored)
    own = next((one.score for one in tried if _same(one.values, judged.own)), None)
    beside = f", the study's own {100 * own:.1f} %" if own is not None else ""
    finding = f"The best of {len(tried)} settings reaches {100 * best:.1f} % on validation{beside}"
    caption = (
        "Each dot is a setting, its validation accuracy the mean over its trainings; the large dot "
        "is the best, the dashed line the study's own. Strokes below: given up early, or failed."
    )
    return hero(
        "Settings and validation accuracy",
        finding,
        caption,
        lambda width: panels(params, tried, judged, width),
    )


def panels(
    params: Sequence[Param], tried: Sequence[Tried], judged: Judged, width: float
) -> Picture:
    """Return validation accuracy over each parameter, a panel for each."""
    across = min(len(params), 3 if width > 5 else 1)
    down = math.ceil(len(params) / across)
    with styled():
        figure = picture(width, 0.4 + 2.9 * down)
        for place, param in enumerate(params):
            axes = figure.add_subplot(down, across, place + 1)
            if param.log:
                axes.set_xscale("log")
                decades = [10.0**power for power in range(-12, 13)]
                axes.xaxis.set_major_locator(FixedLocator(decades))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
                axes.xaxis.set_minor_locator(NullLocator())
            elif param.whole:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            for one in tried:
                at, wins = _place(param, one.values[param.path]), _is_best(one, judged)
                if one.score is not None:
                    size, hue = (10, SERIES[1]) if wins else (5, SERIES[0])
                    axes.plot(at, one.score, "o", color=hue, markersize=size, zorder=2 + wins)
                else:  # what it had is of fewer trainings than the others'
                    axes.plot(at, 0.03, "|", color=INK, transform=axes.get_xaxis_transform())
            own = judged.own[param.path]
            if not param.choices or str(own) in param.choices:
                axes.axvline(_place(param, own), color=INK, lw=1, ls=DASHES[1], alpha=0.6)
            if param.choices:
                axes.set_xticks(range(len(param.choices)), param.choices)
                axes.margins(x=0.2)
            axes.set_xlabel(param.path)
            if place % across == 0:
                axes.set_ylabel("validation accuracy")
            percent_axis(axes, "y")
            grid(axes, "y")
        return figure


def _is_best(one: Tried, judged: Judged) -> bool:
    return judged.best is not None and _same(one.values, judged.best)


def _place(param: Param, value: Value) -> float:
    return float(param.choices.index(str(value))) if param.choices else float(value)


def _same(a: Mapping[str, Value], b: Mapping[str, Value]) -> bool:
    return all(str(a[path]) == str(b[path]) for path in b)


def _settings(params: Sequence[Param], tried: Sequence[Tried]) -> Table:
    ranked = sorted(tried, key=lambda one: -(one.so_far if one.so_far is not None else -1.0))
    ranked.sort(key=lambda one: one.score is None)
    said = {"complete": "", "pruned": "given up early", "fail": "failed"}
    return Table(
        title="Every setting that was tried",
        columns=("#", *(param.path for param in params), "validation accuracy", "trainings", ""),
        rows=tuple(
            (
                Cell(text=str(place)),
                *(Cell(text=f"{one.values[param.path]}") for param in params),
                Cell(
                    text=_score(one),
                    mark="best" if place == 1 and one.score is not None else None,
                ),
                Cell(text=str(one.steps)),
                Cell(text=f"{said[one.state]}{f': {one.why}' if one.why else ''}"),
            )
            for place, one in enumerate(ranked[:SHOWN], 1)
        ),
        caption=f"The first {SHOWN} of {len(ranked)}." if len(ranked) > SHOWN else "",
    )


def _score(one: Tried) -> str:
    if one.so_far is None:
        return "–"
    return f"{100 * one.so_far:.1f} %{'' if one.score is not None else ' so far'}"


def _importance(found: Mapping[str, float]) -> Table:
    return Table(
        title="What matters among good settings",
        columns=("parameter", "share of the spread"),
        rows=tuple(
            (Cell(text=path), Cell(text=f"{100 * share:.0f} %"))
            for path, share in sorted(found.items(), key=lambda one: -one[1])
        ),
        caption="PED-ANOVA (Watanabe et al. 2023): how much each parameter alone tells good "
        "settings from the others. A description of these settings, without an interval.",
    )
