"""From Python: arrays and data sets are taken, bare modules said, and results short to print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import trained as networks

import assay
from assay.attacks import PGD, Square
from assay.auditing import AuditConfig
from assay.auditing.order import Examples
from assay.auditing.registry import Accuracy
from assay.data.dataset import drawn
from assay.explain import GradCAM

SHORT = AuditConfig(sections=(Accuracy(),))


@pytest.fixture(scope="module")
def clf() -> assay.Classifier:
    return networks.digit_net("natural")


@pytest.fixture(scope="module")
def digits() -> Any:
    return assay.load_data("digits").sample(30)


@pytest.mark.parametrize(
    "use",
    [
        lambda module, x, y: PGD()(module, x, y),
        lambda module, x, y: Square(queries=3)(module, x, y),
        lambda module, x, y: GradCAM()(module, x, y),
        lambda module, x, y: assay.audit(module, x, y),
    ],
)
def test_a_bare_module_is_told_to_be_wrapped(use: Any, clf: assay.Classifier, digits: Any) -> None:
    x, y = digits.take(30)
    with pytest.raises(assay.AssayError, match=r"wrap it in assay\.Classifier\(convnet, mean="):
        use(clf.model, x, y)


def test_arrays_are_taken_where_tensors_are(clf: assay.Classifier, digits: Any) -> None:
    x, y = digits.take(30)
    arrays = x.numpy(), y.numpy()
    arrays[0].setflags(write=False)
    assert torch.equal(clf(arrays[0]), clf.query(x))
    assert torch.equal(clf.predict(arrays[0]), clf.predict(x))
    assert torch.equal(clf.embed(*arrays).logits, clf.embed(x, y).logits)
    attack = PGD(eps=0.1, steps=2)
    assert torch.equal(attack(clf, *arrays).adversarial, attack(clf, x, y).adversarial)
    assert torch.equal(GradCAM()(clf, *arrays).values, GradCAM()(clf, x, y).values)
    seen, known = (assay.audit(clf, *given, config=SHORT) for given in (arrays, (x, y)))
    assert seen.report.accuracy == known.report.accuracy


def test_a_dataset_brings_its_labels(clf: assay.Classifier, digits: Any) -> None:
    found = assay.audit(clf, digits, config=SHORT)
    x, y = digits.take(30)
    assert found.report.accuracy == assay.audit(clf, x, y, config=SHORT).report.accuracy
    assert found.report.made.data == {"digits/test": digits.fingerprint}
    with pytest.raises(assay.AssayError, match="brings its own labels"):
        assay.audit(clf, digits, y)
    with pytest.raises(assay.AssayError, match="needs labels"):
        assay.audit(clf, x)


def test_results_are_short_to_print(clf: assay.Classifier, digits: Any, tmp_path: Path) -> None:
    found = assay.audit(clf, digits, config=SHORT, title="Net")
    assert repr(found).startswith("Audit('Net', 1 checks: 1 ")
    assert len(repr(found)) < 100
    assert str(found).startswith("Net\n")
    assert len(str(found).splitlines()) == 2 + len(found.checks)
    maps = GradCAM(layer="stages.0")(clf, digits.take(3)[0])
    assert repr(maps).startswith("Attribution(3 maps of 28 × 28, layer 'stages.0', ")
    assert found.save(tmp_path / "r.json") == tmp_path / "r.json"
    assert json.loads((tmp_path / "r.json").read_text()) == found.to_dict()
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_an_array_of_bytes_is_told_to_be_divided(clf: assay.Classifier) -> None:
    with pytest.raises(assay.AssayError, match="divide by 255"):
        clf(np.zeros((2, 1, 28, 28), np.uint8))


def test_the_first_rows_of_sorted_images_stand_for_all(clf: assay.Classifier) -> None:
    """They are drawn as the command draws them; an order that says nothing of classes is kept."""
    config = AuditConfig(sections=("accuracy", "robustness"), attacks=(PGD(steps=1),), attacked=30)
    x, y = assay.load_data("digits").take(60)
    order = y.argsort(stable=True)
    x, y = x[order], y[order]
    found = assay.audit(clf, x, y, config=config)
    rows = torch.from_numpy(found.arrays.pop("rows"))
    assert torch.equal(rows, drawn(torch.arange(60)))
    assert len(y[rows][:30].unique()) == 10
    assert found.report.made.config["inputs"]["order"].startswith("drawn by seed 0")
    kept = assay.audit(clf, x[rows], y[rows], config=config)
    assert "order" not in kept.report.made.config["inputs"]
    assert kept.arrays.keys() == found.arrays.keys()
    assert all(np.array_equal(kept.arrays[name], found.arrays[name]) for name in kept.arrays)


def test_all_that_is_known_of_sorted_images_is_drawn_with_them() -> None:
    y, places = torch.arange(40) // 20, list(range(40))
    masks = torch.arange(40)[:, None, None]
    found = Examples(places, y, masks, {"place": places}).mixed()
    assert found.rows is not None
    assert found.x == found.metadata["place"] == found.rows.tolist() != places
    assert torch.equal(found.y, y[found.rows])
    some = found.first(10)
    assert some.masks is not None
    assert some.x == some.masks.flatten().tolist() == found.rows[:10].tolist()
    assert Examples(places, y, masks[:3]).mixed().rows is None  # what does not fit is refused later


def test_reference_images_that_are_sorted_are_mixed_before_they_are_halved(
    clf: assay.Classifier, digits: Any
) -> None:
    config = AuditConfig(
        sections=("outliers",), outliers=("uniform-noise",), detectors=("max-logit",)
    )
    train, labels = assay.load_data("digits", split="train").take(60)
    order = labels.argsort(stable=True)
    examples = Examples(train[order], labels[order]).mixed()
    given = [(train[order], labels[order]), (examples.x, examples.y)]
    found = [assay.audit(clf, digits, reference=one, config=config) for one in given]
    assert found[0].report.ood == found[1].report.ood
    assert len(examples.y[:30].unique()) == 10
