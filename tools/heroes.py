"""Draw the leading figure of each published study as PNGs, light and dark, for the README:

python tools/heroes.py            # docs/images/STUDY-light.png and -dark.png; needs Chromium
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from shooting import shoot

from assay.report.result import StudyResult

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
CSS = (ROOT / "src" / "assay" / "report" / "templates" / "page.css").read_text("utf-8")
STUDIES = (
    "skip-course",
    "gradients",
    "regularization",
    "attacks",
    "attention",
    "ood-full",
    "hardening",
    "sentiment-whole",
    "words-augmented",
)
WIDTH = 860
"""CSS pixels."""
LINE = 1750
"""Size of a letter in CSS pixels times letters: what fits into one line."""
COLOURS = 128
"""Of a PNG: flat figures need no more, and stay small."""


def main() -> None:
    for study in STUDIES:
        result = StudyResult.read(RESULTS / study / "result.json")
        hero = next((figure for figure in result.figures if figure.role == "hero"), None)
        if hero is None:
            print(f"{study}: no figure leads its page", file=sys.stderr)
            continue
        size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', hero.svg)
        assert size is not None
        height = 86 + round((WIDTH - 48) * float(size.group(2)) / float(size.group(1)))
        svg = re.sub(r"max-width: \d+px", "max-width: none", hero.svg, count=1)
        heading = hero.heading or hero.title
        letters = f"{min(21, LINE / len(heading)):.1f}px"
        page = (
            f"<!DOCTYPE html><meta charset=utf-8><meta name=color-scheme content='light dark'>"
            f"<style>{CSS} body {{ padding: 20px 24px; }} h2 {{ margin: 0 0 8px; "
            f"white-space: nowrap; font-size: {letters}; }}</style><h2>{heading}</h2>{svg}"
        )
        shoot(page, study, (WIDTH, height), COLOURS)


if __name__ == "__main__":
    main()
