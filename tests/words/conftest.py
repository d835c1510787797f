from __future__ import annotations

from pathlib import Path

import pytest

from words import toys
from words.database import write


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("wordnet"))


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    monkeypatch.setenv("WNHOME", str(database))
    toys.offer_toys()
