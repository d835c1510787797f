"""Draw the leading figure of each published study as PNGs, light and dark, for the README:

python tools/heroes.py            # docs/images/STUDY-light.png and -dark.png; needs Chromium
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from assay.report.result import StudyResult

ROOT = Path(__file__).parents[1]
RESULTS, IMAGES = ROOT / "docs" / "results", ROOT / "docs" / "images"
CSS = (ROOT / "src" / "assay" / "report" / "templates" / "page.css").read_text("utf-8")
STUDIES = ("skip", "gradients", "regularization", "attacks", "attention")
WIDTH = 860
"""CSS pixels."""
SCHEMES = {"light": "1", "dark": "0"}
COLOURS = 64
"""Of a PNG: flat figures need no more, and stay small."""


def main() -> int:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        print("needs Chromium", file=sys.stderr)
        return 2
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
        page = (
            f"<!DOCTYPE html><meta charset=utf-8><meta name=color-scheme content='light dark'>"
            f"<style>{CSS} body {{ padding: 20px 24px; }} h2 {{ margin: 0 0 8px; font-size: 21px; "
            f"white-space: nowrap; }}</style><h2>{hero.heading}</h2>{svg}"
        )
        for scheme, setting in SCHEMES.items():
            shoot(browser, page, IMAGES / f"{study}-{scheme}.png", height, setting)
    return 0


def shoot(browser: str, page: str, out: Path, height: int, scheme: str) -> None:
    """Write a page as a PNG of few colours."""
    with tempfile.TemporaryDirectory() as folder:
        source, shot = Path(folder) / "hero.html", Path(folder) / "hero.png"
        source.write_text(page, "utf-8")
        subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                f"--blink-settings=preferredColorScheme={scheme}",
                *("--force-device-scale-factor=1.5", f"--window-size={WIDTH},{height}"),
                *(f"--screenshot={shot}", source.as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )
        with Image.open(shot) as picture:
            picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(
                out, optimize=True
            )


if __name__ == "__main__":
    sys.exit(main())
