"""What the tests of studies share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engines import Here

from assay.runs import engine


@pytest.fixture(scope="package", autouse=True)
def _in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Local", Here)
        yield
