"""What an audit measures, and what it compares the values with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from assay.attacks import FGSM, PGD, AnyAttack
from assay.auditing.kinds import BUILT_IN, refuse_what_is_not_there
from assay.auditing.registry import AnySection, sections
from assay.config import Config, Number
from assay.core.threats import Norm, NormBall
from assay.errors import AssayError
from assay.explain.cam import EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from assay.explain.faithful import FaithfulnessConfig
from assay.explain.registry import AnyExplainer
from assay.ood import GEN, KNN, AnyDetector, MaxLogit


class Thresholds(Config):
    """What each check requires. Set them to what your use of the model needs.

    >>> from assay import auditing
    >>> auditing.Thresholds(accuracy=0.95).accuracy
    0.95
    """

    accuracy: Number = Field(default=0.9, ge=0, le=1)
    """ACC-001: least clean accuracy."""
    calibration: Number = Field(default=0.05, ge=0, le=1)
    """CAL-001: greatest expected calibration error."""
    robustness: Number = Field(default=0.5, ge=0, le=1)
    """ROB-001: least accuracy under all attacks together, at the audit's eps."""
    corruptions: Number = Field(default=0.7, ge=0, le=1)
    """COR-001: least mean accuracy over common corruptions."""
    gap: Number = Field(default=0.1, ge=0, le=1)
    """SLI-001: greatest gap in accuracy between the kind of images that looks hardest and the
    rest."""
    detection: Number = Field(default=0.9, ge=0, le=1)
    """OOD-002, OOD-003, …: least AUROC of a detector against its hardest outliers."""
    explanation: Number = Field(default=0.05, ge=0, le=1)
    """EXP-001: greatest share of images whose saliency map is empty."""


def every_section() -> tuple[Any, ...]:
    """Return the sections that come with assay, without settings."""
    return tuple(kind.parse({}) for kind in sections.built_in().values())


class AuditConfig(Config):
    """Settings of an audit; the defaults suit natural images of 8 bits.

    >>> from assay import auditing
    >>> config = auditing.AuditConfig(eps="4/255", thresholds={"robustness": 0.3})
    >>> config.eps == 4 / 255, config.thresholds.robustness
    (True, 0.3)
    """

    sections: tuple[AnySection, ...] = Field(default_factory=every_section, min_length=1)
    """What is measured, in this order; by default all that comes with assay."""

    norm: Norm = "linf"
    """Norm of every attack."""
    eps: Number = Field(default=8 / 255, gt=0)
    """Budget of the robustness check and of the gallery, pixel units of [0, 1]."""
    budgets: tuple[Number, ...] = (1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255)
    """Budgets of the curves; eps is added if it is not among them."""
    attacks: tuple[AnyAttack, ...] = Field(default=(FGSM(), PGD(steps=20)), min_length=1)
    """The attacks; their norm and eps are those above. Where the model gives no gradients and all
    of them need some, Square (of scores or logits) or HopSkipJump (of labels) replaces them, and
    ROB-001 is of attacks by queries alone."""
    attacked: int = Field(default=500, ge=1)
    """How many images are attacked (the first ones given)."""
    gallery: int = Field(default=8, ge=0)
    """How many images the gallery shows. Saliency maps are made of at most 128 of those
    attacked, or of so many, if it is more."""
    explainer: AnyExplainer = GradCAM()
    """What makes the saliency maps."""
    faithfulness: FaithfulnessConfig = FaithfulnessConfig(
        explainers=(GradCAM(), GradCAMPlusPlus(), HiResCAM(), LayerCAM(), EigenCAM())
    )
    """Which explainers are compared, and how; those by masks take longer."""
    detectors: tuple[AnyDetector, ...] = (GEN(), KNN(), MaxLogit())
    """What gives an input an OOD score: the higher, the more unlike the training data."""
    outliers: tuple[str, ...] = Field(default=BUILT_IN, min_length=1)
    """What the detectors must tell from the data: generated kinds by name; a folder of images of
    your own, in any arrangement; or a data set by its name. The check is on the hardest. Of texts
    other kinds are made (another domain, another language, shuffled words, random tokens) unless
    some are named, or a file of texts."""
    thresholds: Thresholds = Thresholds()
    """What the checks require."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the screening copy; float32 on the original confirms every success."""
    seed: int = Field(default=0, ge=0)
    """Seed of all random draws."""

    @field_validator("budgets")
    @classmethod
    def _some(cls, budgets: tuple[float, ...]) -> tuple[float, ...]:
        if any(eps <= 0 for eps in budgets):
            raise ValueError("budgets must be positive; eps = 0 is the clean accuracy")
        return tuple(sorted(set(budgets)))

    @field_validator("attacks")
    @classmethod
    def _different(cls, attacks: tuple[AnyAttack, ...]) -> tuple[AnyAttack, ...]:
        settings = [attack.model_dump(mode="json", exclude={"norm", "eps"}) for attack in attacks]
        if any(one in settings[:i] for i, one in enumerate(settings)):
            raise ValueError("an attack is there twice; all get the audit's norm and eps")
        return attacks

    @field_validator("sections")
    @classmethod
    def _once(cls, chosen: tuple[AnySection, ...]) -> tuple[AnySection, ...]:
        if len({section.name for section in chosen}) < len(chosen):
            raise ValueError("a section is there twice; its checks have one code each")
        return chosen

    @field_validator("outliers")
    @classmethod
    def _there(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                refuse_what_is_not_there(name)
            except AssayError as error:
                raise ValueError(str(error)) from error
        if len(set(names)) < len(names):
            raise ValueError("a kind of outlier is there twice")
        return names

    @field_validator("detectors")
    @classmethod
    def _one_of_each(cls, detectors: tuple[AnyDetector, ...]) -> tuple[AnyDetector, ...]:
        if len({detector.name for detector in detectors}) < len(detectors):
            raise ValueError("a detector is there twice; its check has one code")
        return detectors

    def model_post_init(self, _: Any) -> None:
        for eps in self.curve:
            NormBall.parse({"norm": self.norm, "eps": eps}, where="audit")  # is it a radius?

    @property
    def curve(self) -> tuple[float, ...]:
        """The budgets of the curves, rising, `eps` among them."""
        return tuple(sorted({*self.budgets, self.eps}))
