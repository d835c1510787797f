"""The pages: one self-contained HTML file from a report or a result. No network, no script of
others: a content security policy in the page forbids what is not this page's own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from assay.report import numerals
from assay.report.answer import pieces
from assay.report.comparison import Comparison
from assay.report.findings import allowed, at
from assay.report.leaves import text_of
from assay.report.numerals import Doubtful
from assay.report.record import NotRun, Unit
from assay.report.result import Table

_SCRIPT = """
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "copied";
  });
}
function unfold() {
  const named = location.hash && document.getElementById(location.hash.slice(1));
  for (let at = named; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (named) named.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
const seen = new ResizeObserver((boxes) => {
  for (const { target } of boxes)
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
});
for (const box of document.querySelectorAll(".wide, pre")) seen.observe(box);
"""
"""The only script of a page: it copies a command, opens the fold that a link leads into, and lets
the keyboard reach what scrolls."""

_NAMED = re.compile(r' aria-label="[^"]*"')

_ENDS = (0.1, 0.25, 0.5, 1.0)
"""Where the line of a check on a fraction may end, so that small ones can be seen."""


def render_comparison(both: Comparison) -> str:
    """Return two results side by side as one HTML page."""
    return rendered("compare.html.j2", both=both)


def render_tables(
    title: str, lines: Sequence[str], tables: Sequence[tuple[str, Sequence[str], Any]]
) -> str:
    """Return two audits side by side as one HTML page.

    Args:
        title: its heading.
        lines: what stands below it.
        tables: title, names of columns, and rows of texts of each; one without rows is left out.
    """
    return rendered("tables.html.j2", title=title, lines=lines, tables=tables)


def rendered(template: str, **given: Any) -> str:
    """Return a template of this package as a page."""
    return _environment().get_template(template).render(**given)


_UNIT = re.compile(r"(?<=\d) (?=(?:%|points?\b|×))|(?<=L[∞012]) (?=\d)")
"""The space between a number and its unit, or a norm and its budget."""
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
"""An option of a command, which browsers would break after its hyphens."""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("assay.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _SCRIPT + (files("assay.report") / "templates" / "study.js").read_text("utf-8")
    seal = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(
        allowed=allowed,
        at=at,
        budget=numerals.budget,
        common=common,
        script=Markup(script),
        script_seal=seal,
        track=track,
    )
    environment.filters.update(
        answer=_answer,
        bare=numerals.bare,
        duration=numerals.duration,
        figure=_figure,
        interval=numerals.interval,
        leaf=text_of,
        metric=numerals.metric,
        moment=_moment,
        natural=_natural_width,
        norm=numerals.norm_name,
        options=_options,
        slug=lambda text: text.replace(" ", "-"),
        spaced=lambda text: text.replace("_", " "),
        unbroken=_unbroken,
        with_unit=numerals.with_unit,
        yaml=_yaml,
    )
    environment.tests["not_run"] = lambda chapter: isinstance(chapter, NotRun)
    return environment


def _unbroken(text: str) -> str:
    """Return a text whose numbers stay on one line with their units, on a telephone too."""
    return _UNIT.sub("\u00a0", text)


def _options(text: str) -> Markup:
    """Return a text whose options of a command stay whole, everything else escaped."""
    return Markup(_OPTION.sub(r'<span class="option">\g<0></span>', str(escape(text))))


def track(
    estimate: Doubtful | None,
    unit: Unit = "fraction",
    threshold: float | None = None,
    direction: str = "",
    beside: Doubtful | None = None,
) -> dict[str, Any] | None:
    """Return where value, interval and threshold lie on a line from 0 to 100 (percent of it).

    `start` and `end` say what the ends of the line mean. Without a threshold fractions span
    0 to 1; otherwise the line spans what is shown, zero included, and what is shown `beside` it on
    another line. None where there is nothing.
    """
    if estimate is None or estimate.value is None:
        return None
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    shown = [0.0, low, high] + ([] if threshold is None else [threshold])
    shown += [] if beside is None else [v for v in (beside.low, beside.high) if v is not None]
    if unit == "fraction":
        needed = 1.15 * max(shown)
        start = 0.0
        end = 1.0 if threshold is None else min((e for e in _ENDS if e >= needed), default=1.0)
    else:
        start, end = 1.15 * min(shown), 1.15 * max(shown)
        if min(shown) >= -1 > start:  # of shares, AUROC and their differences: no room beyond
            start = -1.0
        if max(shown) <= 1 < end:
            end = 1.0
        end = end if end > start else start + 1.0

    def place(value: float) -> float:
        return round(100 * min(max((value - start) / (end - start), 0.0), 1.0), 2)

    where = {"start": start, "end": end, "value": place(estimate.value)}
    where |= {"low": place(low), "high": place(high)}
    if threshold is not None:
        at = place(threshold)
        where |= {"threshold": at, "from": at if direction == "at least" else 0.0}
        where["to"] = 100.0 if direction == "at least" else at
    return where


def common(table: Table) -> tuple[int, str, float] | None:
    """Return (n, of, level) where it is the same for all numbers of a table, so that it is said
    once; None where it is not, or where there are no numbers.
    """
    cells = [cell.estimate for row in table.rows for cell in row if cell.estimate is not None]
    found = {(estimate.n, estimate.of, estimate.level) for estimate in cells}
    return found.pop() if len(found) == 1 else None


def _figure(svg: str, finding: str = "") -> Markup:
    """Put an SVG into the page, named by what is found in it. Inside HTML it needs no namespace,
    so the page has no address."""
    svg = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    if finding:
        head, mark, rest = svg.partition(">")
        head = _NAMED.sub("", head) + f' aria-label="{escape(finding)}"'
        svg = head + mark + rest
    return Markup(svg)


def _natural_width(svg: str) -> int:
    """Return how wide a figure is drawn where there is room, in pixels."""
    found = _WIDTH.search(svg)
    return int(found.group(1)) if found else 0


_WIDTH = re.compile(r"max-width: (\d+)px")


def _answer(text: str) -> Markup:
    """Return the answer of a study with its bold words in bold, everything else escaped."""
    return Markup("").join(
        Markup("<strong>{}</strong>").format(piece) if bold else piece
        for piece, bold in pieces(text)
    )


def _yaml(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _moment(iso: str) -> str:
    """Return an ISO time as people write it: 2026-03-01 12:04."""
    return iso[:16].replace("T", " ")
