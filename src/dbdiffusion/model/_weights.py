"""A trained model as numbers and text: safetensors and JSON, which run no code when they are read."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import scvi
import torch

from dbdiffusion.storage import (
    ATTRIBUTES,
    DESCRIPTION,
    check_arguments,
    check_attributes,
    check_sizes,
    from_plain,
    read_arrays,
    read_description,
    replaceable,
    to_plain,
    write_weights,
)

if TYPE_CHECKING:
    from typing import Self

    import numpy as np
    from anndata import AnnData
    from mudata import MuData
    from scvi.model import SCVI as _Base
else:
    _Base = object

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
