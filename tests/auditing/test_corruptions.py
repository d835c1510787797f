"""Accuracy under corruptions: the mean by hand, and who is asked how much."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.sections.corruptions import ONLY_QUERIED, Corruptions, over_images, said
from assay.core.blackbox import BlackBox
from assay.core.classifier import Classifier
from assay.errors import AssayError


class Bright(torch.nn.Module):
    """Says 1 of images whose mean is above 0.5."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def grey(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()


def test_the_mean_is_over_kinds_and_severities_of_each_image() -> None:
    """`brightness` adds 0.05 at severity 1 and 0.3 at severity 5 to a grey image."""
    x, y = grey([0.1, 0.3, 0.48, 0.7]), torch.tensor([0, 0, 0, 1])
    section = Corruptions(kinds=("brightness",), severities=(1, 5))
    found = section.measure(Evidence(Classifier(Bright()), x, y, AuditConfig()))
    right = found.arrays["corruptions/correct"]
    assert right.shape == (1, 2, 4)
    assert right[0].tolist() == [[True, True, False, True], [True, False, False, True]]
    value = found.values["COR-001"].estimate
    assert value.value == pytest.approx(np.mean([1, 0.5, 0, 1]))
    assert value.n == 4
    chapter = found.chapters["corruptions"]
    assert chapter.title == "Corruptions take accuracy from 100.0 % to 62.5 %"
    assert chapter.name == "Common corruptions"
    assert [row[0].text for row in chapter.tables[0].rows] == ["none", "brightness"]


def test_answers_that_are_all_right_or_all_wrong_have_an_interval_all_the_same() -> None:
    """Wilson's for 60 of 60: 60 / (60 + 1.96²) = 94.0 %."""
    for right, value, low, high in ((True, 1.0, 0.940, 1.0), (False, 0.0, 0.0, 0.060)):
        found = over_images(torch.full((5, 3, 60), right))
        assert (found.value, found.low, found.high, found.n) == pytest.approx(
            (value, low, high, 60), abs=5e-4
        )


def test_the_heading_says_what_is_seen_whichever_way_it_went() -> None:
    assert said(0.97, 0.812, "fog") == (
        "Corruptions take accuracy from 97.0 % to 81.2 %; fog costs most"
    )
    assert said(0.5, 0.55, "") == "Corruptions raise accuracy from 50.0 % to 55.0 %"
    assert said(0.97, 0.97, "") == "Corruptions leave accuracy at 97.0 %"


def test_what_costs_most_is_named_where_something_costs() -> None:
    x, y = grey([0.1, 0.3, 0.45, 0.7]), torch.tensor([0, 0, 0, 1])

    def title(*kinds: str) -> str:
        section = Corruptions(kinds=kinds, severities=(3,))
        found = section.measure(Evidence(Classifier(Bright()), x, y, AuditConfig()))
        return found.chapters["corruptions"].title

    assert title("jpeg", "brightness").endswith("; brightness costs most")
    assert title("jpeg", "pixelate") == "Corruptions leave accuracy at 100.0 %"


def test_a_model_that_can_only_be_queried_is_asked_less() -> None:
    x = torch.rand(ONLY_QUERIED + 50, 1, 8, 8)
    y = (x.mean((1, 2, 3)) > 0.5).long()
    box = BlackBox(
        lambda rows: (rows.mean((1, 2, 3)) > 0.5).astype(int), classes=2, access="labels"
    )
    section = Corruptions(kinds=("gaussian-noise", "fog"), severities=(1,))
    evidence = Evidence(box, x, y, AuditConfig())
    found = section.measure(evidence)
    assert found.values["COR-001"].estimate.n == ONLY_QUERIED
    assert box.queries == len(x) + 2 * ONLY_QUERIED, "clean images once, each corruption once"


def test_equal_seeds_are_equal_images() -> None:
    x, y = torch.rand(30, 3, 8, 8), torch.zeros(30, dtype=torch.int64)
    model = Classifier(Bright())
    runs = [Corruptions().measure(Evidence(model, x, y, AuditConfig())).arrays for _ in range(2)]
    np.testing.assert_array_equal(*(run["corruptions/correct"] for run in runs))


@pytest.mark.parametrize("wrong", [{"kinds": ["fogg"]}, {"severities": [0]}, {"kinds": []},
                                   {"images": 0}])  # fmt: skip
def test_settings_that_mean_nothing(wrong: dict[str, object]) -> None:
    with pytest.raises(AssayError):
        Corruptions.parse(wrong)


def test_images_of_other_channels_are_refused() -> None:
    x = torch.rand(20, 4, 8, 8)
    with pytest.raises(AssayError, match="1 or 3 channels"):
        Corruptions().measure(
            Evidence(Classifier(Bright()), x, torch.zeros(20).long(), AuditConfig())
        )


def test_the_copy_is_asked_and_the_original_where_two_classes_are_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clf = Classifier(Bright())
    x = grey([0.1, 0.3, 0.4999, 0.5001, 0.7])
    evidence = Evidence(clf, x, torch.tensor([0, 0, 0, 1, 1]), AuditConfig())
    assert evidence.predictions.tolist() == [0, 0, 0, 1, 1]
    asked: list[int] = []
    query = Classifier.query
    monkeypatch.setattr(
        Classifier, "query", lambda self, x: (asked.append(len(x)), query(self, x))[1]
    )
    copy, report = evidence.copies.of("float32")
    assert report.used
    asked.clear()
    assert evidence.labels_of(x).tolist() == [0, 0, 0, 1, 1]
    assert asked == [2]
    worse = type(copy).query
    monkeypatch.setattr(type(copy), "query", lambda self, x: worse(self, x).flip(1) * 1e-4)
    assert evidence.labels_of(x).tolist() == [0, 0, 0, 1, 1], (
        "a copy that knows nothing decides nothing"
    )
