"""`assay explain` on a text model: explain, judge, show the words, say the result."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save

from assay.disk import writable, write_atomic
from assay.errors import AssayError, told
from assay.explain.faithful import FaithfulnessConfig
from assay.explain.randomise import Randomised
from assay.explain.text import (
    TextExplainer,
    TextFaithfulness,
    TokenAttribution,
    randomised_text,
    text_explainers,
    text_faithfulness,
)
from assay.inputs import Inputs, called
from assay.provenance import provenance
from assay.report.numerals import duration, interval, with_unit
from assay.report.texts import Example, TextPage, TextTable, line, render_texts
from assay.runs.display import doing, say
from assay.runs.environment import surroundings
from assay.runs.files import to_json
from assay.runs.view import Grid, View
from assay.workflows.texts import Loaded, as_read, doubts, loaded

EXPLAIN, ARRAYS, PAGE, RECORD = "explain.json", "arrays.safetensors", "explain.html", "record.json"
SCHEMA = 1


def run(
    inputs: Inputs,
    config: FaithfulnessConfig,
    out: Path | None,
    *,
    shown: int,
    quiet: bool,
    command: str = "",
) -> int:
    """Explain texts by every explainer of texts, write everything to `out`, and say the result.

    `command` is what the page says it was made by; "": model and data alone.
    Of the settings `networks`, `randomised`, `survives` and `seed` count; the others are of images.

    Raises:
        AssayError: for a model, data or settings that cannot be used.
    """
    started, out = datetime.now().astimezone(), None if out is None else writable(out)
    if config.explainers != FaithfulnessConfig(seed=config.seed).explainers:
        raise AssayError(
            "--explainers are those of images; texts are explained by "
            f"{', '.join(text_explainers())}"
        )
    given = as_read(loaded(inputs))
    doubtful = doubts(given)
    for note in () if quiet else (*given.notes, *doubtful):
        say(note)
    begun = time.monotonic()
    explainers: dict[str, TextExplainer] = {
        n: kind.parse({}) for n, kind in text_explainers().items()
    }
    maps: dict[str, TokenAttribution] = {}
    failed: dict[str, str] = {}
    targets = given.clf.predict(given.texts)
    treated = given.clf.treatments()
    with doing("explaining", quiet) as tell:
        for name, explainer in explainers.items():
            tell(f"explaining by {name}")
            try:
                maps[name] = explainer(given.clf, given.texts, targets)
            except AssayError as error:  # of a kind of model that it is not for
                failed[name] = told(error)
        faithful = {}
        for name, found in maps.items():
            tell(f"{name}: leaving out the words that it names")
            faithful[name] = text_faithfulness(given.clf, found, seed=config.seed)
        tell("explaining with random weights")
        few = min(config.randomised, len(given.texts))
        random = randomised_text(
            given.clf,
            {name: explainers[name] for name in maps},
            {n: explainers[n](given.clf, given.texts[:few], targets[:few]) for n in maps},
            networks=min(config.networks, few),
            threshold=config.survives,
            seed=config.seed,
        )
    seconds = time.monotonic() - begun
    title = f"{called(inputs, given.clf)} on {given.data.name} ({given.data.split})"  # type: ignore[arg-type]
    rows = tuple(_row(name, maps[name], faithful[name], random[name]) for name in maps)
    if out is not None:
        keep(inputs, config, given, maps, faithful, random, failed, out)
        best = said_best(faithful, random)
        cautions = (*doubtful, *(f"{name}: {why}" for name, why in failed.items()), *treated)
        page = page_of(given, maps, rows, title, best, cautions, shown)
        made = provenance(
            command=command or f"assay explain {inputs.model} --data {inputs.data}",
            config={"inputs": inputs.model_dump(mode="json")},
            seeds=(config.seed,),
            started=started,
            seconds=seconds,
            threads=inputs.threads or torch.get_num_threads(),
            data={f"{given.data.name}/{given.data.split}": given.data.fingerprint},
            model=given.clf.fingerprint,
        )
        write_atomic(out / PAGE, render_texts(page, made))
        write_atomic(out / RECORD, to_json({"seconds": seconds, **surroundings()}, indent=2))
    if not quiet:
        lines = (f"{len(given.texts):,} texts, {len(maps)} explainers: {duration(seconds)}.",)
        grids = (
            Grid(TITLE, COLUMNS, rows),
            Grid("Not for this model", ("explainer", "why"), tuple(failed.items())),
        )
        Console(highlight=False).print(
            View(title, {}, grids, (said_best(faithful, random), *lines))
        )
    if out is not None:
        print(out)
    return 0


TITLE = "Whose words decide, and whether they need what was learnt"
COLUMNS = (
    "explainer",
    "comprehensiveness",
    "of a random order",
    "sufficiency",
    "gain",
    "gap",
    "random weights",
    "verdict",
)


def _row(
    name: str, maps: TokenAttribution, found: TextFaithfulness, random: Randomised
) -> tuple[str, ...]:
    gain = found.gain
    means = (found.comprehensiveness, found.random_comprehensiveness, found.sufficiency)
    gap = "" if maps.gap is None else with_unit(float(maps.gap.abs().median()), "fraction")
    return (
        name,
        *(with_unit(float(each.mean()), "number") for each in means),
        f"{with_unit(gain.value, 'number')} ({interval(gain, 'number')})",
        gap,
        with_unit(random.correlation.value, "number"),
        random.verdict,
    )


def said_best(faithful: dict[str, TextFaithfulness], random: dict[str, Randomised]) -> str:
    """Return the answer in a sentence: the greatest gain among those that pass."""
    fit = {
        n: f.gain for n, f in faithful.items() if random[n].verdict == "passes" and f.gain.low > 0
    }
    if not fit:
        return "No explainer is known to be faithful for this model."
    best = max(fit, key=lambda name: fit[name].value)
    return f"Most faithful for this model: {best}."


def keep(
    inputs: Inputs,
    config: FaithfulnessConfig,
    given: Loaded,
    maps: dict[str, TokenAttribution],
    faithful: dict[str, TextFaithfulness],
    random: dict[str, Randomised],
    failed: dict[str, str],
    out: Path,
) -> None:
    """Write what was found, and the attributions with the characters that each is of."""
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "explainers": {
            name: {
                **maps[name].to_dict(),
                **faithful[name].to_dict(),
                "random": random[name].to_dict(),
            }
            for name in maps
        },
        "failed": failed,
        "model": {"name": inputs.model, "fingerprint": given.clf.fingerprint},
        "data": given.data.to_dict(),
        "classes": list(given.clf.classes),
        "seed": config.seed,
        "spans": {
            name: [list(map(list, row)) for row in found.spans or ()]
            for name, found in maps.items()
        },
    }
    arrays = {"ids": given.data.ids, "labels": given.data.labels}
    for name, found in maps.items():
        arrays |= {f"{name}/map": found.values, f"{name}/raw": found.raw, "targets": found.targets}
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(
        out / ARRAYS, save({n: torch.as_tensor(a).contiguous() for n, a in arrays.items()})
    )
    write_atomic(out / EXPLAIN, to_json(about, indent=2))


def page_of(
    given: Loaded,
    maps: dict[str, TokenAttribution],
    rows: tuple[tuple[str, ...], ...],
    title: str,
    best: str,
    cautions: tuple[str, ...],
    shown: int,
) -> TextPage:
    """Return the page: which explainer to believe, the table, and the first texts with the words of
    each explainer coloured."""
    names = [*given.data.classes, "no answer"]
    examples = []
    for row in range(min(shown, len(given.texts))):
        first = next(iter(maps.values()))
        said, label = int(first.targets[row]), int(given.data.labels[row])
        wrong = "" if label in (said, -1) else f" (it is {names[label]})"
        lines = tuple(line(name, found.html(row)) for name, found in maps.items())
        examples.append(Example(f"{int(given.data.ids[row])}: {names[said]}{wrong}", lines))
    return TextPage(
        kicker="what predictions rest on",
        title=title,
        lead=f"{best} Each says which words speak for what the model predicts.",
        tables=(
            TextTable(
                TITLE,
                COLUMNS,
                rows,
                "Comprehensiveness: how much probability goes with the words named (higher is "
                "better); sufficiency: how much is missing with them alone (lower is better). "
                "Gain: "
                "comprehensiveness beyond that of a random order, with its interval. Gap: how far "
                "the sum is from the difference of logits that it must be, median. Random weights: "
                "the rank correlation with attributions of random networks; what survives says "
                "nothing of what was learnt.",
            ),
        ),
        cautions=cautions,
        heading=f"The first {len(examples)} texts",
        note="Blue speaks for the predicted class, orange against it; the stronger, the more of "
        "the text's largest value. Attention has no sign.",
        examples=examples,
    )
