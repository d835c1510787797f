"""What the page of the study `attacks` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay import stats
from assay.report import figures as draw
from assay.report.numerals import budget, norm_name
from assay.report.record import EstimateModel
from assay.report.result import Cell, Drawing, Table
from assay.runs.entry import Result
from assay.runs.results import Results
from assay.studies.answers import SHARE, Wording, compose, points
from assay.studies.attacks import course
from assay.studies.cells import Cells, Column
from assay.studies.subjects import NATURAL, cell
from assay.tasks.train import settings, split

if TYPE_CHECKING:
    from assay.studies.attacks.study import Attacks

EXAMPLES = 4
"""Images that are shown under every attack."""
AMPLIFICATION = 10
"""Of the differences, the same for all attacks: at 8/255 a third of the range."""
MOST_WIDE = 6
"""Networks of a matrix of transfer that a page has room for with their intervals."""


def tables(study: Attacks, cells: Cells, done: Results) -> tuple[Table, ...]:
    """Return, for every network, the success of every attack at every budget, its cost; and how
    well what is made on one network transfers to the others."""
    found = []
    for network in study.networks():
        names = {run.name: cell(run.name, network) for run in study.runs()}
        clean = cells.mean(f"{network} network", "test_accuracy")
        found.append(
            cells.table(
                done_to(network),
                (
                    Column("fooled", "success_share"),
                    Column("fooled once rounded to 8 bits", "rounded_share"),
                ),
                cells=list(names.values()),
                caption="Shares are of the test images that the network classifies correctly "
                f"(its test accuracy is {clean.percent()}; {study.images} images are attacked). "
                "Distance: the median of the fooled images, in the attack's own norm. Queries: "
                "the median per fooled image, gradients included, the clean prediction and the "
                "confirmation too; an image stops early once it is fooled. Time: of one core, for "
                "the attack alone, over the attacked images; the clean prediction of every image "
                "and the making of the fast copy are in it, loading the network and images is not.",
                heading="attack and budget",
                more={
                    "median distance": lambda name: _typical(cells, name, "median_distance"),
                    "queries": lambda name: _typical(cells, name, "median_queries"),
                    "ms per image": lambda name: _time(cells, name),
                },
            )
        )
    if study.course:
        found.insert(0, course.table(cells, study))
    transfer = study.transferred()
    result = None if transfer is None else done.get(transfer)
    return (*found, *(_transfer(study, result) if result else ()))


def done_to(network: str) -> str:
    """Return the title of a network's table."""
    hardened = "" if network == NATURAL else " to the network trained against attacks"
    return f"What every attack does{hardened}"


def _transfer(study: Attacks, result: Result) -> tuple[Table, ...]:
    """Return the matrices of transfer and of universal perturbations."""
    names = result.metrics["names"]
    size = budget(study.budgets[-1], "linf")
    rows_and_columns = (
        "Rows are what they were made on, columns what they were evaluated on (network and seed): "
        f"of the {study.images} images those that the latter classifies correctly, and of these "
        "the share that it is fooled on"
    )

    def table(title: str, about: str, matrix: Sequence[Sequence[Mapping[str, Any]]]) -> Table:
        rates = [[EstimateModel(**rate) for rate in row] for row in matrix]
        narrow = len(names) > MOST_WIDE
        every = [rate for row in matrix for rate in row if rate["value"] is not None]
        apart = max((rate["high"] - rate["low"] for rate in every), default=1.0) / 2
        said = f" (95 % intervals, at most ± {100 * apart:.0f} points, are left out)"
        return Table(
            title=title,
            columns=("made on", *names),
            rows=tuple(
                (Cell(text=name), *(_rate(rate, narrow=narrow) for rate in row))
                for name, row in zip(names, rates, strict=True)
            ),
            caption=f"{about} {rows_and_columns}{said if narrow else ', with its 95 % interval'}.",
        )

    found = result.metrics
    return (
        table(f"Transfer of PGD, {size}", "All steps, every image.", found["transfer"]),
        table(
            f"One perturbation for all images, {size}",
            "Made on training images, evaluated on test images.",
            found["universal"],
        ),
    )


def _rate(rate: EstimateModel, *, narrow: bool) -> Cell:
    if not narrow or rate.value is None:
        return Cell(estimate=rate)
    return Cell(text=f"{100 * rate.value:.0f} %")


