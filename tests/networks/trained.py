"""The trained networks that tests attack, explain and audit.

They were trained once, and their weights are committed beside this file: what a test asserts of a
network would otherwise depend on the processor that trained it. To train them anew (seconds):

    python tests/networks/trained.py
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from assay.attacks import PGD, Attack
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.data import load_data
from assay.models import CNN, ViT
from assay.models.loading import load_model
from assay.runs.worker import Workspace
from assay.tasks.train import TrainNetwork, train
from assay.train import AdamW, OneCycle, Recipe

FOLDER = Path(__file__).resolve().parent
DIGITS: dict[str, Attack | None] = {
    "natural": None,
    "robust": PGD(eps=0.1, steps=3, step_size=0.25 / 3),
}
"""What the two CNNs on digits were trained against."""


def digit_net(name: str) -> Classifier:
    """The CNN of that name on digits. Under PGD at 0.1 in Linf about 58 % of the images remain with
    `robust`, of `natural` none."""
    return load_model(FOLDER / f"{name}.safetensors")


class Pooled(nn.Module):
    """A CNN of two convolutions on digits, `pooled`: 86 % are right."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 5, stride=2), nn.ReLU(), nn.Conv2d(12, 24, 3, stride=2), nn.ReLU()
        )
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)) * 4)


def mlp(hidden: int) -> nn.Module:
    """On digits at half their size: `mlp-32` and `mlp-128`."""
    return nn.Sequential(
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(196, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    )


def finder() -> nn.Module:
    """A vision transformer, `finder`, that says the colour of one patch of 4x4: see `coloured`."""
    config = ViT.parse({"patch": 4, "width": 32, "depth": 2, "heads": 2, "mlp_ratio": 2})
    return config.build((3, 16, 16), 4, Stream(0))


def coloured(n: int, draw: torch.Generator, colours: int) -> tuple[Tensor, Tensor, Tensor]:
    """Grey noise with a patch that is reddish, greenish, bluish or not there, and where it is."""
    x = 0.4 + 0.1 * torch.rand(n, 1, 16, 16, generator=draw).expand(-1, 3, -1, -1)
    y = torch.randint(0, colours, (n,), generator=draw)
    place = torch.randint(0, 16, (n,), generator=draw)
    patches = F.one_hot(place, 16).view(n, 1, 4, 4).float()
    there = patches.repeat_interleave(4, 2).repeat_interleave(4, 3)
    return x + 0.5 * F.one_hot(y, 4)[:, :3, None, None] * there, y, patches[:, 0]


def trained(name: str, model: nn.Module) -> nn.Module:
    """The model with the weights that were kept under that name, in eval mode."""
    kept = load_file(FOLDER / f"{name}.safetensors")
    model.load_state_dict({key: value.float() for key, value in kept.items()})
    return model.eval()


# -- training them -------------------------------------------------------------------------------


def train_digit_net(name: str, folder: Path) -> Path:
    """Train the CNN of that name in a folder, in seconds, and return the file of its weights."""
    config = TrainNetwork(
        data="digits",
        network=CNN(
            depths=(1, 1),
            widths=(8, 16),
            skip=True,
            norm="batch",
            init="he",
            stem_stride=2,
            stage_stride=2,
        ),
        recipe=Recipe(epochs=3, batch_size=50, optimizer=AdamW(lr=1e-2), schedule=OneCycle()),
        adversary=DIGITS[name],
        train_images=3000,
        train_tested=False,
    )
    work = Workspace(folder)
    train(config.trial(0, "cpu", name), work)
    return work.path("model.safetensors")


def keep(
    name: str, build: Callable[[], nn.Module], x: Tensor, y: Tensor, *, lr: float, epochs: int
) -> None:
    with Stream(0).seeding():
        model = build().train()
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=draw).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    state = {key: value.half() for key, value in model.state_dict().items()}
    save_file(state, FOLDER / f"{name}.safetensors")


def main() -> None:
    torch.set_num_threads(1)
    for name in DIGITS:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(train_digit_net(name, Path(folder)), FOLDER / f"{name}.safetensors")
    x, y = load_data("digits", split="train").take(3000)
    keep("pooled", Pooled, x, y, lr=5e-3, epochs=12)
    for hidden in (32, 128):
        keep(f"mlp-{hidden}", partial(mlp, hidden), x[:800], y[:800], lr=0.01, epochs=5)
    x, y, _ = coloured(2000, torch.Generator().manual_seed(0), colours=4)
    keep("finder", finder, x, y, lr=1e-3, epochs=10)


if __name__ == "__main__":
    main()
