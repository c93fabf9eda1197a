"""How the site is built: ``./dev docs``.

The source directory is the checkout itself, so that a link between two pages leads to the same place here and
where the files are read as they are. What is generated is in ``docs/reference``, from the code by
``reference``; nothing of it is written down twice.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

from megabroker import __version__

project = "megabroker"
author = "The megabroker developers"
copyright = author
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "reference",
    "links",
]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGES.md", "bench/README.md", "docs/**"]
exclude_patterns = ["docs/site", "build", ".venv", ".cache", "**/node_modules"]

# Every reference must be resolved, but types in signatures: those of other projects are described elsewhere.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r".*")]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
add_module_names = False

highlight_language = "text"
# Options keep their two hyphens.
smartquotes = False
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = f"megabroker {release}"
html_extra_path = ["root"]
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Take part in a build: a language that nothing highlights is a plain text."""
    app.add_lexer("cursus", TextLexer)
    app.add_lexer("mega", TextLexer)
