"""Configs: what is printed is read back equal, and a mistake is one line that helps."""

from __future__ import annotations

import inspect
import json
import math
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from assay.auditing.policy import Policy
from assay.config import Config, Number, canonical_json, digest, parse_number
from assay.described import described
from assay.errors import AssayError, nearest, unknown
from assay.inputs import Inputs


class Ball(Config):
    norm: Literal["linf", "l2"] = "linf"
    eps: Number = 8 / 255


class Plain(Config):
    name: Literal["plain"] = "plain"
    depths: tuple[int, ...] = (2, 2)


class Skip(Config):
    name: Literal["skip"] = "skip"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ball: Ball = Ball()


Model = Annotated[Plain | Skip, Field(discriminator="name")]


class Study(Config):
    model: Model = Plain()
    attacks: tuple[Model, ...] = ()
    named: dict[str, Ball] = Field(default_factory=dict)
    maybe: Ball | None = None
    lr: Number = 1e-3
    label: str = ""
    seeds: int = 3


class Strict(Config):
    needed: int
    ball: Ball = Ball()


numbers = st.floats(1e-12, 1, allow_nan=False)
balls = st.builds(Ball, norm=st.sampled_from(["linf", "l2"]), eps=numbers)
models = st.builds(Plain, depths=st.lists(st.integers(1, 99)).map(tuple)) | st.builds(
    Skip, dropout=st.floats(0, 0.99), ball=balls
)
studies = st.builds(
    Study,
    model=models,
    attacks=st.lists(models, max_size=3).map(tuple),
    named=st.dictionaries(st.text(max_size=5), balls, max_size=2),
    maybe=st.none() | balls,
    lr=numbers,
    label=st.text(max_size=20) | st.sampled_from(["no", "null", "1e-3", "8/255", "~", "on", ": "]),
    seeds=st.integers(-(10**12), 10**12),
)


@given(studies)
def test_printed_and_parsed_is_equal(study: Study) -> None:
    assert Study.from_yaml(study.to_yaml()) == study
    assert Study.parse(json.loads(study.canonical())) == study
    assert Study.parse(study.model_dump()) == study


@pytest.mark.parametrize(
    ("data", "same"),
    [
        ({"model": "skip"}, {"model": {"name": "skip"}}),
        ({"attacks": ["plain"]}, {"attacks": [{"name": "plain"}]}),
        ({"attacks": "plain"}, {"attacks": [{"name": "plain"}]}),
        (
            {"attacks": ["plain", {"name": "skip", "dropout": 0.5}, "skip"]},
            {"attacks": [{"name": "plain"}, {"name": "skip", "dropout": 0.5}, {"name": "skip"}]},
        ),
    ],
)
def test_a_name_stands_for_a_choice_without_settings(data: Any, same: Any) -> None:
    assert Study.parse(data) == Study.parse(same) == Study(**data)
    assert Study.from_yaml(yaml.safe_dump(data)) == Study.parse(same)


@given(studies, studies)
def test_equal_configs_and_only_those_have_one_text(one: Study, other: Study) -> None:
    assert (one == other) == (one.canonical() == other.canonical())


def test_the_canonical_text_holds_every_default_and_sorts_its_keys() -> None:
    assert Ball().canonical() == '{"eps":0.03137254901960784,"norm":"linf"}'
    assert digest({"b": 1, "a": [1.5, None]}) == digest({"a": [1.5, None], "b": 1})
    assert len(digest({})) == 64
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": math.nan})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        (" 8 / 255 ", 8 / 255),
        ("1e-3", 1e-3),
        ("0.5", 0.5),
        ("-1/4", -0.25),
        ("1/3", 1 / 3),
        (2, 2.0),
    ],
)
def test_numbers_are_read_as_papers_write_them(text: Any, value: float) -> None:
    assert Ball.parse({"eps": text}).eps == value
    assert Ball.from_yaml(yaml.safe_dump({"eps": text})).eps == value
    assert Ball(eps=text).eps == value


