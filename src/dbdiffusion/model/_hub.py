"""A trained model on the Hugging Face hub, with a card that says what it is and what it is not."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scvi.hub import HubModel
    from scvi.model import SCVI as _Base

    from dbdiffusion.model._model import DBDiffusion
else:
    _Base = object


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
