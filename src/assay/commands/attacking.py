"""An attack from the command line: load, attack part by part, keep, say what came of it."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from torch import Tensor

from assay import stats
from assay.attacks import reliability
from assay.attacks.base import Attack, Stop
from assay.attacks.over import Progress, Targets, run_over
from assay.attacks.result import AttackResult
from assay.auditing import running as auditing
from assay.config import digest
from assay.core.blackbox import Answers
from assay.core.classifier import Classifier
from assay.core.fast import Precision
from assay.core.oracle import Oracle
from assay.data import Dataset, load_data
from assay.errors import AssayError, unknown
from assay.models.loading import fingerprint, load_oracle
from assay.report.numerals import budget, duration, full, norm_name
from assay.report.pictures import amplify, fit_amplification
from assay.report.sheet import contact_sheet, picture_bytes, png_bytes
from assay.runs.display import LINE_EVERY, say, until
from assay.runs.files import to_json, writable, write_atomic
from assay.runs.record import surroundings
from assay.runs.view import Grid, View
from assay.studies.base import device_here

ATTACK, RECORD, SHEET, PICTURES = "attack.json", "record.json", "sheet.png", "images"
SCHEMA = 1
LOOKED_AT = 64
"""Images on which the gradients are looked at."""
LEAST_LIKELY: Literal["least-likely"] = "least-likely"


@dataclass(frozen=True)
class Victim:
    """What is attacked, as it was named.

    Attributes:
        model: path.safetensors, file.py:factory, or with `access` file.py:function or a URL.
        weights, mean, std, outputs: of a factory's network.
        access, timeout, headers: of what can only be asked.
        data, split, images: the data set, its part, and how many of its images.
        targets: a class by name or number, "least-likely", or None.
        device: where the model computes.
    """

    model: str
    data: str
    weights: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    outputs: Literal["logits", "probabilities"] = "logits"
    access: Answers | None = None
    timeout: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    split: str = "test"
    images: int = 1000
    targets: str | None = None
    device: str = "auto"


def run(
    attack: Attack,
    victim: Victim,
    out: Path,
    *,
    stop: Stop,
    attack_wrong: bool,
    seed: int,
    precision: Precision,
    batch_size: int | None,
    query_budget: int | None,
    time_limit: float | None,
    part: int | None,
    threads: int | None,
    pictures: int,
    progress: bool,
    quiet: bool,
) -> int:
    """Attack, write everything to `out`, and say what came of it.

    Raises:
        AssayError: for a model, data or settings that cannot be used, or a folder that was made
            with other ones.
    """
    writable(out)
    if threads is not None:
        torch.set_num_threads(threads)
    data = load_data(victim.data, split=victim.split)
    targets = target_class(victim.targets, data.classes)
    chosen = images_of(data, victim.images, targets)
    oracle = load(victim, data)
    settings: dict[str, Any] = {
        "targets": targets,
        "stop": stop,
        "attack_wrong": attack_wrong,
        "seed": seed,
        "precision": precision,
        "query_budget": query_budget,
        "time_limit": time_limit,
    }
    with shown(progress) as told:
        result = run_over(
            attack,
            oracle,
            chosen,
            folder=out,
            batch_size=batch_size,
            part=part,
            model=mark(victim, oracle),
            progress=told,
            **settings,
        )
    raised = doubts(result)
    about = {
        "schema": SCHEMA,
        **result.to_dict(),
        **settings,
        "clean_accuracy": clean_accuracy(result).to_dict(),
        "after_rounding": result.after_rounding.to_dict(),
        "model": {"name": victim.model, "mark": mark(victim, oracle)},
        "data": {"name": data.name, "split": data.split, "fingerprint": chosen.fingerprint},
        "flags": [flag.to_dict() for flag in raised],
    }
    title = f"{named(attack, result)} on {Path(victim.model).name}, {data.name} ({data.split})"
    draw(result, chosen, out, pictures, title)
    write_atomic(out / ATTACK, to_json(about, indent=2))
    write_atomic(out / RECORD, to_json({"seconds": result.seconds, **surroundings()}, indent=2))
    if not quiet:
        Console(highlight=False).print(summary(result, raised, title))
    print(out)
    return 0


# -- what is attacked --------------------------------------------------------------------------


def load(victim: Victim, data: Dataset) -> Oracle[Tensor]:
    """Return the model, on its device; one that can only be asked has the classes of the data."""
    if victim.access is not None or re.match(r"https?://", victim.model):
        return load_oracle(
            victim.model,
            access=victim.access,
            classes=data.classes,
            timeout=victim.timeout,
            headers=victim.headers or None,
            weights=victim.weights,
            mean=victim.mean,
            std=victim.std,
            outputs=victim.outputs,
        )
    subject = auditing.Subject(
        model=victim.model,
        weights=victim.weights,
        mean=victim.mean,
        std=victim.std,
        outputs=victim.outputs,
        data=victim.data,
    )
    clf = auditing.load(subject, data)
    clf.model.to(device_here(victim.device))
    return clf


def mark(victim: Victim, oracle: Oracle[Tensor]) -> str:
    """Return what the model is known by when the command is given again.

    Of a network that is its weights and the code of its file; of a function the file; of a
    service its address: what answers there may change, and nobody would know.
    """
    if isinstance(oracle, Classifier):
        code = fingerprint(victim.model, weights=None) if ".py:" in victim.model else ""
        return digest([oracle.fingerprint, code])
    if ".py:" in victim.model:
        return digest([fingerprint(victim.model), victim.access])
    return f"{victim.model} ({victim.access})"


def target_class(asked: str | None, classes: tuple[str, ...]) -> Targets | None:
    """Return the class that `--targets` means: by its name, or else its number."""
    if asked is None or asked == LEAST_LIKELY:
        return None if asked is None else LEAST_LIKELY
    if asked in classes:
        return classes.index(asked)
    if asked.isdecimal() and int(asked) < len(classes):
        return int(asked)
    if asked.isdecimal():
        raise AssayError(f"--targets {asked}: there are the classes 0 to {len(classes) - 1}")
    raise unknown("class", asked, [*classes, LEAST_LIKELY])


def images_of(data: Dataset, count: int, targets: Targets | None) -> Dataset:
    """Return the images that are attacked: a random subset, none of the class asked for."""
    if isinstance(targets, int):
        data = data.subset(data.labels != targets)
        if len(data) == 0:
            raise AssayError("--targets: every image is of this class already; name another one")
    return data if count >= len(data) else data.sample(count)


# -- what is shown -----------------------------------------------------------------------------


@contextmanager
def shown(progress: bool) -> Iterator[Progress | None]:
    """Give what shows how far it is: a bar on a terminal, a line now and then elsewhere."""
    started = time.monotonic()

    def left(done: int, before: int, whole: int | None) -> float | None:
        new = done - before
        if whole is None or new == 0:
            return None
        return (time.monotonic() - started) / new * (whole - done)

    if not progress:
        yield None
    elif sys.stderr.isatty():
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        with Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}", style="dim"),
            console=Console(stderr=True),
            transient=True,
        ) as bar:
            task = bar.add_task("attacking", total=None, note="")

            def update(done: int, before: int, whole: int | None) -> None:
                note = f"{_of(done, whole)} images{until(left(done, before, whole))}"
                bar.update(task, completed=done, total=whole, note=note)

            yield update
    else:
        said = started

        def line(done: int, before: int, whole: int | None) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= LINE_EVERY or done == whole:
                said = now
                there = f" ({before:,} there already)" if before else ""
                rest = until(left(done, before, whole))
                say(f"{_of(done, whole)} images attacked{there}{rest}")

        yield line


def _of(done: int, whole: int | None) -> str:
    return f"{done:,}" if whole is None else f"{done:,}/{whole:,}"


def named(attack: Attack, result: AttackResult) -> str:
    """Return attack and budget as papers write them: PGD, L∞ 8/255."""
    threat = result.threat
    size = budget(threat.eps, threat.norm) if threat.limited else "without a limit"
    return f"{attack.name.upper()}, {norm_name(threat.norm)} {size}"


def clean_accuracy(result: AttackResult) -> stats.Estimate:
    return stats.proportion(int(result.correct.sum()), len(result), "all images")


def doubts(result: AttackResult) -> list[reliability.Flag]:
    """Return the flags that are raised, of those that cost little."""
    found = [reliability.rounding_undoes(result)]
    clf = result.oracle
    if isinstance(clf, Classifier):
        found.append(reliability.outputs_were_probabilities(clf))
        rows = result.correct.nonzero()[:LOOKED_AT, 0]
        if result.attack.needs == "gradient" and len(rows):
            found.append(
                reliability.vanishing_gradients(clf, result.images[rows], result.labels[rows])
            )
    return sorted((flag for flag in found if flag.raised), key=lambda flag: flag.code)


def summary(result: AttackResult, raised: list[reliability.Flag], title: str) -> View:
    """Return what the terminal shows of it."""
    unit = norm_name(result.threat.norm)
    moved, asked = result.median_distance, result.median_queries
    aim = "fooled" if result.targets is None else "led to their target"
    rows = [
        (f"correctly classified images {aim}", full(result.success_rate)),
        ("the same, once rounded to 8 bits", full(result.after_rounding)),
        ("clean accuracy", full(clean_accuracy(result))),
        ("accuracy under this attack", full(result.robust_accuracy)),
        ("median distance, where it succeeded", _distance(moved, unit)),
        ("median questions, where it succeeded", "–" if asked is None else f"{asked:,.0f}"),
        (
            "time per image",
            f"{duration(result.seconds / len(result))} ({duration(result.seconds)} in all)",
        ),
    ]
    counted = {
        "given up before the last step, because of --query-budget or --time-limit": int(
            result.cut.sum()
        ),
        "without an answer from the model (never a success)": result.unanswered,
        "candidates outside the budget, refused": result.refused,
    }
    rows += [(what, f"{count:,}") for what, count in counted.items() if count]
    lines = [f"! {flag.code}: {flag.title}. {flag.detail}" for flag in raised]
    if result.fast is not None and not result.fast.used:
        lines.append(f"! there was no fast copy of the model: {result.fast.why}")
    return View(title, {}, (Grid("", ("", ""), tuple(rows)),), tuple(lines))


def _distance(moved: float | None, unit: str) -> str:
    if moved is None:
        return "–"
    levels = f" ({255 * moved:.2g}/255)" if unit == "L∞" else ""
    return f"{moved:.4g} in {unit}{levels}"


# -- pictures ----------------------------------------------------------------------------------


def draw(result: AttackResult, data: Dataset, out: Path, most: int, title: str) -> None:
    """Write the first successes as PNGs to images/, and all of them on a contact sheet.

    The folder is exchanged as a whole: it never holds pictures of two calls.
    """
    part, folder = out / f".{PICTURES}.part", out / PICTURES
    for old in (part, folder):
        shutil.rmtree(old, ignore_errors=True)
    (out / SHEET).unlink(missing_ok=True)
    rows = (result.success & result.correct).nonzero()[:most, 0]
    if not len(rows):
        return
    clean, moved = result.images[rows].numpy(), result.adversarial[rows].numpy()
    factor = fit_amplification(clean, moved)
    names = [*data.classes, "no answer"]
    before = [names[k] for k in result.clean_prediction[rows].tolist()]
    after = [names[k] for k in result.adversarial_prediction[rows].tolist()]
    kinds = {
        "1-image": clean,
        "2-attacked": moved,
        "3-difference": amplify(clean, moved, 1),
        f"4-difference-x{factor:g}": amplify(clean, moved, factor),
    }
    part.mkdir()
    for i, index in enumerate(data.ids[rows].tolist()):
        for kind, images in kinds.items():
            name = f"{index:06d}-{_slug(before[i])}-{_slug(after[i])}-{kind}.png"
            (part / name).write_bytes(png_bytes(images[i]))
    part.replace(folder)
    survives = result.survives_rounding[rows].tolist()
    figure = contact_sheet(
        clean,
        moved,
        title=title,
        note=f"Success rate: {result.success_rate.percent()}\n"
        f"Once rounded to 8 bits, as in a PNG: {result.after_rounding.percent()}\n"
        f"The first {len(rows)} of {int((result.success & result.correct).sum()):,} successes"
        f"{'' if all(survives) else '; * undone by rounding'}",
        captions=[
            f"{one} → {other}{'' if held else ' *'}"
            for one, other, held in zip(before, after, survives, strict=True)
        ],
        amplification=factor,
    )
    write_atomic(out / SHEET, picture_bytes(figure))


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name)[:40]