@pytest.mark.parametrize("text", ["8/0", "a/b", "1/2/3", "/", "8/", "nan", "inf", "1e999", ""])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(AssayError, match="eps"):
        Ball.parse({"eps": text})


def test_other_values_pass_through_unread() -> None:
    assert parse_number([1]) == [1]
    assert parse_number("path") == "path"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"modle": {}}, "here: unknown key 'modle'; did you mean 'model'?"),
        (
            {"zzz": 1},
            "here: unknown key 'zzz'; known: attacks, label, lr, maybe, model, named, seeds",
        ),
        (
            {"model": {"name": "skip", "dropuot": 1}},
            "here: unknown key 'model.dropuot'; did you mean 'dropout'?",
        ),
        (
            {"model": {"name": "plain", "dropout": 1}},
            "here: unknown key 'model.dropout'; known: depths, name",
        ),
        (
            {"model": {"name": "skip", "ball": {"esp": 1}}},
            "here: unknown key 'model.ball.esp'; did you mean 'eps'?",
        ),
        (
            {"attacks": [{"name": "plain"}, {"name": "skip", "bal": {}}]},
            "here: unknown key 'attacks.1.bal'; did you mean 'ball'?",
        ),
        ({"named": {"a": {"nrom": 1}}}, "here: unknown key 'named.a.nrom'; did you mean 'norm'?"),
        ({"maybe": {"nrom": 1}}, "here: unknown key 'maybe.nrom'; did you mean 'norm'?"),
        ({"model": {"name": "skpi"}}, "here: unknown model.name 'skpi'; did you mean 'skip'?"),
        ({"model": {"name": "zzz"}}, "here: unknown model.name 'zzz'; known: plain, skip"),
        ({"model": "skpi"}, "here: unknown model.name 'skpi'; did you mean 'skip'?"),
        (
            {"attacks": ["plain", "skpi"]},
            "here: attacks: unknown name 'skpi'; did you mean 'skip'?",
        ),
        ({"model": {"depths": [1]}}, "here: model needs a name, one of: plain, skip"),
        (
            {"maybe": {"norm": "l3"}},
            "here: maybe.norm: Input should be 'linf' or 'l2'; seen 'l3'",
        ),
        (
            {"lr": "8/0"},
            "here: lr: '8/0' is not a number or a fraction such as 8/255; seen '8/0'",
        ),
        (
            {"seeds": "many", "lr": "x"},
            "here: lr: Input should be a valid number, unable to parse string as a number; "
            "seen 'x' (and 1 more)",
        ),
        (
            {"model": {"name": "skip", "dropout": 1.5}},
            "here: model.dropout: Input should be less than 1; seen 1.5",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(data: Any, message: str) -> None:
    with pytest.raises(AssayError) as raised:
        Study.parse(data, where="here")
    assert str(raised.value) == message


def test_a_missing_key_is_named() -> None:
    with pytest.raises(AssayError, match=r"^here: needed is required$"):
        Strict.parse({}, where="here")


def test_what_is_no_mapping_is_refused() -> None:
    for text in ("[1, 2]", "word", "3"):
        with pytest.raises(
            AssayError, match=r"should be settings with their names \(name: value\)"
        ):
            Study.from_yaml(text)
    assert Study.from_yaml("") == Study()


def test_what_stands_in_the_wrong_form_is_said_without_pydantic() -> None:
    """A policy is a file that people write by hand."""
    waiver = {"code": "A", "reason": "known", "until": "30.6.2027"}
    for wrong, said in (
        ({"checks": {"A": None}}, r"^p.yaml: checks.A: should be settings with their names"),
        ({"checks": ["A"]}, r"^p.yaml: checks: should be settings with their names"),
        ({"checks": {"A": {}}, "waivers": [waiver]}, r"until: should be a day, such as 2027-06-30"),
    ):
        with pytest.raises(AssayError, match=said):
            Policy.parse(wrong, where="p.yaml")
    with pytest.raises(AssayError, match=r"mean.0: should be one number; between several are spa"):
        Inputs.parse({"model": "m", "data": "d", "mean": ["0.5,0.5,0.5"]}, where="command line")


def test_text_that_is_no_yaml_is_one_line() -> None:
    with pytest.raises(AssayError, match=r"^skip.yaml is not valid YAML: ") as raised:
        Study.from_yaml("a: [1,\nb: }", where="skip.yaml")
    assert "\n" not in str(raised.value)


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join(10 * [f'*{before}'])}]\n"
    for before, name in zip("abcde", "bcdef", strict=True)
)


