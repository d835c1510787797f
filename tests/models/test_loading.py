"""Saved models come back as they were, and everything else gets one clear line."""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import pickle
import shlex
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from assay import BlackBox, Classifier
from assay.config import Config
from assay.core.random import Stream
from assay.errors import AssayError
from assay.models import CNN, MLP, HttpModel
from assay.models.formats import not_yet
from assay.models.loading import fingerprint, load_model, load_oracle
from assay.models.saved import save_model, saved
from assay.models.weights import read_weights, unwrapped

NAMES = ("cat", "dog", "owl")
CONFIG = CNN(depths=(1, 1), widths=(4, 8), skip=True, norm="batch")


def save(path: Path) -> nn.Module:
    model = CONFIG.build((3, 8, 8), 3, Stream(5))
    with torch.no_grad():
        model.norm.running_mean.uniform_(0, 1)
    model = model.to(memory_format=torch.channels_last)
    save_model(
        path, model, CONFIG, in_shape=(3, 8, 8), classes=NAMES, mean=(0.4, 0.5, 0.6), std=(0.2,) * 3
    )
    return model


def refused(spec: object, **settings: object) -> str:
    """Return the one line with which loading is refused."""
    with pytest.raises(AssayError) as caught:
        load_model(str(spec), **settings)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_saved_model_comes_back_with_its_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = save(path).eval()
    classifier = load_model(str(path))
    x = torch.rand(4, 3, 8, 8)
    mean = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
    expected = model((x - mean) / torch.full((1, 3, 1, 1), 0.2))
    torch.testing.assert_close(classifier.query(x), expected, atol=1e-6, rtol=1e-6)
    assert classifier.classes == NAMES
    assert not classifier.model.training
    about = saved(path)
    assert CNN.parse(about.config) == CONFIG
    assert about.in_shape == (3, 8, 8)
    assert set(about.versions) == {"assay", "torch"}
    given = load_model(str(path), classes=("a", "b", "c"), mean=(0, 0, 0), std=(1, 1, 1))
    assert given.classes == ("a", "b", "c")
    torch.testing.assert_close(given.query(x), model(x), atol=1e-6, rtol=1e-6)


def test_equal_models_are_equal_bytes_in_every_process(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_loading; "
        "from pathlib import Path; test_loading.torch.manual_seed(0); "
        "test_loading.save(Path(sys.argv[1]))"
    )
    digests = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.safetensors"
        env = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=env)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AssayError, match="no space left"):
        save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == before


