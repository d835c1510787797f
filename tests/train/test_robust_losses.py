"""TRADES and interval bounds as losses, by hand; averaged weights; and that all of it resumes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import PGD
from assay.certify import ibp
from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.source import TensorSource
from assay.errors import AssayError
from assay.models import CNN
from assay.models.strided import Strided
from assay.train import IBP, SGD, Adam, Constant, CrossEntropy, OneCycle, Piecewise, Recipe, Trades
from assay.train.average import Average
from assay.train.fit import fit
from assay.train.losses import Given, divergence, objective


def identity() -> Classifier:
    """A network whose logits are its two pixels."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
    return Classifier(model, classes="ab")


def pixels(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, 2)


def test_the_loss_of_trades_by_hand() -> None:
    """Logits (ln 3, 0) clean and (0, 0) attacked: p = (3/4, 1/4), q = (1/2, 1/2).

    CE = -ln 3/4; KL(p || q) = 3/4 ln 3/2 + 1/4 ln 1/2.
    """
    clean, attacked = pixels(math.log(3), 0.0), pixels(0.0, 0.0)
    loss = objective(Recipe(loss=Trades(beta=6)), identity())
    given = Given(attacked, clean, torch.tensor([0]), 0.0)
    found, logits = loss(lambda x: x.flatten(1), given)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(found) == pytest.approx(-math.log(0.75) + 6 * kl)
    assert logits.tolist() == [[0.0, 0.0]]  # accuracy is counted on what was attacked
    p = torch.tensor([[0.75, 0.25]])
    assert float(divergence(torch.zeros(1, 2), p)) == pytest.approx(kl)
    assert float(divergence(p.log(), p)) == pytest.approx(0, abs=1e-6)


def test_the_loss_of_interval_bounds_by_hand() -> None:
    """Pixels (0.6, 0.4), class 0, half of 0.2 after half of the rise: z_1 - z_0 is at most
    0.5 - 0.5 = 0 and the bounded loss ln 2; κ = 0.75."""
    config = IBP(eps=0.2, beyond=1.0, start=0.0, end=1.0, kappa=0.5)
    loss = objective(Recipe(loss=config), identity())
    x = pixels(0.6, 0.4)
    found, _ = loss(lambda x: x.flatten(1), Given(x, x, torch.tensor([0]), 0.5))
    natural = math.log(1 + math.exp(-0.2))
    assert config.at(0.5) == (0.1, 0.75)
    assert float(found.detach()) == pytest.approx(0.75 * natural + 0.25 * math.log(2))


def test_images_do_not_pass_by_themselves_where_the_clean_loss_weighs_nothing() -> None:
    """At 0.2 around (0.6, 0.4) z_1 - z_0 is at most 0.6 - 0.4 = 0.2: the loss is ln(1 + e^0.2), and
    the image, though right, counts as not certified. A batch norm needs the images all the same."""
    config = IBP(eps=0.2, beyond=1.0, start=0.0, end=1.0, kappa=0.0)
    x = pixels(0.6, 0.4)
    given = Given(x, x, torch.tensor([0]), 1.0)
    passes = 0

    def network(x: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return x.flatten(1)

    found, counted = objective(Recipe(loss=config), identity())(network, given)
    assert float(found.detach()) == pytest.approx(math.log(1 + math.exp(0.2)))
    assert (passes, counted.argmax(1).tolist()) == (0, [1])
    normed = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2), nn.Linear(2, 2))
    objective(Recipe(loss=config), Classifier(normed.eval(), classes="ab"))(network, given)
    assert passes == 1
    before = Given(x, x, torch.tensor([0]), 0.0)  # where eps is 0 there is nothing but the image
    _, logits = objective(Recipe(loss=config), identity())(network, before)
    assert (passes, logits.tolist()) == (2, x.flatten(1).tolist())


def test_the_radius_rises_and_the_clean_share_falls() -> None:
    config = IBP(eps=0.3, beyond=4 / 3, start=0.1, end=0.6, kappa=0.4)
    assert config.at(0.05) == (0.0, 1.0)
    assert config.at(0.35) == pytest.approx((0.2, 0.7))
    assert config.at(0.9) == pytest.approx((0.4, 0.4))
    for wrong, said in (({"eps": 8}, "8/255"), ({"start": 0.5, "end": 0.4}, "comes after")):
        with pytest.raises(AssayError, match=said):
            IBP(**wrong)


def test_bounds_of_what_is_done_to_images_first_are_not_trained_by() -> None:
    darker = Classifier(identity().model, classes="ab", preprocess=lambda x: x / 2)
    with pytest.raises(AssayError, match="no bound is known of preprocess"):
        objective(Recipe(loss=IBP()), darker)


def test_a_piecewise_schedule() -> None:
    steps = [Piecewise(at=(0.5, 0.75), by=0.1).factor(step, 8) for step in range(8)]
    assert steps == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert Piecewise(warmup=0.5).factor(0, 8) == 0.25
    with pytest.raises(AssayError, match="the shares rise"):
        Piecewise(at=(0.7, 0.2))


def test_mixed_labels_are_refused() -> None:
    with pytest.raises(AssayError, match=r"mixup mixes labels.*trades"):
        Recipe(mixup=0.2, loss=Trades())


