"""`assay attack` on a text model: load, attack, keep, show the sentences, say the result."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from assay.attacks.base import Stop
from assay.attacks.reliability import Indicator
from assay.attacks.result import AttackResult
from assay.attacks.text.base import TextAttack, WordAttack
from assay.attacks.text.characters import FORMS
from assay.attacks.text.defence import after_normalising
from assay.attacks.text.methods.spelling import Misspell
from assay.attacks.text.reliability import text_flags
from assay.attacks.text.threat import Words
from assay.core.edits import pieces
from assay.core.fast import Precision
from assay.disk import writable, write_atomic
from assay.errors import AssayError
from assay.explain.text import TokenAttribution, WordOcclusion
from assay.inputs import Inputs, called
from assay.provenance import provenance
from assay.report.curves import Series, learning_curves
from assay.report.flagged import flagged
from assay.report.numerals import duration, full
from assay.report.style import percent_axis
from assay.report.texts import Drawn, Example, TextPage, TextTable, drawn, line, render_texts
from assay.report.words import Kind, marked
from assay.runs.display import say
from assay.runs.environment import surroundings
from assay.runs.files import to_json
from assay.runs.view import Grid, View
from assay.tasks.judges import judge, same_encoder
from assay.workflows.attack import ATTACK, RECORD, SCHEMA, refuse_foreign, shown, target_class
from assay.workflows.over import TEXTS_FILE, run_over
from assay.workflows.texts import Loaded, as_read, doubts, loaded

PAGE = "attack.html"
Result = AttackResult[list[str], Words]


def run(
    attack: TextAttack,
    inputs: Inputs,
    out: Path,
    *,
    targets: str | None,
    stop: Stop,
    attack_wrong: bool,
    seed: int,
    precision: Precision,
    query_budget: int | None,
    time_limit: float | None,
    part: int | None,
    examples: int,
    progress: bool,
    quiet: bool,
    command: str = "",
) -> int:
    """Attack texts part by part, write everything to `out`, and say the result.

    `command` is what the page says it was made by; "": model, data and attack alone.

    Raises:
        AssayError: for a model, data or settings that cannot be used, or a folder that was made
            with other ones.
    """
    started, out = datetime.now().astimezone(), writable(out)
    refuse_foreign(out, PAGE, TEXTS_FILE)
    given = as_read(loaded(inputs))
    goal = target_class(targets, given.data.classes)
    if isinstance(goal, int):
        kept = given.data.subset(given.data.labels != goal)
        if not len(kept):
            raise AssayError("--targets: every text is of this class already; name another one")
        given = Loaded(given.clf, kept, given.notes)
    cautions = list(given.notes)
    if isinstance(attack, WordAttack):
        own = judge()
        if same_encoder(given.clf, own):
            cautions.append(
                f"Sentence similarity is judged by {own.base}, which is the very encoder that the "
                "attacked model reads with: what changes the one little changes the other little."
            )
    cautions += doubts(given)
    for note in () if quiet else cautions:
        say(note)
    attacked = given.data
    if bool((attacked.labels < 0).any()):  # the model's own predictions stand for all labels
        attacked = replace(attacked, labels=torch.full_like(attacked.labels, -1))
    with shown(progress, "texts") as told:
        result: Result = run_over(
            attack,
            given.clf,
            attacked,
            folder=out,
            targets=goal,
            stop=stop,
            attack_wrong=attack_wrong,
            seed=seed,
            precision=precision,
            query_budget=query_budget,
            time_limit=time_limit,
            part=part,
            progress=told,
        )
    raised = text_flags(result)
    cautions += [f"{flagged(flag)}." for flag in raised]
    cautions += list(given.clf.treatments())
    title = f"{attack.name}, {attack.setting}, on {called(inputs, given.clf)}"  # type: ignore[arg-type]
    undone = defended(result)
    about: dict[str, Any] = {
        "schema": SCHEMA,
        **result.to_dict(),
        "setting": attack.setting,
        "targets": goal,
        "query_budget": query_budget,
        "time_limit": time_limit,
        "attack_wrong": attack_wrong,
        "after_normalising": {form: share.to_dict() for form, share in undone.items()},
        "model": {"name": inputs.model, "fingerprint": given.clf.fingerprint},
        "data": given.data.to_dict(),
        "flags": [flag.to_dict() for flag in raised],
    }
    made = provenance(
        command=command
        or f"assay attack {inputs.model} --data {inputs.data} --attack {attack.name}",
        config={"attack": attack.model_dump(mode="json"), "inputs": inputs.model_dump(mode="json")},
        seeds=(seed,),
        started=started,
        seconds=result.seconds,
        threads=inputs.threads or torch.get_num_threads(),
        data={f"{given.data.name}/{given.data.split}": given.data.fingerprint},
        model=given.clf.fingerprint,
    )
    page = page_of(result, given, title, undone, cautions, examples)
    write_atomic(out / ATTACK, to_json(about, indent=2))
    write_atomic(out / PAGE, render_texts(page, made))
    if not (out / RECORD).exists():  # of the call that attacked, not of one that read it again
        record = {"seconds": result.seconds, **surroundings()}
        write_atomic(out / RECORD, to_json(record, indent=2))
    if not quiet:
        Console(highlight=False).print(summary(result, raised, title, undone))
    print(out)
    return 0


def defended(result: Result) -> dict[str, Any]:
    """Return what is left of misspellings in each normal form; nothing of other attacks."""
    if not isinstance(result.attack, Misspell):
        return {}
    return {form: after_normalising(result, form) for form in FORMS}


def numbers(result: Result, undone: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the figures of a result, a row each."""
    moved, queries = result.median_distance, result.median_queries
    rows = [
        ("correctly classified texts fooled", full(result.success_rate)),
        ("accuracy under this attack", full(result.robust_accuracy)),
        ("median share of words changed, where it succeeded", _percent(moved)),
        ("mean queries of a text", f"{float(result.queries.double().mean()):,.0f}"),
    ]
    if result.stop == "fooled":
        shown = "–" if queries is None else f"{queries:,.0f}"
        rows.append(("median queries until it succeeded", shown))
    names = {
        "nfkc": "NFKC",
        "seen": "NFKC, unseen characters out",
        "latin": "and letters made Latin",
    }
    rows += [(f"fooled once texts are normalised: {names[f]}", full(e)) for f, e in undone.items()]
    rows.append(("time in all", duration(result.seconds)))
    return tuple(rows)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}".replace("%", " %")


