"""Files that are whole or not there, values as plain JSON and arrays, seals that notice damage. Knows no model."""

from dbdiffusion.storage._declared import ATTRIBUTES, check_arguments, check_attributes, check_sizes
from dbdiffusion.storage._effects import to_anndata, write_effects
from dbdiffusion.storage._files import unfinished_name, whole_file, whole_files, write_whole
from dbdiffusion.storage._interruption import heeding_sigterm, interruptible
from dbdiffusion.storage._plain import from_plain, to_plain
from dbdiffusion.storage._seal import check_companion, check_whole, checksum, seal

__all__ = [
    "ATTRIBUTES",
    "check_arguments",
    "check_attributes",
    "check_companion",
    "check_sizes",
    "check_whole",
    "checksum",
    "from_plain",
    "heeding_sigterm",
    "interruptible",
    "seal",
    "to_anndata",
    "to_plain",
    "unfinished_name",
    "whole_file",
    "whole_files",
    "write_effects",
    "write_whole",
]
