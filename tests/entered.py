"""Which files of the package does a default prediction enter? From the set-up of a screen to the table of an unseen target.

    python tests/entered.py

Prints a file a line. A file is entered if one of its functions is called; definitions and imports do not count.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import threading
from pathlib import Path
from typing import Any

import dbdiffusion

SOURCE = str(Path(dbdiffusion.__file__).parent)
DEFINITIONS = {"<module>", "<lambda>", "__getattr__"}  # run by imports


def entered() -> list[str]:
    """Files, sorted."""
    for module in pkgutil.walk_packages(dbdiffusion.__path__, "dbdiffusion."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    adata = dbdiffusion.simulate_screen(
        n_genes=40, n_perturbations=8, n_cells_per_perturbation=20, n_control_cells=40, n_modules=4, seed=0
    )
    unseen = next(name for name in adata.var_names if name not in set(adata.obs["perturbation"]))
    files: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(SOURCE) and frame.f_code.co_name not in DEFINITIONS:
            files.add(Path(file).relative_to(SOURCE).as_posix())

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        dbdiffusion.DBDiffusion.setup_anndata(adata)
        model = dbdiffusion.DBDiffusion(adata)
        model.train(max_epochs=1, max_epochs_diffusion=1, enable_progress_bar=False)
        model.differential_expression_ppi(unseen, n_cells=32)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return sorted(files)


if __name__ == "__main__":
    print("\n".join(entered()))
