"""`assay explain MODEL --data DATA`: where a model looks, and which explanation to believe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.cli import FLAGS
from assay.commands.flags import resolve, with_settings
from assay.errors import AssayError, unknown

app = App(
    name="explain",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

Model = Parameter(group="Model")
Data = Parameter(group="Data")
Running = Parameter(group="Running")


@app.default
def explain(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Explain a model's images by every explainer, and say which is the most faithful."""
    return int(explain_app()(list(tokens), exit_on_error=False, print_error=False) or 0)


def explain_app() -> App:
    """Return the App; the settings of the tests are flags made from `FaithfulnessConfig`."""
    from assay.explain.faithful import FaithfulnessConfig
    from assay.explain.registry import explainers as family

    known = family()

    def command(
        model: str,
        /,
        *,
        settings: dict[str, Any],
        explainers: Annotated[tuple[str, ...] | None, Parameter(group="Settings")] = None,
        data: Annotated[str, Data],
        split: Annotated[str, Data] = "test",
        images: Annotated[int, Data] = 64,
        weights: Annotated[Path | None, Model] = None,
        mean: Annotated[tuple[float, ...] | None, Model] = None,
        std: Annotated[tuple[float, ...] | None, Model] = None,
        outputs: Annotated[Literal["logits", "probabilities"], Model] = "logits",
        config: Annotated[Path | None, Running] = None,
        out: Annotated[Path | None, Running] = None,
        pictures: Annotated[int, Running] = 8,
        threads: Annotated[int | None, Running] = None,
        device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Running] = "auto",
        print_config: Annotated[bool, Running] = False,
        quiet: Annotated[bool, Running] = False,
    ) -> int:
        """Explain what MODEL predicts for images of a data set, and say which explainer is the most
        faithful for this model: whose maps name the pixels that decide (insertion and deletion,
        against a random order), and do not survive random weights.

        Args:
            model: path.safetensors made by assay, or file.py:factory, a function of yours that
                returns a torch.nn.Module.
            explainers: what is compared, by name; default: all of them. A YAML file (--config)
                gives them settings.
            data: a bundled name (digits, shapes), a hub id or a folder. Where its objects are known
                pixel by pixel (shapes), maps must also point at them.
            split: the part of the data that is explained.
            images: how many of its images are used, a stable random subset.
            weights: weights for file.py:factory: .safetensors, or a state dict (.pt).
            mean: per-channel mean that the model's inputs are normalised with.
            std: per-channel standard deviation likewise.
            outputs: what the model returns.
            config: a YAML file of settings; flags are laid over it.
            out: the folder for explain.json, arrays.safetensors (maps and curves), maps.png,
                curves.png and record.json; default: only the table is printed.
            pictures: how many images are shown in maps.png; 0: no pictures.
            threads: threads computed with; default: as many as there are cores.
            device: where the model computes; auto takes CUDA or MPS where there is one.
            print_config: only print the settings as YAML.
            quiet: print nothing but the path of the folder.
        """
        if explainers is not None:
            for name in explainers:
                if name not in known:
                    raise unknown("explainer", name, known)
            settings["explainers"] = [{"name": name} for name in explainers]
        made = resolve(FaithfulnessConfig, {}, config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        counts = {"--images": (images, 1), "--pictures": (pictures, 0), "--threads": (threads, 1)}
        for flag, (given, least) in counts.items():
            if given is not None and given < least:
                raise AssayError(f"{flag} must be at least {least}, got {given}")
        from assay.workflows import explain as explaining
        from assay.workflows.audit import Subject

        return explaining.run(
            Subject(
                model=model,
                weights=weights,
                mean=mean,
                std=std,
                outputs=outputs,
                data=data,
                split=split,
                images=images,
            ),
            made,
            out,
            pictures=pictures,
            threads=threads,
            device=device,
            quiet=quiet,
        )

    command.__doc__ = (command.__doc__ or "").replace(
        "all of them.", f"all of them: {', '.join(known)}."
    )
    app = App(
        name="assay explain",
        default_parameter=FLAGS,
        result_action="return_value",
        version_flags=(),
        suppress_keyboard_interrupt=False,
    )
    defaults = FaithfulnessConfig().model_dump(mode="json")
    app.default(with_settings(command, FaithfulnessConfig, defaults))
    return app
