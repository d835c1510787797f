"""The pages as a browser shows them, light and dark, wide and narrow: axe-core finds nothing that
keeps people out, no letter is too small, nothing sticks out, and an audit fits on eight printed
pages.

Slow, since Chromium draws every page several times. Pictures go to build/pages. `make test-slow`
installs axe-core; ASSAY_AXE names another copy of axe.min.js.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from assay.report.audit_page import render_audit
from assay.report.result import StudyResult
from assay.report.schema import AuditReport, Ood
from assay.report.study_page import render_study

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = ROOT / "build" / "pages"
STUDIES = sorted(ROOT.glob("docs/results/*/result.json"))
PAGES = ["audit", *(path.parent.name for path in STUDIES)]
WIDE, NARROW = (1280, 900), (390, 844)
SMALLEST = 9
"""Pixels: letters below are not read."""
MOST_PRINTED = 8

LOOK = """{
for (const fold of document.querySelectorAll("details")) fold.open = true;
const small = [], seen = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), holder = walker.currentNode.parentElement;
  const box = holder.getBoundingClientRect();
  if (!text || !box.width || ["SCRIPT", "STYLE"].includes(holder.tagName)) continue;
  const drawn = holder.closest("svg");
  const scale = drawn ? drawn.getScreenCTM().a : 1;
  const size = parseFloat(getComputedStyle(holder).fontSize) * scale;
  if (size < SMALLEST - 0.05 && !seen.has(text)) { seen.add(text); small.push([text, size]); }
}
const out = document.documentElement.scrollWidth - innerWidth;
setTimeout(() => axe.run(document, { resultTypes: ["violations"] }).then((found) => {
  const said = found.violations.map((one) => ({
    rule: one.id, impact: one.impact, help: one.help,
    nodes: one.nodes.map((node) => [node.html.slice(0, 160), node.failureSummary]).slice(0, 3),
    count: one.nodes.length,
  }));
  parent.postMessage(JSON.stringify({ violations: said, small, out, width: innerWidth }), "*");
}), 500);
}"""
FRAME = """<!DOCTYPE html><title>frame</title><pre id="told"></pre>
<script>addEventListener("message", (one) => { told.textContent = one.data; });</script>
<iframe src="NAME" width="WIDTH" height="HEIGHT" style="border: 0"></iframe>"""
"""A window is 500 pixels wide at least; a frame is as narrow as one likes."""


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium: apt-get install chromium")


@pytest.fixture(scope="session")
def axe() -> str:
    path = Path(os.environ.get("ASSAY_AXE") or Path(sys.prefix) / "axe-core" / "axe.min.js")
    if not path.is_file():
        pytest.skip(f"no axe-core at {path}: make axe")
    return path.read_text()


@pytest.fixture(scope="session")
def folder(report, tmp_path_factory) -> Path:
    """A folder with every page."""
    made = tmp_path_factory.mktemp("pages")
    (made / "audit.html").write_text(render_audit(report))
    (made / "audit-many.html").write_text(render_audit(with_many_outliers(report)))
    for path in STUDIES:
        (made / f"{path.parent.name}.html").write_text(render_study(StudyResult.read(path)))
    return made


def with_many_outliers(report: AuditReport) -> AuditReport:
    """Return the report with three detectors against four kinds of outlier: what audits have."""
    assert isinstance(report.ood, Ood)
    one = report.ood.results[0]
    results = tuple(
        one.model_copy(update={"detector": detector, "outliers": kind})
        for kind in ("uniform noise", "Gaussian noise", "flat colours", "scrambled images")
        for detector in ("gen", "knn", "max-logit")
    )
    ood = report.ood.model_copy(update={"results": results})
    return report.model_copy(update={"ood": ood})


def browse(chromium: str, page: Path, *flags: str, size: tuple[int, int], dark: bool) -> str:
    colours = ["--blink-settings=preferredColorScheme=0"] if dark else []
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={size[0]},{size[1]}",
        *colours,
        *flags,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return done.stdout


def looked_at(
    chromium: str, axe: str, page: Path, size: tuple[int, int], *, dark: bool
) -> dict[str, Any]:
    """Return what axe-core and `LOOK` say of a page; the copy that is looked at runs scripts."""
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = page.with_name(f"look-{page.name}")
    look = LOOK.replace("SMALLEST", str(SMALLEST))
    copy.write_text(
        html.replace("</body>", f"<script>{axe}</script><script>{look}</script></body>")
    )
    frame = page.with_name(f"frame-{size[0]}-{page.name}")
    given = {"NAME": copy.name, "WIDTH": f"{size[0]}", "HEIGHT": f"{size[1]}"}
    frame.write_text(re.sub("NAME|WIDTH|HEIGHT", lambda word: given[word.group()], FRAME))
    flags = ("--virtual-time-budget=60000", "--dump-dom")
    shown = browse(chromium, frame, *flags, size=(size[0] + 40, size[1]), dark=dark)
    told = re.search(r'<pre id="told">(.+?)</pre>', shown, re.DOTALL)
    assert told, f"axe did not end on {page.name}"
    found: dict[str, Any] = json.loads(unescape(told.group(1)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    ("size", "dark"), [(WIDE, False), (WIDE, True), (NARROW, False), (NARROW, True)]
)
def test_a_page_keeps_nobody_out(
    name: str, size: tuple[int, int], dark: bool, folder: Path, chromium: str, axe: str
) -> None:
    page = folder / f"{name}.html"
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = PICTURES / f"{name}-{size[0]}-{'dark' if dark else 'light'}.png"
    browse(chromium, page, f"--screenshot={picture}", size=(size[0], 2400), dark=dark)
    assert picture.stat().st_size > 10_000
    found = looked_at(chromium, axe, page, size, dark=dark)
    assert found["violations"] == []
    assert found["width"] == size[0]
    assert found["out"] <= 0, "nothing sticks out"
    assert found["small"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["audit", "audit-many"])
def test_an_audit_is_printed_on_few_pages(name: str, folder: Path, chromium: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    paper = PICTURES / f"{name}.pdf"
    flags = ("--no-pdf-header-footer", f"--print-to-pdf={paper}")
    browse(chromium, folder / f"{name}.html", *flags, size=WIDE, dark=False)
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", paper.read_bytes()))
    assert 1 <= pages <= MOST_PRINTED
