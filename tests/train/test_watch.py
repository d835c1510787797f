"""What a look sees, against autograd by hand; that looking changes nothing; and mixup."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.source import TensorSource
from assay.models import MLP
from assay.train import SGD, Constant, Recipe, Watch
from assay.train.batches import batches
from assay.train.fit import fit
from assay.train.watch import gradient_lengths, layer_weights, saturation

STREAM = Stream(3)
RECIPE = Recipe(epochs=2, batch_size=16, optimizer=SGD(lr=0.1, momentum=0.0), schedule=Constant())


def stripes(n: int, seed: int = 0) -> TensorSource:
    x = torch.rand(n, 1, 2, 2, generator=Stream(seed).torch())
    return TensorSource(x, (x[:, 0, 0, 0] * 3).long())


def wrapped(activation: str = "relu", dropout: float = 0.0) -> Classifier:
    config = MLP.parse({"widths": (8, 8), "activation": activation, "dropout": dropout})
    model = config.build((1, 2, 2), 3, Stream(5))
    return Classifier(model, mean=(0.5,), std=(0.25,), classes=("a", "b", "c"))


def test_looks_agree_with_a_training_by_hand() -> None:
    train, validation = stripes(48), stripes(20, seed=1)
    classifier, twin = wrapped(), wrapped().model
    start = [w.detach().clone() for w in layer_weights(twin).values()]
    looks = fit(
        classifier,
        train,
        validation,
        RECIPE,
        stream=STREAM,
        watch=Watch(every=2, images=20),
    ).looks
    norms, losses, changes, accuracies = [], [], [], []
    for epoch in (1, 2):
        for _, x, y in batches(train, 16, STREAM.child("order", epoch)):
            layers, parameters = list(layer_weights(twin).values()), list(twin.parameters())
            changes.append(
                [
                    float((now.detach() - then).norm() / then.norm())
                    for now, then in zip(layers, start, strict=True)
                ]
            )
            said = twin((validation.x - 0.5) / 0.25).argmax(1)
            accuracies.append(float((said == validation.y).float().mean()))
            loss = F.cross_entropy(twin((x - 0.5) / 0.25), y)
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, parameters)
            by_layer = dict(zip(parameters, gradients, strict=True))
            norms.append([by_layer[layer].norm().item() for layer in layers])
            with torch.no_grad():
                for parameter, gradient in by_layer.items():
                    parameter -= 0.1 * gradient
    assert looks.steps == [0, 2, 4, 5], "every second step, and the last"
    assert looks.layers == ["1.0", "2.0", "3"]
    for row, step in enumerate(looks.steps):
        assert looks.gradient_norms[row] == pytest.approx(norms[step], rel=1e-4)
        assert looks.weight_change[row] == pytest.approx(changes[step], rel=1e-3, abs=1e-7)
    assert looks.val_accuracy == pytest.approx([accuracies[step] for step in looks.steps])
    since = [losses[0], np.mean(losses[1:3]), np.mean(losses[3:5]), losses[5]]
    assert looks.loss == pytest.approx(since, rel=1e-4)


def test_a_look_changes_nothing() -> None:
    """Neither the weights nor what is drawn for dropout and mixup."""
    recipe = RECIPE.model_copy(update={"mixup": 0.4})
    ends = []
    for watch in (None, Watch(every=1), Watch(every=4)):
        classifier = wrapped(dropout=0.3)
        fit(classifier, stripes(48), stripes(8), recipe, stream=STREAM, watch=watch)
        ends.append([p.detach().clone() for p in classifier.model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(ends[0], ends[1], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(ends[0], ends[2], strict=True))


def test_gradients_are_those_before_clipping() -> None:
    seen = [
        fit(wrapped(), stripes(16), None, each, stream=STREAM, watch=Watch()).looks
        for each in (RECIPE, RECIPE.model_copy(update={"grad_clip": 1e-6}))
    ]
    assert seen[0].gradient_norms[0] == seen[1].gradient_norms[0]
    assert seen[0].val_accuracy == []


def test_a_gradient_too_small_to_square_has_a_length() -> None:
    linear = nn.Linear(3, 1, bias=False)
    linear.weight.grad = torch.tensor([[3e-30, 4e-30, 0.0]])
    assert float(gradient_lengths({"it": linear.weight})[0]) == pytest.approx(5e-30, rel=1e-5)
    linear.weight.grad = torch.zeros(1, 3)
    assert float(gradient_lengths({"it": linear.weight})[0]) == 0.0


@pytest.mark.parametrize(
    ("activation", "flat", "steep"),
    [
        (nn.Sigmoid(), [-4.4, 4.4], [-4.2, 0.0, 4.2]),  # σ(4.36) (1 - σ(4.36)) = 0.05 / 4
        (nn.Tanh(), [-2.2, 2.2], [-2.1, 0.0, 2.1]),  # 1 - tanh²(2.178) = 0.05
        (nn.ReLU(), [-3.0, -0.1], [0.1, 5.0]),
        (nn.LeakyReLU(), [-3.0, -0.1], [0.1, 5.0]),  # slope 0.01
        (nn.ReLU(inplace=True), [-3.0, -0.1], [0.1, 5.0]),
    ],
)
def test_saturated_is_where_the_slope_is_a_twentieth_of_the_greatest(
    activation: nn.Module, flat: list[float], steep: list[float]
) -> None:
    z = torch.tensor([[*flat, *steep]])
    with saturation(nn.Sequential(activation)) as seen:
        out = nn.Sequential(activation)(z.clone())
    assert torch.equal(out, activation(z.clone()))
    (masks,) = seen.values()
    assert masks[0].tolist() == [[True] * len(flat) + [False] * len(steep)]
    with saturation(nn.Sequential(activation)):
        pass
    assert not activation._forward_pre_hooks


def test_a_dead_unit_is_saturated_for_every_image() -> None:
    classifier = wrapped()
    first = classifier.model[1][0]  # type: ignore[index]
    with torch.no_grad():
        first.weight.zero_()
        first.bias.copy_(torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    looks = fit(classifier, stripes(16), stripes(8), RECIPE, stream=STREAM, watch=Watch()).looks
    assert looks.activations == ["1.1", "2.1"]
    assert looks.dead[0][0] == looks.saturated[0][0] == 0.25


class Noted(nn.Module):
    """A linear layer that remembers what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.fed: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.fed.append(x.detach().clone())
        return self.linear(x.flatten(1))  # type: ignore[no-any-return]


