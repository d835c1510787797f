"""Which part of an address differs: `assay why A B`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from assay.report.comparison import Comparison
from assay.report.leaves import differing, flatten, settings_differing, text_of
from assay.report.numerals import MISSING
from assay.report.record import Provenance
from assay.runs.entry import Entry
from assay.runs.store import Run, Store
from assay.runs.trial import Trial
from assay.runs.view import Grid, View

Difference = tuple[str, Any, Any]  # dotted path, the value in A, the value in B


def why(store: Store, a: str, b: str) -> View:
    """Return what makes two trials, or two runs, differ: settings, seed, data, versions, needs.

    Raises:
        AssayError: one of them is not there, or one is a run and the other a trial.
    """
    left, right = store.find_both(a, b)
    if isinstance(left, Run) and isinstance(right, Run):
        return _why_runs(left, right)
    assert isinstance(left, Entry)
    assert isinstance(right, Entry)
    return _why_trials(left.trial, right.trial)


def why_results(both: Comparison) -> View:
    """Return what makes two results of studies differ, where a store does not hold both: settings,
    versions, data, and how many trials they share."""
    found = _parts(both.a.made, both.b.made)
    alone = [len(side.trials) - len(both.shared) for side in (both.a, both.b)]
    data = {
        "same": not found and not any(alone),
        "differences": [_as_dict(item) for item in found],
        "trials": {"shared": len(both.shared), "a": alone[0], "b": alone[1]},
    }
    line = f"{len(both.shared)} trials are the same, {alone[0]} are only in A, {alone[1]} only in B"
    grid = Grid("", ("part", "A", "B"), tuple(_row(item) for item in found))
    return View(" and ".join(both.names), data, (grid,), (line,))


def why_made(name: str, other: str, one: Provenance, two: Provenance) -> View:
    """Return what makes two audits differ, where a store does not hold both: the model, settings,
    versions, data."""
    found = _parts(one, two)
    if one.model != two.model:
        ours, theirs = (made.model and made.model[:12] for made in (one, two))
        found.insert(0, ("model", ours, theirs))
    data = {"same": not found, "differences": [_as_dict(item) for item in found]}
    lines = () if found else ("the same model, settings, versions and data",)
    grid = Grid("", ("part", "A", "B"), tuple(_row(item) for item in found))
    return View(f"{name} and {other}", data, (grid,), lines)


def _parts(one: Provenance, two: Provenance) -> list[Difference]:
    parts = {
        part: settings_differing(*(getattr(made, part) for made in (one, two)))
        for part in ("config", "data", "versions")
    }
    return [(f"{part}.{path}", a, b) for part, differ in parts.items() for path, a, b in differ]


def differences(a: Trial, b: Trial, prefix: str = "") -> list[Difference]:
    """Return the parts of two addresses that differ, those of needed trials included."""
    if a.address == b.address:
        return []
    one, two = (flatten({**t.material, "needs": None}) for t in (a, b))
    found = [(prefix + path, a, b) for path, a, b in differing(one, two)]
    for index in range(max(len(a.needs), len(b.needs))):
        path = f"{prefix}needs[{index}]"
        if index < min(len(a.needs), len(b.needs)):
            found += differences(a.needs[index], b.needs[index], f"{path}.")
        elif index < len(a.needs):
            found.append((path, _called(a.needs[index]), None))
        else:
            found.append((path, None, _called(b.needs[index])))
    return found


def _why_trials(a: Trial, b: Trial) -> View:
    found, names = differences(a, b), (a.short, b.short)
    data = {"same": not found, "differences": [_as_dict(item) for item in found]}
    lines = () if found else ("the same address: nothing differs",)
    grid = Grid("", ("part", *names), tuple(_row(item) for item in found))
    return View(" and ".join(names), data, (grid,), lines)


def _why_runs(a: Run, b: Run) -> View:
    settings = settings_differing({"config": a.config}, {"config": b.config})
    ours, theirs = set(a.trials), set(b.trials)
    shared = len(ours & theirs)
    parts = _aggregated(_trials(a, sorted(ours - theirs)), _trials(b, sorted(theirs - ours)))
    same = a.document.get("address") == b.document.get("address")
    data = {
        "same": same,
        "config": [_as_dict(item) for item in settings],
        "trials": {"shared": shared, "a": len(ours - theirs), "b": len(theirs - ours)},
        "parts": [{**_as_dict(item), "trials": count} for item, count in parts],
    }
    count = (
        f"{shared} trials are the same, {len(ours - theirs)} are only in {a.id}, "
        f"{len(theirs - ours)} only in {b.id}"
    )
    lines = [count] if ours or theirs else []  # an audit has none
    if same:
        lines.insert(0, "the same address: nothing that was asked differs")
    names = ("A", "B") if a.id == b.id else (a.id, b.id)
    grids = (
        Grid(
            "what was asked",
            ("setting", *names),
            tuple(_row(item) for item in settings),
        ),
        Grid(
            "in the trials that differ, each beside the most similar one",
            ("part", *names, "trials"),
            tuple((*_row(item), str(count)) for item, count in parts),
        ),
    )
    return View(f"{a.id} and {b.id}", data, grids, tuple(lines))


def _aggregated(ours: Sequence[Trial], theirs: Sequence[Trial]) -> list[tuple[Difference, int]]:
    """Pair each trial with the most similar one, and count the differences over the pairs."""
    free = list(theirs)
    counts: Counter[tuple[str, str, str]] = Counter()
    kept: dict[tuple[str, str, str], Difference] = {}
    for trial in ours:
        if not free:
            break
        namesakes = [t for t in free if (t.label, t.seed) == (trial.label, trial.seed)]
        found, other = min(
            ((differences(trial, other), other) for other in namesakes or free),
            key=lambda pair: len(pair[0]),
        )
        free.remove(other)
        for item in found:
            key = (item[0], repr(item[1]), repr(item[2]))
            counts[key] += 1
            kept[key] = item
    return [(kept[key], count) for key, count in counts.most_common()]


def _trials(run: Run, addresses: Sequence[str]) -> list[Trial]:
    found = map(run.store.stored, addresses)
    return [entry.trial for entry in found if entry is not None]


def _called(trial: Trial) -> str:
    return f"{trial.title} {trial.short}"


def _as_dict(item: Difference) -> dict[str, Any]:
    return {"path": item[0], "a": item[1], "b": item[2]}


def _row(item: Difference) -> tuple[str, str, str]:
    path, one, two = item
    return path, _shown(one, path), _shown(two, path)


def _shown(value: Any, path: str) -> str:
    if isinstance(value, str) and len(value) == 64:  # a fingerprint
        return value[:12]
    return MISSING if value is None else text_of(value, path)
