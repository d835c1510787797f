"""What `assay list` and `show` say: they read the store, and run nothing.

Each returns a `View`: plain data in `.data`, and itself when printed with rich.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from assay.errors import expanded
from assay.report.answer import plain
from assay.report.numerals import MISSING, duration, full
from assay.report.record import EstimateModel
from assay.report.result import StudyResult
from assay.report.terminal import Judged, judged_claim
from assay.runs.audits import audit_outside, show_audit, table_of
from assay.runs.entry import RECORD, Entry
from assay.runs.store import RUN, Run, Store
from assay.runs.view import Grid, View

__all__ = ["list_runs", "result_of", "show"]

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


def _show_run(run: Run) -> View:
    document = run.document
    lines = [f"{run.kind}, made {_when(document)}"]
    lines += [SMOKE] if run.config.get("preset") == "smoke" else []
    lines += [run.headline] if run.headline else []
    page = next((run.folder / name for name in PAGES if (run.folder / name).is_file()), None)
    judged = tuple(_judgement(item) for kind in KINDS for item in by_code(run, kind).values())
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


def _when(document: Mapping[str, Any]) -> str:
    return str(document.get("created", ""))[:16].replace("T", " ")


def by_code(run: Run, kind: str) -> dict[str, Mapping[str, Any]]:
    return {str(item.get("code")): item for item in run.document.get(kind, [])}


def _verdicts(run: Run) -> Counter[str]:
    items = [item for kind in KINDS for item in by_code(run, kind).values()]
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
        value_text(item),
        str(item.get("text") or item.get("title") or ""),
    )


def value_text(item: Mapping[str, Any]) -> str:
    claimed = "estimate" in item
    found = item["estimate"] if claimed else item.get("value")
    if found is None:
        return MISSING
    estimate = EstimateModel.model_validate({"of": "", **found})
    per = f" per {item['per']}" if item.get("per") else ""
    return full(estimate, item.get("unit", "points" if claimed else "fraction")) + per
