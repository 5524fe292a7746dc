"""A trained model as numbers and text: safetensors and JSON, which run no code when they are read."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import scvi
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from dbdiffusion.storage import ATTRIBUTES, check_arguments, check_attributes, check_sizes, from_plain, to_plain, write_whole

if TYPE_CHECKING:
    from typing import Self

    from anndata import AnnData
    from mudata import MuData
    from scvi.model import SCVI as _Base
else:
    _Base = object

DESCRIPTION = "model.json"
FORMAT = "dbdiffusion-weights-2"
UNSIGNED = "dbdiffusion-weights-1"  # of before: the description has no checksum of its own
OWN_NAME = re.compile(r"weights-[0-9a-f]{16}\.safetensors")
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
        before = _replaceable(folder, overwrite=overwrite)
        self._name_setup_method()
        arrays: dict[str, np.ndarray] = {}
        attributes = {name: value for name, value in self._get_user_attributes() if name in ATTRIBUTES}
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
        write_whole(folder / DESCRIPTION, json.dumps({**description, "checksum": _signature(description)}, indent=1).encode())
        if before not in (None, weights_file):
            (folder / before).unlink(missing_ok=True)

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
        description = _read_description(Path(folder))
        arrays = _read_arrays(Path(folder), description)
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
        model.module.eval()
        return model


def _replaceable(folder: Path, *, overwrite: bool) -> str | None:
    """Name of the weights that the model in a folder leaves when it is replaced; None if there is no model."""
    file = folder / DESCRIPTION
    if folder.is_file():
        msg = f"{str(folder)!r} is a file; name a folder to export into."
        raise FileExistsError(msg)
    if not file.exists():
        return None
    if not overwrite:
        msg = f"{str(folder)!r} holds a model; choose another folder, or replace it with `overwrite=True`."
        raise FileExistsError(msg)
    try:
        before = json.loads(file.read_bytes())
    except ValueError:
        before = None
    if not isinstance(before, dict) or before.get("format") not in (FORMAT, UNSIGNED):
        msg = f"{str(file)!r} was not written by `export_weights`, or is damaged; choose another folder, or remove it."
        raise FileExistsError(msg)
    return before["weights"] if OWN_NAME.fullmatch(str(before.get("weights"))) else None


def _signature(description: dict[str, Any]) -> str:
    """Checksum of what a description says, however it is laid out."""
    said = {name: value for name, value in description.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    if not file.is_file():
        msg = f"{str(file)!r} does not exist; name a folder that `export_weights` wrote."
        raise FileNotFoundError(msg)
    try:
        description = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        msg = f"{str(file)!r} is not whole JSON: {error}."
        raise ValueError(msg) from error
    if not isinstance(description, dict) or description.get("format") not in (FORMAT, UNSIGNED):
        msg = f"{str(file)!r} must be of the format {FORMAT!r}; was it written by another version, or by other software?"
        raise ValueError(msg)
    if description["format"] == FORMAT and description.get("checksum") != _signature(description):
        msg = f"{str(file)!r} was changed after it was written: its checksum is another. Export the model anew."
        raise ValueError(msg)
    return description


def _read_arrays(folder: Path, description: dict[str, Any]) -> dict[str, np.ndarray]:
    name = str(description.get("weights"))
    if Path(name).name != name:
        msg = f"{DESCRIPTION} names the weights {name!r}, but they must lie beside it."
        raise ValueError(msg)
    file = folder / name
    if not file.is_file():
        msg = f"{str(file)!r} does not exist, though {DESCRIPTION} names it. Copy the whole folder."
        raise FileNotFoundError(msg)
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != description.get("sha256"):
        msg = f"{str(file)!r} is cut off or was changed: its checksum is not the one in {DESCRIPTION}."
        raise ValueError(msg)
    try:
        return load_arrays(content)
    except safetensors.SafetensorError as error:
        msg = f"{str(file)!r} is no safetensors file: {error}."
        raise ValueError(msg) from error
