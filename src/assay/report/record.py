"""What report.json and result.json share: numbers with their doubt, and how they were made.

Whatever takes an `EstimateModel` also takes a `stats.Estimate`. A number that does not exist is
null, never NaN.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from assay.config import explain
from assay.described import describe
from assay.errors import AssayError
from assay.report.svg import only_drawing

Unit = Literal["fraction", "points", "factor", "decades", "number"]
"""How a number is shown: a fraction as percent, a difference of fractions as points, minus the
logarithm of a factor to base e ("factor") or 10 ("decades") as that factor, or as is."""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Maybe = Annotated[float | None, BeforeValidator(_finite)]
"""A number, or null where there is none."""

Png = Annotated[str, Field(pattern=r"^data:image/png;base64,[A-Za-z0-9+/]*={0,2}$")]
"""A PNG as a data URI: nothing else may be in an image's address."""

Svg = Annotated[str, AfterValidator(only_drawing)]
"""An SVG that only draws: no script, no link, no outside resource."""


MOST_LETTERS, MOST_ITEMS = 60, 3
"""What a repr shows of a text, and of a list."""


class _Said(str):
    """A text that is its own repr."""

    def __repr__(self) -> str:
        return str(self)


def _short(value: Any) -> Any:
    """Return what a repr shows in place of a value that is long: a picture, say, or all trials."""
    if isinstance(value, str) and len(value) > MOST_LETTERS:
        return _Said(f"{value[:MOST_LETTERS]!r}…")
    if isinstance(value, tuple) and len(value) > MOST_ITEMS:
        return _Said(f"({value[0]!r}, … {len(value):,} in all)")
    return value


class Record(BaseModel):
    """The base of all of them: frozen, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _short(value)

    @classmethod
    def model_json_schema(cls, *args: Any, **settings: Any) -> dict[str, Any]:
        """Return the JSON schema, in which each field says what it is."""
        schema = super().model_json_schema(*args, **settings)
        describe(schema, cls)
        return schema

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a report or a result that was saved as JSON.

        Raises:
            AssayError: for a file that is not there, is not JSON, or does not fit the schema.
        """
        path = Path(path)
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise AssayError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            raise AssayError(explain(error, cls, str(path))) from error

    def to_json(self) -> str:
        """Return the JSON text that `read` takes back to an equal record."""
        return self.model_dump_json(indent=1) + "\n"


class EstimateModel(Record):
    """A number with its doubt."""

    value: Maybe
    """The estimate; null where n is 0."""
    low: Maybe
    """Lower end of the interval."""
    high: Maybe
    """Upper end of the interval."""
    n: int
    """How many observations it rests on."""
    of: str
    """What they are: the denominator in words."""
    level: float = 0.95
    """Confidence level of the interval."""

    @model_validator(mode="before")
    @classmethod
    def _from_estimate(cls, data: Any) -> Any:
        if dataclasses.is_dataclass(data) and not isinstance(data, type):
            return dataclasses.asdict(data)
        return data


class NotRun(Record):
    """A chapter that could not be made, or was not requested."""

    not_run: str = "not requested"
    """Why."""


class Provenance(Record):
    """How a result was made: enough to make it again."""

    command: str
    """The command that makes it again, as one would type it."""
    config: dict[str, Any]
    """Every setting, defaults written out."""
    seeds: tuple[int, ...]
    """Seeds of the random streams."""
    versions: dict[str, str]
    """assay, Python and libraries."""
    hardware: dict[str, str]
    """Processor, threads, accelerator, memory."""
    started: str
    """When it started: ISO 8601, with the offset from UTC."""
    seconds: float
    """How long it took."""
    model: str = ""
    """Fingerprint of the model's weights."""
    data: dict[str, str] = Field(default_factory=dict)
    """Fingerprint of each data set, by name."""
