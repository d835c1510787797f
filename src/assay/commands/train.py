"""`assay train`: train one network on a data set, and keep it where `assay audit` finds it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands.flags import flag_app, merge, resolve, run
from assay.errors import AssayError, unknown
from assay.runs.tracked import Tracker
from assay.train.named import NAMED

app = App(
    name="train",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


FIRST = (
    *("recipe", "data", "network__name", "recipe__epochs", "recipe__batch_size"),
    *("adversary__name", "seed", "threads", "device", "out"),
)
"""What --help shows."""


@app.default
def train(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Train a network on a data set, test it once, and keep it."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK", "0") != "0":
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  the first one tells
    if any(token.partition("=")[0] == "--model" for token in tokens):
        from assay.commands.train_text import text_app

        return run(text_app, tokens)
    if any(token.partition("=")[0] == "--adapt" for token in tokens):
        raise AssayError("--adapt is for classifiers of texts; give --model too, such as minilm")
    return run(train_app, tokens)


def train_app(everything: bool) -> App:
    """Return the App; the settings of a training are flags made from `TrainNetwork`."""
    from assay.runs.environment import cores
    from assay.tasks.train import TrainNetwork

    def command(
        *,
        settings: dict[str, Any],
        recipe: Annotated[str | None, Parameter(group="Training")] = None,
        config: Annotated[Path | None, Parameter(group="Training")] = None,
        seed: Annotated[int, Parameter(group="Training")] = 0,
        threads: Annotated[int | None, Parameter(group="Training")] = None,
        device: Annotated[
            Literal["auto", "cpu", "cuda", "mps"], Parameter(group="Training")
        ] = "auto",
        out: Annotated[Path | None, Parameter(group="Running")] = None,
        store: Annotated[Path, Parameter(group="Running")] = Path("runs"),
        print_config: Annotated[bool, Parameter(group="Running")] = False,
        rerun_failed: Annotated[bool, Parameter(group="Running")] = False,
        track: Annotated[list[Tracker] | None, Parameter(group="Running")] = None,
        quiet: Annotated[bool, Parameter(group="Running")] = False,
    ) -> int:
        """Train a network on a data set, test it once, and keep it.

        With --model it is a text classifier that is fine-tuned: assay train rotten_tomatoes --model
        minilm --adapt lora; --model minilm --help shows its flags.

        The same command goes on where it was stopped. The same settings, seed and threads end with
        the same bytes. torchrun --nproc-per-node 2 -m assay.cli train … trains in two processes.

        Args:
            recipe: a named set of settings that everything else overrides.
            config: a YAML file of settings, laid over the recipe; flags are laid over both.
            seed: what all random draws are made from.
            threads: threads computed with; default: as many as there are cores. They wait for each
                other: on a busy machine give as many as there are free cores.
            device: where it computes; auto takes CUDA or MPS where there is one.
            out: the folder for model.safetensors, metrics.json, record.json and config.yaml;
                default: only the store has them.
            store: the folder that keeps trials.
            print_config: only print the YAML that would be trained by.
            rerun_failed: train again where the same training failed before.
            track: what gets its curves while it trains: tensorboard, wandb (offline) or trackio.
            quiet: print nothing but the path of the model.
        """
        if recipe is not None and recipe not in NAMED:
            raise unknown("recipe", recipe, NAMED)
        if seed < 0:
            raise AssayError(f"--seed must be at least 0, got {seed}")
        preset = merge({"recipe": {"threads": cores()}}, NAMED[recipe] if recipe else {})
        if threads is not None:
            settings.setdefault("recipe", {})["threads"] = threads
        made = resolve(TrainNetwork, preset, config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        from assay.workflows import train as training

        return training.run(
            made,
            seed=seed,
            device=device,
            store=store,
            out=out,
            rerun_failed=rerun_failed,
            track=track or (),
            quiet=quiet,
        )

    command.__doc__ = (command.__doc__ or "").replace(
        "overrides.", f"overrides: {', '.join(NAMED)}."
    )
    defaults = TrainNetwork().model_dump(mode="json")
    return flag_app(
        "assay train", command, TrainNetwork, defaults, first=FIRST, everything=everything
    )