def summary(
    result: Result, raised: Sequence[Indicator], title: str, undone: dict[str, Any]
) -> View:
    """Return what the terminal shows of it."""
    lines = [f"! {flagged(flag)}" for flag in raised]
    lines.append(f"Allowed: {result.threat.describe()}.")
    return View(title, {}, (Grid("", ("", ""), numbers(result, undone)),), tuple(lines))


def page_of(
    result: Result,
    given: Loaded,
    title: str,
    undone: dict[str, Any],
    cautions: Sequence[str],
    shown: int,
) -> TextPage:
    """Return the page of an attack: figures, curves, and sentences with what was changed."""
    rows = result.fooled.nonzero()[:shown, 0].tolist()
    before = after = None
    if rows:
        own, moved = [result.inputs[k] for k in rows], [result.adversarial[k] for k in rows]
        said = result.clean_prediction[rows]
        before = WordOcclusion()(given.clf, own, said)
        after = WordOcclusion()(given.clf, moved, said)
    names = [*given.data.classes, "no answer"]
    examples = [
        example(result, given, k, place, before, after, names) for place, k in enumerate(rows)
    ]
    rate = result.success_rate
    return TextPage(
        kicker="an attack on texts",
        title=title,
        lead=f"{full(rate)} of {rate.of} were fooled, where this was allowed: "
        f"{result.threat.describe()}. A success rate holds for its setting alone.",
        tables=(TextTable("Figures", ("", ""), numbers(result, undone)),),
        figures=curves(result),
        cautions=tuple(cautions),
        heading=_shown(len(rows), int(result.fooled.sum())),
        note="Struck out: what the attack took away; bold: what it put in. Below, the words that "
        "speak for the class that was predicted before (blue) and against it (orange), by what is "
        "lost without each, before the attack and after it. Judge for yourself whether the meaning "
        "is kept.",
        examples=examples,
    )


def example(
    result: Result,
    given: Loaded,
    k: int,
    place: int,
    before: TokenAttribution | None,
    after: TokenAttribution | None,
    names: Sequence[str],
) -> Example:
    """Return one text with its changes, and what speaks for its class before and after."""
    assert before is not None
    assert after is not None
    said, now = int(result.clean_prediction[k]), int(result.adversarial_prediction[k])
    return Example(
        f"{int(given.data.ids[k])}: {names[said]} → {names[now]}",
        (
            line("changed", marked(segments(result.inputs[k], result.adversarial[k]))),
            line("before", before.html(place)),
            line("after", after.html(place)),
        ),
    )


def segments(x: str, adv: str) -> list[tuple[str, Kind]]:
    """Return two texts as one, in parts that both have, or only the first, or only the second."""
    one, two = ([text[p.start : p.end] for p in pieces(text)] for text in (x, adv))
    found: list[tuple[str, Kind]] = []
    matcher = difflib.SequenceMatcher(None, one, two, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            found.append((" ".join(one[a:b]), "same"))
            continue
        for place in range(max(b - a, d - c)):
            if a + place < b:
                found.append((one[a + place], "out"))
            if c + place < d:
                found.append((two[c + place], "in"))
    return _spaced(found)


def _spaced(parts: list[tuple[str, Kind]]) -> list[tuple[str, Kind]]:
    made: list[tuple[str, Kind]] = []
    for text, kind in parts:
        if made and not (made[-1][1] == "out" and kind == "in"):
            made.append((" ", "same"))
        made.append((text, kind))
    return made


def _shown(shown: int, fooled: int) -> str:
    if fooled == 1:
        return "The text that was fooled"
    which = f"All {fooled}" if shown == fooled else f"The first {shown} of {fooled}"
    return f"{which} texts that were fooled" if fooled else "No text was fooled"


def curves(result: Result) -> tuple[Drawn, ...]:
    """Return success against the share of words changed, and against queries."""
    right = int(result.correct.sum())
    won = result.fooled
    if not bool(won.any()):
        return ()
    found = []
    kinds = [("share of words changed", result.distance)]
    if result.stop == "fooled":
        kinds.append(("queries of a text", result.queries.float()))
    for name, spent in kinds:
        at = np.sort(spent[won].double().numpy())
        share = np.arange(1, len(at) + 1) / right
        series = Series("fooled", [0.0, *at.tolist()], [0.0, *share.tolist()])
        figure = learning_curves(
            [series], x_label=name, y_label="correctly classified texts fooled", fraction=True
        )
        if name.startswith("share"):
            percent_axis(figure.axes[0], "x")
        found.append(drawn(f"Success against {name}", figure, f"Of {right} texts."))
    return tuple(found)
