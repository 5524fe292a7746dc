"""Every private name of scvi-tools that this package uses, in one place; ``tests/test_compat.py`` checks each of them.

Nothing else may import a private name of scvi-tools.
"""

import rich.pretty  # noqa: F401  scvi-tools 1.4.2 uses it without importing it
from scvi.data._constants import _MANAGER_UUID_KEY as MANAGER_UUID
from scvi.data._constants import _SCVI_UUID_KEY as DATA_UUID
from scvi.data._constants import ADATA_MINIFY_TYPE
from scvi.data._download import _download as download
from scvi.data._utils import _assign_adata_uuid as assign_uuid
from scvi.data._utils import _get_adata_minify_type as minified_type

__all__ = ["ADATA_MINIFY_TYPE", "DATA_UUID", "MANAGER_UUID", "assign_uuid", "download", "minified_type"]
