"""How often the claims of a study were judged, as the pages in the store tell.

A look is a judgement that was written. It is known by the finished trials that it judged: judging
the same ones again is the same look, and one of more seeds, or after a failed trial was repaired,
is a further one. Looks share one probability of error (`stats.level_at`), and a claim that one of
them decided stays decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from assay import stats
from assay.config import digest
from assay.report.result import Claim
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.studies.base import Study

HOW_IT_RUNS = ("device", "threads")
"""Settings, wherever they stand, that change a trial's bytes, but not what it is a sample of."""


DECIDED = ("holds", "does not hold")


@dataclass(frozen=True)
class Looks:
    """The looks at a study's claims, up to the one that is made now.

    Attributes:
        at: at how many seeds each was; the last is the one now.
        decided: the claims that the earlier ones decided.
    """

    at: tuple[int, ...]
    decided: tuple[stats.Claim, ...] = ()

    @property
    def number(self) -> int:
        """Which look this is, counted from 1."""
        return len(self.at)


def look_now(study: Study, done: Results, store: Store) -> Looks:
    """Return which look a judgement of these results is."""
    now, earlier = evidence(study, done), _earlier(study, store)
    same = next((document for document in earlier if document["judged"] == now), None)
    last = same or max(earlier, key=lambda document: len(document["looks"]), default=None)
    if last is None:
        return Looks((study.seeds,))
    at = (*last["looks"],) if same else (*last["looks"], study.seeds)
    decided = (claim for claim in last["claims"] if claim["verdict"] in DECIDED)
    return Looks(at, tuple(_read(claim) for claim in decided if claim["look"] < len(at)))


def seeds_to_go_on_from(study: Study, store: Store, most: int) -> int:
    """Return from how many seeds to go on: as many as were looked at, but no more than `most`."""
    there: list[int] = [seeds for document in _earlier(study, store) for seeds in document["looks"]]
    return max([study.seeds, *(seeds for seeds in there if seeds <= most)])


def evidence(study: Study, done: Results) -> str:
    """Return the digest of the finished trials that a judgement rests on."""
    return digest(sorted(trial.address for trial in study.plan(done) if trial in done))


def can_err(claims: Iterable[stats.Claim]) -> bool:
    """Return whether a judgement spends anything: not where every interval is infinite."""
    return any((claim.latest or claim.estimate).n > 1 for claim in claims)


def family(study: Study) -> str:
    """Return what studies have in common whose seeds are a sample of the same.

    These are their settings, whatever device and threads they run with, and the data and the
    versions of the components that they rest on.
    """
    data: dict[str, str] = {}
    versions: dict[str, int] = {}
    waiting = list(study.plan(Results()))
    seen: set[str] = set()
    while waiting:
        trial: Trial = waiting.pop()
        if trial.address not in seen:
            seen.add(trial.address)
            data |= trial.data
            versions |= trial.versions
            waiting += trial.needs
    settings = _without(study.model_dump(mode="json"), HOW_IT_RUNS)
    del settings["preset"], settings["seeds"]
    return digest({"study": study.NAME, "config": settings, "data": data, "versions": versions})


def _without(settings: Any, names: tuple[str, ...]) -> Any:
    if isinstance(settings, dict):
        return {key: _without(value, names) for key, value in settings.items() if key not in names}
    if isinstance(settings, list):
        return [_without(value, names) for value in settings]
    return settings


def _earlier(study: Study, store: Store) -> list[dict[str, Any]]:
    """Return the documents of the looks at this study's claims; not of those that could not err."""
    ours = family(study)
    documents = [run.document for run in store.runs() if run.document.get("family") == ours]
    return [document for document in documents if document.get("judged")]


def _read(document: dict[str, Any]) -> stats.Claim:
    """Return a decided claim from what run.json keeps of it."""
    claim = Claim.model_validate(document)
    assert claim.estimate is not None
    assert claim.delta is not None
    assert claim.verdict != "not run"
    return stats.Claim(
        code=claim.code,
        text=claim.text,
        delta=claim.delta,
        estimate=stats.Estimate(**claim.estimate.model_dump()),
        verdict=claim.verdict,
        look=claim.look,
    )
