"""Exported programs, TorchScript, and functions of installed packages."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.attacks import FGSM
from assay.errors import AssayError
from assay.models.loading import load_model
from assay.models.saved import save_model

NET = "torch.nn:Sequential"
X = torch.rand(3, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()


def exported(path: Path) -> Path:
    batch = torch.export.Dim("batch", min=1, max=1024)
    made = torch.export.export(net(), (X,), dynamic_shapes=({0: batch},))
    torch.export.save(made, path)
    return path


def scripted(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(net()).save(str(path))
    return path


@pytest.mark.parametrize("write", [exported, scripted])
def test_a_program_runs_where_it_is_trusted(write: object, tmp_path: Path) -> None:
    assert callable(write)
    path = write(tmp_path / "m.pt2")
    with pytest.raises(AssayError, match=r"code that runs when it is loaded.*--trust-program"):
        load_model(path)
    clf = load_model(path, trust_program=True, mean=(0.5,) * 3, std=(0.5,) * 3)
    torch.testing.assert_close(clf.query(X), net()((X - 0.5) / 0.5).detach())
    assert clf.notes[0].endswith("as --trust-program says")
    y = clf.predict(X)
    moved = FGSM(eps=8 / 255)(clf, X, y).adversarial
    assert (moved != X).any(), "it has gradients"


def test_what_only_looks_like_a_program(tmp_path: Path) -> None:
    path = exported(tmp_path / "m.pt2")
    path.write_bytes(path.read_bytes()[:-300] + b"\0" * 300)
    with pytest.raises(AssayError) as caught:
        load_model(path, trust_program=True)
    assert "\n" not in str(caught.value)


def test_a_function_of_a_package_is_called_with_what_is_given(tmp_path: Path) -> None:
    clf = load_model(
        "torch.nn:Conv2d", args={"in_channels": 3, "out_channels": 4, "kernel_size": 2}
    )
    assert isinstance(clf.model, nn.Conv2d)
    assert clf.notes == ("no --weights: those of torch.nn:Conv2d are what the function made",)
    torch.save(nn.Conv2d(3, 4, 2).state_dict(), tmp_path / "w.pt")
    args = {"in_channels": 3, "out_channels": 4, "kernel_size": 2}
    given = load_model("torch.nn:Conv2d", args=args, weights=tmp_path / "w.pt")
    assert torch.equal(given.model.state_dict()["weight"], torch.load(tmp_path / "w.pt")["weight"])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere.at_all:net", "nowhere, which is not installed here: install it beside assay"),
        ("torch.nn:Conv3", "did you mean 'Conv3d'"),
        ("torch.nn:Conv2d", "raised TypeError"),
        ("torch.nn.functional:relu", "raised TypeError"),
        ("builtins:dict", "gave dict, not a torch.nn.Module"),
        ("math:pi", "is float, not a function"),
        ("torch.nowhere:x", "cannot be imported"),
    ],
)
def test_what_is_no_network_of_a_package(spec: str, said: str) -> None:
    with pytest.raises(AssayError) as caught:
        load_model(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_of_other_makers_do_not_go_with_a_file_of_ours(tmp_path: Path) -> None:
    from assay.core.random import Stream
    from assay.models import MLP

    config = MLP(widths=())
    path = tmp_path / "m.safetensors"
    save_model(
        path, config.build((1, 2, 2), 2, Stream(0)), config, in_shape=(1, 2, 2), classes="ab"
    )
    for settings in ({"args": {"a": 1}}, {"channels": "bgr"}, {"trust_program": True}):
        with pytest.raises(AssayError, match="go with models of other makers"):
            load_model(path, **settings)  # type: ignore[arg-type]


def test_a_factory_takes_arguments_too(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(
        "from torch import nn\n"
        "def net(width): return nn.Sequential(nn.Flatten(), nn.Linear(12, width))\n"
    )
    assert load_model(f"{file}:net", args={"width": 5}).query(X).shape == (3, 5)
    with pytest.raises(
        AssayError, match=r"called without arguments .* set what it needs by --model-args"
    ):
        load_model(f"{file}:net")
    with pytest.raises(AssayError, match="called with depth to make a network"):
        load_model(f"{file}:net", args={"depth": 5})
