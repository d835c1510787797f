"""What `assay list`, `show`, `compare`, `why` and `--dry-run` say."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console

from assay.cli import app, call
from assay.data import load_data
from assay.disk import write_atomic
from assay.errors import AssayError
from assay.report.leaves import differing, flatten, text_of
from assay.report.result import StudyResult
from assay.runs.comparing import compare, why
from assay.runs.entry import SCHEMA, Entry, Failure
from assay.runs.files import to_json
from assay.runs.reading import list_runs, show
from assay.runs.status import plan_status
from assay.runs.trial import Outcome, Trial, kin
from assay.runs.view import View
from assay.stats import Estimate


def text(view: View) -> str:
    """What a wide terminal would show, with runs of spaces made one."""
    console = Console(file=io.StringIO(), width=300)
    console.print(view)
    return "\n".join(" ".join(line.split()) for line in console.file.getvalue().splitlines())


def made(store, trial: Trial, *, seconds: float = 1.0, **metrics) -> str:
    """Put a finished trial in the store without running it; return its address."""
    entry = store.entry(trial)
    with entry.lock():
        entry.begin()
        entry.finish(Outcome(metrics), {"seconds": seconds, "peak_memory": 1})
    return trial.address


def network(depth: int, seed: int = 0, **changes) -> Trial:
    fields = {
        "task": "toy_tasks:walk",
        "config": {"model": {"depth": depth, "widths": [16, 32]}, "lr": 0.1},
        "seed": seed,
        "data": {"cifar10/train": "a" * 64},
        "versions": {"CNN": 1},
        "label": f"plain {depth}",
        "torch": "2.6",
    }
    return Trial(**{**fields, **changes})


@pytest.fixture
def studies(store):
    """Two studies that share seed 0 of depth 2, and differ in the depth of the other cell."""
    ids = []
    for depth, low in ((5, 0.01), (7, -0.02)):
        trials = [network(2), network(depth)]
        for trial in trials:
            made(store, trial, accuracy=0.5 + depth / 100)
        address = trials[1].address
        claims = [
            {
                "code": "SKIP-1",
                "text": "skip connections help",
                "verdict": "holds" if low > 0 else "undecided",
                "estimate": Estimate(0.034, low, 0.08, 3, "seeds").to_dict(),
            }
        ]
        folder = store.run_folder("study", f"skip-{depth}", address)
        store.save_run(
            "study",
            folder.name,
            {
                "created": f"2025-01-0{depth}T10:00:00+00:00",
                "name": "skip",
                "address": address,
                "config": {"depths": [2, depth], "seeds": 1, "model": {"width": 16}},
                "trials": [trial.address for trial in trials],
                "claims": claims,
                "headline": f"depth {depth} was tried",
            },
        )
        ids.append(folder.name)
    return ids


def test_list_shows_runs_the_newest_first_and_counts_trials(store, studies, toy):
    entry = store.entry(toy("walk"))
    with entry.lock():
        entry.begin()
    view = list_runs(store)
    assert [run["id"] for run in view.data["runs"]] == studies[::-1]
    assert [run["verdicts"] for run in view.data["runs"]] == [{"undecided": 1}, {"holds": 1}]
    assert view.data["trials"] == {"finished": 3, "not begun": 1}
    shown = text(view)
    assert "4 trials: 3 finished, 1 not begun" in shown or "1 not begun, 3 finished" in shown
    assert f"{studies[1]} 2025-01-07 0/1 hold depth 7 was tried" in shown


def test_list_has_one_line_for_each_run_on_a_narrow_terminal(store, studies):
    console = Console(file=io.StringIO(), width=52)
    console.print(list_runs(store))
    lines = console.file.getvalue().splitlines()
    shown = [line for line in lines if line.startswith("skip-")]
    assert [line.split()[0] for line in shown] == studies[::-1]
    assert [" ".join(line.split()[1:4]) for line in shown] == [
        "2025-01-07 0/1 hold",
        "2025-01-05 1/1 hold",
    ]
    assert max(map(len, lines)) <= 52
    assert shown[0].rstrip().endswith("…")


def test_list_of_an_empty_store_says_so(store):
    assert "no study and no audit has been finished here yet" in text(list_runs(store))


def test_show_a_study(store, studies):
    folder = store.root / "studies" / studies[0]
    (folder / "index.html").write_text("")
    shown = text(show(store, "skip-5"))
    assert "holds SKIP-1 +3.4 points (+1.0 to +8.0, n = 3)" in shown
    assert "skip connections help" in shown
    assert f"page: {folder / 'index.html'}" in shown
    assert f"{network(2).address[:12]} plain 2 (seed 0) 1.0 s" in shown
    assert "model.width 16" in shown
    (store.entry(network(5)).folder / "record.json").unlink()
    assert f"{network(5).address[:12]} gone" in text(show(store, "skip-5"))


def test_show_an_audit_with_checks_that_did_not_run(store):
    folder = store.run_folder("audit", "resnet", "12" * 32)
    checks = [
        {
            "code": "ROB-001",
            "title": "accuracy under PGD",
            "verdict": "fail",
            "value": {"value": 0.1, "low": 0.05, "high": 0.15, "n": 100},
        },
        {"code": "OOD-001", "title": "AUROC", "verdict": "not run", "value": None},
    ]
    document = {"name": "resnet", "address": "12" * 32, "config": {}, "checks": checks}
    store.save_run("audit", folder.name, document)
    shown = text(show(store, "resnet"))
    assert "fail ROB-001 10.0 % (5.0 to 15.0, n = 100)\naccuracy under PGD" in shown
    assert "not run OOD-001 –\nAUROC" in shown


def test_show_a_trial_finished_and_failed(store, toy):
    address = made(store, network(2), accuracy=0.51234, curve=list(range(20)), bad=float("nan"))
    view = show(store, address[:8])
    assert view.data["metrics"]["accuracy"] == 0.51234
    shown = text(view)
    assert "accuracy 0.5123" in shown
    assert "curve 20 values, last 19" in shown
    assert "bad nan" in shown
    assert "model.widths [16, 32]" in shown
    entry = store.entry(toy("crash"))
    with entry.lock():
        entry.begin()
        entry.fail(Failure("exception", "ValueError: no"))
    view = show(store, entry.trial.address[:8])
    assert view.data["state"] == "failed"
    assert "failed: ValueError: no" in text(view)


def test_a_trial_whose_record_was_cut_is_damaged_and_not_to_be_begun(store):
    address = made(store, network(2), accuracy=0.5)
    record = store.find(address[:8]).folder / "record.json"
    record.write_bytes(record.read_bytes()[:40])
    view = show(store, address[:8])
    assert view.data["state"] == "damaged"
    shown = " ".join(text(view).split())
    assert "is cut, or a file that it names is not what it was: the command" in shown


def test_a_trial_that_is_finished_while_one_looks_is_not_damaged(store, monkeypatch):
    entry = store.find(made(store, network(2), accuracy=0.5)[:8])
    looks, result = iter([True, False]), Entry.result
    monkeypatch.setattr(Entry, "result", lambda self: None if next(looks) else result(self))
    assert entry.state() == "finished"


def test_compare_studies_puts_claims_side_by_side(store, studies):
    view = compare(store, *studies)
    assert view.data["shared_trials"] == [network(2).address]
    shown = text(view)
    assert (
        "SKIP-1 skip connections help holds: +3.4 points (+1.0 to +8.0, n = 3) "
        "undecided: +3.4 points (−2.0 to +8.0, n = 3)"
    ) in shown
    assert f"{studies[1]}: depth 7 was tried" in shown


def test_compare_trials_puts_metrics_side_by_side(store):
    a = made(store, network(2), accuracy=0.5, only_a=1, why="")
    b = made(store, network(5), accuracy=0.75, only_b=2, why="")
    shown = text(compare(store, a[:8], b[:8]))
    assert "accuracy 0.5 0.75 +0.25" in shown
    assert "only_a 1 –" in shown
    assert "only_b – 2" in shown
    assert shown.splitlines()[-1].startswith("only_b") or "same" in shown
    assert "no difference in any shared number" not in shown
    assert "no difference in any shared number" in text(compare(store, a[:8], a[:8]))


def result(study: str, accuracy: float, seeds: int) -> StudyResult:
    return StudyResult.model_validate(
        {
            "study": study,
            "question": "Does it help?",
            "preset": "quick",
            "claims": [
                {
                    "code": "help",
                    "text": "It helps.",
                    "delta": 0.01,
                    "verdict": "holds",
                    "estimate": Estimate(accuracy, accuracy - 0.03, accuracy + 0.03, 5, "seeds"),
                }
            ],
            "trials": [{"address": "a" * 64, "label": "plain", "status": "done"}],
            "trials_at": "../../trials",
            "made": {
                "command": "assay run skip",
                "config": {"seeds": seeds, "lr": 0.1},
                "seeds": [0],
                "versions": {},
                "hardware": {},
                "started": "2026-03-01T12:04:09+00:00",
                "seconds": 1.0,
            },
        }
    )


def test_compare_reads_results_in_the_store_and_outside(store, studies, tmp_path):
    write_atomic(store.root / "studies" / studies[0] / "result.json", result("s", 0.5, 3).to_json())
    (tmp_path / "kept").mkdir()
    kept = tmp_path / "kept" / "result.json"
    kept.write_text(result("s", 0.6, 5).to_json())
    for path in (kept, kept.parent, f"{kept.parent}/"):
        view = compare(store, "skip-5", str(path))
        shown = text(view)
        assert "holds: +50.0 points (+47.0 to +53.0, n = 5)" in shown.replace("\u202f", " ")
        assert "+10.0 points (+5.8 to +14.2)" in shown.replace("\u202f", " ")
        assert "seeds 3 5" in shown
        assert "lr" not in shown.split()
        assert "trials in both: 1" in shown
        assert view.data["settings"] == [{"setting": "seeds", "a": 3, "b": 5}]
    with pytest.raises(AssayError, match=r"is the result of a study and .* is not"):
        compare(store, network(2).address, str(kept))
    with pytest.raises(AssayError, match=r"is the result of a study and .* is not"):
        compare(store, str(kept), network(2).address)
    kept.write_text("{}")
    with pytest.raises(AssayError, match=r"result.json"):
        compare(store, "skip-5", str(kept.parent))


def test_show_and_why_take_folders_as_compare_does(store, studies, tmp_path):
    for name, accuracy, seeds in (("a", 0.5, 3), ("b", 0.6, 5)):
        (tmp_path / name).mkdir()
        found = result("s", accuracy, seeds).model_copy(update={"answer": "**It helps.** A bit."})
        (tmp_path / name / "result.json").write_text(found.to_json())
    a, b = (str(tmp_path / name) for name in "ab")
    for path in (a, f"{a}/", f"{a}/result.json"):
        view = show(store, path)
        shown = text(view)
        assert "It helps. A bit." in shown
        assert "holds help +50.0 points (+47.0 to +53.0, n = 5)" in shown
        assert "aaaaaaaaaaaa plain done" in shown
        assert view.data["study"] == "s"
    view = why(store, a, b)
    assert view.data == {
        "same": False,
        "differences": [{"path": "config.seeds", "a": 3, "b": 5}],
        "trials": {"shared": 1, "a": 0, "b": 0},
    }
    assert "1 trials are the same, 0 are only in A, 0 only in B" in text(view)
    assert why(store, a, a).data["same"]
    write_atomic(store.root / "studies" / studies[0] / "result.json", result("s", 0.5, 3).to_json())
    assert why(store, "skip-5", b).data["differences"] == view.data["differences"]
    with pytest.raises(AssayError, match=r"is the result of a study and .* is not"):
        why(store, a, network(2).address)


def test_compare_says_where_no_number_differs(store, tmp_path):
    for name, accuracy in (("a", 0.5), ("b", 0.5), ("c", 0.6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(result("s", accuracy, 3).to_json())
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert "no difference in any shared number" in text(compare(store, a, b))
    assert "no difference" not in text(compare(store, a, c))
    bare = result("s", 0.5, 3).model_copy(update={"claims": ()})
    (tmp_path / "b" / "result.json").write_text(bare.to_json())
    assert "no difference" not in text(compare(store, a, b)), "nothing is shared"


def test_compare_writes_a_page_of_two_studies_and_of_nothing_else(store, studies, tmp_path, capsys):
    for name in studies:
        folder = store.root / "studies" / name
        write_atomic(folder / "result.json", result("s", 0.5, len(name)).to_json())
    page = tmp_path / "new" / "compare.html"
    home = ["--store", str(store.root)]
    assert call(app, ["compare", *studies, "--out", str(page), *home]) == 0
    assert "two results side by side" in page.read_text()
    assert capsys.readouterr().out.strip() == str(page)
    trials = [network(2).address, network(5).address]
    for tokens, why_not in (
        ([*trials, "--out", str(page)], "leave it out here"),
        ([*studies, "--out", str(tmp_path)], "is a folder; give the path of a file"),
        ([*studies, "--out", f"{page}/x.html"], "is or lies below a file"),
    ):
        assert call(app, ["compare", *tokens, *home]) == 2
        assert why_not in capsys.readouterr().err


def test_compare_needs_two_of_a_kind(store, studies):
    with pytest.raises(AssayError, match=r"is a run and .* a trial"):
        compare(store, studies[0], network(2).address)
    with pytest.raises(AssayError, match=r"is a run and .* a trial"):
        why(store, network(2).address, studies[0])


CHANGES = {
    "config.lr": {"config": {"model": {"depth": 2, "widths": [16, 32]}, "lr": 0.2}},
    "config.model.widths": {"config": {"model": {"depth": 2, "widths": [16, 64]}, "lr": 0.1}},
    "config.model.norm": {
        "config": {"model": {"depth": 2, "widths": [16, 32], "norm": "batch"}, "lr": 0.1}
    },
    "seed": {"seed": 1},
    "data.cifar10/train": {"data": {"cifar10/train": "b" * 64}},
    "versions.CNN": {"versions": {"CNN": 2}},
    "threads": {"threads": 2},
    "device": {"device": "cuda"},
    "torch": {"torch": "2.7"},
    "task": {"task": "toy_tasks:given"},
}


@pytest.mark.parametrize("path", CHANGES)
def test_why_names_the_part_of_the_address_that_differs(store, path):
    a = made(store, network(2))
    b = made(store, network(2, **CHANGES[path]))
    view = why(store, a, b)
    assert [item["path"] for item in view.data["differences"]] == [path]
    (field, value), *_ = CHANGES[path].items()
    item = view.data["differences"][0]
    assert item["a"] != item["b"]
    if field != "config":
        assert flatten({field: value})[path] == item["b"]


def test_every_part_of_an_address_is_tried_above():
    assert {path.split(".")[0] for path in CHANGES} | {"needs"} == network(2).material.keys()


def test_why_looks_into_what_a_trial_needs(store):
    def attack(**changes) -> Trial:
        return Trial(task="toy_tasks:given", config={}, needs=(network(2, **changes),))

    a, b = made(store, attack()), made(store, attack(versions={"CNN": 2}, seed=4))
    view = why(store, a, b)
    assert {item["path"]: (item["a"], item["b"]) for item in view.data["differences"]} == {
        "needs[0].seed": (0, 4),
        "needs[0].versions.CNN": (1, 2),
    }
    c = made(store, Trial(task="toy_tasks:given", config={}))
    (only,) = why(store, a, c).data["differences"]
    assert only["path"] == "needs[0]"
    assert only["a"].startswith("plain 2 (seed 0)")
    assert only["b"] is None


def test_why_of_the_same_trial_says_so(store):
    a = made(store, network(2))
    assert why(store, a, a).data == {"same": True, "differences": []}
    assert "the same address: nothing differs" in text(why(store, a, a))


def test_why_of_studies_names_settings_and_counts_trials(store, studies):
    view = why(store, *studies)
    assert [item["path"] for item in view.data["config"]] == ["config.depths"]
    assert view.data["trials"] == {"shared": 1, "a": 1, "b": 1}
    assert view.data["parts"] == [{"path": "config.model.depth", "a": 5, "b": 7, "trials": 1}]
    assert "config.model.depth 5 7 1" in text(view)


def test_the_state_of_a_plan_and_what_it_costs(store):
    there, like, partly, failed, locked, unknown = (
        network(2, seed=0),
        network(2, seed=2),
        network(2, seed=3),
        network(2, seed=4),
        network(2, seed=5),
        network(9),
    )
    made(store, there, seconds=30)
    made(store, network(2, seed=1), seconds=50)
    entry = store.entry(partly)
    with entry.lock():
        entry.begin()
        (entry.folder / "checkpoint").mkdir()
        (entry.folder / "checkpoint" / "state").touch()
        state = {"schema": SCHEMA, "fraction": 0.75, "seconds": 9.0, "resumed": 0, "note": ""}
        write_atomic(entry.folder / "progress.json", to_json(state))
    with store.entry(failed).lock():
        store.entry(failed).begin()
        store.entry(failed).fail(Failure("exception", "no"))
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    with store.entry(locked).lock():
        plan = plan_status([there, like, partly, failed, locked, unknown], store)
        states = [status.state for status in plan.trials]
    assert states == [
        "finished",
        "not begun",
        "partly done",
        "failed",
        "running",
        "not begun",
    ]
    assert [status.seconds for status in plan.trials] == [0, 40, 10, 40, 40, None]
    assert plan.seconds(workers=1) == 130
    assert plan.seconds(workers=2) == 65
    assert plan.seconds(workers=100) == 40
    assert plan.unknown() == 1
    assert plan.bytes() == 4 * store.result(there).record["files"]["metrics.json"][0]
    shown = text(plan.view(workers=2))
    assert "6 trials" in shown
    assert "plain 2 5 1 finished, 1 not begun, 1 partly done, 1 failed, 1 running" in shown
    assert "without 1 trials the like of which was never run" in shown
    after = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    assert {k: v for k, v in after.items() if k in before} == before


def test_a_guess_serves_where_no_trial_of_the_kind_was_run(store):
    class Guess:
        seconds, bytes = 7200.0, 1_000_000

    made(store, network(2), seconds=30)
    plan = plan_status([network(2, seed=1), network(9)], store, lambda _: Guess())
    assert [status.seconds for status in plan.trials] == [30, 7200]
    assert "2 h" in text(plan.view(workers=1))


def test_a_label_serves_where_a_seed_changes_more_than_the_seed(store):
    """A study may leave out other classes with each seed: no two of its networks are kin."""
    there, other, alien = (
        network(depth, seed=depth).model_copy(update={"label": label})
        for depth, label in ((1, "held out"), (2, "held out"), (3, "another"))
    )
    made(store, there, seconds=30)
    plan = plan_status([there, other, alien], store)
    assert [status.seconds for status in plan.trials] == [0, 30, None]


def test_needs_are_part_of_the_plan_and_kin_ignores_seeds_all_the_way_down(store):
    attacks = [
        Trial(task="toy_tasks:given", config={}, needs=(network(2, seed=seed),)) for seed in (0, 1)
    ]
    assert kin(attacks[0]) == kin(attacks[1])
    assert kin(attacks[0]) != kin(attacks[0].model_copy(update={"needs": ()}))
    assert len(plan_status(attacks, store).trials) == 4


def test_values_in_a_few_characters():
    assert text_of(0.123456) == "0.1235"
    levels = [8 / 255, 0.5 / 255, 0.0314, 0.2]
    assert text_of(levels, "attacks[0].budgets") == "[8/255, 0.5/255, 0.0314, 0.2]"
    assert text_of({"eps": 8 / 255, "seconds": 8 / 255}) == "eps: 8/255, seconds: 0.03137"
    assert text_of(8 / 255, "test_accuracy") == "0.03137", "of 255 images, 8 were right"
    assert text_of(True) == "yes"
    assert text_of(None) == "–"
    assert text_of({"value": None, "low": None, "high": None, "n": 0}) == "– [–, –] n=0"
    assert flatten({"a": {"b": [1, 2], "c": [{"d": 1}]}, "e": {}}) == {
        "a.b": [1, 2],
        "a.c[0].d": 1,
        "e": {},
    }


def test_reading_and_running_never_import_torch():
    modules = ["engine", "reading", "status", "store", "trial", "worker"]
    imports = "; ".join(f"import assay.runs.{name}" for name in modules)
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_numbers_of_another_type_make_another_address() -> None:
    assert differing({"lr": 1, "eps": 0.5}, {"lr": 1.0, "eps": 0.5}) == [("lr", 1, 1.0)]
    assert differing({"on": True}, {"on": 1}) == [("on", True, 1)]


def test_a_name_that_is_no_path_is_one_line(store):
    for name in ("~nosuchuser/runs", "n" * 5000):
        with pytest.raises(AssayError, match="is no path"):
            store.find(name)
        with pytest.raises(AssayError, match="is no path"):
            load_data(name)


def lines_of(view: View, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(view, crop=False)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_narrow_terminal_has_rows_that_compare_one_by_one(store):
    a = made(store, network(2), test_accuracy=0.5, chance=0.1, history=[0.123456, 0.2, 0.3])
    b = made(store, network(5), test_accuracy=0.75, chance=0.1, history=[0.123456, 0.4, 0.5])
    view = compare(store, a[:8], b[:8])
    narrow = lines_of(view, 40)
    assert "the same in both: chance" in narrow
    at = narrow.index("test_accuracy")
    assert narrow[at + 1] == f"  {a[:12]}  0.5"
    assert narrow[at + 3] == "  difference    +0.25"
    assert max(map(len, narrow)) <= 40
    assert any("difference" in line and a[:12] in line for line in lines_of(view, 120))


def test_paths_and_addresses_are_never_broken(store):
    address = made(store, network(2), accuracy=0.5)
    shown = lines_of(show(store, address[:8]), 40)
    assert address in shown
    assert str(store.entry(network(2)).folder) in shown
