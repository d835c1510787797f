"""The site holds every page, every method and every public name, and is built without a warning."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import assay

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
TOCTREE = re.compile(r"(?:```\{toctree\}|\.\. toctree::)\n(?P<body>(?:.*\S.*\n|\n)*?)(?:```|\Z)")
APART = ("_ext", "results")


def from_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages() -> dict[str, Path]:
    """By name, as a toctree names it, every page of the site."""
    found = (path for kind in ("*.md", "*.rst") for path in DOCS.rglob(kind))
    return {
        path.relative_to(DOCS).with_suffix("").as_posix(): path
        for path in found
        if path.relative_to(DOCS).parts[0] not in APART
    }


def listed(name: str, text: str) -> list[str]:
    """The pages that a page's toctrees name."""
    lines = [line.strip() for part in TOCTREE.finditer(text) for line in part["body"].splitlines()]
    folder = Path(name).parent
    return [(folder / line).as_posix() for line in lines if line and not line.startswith(":")]


def test_every_page_stands_in_the_contents_once() -> None:
    found = pages()
    told = [there for name, path in found.items() for there in listed(name, path.read_text())]
    assert sorted(told) == sorted(set(found) - {"index"})


def methods() -> Mapping[str, Callable[[], Mapping[str, Any]]]:
    from assay.attacks import attacks
    from assay.attacks.text import text_attacks
    from assay.explain import explainers
    from assay.explain.text import text_explainers
    from assay.ood import detectors

    return {
        "attacks": lambda: attacks.built_in(),
        "attacks of texts": lambda: text_attacks.built_in(),
        "explainers": lambda: explainers.built_in(),
        "explainers of texts": lambda: text_explainers.built_in(),
        "detectors": lambda: detectors.built_in(),
    }


def test_every_method_stands_on_a_page_of_its_family() -> None:
    text = "".join(path.read_text() for path in (DOCS / "methods").glob("*.md"))
    without = [
        f"{family}: {name}"
        for family, members in methods().items()
        for name in members()
        if f"`{name}`" not in text
    ]
    assert without == []


@pytest.mark.parametrize("page", sorted((DOCS / "methods").glob("*.md")), ids=lambda p: p.stem)
def test_a_page_of_methods_says_what_is_computed_and_when_to_believe_it(page: Path) -> None:
    text = page.read_text()
    if page.stem != "index":
        assert "```{math}" in text
        assert "arxiv.org" in text
        assert re.search("when to believe (it|them)", text, re.IGNORECASE)


def test_every_public_room_has_a_page() -> None:
    pytest.importorskip("sphinx")
    told = re.findall(
        r"^\.\. public:: (\S+)$", "".join(p.read_text() for p in DOCS.glob("api/*.rst")), re.M
    )
    public = from_file(DOCS / "_ext" / "public.py").public
    inner = [name for name in dir(assay) if inspect.ismodule(getattr(assay, name))]
    rooms = ["assay", "assay.auditing", "assay.attacks.text", "assay.explain.text"]
    rooms += [room for room in (f"assay.{name}" for name in inner) if public(room)]
    assert sorted(told) == sorted(rooms)


def test_docstrings_become_what_autodoc_reads() -> None:
    pytest.importorskip("sphinx")
    as_rst = from_file(DOCS / "_ext" / "public.py").as_rst
    given = [
        "One `Estimate`s *a* |b| x_.",
        "",
        "    adv = x + eps · s",
        "",
        "Args:",
        "    x: float32 `(N,)`.",
        "",
        ">>> f(*a)",
        "1",
    ]
    assert list(as_rst(given)) == [
        r"One ``Estimate``\ s \*a\* \|b\| x\_.",
        "",
        "::",
        "",
        "    adv = x + eps · s",
        "",
        "Args:",
        "    x: float32 ``(N,)``.",
        "",
        ">>> f(*a)",
        "1",
    ]


def test_links_of_the_repository_become_those_of_the_site() -> None:
    pytest.importorskip("sphinx")
    linked = from_file(DOCS / "_ext" / "repository.py").linked
    given = "[a](docs/ci.md#x) [b](../CONTRIBUTING.md) [c](docs/results/skip/index.html)"
    assert linked(given) == "[a](ci.md#x) [b](contributing.md) [c](copied:results/skip/index.html)"
    assert linked("![d](images/a.svg)") == "![d](images/a.svg)"
    assert linked('<img src="docs/images/a.png">') == '<img src="images/a.png">'


def test_formulae_are_drawn_without_a_script() -> None:
    pytest.importorskip("latex2mathml")
    drawn = from_file(DOCS / "_ext" / "mathml.py").drawn
    for path in (DOCS / "methods").glob("*.md"):
        text = path.read_text()
        alone = re.findall(r"```\{math\}\n(.*?)```", text, re.DOTALL)
        within = re.findall(r"\$([^$\n]+)\$", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        for latex in (*alone, *within):
            shown = drawn(latex, "block")
            assert shown.startswith("<math")
            assert not re.search(r"\\|&(?!#|lt;|gt;)", shown), (
                latex
            )  # a command that was not understood


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    wrong = from_file(ROOT / "tools" / "links.py").wrong
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="#top"></a><a href="b.html#no"></a><a href="c.html"></a>'
        '<a href="https://elsewhere"></a><script src="https://cdn/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<a href="a.html#top"></a>')
    assert list(wrong(tmp_path)) == [
        "a.html: loads https://cdn/x.js",
        "a.html: no such place on the page: b.html#no",
        "a.html: nothing at c.html",
    ]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for needed in ("sphinx", "furo", "myst_parser", "sphinx_copybutton", "latex2mathml"):
        pytest.importorskip(needed)
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", DOCS, tmp_path / "site"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert built.returncode == 0, built.stderr
    assert list(from_file(ROOT / "tools" / "links.py").wrong(tmp_path / "site")) == []
