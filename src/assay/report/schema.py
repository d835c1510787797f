"""The models that are report.json, the result of an audit.

Every other format (HTML, terminal, notebook) is a projection of it. The schema is published:

    python -m assay.report.schema > docs/report.schema.json
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from assay.report.record import EstimateModel, Maybe, NotRun, Png, Provenance, Record, Unit
from assay.report.result import Drawing, Table

CheckVerdict = Literal["pass", "fail", "undecided", "not run"]


BY_QUERIES = "by queries alone"
"""What the title of ROB-001 says more where no attack that was tried knew the gradients."""


class Check(Record):
    """A value that is compared with a threshold, and the verdict."""

    code: str
    """Stable name, such as ROB-001."""
    title: str
    """What is checked, in a few words."""
    question: str
    """The same as a question, with its conditions."""
    threshold: Maybe
    """What the value is compared with."""
    direction: Literal["at least", "at most"]
    """Which side of the threshold passes."""
    unit: Unit = "fraction"
    """How value and threshold are shown."""
    value: EstimateModel | None = None
    """What was measured; null where it was not run."""
    verdict: CheckVerdict
    """pass, fail, undecided (the interval spans the threshold) or not run (never a pass)."""
    reason: str = ""
    """Why the verdict is what it is."""
    advice: str = ""
    """What to do about it, where it does not pass."""
    flags: tuple[str, ...] = ()
    """Codes of the reliability flags that are up and touch this check."""


WORST_FIRST: tuple[CheckVerdict, ...] = ("fail", "undecided", "not run", "pass")
"""The verdicts, in the order in which one wants to know."""


def worst_first(checks: Iterable[Check]) -> list[Check]:
    """Return the checks with failures first; those of one verdict stay in their order."""
    return sorted(checks, key=lambda check: WORST_FIRST.index(check.verdict))


class ClassAccuracy(Record):
    """Accuracy on the images of one class (its recall)."""

    name: str
    """The class."""
    accuracy: EstimateModel
    """Share of its images that are classified correctly."""


class Accuracy(Record):
    """How often the model is right on the data as it is."""

    overall: EstimateModel
    """Share of all images classified correctly."""
    per_class: tuple[ClassAccuracy, ...] = ()
    """The same for each true class."""
    n: int
    """Number of images."""


class Bin(Record):
    """One bar of a reliability diagram."""

    low: float
    """Least confidence of the bin."""
    high: float
    """Greatest confidence of the bin."""
    count: int
    """Images in it."""
    confidence: Maybe = None
    """Their mean confidence; null in an empty bin."""
    accuracy: EstimateModel | None = None
    """Share of them that are right; null in an empty bin."""


class Calibration(Record):
    """Whether a confidence of 80 % is right 80 % of the time (Guo et al. 2017)."""

    ece: EstimateModel
    """Expected calibration error: the mean gap between confidence and accuracy, over images."""
    bins: tuple[Bin, ...]
    """The reliability diagram."""
    mean_confidence: Maybe = None
    """Mean confidence over all images."""


class Confusion(Record):
    """Which class is taken for which."""

    classes: tuple[str, ...]
    """Names, in the order of rows and columns."""
    matrix: tuple[tuple[int, ...], ...]
    """Counts: a row for each true class, a column for each predicted one."""

    @model_validator(mode="after")
    def _square(self) -> Self:
        k = len(self.classes)
        if len(self.matrix) != k or any(len(row) != k for row in self.matrix):
            raise ValueError(f"the matrix must be {k} by {k}, as there are {k} classes")
        return self


class RobustnessPoint(Record):
    """One attack at one budget."""

    eps: float
    """Radius, pixel units of [0, 1] (l0: pixels)."""
    robust_accuracy: EstimateModel
    """Share of all images that are classified correctly, and stay so under the attack."""
    success: EstimateModel
    """Share of its denominator (as a rule the correctly classified) that the attack fools."""
    success_8bit: EstimateModel | None = None
    """The same after rounding the attacked images to 8 bits, as a PNG would store them."""
    seconds: Maybe = None
    """Wall time of the attack."""
    queries: Maybe = None
    """Median number of evaluations per image."""


class RobustnessCurve(Record):
    """One attack over growing budgets."""

    attack: str
    """Its name with what matters of its settings: "PGD, 20 steps"."""
    norm: str
    """linf, l2, l1 or l0."""
    points: tuple[RobustnessPoint, ...]
    """By rising eps."""


class Robustness(Record):
    """How accuracy falls as the attacker is allowed more."""

    clean: EstimateModel
    """Accuracy on the same images without attack (eps = 0)."""
    eps: Maybe = None
    """The radius that is judged."""
    threshold: Maybe = None
    """The accuracy that is asked for there."""
    curves: tuple[RobustnessCurve, ...]
    """One for each attack."""
    failed: dict[str, str] = Field(default_factory=dict)
    """Why other attacks could not be run."""


class GalleryItem(Record):
    """One image before and after an attack."""

    id: int
    """Its index in the data set."""
    label: str
    """True class."""
    prediction: str
    """Class predicted for the image."""
    confidence: Maybe = None
    """Its probability."""
    adversarial_prediction: str
    """Class predicted for the attacked image."""
    adversarial_confidence: Maybe = None
    """Its probability."""
    fooled: bool
    """Whether the attack changed a right prediction into a wrong one."""
    distance: Maybe = None
    """How far the image was moved, in the norm of the attack."""
    overlap: Maybe = None
    """How much the two maps overlap: intersection over union of their top 20 %."""
    image: Png
    """The image."""
    attacked: Png
    """The attacked image."""
    difference: Png
    """Attacked minus original, amplified around mid grey."""
    map_before: Png | None = None
    """Saliency map of the image."""
    map_after: Png | None = None
    """Saliency map of the attacked image."""


class Gallery(Record):
    """Images, attacked images, their difference, and their saliency maps."""

    attack: str
    """The attack, as in the robustness chapter."""
    norm: str
    """Its norm."""
    eps: float
    """Its radius."""
    amplification: float
    """The factor by which differences are multiplied to be seen."""
    chosen: str
    """How the images were chosen."""
    arrays: str | None = None
    """File beside the report that holds the exact float images: a PNG rounds to 8 bits."""
    items: tuple[GalleryItem, ...]
    """The images."""


class Measure(Record):
    """One number with the sentence that says how to read it."""

    name: str
    """What it is called."""
    estimate: EstimateModel
    """What was measured."""
    noise: EstimateModel | None = None
    """The noise baseline: the same for random noise as large as the attack may be."""
    beyond: EstimateModel | None = None
    """What was measured minus what noise does, image by image."""
    mate: EstimateModel | None = None
    """The same-class control: the same for another image of the class, as a reference."""
    unit: Unit = "number"
    """How it is shown."""
    reading: str = ""
    """How to read it: the range, and which end means what."""


class Attention(Record):
    """How far saliency maps moved when images were attacked."""

    method: str
    """The explainer: Grad-CAM."""
    layer: str
    """The layer it explains, by its name in the model."""
    measures: tuple[Measure, ...]
    """How far the maps moved, as numbers."""
    n: int
    """Pairs of maps."""
    empty_before: int = 0
    """Maps of clean images with nothing positive: they explain nothing and are not counted."""
    empty_after: int = 0
    """The same for attacked images."""


class Explained(Record):
    """One explainer, and the results of its maps."""

    name: str
    """The explainer, with its settings that are not the usual ones."""
    insertion: EstimateModel
    """Area under the curve of the class's probability as pixels come in the map's order."""
    deletion: EstimateModel
    """The same as pixels go."""
    gain: EstimateModel
    """By how much both are better than for a random order of the same image."""
    correlation: EstimateModel | None = None
    """Rank correlation with the maps of the same network with random weights."""
    verdict: str
    """passes (the maps depend on what was learnt), survives (they do not), undecided, not run."""
    empty: EstimateModel
    """Share of maps that explain nothing."""
    pointing: EstimateModel | None = None
    """How often the largest value lies on the object, where objects are known."""


class Faithful(Record):
    """Whether maps can be believed: which explainer is the most faithful for this model."""

    n: int
    """Images."""
    pointing_chance: float | None = None
    """How often a point at random lies on the object."""
    best: str | None
    """The most faithful of those whose maps depend on what was learnt; null: there is none."""
    within_noise: tuple[str, ...] = ()
    """Those that cannot be told from the best."""
    explainers: tuple[Explained, ...]
    """The explainers that work on the model, by falling gain."""
    failed: dict[str, str]
    """Why the others do not."""


class Histogram(Record):
    """Scores of inliers and outliers over common bins."""

    edges: tuple[float, ...]
    """Bin edges, one more than counts."""
    inliers: tuple[int, ...]
    """Counts of the test data."""
    outliers: tuple[int, ...]
    """Counts of the outliers."""


class DetectorResult(Record):
    """One detector against one kind of outlier. A higher score: more unlike the training data."""

    detector: str
    """Its name, with the paper's name for it: "max-softmax"."""
    outliers: str
    """What it was shown: "uniform noise"."""
    n_in: int
    """Inliers scored."""
    n_out: int
    """Outliers scored."""
    auroc: EstimateModel
    """Probability that an outlier scores higher than an inlier; 0.5 is guessing."""
    fpr95: EstimateModel
    """Share of outliers taken for inliers at the threshold that keeps 95 % of the inliers."""
    threshold: Maybe = None
    """The score above which an input is called an outlier."""
    calibrated_on: str = ""
    """What data the threshold comes from."""
    histogram: Histogram | None = None
    """The scores."""
    roc: tuple[tuple[float, float], ...] = ()
    """(false-positive rate, true-positive rate) of "is an outlier", rising from (0, 0)."""


