"""`assay explain`: load, explain, judge, keep, say the result."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save
from torch import Tensor

from assay import stats
from assay.auditing import plausible
from assay.core.classifier import Classifier
from assay.data import Dataset
from assay.data.dataset import to_float
from assay.disk import writable, write_atomic
from assay.explain.faithful import (
    Faithfulness,
    FaithfulnessConfig,
    Judged,
    faithfulness,
)
from assay.inputs import Inputs, described, load_network, load_part, of_all_classes
from assay.report.explained import explained
from assay.report.numerals import MISSING, bare, duration, full, with_unit
from assay.report.schema import Flag
from assay.report.sheet import picture_bytes
from assay.report.style import Picture
from assay.runs.display import doing, say
from assay.runs.environment import surroundings
from assay.runs.files import to_json
from assay.runs.view import Grid, View

EXPLAIN, ARRAYS, RECORD = "explain.json", "arrays.safetensors", "record.json"
PICTURE, CURVES = "maps.png", "curves.png"
SCHEMA = 1


def run(
    inputs: Inputs,
    config: FaithfulnessConfig,
    out: Path | None,
    *,
    pictures: int,
    quiet: bool,
) -> int:
    """Explain, judge the explanations, write everything to `out`, and say the result.

    Raises:
        AssayError: for a model, data or settings that cannot be used.
    """
    if out is not None:
        out = writable(out)
    data = load_part(inputs).sample(inputs.images)
    clf = load_network(inputs, data, labelled=False)
    data = of_all_classes(inputs, data, clf)
    for note in () if quiet else (*data.notes, *clf.notes):
        say(note)
    x = to_float(data.images)
    probability = probabilities(clf, x)
    if not quiet:
        labelled = data.classes == clf.classes and bool((data.labels >= 0).all())
        found: Sequence[Flag]
        if labelled:
            found = plausible.looked_at(clf, x, data.labels, probability.argmax(1), clf.classes)
        else:
            found = (plausible.asked_again(clf, x),)
        for line in plausible.warnings(found):
            say(line)
    started = time.monotonic()
    with doing("explaining", quiet) as tick:
        masks = None if data.masks is None else data.masks.numpy()
        result = faithfulness(clf, x, masks=masks, config=config, progress=tick)
    seconds = time.monotonic() - started
    title = f"{inputs.model_name} on {described(inputs, data)}, {len(data):,} images"
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        keep(result, inputs, data, clf, probability, seconds, out)
        if pictures:
            figure = draw(result, x[:pictures], data, clf.classes, probability, title)
            write_atomic(out / PICTURE, picture_bytes(figure))
            write_atomic(out / CURVES, picture_bytes(result.plot()))
    if not quiet:
        Console(highlight=False).print(summary(result, title, seconds))
    if out is not None:
        print(out)
    return 0


def probabilities(clf: Classifier, x: Tensor) -> Tensor:
    """Return what the model says of the images, float32 (N, K); one that cannot take them is a
    mistake of the user's."""
    return clf.query(x).softmax(1)


# -- what is kept ------------------------------------------------------------------------------


def keep(
    result: Faithfulness,
    inputs: Inputs,
    data: Dataset,
    clf: Classifier,
    probability: Tensor,
    seconds: float,
    out: Path,
) -> None:
    """Write what was found, maps and curves, and how long it took."""
    about = {
        "schema": SCHEMA,
        **result.to_dict(),
        "model": {"name": inputs.model, "fingerprint": clf.fingerprint},
        "data": {"name": data.name, "split": data.split, "fingerprint": data.fingerprint},
        "classes": list(clf.classes),
    }
    arrays = {
        "ids": data.ids,
        "labels": data.labels,
        "targets": result.targets,
        "probability": probability,
    }
    for one in result.judged:
        found = {
            "map": one.maps.values,
            "raw": one.maps.raw,
            "deletion": torch.from_numpy(one.deletion.probability),
            "insertion": torch.from_numpy(one.insertion.probability),
            "gain": torch.from_numpy(one.gain),
        }
        arrays |= {f"{one.name}/{kind}": values for kind, values in found.items()}
    took = {"seconds": seconds, "maps": {one.name: one.seconds for one in result.judged}}
    write_atomic(out / ARRAYS, save({name: a.cpu().contiguous() for name, a in arrays.items()}))
    write_atomic(out / EXPLAIN, to_json(about, indent=2))
    write_atomic(out / RECORD, to_json({**took, **surroundings()}, indent=2))


def draw(
    result: Faithfulness,
    x: Tensor,
    data: Dataset,
    classes: tuple[str, ...],
    probability: Tensor,
    title: str,
) -> Picture:
    """Return the picture of the first images: each with the maps of all explainers."""
    captions = []
    for target, label, said in zip(
        result.targets.tolist(), data.labels.tolist(), probability, strict=True
    ):
        wrong = label >= 0 and data.classes[label] != classes[target]
        captions.append(
            f"{classes[target]} {with_unit(float(said[target]), 'fraction')}"
            + (f"\n(it is {data.classes[label]})" if wrong else "")
        )
    ranked = [one for one in result.judged if one.eligible]
    unranked = [one for one in result.judged if not one.eligible]
    return explained(
        x.numpy(),
        {one.name: one.maps.values[: len(x)].cpu().numpy() for one in (*ranked, *unranked)},
        title=title,
        note="Above each image what the model predicts, and how sure it is of it. Explainers stand "
        "by falling gain over a random order of the pixels; pale ones have no rank, since their "
        "maps are not known to depend on what was learnt, or are no better than a random order. "
        + said_best(result),
        captions=captions[: len(x)],
        unranked=[one.name for one in unranked],
    )


