"""What `assay compare` and `why` say of two runs or two trials: they read a store, and run nothing.

Each returns a `View`: plain data in `.data`, and itself when printed with rich.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.errors import AssayError
from assay.report.answer import plain
from assay.report.comparison import Comparison, change_text, compare_results
from assay.report.leaves import flatten, text_of
from assay.report.numerals import MISSING, full
from assay.report.result import Cell, Claim
from assay.runs.audits import Kept, audit_of, audit_outside, compare_audits
from assay.runs.entry import Entry
from assay.runs.reading import by_code, result_of, result_outside, value_text
from assay.runs.store import Run, Store
from assay.runs.view import Grid, View
from assay.runs.why import why as _why
from assay.runs.why import why_made, why_results

__all__ = ["compare", "compare_studies", "two_audits", "why"]


def compare(store: Store, a: str, b: str) -> View:
    """Return two studies, audits or trials side by side: claims, checks, metrics.

    Args:
        store: where runs and trials are looked for.
        a, b: what each is called there; a study may also be the path of its result.json, an audit
            that of its report.json, either that of a folder that holds one.

    Raises:
        AssayError: one of them is not there, or they are not of a kind.
    """
    audits = two_audits(store, a, b)
    if audits is not None:
        return compare_audits(*audits)
    results = compare_studies(store, a, b)
    return view_of(results) if results is not None else _compare_others(store, a, b)


def two_audits(store: Store, a: str, b: str) -> tuple[Kept, Kept] | None:
    """Return two audits, of the store or of folders, or None where neither is one of a folder.

    Raises:
        AssayError: one is the folder of an audit, and the other is no audit.
    """
    one, other = audit_of(store, a), audit_of(store, b)
    if one is not None and other is not None:
        return one, other
    alone, text = (a, b) if other is None else (b, a)
    if audit_outside(alone) is not None:
        result_of(store, text)  # says so if there is nothing of this name
        raise AssayError(f"{alone!r} is an audit and {text!r} is not; give two of a kind")
    return None


def compare_studies(store: Store, a: str, b: str) -> Comparison | None:
    """Return the results of two studies side by side, or None where neither is that of a study.

    Raises:
        AssayError: one of them is not there, or only one is the result of a study.
    """
    left, right = result_of(store, a), result_of(store, b)
    if left is None and right is None:
        return None
    if left is None or right is None:
        study, other = (b, a) if left is None else (a, b)
        raise AssayError(
            f"{study!r} is the result of a study and {other!r} is not; give two of a kind"
        )
    return compare_results(left[1], right[1], (left[0], right[0]))


def why(store: Store, a: str, b: str) -> View:
    """Return what makes two trials, or two runs, differ: settings, seed, data, versions, needs.

    Args:
        store: where they are looked for.
        a, b: as in `compare`.

    Raises:
        AssayError: one of them is not there, or one is a run and the other a trial.
    """
    audits = two_audits(store, a, b)
    if audits is not None and any(audit_outside(text) for text in (a, b)):
        return why_made(audits[0].name, audits[1].name, *(kept.report.made for kept in audits))
    if result_outside(a) is None and result_outside(b) is None:
        return _why(store, a, b)
    results = compare_studies(store, a, b)
    assert results is not None
    return why_results(results)


def view_of(both: Comparison) -> View:
    """Return what the terminal shows of two results side by side."""
    lines = [
        f"{side}: {name}: {plain(result.answer) or result.summary or result.question}"
        for side, name, result in zip("AB", both.names, (both.a, both.b), strict=True)
    ]
    lines += [f"! {sentence}" for sentence in both.cautions]
    if both.comparable:
        lines.append(f"trials in both: {len(both.shared)}")
    if both.same_numbers:
        lines.append("no difference in any shared number")
    claims = tuple(
        (pair.code, _said(pair.a), _said(pair.b), change_text(pair.change)) for pair in both.claims
    )
    grids = [Grid("claims", ("claim", "A", "B", "B − A"), claims)]
    for table in () if both.same_numbers else both.tables:
        rows = tuple(
            (row.name, cell.column, _in_words(cell.a), _in_words(cell.b), change_text(cell.change))
            for row in table.rows
            for cell in row.cells
        )
        grids.append(Grid(table.title, ("", "", "A", "B", "B − A"), rows))
    settings = tuple(
        (path, text_of(one, path), text_of(two, path)) for path, one, two in both.settings
    )
    grids.append(Grid("settings that differ", ("setting", "A", "B"), settings))
    return View(" and ".join(both.names), both.to_dict(), tuple(grids), tuple(lines))


def _said(claim: Claim | None) -> str:
    if claim is None:
        return MISSING
    number = "" if claim.estimate is None else f": {full(claim.estimate, claim.unit)}"
    return claim.verdict + number


def _in_words(cell: Cell | None) -> str:
    if cell is None:
        return MISSING
    number = "" if cell.estimate is None else full(cell.estimate, cell.unit)
    return " ".join(filter(None, (number, cell.text)))


def _compare_others(store: Store, a: str, b: str) -> View:
    left, right = store.find_both(a, b)
    names = (_name(left), _name(right))
    if isinstance(left, Run) and isinstance(right, Run):
        rows = []
        for kind in ("claims", "checks"):
            first, second = by_code(left, kind), by_code(right, kind)
            for code in sorted(first.keys() | second.keys()):
                pair = (first.get(code), second.get(code))
                either = pair[0] or pair[1] or {}
                what = str(either.get("text") or either.get("title") or "")
                rows.append((code, what, _judged(pair[0]), _judged(pair[1])))
        shared = set(left.trials) & set(right.trials)
        data = {
            "a": left.document,
            "b": right.document,
            "shared_trials": sorted(shared),
        }
        count = f"{len(shared)} trials are the same"
        lines = tuple(f"{run.id}: {run.headline}" for run in (left, right))
        grid = Grid("", ("code", "what", *names), tuple(rows))
        return View(" and ".join(names), data, (grid,), (*lines, count))
    first, second = (flatten(_metrics(side)) for side in (left, right))
    rows, same = [], []
    for path in [*first, *(path for path in second if path not in first)]:
        one, other = first.get(path), second.get(path)
        if path in first and path in second and one == other:
            same.append(path)
        else:
            rows.append((path, text_of(one), text_of(other), _change(one, other)))
    data = {"a": _metrics(left), "b": _metrics(right)}
    alike = bool(same) and not any(row[0] in first and row[0] in second for row in rows)
    told = ["no difference in any shared number"] if alike else []
    told += [f"the same in both: {', '.join(same)}"] if same else []
    grid = Grid("", ("metric", *names, "difference"), tuple(rows))
    return View(" and ".join(names), data, (grid,), tuple(told))


def _name(found: Run | Entry) -> str:
    return found.id if isinstance(found, Run) else found.trial.short


def _metrics(found: Run | Entry) -> dict[str, Any]:
    result = found.result() if isinstance(found, Entry) else None
    if result is None:
        raise AssayError(f"trial {_name(found)} is not finished, so there is nothing to compare")
    return result.metrics


def _change(one: Any, other: Any) -> str:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (one, other))
    if numbers:
        return f"{other - one:+.4g}" if one != other else "0"
    return "same" if one == other else ""


def _judged(item: Mapping[str, Any] | None) -> str:
    return MISSING if item is None else f"{item.get('verdict', MISSING)}: {value_text(item)}"
