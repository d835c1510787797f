"""Detectors of every kind fit the contract: by layers, head, gradient, inputs, and of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.oracle import Encoded
from assay.errors import AssayError
from assay.ood import AnyDetector, Detector, Energy, FittedDetector, MaxLogit
from assay.ood.needs import Need, required


class Activity(Detector):
    """How far the layers' activity is from that of the training data, in its own spread."""

    needs: ClassVar[frozenset[Need]] = frozenset({"layers"})
    name: Literal["activity"] = "activity"
    layers: tuple[str, ...] = ()

    def layers_of(self, model: nn.Module) -> Sequence[str]:
        if self.layers:
            return self.layers
        found = [name for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]
        if not found:
            raise AssayError("activity needs a convolution, and this model has none")
        return [f"{name}:{kind}" for name in found for kind in ("max", "std")]

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        return {name: torch.stack([v.mean(0), v.std(0)]) for name, v in e.layers.items()}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        away = [
            ((e.layers[name] - mean) / (std + 1e-3)).abs().mean(1)
            for name, (mean, std) in state.items()
        ]
        return torch.stack(away).sum(0).double()


class Residual(Detector):
    """The part of the features that the head does not see."""

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "head"})
    name: Literal["residual"] = "residual"

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        assert e.head is not None
        return {"seen": torch.linalg.svd(e.head.weight, full_matrices=False).Vh}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        assert e.features is not None
        return (e.features - e.features @ state["seen"].mT @ state["seen"]).norm(dim=1).double()


class Steep(Detector):
    """The gradient of the energy by the image."""

    needs: ClassVar[frozenset[Need]] = frozenset({"gradient", "inputs"})
    name: Literal["steep"] = "steep"

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        assert e.oracle is not None
        found = []
        with e.oracle.borrowed(), torch.enable_grad():
            for _, x in e.batches():
                x = x.clone().requires_grad_(True)
                (slope,) = torch.autograd.grad(e.oracle.logits(Encoded(x)).logsumexp(1).sum(), x)
                found.append(slope.flatten(1).norm(dim=1).double())
        return torch.cat(found)


class Contrast(Detector):
    """The spread of the pixels."""

    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})
    name: Literal["contrast"] = "contrast"

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        return torch.cat([-x.flatten(1).std(1).double() for _, x in e.batches()])


class Tempered(Detector):
    """Learns the scale of the logits from data that was not trained on."""

    learns_from: ClassVar[Literal["training", "held-out"]] = "held-out"
    name: Literal["tempered"] = "tempered"

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        assert y is not None
        return {"scale": e.logits.std(), "first": e.logits[0], "labels": y}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        return -(e.logits / state["scale"]).double().amax(1)


class Mean(Detector):
    """The mean rank of other detectors' scores among those of the training data."""

    name: Literal["mean"] = "mean"
    of: tuple[AnyDetector | Activity | Residual, ...] = (MaxLogit(), Energy())

    def reads(self) -> frozenset[Need]:
        return frozenset[Need]().union(*(part.reads() for part in self.of))

    def layers_of(self, model: nn.Module) -> Sequence[str]:
        return [name for part in self.of for name in part.layers_of(model)]

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        state = {}
        for k, part in enumerate(self.of):
            mine = required(part, e)
            own = part.learn(mine, y)
            state |= {f"{k}.{name}": values for name, values in own.items()}
            state[f"{k}.scores"] = part.ood_score(mine, own).sort().values
        return state

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        ranks = []
        for k, part in enumerate(self.of):
            own = {name.partition(".")[2]: v for name, v in state.items() if name[0] == str(k)}
            among = own.pop("scores")
            score = part.ood_score(required(part, e), own)
            ranks.append(torch.searchsorted(among, score) / len(among))
        return torch.stack(ranks).double().mean(0)


EVERY = (
    Activity(),
    Activity(layers=("1:mean", "1")),
    Residual(),
    Steep(),
    Contrast(),
    Tempered(),
    Mean(of=(MaxLogit(), Activity(), Residual())),
)


