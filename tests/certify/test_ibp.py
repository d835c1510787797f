"""Interval bounds hold whatever is sampled, of every layer they know; others are named."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import PGD
from assay.certify import Bounds, ibp
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError
from assay.models import CNN, MLP, ViT
from assay.models.strided import Strided

NETWORKS = {
    "strided": Strided(widths=(3, 4), kernels=(3, 2), strides=(2, 1), hidden=(5,)),
    "ramp": Strided(widths=(3,), kernels=(3,), strides=(2,), hidden=(), ramp=(0.3, 0.6)),
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


def test_the_box_of_a_relu_has_the_slopes_of_its_ends() -> None:
    """Of [-1, 3]: [0, 3], centre and radius 1.5; only the upper end moves, by c + r, so each of
    (centre, radius) moves with half of each. Of [1, 5] all of it passes, of [-5, -1] nothing."""
    centre = torch.tensor([1.0, 3.0, -3.0], requires_grad=True)
    radius = torch.tensor([2.0, 2.0, 2.0], requires_grad=True)
    layer = nn.Sequential(nn.ReLU())
    bounds = Bounds(layer)
    box = bounds(centre - radius, centre + radius)
    assert box.centre.tolist() == [1.5, 3.0, 0.0]
    assert box.radius.tolist() == [1.5, 2.0, 0.0]
    (5 * box.centre + 2 * box.radius).sum().backward()
    assert centre.grad is not None
    assert radius.grad is not None
    assert centre.grad.tolist() == [3.5, 5.0, 0.0]
    assert radius.grad.tolist() == [3.5, 2.0, 0.0]


def test_initial_weights_neither_widen_nor_narrow_a_box() -> None:
    """Normal, sqrt(2 π) / fan in: 2.5066 / 48 = 0.05222 of the first kernel (3 x 4 x 4), 0.00392 of
    a layer of 640 units. E|w| is then 2 / fan in, the radius doubles, and a ReLU halves it."""
    wide = {"widths": (64, 64), "kernels": (4, 3), "strides": (2, 1), "hidden": (640, 640)}
    model = Strided(**wide, init="ibp").build((3, 12, 12), 10, Stream(0))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    spreads = [float(layer.weight.detach().std()) for layer in layers]
    assert spreads[0] == pytest.approx(0.05222, rel=0.05)
    assert spreads[3] == pytest.approx(0.00392, rel=0.02)
    assert spreads[4] == pytest.approx(640**-0.5 / 3**0.5, rel=0.05)  # the logits': as it was
    x = torch.rand(16, 3, 12, 12, generator=Stream(1).torch())
    growth = {}
    for name, net in (
        ("ibp", model),
        ("default", Strided(**wide).build((3, 12, 12), 10, Stream(0))),
    ):
        radii = []
        for until in (2, 4, 7, 9):  # behind each ReLU
            with torch.no_grad():
                box = Bounds(nn.Sequential(*list(net)[:until]))(x - 0.3, x + 0.3)  # type: ignore[call-overload]
            radii.append(float(box.radius.mean()))
        growth[name] = radii[-1] / radii[0]
    assert 0.5 < growth["ibp"] < 2
    assert growth["default"] > 50


def test_the_setting_of_initial_weights_changes_no_address() -> None:
    assert "init" not in Strided().canonical()
    assert '"init":"ibp"' in Strided(init="ibp").canonical()


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


class Two(nn.Module):
    """Two linear layers, put together in ways that a graph of layers does not always show."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.a, self.b = nn.Linear(16, 3), nn.Linear(16, 3)
        self.shift = nn.Parameter(torch.tensor([0.3, -0.2, 0.1]))
        if way == "hook":
            self.a.register_forward_hook(lambda *call: -call[-1])

    def forward(self, x: Tensor, more: Tensor | None = None) -> Tensor:
        x = x.flatten(1)
        if self.way == "another input" and more is not None:
            x = x + more.flatten(1)
        a: Tensor = self.a(x)
        b: Tensor = self.b(x)
        if self.way == "alpha":
            return torch.add(a, b, alpha=-5)
        if self.way == "in place":
            return F.relu(a, inplace=True) + a
        if self.way == "keyword":
            return torch.flatten(input=a, start_dim=1)
        return a + self.shift.view(1, -1)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("alpha", "operation add"),
        ("in place", "does not answer as the graph"),
        ("hook", "does not answer as the graph"),
        ("another input", "does not answer as the graph"),
        ("keyword", "operation flatten .* as it is called here"),
    ],
)
def test_nothing_is_certified_of_another_function_than_the_network(way: str, words: str) -> None:
    """By the graph alone the first three would be certified to be what the network does not say."""
    torch.manual_seed(0)
    clf = Classifier(Two(way).eval(), classes="abc")
    x = torch.rand(30, 1, 4, 4)
    with pytest.raises(AssayError, match=words):
        ibp(clf, x, (clf.predict(x) + 1) % 3, eps=0.0)


def test_what_cannot_be_copied_is_said() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(AssayError, match=r"cannot be copied in float64.*smoothing"):
        ibp(Classifier(model, classes="abc"), torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), eps=0.1)


def test_where_a_device_has_no_float64_the_processor_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clf = classifier("plain")
    x = torch.rand(4, 2, 8, 8, generator=Stream(1).torch())
    y = clf.predict(x)
    expected = ibp(clf, x, y, eps=0.01).margin
    monkeypatch.setattr(Classifier, "device", property(lambda _: torch.device("mps")))
    assert torch.equal(ibp(clf, x, y, eps=0.01).margin, expected)


def test_a_parameter_may_be_reshaped_on_its_way() -> None:
    torch.manual_seed(0)
    clf = Classifier(Two("shifted").eval(), classes="abc")
    x = torch.rand(30, 1, 4, 4)
    found = ibp(clf, x, clf.predict(x), eps=0.0)
    leads = clf.query(x).topk(2).values
    torch.testing.assert_close(found.margin.float(), leads[:, 1] - leads[:, 0])


def test_what_rounds_too_much_is_not_certified() -> None:
    torch.manual_seed(0)
    clf = Classifier(Two("shifted").to(torch.bfloat16).eval(), classes="abc")
    with pytest.raises(AssayError, match=r"bfloat16 rounds.*model\.float\(\)"):
        ibp(clf, torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.int64), eps=0.0)
