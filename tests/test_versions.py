"""The tool that holds VERSIONs against sources sees code, and nothing but code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "versions.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("versions", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["versions"] = module
    spec.loader.exec_module(module)
    return module


CODE = '''"""What it does."""
class A:
    """A."""
    steps: int = 3
    """How many."""
    def f(self, x):  # a comment
        """Double."""
        return f"{x!r}" * 2
'''


def test_only_code_counts(tool: ModuleType, tmp_path: Path) -> None:
    def digest(text: str) -> str:
        (tmp_path / "a.py").write_text(text)
        return str(tool.digest([tmp_path / "a.py"]))

    before = digest(CODE)
    words = CODE.replace("How many", "How often").replace("a comment", "another")
    assert digest(words.replace('"""Double."""', '"""Twice."""\n')) == before
    assert digest(CODE.replace("* 2", "*  (2)")) == before
    for old, new in (("* 2", "* 3"), ("steps: int = 3", "steps: int = 4"), ("!r", "")):
        assert digest(CODE.replace(old, new)) != before


def test_components_are_what_trials_name(tool: ModuleType) -> None:
    found = tool.components()
    assert {"PGD", "FGSM", "CNN", "MLP", "GradCAM", "MaxLogit", "Recipe"} <= set(found)
    assert "Attack" not in found, "a base computes nothing by itself"
    names = {name: {file.name for file in tool.sources(kind)} for name, kind in found.items()}
    assert {"gradient.py", "runner.py", "losses.py"} <= names["PGD"]
    assert "fit.py" in names["Recipe"]


def test_what_must_be_stated(tool: ModuleType) -> None:
    recorded = {
        "Same": {"version": 1, "source": "a"},
        "Changed": {"version": 1, "source": "a"},
        "Raised": {"version": 1, "source": "a"},
        "Gone": {"version": 1, "source": "a"},
    }
    current = {
        "Same": {"version": 1, "source": "a"},
        "Changed": {"version": 1, "source": "b"},
        "Raised": {"version": 2, "source": "b"},
        "New": {"version": 1, "source": "b"},
    }
    stale, unstated = tool.compare(recorded, current)
    assert [line.split(":")[0] for line in stale] == ["Gone", "Raised", "New"]
    assert [line.split(":")[0] for line in unstated] == ["Changed"]
