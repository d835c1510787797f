"""Pages as Chromium lays them out on a phone, many in one start of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest

WIDTH = 390
HEAVIEST = 5_000_000
"""Bytes of a page."""
SLOWEST = 1000
"""Milliseconds from the HTML to its layout."""
MARKERS = 12
"""Pixels by which a dot at the end of its line may stick out of the box of that line."""

LOOK = """
const told = {};
const plain = (e) => getComputedStyle(e).overflowX === "visible";
function called(e) {
  return `${e.tagName.toLowerCase()}.${e.getAttribute("class") || ""}: ` +
    e.textContent.trim().replace(/\\s+/g, " ").slice(0, 60);
}
function held(e) {  // in a box that scrolls, or that is not seen
  for (let at = e.parentElement; at && at.tagName !== "BODY"; at = at.parentElement)
    if (!plain(at)) return true;
  return false;
}
for (const [name, html] of Object.entries(PAGES)) {
  const frame = document.createElement("iframe");
  frame.width = WIDTH; frame.height = 844; frame.style.border = 0;
  document.body.append(frame);
  const times = [];
  let page;
  for (let time = 0; time < 3; time++) {  // the least: the machine may be busy
    page = frame.contentDocument;
    const start = performance.now();
    page.open(); page.write(html); page.close();
    page.documentElement.getBoundingClientRect().height;
    times.push(performance.now() - start);
    if (times[time] < SLOWEST) break;
  }
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  const wide = page.documentElement.clientWidth, out = [];
  for (const e of page.body.querySelectorAll("*")) {
    const box = e.getBoundingClientRect();
    if (!box.width || e.closest("svg, .unseen, .skip") || held(e)) continue;
    if (box.right > wide + 0.5 || box.left < -0.5) out.push(called(e));
    else if (plain(e) && e.clientWidth && e.scrollWidth > e.clientWidth + MARKERS)
      out.push(called(e));
  }
  told[name] = {
    time: Math.min(...times), out,
    scrolls: page.documentElement.scrollWidth - wide,
    headings: [...page.querySelectorAll("h1,h2,h3,h4,h5,h6")].map((e) => +e.tagName[1]),
    silent: [...page.querySelectorAll("img")].filter((e) => !e.getAttribute("alt")).length,
  };
}
document.getElementById("told").textContent = JSON.stringify(told);
"""


def chromium() -> str:
    """Return the browser, or skip the test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium: apt-get install chromium")


def opens(folder: Path, pages: dict[str, str]) -> None:
    """Assert of pages at 390 pixels, with all that folds unfolded: nothing makes them scroll
    sideways or sticks out of its box, the console says nothing, images have a text in their place,
    headings leave out no level, they weigh less than 5 MB and are laid out within a second.

    Args:
        folder: an empty one.
        pages: HTML by name.
    """
    browser = chromium()
    given = json.dumps(pages).replace("</", "<\\/").replace("<!--", "<\\!--")
    limits = f"const WIDTH = {WIDTH}, SLOWEST = {SLOWEST}, MARKERS = {MARKERS};"
    script = f"{limits} const PAGES = {given};{LOOK}"
    holder = folder / "browsed.html"
    holder.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><pre id="told"></pre><script>{script}</script>'
    )
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr")
    flags += (f"--user-data-dir={folder / 'profile'}", "--window-size=1280,900", "--dump-dom")
    done = subprocess.run(
        [browser, *flags, holder.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert said == [], "the console is silent"
    told = re.search(r'<pre id="told">(.+?)</pre>', done.stdout, re.DOTALL)
    assert told, "the pages were looked at"
    for name, found in json.loads(unescape(told.group(1))).items():
        assert found["scrolls"] <= 0, f"{name} scrolls sideways: {found['out']}"
        assert not found["out"], f"{name} has something wider than its box: {found['out']}"
        assert found["silent"] == 0, f"{name} has an image without a text"
        levels = found["headings"]
        assert levels[:1] == [1], f"{name} begins with its title"
        jumps = [two for one, two in pairwise(levels) if two > one + 1]
        assert jumps == [], f"{name} leaves out a level of headings: {levels}"
        assert len(pages[name].encode()) < HEAVIEST, f"{name} is heavy"
        assert found["time"] < SLOWEST, f"{name} takes {found['time']:.0f} ms"
