"""`assay explain MODEL --data DATA`: what predictions rest on, and which explanation to believe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from assay.commands.flags import flag_app, resolve, run
from assay.errors import AssayError

if TYPE_CHECKING:
    from assay.inputs import Inputs

app = App(
    name="explain",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

Running = Parameter(group="Running")


FIRST = (
    *("data", "images", "weights", "mean", "std"),
    *("explainers", "networks", "config", "device", "out"),
)
"""What --help shows."""


@app.default
def explain(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Explain a model's images by every explainer, and say which is the most faithful."""
    return run(explain_app, tokens)


def explain_app(everything: bool) -> App:
    """Return the App; the settings of the tests are flags made from `FaithfulnessConfig`."""
    from assay.explain.faithful import FaithfulnessConfig

    def command(
        *,
        inputs: Inputs,
        settings: dict[str, Any],
        config: Annotated[Path | None, Running] = None,
        out: Annotated[Path | None, Running] = None,
        pictures: Annotated[int, Running] = 8,
        print_config: Annotated[bool, Running] = False,
        quiet: Annotated[bool, Running] = False,
    ) -> int:
        """Explain what MODEL predicts for images of a data set, and say which explainer is the most
        faithful for this model: whose maps name the pixels that decide (insertion and deletion,
        against a random order), and do not survive random weights. Where the objects of the data
        are known pixel by pixel (shapes), maps must also point at them. Of a text model the words
        that speak for a class are coloured on explain.html, and judged by leaving them out.

        Args:
            config: a YAML file of settings; flags are laid over it.
            out: the folder for explain.json, arrays.safetensors (maps and curves), maps.png,
                curves.png and record.json; default: only the table is printed.
            pictures: how many images are shown in maps.png, or texts on explain.html; 0: none.
            print_config: only print the settings as YAML.
            quiet: print nothing but the path of the folder.
        """
        made = resolve(FaithfulnessConfig, {}, config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        if pictures < 0:
            raise AssayError(f"--pictures must be at least 0, got {pictures}")
        from assay.workflows.texts import reads_texts

        if reads_texts(inputs):
            from assay.workflows import explain_text
            from assay.workflows.audit import command as asked_by

            asked = asked_by(sys.argv[1:])
            return explain_text.run(inputs, made, out, shown=pictures, quiet=quiet, command=asked)
        from assay.workflows import explain as work

        return work.run(inputs, made, out, pictures=pictures, quiet=quiet)

    defaults = FaithfulnessConfig().model_dump(mode="json")
    return flag_app(
        "assay explain",
        command,
        FaithfulnessConfig,
        defaults,
        inputs={"images": 64},
        first=FIRST,
        everything=everything,
    )
