"""The interim analyses of each claim of a study, as run.json in the store records them.

An analysis is a judgement of a claim that was written. Two judgements are of the same claim where
the name of the study, the claim's code and the kinds of trials that it rests on are the same,
whatever else the studies plan and whatever their δ: an interval that covers the truth errs at no δ.
An analysis is known by the finished trials that it judged: judging the same ones again is the same
analysis, and one of more seeds, or after a failed trial was repaired, is a further one. The
analyses of a claim share its probability of error (`stats.level_at`), and what one of them decided
stays decided. In stored JSON they are called looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay import stats
from assay.config import digest
from assay.errors import AssayError, repeated
from assay.report.result import Claim
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.tasks import in_address
from assay.runs.trial import Trial
from assay.studies.base import Study
from assay.studies.kept import judged

HOW_IT_RUNS = ("device", "threads")
"""Settings, wherever they stand, that change a trial's bytes, but not what it is a sample of."""

DECIDED = ("holds", "equivalent", "does not hold")


@dataclass(frozen=True)
class Analyses:
    """The interim analyses of one claim, up to the present one.

    Attributes:
        kinds: the kinds of trials that the claim rests on, a digest each.
        judged: the digest of the finished trials that are judged now.
        at: at how many seeds each analysis was; the last is the present one.
        decided: the claim as earlier analyses decided it, the first one last.
        elsewhere: how often it was judged before in another store, or by another study.
    """

    kinds: tuple[str, ...]
    judged: str
    at: tuple[int, ...]
    decided: tuple[stats.Claim, ...] = ()
    elsewhere: int = 0

    @property
    def number(self) -> int:
        """Which analysis this is, counted from 1, those elsewhere included."""
        return len(self.at) + self.elsewhere


def analyses_now(
    study: Study, effects: Sequence[stats.Effect], done: Results, store: Store
) -> tuple[Analyses, ...]:
    """Return which analysis of each claim a judgement of these results is.

    Raises:
        AssayError: two claims of the study have the same code.
    """
    codes = [effect.code for effect in effects]
    if twice := repeated(codes):
        raise AssayError(f"{study.NAME} has two claims {twice!r}; give each a code of its own")
    kinds = planned_kinds(study)
    everything = [trial.address for trial in study.plan(done)]
    earlier = list(_earlier(study, store))
    found = []
    for effect in effects:
        rests_on = effect.rests_on or everything
        found.append(
            _analysis_now(
                study.seeds,
                effect.delta,
                _kinds(rests_on, kinds),
                digest(sorted({address for address in rests_on if address in done})),
                [one for one in earlier if one["claim"]["code"] == effect.code],
                study.judged_before,
            )
        )
    return tuple(found)


def _analysis_now(
    seeds: int,
    delta: float,
    kinds: tuple[str, ...],
    judged: str,
    earlier: list[dict[str, Any]],
    elsewhere: int,
) -> Analyses:
    ours = [one for one in earlier if tuple(one["kinds"]) == kinds]
    same = next((one for one in ours if one["judged"] == judged), None)
    last = same or max(ours, key=lambda one: len(one["at"]), default=None)
    if last is None:
        return Analyses(kinds, judged, (seeds,), elsewhere=elsewhere)
    at = (*last["at"],) if same else (*last["at"], seeds)
    decided = [
        _read(one)
        for one in ours
        if one["claim"]["verdict"] in DECIDED and one["claim"]["look"] < len(at) + elsewhere
    ]
    decided = [claim for claim in decided if claim.delta == delta]
    decided.sort(key=lambda claim: claim.look, reverse=True)
    return Analyses(kinds, judged, at, tuple(decided), elsewhere)


def to_remember(claims: Iterable[stats.Claim], analyses: Iterable[Analyses]) -> dict[str, Any]:
    """Return what run.json keeps of this analysis, by claim.

    A claim whose interval is infinite cannot err, and was not analysed.
    """
    return {
        claim.code: {
            "kinds": list(present.kinds),
            "judged": present.judged,
            "at": list(present.at),
            "note": claim.note,
        }
        for claim, present in zip(claims, analyses, strict=True)
        if (claim.latest or claim.estimate).n > 1
    }


def seeds_to_go_on_from(study: Study, store: Store, most: int) -> int:
    """Return from how many seeds to go on: as many as were analysed, but no more than `most`.

    Claims count that rest on nothing but trials that this study plans.
    """
    kinds = set(planned_kinds(study).values())
    ours = [one for one in _earlier(study, store) if kinds.issuperset(one["kinds"])]
    there: list[int] = [seeds for one in ours for seeds in one["at"]]
    return max([study.seeds, *(seeds for seeds in there if seeds <= most)])


def planned_kinds(study: Study) -> dict[str, str]:
    """Return the kind of each trial, by address, that is planned for the first seed before anything
    is known.

    Trials that results call for are left out: they follow from these, and a claim whose kinds the
    data chose would begin anew whenever they chose otherwise. So are further seeds, lest a study
    whose settings of a trial depend on its seed begin anew with every one.
    """
    found: dict[str, str] = {}
    waiting = list(study.model_copy(update={"seeds": 1}).plan(Results()))
    while waiting:
        trial = waiting.pop()
        if trial.address not in found:
            found[trial.address] = kind(trial)
            waiting += trial.needs
    return found


def kind(trial: Trial) -> str:
    """Return what trials have in common whose seeds are a sample of the same.

    It is their address without the seed, in what they need too, and without how they run: device,
    threads, version of torch.
    """
    return digest(
        {
            "task": in_address(trial.task),
            "config": _without(trial.config, HOW_IT_RUNS),
            "needs": [kind(need) for need in trial.needs],
            "data": trial.data,
            "versions": trial.versions,
        }
    )


def _kinds(rests_on: Iterable[str], kinds: dict[str, str]) -> tuple[str, ...]:
    """Return the kinds of these trials; all that there are where none of these is among them."""
    found = {kinds[address] for address in rests_on if address in kinds}
    return tuple(sorted(found or set(kinds.values())))


def _without(settings: Any, names: tuple[str, ...]) -> Any:
    if isinstance(settings, dict):
        return {key: _without(value, names) for key, value in settings.items() if key not in names}
    if isinstance(settings, list):
        return [_without(value, names) for value in settings]
    return settings


def _earlier(study: Study, store: Store) -> Iterator[dict[str, Any]]:
    """Yield what run.json keeps of each earlier analysis of a claim of a study of this name.

    What older versions wrote, which analysed a study as a whole, is passed over.
    """
    for run in store.runs():
        looks = run.document.get("looks")
        if run.document.get("name") != study.NAME or not isinstance(looks, dict):
            continue
        for claim in run.document["claims"]:
            if claim["code"] in looks:
                yield {**looks[claim["code"]], "claim": claim}


def _read(kept: dict[str, Any]) -> stats.Claim:
    """Return a decided claim from what run.json keeps of it."""
    return replace(judged(Claim.model_validate(kept["claim"])), note=kept["note"], latest=None)
