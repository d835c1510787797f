"""The loss surface: against a linear model worked out by hand, and the same after any stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.random import Stream
from assay.data import load_data
from assay.errors import AssayError
from assay.models import CNN, MLP
from assay.models.loading import load_model
from assay.runs.files import Arrays
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.runs.worker import work
from assay.tasks import loss_surface
from assay.tasks.loss_surface import SurfaceOf, curvatures, directions, lent, losses_along, measures
from assay.tasks.train import TrainNetwork
from assay.train import Recipe

GRID = SurfaceOf(images=60, size=5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a linear model and a small CNN with batch norm, trained on digits."""
    store = Store(tmp_path_factory.mktemp("store"))
    for need in (trained(MLP(widths=())), trained(CNN(depths=(1,), widths=(4,), norm="batch"))):
        said = work(store, need, lambda _: None, again=False)
        assert said.kind == "done", said
    return store


def trained(network: Any) -> Trial:
    recipe = Recipe(epochs=2, batch_size=50)
    return TrainNetwork(data="digits", network=network, recipe=recipe, train_images=300).trial(
        0, "cpu", "net"
    )


def taken(store: Store, network: Any, seed: int = 0) -> tuple[Any, Trial]:
    """Return the result of the surface's trial, run as a worker runs it, and the trial."""
    trial = GRID.trial(trained(network), seed, "cpu", "surface")
    assert work(store, trial, lambda _: None, again=False).kind == "done"
    result = store.result(trial)
    assert result is not None
    return result, trial


def images() -> tuple[Tensor, Tensor]:
    data = load_data("digits", split="train").sample(300).sample(60)
    return data.images.float() / 255, data.labels


class TestALinearModel:
    """Its logits at (a, b) are those at the centre plus (a D + b E) x: nothing else moves."""

    def test_every_loss_is_what_is_worked_out_by_hand(self, store: Store) -> None:
        result, trial = taken(store, MLP(widths=()))
        need = store.result(trial.needs[0])
        assert need is not None
        classifier = load_model(need.path("model.safetensors"))
        x, y = images()
        flat = classifier.normalise(x).flatten(1).double().numpy()
        head = classifier.model[1]
        weight, bias = (p.detach().double().numpy() for p in (head.weight, head.bias))
        d, e = (
            directions(classifier.model, Stream(0).child("plane", axis))["1.weight"].double()
            for axis in (0, 1)
        )
        for row, b in enumerate((-1, -0.5, 0, 0.5, 1)):
            for column, a in enumerate((-1, -0.5, 0, 0.5, 1)):
                logits = flat @ (weight + a * d.numpy() + b * e.numpy()).T + bias
                of_label = logits[np.arange(60), y.numpy()]
                by_hand = (np.log(np.exp(logits).sum(1)) - of_label).mean()
                assert result.arrays["loss"][row, column] == pytest.approx(by_hand, rel=1e-5)
        np.testing.assert_array_equal(result.arrays["alphas"], [-1, -0.5, 0, 0.5, 1])

    def test_it_is_convex(self, store: Store) -> None:
        result, _ = taken(store, MLP(widths=()))
        assert result.metrics["non_convex"] == 0
        assert result.metrics["sharpness"] > 0


class TestACNN:
    NETWORK = CNN(depths=(1,), widths=(4,), norm="batch")

    def test_its_centre_is_the_loss_of_the_tested_model(self, store: Store) -> None:
        result, trial = taken(store, self.NETWORK)
        need = store.result(trial.needs[0])
        assert need is not None
        x, y = images()
        tested = F.cross_entropy(load_model(need.path("model.safetensors")).query(x), y)
        assert result.metrics["loss"] == pytest.approx(float(tested), rel=1e-5)
        assert result.arrays["loss"][2, 2] == result.metrics["loss"]
        assert result.metrics["n"] == 60

    def test_a_seed_is_a_pair_of_directions(self, store: Store) -> None:
        one, other = (taken(store, self.NETWORK, seed)[0].arrays["loss"] for seed in (0, 1))
        assert one[2, 2] == other[2, 2]
        assert (one != other).sum() == 24

    def test_it_goes_on_where_it_stopped_with_the_same_bytes(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        undisturbed, trial = taken(store, self.NETWORK)
        elsewhere = Store(tmp_path)
        (need,) = trial.needs
        assert work(elsewhere, need, lambda _: None, again=False).kind == "done"
        real, rows = losses_along, []

        def counted(*arguments: Any) -> Any:
            if len(rows) == 2:
                raise MemoryError("in the third row")
            rows.append(real(*arguments))
            return rows[-1]

        monkeypatch.setattr(loss_surface, "losses_along", counted)
        assert work(elsewhere, trial, lambda _: None, again=False).kind == "failed"
        entry = elsewhere.entry(trial)
        done = Arrays(entry.folder / "checkpoint" / loss_surface.ROWS)["loss"]
        np.testing.assert_array_equal(done, undisturbed.arrays["loss"][:2])

        seen = []
        monkeypatch.setattr(
            loss_surface, "losses_along", lambda *a: (seen.append(a[-1]), real(*a))[1]
        )
        assert work(elsewhere, trial, lambda _: None, again=True).kind == "done"
        assert seen == [0, 0.5, 1]
        for name in ("metrics.json", "arrays.npz"):
            assert (entry.folder / name).read_bytes() == (undisturbed.folder / name).read_bytes()


class TestDirections:
    def net(self) -> nn.Module:
        torch.manual_seed(3)
        net = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4), nn.Linear(4, 2)
        )
        with torch.no_grad():
            net[3].weight[1] = 0
        return net

    def test_every_filter_has_the_norm_of_its_filter(self) -> None:
        net = self.net()
        found = directions(net, Stream(0))
        for k in range(3):
            ours, its = found["0.weight"][k], net[0].weight[k].detach()
            assert float((ours**2).sum()) == pytest.approx(float((its**2).sum()), rel=1e-5)
            assert float((ours * its).sum() / (its**2).sum()) < 0.9  # another direction
        for k in range(4):
            ours, its = found["3.weight"][k], net[3].weight[k].detach()
            assert float(ours.norm()) == pytest.approx(float(its.norm()), rel=1e-5)

    def test_biases_and_norms_stay(self) -> None:
        found = directions(self.net(), Stream(0))
        still = {name for name, step in found.items() if not step.any()}
        assert still == {"0.bias", "1.weight", "1.bias", "3.bias", "4.bias"}

    def test_draws_are_those_of_a_parameter_s_name(self) -> None:
        one, other = directions(self.net(), Stream(0)), directions(self.net()[:4], Stream(0))
        assert torch.equal(one["3.weight"], other["3.weight"])
        assert not torch.equal(one["0.weight"], directions(self.net(), Stream(1))["0.weight"])
        twice = directions(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), Stream(0))
        tied = F.cosine_similarity(twice["0.weight"], twice["1.weight"])
        assert (tied.abs() < 0.999).all()


