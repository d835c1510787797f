"""The result of an attack: its doubts, what the terminal shows, the pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from assay import stats
from assay.attacks import contradictions, reliability
from assay.attacks.result import AttackResult
from assay.core.classifier import Classifier
from assay.data import Dataset
from assay.disk import refusal, write_atomic
from assay.report.flagged import flagged
from assay.report.numerals import attack_name, budget, duration, full, norm_name
from assay.report.pictures import amplify, fit_amplification
from assay.report.sheet import contact_sheet, picture_bytes, png_bytes
from assay.runs.view import Grid, View

SHEET, PICTURES = "sheet.png", "images"
OURS = re.compile(r"\d{6,}-\w+-\w+-[1-4]-(image|attacked(-undone)?|difference(-x[\d.e+]+)?)\.png")
"""What pictures are called: index in the data set, what the model said before and after, kind."""
LOOKED_AT = 64
"""Images on which gradients, and whether answers repeat, are examined."""


def heading(result: AttackResult, model: str, data: str, target: str | None) -> str:
    """Return what was done, as papers write it: PGD, L∞ 8/255 on mine.safetensors, digits (test)"""
    threat = result.threat
    size = budget(threat.eps, threat.norm) if threat.limited else "without a limit"
    aim = "" if target is None else f" towards {target}"
    name = f"{attack_name(result.attack.name)}{aim}, {norm_name(threat.norm)} {size}"
    return f"{name} on {model}, {data}"


def clean_accuracy(result: AttackResult) -> stats.Estimate:
    return stats.proportion(int(result.correct.sum()), len(result), "all images")


def doubts(result: AttackResult) -> list[reliability.Indicator]:
    """Return the flags that are raised, of those that cost little; they query the model again."""
    oracle = result.oracle
    found = [contradictions.rounding_undoes(result)]
    rows = result.correct.nonzero()[:LOOKED_AT, 0]
    if len(rows):
        found.append(reliability.randomised(oracle, result.inputs[rows]))
    if isinstance(oracle, Classifier):
        found.append(reliability.outputs_were_probabilities(oracle))
        if result.attack.needs == "gradient" and len(rows):
            x, y = result.inputs[rows], result.labels[rows]
            losses = reliability.followed(result.attack)
            found.append(reliability.vanishing_gradients(oracle, x, y, losses=losses))
    return sorted((flag for flag in found if flag.raised), key=lambda flag: flag.code)


def summary(result: AttackResult, raised: Sequence[reliability.Indicator], title: str) -> View:
    """Return what the terminal shows of it."""
    unit = norm_name(result.threat.norm)
    moved, queries = result.median_distance, result.median_queries
    aim = "fooled" if result.targets is None else "led to their target"
    rows = [
        (f"correctly classified images {aim}", full(result.success_rate)),
        ("the same, once rounded to 8 bits", full(result.after_rounding)),
        ("clean accuracy", full(clean_accuracy(result))),
    ]
    if result.targets is None:  # of others than the target, a targeted attack says nothing
        rows.append(("accuracy under this attack", full(result.robust_accuracy)))
    rows.append(("median distance, where it succeeded", _distance(moved, unit)))
    if result.stop == "fooled":
        shown = "–" if queries is None else f"{queries:,.0f}"
        rows.append(("median queries until it succeeded", shown))
    time = f"{duration(result.seconds / len(result))} ({duration(result.seconds)} in all)"
    rows.append(("time per image", time))
    counted = {
        "given up early, because of a limit": int(result.cut.sum()),
        "without an answer (never a success)": result.unanswered,
        "without an answer once attacked (neither fooled nor right)": int(result.silenced.sum()),
        "candidates outside the budget, refused": result.refused,
    }
    rows += [(what, f"{count:,}") for what, count in counted.items() if count]
    lines = [f"! {flagged(flag)}" for flag in raised]
    if result.fast is not None and not result.fast.used:
        lines.append(f"! there was no fast copy of the model: {result.fast.why}")
    return View(title, {}, (Grid("", ("", ""), tuple(rows)),), tuple(lines))


def _distance(moved: float | None, unit: str) -> str:
    if moved is None:
        return "–"
    levels = f" ({255 * moved:.3g}/255)" if unit == "L∞" else ""
    return f"{moved:.4g} in {unit}{levels}"


# -- pictures ----------------------------------------------------------------------------------


def draw(result: AttackResult, data: Dataset, out: Path, most: int, title: str) -> None:
    """Write the first successes as PNGs to images/, and all of them on a contact sheet.

    Those of an earlier call go; what else lies in images/ stays. The name of an attacked image
    says so where rounding has undone it: where the model is not fooled by what the PNG holds.

    Raises:
        AssayError: they cannot be written.
    """
    folder = out / PICTURES
    try:
        for old in folder.iterdir() if folder.is_dir() else ():
            if OURS.fullmatch(old.name):
                old.unlink()
        (out / SHEET).unlink(missing_ok=True)
        won = result.fooled.nonzero()[:, 0]
        if len(won[:most]):
            folder.mkdir(exist_ok=True)
            _draw(result, data, out, most, title)
        elif folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise refusal(error, folder) from error


def _draw(result: AttackResult, data: Dataset, out: Path, most: int, title: str) -> None:
    won = result.fooled.nonzero()[:, 0]
    rows = won[:most]
    clean, moved = result.inputs[rows].numpy(), result.adversarial[rows].numpy()
    factor = fit_amplification(clean, moved)
    names = [*data.classes, "no answer"]
    before = [names[k] for k in result.clean_prediction[rows].tolist()]
    after = [names[k] for k in result.adversarial_prediction[rows].tolist()]
    held = result.survives_rounding[rows].tolist()
    difference, amplified = amplify(clean, moved, 1), amplify(clean, moved, factor)
    for i, index in enumerate(data.ids[rows].tolist()):
        kinds = {
            "1-image": clean[i],
            "2-attacked" if held[i] else "2-attacked-undone": moved[i],
            "3-difference": difference[i],
            f"4-difference-x{factor:g}": amplified[i],
        }
        for kind, image in kinds.items():
            name = f"{index:06d}-{_slug(before[i])}-{_slug(after[i])}-{kind}.png"
            (out / PICTURES / name).write_bytes(png_bytes(image))
    which = f"The first {len(rows)} of" if len(rows) < len(won) else "All"
    aim = "Fooled" if result.targets is None else "Led to their target"
    figure = contact_sheet(
        clean,
        moved,
        title=title,
        notes=[
            f"{aim}: {full(result.success_rate)}",
            f"Once rounded to 8 bits, as in a PNG: {full(result.after_rounding)}",
            f"{which} {len(won):,} successes{'' if all(held) else '; * undone by rounding'}",
        ],
        captions=[
            (one if stays else f"* {one}", other)
            for one, other, stays in zip(before, after, held, strict=True)
        ],
        amplification=factor,
    )
    write_atomic(out / SHEET, picture_bytes(figure))


def _slug(name: str) -> str:
    return re.sub(r"\W+", "_", name)[:24]
