"""How a model leaves memory: files, weights alone, the hub, copies."""

from __future__ import annotations

import os
import pickle
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pandas as pd
import scvi
import torch
from mudata import MuData
from scvi.model import SCVI

from dbdiffusion._compat import download
from dbdiffusion.data import check_kind
from dbdiffusion.storage import (
    ATTRIBUTES,
    DESCRIPTION,
    check_arguments,
    check_attributes,
    check_companion,
    check_sizes,
    check_whole,
    from_plain,
    read_arrays,
    read_description,
    replaceable,
    seal,
    to_plain,
    whole_files,
    write_weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    import numpy as np
    from anndata import AnnData
    from scvi.data import AnnDataManager
    from scvi.hub import HubModel
    from scvi.model import SCVI as _Base

    from dbdiffusion.model._model import DBDiffusion
else:
    _Base = object


# scvi-tools' own checkpoints: written whole and sealed, and read with a warning of what they are.


CHECKPOINT = "model.pt"
CELLS = ("adata.h5ad", "mdata.h5mu")
UNREADABLE = (pickle.UnpicklingError, EOFError, OSError, ImportError, RuntimeError, AttributeError, TypeError, IndexError)
PICKLE_PROTOCOL = 4  # torch's own choice, 2, writes a byte of an array above 127 as two


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
        kwargs["save_kwargs"] = {"pickle_protocol": PICKLE_PROTOCOL} | (kwargs.get("save_kwargs") or {})
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
            if "numpy._core" in str(error):
                msg += ". It was saved under NumPy 2: `pip install 'numpy>=2'`, or load files of `export_weights`."
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


# Copies of a model, shallow, deep or by pickle: they answer as the original does and share no book-keeping with it.


LEFT_BEHIND = {"_predictors": dict, "_rna_of_mudata": dict}  # found anew when it is asked for
PARTS = ("obs", "var", "axis")
MAPPINGS = ("obsm", "varm", "obsp", "varp", "obsmap", "varmap")


class CopyingMixin(_Base):
    """What :mod:`copy` and :mod:`pickle` ask for."""

    _adata: AnnData | MuData | None
    _adata_manager: AnnDataManager | None

    def __getstate__(self) -> dict[str, Any]:
        """All but caches and the trainer, which a loaded model has not either."""
        state = {name: value for name, value in self.__dict__.items() if name not in LEFT_BEHIND and name != "trainer"}
        if isinstance(self._adata, MuData):
            state |= {"_adata": _PackedMuData(self._adata, self._adata_manager), "_adata_manager": None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The state under an id of its own, by which scvi-tools keeps a model's AnnData."""
        self.__dict__.update(state, id=str(uuid4()), **{name: make() for name, make in LEFT_BEHIND.items()})
        if isinstance(self._adata, _PackedMuData):
            self._unpack(self._adata)
        if self._adata_manager is not None:
            self._register_manager_for_instance(self._adata_manager)

    def _unpack(self, packed: _PackedMuData) -> None:
        """The MuData of a shallow copy as it is, any other registered as when a model is loaded."""
        self._adata, self._adata_manager = packed.mdata, packed.manager
        if self._adata_manager is None:
            type(self).setup_mudata(packed.mdata, source_registry=self.registry_, **self.registry_["setup_args"])
            self._adata_manager = self._get_most_recent_anndata_manager(packed.mdata, required=True)


class _PackedMuData:
    """A MuData that can be pickled: its own manager of files cannot, nor the fields that scvi-tools makes of it."""

    def __init__(self, mdata: MuData, manager: AnnDataManager | None = None) -> None:
        self.mdata, self.manager = mdata, manager

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], _PackedMuData], tuple[dict[str, Any]]]:
        parts = {name: getattr(self.mdata, name) for name in PARTS}
        mappings = {name: dict(getattr(self.mdata, name)) for name in MAPPINGS}
        uns = {name: value for name, value in self.mdata.uns.items() if not name.startswith("_scvi")}  # it is another's id
        return _unpacked, ({"data": dict(self.mdata.mod), **parts, **mappings, "uns": uns},)


def _unpacked(parts: dict[str, Any]) -> _PackedMuData:
    return _PackedMuData(MuData(**parts))