@pytest.fixture(scope="module")
def clf() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        model.append(nn.Linear(6, 3))
    return Classifier(model, batch_size=16)


def images(n: int, seed: int, spread: float = 1.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 0.5 + spread * (torch.rand(n, 1, 8, 8, generator=draw) - 0.5)


@pytest.fixture(scope="module")
def seen(clf: Classifier) -> dict[str, Embedding]:
    def embed(n: int, seed: int, spread: float = 1.0) -> Embedding:
        return clf.embed(images(n, seed, spread), torch.arange(n) % 3, readers=EVERY)

    return {
        "train": embed(60, 0),
        "held": embed(60, 1),
        "in": embed(40, 2),
        "out": embed(40, 3, 0.1),
    }


@pytest.mark.parametrize("detector", EVERY, ids=lambda detector: detector.name)
def test_one_pass_serves_detectors_of_every_kind(
    detector: Detector, seen: dict[str, Embedding]
) -> None:
    fitted = detector.fit(seen["train"], calibrate=seen["held"])
    inside, outside = fitted.score(seen["in"]), fitted.score(seen["out"])
    assert inside.shape == (40,)
    assert float((inside - outside).abs().amax()) > 0
    torch.testing.assert_close(fitted.score(seen["in"].rows(slice(3, 9))), inside[3:9])


def test_activity_sees_what_is_flat(seen: dict[str, Embedding]) -> None:
    fitted = Activity().fit(seen["train"])
    assert fitted.layers == ("0:max", "0:std")
    assert float(fitted.score(seen["out"]).amin()) > float(fitted.score(seen["in"]).median())


def test_a_fitted_detector_says_itself_what_it_reads(
    clf: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = Activity(layers=("1:std",)).fit(
        clf.embed(images(30, 0), readers=[Activity(layers=("1:std",))])
    )
    x = images(5, 7)
    expected = fitted.score(clf.embed(x, readers=[fitted]))
    monkeypatch.setattr("assay.ood.registry.Activity", Activity, raising=False)
    fitted.save(tmp_path / "activity.safetensors")
    loaded = FittedDetector.load(tmp_path / "activity.safetensors")
    assert loaded.layers == ("1:std",)
    assert torch.equal(loaded.score(clf.embed(x, readers=[loaded])), expected)
    with pytest.raises(AssayError, match=r"'1:std', which .* lacks: embed\(..., readers="):
        loaded.score(clf.embed(x))


def test_what_one_detector_lacks_takes_away_that_one_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Tanh())
    some = (Activity(), Activity(layers=("5",)), Residual(), MaxLogit())
    clf = Classifier(model)
    train, held = (clf.embed(images(40, seed), readers=some) for seed in (0, 1))
    reasons = []
    for detector in some[:3]:
        with pytest.raises(AssayError) as error:
            detector.fit(train, calibrate=held)
        reasons.append(str(error.value))
    assert reasons[0] == "activity needs a convolution, and this model has none"
    assert reasons[1].endswith("lacks: unknown layer '5'. Known: 0, 1, 2")
    assert reasons[2].startswith(
        "residual needs features, head, which this embedding lacks (the model does not end in a "
        "linear layer); use a detector that reads the logits"
    )
    assert MaxLogit().fit(train, calibrate=held).calibrated_on == 40


def test_what_learns_from_held_out_data_is_given_half_of_it(seen: dict[str, Embedding]) -> None:
    fitted = Tempered().fit(seen["train"], calibrate=seen["held"])
    held = seen["held"]
    one, other = held.halves()
    assert one.y is not None
    assert torch.equal(fitted.state["first"], one.logits[0])
    assert torch.equal(fitted.state["labels"], one.y)
    assert fitted.calibrated_on == 30
    assert fitted.threshold in fitted.score(other).tolist()
    with pytest.raises(AssayError, match="tempered learns from data that the model was not train"):
        Tempered().fit(seen["train"])
