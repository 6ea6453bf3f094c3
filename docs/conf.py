"""Settings of the documentation site: ``make docs`` builds it, without a network, into docs/_build."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from docutils.nodes import SkipNode, math, math_block
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

logger = getLogger(__name__)

project = "layerprobe"
author = "The layerprobe developers"
copyright = "The layerprobe developers, Apache-2.0"
release = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery", "simulations", "examples/**/*.ipynb", "examples/**/*.py"]
default_role = "code"  # what single backticks of docstrings mean
nitpicky = True
# Types of arguments belong to numpy, pandas, torch and to private modules, whose pages are not part of this site.
nitpick_ignore_regex = [("py:.*", ".*")]

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "smartquotes"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {  # inherited from scikit-learn
    "exclude-members": "set_fit_request, set_predict_request, set_score_request, set_transform_request"
}
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False

plot_basedir = str(DOCS)  # .. plot:: simulations/NAME.py (in {eval-rst}) runs a script and shows its figures
plot_formats = [("png", 144)]
plot_html_show_formats = False
plot_html_show_source_link = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "filename_pattern": r"\.py$",  # all are run; make docs SPHINXOPTS="-D plot_gallery=0" runs none
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,  # its page would load scripts from elsewhere
    "show_signature": False,
    "copyfile_regex": r".*\.rst",
}

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "layerprobe"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False


def mathml(node: math | math_block, *, as_block: bool) -> str:
    """Return a formula as MathML, which a browser shows without a script; warn of one that can't be read."""
    tex = node.astext()
    for name in ("equation", "equation*", "align", "align*"):  # amsmath passes the environment on with its content
        tex = tex.replace(rf"\begin{{{name}}}", "").replace(rf"\end{{{name}}}", "")
    # Delimiters grow by themselves in MathML, and docutils knows ldots.
    tex = re.sub(r"\\(?:[bB]igg?[lrm]?(?![A-Za-z])|!)", "", tex).replace(r"\dots", r"\ldots")
    try:
        return tex2mathml(tex.strip(), as_block=as_block)
    except MathError as error:
        logger.warning("formula %r: %s", tex, error, location=node)
        return ""


def visit_inline_formula(writer: HTML5Translator, node: math) -> None:
    """Write a formula within a line."""
    writer.body.append(mathml(node, as_block=False))
    raise SkipNode


def visit_formula(writer: HTML5Translator, node: math_block) -> None:
    """Write a formula on lines of its own."""
    writer.body.append(f'<div class="math">{mathml(node, as_block=True)}</div>')
    raise SkipNode


def depart(writer: HTML5Translator, node: math) -> None:
    """Leave a formula: its end is written with its beginning."""


def setup(app: Sphinx) -> None:
    """Let formulae be written as MathML by docutils, so that the site opens without a network and without LaTeX."""
    app.add_html_math_renderer("mathml", (visit_inline_formula, depart), (visit_formula, depart))