class Fragile(nn.Module):
    """Has a batch norm, and fails at its third call."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.head = nn.Linear(4, 2)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 3:
            raise MemoryError
        return self.head(self.norm(x).flatten(1))


def test_the_model_comes_back_as_it_was_also_after_an_exception() -> None:
    net = Fragile().train()
    net.head.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    planes = [directions(net, Stream(axis)) for axis in (0, 1)]
    x, y = torch.randn(5, 1, 2, 2), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(MemoryError):
        losses_along(net, x, y, planes, np.linspace(-1, 1, 5), 0.3)
    assert net.calls == 3
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert net.training
    assert net.norm.training
    assert [p.requires_grad for p in net.parameters()] == [True, True, True, False]


def test_moved_weights_come_back_to_the_bit() -> None:
    net = nn.Linear(3, 3)
    before = net.weight.detach().clone()
    with lent(net):
        net.weight.mul_(1e30)
    assert torch.equal(net.weight, before)


class TestMeasures:
    ALPHAS = np.linspace(-1, 1, 9)
    A, B = np.meshgrid(ALPHAS, ALPHAS)

    def test_of_a_bowl(self) -> None:
        """1 + 2a² + 6b² + ab: Hessian ((4, 1), (1, 12)), eigenvalues 8 ± sqrt(17)."""
        bowl = 1 + 2 * self.A**2 + 6 * self.B**2 + self.A * self.B
        least, greatest = curvatures(bowl, 0.25)
        np.testing.assert_allclose(least, 8 - np.sqrt(17))
        np.testing.assert_allclose(greatest, 8 + np.sqrt(17))
        found = measures(bowl, self.ALPHAS)
        # (0, ±0.5) is the highest of the points at most 0.5 away: a rise of 1.5, over 1 + 1.
        assert found["sharpness"] == pytest.approx(0.75)
        # Rise below 1: at b = 0 five points (2a² < 1), at b = ±0.25 four (2a² ± a/4 < 5/8, which
        # leaves one of a = ±0.5 out by a hair), at b = ±0.5 none.
        assert found["basin"] == pytest.approx(13 / 81)
        assert (found["loss"], found["non_convex"], found["not_finite"]) == (1, 0, 0)

    def test_of_a_saddle_and_of_a_slight_one(self) -> None:
        saddle = self.A**2 - self.B**2
        assert measures(saddle, self.ALPHAS)["non_convex"] == 1
        assert measures(self.A**2 - 0.09 * self.B**2, self.ALPHAS)["non_convex"] == 0
        assert measures(self.A**2 - 0.11 * self.B**2, self.ALPHAS)["non_convex"] == 1

    def test_where_the_loss_is_not_finite(self) -> None:
        bowl = self.A**2 + self.B**2
        bowl[0, 0] = np.inf
        far = measures(bowl, self.ALPHAS)
        assert far["not_finite"] == 1
        assert far["sharpness"] == pytest.approx(0.25)
        assert far["non_convex"] == 0
        bowl[4, 5] = np.nan
        assert measures(bowl, self.ALPHAS)["sharpness"] == np.inf
        assert measures(np.full((9, 9), np.nan), self.ALPHAS)["non_convex"] is None


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"size": 8}, "size must be odd"),
            ({"size": 5, "reach": 2}, "leave none within 0.5"),
            ({"reach": 0.4}, "greater than or equal to 0.5"),
        ],
    )
    def test_a_grid(self, wrong: dict[str, Any], says: str) -> None:
        with pytest.raises(AssayError, match=says):
            SurfaceOf(**wrong)

    def test_data_that_have_changed(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        real = loss_surface.split
        monkeypatch.setattr(loss_surface, "split", lambda *of: real(*of).sample(100))
        trial = GRID.trial(trained(MLP(widths=())), 7, "cpu", "")
        said = work(store, trial, lambda _: None, again=False)
        assert said.failure is not None
        assert said.failure.message == "digits (train) has changed since the trial was planned"
