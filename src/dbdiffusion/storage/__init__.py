"""Files that are whole or not there, values as plain JSON and arrays, seals that notice damage. Knows no model."""

from dbdiffusion.storage._cells import InMemory, OnDisk, check_memory, on_disk
from dbdiffusion.storage._effects import to_anndata, write_effects
from dbdiffusion.storage._files import heeding_sigterm, interruptible, unfinished_name, whole_file, whole_files, write_whole
from dbdiffusion.storage._plain import from_plain, to_plain
from dbdiffusion.storage._seal import check_companion, check_whole, checksum, seal
from dbdiffusion.storage._weights import (
    ATTRIBUTES,
    DESCRIPTION,
    check_arguments,
    check_attributes,
    check_sizes,
    read_arrays,
    read_description,
    replaceable,
    write_weights,
)

__all__ = [
    "ATTRIBUTES",
    "DESCRIPTION",
    "InMemory",
    "OnDisk",
    "check_arguments",
    "check_attributes",
    "check_companion",
    "check_memory",
    "check_sizes",
    "check_whole",
    "checksum",
    "from_plain",
    "heeding_sigterm",
    "interruptible",
    "on_disk",
    "read_arrays",
    "read_description",
    "replaceable",
    "seal",
    "to_anndata",
    "to_plain",
    "unfinished_name",
    "whole_file",
    "whole_files",
    "write_effects",
    "write_weights",
    "write_whole",
]
