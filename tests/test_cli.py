"""The command as a user meets it: help, flags over YAML over presets, and mistakes in one line."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cyclopts import App
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel
from rich.markdown import Markdown

from assay.attacks import PGD, Square
from assay.auditing.config import AuditConfig
from assay.cli import app, call
from assay.commands.flags import merge
from assay.commands.settings import flags_of
from assay.config import as_written
from assay.core.random import Stream
from assay.data.augment import CropFlip
from assay.explain import GradCAM, Occlusion
from assay.explain.faithful import FaithfulnessConfig
from assay.models import MLP
from assay.models.saved import save_model
from assay.ood import MaxLogit
from assay.studies import names
from assay.studies.skip import Skip
from assay.tasks.train import TrainNetwork
from assay.train import AdamW

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def assay(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run the command in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSAY_DATA", raising=False)

    def run(*tokens: str) -> tuple[int, str, str]:
        code = call(app, tokens)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(answer: tuple[int, str, str], *words: str) -> None:
    """A mistake is one line on stderr that says the words, exit code 2, and nothing left behind."""
    code, out, err = answer
    assert code == 2
    assert out == ""
    assert err.startswith("assay: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert not Path("runs").exists(), "a refused command left a store behind"


def test_help_is_quick_and_loads_no_torch() -> None:
    heavy = ("torch", "numpy", "pydantic", "yaml")
    code = "import sys; sys.argv = ['assay', '--help']\nfrom assay.cli import app\n"
    code += f"app(['--help'])\nassert not {{*{heavy}}} & {{*sys.modules}}"

    def seconds(code: str) -> float:
        """Of processor time, which a busy machine does not lengthen; the least of three."""
        taken = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert b"audit" in done.stdout
        return min(taken)

    assert seconds(code) < 3 * seconds("import cyclopts, rich.console; print('audit')")


@pytest.mark.parametrize(
    "command",
    ["audit", "attack", "explain", "run", "train", "list", "show", "compare", "why", "demo"],
)
def test_every_command_has_help(assay: Command, command: str) -> None:
    code, out, err = assay(command, "--help")
    assert code == 0, err
    assert "Usage" in out


SETTLED = [["audit"], ["attack"], ["attack", "--attack", "pgd"], ["explain"], ["train"]]


@pytest.mark.parametrize("command", [*SETTLED, ["run", "skip"]], ids=" ".join)
def test_help_shows_ten_flags_and_says_how_to_see_all(
    assay: Command, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def flags(out: str) -> set[str]:
        return set(re.findall(r"^│ (?:\*  |   )?(--[\w.-]+)", out, re.MULTILINE)) - {"--help"}

    few, every = assay(*command, "--help")[1], assay(*command, "--help-all")[1]
    own = {flag.name for flag in flags_of(PGD)} if "pgd" in command else set()
    assert len(flags(few) - own) == 10, flags(few)
    assert own - {"--name"} <= flags(few) < flags(every)
    assert f"assay {' '.join(command[:2] if 'run' in command else command[:1])} --help-all" in few
    assert "--help-all shows" not in every
    assert few.startswith("Usage"), "usage stands before all else"


BARE = ["demo", "list", "show", "compare", "track", "why", "sync", "gc", "export", "import"]
WHOLE = ["audit", "audit said.csv", "attack", "attack --attack pgd", "explain", "detect", "train"]
WHOLE += [
    "train rotten_tomatoes --model minilm",
    "sweep skip",
    *(f"run {name}" for name in names()),
]


@pytest.mark.parametrize("command", [*BARE, *(f"{one} --help-all" for one in WHOLE)])
def test_what_help_says_begins_with_a_capital_or_with_the_names_of_choices(
    assay: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    said: list[tuple[HelpEntry, Any]] = []

    def note(*shown: Any) -> None:
        panel: HelpPanel = shown[-1]
        said.extend((one, one.description.primary_renderable) for one in panel.entries)

    monkeypatch.setattr(DefaultFormatter, "__call__", note)
    assert assay(*command.split(), *(["--help"] if command in BARE else []))[0] == 0
    assert len(said) > 1
    for entry, shown in said:
        text = shown.markup if isinstance(shown, Markdown) else shown.plain
        named = re.match(r"[\w.+-]+(, [\w.+-]+)*: ", text)
        assert named or not re.match("[a-z]", text), text
        first = re.split(r"[\s,:]", text)[0].lower()
        assert named or first not in (entry.choices or ()), f"a choice is no word: {text}"
        assert not re.match(r"[A-Z]\w+[._/]", text), f"a file is no word: {text}"


def test_help_names_types_and_writes_budgets_as_papers_do(
    assay: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = assay("audit", "--help-all")
    for flag in ("--eps FLOAT", "--attacked INT", "--weights PATH", "--attacks CHOICE..."):
        assert flag in out
    assert "[default: 8/255]" in out
    assert "[default: fgsm pgd]" in out


class TestMistakes:
    def test_unknown_command(self, assay: Command) -> None:
        refused(assay("lst"), "lst", "list")

    def test_unknown_study(self, assay: Command) -> None:
        refused(assay("run", "skp"), "skp", "'skip'")

    def test_unknown_preset(self, assay: Command) -> None:
        refused(assay("run", "skip", "--preset", "quik"), "quik", "'quick'")

    def test_unknown_flag(self, assay: Command) -> None:
        refused(assay("run", "skip", "--sedes", "3"), "--sedes", "--seeds")

    def test_unknown_data(self, assay: Command) -> None:
        refused(assay("run", "skip", "--data", "shaps"), "shaps", "did you mean 'shapes'?")

    def test_value_of_the_wrong_kind(self, assay: Command) -> None:
        refused(assay("run", "skip", "--seeds", "many"), "seeds", "many", "integer")

    @pytest.mark.parametrize(
        ("command", "flag", "value"),
        [
            ("audit m --data digits", "images", "1.5"),
            ("audit m --data digits", "std", "inf"),
            ("audit m --data digits", "threads", "99999999"),
            ("audit http://localhost/x --data digits", "timeout", "inf"),
            ("attack m --data digits --attack pgd", "restarts", "999999999999"),
            ("run skip", "seeds", "99999999999"),
            ("run skip", "threads", "99999999"),
            ("run skip --until-decided", "max-seeds", "99999999999"),
            ("train --data digits", "threads", "99999999"),
        ],
    )
    def test_numbers_that_nothing_has(
        self, assay: Command, command: str, flag: str, value: str
    ) -> None:
        refused(assay(*command.split(), f"--{flag}", value), flag, value)

    def test_a_cluster_without_its_engine(self, assay: Command) -> None:
        answer = assay("run", "skip", "--ray-address", "127.0.0.1:1")
        refused(answer, "--ray-address was given without --engine ray")

    def test_value_out_of_range(self, assay: Command) -> None:
        refused(assay("run", "skip", "--seeds", "0"), "seeds", "greater than or equal to 1")

    def test_unknown_key_in_yaml(self, assay: Command) -> None:
        Path("mine.yaml").write_text("recipe:\n  epohcs: 3\n")
        refused(assay("run", "skip", "--config", "mine.yaml"), "mine.yaml", "epohcs", "'epochs'")

    def test_yaml_that_is_none(self, assay: Command) -> None:
        Path("mine.yaml").write_text("a: [1\n")
        refused(assay("run", "skip", "--config", "mine.yaml"), "mine.yaml", "YAML")

    def test_yaml_that_never_ends(self, assay: Command, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "long").write_text("#" * 300_000)
        for file, why in (("/dev/zero", "no file"), ("pipe", "no file"), ("long", "longer than")):
            refused(assay("run", "skip", "--config", file), file, why)

    def test_missing_yaml(self, assay: Command) -> None:
        refused(assay("run", "skip", "--config", "mine.yaml"), "mine.yaml", "No such file")

    def test_unknown_choice(self, assay: Command) -> None:
        answer = assay("run", "skip", "--recipe.optimizer.name", "adm")
        refused(answer, "optimizer", "adm", "adam")

    def test_missing_model(self, assay: Command) -> None:
        refused(assay("audit", "no.safetensors", "--data", "digits"), "no.safetensors")

    def test_report_below_a_file_is_refused_before_the_audit(self, assay: Command) -> None:
        Path("file").touch()
        answer = assay("audit", "no.safetensors", "--data", "digits", "--out", "file/report")
        refused(answer, "file/report", "below a file")

    @pytest.mark.parametrize("flag", [("--out", ""), ("--out=",), ("--store", " ")])
    @pytest.mark.parametrize(
        "command", [("demo",), ("run", "skip"), ("audit", "m.safetensors", "--data", "digits")]
    )
    def test_paths_that_are_empty(
        self, assay: Command, command: tuple[str, ...], flag: tuple[str, ...]
    ) -> None:
        refused(assay(*command, *flag), flag[0].removesuffix("=") + " is empty")
        assert not list(Path.cwd().iterdir())

    @pytest.mark.parametrize(
        "command",
        [("demo",), ("run", "skip"), ("audit", "m", "--data", "digits"), ("compare", "a", "b")],
    )
    def test_places_that_cannot_be_written_before_the_work(
        self, assay: Command, command: tuple[str, ...]
    ) -> None:
        for out in ("x" * 300, "/proc/x/y", "~nouser/x", "bad\udcff/x"):
            refused(assay(*command, "--out", out), out[:3])
            assert not list(Path.cwd().iterdir())

    @pytest.mark.parametrize(
        "command",
        [("demo",), ("run", "skip", "--preset", "smoke"), ("audit", "m", "--data", "digits")],
    )
    def test_stores_that_cannot_be_written_before_the_work(
        self, assay: Command, command: tuple[str, ...]
    ) -> None:
        for store in ("x" * 300, "/proc/x/y", "~nouser/x", "bad\udcff/x"):
            refused(assay(*command, "--store", store), store[:3])
            assert not list(Path.cwd().iterdir())

    def test_audit_without_data(self, assay: Command) -> None:
        refused(assay("audit", "no.safetensors"), "--data")

    def test_preset_in_yaml_that_is_not_there(self, assay: Command) -> None:
        Path("mine.yaml").write_text("preset: smke\n")
        refused(assay("run", "skip", "--config", "mine.yaml", "--data", "digits"), "'smoke'")

    def test_device_that_is_not_here(self, assay: Command) -> None:
        absent = "cuda" if not torch.cuda.is_available() else "mps"
        answer = assay("run", "skip", "--preset", "smoke", "--device", absent)
        refused(answer, absent, "--device", "cpu")

    def test_depth_that_stands_twice(self, assay: Command) -> None:
        answer = assay("run", "skip", "--preset", "smoke", "--depths", "2", "2", "--dry-run")
        refused(answer, "depths", "once")

    def test_difference_that_everything_exceeds(self, assay: Command) -> None:
        answer = assay("run", "skip", "--preset", "smoke", "--delta", "-1", "--dry-run")
        refused(answer, "delta")

    @pytest.mark.parametrize(
        ("factory", "words"),
        [
            ("colour", ("(1, 28, 28)", "RuntimeError", "3 channels")),
            ("leaves", ("SystemExit",)),
            ("detached", ("no gradient",)),
        ],
    )
    def test_model_that_cannot_be_audited(
        self, assay: Command, factory: str, words: tuple[str, ...]
    ) -> None:
        Path("mine.py").write_text(HOSTILE)
        refused(
            assay("audit", f"mine.py:{factory}", "--data", "digits", "--images", "20", "--quiet"),
            *words,
        )

    def test_reference_that_is_scored(self, assay: Command) -> None:
        answer = assay("audit", "m.safetensors", "--data", "digits", "--reference-split", "test")
        refused(answer, "--reference-split")

    def test_weights_beside_weights(self, assay: Command) -> None:
        save(Path("m.safetensors"), [str(k) for k in range(10)])
        flags = ["--data", "digits", "--weights", "other.pt"]
        refused(assay("audit", "m.safetensors", *flags), "--weights", "factory")

    def test_classes_in_another_order(self, assay: Command) -> None:
        save(Path("m.safetensors"), [str(9 - k) for k in range(10)])
        refused(assay("audit", "m.safetensors", "--data", "digits"), "'9'", "place", "9, 8, 7")

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            ("38", ("2 classes (3, 8)", "digits has 10")),
            ("012345678x", ()),
            ("0123456798", ("class '9' has another place in digits",)),
        ],
    )
    def test_classes_that_the_labels_do_not_fit(
        self, assay: Command, names: str, words: tuple[str, ...]
    ) -> None:
        save(Path("m.safetensors"), list(names))
        command = ("attack", "m.safetensors", "--data", "digits", "--attack", "fgsm")
        answer = assay(*command, "--images", "20", "--out", "out")
        if words:
            refused(answer, *words)
        else:
            assert answer[0] == 0, "a class may be called otherwise"

    def test_images_of_other_channels(self, assay: Command) -> None:
        save(Path("m.safetensors"), [str(k) for k in range(10)])
        for command in (("audit",), ("explain",)):
            answer = assay(*command, "m.safetensors", "--data", "shapes")
            refused(answer, "takes images of 1 channel, but those of shapes have 3")

    def test_a_budget_that_is_none(self, assay: Command) -> None:
        for wrong in (("--eps", "8"), ("--budgets", "0.1", "9")):
            answer = assay("audit", "m.safetensors", "--data", "digits", *wrong)
            refused(answer, "is outside [0, 1]", "/255 if you meant grey levels")

    def test_a_function_of_images_without_access(self, assay: Command) -> None:
        Path("box.py").write_text("def scores(x):\n    return x\n")
        answer = assay("audit", "box.py:scores", "--data", "digits")
        refused(answer, "called without arguments", "--access labels, scores or logits")

    def test_fewer_seeds_at_most_than_at_first(self, assay: Command) -> None:
        answer = assay(
            *("run", "skip", "--preset", "smoke", "--dry-run"),
            *("--until-decided", "--max-seeds", "1"),
        )
        refused(answer, "--max-seeds 1 is less than the 2 seeds")

    def test_attack_that_stands_twice(self, assay: Command) -> None:
        twice = '[{"name": "fgsm"}, {"name": "fgsm", "eps": 0.5}]'
        for attacks, word in ((twice, "twice"), ("[]", "at least 1")):
            refused(assay("audit", "m", "--data", "digits", "--attacks", attacks), "attacks", word)

    def test_unknown_run(self, assay: Command) -> None:
        refused(assay("show", "skip-quick"), "skip-quick", "the store is empty")

    def test_folder_without_images(self, assay: Command) -> None:
        Path("empty").mkdir()
        refused(assay("run", "skip", "--data", "./empty"), "empty", "no image")

    def test_epsilon_in_grey_levels(self, assay: Command) -> None:
        answer = assay("audit", "m.safetensors", "--data", "digits", "--attacks", "[{")
        refused(answer, "--attacks", "not JSON")


@pytest.mark.parametrize("tokens", [("audit", "m", "--data", "digits"), ("list",)])
def test_an_interruption_is_one_line(
    assay: Command, monkeypatch: pytest.MonkeyPatch, tokens: tuple[str, ...]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("assay.workflows.audit.run", interrupted)
    monkeypatch.setattr("assay.runs.reading.list_runs", interrupted)
    code, out, err = assay(*tokens)
    assert (code, out) == (130, "")
    assert err == "assay: interrupted\n"


class TestSettings:
    def test_flags_over_yaml_over_preset(self, assay: Command) -> None:
        Path("mine.yaml").write_text("seeds: 7\nrecipe: {epochs: 9}\n")
        flags = ["--preset", "smoke", "--config", "mine.yaml", "--recipe.epochs", "11"]
        code, out, err = assay("run", "skip", *flags, "--print-config")
        assert code == 0, err
        made = Skip.from_yaml(out)
        assert made.recipe.epochs == 11, "a flag is stronger than YAML"
        assert made.seeds == 7, "YAML is stronger than the preset"
        assert made.data == "digits", "the preset is stronger than the defaults"
        assert made.recipe.batch_size == 50, "what is not named stays"

    def test_another_choice_drops_the_settings_of_the_last(self, assay: Command) -> None:
        flags = ["--recipe.optimizer.name", "adamw", "--recipe.optimizer.lr", "1/100"]
        code, out, _ = assay("run", "skip", *flags, "--print-config")
        assert code == 0
        assert Skip.from_yaml(out).recipe.optimizer == AdamW(lr=0.01)

    def test_lists_switches_and_none(self, assay: Command) -> None:
        flags = ["--depths", "1", "4", "--no-recipe.optimizer.nesterov", "--train-images", "100"]
        flags += ["--augmentation.name", "crop-flip", "--augmentation.flip", "0.25"]
        _, out, err = assay("run", "skip", *flags, "--test-images", "none", "--print-config")
        made = Skip.from_yaml(out)
        assert not err
        assert made.depths == (1, 4)
        assert made.recipe.optimizer.model_dump()["nesterov"] is False
        assert (made.train_images, made.test_images) == (100, None)
        assert made.augmentation == CropFlip(flip=0.25)

    @pytest.mark.parametrize("preset", sorted(Skip.PRESETS))
    def test_what_is_printed_is_what_runs(self, assay: Command, preset: str) -> None:
        _, printed, _ = assay("run", "skip", "--preset", preset, "--print-config")
        Path("again.yaml").write_text(printed)
        _, again, _ = assay("run", "skip", "--config", "again.yaml", "--print-config")
        one, other = yaml.safe_load(printed), yaml.safe_load(again)
        assert {**one, "preset": ""} == {**other, "preset": ""}

    @pytest.mark.parametrize("config", [Skip, AuditConfig])
    def test_every_leaf_of_the_defaults_has_a_flag_with_a_description(self, config: type) -> None:
        flags = {".".join(flag.path): flag for flag in flags_of(config)}
        for path in leaves(config().model_dump(mode="json")):
            assert path in flags
        undescribed = [path for path, flag in flags.items() if not any(flag.texts.values())]
        assert [p for p in undescribed if not p.endswith("name")] == []

    def test_a_choice_is_described_by_the_setting_that_it_is_for(self) -> None:
        flags = {flag.name: flag for flag in flags_of(Skip)}
        assert flags["--bare-optimizer.name"].help.startswith("What trains the cells without")
        assert "name in configs" not in flags["--bare-optimizer.name"].help

    def test_audit_settings(self, assay: Command) -> None:
        flags = ["--eps", "4/255", "--budgets", "1/255", "2/255", "--thresholds.robustness", "0.3"]
        code, out, err = assay("audit", "m", "--data", "digits", *flags, "--print-config")
        assert code == 0, err
        made = AuditConfig.from_yaml(out)
        assert made.eps == 4 / 255
        assert made.curve == (1 / 255, 2 / 255, 4 / 255)
        assert made.thresholds.robustness == 0.3
        assert made.thresholds.accuracy == 0.9

    def test_choices_by_name_and_with_settings(self, assay: Command) -> None:
        square = '{"name": "square", "queries": 500}'
        flags = ["--attacks", "pgd", square, "--detectors", "max-logit"]
        flags += ["--faithfulness.explainers", "grad-cam", "occlusion"]
        code, out, err = assay("audit", "m", "--data", "digits", *flags, "--print-config")
        assert code == 0, err
        made = AuditConfig.from_yaml(out)
        assert made.attacks == (PGD(), Square(queries=500))
        assert made.detectors == (MaxLogit(),)
        assert made.faithfulness.explainers == (GradCAM(), Occlusion())
        one = assay("audit", "m", "--data", "digits", "--attacks", square, "--print-config")[1]
        assert AuditConfig.from_yaml(one).attacks == (Square(queries=500),)

    def test_a_choice_that_may_be_none_by_name(self, assay: Command) -> None:
        train = ("train", "--data", "digits", "--print-config")
        _, out, err = assay(*train, "--adversary", "pgd", "--adversary.eps", "4/255")
        assert not err
        assert TrainNetwork.from_yaml(out).adversary == PGD(eps=4 / 255)
        refused(assay(*train, "--adversary", "pdg"), "--adversary", "'pdg'", "'pgd'", "none")
        refused(assay(*train, "--watch", "pgd"), "--watch is none or left out")

    def test_choices_by_name_in_yaml(self, assay: Command) -> None:
        text = "attacks: [pgd, {name: square, queries: 500}]\nexplainer: grad-cam\n"
        Path("mine.yaml").write_text(text)
        audit = ("audit", "m", "--data", "digits", "--config", "mine.yaml")
        _, out, err = assay(*audit, "--explainer.layer", "features", "--print-config")
        assert not err
        made = AuditConfig.from_yaml(out)
        assert made.attacks == (PGD(), Square(queries=500))
        assert made.explainer == GradCAM(layer="features")

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (("--attacks", "pdg"), ("attacks", "'pdg'", "'pgd'")),
            (("--detectors", "max-logits"), ("detectors", "'max-logits'", "'max-logit'")),
            (("--attacks", "pgd", "{name: pgd}"), ("--attacks", "{name: pgd}", "JSON")),
        ],
    )
    def test_choices_that_are_none(
        self, assay: Command, flags: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        refused(assay("audit", "m", "--data", "digits", *flags), *words)

    def test_defaults_are_shown_as_they_are_given(self) -> None:
        for kind in (AuditConfig, FaithfulnessConfig):
            usual = kind().model_dump(mode="json")
            for flag in flags_of(kind):
                shown = flag.shown(usual)
                if flag.choices and flag.many and shown is not None:
                    given: Any = shown.split()
                    for part in reversed(flag.path):
                        given = {part: given}
                    assert kind.parse(merge(usual, given)) == kind(), flag.name
        assert as_written(8 / 255) == "8/255"
        assert as_written(0.2) == "0.2"


HOSTILE = """
import torch
from torch import nn

