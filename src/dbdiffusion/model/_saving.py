"""scvi-tools' own checkpoints: written whole, and read with a warning of what they are."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dbdiffusion.data import check_kind
from dbdiffusion.model._files import move_into_place

if TYPE_CHECKING:
    from typing import Self

    from anndata import AnnData
    from mudata import MuData
    from scvi.model import SCVI as _Base
else:
    _Base = object

CHECKPOINT = "model.pt"


class SavingMixin(_Base):
    """``save`` and ``load``."""

    history_: Any
    added_vectors_: pd.DataFrame | None

    def save(
        self,
        dir_path: str | Path,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the model as scvi-tools does, after any stage; a run that is killed leaves no half-written file.

        Parameters
        ----------
        dir_path
            Folder to make.
        prefix
            Of the file names.
        overwrite
            Whether it may exist.
        save_anndata
            Whether to write the AnnData too.
        **kwargs
            As in :meth:`scvi.model.SCVI.save`.

        Raises
        ------
        ValueError
            If the folder exists and may not.
        """
        self._name_setup_method()
        if self.history_ is not None:
            self.history_ = {name: _portable(frame) for name, frame in self.history_.items()}
        if self.added_vectors_ is not None:
            self.added_vectors_ = _portable(self.added_vectors_)
        folder = Path(dir_path).resolve()
        if folder.exists() and not overwrite:
            msg = f"{dir_path} already exists. Please provide another directory for saving, or `overwrite=True`."
            raise ValueError(msg)
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.unfinished-", dir=folder.parent))
        try:
            super().save(str(unfinished), prefix=prefix, overwrite=True, save_anndata=save_anndata, **kwargs)
            move_into_place(unfinished, folder, last=f"{prefix or ''}{CHECKPOINT}")
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    @classmethod
    def load(
        cls,
        dir_path: str | Path,
        adata: AnnData | MuData | bool | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        backup_url: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a saved model.

        .. warning::
            Checkpoints of scvi-tools are pickles: loading one can run any code its author put there. Load only files that
            you trust; for others ask for the files of :meth:`export_weights`, which :meth:`load_weights` reads without running
            anything.

        Parameters
        ----------
        dir_path
            Folder of :meth:`save`, of this version of scvi-tools or another.
        adata
            Cells organised like those it was trained on; None reads those saved with the model, False loads it without cells,
            which is enough to generate and to predict.
        accelerator, device, prefix, backup_url, **kwargs
            As in :meth:`scvi.model.SCVI.load`.

        Raises
        ------
        ValueError
            If the file is missing or cut off, or is another model's, or the cells do not fit.
        """
        if adata is not None and adata is not False:
            check_kind(adata, is_mudata=None)
        file = Path(dir_path) / f"{prefix or ''}{CHECKPOINT}"
        if file.is_file() and not zipfile.is_zipfile(file):
            msg = f"{str(file)!r} is no whole checkpoint. Was it cut off, by a full disk or a copy that broke?"
            raise ValueError(msg)
        return super().load(
            str(dir_path), adata, accelerator=accelerator, device=device, prefix=prefix, backup_url=backup_url, **kwargs
        )


def _portable(frame: pd.DataFrame) -> pd.DataFrame:
    """Names as objects: the pickle of pandas 3's own strings cannot be read by pandas 2."""
    for axis, labels in (("columns", frame.columns), ("index", frame.index)):
        if not pd.api.types.is_numeric_dtype(labels.dtype):
            frame = frame.set_axis(pd.Index(labels.to_numpy(dtype=object), dtype=object, name=labels.name), axis=axis)
    return frame
