"""`assay demo`: a small CNN is trained on handwritten digits and audited."""

from __future__ import annotations

import shlex
from pathlib import Path

from assay.auditing import AuditConfig
from assay.disk import writable
from assay.inputs import Inputs
from assay.models import CNN
from assay.runs.engine import execute
from assay.runs.environment import cores
from assay.runs.remote import open_store
from assay.tasks.train import TrainNetwork
from assay.train import AdamW, OneCycle, Recipe
from assay.workflows import audit
from assay.workflows.gate import Asked

TITLE = "A small CNN on handwritten digits"


def run(store: Path, out: Path | None) -> int:
    """Train unless the store has the network, audit it, and say where the report is.

    Args:
        store: the folder that keeps trials, studies and audits.
        out: the folder for the report; None: in the store.
    """
    if out is not None:
        out = writable(out)
    home = open_store(store)
    writable(home.root)
    training = TrainNetwork(
        data="digits",
        network=CNN(depths=(1, 1), widths=(16, 32), skip=True, norm="batch", stem_stride=2),
        recipe=Recipe(
            epochs=6,
            batch_size=64,
            optimizer=AdamW(lr=1e-2),
            schedule=OneCycle(),
            threads=cores(),
        ),
    )
    config = AuditConfig(eps=0.1, budgets=(0.025, 0.05, 0.1, 0.15, 0.2), attacked=500, gallery=8)
    print("1 of 2: training a small CNN on 4,500 handwritten digits (MNIST)", flush=True)
    trial = training.trial(seed=0, device="cpu", label="demo: small CNN on digits")
    with home.using():
        result = execute([trial], home).need(trial)
        print(
            f"       {100 * result.metrics['test_accuracy']:.1f} % of {result.metrics['n_test']:,} "
            "test digits right\n2 of 2: auditing it",
            flush=True,
        )
        model = result.path("model.safetensors")
        command = ["assay", "audit", str(model), "--data", "digits", "--title", TITLE]
        command += ["--eps", str(config.eps), "--budgets", *map(str, config.budgets)]
        return audit.run(
            Inputs(model=str(model), data="digits"),
            config,
            title=TITLE,
            store=store,
            out=out,
            asked=Asked(),
            quiet=False,
            command=shlex.join(command),
        )
