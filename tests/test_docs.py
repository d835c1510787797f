"""What the documents say works: every command parses, every Python block runs or at least reads.

Fences: `console` (lines that start with `$ `), `bash` or `sh` (every line), `python`, which must be
valid, and `python run`, which is run from top to bottom, all blocks of a page as one program.
"""

from __future__ import annotations

import ast
import pkgutil
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
    if page.exists()
]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield (info string, content) of every fenced block."""
    for found in FENCE.finditer(text):
        yield found["info"].strip(), found["body"]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command line in a page; comments and variables in front go."""
    for info, body in blocks(text):
        language = info.split()[0] if info else ""
        if language not in ("console", "bash", "sh"):
            continue
        for line in body.replace("\\\n", " ").splitlines():
            if language == "console":
                if not line.startswith("$ "):
                    continue
                line = line[2:]
            for part in re.split(r"&&|\||;", line):
                words = shlex.split(part, comments=True)
                while words and re.fullmatch(r"\w+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield words


def said_by(pages: list[Path], program: str) -> list[tuple[str, list[str]]]:
    return [
        (page.name, words[1:])
        for page in pages
        for words in commands(page.read_text())
        if Path(words[0]).name == program
    ]


ASSAY = said_by(PAGES, "assay")
MAKE = said_by(PAGES, "make")
PYTHON = [
    (page.name, info, body)
    for page in PAGES
    for info, body in blocks(page.read_text())
    if info.split()[:1] == ["python"]
]


def test_the_reader_finds_what_a_page_says() -> None:
    page = (
        "text\n```console\n$ assay run skip --seeds 3  # three\nsome output\n$ make demo\n```\n"
        "```bash\nOMP_NUM_THREADS=1 .venv/bin/assay audit net.py:make \\\n  --data 'a b'\n```\n"
        "```python run\nx = 1\n```\n```\nassay not a command\n```\n"
    )
    assert list(commands(page)) == [
        ["assay", "run", "skip", "--seeds", "3"],
        ["make", "demo"],
        [".venv/bin/assay", "audit", "net.py:make", "--data", "a b"],
    ]
    assert ("python run", "x = 1\n") in blocks(page)


SETTLED = ("audit", "attack", "explain", "run", "sweep", "train")
"""The commands that show their first flags by --help, and all by --help-all."""


@pytest.mark.parametrize(("page", "words"), ASSAY, ids=[" ".join(w) for _, w in ASSAY])
def test_the_commands_of_the_documents_parse(
    page: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from assay.cli import app, call

    monkeypatch.setenv("COLUMNS", "300")
    flags = [word.split("=")[0] for word in words if word.startswith("--")]
    named = words[: 2 if words[0] in ("run", "sweep") else 1]
    named = [word for word in named if not word.startswith("-")]
    everything = "--help-all" if named[0] in SETTLED else "--help"
    assert call(app, [*named, everything]) == 0, f"{page}: {capsys.readouterr().err}"
    shown = capsys.readouterr().out
    for flag in flags:
        assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w.-])", shown), f"{page}: no {flag}"
    settled = (named[0] == "run" and len(named) == 2) or (
        named == ["attack"] and "--attack" in flags
    )
    if settled and "--config" not in flags and "--help" not in flags:
        asked = {"--print-config"} - set(flags)
        assert call(app, [*words, *asked]) == 0, f"{page}: {capsys.readouterr().err}"


def test_the_table_of_attacks_is_that_of_the_family() -> None:
    from assay.attacks import attacks

    rows = re.findall(
        r"^\| (`.*) \| (.*) \| (L.*) \|$", (ROOT / "docs/manual.md").read_text(), re.M
    )
    listed = {name: row[1:] for row in rows for name in re.findall(r"`([\w-]+)`", row[0])}
    assert sorted(listed) == sorted(attacks())
    for name, (needs, norms) in listed.items():
        kind = attacks()[name]
        assert needs.startswith({"gradient": "gradients"}.get(kind.needs, kind.needs)), name
        assert ("minimum-norm" in needs) == kind.minimum_norm, name
        said = {"linf" if norm == "L∞" else norm.lower() for norm in norms.split(", ")}
        norm = str(kind.model_fields["norm"].annotation)
        assert said == set(re.findall(r"l\d|linf", norm)), name


@pytest.mark.parametrize(("page", "words"), MAKE, ids=[" ".join(w) for _, w in MAKE])
def test_the_targets_of_the_documents_exist(page: str, words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {word for word in words if not word.startswith("-") and "=" not in word}
    assert asked <= targets, page


@pytest.mark.parametrize(
    ("page", "info", "body"), PYTHON, ids=[f"{page}-{i}" for i, (page, *_) in enumerate(PYTHON)]
)
def test_the_python_of_the_documents_is_valid(page: str, info: str, body: str) -> None:
    del info
    compile(body, page, "exec")


@pytest.mark.parametrize(
    "page", sorted({page for page, info, _ in PYTHON if info.split()[1:2] == ["run"]})
)
def test_the_python_of_the_documents_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for where, info, body in PYTHON:
        if where == page and info.split()[1:2] == ["run"]:
            exec(compile(body, page, "exec", dont_inherit=True), names)


def test_links_within_the_repository_lead_somewhere() -> None:
    links = [
        (page, target)
        for page in PAGES
        for text in [FENCE.sub("", page.read_text())]
        for target in re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
        if not re.match(r"\w+:", target)
    ]
    assert [f"{p.name}: {link}" for p, link in links if not (p.parent / link).exists()] == []


def anchors(text: str) -> set[str]:
    """Return what the headings of a page are linked by, as GitHub and the site make it."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(words)


def test_anchors_of_links_are_headings() -> None:
    assert anchors("# A way: `x`, y\n```\n# none\n```\n") == {"a-way-x-y"}
    missing = []
    for page in PAGES:
        for target, anchor in re.findall(
            r"\]\(((?!\w+:)[^)#\s]*)#([^)\s]+)\)", FENCE.sub("", page.read_text())
        ):
            there = page.parent / target if target else page
            if there.suffix == ".md" and anchor not in anchors(there.read_text()):
                missing.append(f"{page.name}: {target}#{anchor}")
    assert missing == []


def named(body: str) -> Iterator[str]:
    """Yield the dotted names of assay that a block of Python imports, or writes out."""
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "assay":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Attribute):
            said = ast.unparse(node)
            if re.fullmatch(r"assay(\.\w+)+", said):
                yield said


def test_the_names_in_the_python_of_the_documents_exist() -> None:
    assert list(named("from assay.a import b\nassay.c.d(1).e")) == [
        "assay.a.b",
        "assay.c.d",
        "assay.c",
    ]
    said = {(page, name) for page, _, body in PYTHON for name in named(body)}
    assert len(said) > 20
    unknown = []
    for page, name in sorted(said):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError) as error:
            unknown.append(f"{page}: {name} ({error})")
    assert unknown == []


def test_no_merge_has_left_its_marks() -> None:
    marks = "^(<{7}|[|]{7}|={7}|>{7})( |$)"
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    found = subprocess.run(
        ["git", "grep", "-InE", marks], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, "")  # 1: no line matches
