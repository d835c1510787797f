"""Two audits side by side: what each check says in both, how far apart they are, and whether images
that both were asked about tell them apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay import stats
from assay.errors import AssayError, expanded, told
from assay.report.answer import plain
from assay.report.comparison import Change, by_code, change, change_text
from assay.report.leaves import flatten, settings_differing, text_of
from assay.report.numerals import MISSING, asked, budget, full, norm_name
from assay.report.schema import BY_QUERIES, AuditReport, Check
from assay.report.terminal import judged_checks
from assay.runs.files import Array, Arrays
from assay.runs.store import RUN, Run, Store
from assay.runs.view import Grid, View

REPORT = "report.json"
ARRAYS = "arrays.npz"


@dataclass(frozen=True)
class Kept:
    """An audit that was kept.

    Attributes:
        name: what people call it: the id of a run, or a path.
        report: its report.json.
        folder: where arrays.npz lies beside it.
    """

    name: str
    report: AuditReport
    folder: Path


def audit_of(store: Store, text: str) -> Kept | None:
    """Return the audit that a text means: a folder, a report.json, or a run of the store; None
    where it means something else, or where the report is gone.

    Raises:
        AssayError: its report cannot be read.
    """
    if (outside := audit_outside(text)) is not None:
        return outside
    try:
        found = store.find(text)
    except AssayError:
        return None
    if not isinstance(found, Run) or found.kind != "audit":
        return None
    file = Path(str(found.document.get("report", ""))).with_suffix(".json")
    return Kept(found.id, AuditReport.read(file), file.parent) if file.is_file() else None


def _is(file: Path) -> bool:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "checks" in document


def audit_outside(text: str) -> Kept | None:
    """Return the audit that is no run of a store: that of a path of a report.json, or of a folder
    with one; None where `text` is no such path.

    Raises:
        AssayError: its report cannot be read.
    """
    path = expanded(text)
    file = path / REPORT if path.is_dir() else path
    if not file.is_file() or file.suffix != ".json" or file.name == RUN or not _is(file):
        return None
    return Kept(text.rstrip("/"), AuditReport.read(file), file.parent)


def show_audit(kept: Kept) -> View:
    """Return what the terminal shows of an audit outside a store."""
    report = kept.report
    page = kept.folder / "report.html"
    lines = [f"audit, made {report.created[:16].replace('T', ' ')}", report.title]
    lines.append(plain(report.answer) or report.summary)
    return View(
        kept.name,
        report.model_dump(mode="json"),
        (Grid("settings", ("setting", "value"), table_of(report.made.config)),),
        tuple(lines),
        (f"page: {page}" if page.is_file() else str(kept.folder),),
        tuple(judged_checks(report)),
    )


def table_of(values: Any) -> tuple[tuple[str, str], ...]:
    """Return settings or metrics as rows: dotted path and value, without those that are empty."""
    found = ((path, text_of(value, path)) for path, value in flatten(values).items() if path)
    return tuple((path, text) for path, text in found if text)


def compare_audits(a: Kept, b: Kept) -> View:
    """Return two audits side by side.

    B − A has the interval of independent estimates, which is too wide where both rest on the same
    images; there the difference of what is right image by image has its own, with the p of the
    exact test of McNemar. Robustness to attacks of different budgets or norms, or by queries alone
    in one of the two, is not compared: it would be no answer to which model is better.
    """
    attacked_alike = _threat(a) == _threat(b)
    rows, thresholds, data = [], [], []
    for one, other in by_code(a.report.checks, b.report.checks):
        either = one or other
        assert either is not None
        moved = None
        comparable = attacked_alike or not either.code.startswith("ROB-")
        if one is not None and other is not None and one.unit == other.unit and comparable:
            moved = change(one.value, other.value, one.unit)
        better = _better(either, moved)
        rows.append((either.code, _said(one), _said(other), change_text(moved), better))
        asked = [MISSING if c is None else _asked(c) for c in (one, other)]
        if asked[0] != asked[1]:
            thresholds.append((either.code, *asked))
        data.append(
            {
                "code": either.code,
                "a": None if one is None else one.model_dump(mode="json"),
                "b": None if other is None else other.model_dump(mode="json"),
                "change": None if moved is None else vars(moved),
                "better": better,
            }
        )
    same, why = same_images(a, b)
    tests = paired(a, b) if same else {}
    if not attacked_alike:
        tests.pop("under attack", None)
    settings = settings_differing(a.report.made.config, b.report.made.config)
    settings = [one for one in settings if not one[0].startswith(("thresholds.", "policy."))]
    lines = [
        f"{side}: {one.name}: {one.report.title}" for side, one in zip("AB", (a, b), strict=True)
    ]
    lines += [] if same else [f"! not paired: {why}"]
    lines += (
        [] if attacked_alike else [f"! attacked at {_threat(a)} and at {_threat(b)}: not compared"]
    )
    grids = (
        Grid("checks", ("code", "A", "B", "B − A", "better"), tuple(rows)),
        Grid(
            "the same images",
            ("right", "A alone", "B alone", "B − A", "p (McNemar)"),
            tuple(_test_row(name, test) for name, test in tests.items()),
        ),
        Grid("thresholds that differ", ("code", "A", "B"), tuple(thresholds)),
        Grid(
            "settings that differ",
            ("setting", "A", "B"),
            tuple((path, text_of(one, path), text_of(two, path)) for path, one, two in settings),
        ),
    )
    found = {
        "a": {"name": a.name, "title": a.report.title},
        "b": {"name": b.name, "title": b.report.title},
        "checks": data,
        "paired": {name: _test_data(test) for name, test in tests.items()},
        "not_paired": why,
        "thresholds": [{"code": code, "a": one, "b": two} for code, one, two in thresholds],
        "settings": [{"setting": path, "a": one, "b": two} for path, one, two in settings],
    }
    return View(f"{a.name} and {b.name}", found, grids, tuple(lines))


def same_images(a: Kept, b: Kept) -> tuple[bool, str]:
    """Return whether both audits were of the same images in the same order, and why not."""
    one, other = a.report.made.data, b.report.made.data
    first = list(one.values())[:1]  # of what is audited; the rest is what detectors are fitted on
    if not first or first != list(other.values())[:1]:
        return False, "they are of different data"
    try:
        labels, others = (Arrays(kept.folder / ARRAYS).get("labels") for kept in (a, b))
        if labels is None or others is None:
            return False, "arrays.npz is not beside both reports"
        if not np.array_equal(labels, others):
            return False, "they are of different images of these data"
        right(a), right(b)
    except (AssayError, KeyError, ValueError, StopIteration) as error:
        return False, f"their arrays cannot be read: {told(error)}"
    return True, ""


def paired(a: Kept, b: Kept) -> dict[str, stats.McNemar]:
    """Return B against A on the same images: clean, and under all attacks of each audit."""
    one, other = right(a), right(b)
    tests = {}
    for name in one.keys() & other.keys():
        n = min(len(one[name]), len(other[name]))  # the first ones are attacked
        tests[name] = stats.mcnemar(other[name][:n], one[name][:n])
    return dict(sorted(tests.items()))


def right(kept: Kept) -> dict[str, Array]:
    """Return what is classified correctly, bool (n,): clean, and after every attack together."""
    arrays = Arrays(kept.folder / ARRAYS)
    answer = next(arrays[name] for name in ("logits", "scores", "predictions") if name in arrays)
    predictions = answer if answer.ndim == 1 else np.nan_to_num(answer, nan=-np.inf).argmax(1)
    correct = predictions == arrays["labels"]
    found = {"clean": correct}
    fooled = [arrays[name] for name in arrays if name.endswith("/success")]
    if fooled:
        n = len(fooled[0])
        found["under attack"] = correct[:n] & ~np.any(fooled, axis=0)
    return found


def _threat(kept: Kept) -> str:
    """Return the norm and the budget of the attacks, as papers write them, and whether they knew no
    gradients."""
    config = kept.report.made.config
    norm = str(config.get("norm", "linf"))
    size = f"{norm_name(norm)} {budget(float(config.get('eps', 0)), norm)}"
    alone = any(BY_QUERIES in check.title for check in kept.report.checks)
    return f"{size} {BY_QUERIES}" if alone else size


def _asked(check: Check) -> str:
    if check.threshold is None:
        return MISSING
    return asked(check.direction, check.threshold, check.unit)


def _said(check: Check | None) -> str:
    if check is None:
        return MISSING
    return check.verdict + ("" if check.value is None else f": {full(check.value, check.unit)}")


def _better(check: Check, moved: Change | None) -> str:
    """Return which of the two is better, by the direction of the check; "" where the interval of
    their difference cannot tell."""
    if moved is None or moved.low is None or moved.high is None or moved.low <= 0 <= moved.high:
        return ""
    return "B" if (moved.value > 0) == (check.direction == "at least") else "A"


def _test_row(name: str, test: stats.McNemar) -> tuple[str, ...]:
    gap = test.difference
    moved = Change(gap.value, gap.low, gap.high, "points")
    return (name, str(test.only_b), str(test.only_a), change_text(moved), f"{test.p:.3g}")


def _test_data(test: stats.McNemar) -> dict[str, Any]:
    return {
        "p": test.p,
        "difference": {key: getattr(test.difference, key) for key in ("value", "low", "high", "n")},
        "a_alone": test.only_b,
        "b_alone": test.only_a,
    }
