"""Every private name of scvi-tools that this package uses, in one place; ``tests/test_compat.py`` checks each of them.

Nothing else may import a private name of scvi-tools.
"""

from scvi.data._constants import ADATA_MINIFY_TYPE
from scvi.data._download import _download as download
from scvi.data._utils import _get_adata_minify_type as minified_type

__all__ = ["ADATA_MINIFY_TYPE", "download", "minified_type"]
