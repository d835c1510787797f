"""What the tests of `assay attack` share: one linear classifier of digits in every form, and how a
folder is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Command = Callable[..., tuple[int, str, str]]

ON_DIGITS = ("--data", "digits", "--images", "24", "--threads", "1", "--no-progress")
BARE = (*ON_DIGITS, "--pictures", "0", "--quiet")
BOX = """
import os, time
from pathlib import Path
import numpy as np

with np.load(Path(__file__).with_name("weights.npz")) as kept:
    held = dict(kept)

def logits(x):
    time.sleep(float(os.environ.get("PAUSE", 0)))
    return x.reshape(len(x), -1) @ held["weight"] + held["bias"]

def labels(x):
    return logits(x).argmax(1)

def scores(x):
    raised = np.exp(logits(x))
    return raised / raised.sum(1, keepdims=True)

def silent(x):
    said = scores(x)
    said[x[:, 0, 14, 14] > 0.5] = np.nan
    return said

def leaves(x):
    raise SystemExit(0)

calls = 0

def gone(x):
    global calls
    calls += 1
    if calls == 40 and "WELL" not in os.environ:
        raise KeyError("gone")
    return scores(x)
"""
NETS = """
import os
import numpy as np
import torch
from pathlib import Path
from torch import nn

class net(nn.Module):
    def __init__(self):
        super().__init__()
        with np.load(Path(__file__).with_name("weights.npz")) as kept:
            held = dict(kept)
        self.linear = nn.Linear(784, 10)
        self.linear.weight.data = torch.tensor(held["weight"].T, dtype=torch.float32)
        self.linear.bias.data = torch.tensor(held["bias"], dtype=torch.float32)

    def forward(self, x):
        return self.linear(x.flatten(1))

class soft(net):
    def forward(self, x):
        return super().forward(20 * x).softmax(1)

class steps(net):
    def forward(self, x):
        return super().forward((8 * x).round() / 8)

class noisy(net):
    def forward(self, x):
        return super().forward(x + 0.3 * torch.randn_like(x))

class silent(net):
    def forward(self, x):
        return super().forward(x).masked_fill((x[:, 0, 14, 14] > 0.5)[:, None], torch.nan)

class leaves(net):
    def forward(self, x):
        raise SystemExit(0)

class gone(net):
    # fails on its 40th call, which is in the search, unless it is told to be well
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        if type(self).calls == 40 and "WELL" not in os.environ:
            raise KeyError("gone")
        return super().forward(x)

class shrinks(gone):
    def forward(self, x):
        try:
            return super().forward(x)
        except KeyError:
            return net.forward(self, x)[1:]

class broken(net):
    def forward(self, x):
        said = super().forward(x).exp()
        twice = said * said
        with torch.no_grad():
            said += 1
        return twice

class grey(net):
    # has no answer for anything but 8-bit images
    def forward(self, x):
        moved = (255 * x - (255 * x).round()).abs().flatten(1).amax(1) > 1e-3
        return super().forward(x).masked_fill(moved[:, None], torch.nan)

class detached(net):
    def forward(self, x):
        return super().forward(x).detach()

class alone(net):
    def forward(self, x):
        if len(x) > 2:
            raise ValueError("two at most")
        return super().forward(x)

class one(net):
    def forward(self, x):
        return super().forward(x)[:, :1]

class vast(net):
    def forward(self, x):
        torch.empty(2**48, dtype=torch.uint8)
        return super().forward(x)

def colour():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(2704, 10))
"""


def about(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "attack.json").read_text())
    return found


def contents(folder: str | Path) -> dict[str, bytes]:
    """All that does not depend on when and where it was made."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.name not in ("record.json", "state.json", ".lock")
    }


def refused(answer: tuple[int, str, str], *words: str) -> None:
    """A mistake is one line on stderr that says the words, exit code 2, and nothing left behind."""
    code, out, err = answer
    assert (code, out) == (2, "")
    assert err.startswith("assay: ")
    assert err.count("\n") == 1, err
    assert all(word in err for word in words), err
    assert not Path("out").exists(), "a refused command left something behind"


def seen(name: str, grey: Path = Path("out/images")) -> Tensor:
    """Return what a PNG holds, (1, 1, H, W) in [0, 1]."""
    with Image.open(grey / name) as image:
        pixels = np.asarray(image)
    assert pixels.ndim == 2, "grey images stay grey"
    return torch.from_numpy(pixels / np.float32(255))[None, None]


def to_unit(grey: Tensor) -> Tensor:
    return grey.float() / 255
