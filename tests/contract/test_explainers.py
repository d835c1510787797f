"""What every explainer promises. A new one joins by its line in the registry."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.described import described
from assay.errors import AssayError
from assay.explain import AnyExplainer, Explainer, explainers
from contract.untouched import untouched

SIZE = 16
QUADRANTS = [(0, 0), (0, 1), (1, 0), (1, 1)]

each = pytest.mark.parametrize("kind", explainers().values(), ids=explainers().keys())
of_a_class = {name: kind for name, kind in explainers().items() if kind.class_specific}


class Colours(nn.Module):
    """Says how much red, green and blue there is, and looks only where `window` is 1."""

    def __init__(self, window: Tensor | None = None) -> None:
        super().__init__()
        self.window = torch.ones(SIZE, SIZE) if window is None else window
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            # red counts where green and blue are not, and so on: grey is no colour
            opposed = 1.5 * torch.eye(3) - 0.5
            self.conv.weight.copy_((opposed / 9).view(3, 3, 1, 1).expand(3, 3, 3, 3))
            self.conv.bias.fill_(-0.05)
            self.head.weight.copy_(60 * opposed)  # sure of what it says
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.relu(self.conv(x * self.window)).mean((2, 3)))
        return out


class Attends(nn.Module):
    """Says the same of 2x2 patches, by attention: a class token looks at what is coloured."""

    def __init__(self, window: Tensor | None = None) -> None:
        super().__init__()
        self.window = torch.ones(SIZE, SIZE) if window is None else window
        self.conv = nn.Conv2d(3, 3, 2, stride=2)
        self.head = nn.Linear(3, 3)
        with torch.no_grad():
            opposed = 1.5 * torch.eye(3) - 0.5
            self.conv.weight.copy_((opposed / 4).view(3, 3, 1, 1).expand(3, 3, 2, 2))
            self.conv.bias.fill_(-0.05)
            self.head.weight.copy_(60 * torch.eye(3))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv(x * self.window).flatten(2).mT
        tokens = torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)[:, None]
        coloured = 10.0 * (tokens.amax(3, keepdim=True) > 0)
        looks = torch.ones_like(coloured)
        moved = F.scaled_dot_product_attention(looks, coloured, tokens, scale=1.0)
        out: Tensor = self.head((tokens + moved)[:, 0, 0])
        return out


def subject(kind: type[Explainer]) -> type[Colours] | type[Attends]:
    """The model that a kind of explainer is tried on."""
    return Attends if kind.of_attention else Colours


def quadrant(place: tuple[int, int]) -> tuple[slice, slice]:
    half = SIZE // 2
    row, column = place
    return slice(row * half, row * half + half), slice(column * half, column * half + half)


def window(place: tuple[int, int]) -> Tensor:
    made = torch.zeros(SIZE, SIZE)
    made[quadrant(place)] = 1
    return made


def planted() -> tuple[Tensor, list[tuple[tuple[int, int], ...]]]:
    """Grey noise with a red, a green and a blue patch, each in a quadrant of its own."""
    draw = torch.Generator().manual_seed(5)
    x = 0.4 + 0.1 * torch.rand(12, 1, SIZE, SIZE, generator=draw).expand(12, 3, -1, -1)
    x = x.clone()
    places = []
    for image in x:
        order = torch.randperm(4, generator=draw).tolist()
        places.append(tuple(QUADRANTS[i] for i in order[:3]))
        for colour, place in enumerate(places[-1]):
            rows, columns = quadrant(place)
            patch = image[:, rows.start + 2 : rows.stop - 2, columns.start + 2 : columns.stop - 2]
            patch[:] = torch.eye(3)[colour].view(3, 1, 1)
    return x, places


def share(values: Tensor, place: tuple[int, int]) -> float:
    """The share of a map's mass that lies in a quadrant: a quarter for a map of noise."""
    return float(values[quadrant(place)].sum() / values.sum())


@pytest.mark.parametrize("kind", of_a_class.values(), ids=of_a_class.keys())
@pytest.mark.parametrize("colour", [0, 1, 2])
def test_it_finds_what_speaks_for_the_class_it_is_asked_about(
    kind: type[Explainer], colour: int
) -> None:
    x, places = planted()
    maps = kind()(Classifier(subject(kind)()), x, targets=colour)
    assert not bool(maps.empty.any())
    assert maps.targets.tolist() == [colour] * len(x)
    for values, place in zip(maps.values, places, strict=True):
        assert share(values, place[colour]) > 0.8


@each
def test_targets_are_taken_image_by_image(kind: type[Explainer]) -> None:
    x, _ = planted()
    clf, targets = Classifier(subject(kind)()), torch.arange(12) % 3
    mixed = kind()(clf, x, targets)
    for colour in range(3):
        alone = kind()(clf, x[targets == colour], colour)
        torch.testing.assert_close(mixed.values[targets == colour], alone.values)


@each
@pytest.mark.parametrize("place", QUADRANTS)
def test_a_model_that_sees_one_quadrant_is_explained_by_it(
    kind: type[Explainer], place: tuple[int, int]
) -> None:
    draw = torch.Generator().manual_seed(3)
    x = torch.rand(8, 3, 2, 2, generator=draw).repeat_interleave(8, 2).repeat_interleave(8, 3)
    maps = kind()(Classifier(subject(kind)(window(place))), x)
    found = maps.values[~maps.empty]
    assert len(found) >= 4
    for values in found:
        assert share(values, place) > 0.8