def figures(study: Attacks, cells: Cells, done: Results) -> tuple[Drawing, ...]:
    """Return pictures, where the pixels are, which classes become which."""
    pictured = {method: done[trial] for method, trial in study.pictured().items() if trial in done}
    return (
        *_pictures(study, pictured),
        *_places(pictured),
        *_confusions(study, cells),
    )


def answer(study: Attacks, claims: Sequence[stats.Claim]) -> str:
    """Return what the verdicts answer."""
    few = study.named(f"one-pixel {norm_name('l0')}")
    pixels = budget(few.eps, "l0") if few else "a pixel"
    at, most = budget(study.at, "linf"), budget(study.budgets[-1], "linf")
    share = f"{100 * study.delta:g} % of the images"
    left = f"{100 * (1 - study.delta):g} % of the images as they were classified"
    return compose(
        claims,
        {
            "attacks.pixels": Wording(
                f"Changing {pixels}, without gradients, fools more than {share}",
                f"Changing {pixels}, without gradients, fools less than {share}",
                f"changing {pixels}, without gradients, fools more than {share}",
                SHARE,
            ),
            "attacks.iterate": Wording(
                f"At {at} many small steps (PGD) fool more images than one large step (FGSM)",
                f"At {at} many small steps (PGD) fool no more images than one large step (FGSM)",
                f"many small steps (PGD) fool more images than one large step (FGSM) at {at}",
                points("success"),
            ),
            "attacks.noise": Wording(
                f"Noise of {most} leaves more than {left}",
                f"Noise of {most} leaves less than {left}",
                f"noise of {most} leaves more than {left}",
                SHARE,
            ),
            **course.wordings(),
        },
    )


def summary(study: Attacks, cells: Cells) -> str:
    """Return the success of the attacks at the budget of comparison."""
    said = []
    for method in ("fgsm", "pgd"):
        run = study.named(method)
        if run and cells.kept(cell(run.name)):
            share = cells.mean(cell(run.name), "success_share").percent()
            said.append(f"{method.upper()} fools {share}")
    if not said:
        return "No attack has run."
    return f"At {budget(study.at, 'linf')} {' and '.join(said)} of correctly classified images."


def notes(study: Attacks) -> tuple[str, ...]:
    """Return what a reader must know."""
    return (
        *(course.notes() if study.course else ()),
        "Budgets are in pixel units of [0, 1], images stay in [0, 1], and float32 confirms every "
        "success. The course's were in normalised units, not clipped, with a step of PGD longer "
        "than its radius (--preset paper).",
        "An image stops early once it is fooled, so distances and queries are those of the first "
        "success; the pictures are of attacks that make all their steps.",
        f"Black-box attacks are given few queries ({_spends(study)}): with more they fool more.",
        "An attack that fools few images may be a weak attack: what it does not find is no proof "
        "of robustness.",
    )


def _spends(study: Attacks) -> str:
    said = []
    for attack in study.attacks:
        if attack.needs == "scores":
            queries = getattr(attack, "queries", None)
            if queries is None:
                queries = getattr(attack, "population", 1) * (getattr(attack, "steps", 0) + 1)
            said.append(f"{attack.name} about {queries:,}")
    return ", ".join(said) or "none here"


def _typical(cells: Cells, name: str, metric: str) -> Cell | str:
    """Return the mean over seeds of a median; "" where nothing was fooled."""
    values = [r.metrics[metric] for r in cells.kept(name) if r.metrics[metric] is not None]
    if not values:
        return "none fooled"
    return f"{np.mean(values):.3g}"


def _time(cells: Cells, name: str) -> str:
    """Return the mean wall time of an attack per attacked image, in milliseconds, of the trials
    whose record has it."""
    each = [
        1000 * run.record["timings"]["attack"] / max(1, run.metrics["n_success"])
        for run in cells.kept(name)
        if "attack" in run.record.get("timings", {})
    ]
    return f"{np.mean(each):.3g}" if each else "not measured"