FACTORY = """
import torch
from torch import nn
from neighbour import WIDTH

class Net(nn.Module):
    def __init__(self, width=WIDTH):
        super().__init__()
        self.first = nn.Linear(12, width)
        self.last = nn.Linear(width, 3)
    def forward(self, x):
        return self.last(torch.relu(self.first(x.flatten(1))))

def make_net():
    return Net()

def broken():
    raise RuntimeError("no such GPU\\nat all")

def a_number():
    return 3

def needs(depth):
    return Net()

READY = Net()
LIMIT = 7
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("WIDTH = 5\n")
    path = tmp_path / "nets.py"
    path.write_text(FACTORY)
    return path


def state_of(user_file: Path) -> dict[str, torch.Tensor]:
    state = load_model(f"{user_file}:make_net").model.state_dict()
    return {name: torch.full_like(value, 0.125) for name, value in state.items()}


def test_a_factory_with_every_kind_of_weights(user_file: Path, tmp_path: Path) -> None:
    state = state_of(user_file)
    files = {name: tmp_path / name for name in ("a.safetensors", "b.pt", "c.pth", "d.pt", "e.pt")}
    save_file(state, files["a.safetensors"])
    torch.save(state, files["b.pt"])
    torch.save(state, files["c.pth"], _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state}, files["d.pt"])
    torch.save({f"module.{name}": value for name, value in state.items()}, files["e.pt"])
    for factory in ("make_net", "Net", "READY"):
        for weights in files.values():
            classifier = load_model(f"{user_file}:{factory}", weights=weights, classes=NAMES)
            assert all((value == 0.125).all() for value in classifier.model.state_dict().values())
            assert classifier.query(torch.rand(2, 3, 2, 2)).shape == (2, 3)
    assert str(tmp_path) not in sys.path


def test_files_that_are_not_there_or_are_something_else(user_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors")
    assert refused(tmp_path / "modle.safetensors").endswith(
        f"did you mean {tmp_path / 'model.safetensors'}?"
    )
    said = f"is a folder: name the file in it, {tmp_path / 'model.safetensors'}"
    assert said in refused(tmp_path)
    assert f"{user_file}:factory" in refused(user_file)
    torch.save({}, tmp_path / "w.pt")
    assert "file.py:factory --weights" in refused(tmp_path / "w.pt")
    assert "has its own weights" in refused(
        tmp_path / "model.safetensors", weights=tmp_path / "w.pt"
    )
    assert "there is no file" in refused(f"{user_file}:make_net", weights=tmp_path / "x.pt")


def test_corrupt_and_foreign_safetensors(user_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(path)
    whole = path.read_bytes()
    for content in (whole[:-5], whole[:4], b"", b"something else altogether"):
        path.write_bytes(content)
        assert "not a whole safetensors file" in refused(path)
        assert "not a whole safetensors file" in refused(f"{user_file}:make_net", weights=path)
    save_file({"w": torch.ones(2)}, path)
    line = refused(path)
    assert "was not made by assay" in line
    assert "file.py:factory --weights" in line
    save_file({"w": torch.ones(2)}, path, metadata={"assay": '{"schema_version": 99}'})
    assert "another version" in refused(path)


class Foreign(Config):
    name: str = "mixer"


def test_a_network_that_is_not_known_here(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    config = MLP(widths=(4,))
    model = config.build((1, 2, 2), 2, Stream(0))
    foreign = Foreign()
    save_model(path, model, foreign, in_shape=(1, 2, 2), classes=("a", "b"))
    assert "'mixer'" in refused(path)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def test_a_pickle_that_would_run_code_is_refused_and_not_run(
    user_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    spec = f"{user_file}:make_net"
    new, old = io.BytesIO(), io.BytesIO()
    torch.save({"w": Evil()}, new)
    torch.save({"w": Evil()}, old, _use_new_zipfile_serialization=False)
    newer = io.BytesIO()
    torch.save({"w": Evil()}, newer, pickle_protocol=4)
    raw = [pickle.dumps({"w": Evil()}, protocol=protocol) for protocol in (0, 2, 4)]
    for content in (new.getvalue(), old.getvalue(), newer.getvalue(), *raw):
        path.write_bytes(content)
        line = refused(spec, weights=path)
        assert line.startswith(f"refused: {path} is a pickle that would execute code")
        assert "posix.mkdir" in line or "nt.mkdir" in line
        assert line.endswith("save a state dict or safetensors"), "nobody is told to run it"
    assert not (tmp_path / "pwned").exists()
    torch.save(nn.Linear(2, 2), path)
    assert "torch.nn.modules.linear.Linear" in refused(spec, weights=path)


def test_corrupt_weights_are_not_called_malicious(user_file: Path, tmp_path: Path) -> None:
    spec, path = f"{user_file}:make_net", tmp_path / "w.pt"
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(state_of(user_file), new)
    torch.save(state_of(user_file), old, _use_new_zipfile_serialization=False)
    cut = [buffer.getvalue()[: len(buffer.getvalue()) // 2] for buffer in (new, old)]
    holed = io.BytesIO()
    with zipfile.ZipFile(new) as whole, zipfile.ZipFile(holed, "w") as archive:
        for name in whole.namelist():
            if not name.endswith("data/0"):
                archive.writestr(name, whole.read(name))
    for content in (*cut, holed.getvalue(), b"", b"hello world", bytes(range(256))):
        path.write_bytes(content)
        assert "is corrupt" in refused(spec, weights=path)
    torch.save({"epoch": 3, "loss": 0.1}, path)
    assert "holds no state dict but the keys epoch, loss" in refused(spec, weights=path)
    torch.save([1, 2], path)
    assert "but a list" in refused(spec, weights=path)


def test_weights_that_do_not_fit_name_the_nearest(user_file: Path, tmp_path: Path) -> None:
    spec, path = f"{user_file}:make_net", tmp_path / "w.pt"
    state = state_of(user_file)
    renamed = {name.replace("first", "fisrt"): value for name, value in state.items()}
    torch.save(renamed, path)
    line = refused(spec, weights=path)
    assert "lacks first.weight (nearest: fisrt.weight)" in line
    assert "has fisrt.weight (nearest: first.weight)" in line
    torch.save({**state, "last.weight": torch.ones(4, 5)}, path)
    assert "last.weight has shape (4, 5), the network's (3, 5)" in refused(spec, weights=path)


def test_factories_that_cannot_serve(user_file: Path) -> None:
    assert "did you mean 'make_net'" in refused(f"{user_file}:make_nte")
    assert "RuntimeError: no such GPU at all" in refused(f"{user_file}:broken")
    assert "gave int, not a torch.nn.Module" in refused(f"{user_file}:a_number")
    assert "is int, not a function or class" in refused(f"{user_file}:LIMIT")
    assert "depth" in refused(f"{user_file}:needs")
    user_file.write_text("import nothing_of_the_kind")
    assert "cannot be run: ModuleNotFoundError" in refused(f"{user_file}:make_net")
    user_file.write_text("import sys; sys.exit(3)")
    assert "cannot be run: SystemExit" in refused(f"{user_file}:make_net")


def test_a_fingerprint_follows_the_contents_and_runs_nothing(tmp_path: Path) -> None:
    file, weights = tmp_path / "nets.py", tmp_path / "w.pt"
    file.write_text("raise SystemExit")
    weights.write_bytes(b"1")
    first = fingerprint(f"{file}:make", weights=weights)
    assert first == fingerprint(f"{file}:make", weights=weights)
    assert first != fingerprint(f"{file}:other", weights=weights)
    assert first != fingerprint(f"{file}:make")
    weights.write_bytes(b"2")
    assert first != fingerprint(f"{file}:make", weights=weights)
    with pytest.raises(AssayError, match="there is no file"):
        fingerprint(str(tmp_path / "none.safetensors"))


FUNCTIONS = """
import numpy as np
from neighbour import WIDTH