class Ood(Record):
    """Whether the model can tell what it does not know."""

    fitted_on: str
    """What the detectors were fitted on."""
    codec: int | None = None
    """The quality of the JPEG that generated outliers were passed through, since the test images
    had been through it; null: they had been through none."""
    results: tuple[DetectorResult, ...]
    """One for each detector and kind of outlier."""
    failed: dict[str, str] = Field(default_factory=dict)
    """Why other detectors could not be run."""


class Flag(Record):
    """A reason not to trust a result (after AutoAttack's checks, Croce & Hein 2020)."""

    code: str
    """Stable name, such as FLAG-GRADIENT."""
    title: str
    """What would be wrong, in a few words."""
    raised: bool | None
    """True: it is up; false: evaluated and clear; null: could not be evaluated."""
    detail: str = ""
    """What was seen."""


Part = Literal["accuracy", "robustness", "saliency", "outliers"]
"""The parts of a report; the chapters of one stand together, and its contents name parts."""


class Chapter(Record):
    """What a section shows: a finding, what it rests on, figures, and tables folded below them."""

    title: str
    """Its heading: what was found, as a sentence ("Blur costs 23.1 points of accuracy")."""
    lead: str = ""
    """What that means and rests on, in a sentence or two."""
    figures: tuple[Drawing, ...] = ()
    """Shown below it; the title of each is what is seen in it."""
    tables: tuple[Table, ...] = ()
    """The same as numbers; they fold away."""
    part: Part | None = None
    """Where in the report it stands, after what is there already; null: a part of its own."""
    name: str = ""
    """What the contents call a part of its own, in a word or two; empty: its title."""


