"""A report and a study result as they come out of real runs, made of invented numbers."""

from __future__ import annotations

import numpy as np
import pytest

from assay.report.pictures import fit_amplification, gallery_items
from assay.report.record import EstimateModel, Provenance
from assay.report.result import StudyResult
from assay.report.schema import AuditReport

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
)  # fmt: skip


def estimate(value: float, n: int = 1000, of: str = "images", half: float = 0.02) -> EstimateModel:
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    return EstimateModel(value=value, low=low, high=high, n=n, of=of)


def signed(value: float, half: float, n: int = 5) -> EstimateModel:
    return EstimateModel(value=value, low=value - half, high=value + half, n=n, of="seeds")


def made() -> Provenance:
    return Provenance(
        command="assay audit runs/3f2a/model.safetensors --data cifar10 --seed 0 --eps 8/255",
        config={"data": "cifar10", "attacks": [{"name": "pgd", "eps": 8 / 255, "steps": 20}]},
        seeds=(0,),
        versions={"assay": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.6"},
        hardware={"processor": "x86-64, 2 cores", "threads": "1"},
        started="2026-03-01T12:04:09+00:00",
        seconds=83.4,
        model="3f2a9c1e" * 8,
        data={"test": "77aa01be" * 8},
    )


def check(code: str, title: str, value: float | None, threshold: float, verdict: str, **more):
    return {
        "code": code,
        "title": title,
        "question": f"{title}, on 1,000 test images?",
        "threshold": threshold,
        "direction": more.pop("direction", "at least"),
        "value": None if value is None else estimate(value),
        "verdict": verdict,
        **more,
    }


def curve(attack: str, norm: str, eps: list[float], robust: list[float]) -> dict:
    return {
        "attack": attack,
        "norm": norm,
        "points": [
            {
                "eps": e,
                "robust_accuracy": estimate(r),
                "success": estimate(1 - r / 0.914, 914, "correctly classified images"),
                "success_8bit": estimate(1 - r / 0.9, 914, "correctly classified images"),
                "seconds": 3.2,
                "queries": 20,
            }
            for e, r in zip(eps, robust, strict=True)
        ],
    }


def scenes(n: int, seed: int = 0) -> np.ndarray:
    """Smooth colourful pictures: (n, 3, 32, 32) in [0, 1]."""
    rng = np.random.default_rng(seed)
    grid = np.mgrid[0:32, 0:32] / 32
    wave = rng.uniform(1, 6, (n, 3, 2))
    turn = rng.uniform(0, 6, (n, 3))
    phase = np.einsum("ncd,dhw->nchw", wave, grid) + turn[..., None, None]
    return 0.5 + 0.45 * np.sin(phase)


@pytest.fixture(scope="session")
def report() -> AuditReport:
    rng = np.random.default_rng(1)
    images = scenes(6)
    attacked = np.clip(images + 8 / 255 * rng.choice([-1, 1], images.shape), 0, 1)
    amplification = fit_amplification(images, attacked)
    y, x = np.mgrid[0:32, 0:32]
    bumps = [np.exp(-((x - c) ** 2 + (y - 16) ** 2) / 60) for c in (8, 12, 16, 20, 24, 16)]
    matrix = rng.poisson(1.2, (10, 10)) + np.diag(rng.integers(80, 98, 10))
    matrix[3, 5], matrix[5, 3] = 14, 9
    edges = np.linspace(-1, 0, 31)
    rows = [
        {
            "id": 17 * i,
            "label": CLASSES[i],
            "prediction": CLASSES[i],
            "confidence": 0.97 - 0.04 * i,
            "adversarial_prediction": CLASSES[(i + 2) % 10],
            "adversarial_confidence": 0.88,
            "fooled": True,
            "distance": 8 / 255,
        }
        for i in range(6)
    ]
    fpr = np.linspace(0, 1, 41)

    def detector(name: str, outliers: str, power: float) -> dict:
        inliers = rng.beta(1.2, 8, 1000) * -1
        unknown = rng.beta(2, 2, 1000) * -1
        return {
            "detector": name,
            "outliers": outliers,
            "n_in": 1000,
            "n_out": 1000,
            "auroc": estimate(1 / (1 + power), 2000),
            "fpr95": estimate(0.31),
            "threshold": -0.42,
            "calibrated_on": "validation data",
            "histogram": {
                "edges": edges.tolist(),
                "inliers": np.histogram(-1 - inliers, edges)[0].tolist(),
                "outliers": np.histogram(unknown, edges)[0].tolist(),
            },
            "roc": list(zip(fpr.tolist(), (fpr**power).tolist(), strict=True)),
        }

    return AuditReport.model_validate(
        {
            "title": "small CNN on CIFAR-10",
            "created": "2026-03-01T12:05:32+00:00",
            "summary": "The model is right on 91.4 % of 1,000 test images (89.4 to 93.4). Under "
            "PGD at 8/255 nothing is left of that. Its confidence is close to its accuracy, and "
            "max-softmax finds most of the noise.",
            "checks": [
                check("ACC-001", "Clean accuracy", 0.914, 0.8, "pass"),
                check("CAL-001", "Calibration error", 0.046, 0.05, "undecided",
                      direction="at most", reason="The interval spans the threshold."),
                check("ROB-001", "Accuracy under PGD at 8/255", 0.031, 0.3, "fail",
                      flags=["FLAG-STEPS"], reason="The whole interval lies below the threshold."),
                check("OOD-001", "Noise told from test data (AUROC)", 0.93, 0.8, "pass"),
                check("OOD-002", "SVHN told from test data (AUROC)", None, 0.8, "not run",
                      reason="SVHN was not given: --outliers svhn."),
            ],
            "accuracy": {
                "overall": estimate(0.914),
                "per_class": [
                    {"name": name, "accuracy": estimate(0.98 - 0.02 * i, 100, half=0.05)}
                    for i, name in enumerate(CLASSES)
                ],
                "n": 1000,
            },
            "calibration": {
                "ece": estimate(0.046, half=0.01),
                "mean_confidence": 0.956,
                "bins": [
                    {
                        "low": i / 10,
                        "high": (i + 1) / 10,
                        "count": 0 if i < 2 else 4 * i**2,
                        "confidence": None if i < 2 else i / 10 + 0.05,
                        "accuracy": None if i < 2 else estimate(i / 10, 4 * i**2, half=0.3 / i),
                    }
                    for i in range(10)
                ],
            },
            "confusion": {"classes": CLASSES, "matrix": matrix.tolist()},
            "robustness": {
                "clean": estimate(0.914),
                "curves": [
                    curve("FGSM", "linf", [1 / 255, 2 / 255, 4 / 255, 8 / 255],
                          [0.61, 0.42, 0.27, 0.182]),
                    curve("PGD, 20 steps", "linf", [1 / 255, 2 / 255, 4 / 255, 8 / 255],
                          [0.58, 0.304, 0.092, 0.031]),
                ],
            },
            "gallery": {
                "attack": "PGD, 20 steps",
                "norm": "linf",
                "eps": 8 / 255,
                "amplification": amplification,
                "chosen": "the first six images that were fooled",
                "arrays": "gallery.npz",
                "items": gallery_items(
                    images, attacked, rows, amplification=amplification,
                    maps_before=bumps, maps_after=bumps[::-1],
                ),
            },
            "attention": {
                "method": "Grad-CAM",
                "layer": "stages.1.6",
                "n": 58,
                "empty_after": 2,
                "measures": [
                    {
                        "name": "rank correlation",
                        "estimate": estimate(0.412, 58, half=0.07),
                        "reading": "1: the map did not move; 0: nothing is left of it.",
                    }
                ],
            },
            "faithful": {
                "n": 32,
                "best": "grad-cam",
                "within_noise": ["hires-cam"],
                "explainers": [
                    {
                        "name": name,
                        "insertion": estimate(0.7 - k / 50, 32),
                        "deletion": estimate(0.15 + k / 50, 32),
                        "gain": estimate(0.39 - k / 25, 32),
                        "correlation": estimate(0.2 + k / 5, 12),
                        "verdict": ("passes", "undecided")[k],
                        "empty": estimate(0.0, 32),
                    }
                    for k, name in enumerate(("grad-cam", "hires-cam"))
                ],
                "failed": {"attention-rollout": "<b>no attention</b>"},
            },
            "ood": {
                "fitted_on": "2,000 training images",
                "results": [
                    detector("max-softmax", "uniform noise", 0.075),
                    detector("max-logit", "uniform noise", 0.05),
                ],
            },
            "flags": [
                {"code": "FLAG-GRADIENT", "title": "Gradients are zero for many images",
                 "raised": False, "detail": "0 of 1,000 images have a zero gradient."},
                {"code": "FLAG-STEPS", "title": "More steps still help the attack", "raised": True,
                 "detail": "40 steps fool 1.2 points more than 20."},
                {"code": "FLAG-RANDOM", "title": "The model answers at random", "raised": None,
                 "detail": "Needs two passes; one was asked for."},
            ],
            "made": made(),
        }
    )  # fmt: skip


@pytest.fixture(scope="session")
def study() -> StudyResult:
    from assay.report.figures import Series, gradient_norms, inline_svg, learning_curves

    epochs = list(range(1, 31))
    lines, norms = [], []
    for colour, (kind, top) in enumerate((("plain", 0.69), ("skip", 0.78))):
        for dash, depth in enumerate((2, 5, 7)):
            end = top - 0.07 * (depth - 4) * (1 if kind == "plain" else -0.35)
            y = [end * (1 - np.exp(-e / 5)) + 0.02 for e in epochs]
            name = f"{kind} [{depth},{depth}]"
            band = {"low": [v - 0.02 for v in y], "high": [v + 0.02 for v in y]}
            lines.append(Series(name, epochs, y, colour=colour, dash=dash, **band))
            slope = 1.1 if kind == "plain" else 0.1
            layers = list(range(1, 2 * depth + 1))
            size = [10 ** (-slope * (2 * depth - i)) for i in layers]
            norms.append(Series(name, layers, size, colour=colour, dash=dash))

    def cell(value: float, mark: str | None = None) -> dict:
        return {"estimate": signed(value, 0.013), "mark": mark}

    return StudyResult.model_validate(
        {
            "study": "skip",
            "question": "Do skip connections undo the degradation of deep plain CNNs?",
            "preset": "quick",
            "created": "2026-03-01T13:00:00+00:00",
            "summary": "With skips the deep network is better by 22.1 points; without, depth costs "
            "accuracy. One claim cannot be decided with five seeds.",
            "claims": [
                {"code": "SKIP-1", "text": "At [7,7] the network with skips is better",
                 "delta": 0.02, "estimate": signed(0.221, 0.031), "verdict": "holds"},
                {"code": "SKIP-2", "text": "Depth harms the network with skips",
                 "delta": 0.01, "estimate": signed(-0.024, 0.012), "verdict": "does not hold"},
                {"code": "SKIP-3", "text": "At [2,2] skips make a difference", "delta": 0.01,
                 "estimate": signed(0.013, 0.019), "verdict": "undecided", "seeds_needed": 9,
                 "note": "Three of the ten networks have not converged."},
            ],
            "tables": [
                {
                    "title": "Test accuracy",
                    "caption": "Mean over seeds of the test accuracy at the best validation epoch.",
                    "columns": ["network", "[2,2]", "[5,5]", "[7,7]"],
                    "rows": [
                        [{"text": "plain", "trials": "plain [7,7]"}, cell(0.672, "within noise"),
                         cell(0.601), cell(0.512)],
                        ["with skips [7,7]", cell(0.685, "best"), cell(0.724, "best"),
                         cell(0.733, "best")],
                    ],
                }
            ],
            "figures": [
                {"title": "Learning curves", "caption": "Mean over five seeds and its interval.",
                 "svg": inline_svg(learning_curves(lines), "learning curves")},
                {"title": "Gradient norm by depth", "caption": "At the first step.",
                 "svg": inline_svg(gradient_norms(norms), "gradient norms")},
            ],
            "notes": ["The validation set is held out of the training images."],
            "trials": [
                {"address": f"{i}{'a' * 63}", "label": f"{kind} [7,7]", "seed": i % 4,
                 "status": "done", "seconds": 61.0,
                 "metrics": {"test_accuracy": 0.5 + i / 50, "train_loss": 1.25}}
                for i, kind in enumerate(["plain"] * 4 + ["with skips"] * 4)
            ]
            + [{"address": "f" * 64, "label": "plain [7,7]", "seed": 4, "status": "failed",
                "reason": "loss is not finite at epoch 2"}],
            "work_seconds": 488.0,
            "made": made(),
        }
    )  # fmt: skip
