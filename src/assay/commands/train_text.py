"""`assay train DATA --model ENCODER`: fine-tune a text classifier, and keep it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands.flags import flag_app, merge, resolve
from assay.errors import AssayError

Way = Literal["full", "lora", "bitfit", "head"]

RATES: dict[Way, float] = {"full": 1e-4, "lora": 1e-3, "bitfit": 1e-3, "head": 1e-2}
"""Learning rates where none is given; LoRA takes about ten times that of full fine-tuning."""

FIRST = (
    *("model", "adapt", "network__adaptation__rank", "recipe__epochs", "recipe__batch_size"),
    *("recipe__optimizer__lr", "train_texts", "seed", "threads", "device", "out"),
)
"""What --help shows."""


def text_app(everything: bool) -> App:
    """Return the App; the settings of a training are flags made from `TrainText`."""
    from assay.runs.environment import cores
    from assay.tasks.train_text import TrainText

    def command(
        data: Annotated[
            str,
            Parameter(help="A data set of texts: rotten_tomatoes, a hub id, a folder or a file."),
        ],
        /,
        *,
        settings: dict[str, Any],
        model: Annotated[str, Parameter(group="Training")] = "minilm",
        adapt: Annotated[Way, Parameter(group="Training")] = "full",
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
        quiet: Annotated[bool, Parameter(group="Running")] = False,
    ) -> int:
        """Fine-tune a pretrained encoder to classify texts, test it once, and keep it.

        Args:
            model: the encoder: minilm, which is in a package; a folder; or an id on the hub.
            adapt: what is trained: full, everything; lora, low-rank additions; bitfit, biases; or
                head, nothing but the new head.
            config: a YAML file of settings; flags are laid over it.
            seed: what all random draws are made from.
            threads: threads computed with; default: as many as there are cores.
            device: where it computes; auto takes CUDA or MPS where there is one.
            out: the folder for model.safetensors, metrics.json, record.json and config.yaml;
                default: only the store has them.
            store: the folder that keeps trials.
            print_config: only print the YAML that would be trained by.
            rerun_failed: train again where the same training failed before.
            quiet: print nothing but the path of the model.
        """
        if seed < 0:
            raise AssayError(f"--seed must be at least 0, got {seed}")
        preset: dict[str, Any] = {
            "data": data,
            "network": {"base": model, "adaptation": {"name": adapt}},
            "recipe": {"threads": cores() if threads is None else threads},
        }
        rate = {"recipe": {"optimizer": {"name": "adamw", "lr": RATES[adapt]}}}
        usual = TrainText().model_dump(mode="json")
        made = resolve(TrainText, merge(merge(usual, rate), preset), config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        from assay.workflows import train_text as training

        return training.run(
            made,
            seed=seed,
            device=device,
            store=store,
            out=out,
            rerun_failed=rerun_failed,
            quiet=quiet,
        )

    defaults = TrainText().model_dump(mode="json")
    return flag_app("assay train", command, TrainText, defaults, first=FIRST, everything=everything)