@each
def test_the_same_question_has_the_same_answer(kind: type[Explainer]) -> None:
    x, _ = planted()
    clf = Classifier(subject(kind)())
    state = torch.random.get_rng_state()
    first, second = (kind()(clf, x) for _ in range(2))
    assert torch.equal(first.values, second.values)
    assert torch.equal(first.raw, second.raw)
    assert torch.equal(torch.random.get_rng_state(), state), "drew from the ambient generator"


@each
@pytest.mark.parametrize("size", [None, 1])
def test_an_image_without_an_answer_is_flagged_and_takes_no_other_away(
    kind: type[Explainer], size: int | None
) -> None:
    class Sometimes(subject(kind)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            dark = x.amax((1, 2, 3), keepdim=True) < 0.01
            out: Tensor = super().forward(x * torch.where(dark, torch.nan, 1.0))
            return out

    x, _ = planted()
    x[2] *= 0.001
    maps = kind()(Classifier(Sometimes(), batch_size=size), x, 1)
    if not kind.of_attention or maps.undefined is not None:  # weights may be finite all the same
        assert maps.undefined is not None
        assert maps.undefined.nonzero().flatten().tolist() == [2]
        assert bool(maps.empty[2])
        assert maps.to_dict()["undefined"] == 1
    assert bool(maps.raw.isfinite().all())
    others = torch.arange(len(x)) != 2
    alone = kind()(Classifier(subject(kind)(), batch_size=size), x[others], 1)
    assert alone.undefined is None
    torch.testing.assert_close(maps.values[others], alone.values)


@each
def test_maps_are_in_range_and_finite(kind: type[Explainer]) -> None:
    x = torch.rand(20, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    x[0], x[1] = 0, 1
    maps = kind()(Classifier(subject(kind)()), x, torch.arange(20) % 3)
    assert tuple(maps.values.shape) == (20, SIZE, SIZE)
    assert maps.values.dtype == torch.float32
    assert bool(maps.values.isfinite().all())
    assert float(maps.values.min()) >= 0
    assert float(maps.values.max()) <= 1
    assert bool(maps.empty[0])  # black: nothing speaks for any colour
    assert bool((maps.values[maps.empty] == 0).all())
    assert bool((maps.values[~maps.empty].amax((1, 2)) > 0.999).all())


@each
@pytest.mark.parametrize("training", [True, False])
def test_the_model_comes_back_as_it_was(kind: type[Explainer], training: bool) -> None:
    model = subject(kind)().train(training)
    model(torch.rand(2, 3, SIZE, SIZE)).sum().backward()
    model.conv.bias.requires_grad_(False)
    with untouched(model):
        kind()(Classifier(model), planted()[0])


@each
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_the_model_comes_back_after_an_exception_in_the_middle(
    kind: type[Explainer], calls: int
) -> None:
    class Breaks(subject(kind)):  # type: ignore[misc]
        left = calls

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = super().forward(x)
            if self.left == 0:
                raise RuntimeError("broken in the middle")
            self.left -= 1
            return out

    model = Breaks().train()
    with untouched(model), pytest.raises(AssayError, match="broken in the middle"):
        kind()(Classifier(model, batch_size=4), planted()[0])


class OneWay(torch.autograd.Function):
    """Lets nothing back."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(*_: Any) -> Tensor:
        raise ValueError("no way\nback")


@each
def test_a_model_that_fails_on_the_way_back_is_one_line(kind: type[Explainer]) -> None:
    class Breaks(subject(kind)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return OneWay.apply(super().forward(x))

    model, (x, _) = Breaks(), planted()
    explainer = kind(layer="conv") if "layer" in kind.model_fields else kind()
    with untouched(model):
        if explainer.name in ("score-cam", "eigen-cam", "occlusion"):  # which never go back
            assert len(explainer(Classifier(model), x).values) == len(x)
            return
        with pytest.raises(AssayError, match=r"fails on .*_explainers.py, line .* no way back$"):
            explainer(Classifier(model), x)


@each
def test_mistakes_are_refused(kind: type[Explainer]) -> None:
    clf, (x, _) = Classifier(subject(kind)()), planted()
    for images, targets in ((x * 2, None), (x[:0], None), (x, 3), (x, torch.zeros(5).long())):
        with pytest.raises(AssayError):
            kind()(clf, images, targets)


@each
def test_a_config_is_read_back_as_it_was_printed(kind: type[Explainer]) -> None:
    config = kind()
    assert kind.from_yaml(config.to_yaml()) == config
    adapter = TypeAdapter(AnyExplainer)
    assert adapter.validate_python(config.model_dump(mode="json")) == config
    assert all(described(kind).values())
    with pytest.raises(AssayError, match="unknown key"):
        kind.parse({"no_such_key": 1})


@each
def test_a_model_compiled_as_one_graph_is_explained_at_every_size(kind: type[Explainer]) -> None:
    """Dynamo refuses hooks that start a graph, and more than eight sizes of batch."""
    model, x = subject(kind)(), torch.rand(10, 3, SIZE, SIZE)
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    with untouched(compiled):
        for n in range(1, 11):
            maps = [kind()(Classifier(one), x[:n], 1).raw for one in (compiled, model)]
            assert torch.equal(*maps)
    torch._dynamo.reset()
