"""Embeddings: one pass, rows in step, and no row lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.head import Head
from assay.core.source import TensorSource
from assay.errors import AssayError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3)
        self.relu = nn.ReLU(inplace=True)
        self.squeeze = nn.Linear(5, 6)
        self.fc = nn.Linear(6, 4)
        self.unused = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x)).mean((2, 3))
        return self.fc(self.relu(self.squeeze(x)))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(23, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def by_hand(net: Net, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        conv = net.conv(x)
        squeeze = net.squeeze(conv.relu().mean((2, 3)))
        features = squeeze.relu()
        return {
            "conv": conv.mean((2, 3)),
            "squeeze": squeeze,
            "features": features,
            "logits": net.fc(features),
        }


@pytest.mark.parametrize("size", [None, 1, 5, 23])
def test_features_logits_and_layers_by_hand(x: Tensor, size: int | None) -> None:
    net = Net()
    expected = by_hand(net, x)
    y = torch.arange(23) % 4
    made = Classifier(net, batch_size=size).embed(x, y, layers=["conv", "squeeze"])
    assert torch.allclose(made.logits, expected["logits"], atol=1e-6)
    assert made.features is not None
    assert torch.allclose(made.features, expected["features"], atol=1e-6)
    assert torch.allclose(made.layers["conv"], expected["conv"], atol=1e-6)
    assert torch.allclose(made.layers["squeeze"], expected["squeeze"], atol=1e-6), "before ReLU"
    assert made.y is not None
    assert torch.equal(made.y, y)
    assert made.head is not None
    assert torch.equal(made.head.weight, net.fc.weight)
    with torch.no_grad():
        assert torch.allclose(made.head(made.features), made.logits, atol=1e-6)
    assert torch.allclose(made.probabilities.sum(1), torch.ones(23))
    assert torch.equal(made.predictions, expected["logits"].argmax(1))
    assert len(made) == 23


def test_every_row_is_asked_about_once(x: Tensor) -> None:
    clf = Classifier(Net(), batch_size=4)
    clf.embed(x)
    assert clf.queries == 23


@pytest.mark.parametrize("row", [0, 13])
def test_a_nan_keeps_the_rows_in_step(x: Tensor, row: int) -> None:
    class Sometimes(Net):
        def forward(self, x: Tensor) -> Tensor:
            dark = (x.mean((1, 2, 3)) < 0.1).view(-1, 1)
            return super().forward(x.masked_fill(dark.view(-1, 1, 1, 1), torch.nan))

    x[row] *= 0.01
    made = Classifier(Sometimes(), batch_size=5).embed(x)
    assert made.features is not None
    assert made.logits.isnan().any(1).nonzero().flatten().tolist() == [row]
    assert made.features.isnan().any(1).nonzero().flatten().tolist() == [row]
    assert made.predictions[row] == -1
    alone = Classifier(Sometimes()).embed(x[14:]).features
    assert alone is not None
    assert torch.allclose(made.features[14:], alone, atol=1e-6)


def test_unlabelled_sources_have_no_labels(x: Tensor) -> None:
    assert Classifier(Net()).embed(x).y is None


def test_a_model_that_does_not_end_in_a_linear_layer_has_no_features(x: Tensor) -> None:
    for last in (nn.Softplus(), nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Flatten(), nn.Tanh())):
        made = Classifier(nn.Sequential(Net(), last)).embed(x)
        assert made.features is None
        assert made.head is None
    made = Classifier(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten())).embed(x)
    assert made.features is None


def test_a_head_used_twice_gives_what_it_read_last(x: Tensor) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.mix, self.between = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(self.between(self.mix(x.mean((2, 3)))).tanh())

    net = Twice()
    with torch.no_grad():
        expected = net.between(net.mix(x.mean((2, 3)))).tanh()
    features = Classifier(net).embed(x).features
    assert features is not None
    assert torch.allclose(features, expected, atol=1e-6)


def test_token_layers_are_averaged_over_tokens(x: Tensor) -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc = nn.LayerNorm(3), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(x.flatten(2).transpose(1, 2))[:, 0])

    net = Patches()
    made = Classifier(net).embed(x, layers=["norm"])
    with torch.no_grad():
        expected = net.norm(x.flatten(2).transpose(1, 2)).mean(1)
    assert torch.allclose(made.layers["norm"], expected, atol=1e-6)


def test_statistics_of_layers_by_hand(x: Tensor) -> None:
    net = Net()
    with torch.no_grad():
        conv = net.conv(x).flatten(2)
    made = Classifier(net, batch_size=5).embed(x, layers=["conv:max", "conv:std", "squeeze:max"])
    expected = {"conv:max": conv.amax(2), "conv:std": conv.std(2, correction=0)}
    expected["squeeze:max"] = by_hand(net, x)["squeeze"]
    assert made.layers.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(made.layers[name], values)


class Reads:
    """Reads these layers of a model, and cannot do with one that has no `conv`."""

    def __init__(self, *layers: str) -> None:
        self.layers = layers

    def layers_of(self, model: nn.Module) -> tuple[str, ...]:
        if not hasattr(model, "conv"):
            raise AssayError("there is no conv")
        return self.layers


def test_one_pass_keeps_what_every_reader_reads(x: Tensor) -> None:
    clf = Classifier(Net(), batch_size=7)
    made = clf.embed(x, layers=["conv"], readers=[Reads("conv", "squeeze:max"), Reads("relu")])
    assert set(made.layers) == {"conv", "squeeze:max", "relu"}
    assert clf.queries == 23


def test_what_one_reader_cannot_have_is_told_and_kept_from_no_other(x: Tensor) -> None:
    readers = [Reads("cnov"), Reads("unused"), Reads("conv:men"), Reads("conv")]
    made = Classifier(Net()).embed(x, readers=readers)
    assert set(made.layers) == {"conv"}
    assert made.lacks == {
        "cnov": "unknown layer 'cnov': did you mean 'conv'? Known: conv, fc, relu, squeeze, unused",
        "unused": "layer 'unused' is not used by the model's forward",
        "conv:men": "unknown statistic 'men': did you mean 'mean'? Known: max, mean, std",
    }
    assert Classifier(nn.Sequential(Net())).embed(x, readers=readers).layers == {}


def test_a_reader_that_fails_takes_the_pass_from_no_other(x: Tensor) -> None:
    class Fails(Reads):
        def layers_of(self, model: nn.Module) -> tuple[str, ...]:
            raise KeyError(type(model).__name__)

    made = Classifier(Net()).embed(x, readers=[Fails(), Reads("conv")])
    assert set(made.layers) == {"conv"}


def test_some_of_the_rows(x: Tensor) -> None:
    y = torch.arange(23) % 4
    whole = Classifier(Net(), batch_size=6).embed(x, y, layers=["conv"])
    for some in (slice(1, 20, 3), torch.tensor([0, 4, 22])):
        part = whole.rows(some)
        assert part.features is not None
        assert part.source is not None
        expected = Classifier(Net()).embed(x[some], y[some], layers=["conv"])
        torch.testing.assert_close(part.logits, expected.logits)
        torch.testing.assert_close(part.features, expected.features)
        torch.testing.assert_close(part.layers["conv"], expected.layers["conv"])
        torch.testing.assert_close(part.y, expected.y)
        assert torch.equal(torch.cat([images for _, images in part.batches()]), x[some])
    assert whole.rows(slice(2, 3)).source.fingerprint != whole.rows(slice(3, 4)).source.fingerprint


def test_the_images_again_with_their_rows(x: Tensor) -> None:
    for made in (Classifier(Net(), batch_size=6).embed(x), Classifier(Net()).embed(Stream(x))):
        for rows, images in made.batches():
            assert torch.equal(images, x[rows])
        assert rows.stop == 23
    with pytest.raises(AssayError, match="this embedding has no source"):
        next(Embedding(torch.zeros(2, 3), None).batches())


def test_what_cannot_be_embedded_is_said(x: Tensor) -> None:
    clf = Classifier(Net())
    with pytest.raises(AssayError, match="unknown layer 'cnov': did you mean 'conv'"):
        clf.embed(x, layers=["cnov"])
    with pytest.raises(AssayError, match="layer 'unused' is not used"):
        clf.embed(x, layers=["unused"])
    with pytest.raises(AssayError, match="the source is empty"):
        clf.embed(x[:0])
    with pytest.raises(AssayError, match=r"go from 0.*to 1.9"):
        clf.embed(x * 2)


def test_hooks_are_gone_after_an_exception(x: Tensor) -> None:
    net = Net()
    with pytest.raises(AssayError):
        Classifier(net).embed(x * 2, layers=["conv"])
    assert not any(module._forward_hooks for module in net.modules())


class Stream:
    """A source whose length only a full pass would tell, in batches as they come."""

    length = None
    fingerprint = "0" * 64

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        del size  # shards come as they are
        for start, end in ((0, 3), (3, 4), (4, len(self.x))):
            yield torch.arange(start, end), self.x[start:end], torch.arange(start, end)


def test_a_source_of_unknown_length_is_embedded_whole(x: Tensor) -> None:
    clf = Classifier(Net(), batch_size=6)
    made = clf.embed(Stream(x))
    assert torch.allclose(made.logits, clf.query(x), atol=1e-6)
    assert made.y is not None
    assert made.y.tolist() == list(range(23))
    assert isinstance(clf.embed(x).source, TensorSource)


def test_no_more_rows_at_once_than_fit() -> None:
    seen: list[int] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return x.mean((2, 3)) * 9

    Classifier(Watched()).embed(torch.rand(20, 3, 224, 224))
    assert max(seen) == 5
    assert sum(seen) == 20


def test_it_says_what_it_holds(x: Tensor) -> None:
    made = Classifier(Net()).embed(x, layers=["conv"])
    assert made.to_dict() == {"n": 23, "classes": 4, "features": 6, "layers": {"conv": 5}}
    assert "23 rows: 4 logits, 6 features" in made._repr_html_()


def test_a_head_that_is_called_by_keyword_is_found() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(input=x.flatten(1))

    x = torch.rand(5, 3, 2, 2)
    found = Classifier(Named()).embed(x)
    assert torch.allclose(found.features, x.flatten(1))


def test_a_part_that_memory_does_not_suffice_for_leaves_no_rows_behind(
    x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Classifier(Net(), batch_size=8).embed(x, layers=["conv"])
    build, sizes = Head.reproduces, []

    def narrow(self: Head, features: Tensor, *more: Any) -> bool:
        sizes.append(len(features))
        if len(sizes) > 1 and len(features) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return build(self, features, *more)

    monkeypatch.setattr(Head, "reproduces", narrow)
    made = Classifier(Net(), batch_size=8).embed(x, layers=["conv"])
    assert len(made.logits) == len(made.features) == len(made.layers["conv"]) == len(x)
    torch.testing.assert_close(made.layers["conv"], whole.layers["conv"])