class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

class leaves(Linear):
    def forward(self, x):
        raise SystemExit(0)

class detached(Linear):
    def forward(self, x):
        return self.linear(x.flatten(1)).detach()

def colour():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(2704, 10))
"""


def save(path: Path, classes: list[str]) -> None:
    config = MLP()
    shape = (1, 28, 28)
    save_model(
        path, config.build(shape, len(classes), Stream(0)), config, in_shape=shape, classes=classes
    )


def leaves(data: dict[str, object], path: str = "") -> list[str]:
    found = []
    for key, value in data.items():
        here = f"{path}.{key}" if path else key
        found += leaves(value, here) if isinstance(value, dict) else [here]
    return found


def test_merge_keeps_what_is_below_unless_the_choice_changes() -> None:
    base = {"a": {"name": "x", "eps": 1}, "b": {"c": 1, "d": 2}}
    assert merge(base, {"a": {"eps": 2}}) == {"a": {"name": "x", "eps": 2}, "b": base["b"]}
    assert merge(base, {"a": {"name": "y"}})["a"] == {"name": "y"}
    assert merge(base, {"b": {"d": None}})["b"] == {"c": 1, "d": None}
    assert merge({"a": "x"}, {"a": {"eps": 2}}) == {"a": {"name": "x", "eps": 2}}


def test_reading_an_empty_store(assay: Command) -> None:
    code, out, _ = assay("list", "--json")
    assert code == 0
    assert json.loads(out)["runs"] == []
    assert not Path("runs").exists(), "reading made a store"


WRONG = "raise cli.AssayError('no such thing')"


@pytest.mark.parametrize(
    ("show", "unread", "code"),
    [
        ("print('one')", 1, 141),
        ("print('one', flush=True)", 1, 141),
        ("from rich.console import Console; Console().print('one')", 1, 141),
        ("print('one'); return 1", 1, 1),
        (f"print('one'); {WRONG}", 1, 2),
        (WRONG, 2, 2),
        ("raise KeyboardInterrupt", 2, 130),
    ],
)
def test_a_pipe_that_nobody_reads_ends_a_command_in_silence(
    show: str, unread: int, code: int
) -> None:
    """`assay show STUDY | head`: 141, as of other tools, and not a failed policy's 1; but a code
    that was known by then stays."""
    made = f"""
import os, sys
from assay import cli
from cyclopts import App
app = App(result_action="return_value", suppress_keyboard_interrupt=False)
@app.default
def command():
    {show}
read, write = os.pipe()
os.close(read)
kept = os.dup(2)
os.dup2(write, {unread})
code = cli.call(app, [])
os.write(kept, str(code).encode())
sys.exit(code)
"""
    python = [sys.executable, "-u"] if "flush" in show else [sys.executable]
    usual = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run([*python, "-c", made], capture_output=True, check=False, env=usual)
    said = b"assay: no such thing\n" if show.endswith(WRONG) and unread == 1 else b""
    assert (done.returncode, done.stderr) == (code, said + str(code).encode())


@pytest.mark.parametrize("error", [BrokenPipeError(32, "it hung up"), SystemExit(3)])
def test_a_service_that_hangs_up_ends_no_command_in_silence(error: BaseException) -> None:
    """What was printed is read all the while: it is an error like any other."""

    one = App(result_action="return_value")

    @one.default
    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        call(one, [])
