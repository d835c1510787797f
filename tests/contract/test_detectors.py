"""What every detector promises. A new one joins by its line in the registry."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.core.random import Stream
from assay.described import described
from assay.errors import AssayError
from assay.models.autoencoder import Autoencoder, VariationalAutoencoder
from assay.ood import ASH, DICE, SCALE, AnyDetector, Detector, FittedDetector, detectors
from contract.untouched import untouched

each = pytest.mark.parametrize("kind", detectors().values(), ids=detectors().keys())


def inliers(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Stripes, columns and checks on 8x8 pixels, in noise: three classes."""
    draw = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    kinds = torch.stack([rows % 2, columns % 2, (rows + columns) % 2]).float()
    y = torch.randint(0, 3, (n,), generator=draw)
    noise = 0.15 * torch.randn(n, 1, 8, 8, generator=draw)
    return (0.2 + 0.6 * kinds[y][:, None] + noise).clamp(0, 1), y


def static(n: int, seed: int) -> Tensor:
    """Noise over the whole range: more detail than anything trained on."""
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def outliers(n: int, seed: int) -> Tensor:
    """The same noise around nothing: grey."""
    draw = torch.Generator().manual_seed(seed)
    return (0.5 + 0.15 * torch.randn(n, 1, 8, 8, generator=draw)).clamp(0, 1)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16), nn.ReLU()
        )
        model.append(nn.Linear(16, 3))
    x, y = inliers(300, seed=1)
    steps = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        loss = nn.functional.cross_entropy(model(x - 0.5), y)
        steps.zero_grad()
        loss.backward()
        steps.step()
    return Classifier(model, mean=[0.5])


@pytest.fixture(scope="module")
def seen(classifier: Classifier) -> dict[str, Embedding]:
    """What the trained network makes of four sets of images."""
    train, validation, test = (inliers(n, seed) for n, seed in ((300, 1), (200, 2), (200, 3)))
    every = [kind() for kind in detectors().values()]
    made = {
        "train": classifier.embed(*train, readers=every),
        "validation": classifier.embed(*validation, readers=every),
        "test": classifier.embed(*test, readers=every),
        "outside": classifier.embed(outliers(200, seed=4), readers=every),
        "static": classifier.embed(static(200, seed=4), readers=every),
        "coarse validation": classifier.embed(coarse(validation[0])),
        "coarse test": classifier.embed(coarse(test[0])),
    }
    return {name: e.with_autoencoder(autoencoder(train[0])) for name, e in made.items()}


def coarse(x: Tensor) -> Tensor:
    """In four grey levels: what can be shortened."""
    return (x * 3).round() / 3


def suited(kind: type[Detector], seen: dict[str, Embedding]) -> dict[str, Embedding]:
    """Return sets that the detector can tell apart: grey under the same noise is nothing unusual
    to those that look at images alone, and 64 noisy values are as long as any others."""
    name = kind().name
    if name not in ("complexity", "reconstruction", "evidence-bound"):
        return seen
    few = {part: seen[f"coarse {part}"] for part in ("validation", "test")}
    return {**seen, "outside": seen["static"], **(few if name == "complexity" else {})}


@cache
def autoencoder(x: Tensor) -> Autoencoder:
    model = VariationalAutoencoder(widths=(8,), code=6).build((1, 8, 8), Stream(0))
    steps = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(150):
        loss = model.loss(x, Stream(1).child(step).rows(range(len(x))))
        steps.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        steps.step()
    return model


def fitted(kind: type[Detector], seen: dict[str, Embedding]) -> FittedDetector:
    return kind().fit(seen["train"], calibrate=seen["validation"])


def bare(kind: type[Detector], seen: dict[str, Embedding]) -> FittedDetector:
    """One without a threshold, whether it can be fitted without calibration or not."""
    if kind.learns_from == "training":
        return kind().fit(seen["train"])
    return replace(fitted(kind, seen), cut=None, tpr=None, calibrated_on=0)


def skip_what_is_blind(kind: type[Detector]) -> None:
    if kind in (DICE, ASH, SCALE):
        pytest.skip("blind to grey on this network's 16 features, as its formula has it")


@each
def test_outliers_score_higher_than_inliers(
    kind: type[Detector], seen: dict[str, Embedding]
) -> None:
    skip_what_is_blind(kind)
    seen = suited(kind, seen)
    detector = fitted(kind, seen)
    inside, strange = detector.score(seen["test"]), detector.score(seen["outside"])
    assert tuple(inside.shape) == (200,)
    truth = torch.cat([torch.zeros(200), torch.ones(200)])
    assert roc_auc_score(truth, torch.cat([inside, strange])) > 0.9


@each
def test_the_threshold_lets_through_what_it_says(
    kind: type[Detector], seen: dict[str, Embedding]
) -> None:
    seen = suited(kind, seen)
    detector = fitted(kind, seen)
    assert detector.calibrated_on in (200, 100)  # half, where the other half is learned from
    every = 200 // detector.calibrated_on
    held = seen["validation"].rows(slice(every - 1, None, every))
    kept = (~detector.is_outlier(held)).double().mean()
    tied = (detector.score(held) == detector.threshold).double().mean()
    assert 0.95 <= float(kept) <= 0.965 + float(tied)
    # 200 fresh ones: within 4 standard deviations of two samples of that size
    assert float((~detector.is_outlier(seen["test"])).double().mean()) > 0.95 - 4 * 0.022
    assert detector.lets_through.low < 0.95 < detector.lets_through.high
    assert detector.cut_between is not None
    assert detector.cut_between[0] <= detector.threshold <= detector.cut_between[1]
    loose = kind().fit(seen["train"], calibrate=seen["validation"], tpr=0.5)
    assert loose.threshold < detector.threshold
    skip_what_is_blind(kind)
    assert float(detector.is_outlier(seen["outside"]).double().mean()) > 0.5


