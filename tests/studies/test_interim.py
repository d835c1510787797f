"""A study whose effects are known, run by the engine: looks, seeds until decided, lost runs."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from assay import stats
from assay.commands.run import study_app
from assay.errors import AssayError
from assay.report.result import Claim, StudyResult
from assay.runs import engine
from assay.runs.engine import execute
from assay.runs.local import Local
from assay.runs.results import Results
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.stats import level_at
from assay.studies.base import Findings, Study
from assay.studies.interim import planned_kinds
from assay.workflows import run as running

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def _tasks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


class Toy(Study):
    """A claim for each cell: that its effect is above delta."""

    NAME: ClassVar[str] = "toy"
    QUESTION: ClassVar[str] = "Which effects are there?"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {}, "other": {}}

    device: str = "cpu"  # type: ignore[assignment]
    effects: dict[str, float] = {"clear": 9.0, "small": 1.3}  # noqa: RUF012
    """The true effect by cell."""
    spread: float = 1.0
    """Standard deviation over seeds."""
    delta: float = 0.0
    """Smallest effect that matters."""
    fates: dict[str, str] = {}  # noqa: RUF012
    """What becomes of the seed "cell:seed" instead: raises, dies or collapses."""
    repaired: str = ""
    """A file; where it is, nothing raises or dies."""
    pictures: dict[str, float] = {}  # noqa: RUF012
    """Cells that no claim rests on."""
    silent: bool = False
    """Claims do not say what they rest on."""

    def trial(self, cell: str, seed: int) -> Trial:
        config = {
            "cell": cell,
            "effect": {**self.pictures, **self.effects}[cell],
            "spread": self.spread,
            "fate": self.fates.get(f"{cell}:{seed}", ""),
            "repaired": self.repaired,
        }
        return Trial(
            task="toy_runs:measure", config=config, seed=seed, label=cell, threads=self.threads
        )

    def plan(self, done: Results) -> Sequence[Trial]:
        del done
        cells = (*self.effects, *self.pictures)
        return [self.trial(cell, seed) for seed in range(self.seeds) for cell in cells]

    def findings(self, done: Results) -> Findings:
        return Findings([self.effect(cell, done) for cell in self.effects])

    def effect(self, cell: str, done: Results) -> stats.Effect:
        trials = [self.trial(cell, seed) for seed in range(self.seeds)]
        there = [found for found in map(done.get, trials) if found]
        return stats.Effect(
            code=f"toy.{cell}",
            text=f"{cell} is above delta.",
            delta=self.delta,
            values=[r.metrics["effect"] for r in there if not r.metrics["collapsed"]],
            collapsed={cell: sum(r.metrics["collapsed"] for r in there)},
            failed={cell: sum(done.failure(trial) is not None for trial in trials)},
            note=f"{len(trials)} were asked.",
            rests_on=() if self.silent else [trial.address for trial in trials],
        )


def run(study: Study, root: Path, most: int | None = None, **more: Any) -> StudyResult:
    """Run a study; return the result that was written last."""
    running.run(study, root, workers=1, progress=False, max_seeds=most, **more)
    return StudyResult.read(newest(root).folder / "result.json")


def newest(root: Path) -> Any:
    return max(Store(root).runs(), key=lambda run: (run.folder / "run.json").stat().st_mtime_ns)


def claim(result: StudyResult, cell: str) -> Claim:
    return next(claim for claim in result.claims if claim.code == f"toy.{cell}")


def looks(root: Path, cell: str = "none") -> list[int]:
    return list(newest(root).document["looks"][f"toy.{cell}"]["at"])


def grown(seeds: int, study: Study) -> Study:
    return study.model_copy(update={"seeds": seeds})


TOY = Toy()


class TestUntilDecided:
    def test_it_adds_seeds_until_every_claim_is_decided(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = run(TOY, tmp_path)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/record.json")}
        result = run(TOY, tmp_path, 100)
        clear, small = claim(result, "clear"), claim(result, "small")
        assert [c.verdict for c in (clear, small)] == ["holds", "holds"]
        assert looks(tmp_path, "clear") == looks(tmp_path, "small") == [3, 6, 12]
        assert small.look == 3
        assert small.estimate.n == 12
        assert small.estimate.level == level_at(2, 3)
        assert (clear.look, clear.estimate.n, clear.latest.n) == (1, 3, 12)
        assert clear.estimate == claim(first, "clear").estimate
        assert len(result.trials) == 24
        after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("trials/*/record.json")}
        assert before.items() < after.items(), "no trial was run again"
        assert "3 times, on 3, 6 and 12 seeds" in result.notes[-1]
        told = capsys.readouterr().out
        assert "1 of 2 claims are undecided on 6 seeds: next analysis at 12" in told

    def test_it_stops_at_once_where_all_is_decided(self, tmp_path: Path) -> None:
        result = run(Toy(effects={"clear": 9.0, "gone": -9.0}), tmp_path, 100)
        assert [c.verdict for c in result.claims] == ["holds", "does not hold"]
        assert looks(tmp_path, "gone") == [3]

    def test_it_respects_the_most_seeds_and_calls_undecided_what_is(self, tmp_path: Path) -> None:
        study = Toy(effects={"clear": 9.0, "none": 0.0})
        result = run(study, tmp_path, 7)
        assert looks(tmp_path) == [3, 6, 7]
        assert {line.status for line in result.trials} == {"done"}
        assert len(result.trials) == 14
        assert claim(result, "clear").verdict == "holds"
        assert claim(result, "none").verdict == "undecided"

    def test_its_command_makes_the_same_looks_again(self, tmp_path: Path) -> None:
        study = Toy(effects={"none": 0.0}, seeds=4, preset="other")
        words = shlex.split(run(study, tmp_path, 6).made.command)
        assert looks(tmp_path) == [4, 6]
        assert words[words.index("--until-decided") :] == ["--until-decided", "--max-seeds", "6"]
        assert words[words.index("--seeds") + 1] == "4", "those that it begins with"

    def test_interrupted_it_goes_on_and_counts_its_looks_right(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run(TOY, tmp_path / "whole", 12)
        real = running.execute

        def interrupted(plan: Any, *args: Any, **more: Any) -> Results:
            if len(plan(Results())) == 2 * 6:
                real(plan(Results())[:9], *args, **more)
                raise KeyboardInterrupt
            return real(plan, *args, **more)

        cut = tmp_path / "cut"
        with monkeypatch.context() as patch:
            patch.setattr(running, "execute", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(TOY, cut, 12)
        assert looks(cut, "small") == [3], "what was not written is no look"
        again = run(TOY, cut, 12)
        assert again.claims == whole.claims
        assert looks(cut, "small") == [3, 6, 12]
        assert run(TOY, cut, 12).claims == whole.claims, "and once more changes nothing"
        assert looks(cut, "small") == [3, 6, 12]

    def test_analyses_elsewhere_are_paid_for(self, tmp_path: Path) -> None:
        result = run(Toy(judged_before=2, seeds=6), tmp_path)
        assert [c.look for c in result.claims] == [3, 3]
        assert {c.estimate.level for c in result.claims} == {level_at(2, 3)}
        assert "judged 2 times elsewhere, which counts" in result.notes[-1]
        once = run(Toy(judged_before=1, seeds=6), tmp_path / "once")
        assert "judged once elsewhere, which counts" in once.notes[-1]
        again = run(Toy(judged_before=2, seeds=6), tmp_path, 12)
        clear = claim(again, "clear")
        assert (clear.verdict, clear.look, clear.latest.n) == ("holds", 3, 12), "decided, it stays"
        assert looks(tmp_path, "clear") == [6, 12]

    def test_fewer_than_there_are_to_begin_with_is_a_mistake(self, tmp_path: Path) -> None:
        with pytest.raises(AssayError, match="--max-seeds 2 is less than the 3 seeds"):
            run(TOY, tmp_path, 2)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--until-decided"], "--until-decided was given without --max-seeds N"),
            (["--max-seeds", "9"], "--max-seeds N was given without --until-decided"),
        ],
    )
    def test_one_flag_without_the_other_is_a_mistake(self, words: list[str], said: str) -> None:
        with pytest.raises(AssayError, match=said):
            study_app(Toy, everything=True)(words, exit_on_error=False, print_error=False)

    def test_the_command_line_gives_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Any] = []
        monkeypatch.setattr(running, "run", lambda *_, **more: seen.append(more["max_seeds"]) or 0)
        for words in ([], ["--until-decided", "--max-seeds", "9"]):
            study_app(Toy, everything=True)(words, exit_on_error=False, print_error=False)
        assert seen == [None, 9]


class TestAnalyses:
    def test_plain_runs_and_until_decided_share_them(self, tmp_path: Path) -> None:
        study = Toy(effects={"none": 0.0})
        levels = []
        for seeds, most in ((3, None), (10, None), (3, 15), (3, None), (10, None)):
            result = run(grown(seeds, study), tmp_path, most)
            levels.append(result.claims[0].estimate.level)
            if most:
                assert looks(tmp_path) == [3, 10, 15], "it goes on from the most that were seen"
        assert levels == [level_at(1, look) for look in (1, 2, 3, 1, 2)]

    def test_a_plain_run_keeps_what_an_earlier_one_decided(self, tmp_path: Path) -> None:
        first = claim(run(TOY, tmp_path), "clear")
        later = claim(run(grown(5, TOY), tmp_path), "clear")
        assert (later.estimate, later.look, later.latest.n) == (first.estimate, 1, 5)
        assert later.note == (
            "3 were asked. Decided at interim analysis 1, on 3 seeds. "
            "Now, on 5 seeds: 5 were asked."
        ), "what was said then beside the estimate of then, and today's note called so"
        last = claim(run(grown(6, TOY), tmp_path), "clear")
        assert last.note == later.note.replace("5", "6")
        page = (newest(tmp_path).folder / "index.html").read_text()
        assert "All 6 seeds so far" in page

    def test_another_delta_is_another_question_to_the_same_looks(self, tmp_path: Path) -> None:
        def asked(delta: float, seeds: int) -> Claim:
            study = Toy(effects={"clear": 9.0}, delta=delta, seeds=seeds)
            return run(study, tmp_path).claims[0]

        first = asked(0.0, 3)
        again = asked(8.9, 3)
        assert (first.verdict, again.verdict) == ("holds", "undecided")
        assert again.estimate == first.estimate, "the same interval, which errs no more often"
        assert looks(tmp_path, "clear") == [3]
        more = asked(8.9, 6)
        assert looks(tmp_path, "clear") == [3, 6]
        assert more.estimate.level == level_at(1, 2)
        assert more.look == 2, "what was decided of another delta is not decided of this one"
        back = asked(0.0, 12)
        assert looks(tmp_path, "clear") == [3, 6, 12]
        assert (back.look, back.estimate) == (1, first.estimate), "and of this one it still is"

    def test_what_no_claim_rests_on_changes_no_look(self, tmp_path: Path) -> None:
        study = Toy(effects={"none": 0.0})
        pictured = study.model_copy(update={"pictures": {"surface": 1.0}})
        run(study, tmp_path)
        more = run(grown(6, pictured), tmp_path).claims[0]
        assert looks(tmp_path) == [3, 6]
        assert more.estimate.level == level_at(1, 2)
        assert run(grown(6, study), tmp_path).claims[0].estimate == more.estimate
        assert looks(tmp_path) == [3, 6], "the same finished trials are the same look"

    def test_a_cell_that_changes_begins_anew_and_the_others_go_on(self, tmp_path: Path) -> None:
        run(Toy(effects={"none": 0.0, "other": 0.0}), tmp_path)
        study = Toy(effects={"none": 0.0, "other": 0.1}, seeds=6)
        result = run(study, tmp_path)
        assert (looks(tmp_path, "none"), looks(tmp_path, "other")) == ([3, 6], [6])
        levels = [found.estimate.level for found in result.claims]
        assert levels == [level_at(2, 2), level_at(2, 1)]
        assert result.notes[-1].startswith(
            "toy.none: judged 2 times, on 3 and 6 seeds. toy.other: judged once, on 6 seeds."
        )

    def test_a_claim_that_had_a_larger_share_is_judged_again(self, tmp_path: Path) -> None:
        alone = run(Toy(effects={"clear": 9.0}), tmp_path).claims[0]
        assert alone.verdict == "holds"
        study = Toy(effects={"clear": 9.0, "none": 0.0}, seeds=6)
        shared = claim(run(study, tmp_path), "clear")
        assert (shared.look, shared.estimate.n) == (2, 6)
        assert shared.estimate.level == level_at(2, 2)
        fewer = Toy(effects={"clear": 9.0}, seeds=12)
        assert run(fewer, tmp_path).claims[0].estimate == alone.estimate

    def test_claims_that_say_nothing_rest_on_all_that_is_planned(self, tmp_path: Path) -> None:
        study = Toy(effects={"none": 0.0}, silent=True)
        run(study, tmp_path)
        run(study.model_copy(update={"delta": 0.1, "seeds": 6}), tmp_path)
        assert looks(tmp_path) == [3, 6]
        run(study.model_copy(update={"pictures": {"surface": 1.0}, "seeds": 6}), tmp_path)
        assert looks(tmp_path) == [6]

    def test_trials_that_results_called_for_begin_nothing_anew(self, tmp_path: Path) -> None:
        best = {3: "first", 6: "second"}  # after so many seeds

        class Choosing(Toy):
            def plan(self, done: Results) -> Sequence[Trial]:
                if not done:
                    return super().plan(done)
                more = self.model_copy(update={"effects": {best[self.seeds]: 1.0}})
                return [*super().plan(done), more.trial(best[self.seeds], 0)]

        for silent in (True, False):
            study = Choosing(effects={"none": 0.0}, silent=silent)
            run(study, tmp_path / str(silent))
            run(grown(6, study), tmp_path / str(silent))
            assert looks(tmp_path / str(silent)) == [3, 6]

    def test_settings_that_depend_on_the_seed_begin_nothing_anew(self, tmp_path: Path) -> None:
        study = Toy(effects={"none": 0.0}, fates={"none:4": "collapses"})
        run(study, tmp_path)
        run(grown(6, study), tmp_path)
        assert looks(tmp_path) == [3, 6]

    def test_until_decided_goes_on_from_looks_at_the_same_trials(self, tmp_path: Path) -> None:
        run(Toy(effects={"none": 0.0}, delta=0.1, seeds=10), tmp_path)
        run(Toy(effects={"none": 0.0}, pictures={"surface": 1.0}), tmp_path, 15)
        assert looks(tmp_path) == [10, 15]
        run(Toy(effects={"none": 0.2}), tmp_path, 4)
        assert looks(tmp_path) == [3, 4], "of which none is of another cell"

    def test_a_page_of_an_older_version_is_passed_over(self, tmp_path: Path) -> None:
        old = {"name": "toy", "family": "f", "looks": [3, 6], "judged": "e", "claims": []}
        (tmp_path / "studies" / "toy-old").mkdir(parents=True)
        Store(tmp_path).save_run("study", "toy-old", {**old, "trials": [], "created": "2020"})
        run(Toy(effects={"none": 0.0}), tmp_path, 4)
        assert looks(tmp_path) == [3, 4]

    def test_two_claims_of_one_code_are_a_mistake(self, tmp_path: Path) -> None:
        class Twice(Toy):
            def findings(self, done: Results) -> Findings:
                return Findings([self.effect("none", done)] * 2)

        with pytest.raises(AssayError, match=r"two claims 'toy\.none'; give each a code"):
            run(Twice(effects={"none": 0.0}), tmp_path)

    def test_what_changes_no_sample_changes_no_kind(self) -> None:
        def kinds(**change: object) -> set[str]:
            return set(planned_kinds(TOY.model_copy(update=change)).values())

        same = [{"seeds": 9}, {"preset": "other"}, {"threads": 2}, {"device": "cuda"}]
        assert all(kinds(**change) == kinds() for change in same)
        assert len(kinds()) == 2
        assert not kinds(spread=2.0) & kinds()
        assert kinds(effects={"clear": 9.0}) < kinds()

    def test_threads_give_no_second_first_look(self, tmp_path: Path) -> None:
        study = Toy(effects={"none": 0.0})
        run(study, tmp_path)
        result = run(study.model_copy(update={"threads": 2}), tmp_path)
        assert looks(tmp_path) == [3, 3]
        assert result.claims[0].estimate.level == level_at(1, 2)

    def test_other_data_and_other_versions_begin_anew(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def kinds() -> frozenset[str]:
            return frozenset(planned_kinds(TOY).values())

        marks = {kinds()}
        for change in ({"versions": {"CNN": 2}}, {"data": {"cifar10": "f00"}}):
            changed = [trial.model_copy(update=change) for trial in TOY.plan(Results())]
            needing = [Trial(task="a:b", config={}, needs=(trial,)) for trial in changed]
            for plan in (changed, needing):
                with monkeypatch.context() as patch:
                    patch.setattr(Toy, "plan", lambda *_, plan=plan: plan)
                    marks.add(kinds())
        assert len(marks) == 5
        seeds = [trial.model_copy(update={"seed": 9}) for trial in changed]
        other = [Trial(task="a:b", config={}, needs=(trial,), seed=9) for trial in seeds]
        with monkeypatch.context() as patch:
            patch.setattr(Toy, "plan", lambda *_: other)
            assert kinds() in marks, "nor does the seed of what is needed"

    def test_one_seed_is_no_look_since_it_cannot_err(self, tmp_path: Path) -> None:
        study = Toy(effects={"none": 0.0})
        run(grown(1, study), tmp_path)
        result = run(study, tmp_path)
        assert looks(tmp_path) == [3]
        assert result.claims[0].estimate.level == level_at(1, 1)


def test_a_store_that_is_deleted_during_a_study_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted(*given: Any, **more: Any) -> Results:
        done = execute(*given, **more)
        shutil.rmtree(tmp_path / "trials")
        return done

    study = Toy(effects={"clear": 9.0}, seeds=2)
    assert running.run(study, tmp_path, workers=1, progress=False) == 0
    monkeypatch.setattr(running, "execute", deleted)
    assert running.run(study, tmp_path, workers=1, progress=False) == 1
    said = capsys.readouterr().err
    assert said.startswith("assay: 2 trials are gone from ")
    assert said.count("\n") == 1


class TestLostRuns:
    STUDY = Toy(
        effects={"whole": 9.0, "raising": 9.0, "dying": 9.0, "collapsing": 9.0},
        fates={
            "raising:1": "raises",
            "dying:0": "dies",
            "dying:2": "dies",
            **{f"collapsing:{seed}": "collapses" for seed in range(4)},
        },
        spread=0.1,
        seeds=4,
    )

    @pytest.fixture(autouse=True)
    def _in_processes_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some of these runs are killed."""
        monkeypatch.setattr(engine, "Local", Local)

    def test_they_stop_no_other_and_the_claims_that_need_them_say_so(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert running.run(self.STUDY, tmp_path, workers=1, progress=False) == 1
        result = StudyResult.read(newest(tmp_path).folder / "result.json")
        whole, raising, dying, collapsing = (claim(result, cell) for cell in self.STUDY.effects)
        assert (whole.verdict, whole.estimate.n, whole.note) == ("holds", 4, "4 were asked.")
        assert (raising.verdict, raising.estimate.n) == ("holds", 3)
        assert raising.failed == {"raising": 1}
        assert raising.note == (
            "4 were asked. Runs that failed, counted but not averaged in: 1 of raising. "
            "raising: ValueError: loss is not finite at step 3."
        )
        assert dying.estimate.n == 2
        assert dying.failed == {"dying": 2}
        assert "probably by the kernel because memory ran out" in dying.note
        assert (collapsing.verdict, collapsing.estimate.n) == ("not run", 0)
        assert collapsing.note.endswith("4 of collapsing. There is nothing to judge it by.")
        assert [line.status for line in result.trials].count("failed") == 3
        told = capsys.readouterr().out
        assert "failed: raising: ValueError: loss is not finite" in told
        row = " ".join(told.split("not run")[-1].split())
        assert row.startswith("toy.collapsing – (n = 0)")
        assert "4 were asked. Runs that collapsed, counted but not averaged in: 4 of" in row
        page = (newest(tmp_path).folder / "index.html").read_text()
        assert "probably by the kernel because memory ran out" in page

    def test_what_they_leave_undecided_asks_for_no_seeds_in_vain(self, tmp_path: Path) -> None:
        fates = {f"dying:{seed}": "collapses" for seed in range(3)}
        run(Toy(effects={"clear": 9.0, "dying": 9.0}, fates=fates), tmp_path, 50)
        assert looks(tmp_path, "clear") == [3]

    def test_a_repaired_run_makes_a_further_look(self, tmp_path: Path) -> None:
        repaired = tmp_path / "repaired"
        study = Toy(effects={"none": 0.0}, fates={"none:1": "raises"}, repaired=str(repaired))
        root = tmp_path / "runs"
        assert run(study, root).claims[0].estimate.n == 2
        assert run(study, root, rerun_failed=True).claims[0].estimate.level == level_at(1, 1)
        repaired.touch()
        result = run(study, root, rerun_failed=True)
        assert result.claims[0].estimate.n == 3
        assert looks(root) == [3, 3]
        assert result.claims[0].failed == {"none": 0}
