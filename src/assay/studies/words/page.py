"""What the page of the study `words` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.attacks.text.base import TextAttack
from assay.attacks.text.threat import Words
from assay.core.edits import places
from assay.report.charts import intervals
from assay.report.curves import Series, learning_curves
from assay.report.heroes import hero, seen
from assay.report.numerals import bare, with_unit
from assay.report.record import EstimateModel
from assay.report.result import Cell, Drawing, StudyResult, Table
from assay.report.style import inline_svg
from assay.runs.entry import Result
from assay.stats import Claim, crossed_mean
from assay.studies.answers import SHARE, Scale, Wording, compose
from assay.studies.cells import Cells, Column
from assay.studies.on_images import crossed

if TYPE_CHECKING:
    from assay.studies.words.study import WordStudy

NATURAL = "natural"
ATTACKS = "What every attack does"
"""The title of the first table."""
CHANGED = "Success against the share of words changed"
"""The title of the figure of lines."""


def named(attack: TextAttack) -> str:
    """Return what an attack is called, its setting last: every claim names it."""
    given = attack.model_dump(mode="json")
    what = attack.name
    source = given.get("substitutes")
    if isinstance(source, dict) and source["name"] != "wordnet":
        what += f" {source['name']}"
    changes = given.get("edits")
    if changes and changes != ["swap", "delete", "insert", "replace"]:
        what += f" {' '.join(changes)}"
    return f"{what}, {attack.setting}"


def cell(what: str, network: str) -> str:
    """Return what a cell is called of a classifier of that kind under `what`."""
    return what if network == NATURAL else f"{what}, {network}"


def tables(study: WordStudy, cells: Cells) -> tuple[Table, ...]:
    """Return what every attack does, what normal forms undo, behavioural tests, and a sample."""
    attacks = list(study.trials())
    clean = cells.mean("natural classifier", "test_accuracy")
    found = [
        cells.table(
            ATTACKS,
            (Column("fooled", "success_share"), Column("accuracy left", "robust_accuracy")),
            cells=attacks,
            caption="Shares are of the test texts that the classifier gets right (its test "
            f"accuracy is {clean.percent()}; {study.texts} texts are attacked for every seed). "
            "Words changed: the median share, where it succeeded; queries: the median, likewise.",
            heading="attack, setting",
            more={
                "words changed": lambda name: _typical(cells, name, "median_distance", "fraction"),
                "queries": lambda name: _typical(cells, name, "median_queries", "count"),
            },
        )
    ]
    spelled = [name for name in attacks if any("nfkc_share" in r.metrics for r in cells.kept(name))]
    if spelled:
        found.append(
            cells.table(
                "What is left once texts are brought to a normal form",
                (
                    Column("fooled", "success_share"),
                    Column("NFKC", left("nfkc")),
                    Column("and unseen characters out", left("seen")),
                    Column("and Latin letters", left("latin")),
                ),
                cells=spelled,
                caption="The attack does not know of the defence. NFKC leaves homoglyphs and "
                "zero-width characters as they are.",
                heading="attack, setting",
            )
        )
    behaved = behaviour(study, cells)
    return (*found, *([behaved] if behaved else []), *sample(study, cells, attacks))


def left(form: str) -> Callable[[Result], float]:
    """Return the success that a normal form leaves, as a function of a run."""
    return lambda run: float(run.metrics[f"{form}_share"])


def _typical(cells: Cells, name: str, metric: str, unit: Any) -> Cell | str:
    values = [run.metrics[metric] for run in cells.kept(name) if run.metrics[metric] is not None]
    if not values:
        return "–"
    value = float(np.mean(values))
    return f"{100 * value:.0f} %" if unit == "fraction" else f"{value:,.0f}"


def behaviour(study: WordStudy, cells: Cells) -> Table | None:
    """Return how often each classifier breaks each behavioural rule; seeds share texts, so that
    texts and classifiers are crossed."""
    rows: dict[str, list[tuple[Cell, ...]]] = {}  # by rule, whose classifiers stand together
    for network in study.classifiers:
        for attack in study.attacks:
            runs = cells.kept(cell(named(attack), network))
            runs = [run for run in runs if "behaviour" in run.metrics]
            for one in runs[0].metrics["behaviour"] if runs else ():
                expects = "the same class" if one["expects"] == "same" else "another class"
                said = (Cell(text=word) for word in (one["name"], network, expects))
                rows.setdefault(one["name"], []).append((*said, *_failing(runs, one["name"])))
    if not rows:
        return None
    return Table(
        title="Behavioural tests",
        columns=("edit", "classifier", "should give", "does not", "texts"),
        rows=tuple(row for some in rows.values() for row in some),
        caption="Edits without a search, after CheckList: names swapped, contractions written out, "
        "a negation put in or taken out of short sentences, of test texts that are classified "
        "correctly. Seeds share texts: their number is that of different ones, and the interval is "
        "over seeds and texts.",
    )


def _failing(runs: Sequence[Result], rule: str) -> tuple[Cell, Cell]:
    """Return the share of texts that fail a rule, and how many different texts it applies to."""
    fails = crossed(
        [
            dict(zip(run.arrays[f"{rule}_ids"].tolist(), run.arrays[f"{rule}_fails"], strict=True))
            for run in runs
        ]
    )
    if not fails.size:
        return Cell(text="no such text"), Cell(text="0")
    share = crossed_mean(fails, "share").estimate
    return (
        Cell(estimate=EstimateModel.model_validate(share.to_dict()), unit="fraction"),
        Cell(text=f"{fails.shape[1]:,}"),
    )


def sample(study: WordStudy, cells: Cells, attacks: Sequence[str]) -> list[Table]:
    """Return attacked sentences for the reader to judge, permissive and strict ones side by side
    where both are there."""
    found = []
    for setting in ("permissive", "strict"):
        name = f"substitute, {setting}"
        if name not in attacks or not study.sample:
            continue
        shown = [one for run in cells.kept(name) for one in run.metrics["examples"]]
        rows = tuple(
            (Cell(text=changes(one)), Cell(text=f"{one['before']} → {one['after']}"))
            for one in shown[: study.sample]
        )
        if rows:
            found.append(
                Table(
                    title=f"Judge for yourself: greedy substitution, {setting}",
                    columns=("text, with [what stood there → what was put in]", "said"),
                    rows=rows,
                    caption="The first that were fooled, not the best. Is the meaning kept?",
                )
            )
    return found


def changes(one: dict[str, Any]) -> str:
    """Return an attacked text with each change written out."""
    before, text = str(one["text"]), str(one["adversarial"])
    made, at = "", 0
    for old, new in places(before, text):
        if old and new:
            was = before[old.start : old.end]
            made += f"{text[at : new.start]}[{was} → {text[new.start : new.end]}]"
            at = new.end
    return made + text[at:]


BY = Scale("by {value} points ({low} to {high})", lambda x: bare(x, "points").lstrip("+"))
"""The scale of what a success rate is lowered by, which the words before it say."""
ENOUGH = replace(BY, matters="{delta} points would matter")
"""The same, of a claim whose words do not name what would matter."""


def answer(claims: Sequence[Claim]) -> str:
    """Return what the verdicts answer; the settings are named, since success is mostly theirs."""

    def lowered(by: str, what: str) -> Wording:
        return Wording(
            f"{by} lowers {what}",
            f"{by} does not lower {what} enough to matter",
            f"{by[:1].lower()}{by[1:]} lowers {what}",
            ENOUGH,
        )

    greedy = "greedy substitution of at most a fifth of the words fools the classifier on"
    strict = "the strict setting lowers the success of greedy substitution by"
    return compose(
        claims,
        {
            "words.substitute": Wording(
                f"In the permissive setting, {greedy} 70 % of the texts or more",
                f"In the permissive setting, {greedy} less than 70 % of the texts",
                f"in the permissive setting {greedy} 70 % of the texts or more",
                SHARE,
            ),
            "words.strict": Wording(
                f"T{strict[1:]} 30 points or more",
                f"T{strict[1:]} less than 30 points",
                f"{strict} 30 points or more",
                BY,
            ),
            "words.homoglyph": lowered(
                "Mapping homoglyphs back to Latin letters", "the success of an attack by them"
            ),
            "words.zero-width": lowered(
                "Removing zero-width characters", "the success of an attack by them"
            ),
            "words.augmented": lowered(
                "Training on exchanged words as well", "the success of greedy substitution"
            ),
        },
    )


def leading(result: StudyResult) -> list[Drawing]:
    """Return the figure that leads, the share that each attack fools, and what is seen in the
    other: both read off the first table."""
    table = next((table for table in result.tables if table.title == ATTACKS), None)
    if table is None:
        return []
    known = [(row[0].text, row[1].estimate) for row in table.rows if row[1].estimate is not None]
    shares = {name: share for name, share in known if share.value is not None}
    if not shares:
        return []
    rows = [(name, share, int("strict" in name)) for name, share in shares.items()]
    drawing = hero(
        "Texts that are fooled, by attack and setting",
        most_and_least({name: share.value or 0.0 for name, share in shares.items()}),
        "Share of the texts that the classifier gets right; the line is its 95 % interval, over "
        "seeds and texts.",
        lambda width: intervals(rows, "texts fooled", width=width),
    )
    return [drawing, *seen(result.figure(CHANGED), words_changed(table))]


def most_and_least(shares: Mapping[str, float]) -> str:
    """Return which share of the texts the most and the least successful attack fool."""
    least, most = (way(shares, key=shares.__getitem__) for way in (min, max))
    name = most[:1].upper() + most[1:]
    said = f"{with_unit(shares[most], 'fraction')} of the texts"
    if shares[least] == shares[most]:
        return f"{'Every attack' if len(shares) > 1 else name} fools {said}"
    return f"{name}: {said} are fooled; {least}: {with_unit(shares[least], 'fraction')}"


def words_changed(table: Table) -> str:
    """Return how many words the most and the least sparing attack changes where it succeeds."""
    texts = table.texts("words changed")
    shares = {name: int(t.split()[0]) for name, t in texts.items() if t[:1].isdigit()}
    if not shares:
        return ""
    few, many = (way(shares, key=shares.__getitem__) for way in (min, max))
    if shares[few] == shares[many]:
        return f"Where they succeed, attacks change a median of {shares[few]} % of the words"
    return (
        f"Where it succeeds, {few}, changes a median of {shares[few]} % of the words; {many}, "
        f"{shares[many]} %"
    )


def figures(study: WordStudy, cells: Cells) -> tuple[Drawing, ...]:
    """Return success against the share of words changed, a line for each attack."""
    lines = []
    for name in study.trials():
        runs = cells.kept(name)
        right = sum(int(run.arrays["correct"].sum()) for run in runs)
        if not right:
            continue
        moved = np.sort(np.concatenate([_moved(run) for run in runs]))
        grid = np.linspace(0, study_share(study), 21)
        share = [float((moved <= at + 1e-9).sum()) / right for at in grid]
        lines.append(Series(name, grid.tolist(), share))
    if not lines:
        return ()
    best = sorted(lines, key=lambda line: -line.y[-1])[:6]
    figure = learning_curves(
        best, x_label="share of words changed", y_label="texts fooled", fraction=True
    )
    return (
        Drawing(
            title=CHANGED,
            svg=inline_svg(figure, title=CHANGED),
            caption="Of all seeds' texts that are classified correctly; at most six attacks.",
            role="why",
        ),
    )


def study_share(study: WordStudy) -> float:
    return max(_share_of(attack.threat) for attack in study.attacks)


def _share_of(threat: Words) -> float:
    return float(threat.share)


def _moved(run: Result) -> Any:
    won = run.arrays["success"] & run.arrays["correct"]
    return run.arrays["distance"][won]


def notes(study: WordStudy) -> tuple[str, ...]:
    """Return what a reader must know."""
    return (
        "Permissive: similarity (1 − angle / π) of 15 words around each one changed at least "
        "0.84, and none asked of shorter texts, as TextAttack gives TextFooler; strict: 0.98 of "
        "whole texts, as Morris et al. 2020 found that people accept. Both were set for another "
        "encoder than ours.",
        "Substitutes are WordNet's synonyms in the word's form, of a part of speech that both can "
        "be; antonyms are refused. Similarity is judged by the frozen, pretrained MiniLM, of which "
        "the attacked classifier was fine-tuned.",
        f"At most {100 * study_share(study):.0f} % of a text's words may change; one in a short "
        "text.",
    )
