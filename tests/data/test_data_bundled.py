"""What is inside the package: digits, shapes and noise, and the face of a Dataset."""

from __future__ import annotations

import base64
import io
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core.source import Source
from assay.data import Dataset, load_data, noise, outliers
from assay.data.dataset import channel_moments
from assay.data.outliers import fitted
from assay.data.shapes import OUTLINES
from assay.errors import AssayError

FINGERPRINTS = {
    ("digits", "train"): "e1681e1e499d1b97559064f999921ec311de3d8009b3c0b81dc3a3b2e6a91409",
    ("digits", "validation"): "9806ddc80a36227bdb5be35f3bc48097a5ff006a0121d7b2daa6d24ca8c813b0",
    ("digits", "test"): "c9fdab690c3f45ffc2b25f30fa2f98b011e8865d15ece2e32dc87503b443262e",
    ("shapes", "train"): "c9562a2e72982c81c2ecbf1749093f6e251ae764d96fa956e164012624c8740d",
    ("shapes", "validation"): "32cc7bb39fa0e03a386462d853ea2783fdf960ff99bfadf4e60899a622711a2a",
    ("shapes", "test"): "4018d1d4e40f2dbae80b2c2532379756879cab5ba13a4a3a0220a202613d691e",
}


@pytest.mark.parametrize(("name", "split"), FINGERPRINTS)
def test_bundled_sets_never_change(name: str, split: str) -> None:
    assert load_data(name, split=split).fingerprint == FINGERPRINTS[name, split]


@pytest.mark.parametrize(("split", "each"), [("train", 450), ("validation", 50), ("test", 100)])
def test_digits_are_balanced(split: str, each: int) -> None:
    data = load_data("digits", split=split)
    assert data.labels.bincount().tolist() == [each] * 10
    assert data.images.shape == (10 * each, 1, 28, 28)
    assert data.classes == tuple("0123456789")


@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_are_rows_of_mnist(split: str, shared_data: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    image = pytest.importorskip("PIL.Image")
    packed = files("assay.data").joinpath("bundled/digits.npz")
    with packed.open("rb") as file, np.load(file) as arrays:
        rows, pixels, labels = (arrays[f"{split}_{part}"] for part in ("rows", "images", "labels"))
    table = parquet.read_table(shared_data / "mnist" / f"{split}-00000-of-00001.parquet")
    assert (table["label"].to_numpy()[rows] == labels).all()
    for index in (0, 123, len(rows) - 1):
        data = table["image"][int(rows[index])]["bytes"].as_py()
        assert (np.asarray(image.open(io.BytesIO(data))) == pixels[index]).all()
    # and the set shows them, all and in that order but for those held out
    shown = load_data("digits", split=split)
    given = {(pixel.tobytes(), int(label)) for pixel, label in zip(pixels, labels, strict=True)}
    seen = [
        (pixel.numpy().tobytes(), int(label))
        for pixel, label in zip(shown.images, shown.labels, strict=True)
    ]
    assert set(seen) <= given
    assert len(set(seen)) == len(shown)


def test_digits_validation_shares_no_image_with_train() -> None:
    seen = [
        {image.numpy().tobytes() for image in load_data("digits", split=split).images}
        for split in ("train", "validation", "test")
    ]
    assert [len(images) for images in seen] == [4500, 500, 1000]  # no copies within a split
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]


def test_shapes_are_balanced_and_their_masks_hold_the_object() -> None:
    data = load_data("shapes", split="test")
    assert data.labels.bincount().tolist() == [200] * 8
    assert data.classes == tuple(OUTLINES)
    assert data.masks is not None
    # the colour changes across the outline: inside and outside differ in every image
    x = data.images.float() / 255
    inside, outside = data.masks[:, None], ~data.masks[:, None]
    difference = (x * inside).sum((2, 3)) / inside.sum((2, 3)) - (x * outside).sum(
        (2, 3)
    ) / outside.sum((2, 3))
    assert difference.abs().amax(1).min() > 0.15
    # and the background is not what tells: outside the mask, mean colours agree between classes
    for label in range(8):
        assert (x[data.labels == label].mean((0, 2, 3)) - 0.5).abs().max() < 0.08