def _pictures(study: Attacks, pictured: dict[str, Result]) -> list[Drawing]:
    """Return a few images under every attack: attacked, difference, amplified difference."""
    if not pictured:
        return []
    first = next(iter(pictured.values()))
    rows = _telling(list(pictured.values()))[:EXAMPLES]
    classes = split(settings(first.trial.needs[0]), "test").classes
    found = []
    for row in rows:
        names, clean, attacked = ["image"], [], []
        label = classes[int(first.arrays["clean_prediction"][row])]
        captions = [label]
        image = first.arrays["images"][row]
        clean.append(image)
        attacked.append(image)
        for method, result in pictured.items():
            names.append(method)
            clean.append(image)
            attacked.append(result.arrays["adversarial"][row])
            predicted = int(result.arrays["adversarial_prediction"][row])
            captions.append(classes[predicted] if predicted >= 0 else "no answer")
        heads = [f"{name}\n{caption}" for name, caption in zip(names, captions, strict=True)]
        found.append(
            Drawing(
                title=f"One {label} under every attack",
                caption="Above the image as it is and as each attack changes it, with what the "
                "network predicts; in the middle the difference as it is, below it "
                f"{AMPLIFICATION} times as strong, the same for all attacks; mid grey is no "
                f"change. Budgets: {_budgets(study)}.",
                svg=draw.inline_svg(
                    draw.before_after(
                        np.stack(clean),
                        np.stack(attacked),
                        captions=heads,
                        amplifications=(1, AMPLIFICATION),
                        columns=len(clean),
                    )
                ),
            )
        )
    return found


def _budgets(study: Attacks) -> str:
    last = [study.at_budgets(attack)[-1] for attack in study.attacks]
    shown: dict[str, str] = {}
    for run in last:
        norm = run.attack.threat.norm
        shown[norm] = "no limit" if run.attack.minimum_norm else budget(run.eps, norm)
    return "; ".join(f"{norm_name(norm)} {said}" for norm, said in shown.items())


def _telling(results: Sequence[Result]) -> list[int]:
    """Return the images that all attacks were run on, those that most of them fooled first, each of
    another class as long as there are such."""
    count = sum(result.arrays["success"].astype(int) for result in results)
    right = results[0].arrays["correct"]
    order = [int(row) for row in np.argsort(-count, kind="stable") if right[row]]
    labels = results[0].arrays["labels"]
    seen: set[int] = set()
    new: list[int] = []
    again: list[int] = []
    for row in order:
        (again if int(labels[row]) in seen else new).append(row)
        seen.add(int(labels[row]))
    return new + again


def _places(pictured: dict[str, Result]) -> list[Drawing]:
    """Return where the attacks in l0 put their pixels."""
    maps: dict[str, NDArray[Any]] = {}
    for method, result in pictured.items():
        if result.metrics["threat"]["norm"] != "l0" or method.startswith("noise"):
            continue
        fooled = result.arrays["success"]
        moved = result.arrays["adversarial"] != result.arrays["images"]
        if fooled.any():
            maps[method] = moved[fooled].any(1).mean(0)
    if not maps:
        return []
    height, width = next(iter(maps.values())).shape
    return [
        Drawing(
            title="Where the few pixels are",
            caption="Share of the fooled images in which a pixel was changed, from black (never) "
            f"on, at the greatest budget, on {_counts(pictured, maps)}.",
            svg=draw.inline_svg(
                draw.heat_maps(
                    list(maps),
                    list(maps.values()),
                    x=list(range(width)),
                    y=[[str(row) for row in range(height)]] * len(maps),
                    x_label="column",
                    y_label="row",
                    bar_label="share of images",
                    log=False,
                    square=True,
                )
            ),
        )
    ]


def _counts(pictured: dict[str, Result], maps: dict[str, NDArray[Any]]) -> str:
    return " and ".join(
        f"{int(pictured[method].arrays['success'].sum())} images ({method})" for method in maps
    )


def _confusions(study: Attacks, cells: Cells) -> list[Drawing]:
    """Return which classes become which, under the strongest gradient attack at `at`."""
    run = study.named("pgd")
    results = cells.kept(cell(run.name)) if run else []
    if not run or not results:
        return []
    classes = split(settings(results[0].trial.needs[0]), "test").classes
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    for result in results:
        held = result.arrays
        for label, predicted in zip(
            held["labels"][held["correct"]],
            held["adversarial_prediction"][held["correct"]],
            strict=True,
        ):
            if predicted >= 0:
                counts[label, predicted] += 1
    fooled = counts.sum() - counts.trace()
    pairs = sorted(
        (
            (int(counts[a, b]), f"{classes[a]} → {classes[b]}")
            for a in range(len(classes))
            for b in range(len(classes))
            if a != b
        ),
        reverse=True,
    )[:3]
    most = ", ".join(f"{name} ({count})" for count, name in pairs if count)
    return [
        Drawing(
            title="Which classes become which",
            caption=f"Correctly classified images under {run.name}: rows are what they are, "
            f"columns what the network then predicts; {fooled} images were fooled, over all seeds. "
            f"Most often: {most or 'none'}.",
            svg=draw.inline_svg(draw.confusion(counts, classes)),
        )
    ]