def test_mixup_trains_on_convex_pairs_and_their_mixed_labels() -> None:
    """Images that are one-hot in the label show the shares in which they were mixed."""
    torch.manual_seed(0)
    x = torch.eye(4)[torch.arange(30) % 3].view(30, 1, 2, 2)
    train = TensorSource(x, torch.arange(30) % 3)
    model = Noted()
    start = [p.detach().clone() for p in model.parameters()]
    classifier = Classifier(model, classes=("a", "b", "c"))
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch_size": 30, "mixup": 1.0})
    history = fit(classifier, train, None, recipe, stream=STREAM)
    shares = model.fed[0].flatten(1)[:, :3]  # the image of class k is the k-th unit vector
    assert shares.sum(1) == pytest.approx(1.0)
    mixed = (shares > 0).sum(1) == 2
    assert mixed.any()
    values = shares[mixed].flatten()
    values = values[values > 0]
    share = float(values[0])
    assert 0.02 < share < 0.98
    assert all(min(abs(float(v) - share), abs(float(v) - 1 + share)) < 1e-6 for v in values)
    logits = model.fed[0].flatten(1) @ start[0].T + start[1]
    loss = -(shares * logits.log_softmax(1)).sum(1).mean()
    assert history.train_loss[0] == pytest.approx(float(loss), rel=1e-5)
    again = fit(Classifier(Noted(), classes="abc"), train, None, recipe, stream=Stream(4))
    assert again.train_loss != history.train_loss
