"""Draw the first screen of an audit's page as PNGs, light and dark, for the README:

assay demo --out demo && python tools/report_picture.py demo/report.json    # needs Chromium
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from assay.report.audit_page import render_audit
from assay.report.schema import AuditReport

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1180, 1180
"""CSS pixels: narrow enough that the contents stand in the text, which the picture leaves out."""
SCHEMES = {"light": "1", "dark": "0"}
COLOURS = 224
"""Of a PNG: a page needs no more, and stays small."""
WITHOUT_CONTENTS = "<style>nav { display: none; } .sheet { padding-top: 2rem; }</style></head>"


def main(report: str) -> int:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        print("needs Chromium", file=sys.stderr)
        return 2
    page = render_audit(AuditReport.read(report)).replace("</head>", WITHOUT_CONTENTS)
    for scheme, setting in SCHEMES.items():
        with tempfile.TemporaryDirectory() as folder:
            source, shot = Path(folder) / "report.html", Path(folder) / "report.png"
            source.write_text(page, "utf-8")
            command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            command += [f"--blink-settings=preferredColorScheme={setting}"]
            command += ["--force-device-scale-factor=1.5", f"--window-size={WIDTH},{HEIGHT}"]
            command += [f"--screenshot={shot}", source.as_uri()]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            with Image.open(shot) as picture:
                few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
                few.save(IMAGES / f"report-{scheme}.png", optimize=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
