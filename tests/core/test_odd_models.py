"""Models as people have them: each works, or gets one clear line, and comes back as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import PGD
from assay.core.classifier import Classifier, check_gradient
from assay.core.fast import fast_copy
from assay.core.oracle import gradient
from assay.errors import AssayError


class Net(nn.Module):
    """A small convolutional network; what derives from it has one oddity."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


class Raises(Net):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        del x
        raise self.error


class ChangesItsWeights(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.head.weight.data.mul_(0.5)  # seen by no version counter
        return super().forward(x)


class ReplacesItsWeights(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.head.bias = nn.Parameter(self.head.bias.detach() + 1)
        return super().forward(x)


class Counts(Net):
    """Counts its calls, and keeps what it was given last, as a cache does."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("cache", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.cache = x.detach().clone()
        return super().forward(x)


class FourAtATime(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(4, 3, 8, 8))


class Returns(Net):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(super().forward(x))


def quietly(make: Callable[[], nn.Module]) -> nn.Module:
    """Make a module of a kind that torch calls deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def scripted() -> nn.Module:
    return quietly(lambda: torch.jit.script(Net()))


def frozen() -> nn.Module:
    return quietly(lambda: torch.jit.freeze(torch.jit.script(Net().eval())))


def quantized() -> nn.Module:
    kinds = torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = next(kind for kind in kinds if kind != "none")
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    return quietly(lambda: torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}))


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Net()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


Y = torch.arange(6) % 3


def everything(clf: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Ask in every way that there is; return the logits, and what the detectors would read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, of TorchScript
        fast_copy(clf, x)
        PGD(eps=0.1, steps=2)(clf, x, Y)
        return clf.query(x), clf.embed(x).logits


@pytest.mark.parametrize("make", [scripted, frozen, Counts, FourAtATime])
def test_odd_models_that_work(make: Callable[[], nn.Module], x: Tensor) -> None:
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    clf = Classifier(model, batch_size=4 if make is FourAtATime else None)
    logits, embedded = everything(clf, x)
    with torch.no_grad():
        expected = Net()(x)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(embedded, expected)
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_no_batch_is_padded_to_what_fits_into_no_memory(x: Tensor) -> None:
    with pytest.raises(AssayError, match="the model fails on these images"):
        Classifier(FourAtATime(), batch_size=10**12).query(x[:3])


def test_a_model_of_one_batch_size_has_gradients_and_features_of_every_row(x: Tensor) -> None:
    clf = Classifier(FourAtATime(), batch_size=4)
    with clf.borrowed():
        _, slope = gradient(clf, x, Y, lambda logits, y: logits.gather(1, y[:, None])[:, 0])
    plain = Classifier(Net())
    _, expected = gradient(plain, x, Y, lambda logits, y: logits.gather(1, y[:, None])[:, 0])
    torch.testing.assert_close(slope, expected)
    kept = clf.embed(x, layers=["conv"]).layers["conv"]
    torch.testing.assert_close(kept, plain.embed(x, layers=["conv"]).layers["conv"])


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Raises(MemoryError()), "a single image of shape (3, 8, 8) does not fit in memory"),
        (lambda: Raises(GeneratorExit()), "the model fails on these images"),
        (lambda: Raises(SystemExit(3)), "SystemExit: 3"),
        (ChangesItsWeights, "changes its own weights (head.weight)"),
        (ReplacesItsWeights, "changes its own weights (head.bias)"),
        (FourAtATime, "the model fails on these images, (3, 8, 8) each, 6 at a time"),
        (lambda: Returns(lambda z: torch.complex(z, z)), "returned torch.complex64; logits are"),
        (lambda: Returns(lambda z: (9 * z).long()), "returned torch.int64; logits are real"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "1.weight is not made yet"),
        (on_meta, "conv.weight is on the meta device"),
        (lambda: Net().to(torch.complex64), "conv.weight is complex (torch.complex64)"),
    ],
)
def test_odd_models_that_are_refused_every_time(make: Any, line: str, x: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of complex modules
        model = make()
    lazy = any(torch.nn.parameter.is_lazy(p) for p in model.parameters())
    before = {} if lazy else {name: value.clone() for name, value in model.state_dict().items()}
    for ask in (Classifier.query, Classifier.embed, everything):
        with pytest.raises(AssayError) as caught:
            ask(Classifier(model), x)
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)
    after = model.state_dict()
    for name, value in before.items():
        assert value.is_meta or torch.equal(value, after[name])
    if before and "conv.weight" not in line:
        clf = Classifier(model)
        for _ in range(2):  # not the first time alone
            with pytest.raises(AssayError):
                clf.query(x)


def test_a_quantized_model_answers_and_has_no_gradient(x: Tensor) -> None:
    clf = Classifier(quantized())
    assert clf.query(x).shape == (6, 3)
    for ask in (check_gradient, PGD(eps=0.1, steps=1)):
        with pytest.raises(AssayError, match="has no gradient: its quantized layers"):
            ask(clf, x)


def test_ctrl_c_remains_one(x: Tensor) -> None:
    with pytest.raises(KeyboardInterrupt):
        Classifier(Raises(KeyboardInterrupt())).query(x)


def test_buffers_come_back_as_they_were_when_they_were_borrowed(x: Tensor) -> None:
    """Not as they were when it was first seen that the forward writes them."""
    net = Counts()
    clf = Classifier(net)
    clf.query(x)
    net.load_state_dict({**net.state_dict(), "calls": torch.tensor(77.0)})
    clf.query(x)
    assert (net.calls, len(net.cache)) == (77, 0)
    net.cache, net.calls = torch.ones(5), torch.tensor(3.0, dtype=torch.float64)
    clf.query(x)
    assert (net.calls, net.calls.dtype, len(net.cache)) == (3, torch.float64, 5)
