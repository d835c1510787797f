"""Draw the first screen of an audit's page as PNGs, light and dark, for the README:

assay demo --out demo && python tools/report_picture.py demo/report.json    # needs Chromium
"""

from __future__ import annotations

import sys

from shooting import shoot

from assay.report.audit_page import render_audit
from assay.report.schema import AuditReport

WIDTH, HEIGHT = 1180, 1180
"""CSS pixels: narrow enough that the contents stand in the text, which the picture leaves out."""
COLOURS = 224
"""Of a PNG: a page needs no more, and stays small."""
WITHOUT_CONTENTS = "<style>nav { display: none; } .sheet { padding-top: 2rem; }</style></head>"


def main(report: str) -> None:
    page = render_audit(AuditReport.read(report)).replace("</head>", WITHOUT_CONTENTS)
    shoot(page, "report", (WIDTH, HEIGHT), COLOURS)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