ReportChapter = (
    Accuracy | Calibration | Confusion | Robustness | Gallery | Attention | Faithful | Ood
)
"""The chapters that have a place of their own in a report."""


class AuditReport(Record):
    """What an audit found; report.json is exactly this."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    title: str
    """What was audited."""
    created: str
    """When the report was written: ISO 8601."""
    answer: str = ""
    """What the verdicts say together, in one sentence; `**` marks what is set in bold."""
    summary: str
    """The main numbers, for somebody who reads nothing else."""
    checks: tuple[Check, ...]
    """The checks, with their verdicts."""
    accuracy: Accuracy | NotRun = NotRun()
    calibration: Calibration | NotRun = NotRun()
    confusion: Confusion | NotRun = NotRun()
    robustness: Robustness | NotRun = NotRun()
    fooled: Gallery | NotRun = NotRun()
    """A few images that the strongest attack fools."""
    gallery: Gallery | NotRun = NotRun()
    hardly: Gallery | NotRun = NotRun()
    """Images that were fooled although their saliency map hardly moved."""
    attention: Attention | NotRun = NotRun()
    faithful: Faithful | NotRun = NotRun()
    ood: Ood | NotRun = NotRun()
    more: dict[str, Chapter | NotRun] = Field(default_factory=dict)
    """Chapters without a place of their own above, by the name of the section that brings them."""
    flags: tuple[Flag, ...] = ()
    """Reasons not to trust some of it."""
    made: Provenance
    """How this was made."""

    @property
    def kind(self) -> str:
        """What the model was asked about: images, texts, or examples of its saved predictions."""
        given = self.made.config.get("inputs") or {}
        return "texts" if "tokens" in given else "examples" if "predictions" in given else "images"

    @property
    def tally(self) -> dict[str, int]:
        """How many checks have each verdict, in the order in which one wants to know."""
        return {v: sum(check.verdict == v for check in self.checks) for v in WORST_FIRST}

    def __str__(self) -> str:
        from assay.report.brief import audit_text

        return audit_text(self)

    def __repr__(self) -> str:
        count = ", ".join(f"{n} {verdict}" for verdict, n in self.tally.items() if n)
        return f"AuditReport({self.title!r}, {len(self.checks)} checks: {count or 'none'})"

    def _repr_html_(self) -> str:
        from assay.report.brief import audit_cell

        return audit_cell(self)


if __name__ == "__main__":
    print(json.dumps(AuditReport.model_json_schema(), indent=2))
