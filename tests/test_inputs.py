"""The way in: one config of model, data and device, the same flags for every command."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from assay.attacks import FewPixel
from assay.cli import app, call
from assay.commands.flags import INPUT_GROUPS, input_flags
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.data.classes import in_order
from assay.data.dataset import in_memory
from assay.data.outputs import order_of
from assay.errors import AssayError
from assay.inputs import Inputs, called, described, load, load_network, load_part, mark
from assay.workflows.audit import command

Command = Callable[..., tuple[int, str, str]]

NETS = """
import numpy as np
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))

def labels(x):
    return (x.mean((1, 2, 3)) > 0.5).astype(int)

def scores(x):
    light = x.mean((1, 2, 3))
    return np.stack([1 - light, light], 1)
"""


OWN = """
from types import SimpleNamespace
import named_nets

def named(*names):
    net = named_nets.net()
    net.config = SimpleNamespace(id2label=dict(enumerate(names)))
    return net

def same():
    return named("Cat", "Dog")

def turned():
    return named("Dog", "Cat")

def others():
    return named("felis", "canis")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of networks and of images: dark ones are cats, light ones dogs, 16 × 10 pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    Path("nets.py").write_text(NETS)
    Path("named_nets.py").write_text(NETS)
    for split in ("train", "test"):
        for name, light in (("cat", 40), ("dog", 210)):
            folder = Path("pets", split, name)
            folder.mkdir(parents=True)
            for k in range(4):
                grey = np.full((16, 10, 3), light + k, dtype=np.uint8)
                Image.fromarray(grey).save(folder / f"{k}.png")


@pytest.fixture
def assay(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*tokens: str) -> tuple[int, str, str]:
        code = call(app, tokens)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


texts = st.text(min_size=1, max_size=9)
many = st.none() | st.lists(st.floats(0, 1), min_size=1, max_size=3).map(tuple)
every_input = st.builds(
    Inputs,
    model=texts,
    data=texts,
    split=texts,
    images=st.integers(1, 10**6),
    size=st.none() | st.integers(1, 999),
    weights=st.none() | st.just(Path("w.pt")),
    mean=many,
    std=many,
    outputs=st.sampled_from(["logits", "probabilities"]),
    classes=st.none() | st.lists(texts, max_size=3, unique=True).map(tuple),
    access=st.sampled_from([None, "labels", "scores", "logits"]),
    timeout=st.none() | st.floats(0.1, 99),
    header=st.lists(st.just("a: b"), max_size=2).map(tuple),
    device=st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    threads=st.none() | st.integers(1, 99),
    batch_size=st.none() | st.integers(1, 99),
)


@settings(deadline=None, max_examples=100)
@given(every_input)
def test_printed_and_parsed_is_equal(inputs: Inputs) -> None:
    assert Inputs.from_yaml(inputs.to_yaml()) == inputs


@pytest.mark.usefixtures("here")
class TestFlags:
    def test_every_input_has_a_flag_in_a_group_and_a_description(self) -> None:
        grouped = [key for keys in INPUT_GROUPS.values() for key in keys]
        assert sorted([*grouped, "model"]) == sorted(Inputs.model_fields)
        assert all(flag.help for flag in input_flags())

    @pytest.mark.parametrize("name", ["audit", "attack", "explain"])
    def test_they_are_the_same_everywhere(self, assay: Command, name: str) -> None:
        _, out, _ = assay(name, "--help-all")
        words = set(out.replace("│", " ").split())
        assert {flag.name for flag in input_flags()} <= words

    @pytest.mark.parametrize("name", ["audit", "attack", "explain"])
    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (("--images", "0"), ("--images must be at least 1, got 0",)),
            (("--images", "1.5"), ("images", "integer", "'1.5'")),
            (("--threads", "99999999"), ("--threads must be at most 1,024",)),
            (("--batch-size", "0"), ("--batch-size must be at least 1",)),
            (("--size", "0"), ("--size must be at least 1",)),
            (("--std", "inf"), ("std", "finite")),
            (("--timeout", "inf"), ("timeout", "finite")),
            (("--device", "gpu"), ("device", "'cuda'", "'gpu'")),
            (("--header", "token"), ('--header is "Name: value"',)),
        ],
    )
    def test_mistakes_are_the_same_everywhere(
        self, assay: Command, name: str, flags: tuple[str, ...], said: tuple[str, ...]
    ) -> None:
        extra = ("--attack", "pgd", "--out", "out") if name == "attack" else ()
        code, out, err = assay(name, "nets.py:net", "--data", "./pets", *extra, *flags)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert all(word in err for word in said), err

    def test_an_attack_with_a_size_of_its_own(self, assay: Command) -> None:
        few = ("attack", "m", "--data", "digits", "--attack", "few-pixel", "--print-config")
        code, out, err = assay(*few, "--attack.size", "0.25", "--size", "64")
        assert code == 0, err
        assert FewPixel.from_yaml(out).size == 0.25

    def test_unset_is_none(self, assay: Command) -> None:
        code, _, err = assay("audit", "m", "--data", "digits", "--size", "none", "--print-config")
        assert code == 0, err