def test_the_average_by_hand() -> None:
    """The first step keeps 2/11, the second 3/12, until that exceeds the decay."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.zero_()
    average = Average(model, 0.2)
    with torch.no_grad():
        model.weight.fill_(11.0)
    average.update()
    assert float(average.weights["weight"]) == pytest.approx(9.0)  # 0 · 2/11 + 11 · 9/11
    with torch.no_grad():
        model.weight.fill_(4.0)
    average.update()
    assert float(average.weights["weight"]) == pytest.approx(0.2 * 9 + 0.8 * 4)
    with average.used():
        assert model.weight.tolist() == [[pytest.approx(5.0)]]
    assert model.weight.tolist() == [[4.0]]


def test_an_average_that_was_kept_elsewhere_stays_beside_the_network() -> None:
    """A checkpoint is read on the CPU, wherever the network is."""
    average = Average(nn.Linear(2, 2, device="meta"), 0.5)
    average.restore({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, 3)
    assert average.steps == 3
    assert {value.device.type for value in average.weights.values()} == {"meta"}
    own = Average(nn.Linear(1, 1), 0.5)
    kept = {"weight": torch.full((1, 1), 7.0), "bias": torch.zeros(1)}
    own.restore(kept, 1)
    assert own.weights["weight"].tolist() == [[7.0]]
    own.update()
    assert kept["weight"].tolist() == [[7.0]]  # what is gone back to is not averaged on


def blobs(n: int, seed: int = 0) -> TensorSource:
    generator = Stream(seed).torch()
    y = torch.randint(0, 2, (n,), generator=generator)
    x = torch.rand(n, 1, 6, 6, generator=generator) * 0.4
    x[:, 0, :, :3] += 0.5 * y.view(-1, 1, 1)
    return TensorSource(x.clamp(0, 1), y)


def test_training_by_bounds_certifies_what_natural_training_does_not() -> None:
    test = blobs(200, 5)
    found = {}
    network = Strided(widths=(6,), kernels=(3,), strides=(1,), hidden=(12,))
    from_ibp = network.model_copy(update={"init": "ibp"})
    for name, net, loss in (
        ("natural", network, CrossEntropy()),
        ("certified", network, IBP(eps=0.1, start=0.1, end=0.5)),
        ("by bounds alone", from_ibp, IBP(eps=0.1, start=0.1, end=0.5, kappa=0)),
    ):
        model = net.build((1, 6, 6), 2, Stream(1))
        clf = Classifier(model, mean=(0.4,), std=(0.25,), classes="ab")
        recipe = Recipe(
            epochs=8, batch_size=20, optimizer=Adam(lr=1e-2), schedule=OneCycle(), loss=loss
        )
        fit(clf, blobs(300), None, recipe, stream=Stream(2))
        assert test.y is not None
        proved = ibp(clf, test.x, test.y, eps=0.1)
        attacked = PGD(eps=0.1, steps=10, step_size=0.03)(clf, test.x, test.y, seed=0)
        assert not bool((proved.certified & attacked.fooled.cpu()).any())
        assert proved.accuracy.value <= attacked.robust_accuracy.value
        found[name] = proved.accuracy
    assert min(found["certified"].low, found["by bounds alone"].low) > 0.9
    assert found["natural"].high < found["certified"].low


def test_averaged_weights_are_what_is_kept_and_validated() -> None:
    recipe = Recipe(epochs=2, batch_size=10, optimizer=SGD(lr=0.3), schedule=Constant())
    kept = {}
    for name, ema in (("last", None), ("average", 0.9)):
        clf = Classifier(CNN(depths=(1,), widths=(4,), norm="batch").build((1, 6, 6), 2, Stream(1)))
        made = recipe.model_copy(update={"ema": ema})
        history = fit(clf, blobs(60), blobs(40, 1), made, stream=Stream(2))
        logits = clf.query(blobs(40, 1).x)
        loss = nn.functional.cross_entropy(logits, blobs(40, 1).y)  # type: ignore[arg-type]
        assert history.val_loss[-1] == pytest.approx(float(loss), rel=1e-4)
        kept[name] = logits
    assert not torch.allclose(kept["last"], kept["average"], atol=1e-3)


def moved(model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor:
    del model, y
    return (x + rng.uniform(tuple(x.shape[1:]), -0.05, 0.05)).clamp(0, 1)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("loss", [Trades(beta=2), IBP(eps=0.05)], ids=lambda loss: loss.name)
def test_a_loss_and_an_average_resume_with_the_same_bytes(
    tmp_path: Path, loss: Trades | IBP
) -> None:
    recipe = Recipe(epochs=3, batch_size=10, optimizer=Adam(lr=1e-2), loss=loss, ema=0.9)

    def made(path: Path, stop_at: int | None = None) -> list[bytes]:
        calls = 0

        def count(share: float, note: str) -> None:
            nonlocal calls
            del share, note
            calls += 1
            if calls == stop_at:
                raise Stopped

        clf = Classifier(CNN(depths=(1,), widths=(4,), norm="batch").build((1, 6, 6), 2, Stream(1)))
        fit(
            clf,
            blobs(60),
            blobs(40, 1),
            recipe,
            stream=Stream(2),
            checkpoint=path,
            progress=count,
            adversary=moved,
        )
        return [value.numpy().tobytes() for value in clf.model.state_dict().values()]

    whole = made(tmp_path / "one.pt")
    with pytest.raises(Stopped):
        made(tmp_path / "two.pt", stop_at=2)
    assert made(tmp_path / "two.pt") == whole
