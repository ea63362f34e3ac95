"""Sphinx: `sphinx-build -W docs build/docs`, with `pip install '.[docs]'`; the package must be installed or built."""

import re
from importlib.util import find_spec
from pathlib import Path

from softmax_ext import __version__

project = "softmax_ext"
author = project_copyright = "The softmax_ext developers"
release = version = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # a copy of MathJax among the pages: nothing is loaded from elsewhere
]
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]  # so that formulas read on GitHub too
myst_heading_anchors = 3
autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # the docstrings say more: shapes, and what is cast
autodoc_mock_imports = [] if find_spec("torch") else ["torch"]  # whose functions our own pages do not show
autosummary_generate = False
default_role = "py:obj"  # a name in the docstrings' single backticks is code, and a link where it is documented here
numpydoc_show_class_members = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"softmax_ext {release}"
html_show_sphinx = html_copy_source = False

# Pages that lie outside this folder. Links to them, and the pages here that stand for them, work in a checkout too.
OUTSIDE = {
    "contributing": "CONTRIBUTING.md",
    "changelog": "CHANGELOG.md",
    "benchmarks": "benchmarks/README.md",
    "security": "SECURITY.md",
}


def bring_in(app, page, source):
    """Take the text of a page from outside, and lead links to such pages to the pages here."""
    if page in OUTSIDE:
        path = Path(app.srcdir, "..", OUTSIDE[page])
        app.env.note_dependency(str(path))
        source[0] = path.read_text().replace("](docs/", "](/")
    for name, path in OUTSIDE.items():
        source[0] = re.sub(rf"\]\((\.\./)*{re.escape(path)}", f"](/{name}.md", source[0])


def skip(app, kind, name, member, skipped, options):
    """Leave out named tuples' fields, of which only their number is said, and scikit-learn's routing of metadata."""
    return True if type(member).__name__ == "_tuplegetter" or re.fullmatch("set_[a-z_]+_request", name) else None


def setup(app):
    """Connect what is above."""
    app.connect("autodoc-skip-member", skip)
    app.connect("source-read", bring_in)