@each
def test_without_calibration_there_is_no_threshold(
    kind: type[Detector], seen: dict[str, Embedding]
) -> None:
    detector = bare(kind, seen)
    with pytest.raises(AssayError, match="has no threshold"):
        _ = detector.threshold
    with pytest.raises(AssayError, match="has no threshold"):
        detector.is_outlier(seen["test"])


@each
def test_calibration_on_the_fitted_data_is_refused(
    kind: type[Detector], classifier: Classifier, seen: dict[str, Embedding]
) -> None:
    again = classifier.embed(*inliers(300, seed=1))
    for same in (seen["train"], again, replace(again, source=None, y=None)):
        with pytest.raises(AssayError, match="cannot be calibrated on the data"):
            kind().fit(seen["train"], calibrate=same)


@each
def test_a_row_is_scored_by_itself(kind: type[Detector], seen: dict[str, Embedding]) -> None:
    detector, e = fitted(kind, seen), seen["test"]
    for some in (slice(5, 9), torch.tensor([3, 40, 41])):
        torch.testing.assert_close(detector.score(e.rows(some)), detector.score(e)[some])
    assert torch.equal(detector.score(e), detector.score(e))
    assert torch.equal(detector.score(e), fitted(kind, seen).score(e))


@each
def test_a_saved_detector_is_the_same(
    kind: type[Detector], seen: dict[str, Embedding], tmp_path: Path
) -> None:
    for detector in (fitted(kind, seen), bare(kind, seen)):
        detector.save(tmp_path / "detector.safetensors")
        loaded = FittedDetector.load(tmp_path / "detector.safetensors")
        assert loaded.detector == detector.detector
        assert loaded.cut == detector.cut
        assert (loaded.tpr, loaded.calibrated_on) == (detector.tpr, detector.calibrated_on)
        assert (loaded.notes, loaded.cut_between) == (detector.notes, detector.cut_between)
        assert torch.equal(loaded.score(seen["outside"]), detector.score(seen["outside"]))
        assert [path.name for path in tmp_path.iterdir()] == ["detector.safetensors"]


@each
def test_no_labels_are_needed_where_only_logits_are(
    kind: type[Detector], seen: dict[str, Embedding]
) -> None:
    if kind.needs != {"logits"} or kind.learns_from != "training":
        pytest.skip("it reads more than the logits, or learns from more than training data")
    bare = Embedding(logits=seen["train"].logits, features=None)
    expected = kind().fit(seen["train"], seen["train"].y).score(seen["test"])
    assert torch.equal(kind().fit(bare).score(Embedding(seen["test"].logits, None)), expected)


@each
def test_nothing_is_changed(kind: type[Detector], seen: dict[str, Embedding]) -> None:
    e = seen["train"]
    before = e.logits.clone()
    assert e.oracle is not None
    state = torch.random.get_rng_state()
    with untouched(e.oracle.model):
        fitted(kind, seen).score(seen["outside"])
    assert torch.equal(e.logits, before)
    assert torch.equal(torch.random.get_rng_state(), state), "drew from the ambient generator"


@each
def test_the_model_comes_back_after_an_exception_in_the_middle(
    kind: type[Detector], seen: dict[str, Embedding]
) -> None:
    """Only a detector that asks the model again can meet one."""

    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, _: Tensor) -> Tensor:
            raise RuntimeError("broken in the middle")

    model = Breaks().train()
    detector, e = fitted(kind, seen), replace(seen["test"], oracle=Classifier(model))
    with untouched(model), contextlib.suppress(AssayError, RuntimeError):
        detector.score(e)
    with untouched(model), contextlib.suppress(AssayError, RuntimeError):
        kind().fit(e)


@each
def test_mistakes_are_refused(kind: type[Detector], seen: dict[str, Embedding]) -> None:
    e = seen["train"]
    with pytest.raises(AssayError, match="7 labels for 300 rows"):
        kind().fit(e, torch.zeros(7).long())
    with pytest.raises(AssayError, match="fraction between 0 and 1"):
        kind().fit(e, calibrate=seen["validation"], tpr=95)
    few = seen["validation"].rows(slice(0, 18))
    with pytest.raises(AssayError, match="takes at least 19 rows to calibrate on, got") as said:
        kind().fit(e, calibrate=few)
    most = float(str(said.value).split("a tpr of at most ")[1])
    assert kind().fit(e, calibrate=few, tpr=most).calibrated_on
    with pytest.raises(AssayError, match="rows to calibrate on"):
        kind().fit(e, calibrate=few, tpr=most + 0.01)
    other = replace(seen["test"], logits=torch.zeros(200, 5))
    with pytest.raises(AssayError, match="with 3 outputs, and these rows come from one with 5"):
        bare(kind, seen).score(other)


@each
def test_a_config_is_read_back_as_it_was_printed(kind: type[Detector]) -> None:
    config = kind()
    assert kind.from_yaml(config.to_yaml()) == config
    adapter = TypeAdapter(AnyDetector)
    assert adapter.validate_python(config.model_dump(mode="json")) == config
    assert all(described(kind).values())
    with pytest.raises(AssayError, match="unknown key"):
        kind.parse({"no_such_key": 1})
