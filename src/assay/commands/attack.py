"""`assay attack MODEL --data DATA --attack NAME --out DIR`: attack, keep the result, go on."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from assay.commands.flags import HELP_ALL, apart, flag_app, merge, read_settings, run
from assay.commands.settings import flags_of
from assay.commands.spreading import spread_of
from assay.errors import AssayError, unknown

if TYPE_CHECKING:
    from assay.attacks import Attack
    from assay.inputs import Inputs

app = App(
    name="attack",
    help_flags=(),
    version_flags=(),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)

Data = Parameter(group="Data")
How = Parameter(group="Attack")
Running = Parameter(group="Running")


FIRST = (
    *("name", "data", "shards", "images", "weights", "mean", "std"),
    *("access", "query_budget", "out"),
)
"""What --help shows, besides the settings of the attack that --attack names."""


@app.default
def attack(*tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Attack a model's images or texts, and keep arrays and pictures, or a page, of the result."""
    known = known_attacks()
    name = named(tokens)
    if name is not None and name not in known:
        raise unknown("attack", name, known)
    if name is not None:
        refuse_settings_of_others(tokens, name, known)
        return run(partial(attack_app, known[name]), tokens)
    if not {"--help", "-h", HELP_ALL} & set(tokens):
        raise AssayError(f"name the attack: --attack NAME, one of {', '.join(known)}")
    code = run(partial(attack_app, None), tokens)
    print(listing(known))
    return code


def known_attacks() -> dict[str, type[Attack[Any, Any]]]:
    """Return the attacks on images, and after them those on texts, by name."""
    from assay.attacks import attacks
    from assay.attacks.text import text_attacks

    return {**attacks(), **text_attacks()}


def named(tokens: Sequence[str]) -> str | None:
    """Return the attack that a command names, itself or in its YAML file; None if it does not."""
    name = _value(tokens, "--attack")
    file = _value(tokens, "--config")
    if name is None and file is not None:
        found = read_settings(Path(file)).get("name")
        if not isinstance(found, str):
            raise AssayError(f"{file} names no attack (name: pgd), and neither does --attack")
        return found
    return name