class Measures(Config):
    """Some numbers."""

    epochs: int = 1
    rate: float | None = None
    budgets: tuple[Number, ...] = ()
    nesterov: bool = False


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("epochs: " + "[" * 5000, "nested too deep"),
        ("epochs: " + "9" * 5000, "limit"),
        ("rate: " + "9" * 4000, "rate"),
        ("epochs: 1\nepochs: 2", "'epochs' stands there twice"),
        ("epochs: yes", "epochs: a number is needed, not yes or no; seen True"),
        ("rate: no", "rate: a number is needed"),
        ("budgets: [0.1, on]", "budgets: a number is needed"),
        (BOMB, "more than 100,000 values"),
    ],
)
def test_yaml_is_bounded_and_says_what_it_means(text: str, why: str) -> None:
    with pytest.raises(AssayError, match=why) as caught:
        Measures.from_yaml(text)
    assert len(str(caught.value)) < 300
    assert Measures.from_yaml("nesterov: yes\nbudgets: [1, 8/255]").nesterov


def test_a_mistake_in_python_reads_like_one_in_yaml() -> None:
    with pytest.raises(AssayError, match=r"^Ball: unknown key 'esp'; did you mean 'eps'"):
        Ball(esp=1)  # type: ignore[call-arg]
    with pytest.raises(AssayError, match=r"^Skip: unknown key 'ball.esp'; did you mean 'eps'"):
        Skip(ball={"esp": 1})  # type: ignore[arg-type]


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Ball().eps = 1.0  # type: ignore[misc]


def test_fields_are_described_by_the_string_below_them() -> None:
    class Described(Config):
        steps: int = 3
        """How many:
            at most."""
        given: int = Field(default=1, description="As pydantic has it.")
        """Not this."""
        rest: int = 0

    class Child(Described):
        rest: int = 1
        """The child's."""
        steps: int = 4

    assert described(Described) == {
        "steps": "How many:\nat most.",
        "given": "As pydantic has it.",
        "rest": "",
    }
    assert described(Child) == {"steps": "", "given": "As pydantic has it.", "rest": "The child's."}
    typed: dict[str, Any] = {"Config": Config, "__name__": "nowhere"}
    exec("class Typed(Config):\n    steps: int = 3\n    'How many.'", typed)
    assert described(typed["Typed"]) == {"steps": ""}


def test_nearest_names() -> None:
    known = ["skip", "attacks", "attention", "ood"]
    assert nearest("skp", known) == "skip"
    assert nearest("ATTACK", known) == "attacks"
    assert nearest("zzzzz", known) is None
    assert str(unknown("study", "skp", known)) == (
        "unknown study 'skp': did you mean 'skip'? Known: attacks, attention, ood, skip"
    )
    assert str(unknown("study", "zzz", [])) == "unknown study 'zzz'. Known: none"


def test_signatures_are_those_one_would_write() -> None:
    class Inner(Config):
        steps: int = 3
        eps: Number = 8 / 255

    class Outer(Inner):
        path: str
        one: Inner = Inner(steps=4)
        many: tuple[Inner, ...] = Field(default_factory=lambda: (Inner(),), min_length=1)
        size: Annotated[int, Field(ge=1)] | None = None

    assert str(inspect.signature(Outer)) == (
        "(*, steps: int = 3, eps: Number = 8/255, path: str, one: Inner = Inner(steps=4), "
        "many: tuple[Inner, ...] = (Inner(),), size: Annotated[int, Field(ge=1)] | None = None)"
    )
    assert str(inspect.signature(Inner)) == "(*, steps: int = 3, eps: Number = 8/255)"
