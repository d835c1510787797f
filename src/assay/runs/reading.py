"""What `assay list`, `show`, `compare` and `why` say: they read the store, and run nothing.

Each returns a `View`: plain data in `.data`, and itself when printed with rich.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from assay.errors import AssayError, expanded
from assay.report.answer import plain
from assay.report.comparison import Comparison, change_text, compare_results
from assay.report.leaves import flatten, text_of
from assay.report.numerals import MISSING, duration, full
from assay.report.record import EstimateModel
from assay.report.result import Cell, Claim, StudyResult
from assay.report.terminal import Judged, judged_claim
from assay.runs.audits import Kept, audit_of, audit_outside, compare_audits, show_audit, table_of
from assay.runs.entry import RECORD, Entry
from assay.runs.store import RUN, Run, Store
from assay.runs.view import Grid, View
from assay.runs.why import why as _why
from assay.runs.why import why_made, why_results

__all__ = ["compare", "compare_studies", "list_runs", "result_of", "show", "why"]

RESULT = "result.json"
KINDS = ("claims", "checks")
PAGES = ("report.html", "index.html")
TRIALS = ("address", "trial", "time")
SMOKE = "smoke test: not evidence"


def list_runs(store: Store) -> View:
    """Return the studies and audits of a store, the newest first, and how many trials it holds."""
    runs = store.runs()[::-1]
    states, unreadable = store.survey()
    keys = ("id", "kind", "created", "headline")
    data = {
        "store": store.name,
        "runs": [
            {**{key: run.document.get(key) for key in keys}, "verdicts": dict(_verdicts(run))}
            for run in runs
        ],
        "trials": dict(states),
        "unreadable": [str(path) for path in unreadable],
    }
    rows = tuple((run.id, _when(run.document)[:10], _counted(run), run.headline) for run in runs)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    lines = [f"{sum(states.values())} trials: {counts}"] if states else []
    lines += [f"cannot be read: {path}" for path in unreadable]
    if not runs:
        lines.append("no study and no audit has been finished here yet")
    grid = Grid("", ("id", "made", "verdicts", "answer"), rows, one_line=True)
    return View(store.name, data, (grid,), (*lines,))


def show(store: Store, text: str) -> View:
    """Return all there is about one run or one trial.

    Args:
        store: where it is looked for.
        text: what it is called there; a study may also be the path of its result.json, an audit
            that of its report.json, either that of a folder that holds one.

    Raises:
        AssayError: nothing, or more than one thing, answers to `text`.
    """
    audit = audit_outside(text)
    if audit is not None:
        return show_audit(audit)
    outside = result_outside(text)
    if outside is not None:
        return _show_result(*outside)
    found = store.find(text)
    return _show_run(found) if isinstance(found, Run) else _show_trial(found)


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


def result_of(store: Store, text: str) -> tuple[str, StudyResult] | None:
    """Return what a study is called, and its result; None for an audit, a trial, or a study whose
    result.json is gone.

    Raises:
        AssayError: nothing answers to `text`, or its result.json cannot be read.
    """
    outside = result_outside(text)
    if outside is not None:
        return outside
    found = store.find(text)
    if not isinstance(found, Run) or not (found.folder / RESULT).is_file():
        return None
    return found.id, StudyResult.read(found.folder / RESULT)


def result_outside(text: str) -> tuple[str, StudyResult] | None:
    """Return the result of a study that is no run of a store: that of a path of a result.json, or
    of a folder with one and no run.json; None where `text` is no such path.

    Raises:
        AssayError: the file cannot be read.
    """
    path = expanded(text)
    file = path / RESULT if path.is_dir() else path
    if not file.is_file() or file.suffix != ".json" or file.name == RUN:
        return None
    if path.is_dir() and (path / RUN).is_file():
        return None
    return text.rstrip("/"), StudyResult.read(file)


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
            first, second = _by_code(left, kind), _by_code(right, kind)
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


def _show_run(run: Run) -> View:
    document = run.document
    lines = [f"{run.kind}, made {_when(document)}"]
    lines += [SMOKE] if run.config.get("preset") == "smoke" else []
    lines += [run.headline] if run.headline else []
    page = next((run.folder / name for name in PAGES if (run.folder / name).is_file()), None)
    judged = tuple(_judgement(item) for kind in KINDS for item in _by_code(run, kind).values())
    rows = []
    for address in run.trials:
        result = run.store.result(address)
        time = "gone" if result is None else duration(result.record["seconds"])
        rows.append((address[:12], "" if result is None else result.trial.title, time))
    grids = (
        Grid("trials", TRIALS, tuple(rows)),
        Grid("settings", ("setting", "value"), table_of(run.config)),
    )
    where = f"page: {page}" if page is not None else str(run.folder)
    return View(run.id, document, grids, tuple(lines), (where,), judged)


def _show_result(name: str, result: StudyResult) -> View:
    lines = [
        f"study {result.study}, preset {result.preset}, made {_when(result.model_dump())}",
        plain(result.answer) or result.summary or result.question,
    ]
    lines[1:1] = [SMOKE] if result.preset == "smoke" else []
    trials = tuple(
        (
            trial.address[:12],
            trial.label,
            duration(trial.seconds)
            if trial.status == "done" and trial.seconds is not None
            else trial.status,
        )
        for trial in result.trials
    )
    grids = (
        Grid("trials", TRIALS, trials),
        Grid("settings", ("setting", "value"), table_of(result.made.config)),
    )
    judged = tuple(map(judged_claim, result.claims))
    return View(name, result.model_dump(mode="json"), grids, tuple(lines), judged=judged)


def _show_trial(entry: Entry) -> View:
    trial, result, failure = entry.trial, entry.result(), entry.failure()
    data: dict[str, Any] = {
        "address": trial.address,
        "state": entry.state(),
        "trial": trial.model_dump(mode="json"),
        "metrics": result.metrics if result else None,
        "record": result.record if result else None,
        "failure": failure.message if failure and not result else None,
    }
    lines = [data["state"]]
    if data["state"] == "damaged":
        lines = [
            f"damaged: {entry.folder / RECORD} is cut, or a file that it names is not what it was: "
            "the command that made it makes it again"
        ]
    if data["failure"]:
        lines.append(f"failed: {data['failure']}")
    grids = [Grid("settings", ("setting", "value"), table_of(trial.config))]
    if result is not None:
        record = {k: v for k, v in result.record.items() if k not in ("files", "address")}
        sizes = {name: _size(size) for name, (size, _) in result.record["files"].items()}
        grids += [
            Grid("metrics", ("metric", "value"), table_of(result.metrics)),
            Grid("files", ("file", "size"), tuple(sizes.items())),
            Grid("how it was made", ("", ""), table_of(record)),
        ]
    whole = (trial.address, str(entry.folder))
    return View(trial.title, data, tuple(grids), tuple(lines), whole)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


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


def _when(document: Mapping[str, Any]) -> str:
    return str(document.get("created", ""))[:16].replace("T", " ")


def _by_code(run: Run, kind: str) -> dict[str, Mapping[str, Any]]:
    return {str(item.get("code")): item for item in run.document.get(kind, [])}


def _verdicts(run: Run) -> Counter[str]:
    items = [item for kind in KINDS for item in _by_code(run, kind).values()]
    return Counter(str(item.get("verdict", MISSING)) for item in items)


def _counted(run: Run) -> str:
    """Return how many claims hold, or how many checks passed, of how many: "5/8 hold"."""
    verdicts = _verdicts(run)
    good = sum(verdicts[verdict] for verdict in ("holds", "equivalent", "pass"))
    said = "hold" if run.kind == "study" else "pass"
    return f"{good}/{verdicts.total()} {said}" if verdicts else ""


def _judgement(item: Mapping[str, Any]) -> Judged:
    """Return a claim or a check as run.json has it, of whichever version."""
    return Judged(
        str(item.get("verdict", MISSING)),
        str(item.get("code")),
        _value(item),
        str(item.get("text") or item.get("title") or ""),
    )


def _judged(item: Mapping[str, Any] | None) -> str:
    return MISSING if item is None else f"{item.get('verdict', MISSING)}: {_value(item)}"


def _value(item: Mapping[str, Any]) -> str:
    claimed = "estimate" in item
    found = item["estimate"] if claimed else item.get("value")
    if found is None:
        return MISSING
    estimate = EstimateModel.model_validate({"of": "", **found})
    per = f" per {item['per']}" if item.get("per") else ""
    return full(estimate, item.get("unit", "points" if claimed else "fraction")) + per
