"""A store in S3 over a network that delays, drops and fails requests: moto's server on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from flaky import Proxy

from assay.cli import app, call
from assay.errors import AssayError
from assay.runs import bucket as buckets
from assay.runs import reach, remote
from assay.runs.bucket import Bucket
from assay.runs.engine import execute
from assay.runs.parcels import Folder, move
from assay.runs.remote import RemoteStore, open_store
from assay.runs.store import Store
from assay.runs.worker import work

pytestmark = pytest.mark.slow
FLAKY = {"slow": 0.1, "drop": 0.08, "lost answer": 0.08, "503": 0.08, "hang": 0.01}


@pytest.fixture(scope="module")
def server():
    """The URL of an S3 server, in a process of its own."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    program = (
        "from moto.server import ThreadedMotoServer as S; import time\n"
        "s = S(port=0, ip_address='127.0.0.1', verbose=False); s.start()\n"
        "print(s.get_host_and_port()[1], flush=True)\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def url(server, monkeypatch, tmp_path):
    """The URL of a new bucket."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reach, "READ", 2.0)
    monkeypatch.setattr(remote, "LOOK_EVERY", 0.0)
    name = f"b{time.time_ns()}"
    urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT")).close()
    return f"s3://{name}/runs"


def bytes_of(root: Path) -> dict[str, bytes]:
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != "lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def filled(root: Path, toy, number: int) -> Store:
    store = Store(root)
    trials = [toy("walk", seed=seed, epochs=1) for seed in range(number)]
    for trial in trials:
        assert work(store, trial, lambda _: None, again=False).kind == "done"
    folder = store.run_folder("study", "walks", "ab" * 32)
    (folder / "index.html").write_text("<p>")
    store.save_run("study", folder.name, {"name": "walks", "trials": [t.address for t in trials]})
    return store


def test_a_store_goes_to_s3_and_back_byte_by_byte(url, toy, tmp_path, capsys):
    store = filled(tmp_path / "a", toy, 3)
    assert call(app, ["sync", str(store.root), url]) == 0
    assert call(app, ["sync", url, str(tmp_path / "b")]) == 0
    assert bytes_of(tmp_path / "b") == bytes_of(store.root)
    capsys.readouterr()
    assert call(app, ["sync", url, str(tmp_path / "b")]) == 0
    assert "nothing copied, 3 trials, 1 study there already" in capsys.readouterr().out
    assert call(app, ["list", "--store", url]) == 0
    assert "3 trials: 3 finished" in capsys.readouterr().out


def test_a_manifest_is_written_once(url):
    bucket = Bucket(url)
    bucket.prepare()
    files = {"record.json": (2, "0" * 64)}
    assert bucket._create("trials/0123456789ab", 1, files, "0" * 12)
    assert bucket._create("trials/0123456789ab", 1, files, "0" * 12)  # ours, asked again
    assert not bucket._create("trials/0123456789ab", 1, files, "1" * 12)
    assert bucket.versions["trials/0123456789ab"][1].mark == "0" * 12


def test_nothing_is_lost_over_a_bad_network(url, server, toy, tmp_path, monkeypatch):
    store = filled(tmp_path / "a", toy, 6)
    with Proxy(server, FLAKY) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        assert len(move(Folder(store), Bucket(url)).new) == 7
        move(Bucket(url), Folder(Store(tmp_path / "b")))
        assert proxy.seen.total() > 60
        assert all(proxy.seen[kind] for kind in ("slow", "drop", "lost answer", "503"))
    assert bytes_of(tmp_path / "b") == bytes_of(store.root)


def test_two_machines_write_at_once_over_a_bad_network(url, server, toy, tmp_path, monkeypatch):
    trials = [toy("walk", seed=seed, epochs=1) for seed in range(4)]
    with Proxy(server, FLAKY, seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        machines = []
        for name in ("one", "two"):
            monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / name))
            machines.append(open_store(url))
        errors: list[BaseException] = []

        def study(store: RemoteStore) -> None:
            try:
                assert len(execute(trials, store, progress=False, workers=1)) == 4
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=study, args=[store]) for store in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "three"))
    third = open_store(url)
    names = ("metrics.json", "arrays.npz", "model.bin")
    for trial in trials:
        assert third.entry(trial).result(verify=True) is not None
        for store in machines:
            for name in names:
                held = (store.root / "trials" / trial.short / name).read_bytes()
                assert held == (third.root / "trials" / trial.short / name).read_bytes()
    assert len(list(Bucket(url).parcels())) == 4


def refusal(capsys, *words: str) -> str:
    capsys.readouterr()
    assert call(app, list(words)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_expired_credentials_are_one_line_and_what_is_finished_is_kept(
    url, server, toy, tmp_path, monkeypatch, capsys
):
    store = filled(tmp_path / "a", toy, 1)
    with Proxy(server, {"expired": 1.0}) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        began = time.monotonic()
        said = refusal(capsys, "sync", str(store.root), url)
        assert time.monotonic() - began < 10
    assert "refuses: The provided token has expired.; renew the credentials" in said
    assert said.count("\n") == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    assert call(app, ["sync", str(store.root), url]) == 0


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("skewed", "refuses: Too far; set the clock of this machine"),
        ("region", "give the region of the bucket in AWS_DEFAULT_REGION"),
        ("login", "gives other answers than a store would; a page to log in"),
    ],
)
def test_what_no_second_try_mends_is_said_at_once(
    url, server, toy, tmp_path, monkeypatch, capsys, trouble, said
):
    store = filled(tmp_path / "a", toy, 1)
    with Proxy(server, {trouble: 1.0}) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        for words in (["sync", str(store.root), url], ["list", "--store", url]):
            began = time.monotonic()
            line = refusal(capsys, *words)
            assert time.monotonic() - began < 10
            assert said in line
            assert line.count("\n") == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    assert call(app, ["sync", str(store.root), url]) == 0
    assert "1 trial, 1 study copied" in capsys.readouterr().out


def test_credentials_that_expire_during_a_study_lose_nothing(
    url, server, toy, tmp_path, monkeypatch
):
    tally = tmp_path / "tally"
    trials = [toy("walk", seed=seed, epochs=1, tally=str(tally)) for seed in range(2)]
    with Proxy(server, {}) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = open_store(url)
        publish = store.publish

        def expire(trial):
            proxy.shares = {"expired": 1.0}
            publish(trial)

        store.publish = expire
        with pytest.raises(AssayError, match=r"has expired.*renew the credentials, and give the"):
            execute(trials, store, progress=False, workers=1)
        proxy.shares, store.publish = {}, publish
        assert len(execute(trials, store, progress=False, workers=1)) == 2
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    assert len(tally.read_text().splitlines()) == 2, "what was finished is not run again"
    assert len(list(Bucket(url).parcels())) == 2


def test_a_slow_store_is_said_once_and_waited_for(url, server, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(buckets, "SLOW", 0.3)
    store = filled(tmp_path / "a", toy, 1)
    with Proxy(server, {"trickle": 1.0}) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        assert call(app, ["sync", str(store.root), url]) == 0
    said = capsys.readouterr()
    assert "1 trial, 1 study copied" in said.out
    assert said.err.count("is slow: an answer has taken") == said.err.count("\n") == 1


def test_two_studies_of_one_name_at_once_are_both_kept_and_one_is_told(
    url, server, tmp_path, monkeypatch, capsys
):
    with Proxy(server, FLAKY, seed=2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        machines = []
        for name in ("one", "two"):
            monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / name))
            store = open_store(url)
            assert store.runs() == []
            machines.append(store)

        def judge(store: RemoteStore, words: str) -> None:
            folder = store.run_folder("study", "walks", "ab" * 32)
            (folder / "index.html").write_text(words)
            store.save_run("study", folder.name, {"name": "walks", "headline": words})

        threads = [
            threading.Thread(target=judge, args=[store, words])
            for store, words in zip(machines, ("of one", "of two"), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert capsys.readouterr().err.count("was written by another machine too") == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "three"))
    third = open_store(url)
    (shown,) = third.runs()
    versions = third.bucket.versions["studies/walks-abababab"]
    assert sorted(versions) == [1, 2]
    kept = {Path(shown.folder / "index.html").read_text()}
    assert kept == {shown.headline}
    with third.bucket.open("studies/walks-abababab", "index.html", 1) as first:
        assert {first.read().decode(), *kept} == {"of one", "of two"}


def test_a_server_that_hangs_or_is_not_there_is_one_line(
    url, server, toy, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(buckets, "PATIENCE", 3.0)
    monkeypatch.setattr(reach, "READ", 0.5)
    store = filled(tmp_path / "a", toy, 1)
    with Proxy(server, {"hang": 1.0}) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        said = refusal(capsys, "sync", str(store.root), url)
    assert "does not answer as it should" in said.splitlines()[-1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said = refusal(capsys, "sync", str(store.root), url)
    assert "does not answer as it should" in said.splitlines()[-1]


def test_other_mistakes_are_one_line(url, toy, tmp_path, monkeypatch, capsys):
    store = filled(tmp_path / "a", toy, 1)
    said = refusal(capsys, "sync", str(store.root), "s3://no-such-bucket-here/runs")
    assert "cannot write s3://no-such-bucket-here/runs" in said
    assert "there is no store" in refusal(capsys, "sync", f"{url}/other", str(store.root))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "give AWS_PROFILE" in refusal(capsys, "sync", str(store.root), url)
