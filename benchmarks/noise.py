"""Why a plain Mahalanobis distance finds noise more normal than photographs: figures by network.

For each network of the study `ood` in a store (`assay run ood --store STORE`), trained by
cross-entropy: the AUROC against uniform noise of `mahalanobis` and its kin, that of pytorch-ood's
on the same features, and where the distances come from.

    python benchmarks/noise.py STORE
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from nets import OUT
from ood import pytorch_ood

from assay import stats
from assay.core.embedding import Embedding
from assay.data.outliers import outliers
from assay.models.loading import load_model
from assay.ood import KNN, Mahalanobis, MahalanobisPlusPlus, MaxLogit, RelativeMahalanobis
from assay.ood.gaussian import distances
from assay.runs.store import Store
from assay.runs.trial import Trial
from assay.tasks.train import TASK, settings, split

FITTED, SCORED = 4000, 1000
KINDS = (Mahalanobis(), MahalanobisPlusPlus(), RelativeMahalanobis(), KNN(), MaxLogit())


def auroc(inside: torch.Tensor, outside: torch.Tensor) -> float:
    return stats.auroc(inside.double().numpy(), outside.double().numpy()).value


def network(trial: Trial, weights: Path, theirs: Any) -> dict[str, Any]:
    """Measure one network, on the images that its trial names."""
    need = settings(trial)
    clf = load_model(weights)
    parts = {name: split(need, name, trial.seed) for name in ("train", "test")}
    train, inside = (
        clf.embed(parts[name].sample(n, trial.seed))
        for name, n in (("train", FITTED), ("test", SCORED))
    )
    noise = outliers("uniform-noise", parts["test"].shape, SCORED, seed=trial.seed, quality=75)
    outside = clf.embed(noise)
    fitted = {kind.name: kind.fit(train) for kind in KINDS}
    other = theirs.Mahalanobis(None)
    other.fit_features(train.features, train.y)
    state = fitted["mahalanobis"].state

    def whitened(e: Embedding) -> torch.Tensor:
        """Features from the mean of the class means, in terms of the shared covariance."""
        assert e.features is not None
        return (e.features.double() - state["centre"]) @ state["whiten"]

    def about(e: Embedding) -> dict[str, float]:
        assert e.features is not None
        nearest = distances(e.features, state).amin(1)
        return {
            "norm of the features": float(e.features.norm(dim=1).median()),
            "squared distance to the nearest class": float(nearest.median()),
            "squared distance to the mean of class means": float(
                whitened(e).square().sum(1).median()
            ),
        }

    return {
        "seed": trial.seed,
        "features": train.features.shape[1] if train.features is not None else 0,
        "auroc": {
            name: auroc(one.score(inside), one.score(outside)) for name, one in fitted.items()
        },
        "auroc of pytorch-ood's Mahalanobis": auroc(
            other.predict_features(inside.features), other.predict_features(outside.features)
        ),
        "auroc of the features' norm, shorter being an outlier": auroc(
            -inside.features.norm(dim=1),
            -outside.features.norm(dim=1),  # type: ignore[union-attr]
        ),
        "test images": about(inside),
        "noise": about(outside),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", type=Path, help="of `assay run ood`")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    theirs, found = pytorch_ood(), []
    for entry in Store(asked.store).trials():
        result = entry.result()
        if result is None or result.trial.task != TASK:
            continue
        if result.trial.config["recipe"].get("loss", {}).get("name") == "logit-norm":
            continue
        found.append(network(result.trial, result.path("model.safetensors"), theirs))
        print(json.dumps(found[-1], indent=2), flush=True)
    OUT.mkdir(exist_ok=True)
    (OUT / "noise.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
