"""A page as PNGs, light and dark, as the README shows it; needs Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SCHEMES = {"light": "1", "dark": "0"}


def shoot(page: str, name: str, size: tuple[int, int], colours: int) -> None:
    """Write a page to docs/images, as NAME-light.png and NAME-dark.png.

    Args:
        page: its HTML.
        name: what the pictures are called.
        size: width and height in CSS pixels.
        colours: of each PNG; flat pictures need few, and stay small.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        sys.exit("needs Chromium")
    with tempfile.TemporaryDirectory() as folder:
        source, shot = Path(folder) / "page.html", Path(folder) / "page.png"
        source.write_text(page, "utf-8")
        for scheme, setting in SCHEMES.items():
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--blink-settings=preferredColorScheme={setting}"]
            command += ["--force-device-scale-factor=1.5", f"--window-size={size[0]},{size[1]}"]
            command += [f"--screenshot={shot}", source.as_uri()]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            with Image.open(shot) as picture:
                few = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
                few.save(IMAGES / f"{name}-{scheme}.png", optimize=True)
