"""The `assay` command. Subcommands are named by import path and loaded when they are called."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, TextIO

from cyclopts import App, CycloptsError, Parameter

from assay.commands.sentences import InSentences
from assay.errors import AssayError

WRONG_INPUT, POLICY_FAILED, INTERRUPTED, NOT_READ = 2, 1, 130, 141
RESUMED = ("attack", "demo", "run", "sweep", "train")
"""Commands that go on where they were stopped."""
RESUMED_WITH = {"audit": ("--workers", "--engine"), "detect": ("--shards",)}
"""Commands that do with one of these flags."""

FLAGS = Parameter(negative="", consume_multiple=True, show_env_var=False)


def version() -> str:
    from assay import __version__

    return __version__


app = App(
    name="assay",
    help="Put a neural network to the test, and say how far each answer can be trusted.\n\n"
    "Begin with assay demo. assay COMMAND --help shows the flags of a command.",
    version=version,
    default_parameter=FLAGS,
    help_formatter=InSentences(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `call` says it in one line
)
app.command(
    "assay.commands.audit:app", name="audit", help="Audit a model: one report, with verdicts."
)
app.command(
    "assay.commands.attack:app", name="attack", help="Attack images or texts of a data set."
)
app.command("assay.commands.explain:app", name="explain", help="Explain a model's predictions.")
app.command("assay.commands.detect:app", name="detect", help="Say which inputs are outliers.")
app.command("assay.commands.run:app", name="run", help="Run a study over seeds, judge its claims.")
app.command("assay.commands.sweep:app", name="sweep", help="Try settings of a study.")
app.command("assay.commands.train:app", name="train", help="Train a network on a data set.")
app.command("assay.commands.demo:demo", name="demo", help="Train and audit a small network.")
app.command("assay.commands.read:list_", name="list", help="List what the store holds.")
app.command("assay.commands.read:show", name="show", help="Show a study, an audit or a trial.")
app.command("assay.commands.read:compare", name="compare", help="Put two runs side by side.")
app.command(
    "assay.commands.track:track", name="track", help="Show runs in TensorBoard, wandb or trackio."
)
app.command(
    "assay.commands.read:why", name="why", help="Say which settings, data or versions differ."
)
app.command("assay.commands.stores:sync", name="sync", help="Copy what another store lacks.")
app.command("assay.commands.stores:gc", name="gc", help="List or remove what a store can spare.")
app.command("assay.commands.stores:export", name="export", help="Write a run to one archive.")
app.command("assay.commands.stores:import_", name="import", help="Take an archive into a store.")


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake in the input is one line and exit code 2."""
    code = call(app, sys.argv[1:] if tokens is None else tokens)
    joining = sys.modules.get("assay.runs.joining")  # who has not loaded it has joined no cluster
    if joining is not None and joining.abandoned:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # Ray crashes as the interpreter ends, and takes the exit code with it
    sys.exit(code)


def call(command: App, tokens: Sequence[str], **given: Any) -> int:
    """Run `command` on the tokens and return the exit code; 141, as of any tool that a closed pipe
    ends, where nobody reads on what it prints (`assay list | head`) and no code of its own is known
    by then."""
    try:
        return _carried_out(command, tokens, **given)
    except (BrokenPipeError, SystemExit) as error:
        # rich makes a SystemExit of it, and has let what it prints go nowhere by then
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        if not _print_nowhere() and not isinstance(error, SystemExit):
            raise  # this command's output is read: who hung up is another, a service say
        return NOT_READ


def _print_nowhere() -> bool:
    """Let what is still to be printed where nobody reads go nowhere, since the interpreter tries
    once more as it ends; return whether there was such a place."""
    unread = [stream for stream in (sys.stdout, sys.stderr) if stream and _unread(stream)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in unread:
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    return bool(unread)


def _unread(stream: TextIO) -> bool:
    """Return whether nobody reads what a stream is written to."""
    try:
        stream.flush()
        poll = select.poll()  # without a buffer (python -u) there is nothing left to be flushed
        poll.register(stream, 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except BrokenPipeError:
        return True
    except io.UnsupportedOperation:  # it is no file: a test reads it
        return False


def _carried_out(command: App, tokens: Sequence[str], **given: Any) -> int:
    """Run `command` and return the exit code; what is wrong with its input is one line."""
    try:
        refuse_nul(tokens)
        refuse_empty_paths(tokens)
        result = command(list(tokens), exit_on_error=False, print_error=False, **given)
        code = result if isinstance(result, int) else 0
        if sys.stdout is not None:  # it was closed (`>&-`)
            _flush(code)
    except (AssayError, CycloptsError) as error:
        return _refused(one_line(error))
    except KeyboardInterrupt:
        flags = RESUMED_WITH.get(tokens[0], ()) if tokens else ()
        goes_on = tokens and tokens[0] in RESUMED
        goes_on = goes_on or any(token.partition("=")[0] in flags for token in tokens)
        kept = "; what was finished is kept, and the same command goes on there" if goes_on else ""
        return _refused(f"interrupted{kept}", INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _refused(f"{one_line(error)}: make room where it writes to")
    return code


def _flush(code: int) -> None:
    """Print what is left to be; where nobody reads it, a code that says more is kept."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        if not code:
            raise
        _print_nowhere()


def _refused(said: str, code: int = WRONG_INPUT) -> int:
    """Say what was wrong, and return the exit code, which stays where nobody reads it."""
    with suppress(BrokenPipeError):
        print(f"assay: {said}", file=sys.stderr)
    with suppress(OSError):  # a full disk, which is what is said
        _print_nowhere()
    return code


def refuse_nul(tokens: Sequence[str]) -> None:
    """Refuse a character that no path can have, and no shell passes on.

    Raises:
        AssayError: shows what has it.
    """
    odd = next((token for token in tokens if "\0" in token), None)
    if odd is not None:
        raise AssayError(f"{odd[:80]!r} has the character NUL in it: leave it out")


def refuse_empty_paths(tokens: Sequence[str]) -> None:
    """Refuse `--out ""`, say of a variable that is not set: a path that is empty is this folder.

    Raises:
        AssayError: names the flag.
    """
    flags = ("--out", "--store", "--config")
    empty = next((f for f, said in pairwise(tokens) if f in flags and not said.strip()), "")
    empty = empty or next((f for f in flags if f"{f}=" in tokens), "")
    if empty:
        raise AssayError(f"{empty} is empty: give a path, or leave the flag away")


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