# A trained model as numbers and text: safetensors and JSON, which run no code when they are read.


_MODULE, _ATTRIBUTE = "module.", "attribute."


class WeightsMixin(_Base):
    """``export_weights`` and ``load_weights``."""

    def export_weights(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write all that :meth:`save` writes, but as safetensors and JSON: files that run no code when they are read.

        Parameters
        ----------
        folder
            Gets ``model.json`` (constructor arguments, registry, attributes) and one ``weights-*.safetensors`` (weights and
            arrays, named by their checksum). The cells are not written, nor attributes that are not the model's own.
        overwrite
            Whether a model in the folder may be replaced. A run that is killed leaves the old one or the new one. Other files
            stay.

        Raises
        ------
        FileExistsError
            If there is one and it may not, or if its ``model.json`` is of other software.

        Examples
        --------
        >>> import tempfile
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> DBDiffusion.setup_anndata(adata)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     DBDiffusion(adata, n_folds=2).export_weights(folder)
        ...     DBDiffusion.load_weights(folder, adata).perturbation_names == sorted(
        ...         set(adata.obs["perturbation"]) - {"control"}
        ...     )
        True
        """
        folder = Path(folder)
        before = replaceable(folder, overwrite=overwrite)
        self._name_setup_method()
        arrays: dict[str, np.ndarray] = {}
        attributes = {name: value for name, value in self._get_user_attributes() if name in ATTRIBUTES}
        plain = to_plain(attributes, arrays, _ATTRIBUTE)
        for name, tensor in self.module.state_dict().items():
            arrays[_MODULE + name] = tensor.detach().cpu().numpy()
        versions = {"dbdiffusion": version("dbdiffusion"), "scvi-tools": scvi.__version__}
        write_weights(folder, plain, arrays, versions, before)

    @classmethod
    def load_weights(cls, folder: str | Path, adata: AnnData | MuData | None = None) -> Self:
        """Read what :meth:`export_weights` wrote. Nothing is unpickled, so the files may come from anybody.

        Parameters
        ----------
        folder
            With ``model.json``.
        adata
            Cells organised like those it was trained on; None loads a model without cells, which generates and predicts,
            but does not train.

        Raises
        ------
        FileNotFoundError
            If a file is missing.
        ValueError
            If a file is cut off, changed, or of another format.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.export_weights(folder)
        ...     alone = DBDiffusion.load_weights(folder)
        >>> alone.generate(unseen[0], n_cells=3).n_obs
        3
        """
        description = read_description(Path(folder))
        arrays = read_arrays(Path(folder), description)
        state = {name.removeprefix(_MODULE): array for name, array in arrays.items() if name.startswith(_MODULE)}
        attributes = check_attributes(from_plain(description.get("attributes"), arrays), DESCRIPTION)
        keywords, registry = (
            check_arguments(cls, attributes.pop("init_params_"), state, DESCRIPTION),
            attributes.pop("registry_"),
        )
        if registry.get("model_name") != cls.__name__:
            msg = f"{str(folder)!r} holds a {registry.get('model_name')}, not a {cls.__name__}."
            raise ValueError(msg)
        check_sizes(cls, registry, keywords, state, DESCRIPTION)
        if adata is not None:
            setup = cls.setup_mudata if registry.get("setup_method_name") == "setup_mudata" else cls.setup_anndata
            setup(adata, source_registry=registry, **registry["setup_args"])
        model = cls(adata, registry=None if adata is not None else registry, **keywords)
        for name, value in attributes.items():
            setattr(model, name, value)
        model.module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
        model._take_up_folds()  # type: ignore[attr-defined]
        model.module.eval()
        return model


# A trained model on the Hugging Face hub, with a card that says what it is and what it is not.


class HubMixin(_Base):
    """``hub_model``."""

    def hub_model(
        self,
        folder: str | Path,
        license_info: str,
        description: str,
        authors: Sequence[str] = (),
        references: str = "",
        training_data_url: str | None = None,
        save_anndata: bool = False,
        overwrite: bool = False,
    ) -> HubModel:
        """Save the model with metadata and a model card, ready to be pushed to the Hugging Face hub.

        Parameters
        ----------
        folder
            To save into.
        license_info
            Licence of the model, for instance ``"cc-by-4.0"``.
        description
            What it was trained on, in your words.
        authors, references
            To be named on the card.
        training_data_url
            A cellxgene portal link to the cells, see :class:`scvi.hub.HubMetadata`.
        save_anndata, overwrite
            As in :meth:`save`.

        Returns
        -------
        scvi.hub.HubModel
            Its ``push_to_huggingface_hub`` uploads; ``HubModel(folder).model`` reads it back.

        Raises
        ------
        ValueError
            If the folder exists and may not, or the model has no trained stage.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     words = {"license_info": "cc-by-4.0", "description": "A simulated screen."}
        ...     hub = model.hub_model(f"{folder}/model", **words)
        >>> "A simulated screen." in hub.model_card.content
        True
        """
        from huggingface_hub import ModelCard
        from scvi.hub import HubMetadata, HubModel

        if not self.is_vae_trained_:
            msg = "No stage of the model is trained. Call `model.train()` before it is shared."
            raise ValueError(msg)
        self.save(folder, overwrite=overwrite, save_anndata=save_anndata)
        metadata = HubMetadata.from_dir(
            str(folder),
            anndata_version=version("anndata"),
            model_parent_module="dbdiffusion",
            training_data_url=training_data_url,
        )
        card = ModelCard(_card(self, metadata, license_info, description, authors, references))
        hub = HubModel(str(folder), metadata=metadata, model_card=card)
        hub.save(overwrite=overwrite)
        return hub


def _card(
    model: DBDiffusion, metadata: Any, license_info: str, description: str, authors: Sequence[str], references: str
) -> str:
    tags = ["biology", "genomics", "single-cell", "perturb-seq", f"model_cls_name:{metadata.model_cls_name}"]
    tags += [f"scvi_version:{metadata.scvi_version}", f"anndata_version:{metadata.anndata_version}", "modality:rna"]
    names, stats = model.perturbation_names, model.summary_stats
    control = model.registry_["field_registries"]["perturbation"]["state_registry"]["control"]
    stages = "both stages" if model.is_diffusion_trained_ else "stage one (the VAE) only: it cannot generate yet"
    arguments = "\n".join(f"| {name} | `{value}` |" for name, value in model.init_params_["non_kwargs"].items())
    setup = "\n".join(f"| {name} | `{value}` |" for name, value in model.registry_["setup_args"].items())
    header = "\n".join(
        ["---", "library_name: scvi-tools", f"license: {license_info}", "tags:", *(f"- {tag}" for tag in tags), "---"]
    )
    return f"""{header}

# DBDiffusion on {stats.n_vars} genes and {len(names)} perturbations

{description}

DBDiffusion generates cells of perturbations that nobody measured, and estimates their effects with prediction intervals.
It is a model of scvi-tools: a VAE of counts, a latent diffusion conditioned on embeddings of perturbations, and
prediction-powered inference.

- Trained: {stages}, on {stats.n_cells} cells.
- Perturbations measured ({len(names)}): {", ".join(names[:50])}{", …" if len(names) > 50 else ""}. Control: `{control}`.
- dbdiffusion {version("dbdiffusion")}, scvi-tools {metadata.scvi_version}, anndata {metadata.anndata_version}.
- Authors: {", ".join(authors) or "not named"}.

## Use

```python
from dbdiffusion import DBDiffusion

model = DBDiffusion.load(folder, adata=False)
cells = model.generate("GENE", n_cells=1000)
table = model.differential_expression_ppi(["GENE"])
```

`model.pt` is a pickle, as every checkpoint of scvi-tools: load it only if you trust its authors.

## Limits

- Intervals of unseen perturbations hold on average over perturbations like the measured ones; they promise nothing about
  a single one.
- Effects are differences of mean log1p counts per 10,000 against control, in the cells and the conditions of this screen.
- The VAE has seen the cells of all measured perturbations.

## Constructor arguments

| argument | value |
| --- | --- |
{arguments}

## Setup arguments

| argument | value |
| --- | --- |
{setup}

## References

Shang, Wei & Roeder, PNAS 122(52) e2525268122 (2025). {references}
"""


class Storage(CopyingMixin, SavingMixin, WeightsMixin, HubMixin):
    """``save``, ``load``, ``export_weights``, ``load_weights``, ``hub_model``, copies."""