def _value(tokens: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag, as `--flag value` or `--flag=value`."""
    for place, token in enumerate(tokens):
        if token == flag:
            return tokens[place + 1] if place + 1 < len(tokens) else None
        if token.startswith(f"{flag}="):
            return token.partition("=")[2]
    return None


def listing(known: Mapping[str, type[Attack[Any, Any]]]) -> str:
    """Return every attack with a line about it and the names of its settings."""
    lines = [
        "",
        "Attacks, and the settings of each (assay attack --attack NAME --help explains them):",
    ]
    for name, kind in known.items():
        about = (inspect.getdoc(kind) or "").partition("\n\n")[0]
        lines += ["", *_wrapped(name, about), *_wrapped("", " ".join(_settings(kind)))]
    return "\n".join(lines)


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        100,
        initial_indent=f"  {name:<16}",
        subsequent_indent=" " * 18,
        break_on_hyphens=False,
    )


def _settings(kind: type[Attack[Any, Any]]) -> list[str]:
    return [flag.name for flag in apart(flags_of(kind)) if flag.path != ("name",)]


def refuse_settings_of_others(
    tokens: Sequence[str], name: str, known: Mapping[str, type[Attack[Any, Any]]]
) -> None:
    """Refuse a setting that other attacks have, but not this one: no typing error is meant there.

    Raises:
        AssayError: names the attacks that have it, and the settings that this one has.
    """
    own = _settings(known[name])
    for token in tokens:
        flag = token.partition("=")[0]
        having = [other for other, kind in known.items() if flag in _settings(kind)]
        if flag not in own and having:
            raise AssayError(
                f"{name} has no {flag}, which is of {', '.join(having)}; its settings are "
                f"{' '.join(own)}"
            )


def attack_app(kind: type[Attack[Any, Any]] | None, everything: bool) -> App:
    """Return the App; the settings of the attack that was chosen, if one was, are its flags."""
    from assay.attacks.base import Attack

    def command(
        *,
        inputs: Inputs,
        settings: dict[str, Any],
        data: Annotated[str | None, Data] = None,
        shards: Annotated[str | None, Data] = None,
        name: Annotated[str | None, How, Parameter(name="--attack")] = None,
        config: Annotated[Path | None, How] = None,
        targets: Annotated[str | None, How] = None,
        stop: Annotated[Literal["fooled", "never"], How] = "never",
        attack_wrong: Annotated[bool, How] = False,
        seed: Annotated[int, How] = 0,
        query_budget: Annotated[int | None, How] = None,
        time_limit: Annotated[float | None, How] = None,
        out: Annotated[Path | None, Running] = None,
        pictures: Annotated[int, Running] = 16,
        precision: Annotated[Literal["float32", "bfloat16"], Running] = "float32",
        part: Annotated[int | None, Running] = None,
        engine: Annotated[Literal["local", "ray"], Running] = "local",
        ray_address: Annotated[str | None, Running] = None,
        workers: Annotated[int | None, Running] = None,
        print_config: Annotated[bool, Running] = False,
        progress: Annotated[bool, Running, Parameter(negative="--no-progress")] = True,
        quiet: Annotated[bool, Running] = False,
    ) -> int:
        """Attack the images of a data set that MODEL classifies correctly, and keep arrays and
        pictures of the result. The same command goes on where it was stopped. With an attack on
        texts MODEL is a text model, the data are texts, and the result has a page.

        Args:
            data: a bundled name (digits, shapes), a hub id or a folder.
            shards: in place of --data, a set that is too large for one process: a folder of
                .parquet, .arrow or .npz files, or a hub id, which is streamed. Every shard is
                attacked by itself, all of its images, and is not attacked again when the command
                is given again; the rates are over all of them.
            name: the attack. `assay attack --help` lists them, `assay attack --attack NAME --help`
                explains the settings of one.
            config: a YAML file of the attack's settings (name: pgd, eps: 8/255, ...); flags are
                laid over it.
            targets: a class (its name or number) that the model is to be led to, or "least-likely";
                images of that class are left out. Default: any other class than the label.
            stop: "never" makes every step for every image. "fooled" stops early for an image
                once the model is fooled: quicker, but the images then lie close to the decision
                boundary, where rounding undoes them.
            attack_wrong: also attack what is classified wrongly to begin with.
            seed: what all random draws are made from.
            query_budget: most queries for an image, the clean one included; rounding and flags are
                examined afterwards, which queries again.
            time_limit: seconds for all images together, earlier runs of the command included.
            out: the folder for arrays.safetensors, attack.json, record.json, the contact sheet and
                images/; what is finished so far is kept there too.
            pictures: how many successes are saved as PNGs (image, attacked image, difference,
                amplified difference) and shown on the sheet, or as sentences on the page; 0: none.
            precision: what the copy of the model that screens computes in; float32
                confirms every success.
            part: images per part, which is what a kill costs at most; default: a batch, or 64 of
                what can only be queried, or 32 texts. Of shards, the images attacked at a time.
            engine: where shards are attacked: local, or ray (extra `ray`), on the nodes of a
                cluster.
            ray_address: HOST:PORT of the cluster; default: RAY_ADDRESS, or Ray on this machine.
            workers: processes that attack shards; default: cores / --threads (1).
            print_config: only print the attack's settings as YAML.
            progress: show how far it is.
            quiet: print nothing but the path of the folder.
        """
        assert kind is not None  # without it only help is wanted
        made = settled(kind, name, config, settings)
        if print_config:
            sys.stdout.write(made.to_yaml())
            return 0
        if out is None:
            raise AssayError("say where to keep the result: --out DIR")
        least = {
            "--seed": (seed, 0),
            "--query-budget": (query_budget, 1),
            "--pictures": (pictures, 0),
            "--part": (part, 1),
        }
        for flag, (given, bound) in least.items():
            if given is not None and given < bound:
                raise AssayError(f"{flag} must be at least {bound}, got {given}")
        spread = spread_of(shards, engine, ray_address, workers)
        if (data is None) == (shards is None):
            raise AssayError(
                "say what is attacked: --data DATA, or --shards FOLDER for a set in shards"
                if data is None
                else "--data and --shards were given: one of them is attacked"
            )
        inputs = inputs.model_copy(update={"data": data or ""})
        from assay.attacks.text import TextAttack

        if shards is not None and spread is not None:
            if isinstance(made, TextAttack) or time_limit is not None:
                what = made.name if isinstance(made, TextAttack) else "--time-limit"
                raise AssayError(f"{what} does not go with --shards: give --data")
            from assay.workflows import attack_shards

            return attack_shards.run(
                made,
                inputs,
                shards,
                out,
                spread,
                targets=targets,
                stop=stop,
                attack_wrong=attack_wrong,
                seed=seed,
                precision=precision,
                query_budget=query_budget,
                part=part,
                progress=progress and not quiet,
                quiet=quiet,
            )
        if isinstance(made, TextAttack):
            from assay.workflows import attack_text
            from assay.workflows.audit import command as asked_by

            return attack_text.run(
                made,
                inputs,
                out,
                targets=targets,
                stop=stop,
                attack_wrong=attack_wrong,
                seed=seed,
                precision=precision,
                query_budget=query_budget,
                time_limit=time_limit,
                part=part,
                examples=pictures,
                progress=progress and not quiet,
                quiet=quiet,
                command=asked_by(sys.argv[1:]),
            )
        from assay.workflows import attack as work

        return work.run(
            made,
            inputs,
            out,
            targets=targets,
            stop=stop,
            attack_wrong=attack_wrong,
            seed=seed,
            precision=precision,
            query_budget=query_budget,
            time_limit=time_limit,
            part=part,
            pictures=pictures,
            progress=progress and not quiet,
            quiet=quiet,
        )

    defaults = {} if kind is None else _defaults(kind)
    settings = [flag.key for flag in apart(flags_of(kind or Attack))]
    return flag_app(
        "assay attack",
        command,
        kind or Attack,
        defaults,
        inputs={"data": ""},
        first=(*FIRST, *settings),
        everything=everything,
    )


def _defaults(kind: type[Attack[Any, Any]]) -> dict[str, Any]:
    """Return the settings that an attack has by default; none where some of them must be given."""
    try:
        return kind.parse({}).model_dump(mode="json")
    except AssayError:
        return {}


def settled(
    kind: type[Attack[Any, Any]], name: str | None, file: Path | None, settings: Mapping[str, Any]
) -> Attack[Any, Any]:
    """Return the attack that a YAML file and flags make, in this order.

    A file that names no attack has the settings of the one that --attack names; where it names
    another, its settings go.

    Raises:
        AssayError: names the file or the flag, the value seen, and the nearest known key.
    """
    below: dict[str, Any] = {}
    if file is not None:
        below = {"name": kind.model_fields["name"].default, **read_settings(file)}
        if name in (None, below["name"]):
            kind.parse(below, where=str(file))
    given = {**settings, **({} if name is None else {"name": name})}
    return kind.parse(merge({"attack": below}, {"attack": given})["attack"], where="command line")