# -- what is said ------------------------------------------------------------------------------


def summary(result: Faithfulness, title: str, seconds: float) -> View:
    """Return what the terminal shows of it."""
    lines = [said_best(result), *_why_not(result)]
    lines.append(
        f"{len(result.targets):,} images, {len(result.judged)} explainers: {duration(seconds)}."
    )
    return View(
        title,
        result.to_dict(),
        (
            Grid(
                "Areas under insertion and deletion; gain over a random order; ms per image",
                ("explainer", "insertion", "deletion", "gain", "empty", "ms"),
                (*(_areas(one) for one in result.judged), _random_areas(result)),
            ),
            Grid(
                "Rank correlation with maps of random weights, by share of random layers",
                ("explainer", *_shares(result), "all", "signed", "verdict"),
                tuple(_correlations(one) for one in result.judged if one.randomisation),
            ),
            Grid(
                _pointing_title(result),
                ("explainer", "largest value on the object"),
                tuple((one.name, full(one.pointing.rate)) for one in result.judged if one.pointing),
            ),
            Grid("Not for this model", ("explainer", "why"), tuple(result.failed.items())),
        ),
        tuple(lines),
    )


def said_best(result: Faithfulness) -> str:
    """Return the answer in a sentence."""
    if result.best is None:
        return "No explainer is known to be faithful for this model."
    ties = f" Within its noise: {', '.join(result.ties)}." if result.ties else ""
    return f"Most faithful for this model: {result.best}.{ties}"


def _why_not(result: Faithfulness) -> list[str]:
    """Return what kept explainers from being called the most faithful, a line each."""
    found = []
    if result.unrandomised:
        found.append(f"! No maps of random weights: {result.unrandomised}.")
    for verdict, why in (
        ("survives", "their maps survive random weights"),
        (
            "undecided",
            "it is undecided whether their maps survive random weights (more --networks and "
            "--randomised tell)",
        ),
        ("not run", "they could not be tried on random weights"),
    ):
        names = [one.name for one in result.judged if one.verdict == verdict]
        if names and not result.unrandomised:
            found.append(f"! Not ranked, since {why}: {', '.join(names)}.")
    worthless = [one.name for one in result.judged if not one.better.low > 0]
    if worthless:
        found.append(
            f"! Not better than a random order, as far as {len(result.targets):,} images tell: "
            f"{', '.join(worthless)}."
        )
    return found


def _areas(one: Judged) -> tuple[str, ...]:
    return (
        one.name,
        bare(float(one.insertion.area.mean()), "number"),
        bare(float(one.deletion.area.mean()), "number"),
        _give_or_take(one.better),
        with_unit(one.empty.value, "fraction"),
        f"{1000 * one.seconds / len(one.maps):.1f}",
    )


def _random_areas(result: Faithfulness) -> tuple[str, ...]:
    areas = (float(curve.area.mean()) for curve in (result.insertion, result.deletion))
    return ("(random order)", *(bare(area, "number") for area in areas), "0", "", "")


def _shares(result: Faithfulness) -> tuple[str, ...]:
    """Return what the columns of correlations are called, but for the last one."""
    random = next((one.randomisation for one in result.judged if one.randomisation), None)
    return () if random is None else tuple(f"{100 * share:.0f} %" for share in random.share[:-1])


def _correlations(one: Judged) -> tuple[str, ...]:
    random = one.randomisation
    assert random is not None
    stages = range(len(random.share) - 1)
    on_the_way = [random.over_networks(random.absolute[:, k]).value for k in stages]
    return (
        one.name,
        *(_short(mean) for mean in on_the_way),
        _give_or_take(random.correlation),
        _short(random.over_networks(random.signed[:, -1]).value),
        one.verdict,
    )


def _give_or_take(estimate: stats.Estimate) -> str:
    """Return the number and half its interval, as far as that reaches."""
    if math.isnan(estimate.value):
        return MISSING
    half = max(estimate.high - estimate.value, estimate.value - estimate.low)
    return f"{_short(estimate.value)} ± {_short(half)}"


def _short(value: float) -> str:
    if math.isnan(value):
        return MISSING
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−").replace("inf", "∞")  # 0.0: no −0.00


def _pointing_title(result: Faithfulness) -> str:
    game = next((one.pointing for one in result.judged if one.pointing), None)
    if game is None:
        return ""
    beside = f", or at most {game.tolerance} px beside it" if game.tolerance else ""
    return f"Pointing at the object{beside}; a point at random does for {100 * game.chance:.0f} %"
