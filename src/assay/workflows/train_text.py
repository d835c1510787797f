"""`assay train DATA --model ENCODER`: one fine-tuning, its trial, and what the user is handed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from assay.core.device import device_here
from assay.core.random import Stream
from assay.disk import writable
from assay.runs.display import say
from assay.runs.remote import open_store
from assay.tasks.texts import PARTS
from assay.tasks.train_text import TrainText
from assay.workflows.together import Together, shared, together
from assay.workflows.train import MODEL, export, refuse_other, summary, trained


def run(
    config: TrainText,
    *,
    seed: int,
    device: str,
    store: Path,
    out: Path | None,
    rerun_failed: bool,
    quiet: bool,
) -> int:
    """Fine-tune unless the store has it, write what `out` is to hold, and say how good it is. Where
    `torchrun` started several processes, they train together, and the first does all else.

    Raises:
        AssayError: for data or an encoder that is not there, a folder that cannot be written, or a
            training that failed.
    """
    device = device_here(device)
    lead = partial(
        _run,
        config,
        seed=seed,
        device=device,
        store=store,
        out=out,
        rerun_failed=rerun_failed,
        quiet=quiet,
    )
    return together(device, lead)


def _run(
    config: TrainText,
    engine: Together | None,
    *,
    seed: int,
    device: str,
    store: Path,
    out: Path | None,
    rerun_failed: bool,
    quiet: bool,
) -> int:
    if out is not None:
        out = writable(out)
    notes = dict.fromkeys(note for part in PARTS for note in config.part(part, seed).notes)
    for note in () if quiet else notes:
        say(note)
    if out is not None:
        refuse_other(out, config, seed)
    label = f"{Path(config.network.base).name} ({config.network.adaptation.name}) on "
    (trial,) = config.trials((seed,), device, label + Path(config.data).name)
    if engine is not None:
        classes = config.part("train", seed).classes
        clf = config.network.classifier(classes, Stream(0), device="cpu")
        trial = shared(engine.peers, trial, clf.model, config.recipe)
    home = open_store(store)
    with home.using():
        done = trained(trial, home, engine, progress=not quiet, rerun_failed=rerun_failed)
        result = done.need(trial)
        model = result.path(MODEL)
        if out is not None:
            model = export(result, config, out)
    if not quiet:
        of = result.metrics["parameters"], result.metrics["parameters_in_all"]
        said = f"{of[0]:,} of {of[1]:,} weights trained"
        Console(highlight=False).print(f"{summary(result)}; {said}")
    print(model)
    return 0
