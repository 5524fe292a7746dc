"""scvi-tools' own checkpoints: written whole and sealed, and read with a warning of what they are."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from scvi.model import SCVI

from dbdiffusion._compat import download
from dbdiffusion.data import check_kind
from dbdiffusion.storage import check_companion, check_whole, seal, whole_files

if TYPE_CHECKING:
    from typing import Self

    from anndata import AnnData
    from mudata import MuData
    from scvi.model import SCVI as _Base
else:
    _Base = object

CHECKPOINT = "model.pt"
CELLS = ("adata.h5ad", "mdata.h5mu")
UNREADABLE = (pickle.UnpicklingError, EOFError, OSError, ImportError, RuntimeError, AttributeError, TypeError, IndexError)


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

        The checkpoint holds checksums of itself and of the cells saved with it, which :meth:`load` compares.

        Parameters
        ----------
        dir_path
            Folder to make.
        prefix
            Of the file names.
        overwrite
            Whether it may exist; files of other names in it stay.
        save_anndata
            Whether to write the AnnData too.
        **kwargs
            As in :meth:`scvi.model.SCVI.save`.

        Raises
        ------
        ValueError
            If the folder exists and may not, is a file, or the prefix is no part of a file name.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model")
        ...     loaded = DBDiffusion.load(f"{folder}/model", adata)
        >>> loaded.perturbation_names == model.perturbation_names
        True
        """
        name, folder = _name_of(prefix), Path(dir_path)
        if folder.is_file():
            msg = f"{str(dir_path)!r} is a file; name a folder to save into."
            raise ValueError(msg)
        if folder.exists() and not overwrite:
            msg = f"{dir_path} already exists. Please provide another directory for saving, or `overwrite=True`."
            raise ValueError(msg)
        self._name_setup_method()
        if self.history_ is not None:
            self.history_ = {name: _portable(frame) for name, frame in self.history_.items()}
        if self.added_vectors_ is not None:
            self.added_vectors_ = _portable(self.added_vectors_)
        with whole_files(folder, last=name) as unfinished:
            super().save(str(unfinished), prefix=prefix, overwrite=True, save_anndata=save_anndata, **kwargs)
            seal(unfinished / name, [file for file in unfinished.iterdir() if file.name != name])

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
            If the file is missing, cut off or changed, or is another model's, or the cells do not fit. A checkpoint is looked
            through before anything of it is used.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model")
        ...     alone = DBDiffusion.load(f"{folder}/model", adata=False)
        >>> alone.generate(unseen[0], n_cells=3).n_obs
        3
        """
        if adata is not None and adata is not False:
            check_kind(adata, is_mudata=None)
        file = Path(dir_path) / _name_of(prefix)
        if backup_url is not None and not file.is_file():
            _fetch(backup_url, file)
        companions = check_whole(_existing(file))
        if adata is None:
            for cells in (file.with_name(f"{prefix or ''}{name}") for name in CELLS):
                if cells.is_file():
                    check_companion(cells, companions)
        try:
            model = super().load(str(dir_path), adata, accelerator=accelerator, device=device, prefix=prefix, **kwargs)
        except UNREADABLE as error:
            if isinstance(error, TypeError) and "AnnData" in str(error):
                raise  # of the cells, not of the file
            msg = f"{str(file)!r} cannot be loaded as a {cls.__name__}: {type(error).__name__}: {error}"
            raise ValueError(msg) from error
        model._take_up_folds()
        return model

    @staticmethod
    def load_registry(dir_path: str | Path, prefix: str | None = None) -> dict:
        """The registry of a saved model, see scvi-tools.

        Raises
        ------
        ValueError
            If the file is missing, cut off or changed.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model")
        ...     DBDiffusion.load_registry(f"{folder}/model")["model_name"]
        'DBDiffusion'
        """
        check_whole(_existing(Path(dir_path) / _name_of(prefix)))
        return SCVI.load_registry(str(dir_path), prefix)


def _existing(file: Path) -> Path:
    """The file of a saved model, or an error in words."""
    if not file.is_file():
        msg = f"There is no saved model in {str(file.parent)!r}: it has no {file.name!r}. Name a folder of `model.save(...)`."
        raise ValueError(msg)
    return file


def _name_of(prefix: str | None) -> str:
    name = f"{prefix or ''}{CHECKPOINT}"
    if Path(name).name != name:
        msg = f"`prefix` must be the beginning of a file name, without {os.sep!r}, got {prefix!r}."
        raise ValueError(msg)
    return name


def _fetch(url: str, file: Path) -> None:
    """Download a checkpoint; a damaged one is not kept."""
    with whole_files(file.parent, last=file.name) as unfinished:
        download(url, str(unfinished), file.name)
        check_whole(unfinished / file.name)


def _portable(frame: pd.DataFrame) -> pd.DataFrame:
    """Names as objects: the pickle of pandas 3's own strings cannot be read by pandas 2."""
    for axis, labels in (("columns", frame.columns), ("index", frame.index)):
        if not pd.api.types.is_numeric_dtype(labels.dtype):
            frame = frame.set_axis(pd.Index(labels.to_numpy(dtype=object), dtype=object, name=labels.name), axis=axis)
    return frame