@pytest.mark.usefixtures("here")
class TestData:
    def test_a_size_scales_and_crops(self) -> None:
        inputs = Inputs(model="m", data="./pets", size=8)
        data = load_part(inputs)
        assert data.shape == (3, 8, 8)
        assert described(inputs, data) == "pets (test, middle squares scaled to 8 × 8)"
        as_they_are = Inputs(model="m", data="./pets")
        assert described(as_they_are, load_part(as_they_are, "train")) == "pets (train)"

    def test_bundled_sets_are_not_scaled(self) -> None:
        with pytest.raises(AssayError, match=r"--size 32 .* digits stay as they are, 28 × 28"):
            load_part(Inputs(model="m", data="digits", size=32))
        assert len(load_part(Inputs(model="m", data="digits", size=28)))

    def test_labels_follow_the_classes_of_the_model(self) -> None:
        images = torch.zeros((4, 1, 2, 2), dtype=torch.uint8)
        data = in_memory("d", "test", "abc", images, torch.tensor([0, 1, 2, -1]))
        moved = in_order(data, ("c", "a", "b"))
        assert moved.classes == ("c", "a", "b")
        assert moved.labels.tolist() == [1, 2, 0, -1]
        assert moved.fingerprint != data.fingerprint
        assert moved.notes == (
            "labels of d are numbered in the order of the model's outputs: c, a, b",
        )
        spelled = in_order(data, ("C", "a, the first", "b_"))
        assert spelled.labels.tolist() == [1, 2, 0, -1]
        assert in_order(data, ("A", "b", "c")).notes == (), "no other order"
        assert in_order(data, ("x", "y", "z")) is data
        assert in_order(data, "abc") is data

    def test_the_order_of_classes_that_a_network_names_itself(self) -> None:
        inputs = Inputs(model="nets.py:net", data="./pets", size=8)
        data = load_part(inputs)
        Path("own.py").write_text(OWN)

        def notes(model: str) -> tuple[str, ...]:
            found = load_network(inputs.model_copy(update={"model": model}), data)
            return tuple(note for note in found.notes if "--weights" not in note)

        (said,) = notes("nets.py:net")
        assert "taken to be cat, dog (in alphabetical order); --classes" in said
        assert notes("own.py:same") == ()
        numbers = replace(data, classes=("0", "1"))
        assert order_of("a net", None, numbers) == ()
        (said,) = order_of("a net", None, replace(data, classes=("10", "2")))
        assert "taken to be 10, 2 (in alphabetical order); --classes" in said
        (said,) = order_of("a net", None, replace(data, classes=("1", "2")))
        assert "taken to be 1, 2 (in alphabetical order); --classes" in said
        with pytest.raises(AssayError, match=r"order \(id2label\) than pets: give --classes dog c"):
            notes("own.py:turned")
        (said,) = notes("own.py:others")
        assert "outputs felis, canis (id2label), and they are taken to be cat, dog" in said

    def test_classes_that_are_others_are_refused(self) -> None:
        inputs = Inputs(model="nets.py:net", data="./pets", size=8, classes=("a", "b", "c"))
        with pytest.raises(AssayError, match=r"3 classes \(a, b, c\), but pets has 2"):
            load(inputs, load_part(inputs))
        for one, why in (
            ("cat,dog", "is read as one name: put spaces between them, --classes cat dog$"),
            ("cat", r"has 1 class \(cat\), but pets has 2"),
        ):
            alone = Inputs(
                model="nets.py:scores", access="scores", data="./pets", size=8, classes=(one,)
            )
            with pytest.raises(AssayError, match=why):
                load(alone, load_part(alone))
        dogs_first = inputs.model_copy(update={"classes": ("dog", "cat")})
        data = load_part(dogs_first)
        assert load_network(dogs_first, data).classes == data.classes == ("dog", "cat")
        assert load_part(Inputs(model="m", data="./pets", size=8)).classes == ("cat", "dog")

    @pytest.mark.parametrize(
        ("classes", "why"),
        [
            (("a", "b", "c"), r"3 classes \(a, b, c\), but pets has 2"),
            (
                ("dog", "cats"),
                r"class 'cats' of nets.py:scores is none of pets \(did you mean cat\?",
            ),
        ],
    )
    def test_classes_of_what_can_only_be_queried_fit_the_labels_too(
        self, classes: tuple[str, ...], why: str
    ) -> None:
        model = {"model": "nets.py:scores", "access": "scores", "classes": classes}
        inputs = Inputs.parse({**model, "data": "./pets", "size": 8}, where="test")
        with pytest.raises(AssayError, match=why):
            load(inputs, load_part(inputs))
        assert load(inputs, load_part(inputs), labelled=False).classes == classes


