"""A trained model as numbers and text: safetensors and JSON, which run no code when they are read."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import scvi
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from dbdiffusion.model._files import write_whole
from dbdiffusion.model._plain import from_plain, to_plain

if TYPE_CHECKING:
    from typing import Self

    from anndata import AnnData
    from mudata import MuData
    from scvi.model import SCVI as _Base
else:
    _Base = object

DESCRIPTION = "model.json"
FORMAT = "dbdiffusion-weights-1"
_MODULE, _ATTRIBUTE = "module.", "attribute."


class WeightsMixin(_Base):
    """``export_weights`` and ``load_weights``."""

    def export_weights(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write all that :meth:`save` writes, but as safetensors and JSON: files that run no code when they are read.

        Parameters
        ----------
        folder
            Gets ``model.json`` (constructor arguments, registry, attributes) and one ``weights-*.safetensors`` (weights and
            arrays, named by their checksum). The cells are not written.
        overwrite
            Whether a model in the folder may be replaced. A run that is killed leaves the old one or the new one.

        Raises
        ------
        FileExistsError
            If there is one and it may not.

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
        if (folder / DESCRIPTION).exists() and not overwrite:
            msg = f"{str(folder)!r} holds a model; choose another folder, or replace it with `overwrite=True`."
            raise FileExistsError(msg)
        self._name_setup_method()
        arrays: dict[str, np.ndarray] = {}
        attributes = {name: value for name, value in self._get_user_attributes() if name.endswith("_")}
        plain = to_plain(attributes, arrays, _ATTRIBUTE)
        for name, tensor in self.module.state_dict().items():
            arrays[_MODULE + name] = tensor.detach().cpu().numpy()
        weights = save_arrays({name: np.array(array, order="C") for name, array in arrays.items()})
        checksum = hashlib.sha256(weights).hexdigest()
        weights_file = f"weights-{checksum[:16]}.safetensors"
        description = {
            "format": FORMAT,
            "weights": weights_file,
            "sha256": checksum,
            "versions": {"dbdiffusion": version("dbdiffusion"), "scvi-tools": scvi.__version__},
            "attributes": plain,
        }
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / weights_file, weights)
        write_whole(folder / DESCRIPTION, json.dumps(description, indent=1).encode())
        for stale in folder.glob("weights-*.safetensors"):
            if stale.name != weights_file:
                stale.unlink()

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
        """
        description = _read_description(Path(folder))
        arrays = _read_arrays(Path(folder), description)
        attributes = from_plain(description["attributes"], arrays)
        arguments, registry = attributes.pop("init_params_"), attributes.pop("registry_")
        if registry["model_name"] != cls.__name__:
            msg = f"{str(folder)!r} holds a {registry['model_name']}, not a {cls.__name__}."
            raise ValueError(msg)
        if adata is not None:
            setup = cls.setup_mudata if registry.get("setup_method_name") == "setup_mudata" else cls.setup_anndata
            setup(adata, source_registry=registry, **registry["setup_args"])
        keywords = {name: value for group in arguments["kwargs"].values() for name, value in group.items()}
        model = cls(adata, registry=None if adata is not None else registry, **arguments["non_kwargs"], **keywords)
        for name, value in attributes.items():
            setattr(model, name, value)
        state = {
            name.removeprefix(_MODULE): torch.from_numpy(array) for name, array in arrays.items() if name.startswith(_MODULE)
        }
        model.module.load_state_dict(state)
        model.module.eval()
        return model


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    if not file.is_file():
        msg = f"{str(file)!r} does not exist; name a folder that `export_weights` wrote."
        raise FileNotFoundError(msg)
    try:
        description = json.loads(file.read_text())
    except ValueError as error:
        msg = f"{str(file)!r} is not whole JSON: {error}."
        raise ValueError(msg) from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        msg = f"{str(file)!r} must be of the format {FORMAT!r}; was it written by another version, or by other software?"
        raise ValueError(msg)
    return description


def _read_arrays(folder: Path, description: dict[str, Any]) -> dict[str, np.ndarray]:
    name = description["weights"]
    if Path(name).name != name:
        msg = f"{DESCRIPTION} names the weights {name!r}, but they must lie beside it."
        raise ValueError(msg)
    file = folder / name
    if not file.is_file():
        msg = f"{str(file)!r} does not exist, though {DESCRIPTION} names it. Copy the whole folder."
        raise FileNotFoundError(msg)
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != description["sha256"]:
        msg = f"{str(file)!r} is cut off or was changed: its checksum is not the one in {DESCRIPTION}."
        raise ValueError(msg)
    try:
        return load_arrays(content)
    except safetensors.SafetensorError as error:
        msg = f"{str(file)!r} is no safetensors file: {error}."
        raise ValueError(msg) from error
