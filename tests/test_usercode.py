"""A user's file finds what lies beside it, and nothing that lies beside another's."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from assay.inputs import Inputs, load, load_part
from assay.models.loading import load_model, load_oracle

NET = """
from torch import nn
import assay_test_backbone.width

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, assay_test_backbone.width.WIDTH))
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_each_file_has_neighbours_of_its_own(tmp_path: Path) -> None:
    widths = []
    for name, width in (("a", 3), ("b", 7), ("a", 3)):
        folder = write(tmp_path / name, net=NET)
        write(folder / "assay_test_backbone", width=f"WIDTH = {width}\n")
        widths.append(load_model(f"{folder / 'net.py'}:make").query(torch.ones(1, 1, 2, 2)).shape)
    assert widths == [(1, 3), (1, 7), (1, 3)]


def test_a_network_does_not_get_the_neighbours_of_the_data(tmp_path: Path) -> None:
    data = write(
        tmp_path / "data",
        assay_test_shift="SHIFT = 1\n",
        data="""
import numpy as np
import assay_test_shift

def test():
    x = np.zeros((4, 1, 2, 2), np.uint8)
    x[::2] = 200
    yield x, np.array([1, 0, 1, 0])
""",
    )
    model = write(
        tmp_path / "model",
        assay_test_shift="SHIFT = 0\n",
        net="""
from torch import nn
import assay_test_shift

class Net(nn.Module):
    def forward(self, x):
        bright = (x.mean((1, 2, 3)) > 0.5).long()
        return 10.0 * nn.functional.one_hot((bright + assay_test_shift.SHIFT) % 2, 2)
""",
    )
    inputs = Inputs(model=f"{model / 'net.py'}:Net", data=f"{data / 'data.py'}:test", images=4)
    part = load_part(inputs)
    said = load(inputs, part).predict(part.images.float() / 255)
    assert torch.equal(said, part.labels)


def test_what_is_imported_only_when_it_is_called_is_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        assay_test_late="def first(x):\n    return x.reshape(len(x), -1)[:, 0].astype(int)\n",
        net="""
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        import assay_test_package.part
        return x.flatten(1) * assay_test_package.part.TWO

def ask(x):
    from assay_test_late import first
    return first(x)
""",
        assay_test_package__part="def two():\n    import assay_test_two as n\n    return n.TWO\n\n"
        "TWO = two()\n",
        assay_test_two="TWO = 2\n",
    )
    (tmp_path / "assay_test_folder").mkdir()
    x = torch.ones(1, 1, 2, 1)
    box = load_oracle(f"{tmp_path / 'net.py'}:ask", access="labels", classes=("a", "b"))
    assert box.query(x).tolist() == [1]
    assert load_model(f"{tmp_path / 'net.py'}:Net").query(x).tolist() == [[2, 2]]
    # nobody else finds anything there
    assert str(tmp_path) not in sys.path
    assert importlib.util.find_spec("assay_test_folder") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("assay_test_folder")