@pytest.mark.usefixtures("here")
class TestModels:
    def test_a_network(self) -> None:
        inputs = Inputs(model="nets.py:net", data="./pets", size=8, batch_size=3, mean=(0.5,) * 3)
        threads = torch.get_num_threads()
        clf = load(inputs.model_copy(update={"threads": threads + 1}), load_part(inputs))
        assert torch.get_num_threads() == threads + 1
        torch.set_num_threads(threads)
        assert isinstance(clf, Classifier)
        assert (clf.classes, clf.batch_size, clf.device.type) == (("cat", "dog"), 3, "cpu")
        assert called(inputs, clf) == "nets.py:net"
        assert mark(inputs, clf) != mark(inputs, load(inputs, load_part(inputs)))  # random weights

    def test_what_can_only_be_queried(self) -> None:
        inputs = Inputs(model="nets.py:scores", data="./pets", size=8, access="scores")
        box = load(inputs, load_part(inputs))
        assert isinstance(box, BlackBox)
        assert (box.classes, box.access) == (("cat", "dog"), "scores")
        assert mark(inputs, box) == mark(inputs, load(inputs, load_part(inputs)))
        with pytest.raises(AssayError, match=r"can only be queried: it has no layers"):
            load_network(inputs, load_part(inputs))
        with pytest.raises(AssayError, match="--device cannot be set"):
            load(inputs.model_copy(update={"device": "cpu"}), load_part(inputs))

    def test_headers(self) -> None:
        inputs = Inputs(model="http://x", data="d", header=("A: b:c ", "D:e"))
        assert inputs.headers == {"A": "b:c", "D": "e"}
        assert "b:c" not in repr(inputs)


@pytest.mark.usefixtures("here")
def test_what_was_done_to_the_images_is_said(assay: Command) -> None:
    flags = ("--access", "scores", "--data", "./pets", "--size", "8", "--attack", "noise")
    for quiet in ((), ("--quiet",)):
        code, out, err = assay(
            "attack", "nets.py:scores", *flags, "--no-progress", *quiet, "--out", "o"
        )
        assert code == 0, err
        assert ("scaled" in err) is not bool(quiet)
    assert out == "o\n"


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        ("audit m --data 'my set'", "assay audit m --data 'my set'"),
        ("audit http://h/x?key=1 --data d", "assay audit http://h/x --data d"),
        (
            "audit http://h --header 'A: secret' 'B: secret' --data d",
            "assay audit http://h --header 'A: …' 'B: …' --data d",
        ),
        ("audit http://h '--header=A: secret' x", "assay audit http://h '--header=A: …' 'x: …'"),
    ],
)
def test_secrets_are_not_in_the_command_of_a_report(tokens: str, shown: str) -> None:
    assert command(shlex.split(tokens)) == shown
