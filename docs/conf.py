"""How the site is built: `make docs`, or sphinx-build -W docs build/site."""

from __future__ import annotations

import sys
from pathlib import Path

from assay import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "assay"
author = "The assay developers"
copyright = "The assay developers, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "public",
    "repository",
]
exclude_patterns = ["results", "images", "_ext"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
myst_dmath_allow_space = False
# Committed pages of the studies are copied beside the site's own, and linked as they are.
myst_url_schemes = {"http": None, "https": None, "mailto": None, "copied": "{{path}}"}

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "assay"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
