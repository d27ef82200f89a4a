"""Settings of Sphinx for these pages: `make docs`."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
# The sources beside these pages, whatever is installed.
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "pcdistill"
author = copyright = "pcdistill contributors"
release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx.ext.napoleon", "generated"]
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
    "torch_geometric": ("https://pytorch-geometric.readthedocs.io/en/latest", None),
}
intersphinx_timeout = 5
intersphinx_disabled_reftypes = ["std:*"]
exclude_patterns = ["_build", "_ext"]
# Single backticks in docstrings: a link where there is such an object, else code.
default_role = "py:obj"
smartquotes = False  # "--flag" is no dash

highlight_language = "none"  # formulas of docstrings are no Python

myst_enable_extensions = ["deflist", "html_image"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # else every storage repeats all that `Storage` says
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "pcdistill"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sourcelink = False
html_copy_source = False
