"""A store in a bucket holds what a folder holds, whoever writes it at the same time."""

from __future__ import annotations

import errno
import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from assay.cli import app, call
from assay.errors import AssayError
from assay.runs import answers, remote
from assay.runs import bucket as buckets
from assay.runs import store as stores
from assay.runs.bucket import Bucket
from assay.runs.engine import execute
from assay.runs.parcels import Folder, move
from assay.runs.reading import list_runs
from assay.runs.remote import RemoteStore, open_store, place_of, url_of
from assay.runs.store import Store
from assay.runs.worker import work

URL = "memory://assay-tests/runs"


@pytest.fixture(autouse=True)
def _memory(monkeypatch, tmp_path):
    fsspec.filesystem("memory").store.clear()
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(buckets, "PATIENCE", 3.0)
    monkeypatch.setattr(remote, "LOOK_EVERY", 0.0)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes the store of one of several machines: each has a cache of its own."""

    def make(name: str) -> RemoteStore:
        monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / name))
        store = open_store(Path(URL))
        assert isinstance(store, RemoteStore)
        return store

    return make


def bytes_of(root: Path) -> dict[str, bytes]:
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def finished(store: Store, trial) -> None:
    assert work(store, trial, lambda _: None, again=False).kind == "done"


def study(store: Store, trials, words: str = "ok") -> str:
    folder = store.run_folder("study", "walks", "ab" * 32)
    (folder / "index.html").write_text(f"<p>{words}")
    named = [trial.address for trial in trials]
    store.save_run("study", folder.name, {"name": "walks", "trials": named, "headline": words})
    return folder.name


def objects() -> list[str]:
    return sorted(fsspec.filesystem("memory").store)


class Troubled:
    """A file system of which the calls with the numbers in `wrong` fail: before or after."""

    def __init__(self, fs, wrong, error: Exception, after: bool = False) -> None:
        self.fs, self.wrong, self.error, self.after, self.calls = fs, wrong, error, after, 0

    def __getattr__(self, name: str):
        def call(*args, **kwargs):
            self.calls += 1
            fails = self.wrong(self.calls)
            if fails and not self.after:
                raise self.error
            answer = getattr(self.fs, name)(*args, **kwargs)
            if fails:
                raise self.error
            return answer

        return call


def test_a_url_is_what_is_left_of_it_in_a_path():
    assert url_of(Path("s3://bucket/a/b")) == url_of("s3://bucket/a/b") == "s3://bucket/a/b"
    assert url_of("runs") is url_of("/a/b") is url_of("./x:/y") is None
    assert open_store("file:///a/b").root == Path("/a/b")
    assert type(open_store("runs")) is Store


def test_what_goes_through_a_bucket_comes_back_byte_by_byte(store, toy, tmp_path, capsys):
    need = toy("walk", epochs=1)
    trials = [need, toy("walk", seed=1, epochs=2, needs=[need])]
    for trial in trials:
        finished(store, trial)
    study(store, trials)
    for source, target in ((store.root, URL), (URL, tmp_path / "back")):
        assert call(app, ["sync", str(source), str(target)]) == 0
        assert "2 trials, 1 study copied, nothing there already" in capsys.readouterr().out
    assert bytes_of(tmp_path / "back") == bytes_of(store.root)
    before = objects()
    assert call(app, ["sync", str(store.root), URL]) == 0
    assert "nothing copied, 2 trials, 1 study there already" in capsys.readouterr().out
    assert objects() == before
    assert call(app, ["list", "--store", URL]) == 0
    assert "2 trials: 2 finished" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["memory://files/runs", "memory://bucket/files/runs/files"])
def test_a_folder_on_the_way_may_be_called_files(store, toy, url):
    finished(store, toy("walk", epochs=1))
    study(store, [])
    assert len(move(Folder(store), place_of(url)).new) == 2
    before = objects()
    moved = move(Folder(store), place_of(url))
    assert (len(moved.there), moved.new, objects()) == (2, [], before)


def test_each_machine_uses_what_the_others_have_finished(machine, toy, tmp_path):
    tally = tmp_path / "tally"
    need = toy("walk", epochs=1, tally=str(tally))
    plan = [toy("walk", seed=s, epochs=2, needs=[need], tally=str(tally)) for s in (1, 2)]
    one = machine("one")
    done = execute(plan, one, progress=False, workers=1)
    study(one, plan)
    assert len(done) == 3
    two = machine("two")
    again = execute(plan, two, progress=False, workers=1)
    assert len(tally.read_text().splitlines()) == 3
    assert bytes_of(two.root / "trials") == bytes_of(one.root / "trials")
    assert [again[trial].metrics["end"] for trial in plan] == [
        done[trial].metrics["end"] for trial in plan
    ]
    three = machine("three")  # reads only
    listed = list_runs(three).to_dict()
    assert listed["trials"] == {"finished": 3}
    assert listed["store"] == URL
    (run,) = three.runs()
    assert run.headline == "ok"
    assert run.store is three
    assert three.find(plan[0].address[:8]).trial == plan[0]
    assert three.result(plan[1].address).record == again[plan[1]].record


def test_what_another_machine_finishes_meanwhile_is_not_run(machine, toy, tmp_path):
    tally = tmp_path / "tally"
    first, shared = toy("walk", epochs=1), toy("walk", seed=5, epochs=1, tally=str(tally))
    one, two = machine("one"), machine("two")
    finished(two, shared)
    begun = one.publish

    def publish(trial):  # while the first runs here, the other machine ends the second
        begun(trial)
        two.publish(shared)

    one.publish = publish
    assert len(execute([first, shared], one, progress=False, workers=1)) == 2
    assert len(tally.read_text().splitlines()) == 1


def test_of_two_writers_of_a_trial_the_first_is_kept_whole(machine, toy, capsys):
    trial = toy("walk", epochs=2)
    one, two = machine("one"), machine("two")
    finished(one, trial)
    finished(two, trial)
    two.bucket.look()  # before the first is there: nothing is known of it
    one.publish(trial)
    before = objects()
    two.publish(trial)
    assert objects() == before  # what was uploaded in vain is gone
    assert capsys.readouterr().err == ""  # the same results
    three = machine("three")
    assert three.entry(trial).result(verify=True) is not None
    assert bytes_of(three.root / "trials") == bytes_of(one.root / "trials")


def test_another_result_of_a_trial_is_said_and_not_mixed_with_the_first(machine, toy, capsys):
    trial = toy("walk", epochs=2)
    one, two = machine("one"), machine("two")
    finished(one, trial)
    finished(two, trial)
    folder = two.root / "trials" / trial.short
    record = json.loads((folder / "record.json").read_text())
    (folder / "extra.bin").write_bytes(b"x")  # as another processor might
    record["files"]["extra.bin"] = [1, hashlib.sha256(b"x").hexdigest()]
    (folder / "record.json").write_text(json.dumps(record))
    two.bucket.look()
    one.publish(trial)
    two.publish(trial)
    assert "keeps what was there first" in capsys.readouterr().err
    three = machine("three")
    assert three.entry(trial).result(verify=True) is not None
    assert bytes_of(three.root / "trials") == bytes_of(one.root / "trials")


def test_a_study_of_one_name_from_two_machines_is_kept_twice_and_said(machine, toy, capsys):
    trial = toy("walk", epochs=1)
    one, two = machine("one"), machine("two")
    finished(one, trial)
    assert two.runs() == []
    study(one, [trial], "of one")
    assert capsys.readouterr().err == ""
    study(two, [trial], "of two")
    assert "was written by another machine too" in capsys.readouterr().err
    assert [o for o in objects() if "/studies/walks" in o and o.endswith(("1.json", "2.json"))] == [
        "/assay-tests/runs/studies/walks-abababab.1.json",
        "/assay-tests/runs/studies/walks-abababab.2.json",
    ]
    assert [run.headline for run in machine("one").runs()] == ["of two"]
    study(one, [trial], "of one again")
    assert capsys.readouterr().err == ""
    assert [run.headline for run in machine("two").runs()] == ["of one again"]


def lose(part: str) -> None:
    """Remove the objects with `part` in their names."""
    held = fsspec.filesystem("memory").store
    for name in [name for name in held if part in name]:
        del held[name]


def spoil(part: str) -> None:
    """Change a byte of each object with `part` in its name."""
    fs = fsspec.filesystem("memory")
    for name in [name for name in fs.store if part in name]:
        fs.pipe_file(name, b"?" + fs.cat_file(name)[1:])


@pytest.mark.parametrize("harm", [lose, spoil])
def test_a_trial_whose_objects_are_damaged_is_run_again_and_put_anew(
    machine, toy, tmp_path, capsys, harm
):
    tally = tmp_path / "tally"
    need = toy("walk", epochs=1, tally=str(tally))
    trial = toy("walk", seed=1, epochs=2, needs=[need])
    one = machine("one")
    finished(one, need)
    one.publish(need)
    harm(f"files/trials/{need.short}")
    two = machine("two")
    assert len(execute([trial], two, progress=False, workers=1)) == 2
    said = capsys.readouterr().err
    assert said.count("it is done without, and made anew when needed") == 1
    assert len(tally.read_text().splitlines()) == 2
    three = machine("three")
    assert all(three.result(one, verify=True) is not None for one in (need, trial))
    assert bytes_of(three.root / "trials") == bytes_of(two.root / "trials")
    four = machine("four")
    finished(four, need)
    four.bucket.damaged.add(
        (f"trials/{need.short}", 1)
    )  # it saw the damage before the others mended it
    before = objects()
    four.publish(need)
    assert objects() == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("harm", [lose, spoil])
def test_a_study_whose_objects_are_damaged_blocks_nothing(machine, capsys, harm):
    one = machine("one")
    study(one, [], "first")
    two = machine("two")
    assert [run.headline for run in two.runs()] == ["first"]
    study(one, [], "second")
    mark = one.bucket.versions["studies/walks-abababab"][2].mark
    harm(f"{mark}/index.html")
    for store in (two, machine("three")):
        assert [run.headline for run in store.runs()] == ["first"]
        assert store.runs()
        assert capsys.readouterr().err.count("it is done without") == 1
    study(two, [], "third")
    assert [run.headline for run in machine("four").runs()] == ["third"]


@pytest.mark.parametrize("harm", [lose, spoil])
def test_sync_mends_what_a_bucket_has_lost_and_sees_it_by_the_sizes(store, toy, tmp_path, harm):
    trials = [toy("walk", seed=seed, epochs=1) for seed in range(3)]
    for trial in trials:
        finished(store, trial)
    move(Folder(store), Bucket(URL))
    harm(f"files/trials/{trials[1].short}")
    moved = move(Folder(store), Bucket(URL))
    if harm is spoil:  # as many bytes: only who brings it sees it, and runs it again
        assert (moved.new, len(moved.there)) == ([], 3)
        return
    assert (moved.new, len(moved.there)) == ([f"trials/{trials[1].short}"], 2)
    assert len(move(Folder(store), Bucket(URL)).there) == 3
    assert len(move(Bucket(URL), place_of(tmp_path / "back")).new) == 3
    assert bytes_of(tmp_path / "back") == bytes_of(store.root)


def newer(trial, number: int = 1) -> None:
    """Write a manifest of a trial as an assay to come might."""
    content = b'{"schema": 2, "parts": []}'
    fsspec.filesystem("memory").pipe_file(f"{URL}/trials/{trial.short}.{number}.json", content)


def test_a_manifest_of_a_newer_assay_stops_its_own_trial_alone(machine, toy, capsys, tmp_path):
    mine, theirs, third = (toy("walk", seed=seed, epochs=1) for seed in range(3))
    one = machine("one")
    assert len(execute([mine], one, progress=False, workers=1)) == 1
    newer(theirs)
    newer(third)
    two = machine("two")
    assert two.result(mine) is not None
    assert len(execute([mine], two, progress=False, workers=1)) == 1
    two.runs()
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert "was written by a newer assay (schema 2, this one knows 1)" in said
    assert "; so were 1 more. The rest of it is used" in said
    with pytest.raises(AssayError, match=rf"{theirs.short}.1.json was written by a newer assay"):
        execute([theirs], two, progress=False, workers=1)
    moved = move(Bucket(URL), place_of(tmp_path / "back"))
    assert (len(moved.new), len(moved.damaged)) == (1, 2)
    here = Store(tmp_path / "here")
    finished(here, theirs)
    moved = move(Folder(here), Bucket(URL))
    assert "a newer assay" in moved.damaged[f"trials/{theirs.short}"]


def test_a_page_that_is_here_stays_until_the_newer_one_has_arrived(machine, monkeypatch):
    one, two = machine("one"), machine("two")
    study(one, [], "first")
    assert [run.headline for run in two.runs()] == ["first"]
    study(one, [], "second")
    monkeypatch.setattr(buckets, "PATIENCE", 0.0)
    kept = two.bucket.fs
    two.bucket.look()
    two.bucket.fs = Troubled(kept, lambda n: n > 3, TimeoutError("timed out"))  # it can list
    with pytest.raises(AssayError, match="does not answer"):
        two.runs()
    assert [run.headline for run in Store(two.root).runs()] == ["first"]
    two.bucket.fs = kept
    assert [run.headline for run in two.runs()] == ["second"]


@pytest.mark.parametrize("after", [False, True])
def test_calls_that_fail_are_made_again_and_nothing_is_lost(store, toy, tmp_path, after):
    trials = [toy("walk", seed=seed, epochs=1) for seed in range(3)]
    for trial in trials:
        finished(store, trial)
    target = Bucket(URL)
    target.fs = Troubled(target.fs, lambda n: n % 2, ConnectionError("reset by peer"), after)
    assert len(move(Folder(store), target).new) == 3
    source = Bucket(URL)
    source.fs = Troubled(source.fs, lambda n: n % 2, TimeoutError("timed out"), after)
    move(source, back := place_of(tmp_path / "back"))
    assert bytes_of(back.store.root) == bytes_of(store.root)


def test_of_many_manifests_only_those_that_failed_are_asked_for_again(store, toy, monkeypatch):
    for seed in range(12):
        finished(store, toy("walk", seed=seed, epochs=1))
    move(Folder(store), Bucket(URL))
    source, failed = Bucket(URL), set()
    real = source.fs.cat_file

    def first_fails(path, *args, **kwargs):
        if path not in failed:
            failed.add(path)
            raise ConnectionError("reset by peer")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(source.fs, "cat_file", first_fails)
    assert len(list(source.parcels())) == len(failed) == 12


def test_a_store_that_does_not_answer_is_one_line_and_the_trial_is_kept(
    machine, toy, monkeypatch, tmp_path
):
    monkeypatch.setattr(buckets, "PATIENCE", 0.5)
    trial = toy("walk", epochs=1, tally=str(tmp_path / "tally"))
    store = machine("one")
    kept = store.bucket.fs
    store.bucket.fs = Troubled(kept, lambda n: n > 6, TimeoutError("timed out"))
    with pytest.raises(Exception, match=r"does not answer as it should \(timed out\).*later"):
        execute([trial], store, progress=False, workers=1)
    store.bucket.fs = kept
    execute([trial], store, progress=False, workers=1)
    assert len((tmp_path / "tally").read_text().splitlines()) == 1
    assert machine("two").result(trial) is not None


REFUSALS = {
    "expired": (PermissionError("The provided token has expired."), "renew the credentials"),
    "denied": (PermissionError("Access Denied"), "may list, read and write there"),
    "clock": (PermissionError("The difference between the request time and the current time is "
                              "too large."), "set the clock"),
    "no bucket": (FileNotFoundError("The specified bucket does not exist"), "cannot write"),
}  # fmt: skip


class Answered(Exception):
    """An error of botocore, which has what S3 answered."""

    def __init__(self, code: str) -> None:
        super().__init__("An error occurred when calling the PutObject operation")
        self.response = {"Error": {"Code": code, "Message": "Said by the store."}}


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("ExpiredToken", "renew"),
        ("InvalidToken", "renew"),
        ("RequestTimeTooSkewed", "set the clock"),
        ("AuthorizationHeaderMalformed", "region"),
        ("PermanentRedirect", "region"),
        ("SlowDown", ""),
        ("InternalError", ""),
        ("ConditionalRequestConflict", ""),
    ],
)
def test_the_code_of_an_answer_decides_whatever_its_words_are(code, what):
    for error in (PermissionError("Forbidden"), OSError(errno.EINVAL, "Bad"), OSError(errno.EIO)):
        if what or error.errno == errno.EIO:
            error.__cause__ = Answered(code)
            assert what in answers.advice(error)
            assert bool(answers.advice(error)) == bool(what)
            assert answers.said(error) == "Said by the store."


def test_errors_without_words_have_some():
    assert answers.said(TimeoutError()) == "no answer in time"
    assert "region" in answers.advice(RecursionError())
    assert "sends on" in answers.said(RecursionError("maximum recursion depth exceeded"))


class Portal:
    """What stands before a store and answers everything with a page."""

    def __getattr__(self, name: str):
        return lambda *_, **__: [] if name == "ls" else b"<html>Log in to this network</html>"


def test_a_page_to_log_in_to_the_network_is_no_store(store, toy, monkeypatch, capsys):
    finished(store, toy("walk", epochs=1))
    monkeypatch.setattr(buckets, "file_system", lambda _: (Portal(), "x"))
    for words in (["sync", str(store.root), URL], ["list", "--store", URL]):
        assert call(app, words) == 2
        assert "gives other answers than a store would" in capsys.readouterr().err


def test_what_the_network_garbled_is_brought_again(machine, toy, monkeypatch, capsys):
    trial = toy("walk", epochs=1)
    one, two = machine("one"), machine("two")
    finished(one, trial)
    one.publish(trial)
    real, garbled = two.bucket.fs.get_file, []

    def get_file(path, here):
        real(path, here)
        if not garbled:
            garbled.append(path)
            Path(here).write_bytes(b"?" + Path(here).read_bytes()[1:])

    monkeypatch.setattr(two.bucket.fs, "get_file", get_file)
    assert two.fetch(trial)
    assert garbled
    assert not two.bucket.damaged
    assert capsys.readouterr().err == ""


def test_clocks_apart_change_no_decision(machine, monkeypatch):
    """The machine that judges last is a day behind: its page is the one that is shown."""

    class Behind(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=1)

    one, two = machine("one"), machine("two")
    study(one, [], "first")
    assert [run.headline for run in two.runs()] == ["first"]
    with monkeypatch.context() as patch:
        patch.setattr(stores, "datetime", Behind)
        study(two, [], "second")
    shown = machine("three").runs()
    assert [run.headline for run in shown] == ["second"]
    assert [run.headline for run in one.runs()] == ["second"]


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_no_second_try_mends_is_said_at_once(store, toy, monkeypatch, capsys, kind):
    error, advice = REFUSALS[kind]
    finished(store, toy("walk", epochs=1))
    made = buckets.file_system

    def troubled(url):
        fs, root = made(url)
        return Troubled(fs, lambda _: True, error), root

    monkeypatch.setattr(buckets, "file_system", troubled)
    monkeypatch.setattr(buckets, "PATIENCE", 1e6)
    assert call(app, ["sync", str(store.root), URL]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert advice in said.err
    assert said.out == ""
    assert objects() == []


def test_mistakes_of_the_address_are_one_line(store, toy, capsys):
    finished(store, toy("walk", epochs=1))
    for words, said in (
        (["sync", URL, str(store.root)], f"there is no store {URL}"),
        (["sync", str(store.root), "nope://x/y"], "Protocol not known"),
        (["gc", URL], "gc cleans folders"),
        (["show", "x", "--store", URL], "the store is empty"),
    ):
        assert call(app, words) == 2
        seen = capsys.readouterr()
        assert said in seen.err
        assert seen.err.count("\n") == 1


def test_an_archive_goes_into_a_bucket_and_out_of_one(store, toy, tmp_path):
    trial = toy("walk", epochs=1)
    finished(store, trial)
    study(store, [trial])
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    assert call(app, ["export", "walks", str(one), "--store", str(store.root)]) == 0
    assert call(app, ["import", str(one), "--store", URL]) == 0
    assert call(app, ["export", "walks", str(two), "--store", URL]) == 0
    assert two.read_bytes() == one.read_bytes()


def test_manifests_of_others_cannot_name_files_outside(store, toy):
    finished(store, trial := toy("walk", epochs=1))
    move(Folder(store), Bucket(URL))
    fs = fsspec.filesystem("memory")
    path = f"/assay-tests/runs/trials/{trial.short}.1.json"
    document = json.loads(fs.cat_file(path))
    document["files"]["../../../up"] = document["files"].pop("model.bin")
    fs.pipe_file(path, json.dumps(document).encode())
    fs.pipe_file("/assay-tests/runs/trials/notes.1.json", json.dumps(document).encode())
    bucket = Bucket(URL)
    assert not list(bucket.parcels()), "one that makes no sense is taken no notice of"
    assert bucket.files(f"trials/{trial.short}") is None
    assert move(Folder(store), Bucket(URL)).new, "and blocks nothing: the next number is taken"
    assert Bucket(URL).last(f"trials/{trial.short}") == 2
