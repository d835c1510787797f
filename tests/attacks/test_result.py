"""What a result says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.attacks import PGD, AttackResult, DeepFool
from assay.core.classifier import Classifier
from assay.core.random import Stream


@pytest.fixture(scope="module")
def result() -> AttackResult:
    x = Stream(1).rows(range(16)).uniform((3, 12, 12))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(800, 5))
    clf = Classifier(model)
    y = clf.predict(x)
    y[:3] = (y[:3] + 1) % 5
    return PGD(eps=0.004, steps=4)(clf, x, y, seed=7)


def test_the_record_is_json_and_agrees_with_the_arrays(result: AttackResult) -> None:
    said = json.loads(json.dumps(result.to_dict()))
    assert said["attack"] == {**PGD(eps=0.004, steps=4).model_dump(mode="json")}
    assert (said["n"], said["correct"], said["seed"]) == (16, 13, 7)
    assert said["success"] == int(result.success.sum()) > 0
    assert said["success_rate"]["n"] == 13
    assert said["success_rate"]["value"] == pytest.approx(said["success"] / 13)
    assert said["mean_queries"] == pytest.approx((3 + 13 * 6) / 16)
    assert said["evaluations"] == {"gradient": 52, "forward": 29, "check": 8}


def test_saved_arrays_are_the_results_and_bytes_repeat(
    result: AttackResult, tmp_path: Path
) -> None:
    first, second = result.save(tmp_path / "a"), result.save(tmp_path / "b")
    arrays = load_file(first / "arrays.safetensors")
    assert torch.equal(arrays["adversarial"], result.adversarial)
    assert torch.equal(arrays["success"], result.success)
    assert "targets" not in arrays
    assert json.loads((first / "attack.json").read_text()) == json.loads(
        json.dumps(result.to_dict())
    )
    for name in ("arrays.safetensors", "attack.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert sorted(path.name for path in first.iterdir()) == ["arrays.safetensors", "attack.json"]


def test_after_rounding_queries_the_model(result: AttackResult) -> None:
    rounded = (result.adversarial * 255).round() / 255
    said = result.oracle.query(rounded).argmax(1)
    expected = ((said != result.labels) & result.success & result.correct).sum() / 13
    assert result.after_rounding.value == pytest.approx(float(expected))


def test_it_shows_itself(result: AttackResult) -> None:
    page = result._repr_html_()
    assert "PGD, linf eps 0.004" in page
    assert "of 13 correctly classified images" in page
    assert "<svg" in page or "<img" in page


def test_printing_it_is_short(result: AttackResult) -> None:
    assert len(repr(result)) < 200
    assert "AttackResult(PGD, linf eps 0.004: 15.4% of 13" in repr(result)


def test_it_says_what_a_limit_has_cut(result: AttackResult) -> None:
    x, y = result.inputs, result.labels
    short = result.attack(result.oracle, x, y, query_budget=4)
    cut = int(short.cut.sum())
    assert 0 < cut <= 13
    assert short.describe().endswith(f"of 16; {cut} given up early, because of a limit")
    assert "given up" not in result.describe()


def test_it_says_that_there_was_nothing_to_fool(result: AttackResult) -> None:
    x, wrong = result.inputs, (result.oracle.predict(result.inputs) + 1) % 5
    said = result.attack(result.oracle, x, wrong).describe()
    assert said == "PGD, linf eps 0.004: no image is classified correctly, of 16"


def test_queries_until_a_success_are_known_where_images_then_stop(result: AttackResult) -> None:
    assert int(result.success.sum()) > 0
    assert result.median_queries is None
    assert result.to_dict()["median_queries"] is None
    leaving = result.attack(result.oracle, result.inputs, result.labels, stop="fooled")
    asked = sorted(leaving.queries[leaving.success].tolist())
    assert leaving.median_queries == (asked[(len(asked) - 1) // 2] + asked[len(asked) // 2]) / 2


def test_adversarial_images_do_not_alias_the_input(result: AttackResult) -> None:
    before = result.inputs.clone()
    spoiled: Tensor = result.adversarial.clone()
    result.adversarial.zero_()
    assert torch.equal(result.inputs, before)
    result.adversarial.copy_(spoiled)


def test_images_that_were_wrong_already_are_counted_apart() -> None:
    torch.manual_seed(0)
    clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(432, 5)))
    x = Stream(1).rows(range(16)).uniform((3, 12, 12))
    y = clf.predict(x)
    y[:8] = (y[:8] + 1) % 5
    attack = DeepFool()
    right, every = (
        attack(clf, x, y, stop="fooled"),
        attack(clf, x, y, stop="fooled", attack_wrong=True),
    )
    assert int(every.success.sum()) == 16, "wrong images are fooled as they are"
    assert int(every.fooled.sum()) == 8
    assert every.success_rate == right.success_rate
    assert every.median_queries == right.median_queries
    assert every.median_distance == pytest.approx(right.median_distance, rel=1e-5)
    said = every.to_dict()
    assert (said["success"], said["success_on_wrong"]) == (8, 8)
    assert said["stages"][0]["success"] == 8
