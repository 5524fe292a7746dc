"""Settings of the documentation site: ``make docs``."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import Any

project = "dbdiffusion"
author = "dbdiffusion developers"
copyright = f"2026, {author}"
version = release = importlib.metadata.version(project)
repository = "https://github.com/dbdiffusion/dbdiffusion"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
suppress_warnings = [
    "myst.xref_missing",  # pages are read on GitHub too, where they link to files outside docs
    "sphinx_autodoc_typehints.forward_reference",  # names imported under TYPE_CHECKING, as in all of the ecosystem
    "sphinx_autodoc_typehints.guarded_import",
]

myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"  # of notebooks alone; blocks of other pages are run by tests/test_docs.py
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell
nb_merge_streams = True

autosummary_generate = True
autodoc_typehints = "none"  # sphinx_autodoc_typehints writes them
autodoc_member_order = "groupwise"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = True
napoleon_use_param = True
napoleon_custom_sections = [("Warns", "params_style")]
typehints_defaults = "braces"
typehints_document_rtype = False  # the "Returns" of a docstring names its type
always_use_bars_union = True

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

intersphinx_timeout = 5
intersphinx_mapping = {
    "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
    "matplotlib": ("https://matplotlib.org/stable/", None),
    "mudata": ("https://mudata.readthedocs.io/en/latest/", None),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "pandas": ("https://pandas.pydata.org/docs/", None),
    "python": ("https://docs.python.org/3/", None),
    "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
    "scipy": ("https://docs.scipy.org/doc/scipy/", None),
    "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
    "torch": ("https://docs.pytorch.org/docs/stable/", None),
}

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "repository_url": repository,
    "use_repository_button": True,
    "path_to_docs": "docs",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_persistent": [],
}
html_show_sourcelink = False


class _UnreachableInventories(logging.Filter):
    """Links to other projects are welcome, not needed: a machine without a network builds the site too."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "failed to reach any of the inventories" not in str(record.msg)


def setup(app: Any) -> None:
    """Called by sphinx."""
    logging.getLogger("sphinx.sphinx.ext.intersphinx").addFilter(_UnreachableInventories())