@pytest.mark.parametrize(
    ("kind", "area"),
    # of the outlines in units of their radius, worked out by hand
    [
        ("circle", np.pi * 0.9),
        ("ring", np.pi * (1 - 0.36)),
        ("square", 4 * 0.82**2),
        ("frame", 4 * (0.88**2 - 0.52**2)),
        ("triangle", 1.65**2 / 1.7320508),
        ("cross", 4 * (0.6 * 1.0) - 4 * 0.3**2),
    ],
)
def test_outlines_have_the_areas_of_their_kinds(kind: str, area: float) -> None:
    axis = (np.arange(2000) + 0.5) / 1000 - 1
    u, v = np.meshgrid(axis * 1.2, axis * 1.2)
    measured = OUTLINES[kind](u, v).mean() * 2.4**2
    assert measured == pytest.approx(area, rel=2e-3)


@pytest.mark.parametrize(("kind", "area"), [("circle", np.pi * 0.9), ("cross", 2.4 - 0.36)])
def test_masks_have_the_areas_of_the_objects(kind: str, area: float) -> None:
    data = load_data("shapes", split="train")
    assert data.masks is not None
    masks = data.masks[data.labels == data.classes.index(kind)]
    # the radius is uniform from 5 to 11 pixels, so that its square is 67 in the mean, give or take
    # 28 for each of 500 images
    assert masks.float().sum((1, 2)).mean() == pytest.approx(67 * area, rel=0.05)


def test_shapes_seeds_and_splits_differ() -> None:
    first = load_data("shapes", split="validation")
    other = load_data("shapes", split="validation", seed=1)
    assert first.fingerprint != other.fingerprint
    test = load_data("shapes", split="test")
    assert not torch.equal(first.images[:50], test.images[:50])


def test_take_is_stable_and_fewer_begin_more() -> None:
    data = load_data("digits")
    few, few_y = data.take(100)
    many, many_y = data.take(500)
    assert torch.equal(few, many[:100])
    assert torch.equal(few_y, many_y[:100])
    everything, _ = data.take(10**6)
    assert torch.equal(everything[:500], many)
    assert len(everything) == 1000
    assert not torch.equal(few, data.take(100, seed=1)[0])
    assert not torch.equal(few, data.images[:100].float() / 255)  # random, not the first ones
    assert few.dtype == torch.float32
    assert few.max() == 1.0
    # and a sample of all classes, not a run of one
    assert few_y.bincount(minlength=10).min() >= 2


def test_take_pairs_images_with_their_labels() -> None:
    data = load_data("digits")
    x, y = data.take(50)
    label = {image.numpy().tobytes(): int(y) for image, y in zip(data.images, data.labels)}  # noqa: B905
    for image, expected in zip((x * 255).round().to(torch.uint8), y, strict=True):
        assert label[image.numpy().tobytes()] == int(expected)


def test_take_nothing_is_an_error() -> None:
    with pytest.raises(AssayError, match="at least one image, not 0"):
        load_data("digits").take(0)


def test_a_dataset_is_a_source() -> None:
    data = load_data("digits")
    source: Source = data
    assert source.length == 1000
    ids, xs, ys = zip(*source.batches(300), strict=True)
    assert [len(x) for x in xs] == [300, 300, 300, 100]
    assert torch.equal(torch.cat(ids), torch.arange(1000))
    assert torch.equal(torch.cat(xs), data.images.float() / 255)
    assert torch.equal(torch.cat(ys), data.labels)