def brightest(images):
    means = images.mean((2, 3))
    return means.argmax(1)

def shares(images, sharpness=WIDTH):
    raised = np.exp(sharpness * images.mean((2, 3)))
    return raised / raised.sum(1, keepdims=True)

def make_net():
    return None
"""


def test_a_function_of_images_is_a_black_box(user_file: Path) -> None:
    user_file.write_text(FUNCTIONS)
    x = torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(2))
    box = load_oracle(f"{user_file}:brightest", access="labels", classes=NAMES, batch_size=4)
    assert isinstance(box, BlackBox)
    assert torch.equal(box.query(x), x.mean((2, 3)).argmax(1))
    assert (box.access, box.classes, box.batch_size) == ("labels", NAMES, 4)
    scores = load_oracle(f"{user_file}:shares", access="scores", classes=NAMES)
    torch.testing.assert_close(scores.query(x), (5 * x.mean((2, 3))).softmax(1))
    assert str(user_file.parent) not in sys.path
    wrong = load_oracle(f"{user_file}:brightest", access="scores", classes=NAMES)
    with pytest.raises(AssayError, match=r"nets.py:brightest returned shape \(6,\) for 6 images"):
        wrong.query(x)


def test_without_access_a_network_is_loaded_as_ever(user_file: Path, tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors")
    for spec in (f"{user_file}:make_net", tmp_path / "model.safetensors"):
        oracle = load_oracle(spec, mean=(0.5,) * 3, std=(0.2,) * 3, batch_size=5)
        assert isinstance(oracle, Classifier)
        assert oracle.batch_size == 5
        assert oracle.mean is not None
        assert oracle.access == "gradient"


def test_a_url_is_a_service() -> None:
    url = "http://127.0.0.1:9/classify"
    model = load_oracle(
        url, access="scores", classes=NAMES, timeout=2, batch_size=7, headers={"A": "b"}
    )
    assert isinstance(model, HttpModel)
    assert (model.access, model.classes, model.timeout) == ("scores", NAMES, 2)
    assert model.headers["A"] == "b"
    assert isinstance(load_oracle(url, access="labels", classes=NAMES), HttpModel)
    assert fingerprint(url) == fingerprint(url)
    assert fingerprint(url) != fingerprint(f"{url}2")


@pytest.mark.parametrize(
    ("spec", "settings", "line"),
    [
        ("http://h/", {"classes": NAMES}, "say what http://h/ answers: --access labels, scores"),
        (
            "http://h/",
            {"access": "labels"},
            "the classes of http://h/: it can only be queried",
        ),
        (
            "http://h/",
            {"access": "labels", "classes": NAMES, "std": (1,), "outputs": "probabilities"},
            "std, outputs cannot be set from outside for http://h/",
        ),
        (
            "nets.py:make_net",
            {"timeout": 3},
            "is no URL: time-out, headers, wire, concurrency and rate go with http://",
        ),
        (
            "nets.py:make_net",
            {"access": "labels", "classes": NAMES},
            "nets.py:make_net cannot be called with one array of images (too many positional "
            "arguments): drop --access if it makes a network",
        ),
        ("nets.py:Net", {"access": "labels", "classes": NAMES}, "nets.py:Net is a network: drop"),
        ("nets.py:READY", {"access": "labels", "classes": NAMES}, "nets.py:READY is a network"),
        ("nets.py:reddy", {"access": "labels", "classes": NAMES}, "unknown function in "),
        ("none.py:f", {"access": "labels", "classes": NAMES}, "there is no file none.py"),
        ("m.safetensors", {"access": "labels", "classes": NAMES}, "--access goes with file.py:f"),
    ],
)
def test_what_does_not_go_together_is_said(
    spec: str,
    settings: dict[str, object],
    line: str,
    user_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(user_file.parent)
    with pytest.raises(AssayError) as caught:
        load_oracle(spec, **settings)  # type: ignore[arg-type]
    assert line in str(caught.value)


def test_a_service_is_no_network() -> None:
    assert "can only be queried; this needs a network" in refused("http://127.0.0.1:9/")


# -- checkpoints of training scripts ---------------------------------------------------------------


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda s: prefixed(s, "model."), ("the prefix 'model.' was taken off",)),
        (lambda s: prefixed(s, "net."), ("the prefix 'net.' was taken off",)),
        (lambda s: prefixed(s, "module._orig_mod."), ("the prefix 'module._orig_mod.'",)),
        (lambda s: {"ema": s, "epoch": 3}, ("weights are ema of w.pt",)),
        (lambda s: {"state_dict_ema": s}, ("weights are state_dict_ema of w.pt",)),
        (
            lambda s: {"state_dict_ema": {}, "state_dict": prefixed(s, "model.")},
            ("weights are state_dict of w.pt (left: state_dict_ema)", "the prefix 'model.'"),
        ),
        (lambda s: {"model": {"state_dict": s}}, ("weights are model.state_dict of w.pt",)),
        (lambda s: s, ()),
    ],
)
def test_wrapped_checkpoints_are_unwrapped_and_it_is_said(
    wrap: Any, said: tuple[str, ...], user_file: Path, tmp_path: Path
) -> None:
    torch.save(wrap(state_of(user_file)), tmp_path / "w.pt")
    clf = load_model(f"{user_file}:make_net", weights=tmp_path / "w.pt")
    assert all((value == 0.125).all() for value in clf.model.state_dict().values())
    assert len(clf.notes) == len(said)
    assert all(note.startswith(start) for note, start in zip(clf.notes, said, strict=True))


def test_a_network_whose_own_names_have_the_prefix_keeps_it() -> None:
    own = {"model.weight": torch.ones(2), "model.bias": torch.ones(2)}
    assert unwrapped(own, own.keys()) == (own, "")
    assert unwrapped(prefixed(own, "module."), own.keys()) == (own, "module.")


@pytest.mark.parametrize("beside", [np.float64(0.9), np.arange(3), np.float32(1)])
def test_numpy_values_beside_the_weights_are_refused_with_the_line_that_converts(
    beside: Any, user_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": state_of(user_file), "best": beside}, tmp_path / "w.pt")
    line = refused(f"{user_file}:make_net", weights=tmp_path / "w.pt")
    assert "holds numpy values beside its weights (numpy." in line
    program = shlex.split(line[line.index("python -c") :])
    subprocess.run([sys.executable, *program[1:]], check=True)
    assert load_model(f"{user_file}:make_net", weights=tmp_path / "w-weights.pt")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("wrap", [lambda s: {"state_dict": s}, lambda s: s])
def test_checkpoints_with_settings_beside_the_weights_say_how_to_convert(
    new: bool, wrap: Any, user_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    held = {**wrap(state_of(user_file)), "args": argparse.Namespace(lr=0.1)}
    torch.save(held, "w.pt", _use_new_zipfile_serialization=new)
    line = refused(f"{user_file}:make_net", weights="w.pt")
    assert line.startswith("refused: w.pt is a pickle that would execute code (argparse.Namespace)")
    program = shlex.split(line[line.index("python -c") :])
    subprocess.run([sys.executable, *program[1:]], check=True)
    assert load_model(f"{user_file}:make_net", weights="w-weights.pt")


def test_an_old_pickle_of_a_whole_model_says_how_to_convert(
    user_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Linear(2, 2), "w.pt", _use_new_zipfile_serialization=False)
    line = refused(f"{user_file}:make_net", weights="w.pt")
    program = shlex.split(line[line.index("python -c") :])
    subprocess.run([sys.executable, *program[1:]], check=True)
    assert torch.load("w-weights.pt", weights_only=True).keys() == {"weight", "bias"}


@pytest.mark.parametrize("kind", [torch.complex64, torch.int8])
def test_weights_that_are_no_real_numbers_are_refused(
    kind: torch.dtype, user_file: Path, tmp_path: Path
) -> None:
    state = {name: value.to(kind) for name, value in state_of(user_file).items()}
    torch.save(state, tmp_path / "w.pt")
    line = refused(f"{user_file}:make_net", weights=tmp_path / "w.pt")
    assert f"first.weight holds {kind}, and the network computes in torch.float32" in line


def test_a_lazy_network_takes_its_shapes_from_the_weights(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "from torch import nn\ndef lazy(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))\n"
    )
    plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    torch.save(plain.state_dict(), tmp_path / "w.pt")
    x = torch.rand(2, 3, 2, 2)
    clf = load_model(f"{file}:lazy", weights=tmp_path / "w.pt")
    torch.testing.assert_close(clf.query(x), plain(x).detach())
    assert "1.weight is not made yet" in refused(f"{file}:lazy")


# -- other formats ------------------------------------------------------------------------------


def as_script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(12, 3))).save(str(path))


@pytest.mark.parametrize(
    ("name", "write", "what", "do"),
    [
        ("m.pt", as_script, "is TorchScript, code that runs", "--trust-program"),
        (
            "m.pth",
            lambda path: torch.save(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), path),
            "is a whole pickled model (torch.nn.modules.container.Sequential)",
            "weights_only=False)",
        ),
        (
            "m.h5",
            lambda path: path.write_bytes(b"\x89HDF"),
            "is a Keras model",
            "runs it with Keras",
        ),
    ],
)
def test_other_formats_are_called_what_they_are(
    name: str, write: Any, what: str, do: str, user_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path)
    line = refused(path)
    assert what in line
    assert do in line
    named = what.split(",")[0].removeprefix("is ")
    assert named in refused(f"{user_file}:make_net", weights=path)


# -- files that ask for more than there is ------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "in_shape"),
    [
        (MLP(widths=(10**7,)), (3, 8, 8)),
        (MLP(widths=(4,)), (1, 10**6, 10**6)),
        (CNN(depths=(10**7, 1), widths=(4, 8)), (3, 8, 8)),
        (CNN(depths=(1, 1), widths=(3, 10**6)), (3, 8, 8)),
    ],
)
def test_settings_that_ask_for_more_than_the_file_holds(
    config: Config, in_shape: tuple[int, int, int], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    small = CONFIG.build((3, 8, 8), 3, Stream(5))
    save_model(path, small, config, in_shape=in_shape, classes=NAMES)
    tracemalloc.start()
    line = refused(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert "does not fit its own settings: they make a network of" in line


def test_a_file_that_unpacks_to_far_more_than_it_is(user_file: Path, tmp_path: Path) -> None:
    whole, path = io.BytesIO(), tmp_path / "w.pt"
    torch.save({"w": torch.zeros(5_000_000)}, whole)
    with zipfile.ZipFile(whole) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name in plain.namelist():
            made.writestr(name, plain.read(name))
    line = refused(f"{user_file}:make_net", weights=path)
    assert line.startswith(f"refused: {path} has ")
    assert "and unpacks to 20,0" in line


def test_a_bomb_is_not_unpacked_to_see_what_it_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(40_000_000))
    tracemalloc.start()
    with pytest.raises(AssayError, match=r"and unpacks to 40,000,000"):
        read_weights(tmp_path / "w.pt")
    assert not not_yet(tmp_path / "w.pt")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_a_flipped_byte_of_a_checkpoint_is_one_line_or_is_read(tmp_path: Path) -> None:
    torch.save({"l.weight": torch.ones(2, 4)}, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    corrupt = 0
    for place in range(0, len(whole), 3):
        changed = bytes((whole[place] ^ 1,))
        (tmp_path / "w.pt").write_bytes(whole[:place] + changed + whole[place + 1 :])
        try:
            read_weights(tmp_path / "w.pt")
        except AssayError as error:
            corrupt += " is corrupt" in str(error)
    assert corrupt
