"""An audit shows what is certified beside what attacks leave, and that they do not contradict."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import FGSM, PGD
from assay.auditing import evidence as evidences
from assay.auditing.attacking import at_budget
from assay.auditing.config import AuditConfig
from assay.auditing.evidence import Evidence
from assay.auditing.section import Measured
from assay.auditing.sections import certificate
from assay.auditing.sections.certificate import Certificate
from assay.certify import Certified, ibp
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.threats import Norm
from assay.errors import AssayError
from assay.report.schema import Chapter

ATTACKS = (FGSM(), PGD(steps=3))


def halves(activation: nn.Module) -> Classifier:
    """Class 1 where the first two rows are brighter than the others."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), activation, nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0] * 8 + [1.0] * 8, [1.0] * 8 + [-1.0] * 8]) / 8)
        model[1].bias.zero_()
        model[3].weight.copy_(torch.eye(2) * 9)
        model[3].bias.zero_()
    return Classifier(model, classes="ab")


def images() -> tuple[Tensor, Tensor]:
    x = torch.rand(40, 1, 4, 4, generator=Stream(1).torch()) * 0.8
    y = torch.arange(40) % 2
    rows = torch.where(y == 1, 0, 2)
    for k, row in enumerate(rows.tolist()):
        x[k, 0, row : row + 2] += 0.2 * (k % 4) / 3
    return x, y


def measured(clf: Classifier, eps: float = 0.05, norm: Norm = "linf") -> Measured:
    x, y = images()
    config = AuditConfig(attacks=ATTACKS, eps=eps, norm=norm, budgets=(eps,))
    return Certificate().measure(Evidence(clf, x, y, config))


def test_certified_stands_beside_attacked() -> None:
    x, y = images()
    clf = halves(nn.ReLU())
    proved = ibp(clf, x, y, eps=0.05)
    assert 0 < proved.accuracy.value < 1
    found = measured(clf)
    chapter = found.chapters["certificate"]
    assert isinstance(chapter, Chapter)
    assert found.arrays["certificate/certified"].tolist() == proved.certified.tolist()
    assert f"{100 * proved.accuracy.value:.1f} % are certified" in chapter.title
    cells = [row[1].estimate for row in chapter.tables[0].rows]
    certified, left = (cell.value for cell in cells if cell)
    assert certified == pytest.approx(proved.accuracy.value)
    assert certified is not None
    assert left is not None
    assert certified <= left < 1


@pytest.mark.parametrize("case", ["no bound", "nothing proved", "other norm"])
def test_where_nothing_is_proved_nothing_is_shown(case: str) -> None:
    clf = halves(nn.GELU() if case == "no bound" else nn.ReLU())
    eps = 0.5 if case == "nothing proved" else 0.05
    assert not measured(clf, eps, "l2" if case == "other norm" else "linf").chapters


def test_what_is_certified_and_fooled_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(clf: Classifier, x: Tensor, y: Tensor, *, eps: float) -> Certified:
        found = ibp(clf, x, y, eps=eps)
        return Certified(eps, torch.ones(len(x), dtype=torch.bool), found.margin, found.accuracy)

    monkeypatch.setattr(evidences, "ibp", wrong)
    with pytest.raises(AssayError, match="certified and fooled all the same"):
        measured(halves(nn.ReLU()))


def test_what_an_attack_has_fooled_is_not_bounded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = images()
    clf = halves(nn.ReLU())
    config = AuditConfig(attacks=ATTACKS, eps=0.05, budgets=(0.05,))
    alone = Certificate().measure(Evidence(clf, x, y, config))
    evidence = Evidence(clf, x, y, config)
    for attack in ATTACKS:
        evidence.fooled(at_budget(attack, config, 0.05))
    bounded: list[int] = []

    def counted(clf: Classifier, x: Tensor, y: Tensor, *, eps: float) -> Certified:
        bounded.append(len(x))
        return ibp(clf, x, y, eps=eps)

    monkeypatch.setattr(evidences, "ibp", counted)
    monkeypatch.setattr(certificate, "HELD_AGAINST", 3)
    after = Certificate().measure(evidence)
    survivors = sum(
        ~(evidence.fooled(at_budget(ATTACKS[1], evidence.config, 0.05)) | ~evidence.correct)
    )
    assert bounded == [int(survivors) + 3]
    assert after.chapters == alone.chapters
    assert (
        after.arrays["certificate/certified"].tolist()
        == alone.arrays["certificate/certified"].tolist()
    )


def test_what_was_bounded_once_is_not_bounded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = images()
    evidence = Evidence(halves(nn.ReLU()), x, y, AuditConfig(attacks=ATTACKS, eps=0.05))
    bounded: list[int] = []

    def counted(clf: Classifier, x: Tensor, y: Tensor, *, eps: float) -> Certified:
        bounded.append(len(x))
        return ibp(clf, x, y, eps=eps)

    monkeypatch.setattr(evidences, "ibp", counted)
    some = torch.arange(len(x)) < 10
    first = evidence.certified(some)
    assert first is not None
    assert not bool(first[10:].any())
    both = evidence.certified(torch.ones(len(x), dtype=torch.bool))
    assert both is not None
    assert both.tolist() == ibp(halves(nn.ReLU()), x, y, eps=0.05).certified.tolist()
    assert bounded == [10, 30]


def test_what_was_bounded_is_known_where_a_budget_leaves_fewer_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = images()
    clf = halves(nn.ReLU())
    expected = ibp(clf, x, y, eps=0.05).certified
    evidence = Evidence(clf, x, y, AuditConfig(attacks=ATTACKS, eps=0.05))
    bounded: list[int] = []

    def counted(clf: Classifier, x: Tensor, y: Tensor, *, eps: float) -> Certified:
        bounded.append(len(x))
        return ibp(clf, x, y, eps=eps)

    monkeypatch.setattr(evidences, "ibp", counted)
    for most in (10, None, 20):
        part = evidence if most is None else evidence.within(most, short=False)
        found = part.certified(torch.ones(len(part.attacked), dtype=torch.bool))
        assert found is not None
        assert found.tolist() == expected[: len(part.attacked)].tolist()
    assert bounded == [10, 30]