def test_a_subset_keeps_ids_and_has_its_own_fingerprint() -> None:
    data = load_data("shapes")
    stars = data.subset(data.labels == data.classes.index("star"))
    assert len(stars) == 200
    assert stars.labels.unique().tolist() == [data.classes.index("star")]
    assert torch.equal(data.images[stars.ids], stars.images)
    assert data.masks is not None
    assert stars.masks is not None
    assert torch.equal(data.masks[stars.ids], stars.masks)
    again = stars.subset([5, 3])
    assert again.ids.tolist() == stars.ids[[5, 3]].tolist()
    assert len({data.fingerprint, stars.fingerprint, again.fingerprint}) == 3
    assert again.mean == pytest.approx((again.images.double() / 255).mean((0, 2, 3)).tolist())
    with pytest.raises(AssayError, match=r"rows from 0 to 200 requested of shapes .*which has 200"):
        stars.subset([0, 200])


def test_moments_are_those_of_the_pixels() -> None:
    images = torch.randint(256, (500, 3, 7, 5), generator=torch.Generator().manual_seed(0)).byte()
    images[:, 1] //= 3
    mean, std = channel_moments(images)
    x = images.double() / 255
    assert mean == pytest.approx(x.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert std == pytest.approx(x.std((0, 2, 3), correction=0).tolist(), abs=1e-12)


def test_noise_has_its_distribution() -> None:
    uniform = noise("uniform", (3, 16, 16), 200)
    levels = uniform.images.flatten().bincount(minlength=256).float()
    expected = levels.sum() / 255
    assert levels[1:255].sub(expected).abs().max() < 6 * expected.sqrt()
    gaussian = noise("gaussian", (1, 16, 16), 500)
    # within one standard deviation of the middle: 0.25 to 0.75
    x = gaussian.images.float() / 255
    assert ((x > 0.25) & (x < 0.75)).float().mean() == pytest.approx(0.6827, abs=0.01)
    assert (x == 1).float().mean() == pytest.approx(0.0228, abs=0.003)  # clipped at 2 sigma
    assert torch.equal(noise("uniform", (3, 16, 16), 50).images, uniform.images[:50])
    assert (uniform.labels == -1).all()


def test_outliers_are_brought_to_the_shape_of_the_model() -> None:
    shapes = outliers("shapes", (1, 28, 28), 20)
    assert shapes.images.shape == (20, 1, 28, 28)
    assert (shapes.labels == -1).all()
    drawn, _ = load_data("shapes").take(20)
    # scaling keeps the mean; luma is that of BT.601
    luma = drawn[:, 0] * 0.299 + drawn[:, 1] * 0.587 + drawn[:, 2] * 0.114
    middle = shapes.images[:, 0].float().mean((1, 2)) / 255
    assert torch.allclose(middle, luma.mean((1, 2)), atol=0.01)
    grey = torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3)
    assert torch.equal(fitted(grey, (3, 2, 3)), grey.expand(1, 3, 2, 3))


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("digits", "tset", "unknown split of digits 'tset': did you mean 'test'"),
        ("digit", "test", "no such folder: 'digit': did you mean 'digits'"),
        ("./nowhere", "test", "no such folder: 'nowhere'"),
    ],
)
def test_wrong_names_are_told(name: str, split: str, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        load_data(name, split=split)


def test_a_dataset_says_what_it_is() -> None:
    data = load_data("shapes")
    assert repr(data) == "Dataset('shapes', 'test', 1600 images of 3×32×32, 8 classes)"
    assert data.to_dict()["n"] == 1600
    assert isinstance(data, Dataset)


def test_a_dataset_shows_itself_in_a_notebook() -> None:
    image = pytest.importorskip("PIL.Image")
    data = load_data("shapes")
    html = data._repr_html_()
    x, y = data.take(8)
    sources = re.findall(r'src="data:image/png;base64,([^"]+)" alt="(\w+)"', html)
    assert [name for _, name in sources] == [data.classes[label] for label in y]
    shown = np.asarray(image.open(io.BytesIO(base64.b64decode(sources[3][0]))))
    assert (shown == (x[3] * 255).round().permute(1, 2, 0).numpy()).all()
    assert 'alt=""' in noise("uniform", (1, 8, 8), 3)._repr_html_()
