"""Interval bounds hold whatever is sampled, of every layer they know; others are named."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay.attacks import PGD
from assay.certify import Bounds, ibp
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError
from assay.models import CNN, MLP, ViT
from assay.models.strided import Strided

NETWORKS = {
    "strided": Strided(widths=(3, 4), kernels=(3, 2), strides=(2, 1), hidden=(5,)),
    "plain": CNN(depths=(1,), widths=(4,)),
    "skip": CNN(depths=(2, 1), widths=(4, 6), skip=True, norm="batch", stage_stride=2),
    "padded": CNN(depths=(1, 1), widths=(4, 6), skip=True, shortcut="pad", stage_stride=2),
    "projected": CNN(depths=(1, 1), widths=(4, 6), skip=True, shortcut="projection"),
    "mlp": MLP(widths=(6, 6), activation="tanh", norm="batch", residual=True, dropout=0.2),
}


def classifier(name: str, seed: int = 0) -> Classifier:
    model = NETWORKS[name].build((2, 8, 8), 3, Stream(seed))
    generator = Stream(seed).child("norms").torch()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            with torch.no_grad():
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.3, 2, generator=generator)
                module.weight.normal_(0, 1, generator=generator)  # of either sign
    return Classifier(model.eval(), mean=(0.4, 0.5), std=(0.2, 0.3), classes="abc")


@pytest.mark.parametrize("name", NETWORKS)
@given(seed=st.integers(0, 2**20), eps=st.floats(0, 0.5))
@settings(max_examples=5, deadline=None)
def test_every_sampled_perturbation_lies_within(name: str, seed: int, eps: float) -> None:
    clf = classifier(name, seed % 5)
    generator = Stream(seed).torch()
    x = torch.rand(1, 2, 8, 8, generator=generator)
    lower, upper = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    share = torch.rand(64, 2, 8, 8, generator=generator)
    share[32:] = share[32:].round()  # corners are where the extremes are
    logits = clf.query(lower + share * (upper - lower))
    box = Bounds(clf.model)(clf.normalise(lower), clf.normalise(upper))
    slack = 1e-4 * (1 + logits.abs().max())
    assert bool((logits >= box.lower - slack).all())
    assert bool((logits <= box.upper + slack).all())
    for label in range(3):
        y = torch.tensor([label])
        most = Bounds(clf.model).margins(clf.normalise(lower), clf.normalise(upper), y)
        assert bool((logits - logits[:, [label]] <= most + slack).all())
        assert bool(
            (most <= box.upper - box.lower[:, [label]] + slack)
            .masked_fill(torch.eye(3, dtype=torch.bool)[label], True)
            .all()
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_box_of_one_point_is_the_network_itself(name: str) -> None:
    clf = classifier(name)
    x = torch.rand(5, 2, 8, 8, generator=Stream(3).torch())
    box = Bounds(clf.model)(clf.normalise(x), clf.normalise(x))
    torch.testing.assert_close(box.centre, clf.query(x), atol=1e-4, rtol=1e-4)
    assert float(box.radius.detach().abs().max()) < 1e-6


def test_no_attack_gets_below_what_is_certified() -> None:
    clf = classifier("mlp")
    x = torch.rand(200, 2, 8, 8, generator=Stream(1).torch())
    y = clf.predict(x)
    shares = []
    for eps in (0.005, 0.03, 0.1, 0.2):
        found = ibp(clf, x, y, eps=eps)
        attacked = PGD(eps=eps, steps=20, step_size=eps / 4)(clf, x, y, seed=0)
        assert not bool((found.certified & attacked.fooled.cpu()).any())
        assert found.accuracy.value <= attacked.robust_accuracy.value
        shares.append(found.accuracy.value)
    assert shares[0] == 1
    assert shares[-1] < 0.5


def test_layers_without_a_bound_are_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).exp()

    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)

    x, y = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    gelu = MLP(widths=(4,), activation="gelu").build((3, 8, 8), 3, Stream(0))
    with pytest.raises(AssayError, match=r"layer '1\.1' \(GELU\).*smoothing"):
        ibp(Classifier(gelu), x, y, eps=0.1)
    layer = MLP(widths=(4,), norm="layer").build((3, 8, 8), 3, Stream(0))
    with pytest.raises(AssayError, match=r"LayerNorm"):
        ibp(Classifier(layer), x, y, eps=0.1)
    vit = ViT(patch=4, width=8, depth=1, heads=2).build((3, 8, 8), 3, Stream(0))
    with pytest.raises(AssayError, match="no bound is known"):
        ibp(Classifier(vit), x, y, eps=0.1)
    with pytest.raises(AssayError, match="operation exp"):
        ibp(Classifier(Odd()), x, y, eps=0.1)
    with pytest.raises(AssayError, match="cannot be read as a graph"):
        ibp(Classifier(Branching()), x, y, eps=0.1)
    circular = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular"), nn.Flatten())
    with pytest.raises(AssayError, match=r"layer '0' \(Conv2d\)"):
        ibp(Classifier(circular), x, y, eps=0.1)


def test_what_cannot_be_certified_is_said() -> None:
    clf = classifier("plain")
    x, y = torch.rand(2, 2, 8, 8), torch.tensor([0, 1])
    with pytest.raises(AssayError, match="8/255"):
        ibp(clf, x, y, eps=8)
    with pytest.raises(AssayError, match=r"one class per image, \(2,\)"):
        ibp(clf, x, y[:1], eps=0.1)
    resized = Classifier(clf.model, preprocess=lambda x: x)
    with pytest.raises(AssayError, match="preprocess"):
        ibp(resized, x, y, eps=0.1)
    soft = Classifier(nn.Sequential(clf.model, nn.Softmax(1)), outputs="probabilities")
    with pytest.raises(AssayError, match="softmax"):
        ibp(soft, x, y, eps=0.1)
