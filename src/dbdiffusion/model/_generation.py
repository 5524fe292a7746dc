"""``generate``: cells of any perturbation, as AnnData."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from dbdiffusion._words import known_word, whole_number
from dbdiffusion.diffusion import steps_of
from dbdiffusion.model._progress import progress
from dbdiffusion.predict import GenerationOptions
from dbdiffusion.screen import listed_names
from dbdiffusion.storage import InMemory, on_disk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from scvi.model import SCVI as _Base

    from dbdiffusion.predict import Predictor
else:
    _Base = object


class GenerationMixin(_Base):
    """Cells of measured, unseen and combined perturbations."""

    contexts: tuple[str, ...]

    if TYPE_CHECKING:

        @property
        def perturbation_names(self) -> list[str]: ...
        @property
        def strategy(self) -> str: ...
        def predictor(self, context: str | None = None) -> Predictor: ...
        def _canonical(self, names: Sequence[str]) -> list[str]: ...

    def generate(
        self,
        targets: str | Sequence[str],
        n_cells: int = 1000,
        guidance_scale: float = 1.0,
        n_steps: int | None = None,
        sampler: str = "dpm++",
        batch: str | None = None,
        seed: int = 0,
        context: str | None = None,
        covariates: dict[str, Any] | None = None,
        path: str | Path | None = None,
    ) -> AnnData:
        """Generate cells.

        Library sizes, batches and covariates are those of random control cells. With one seed the k-th cell of every target is
        matched to the same control cell and starts from the same noise (common random numbers), so differences between targets
        are free of both. Cells of different targets are then not independent; to pool them, give each target its own seed.

        Parameters
        ----------
        targets
            Perturbations: measured, unseen, combinations ``"A+B"`` in any order, or control.
        n_cells
            Cells of each.
        guidance_scale
            1 is none; 0 is unconditional. Above 1 effects are exaggerated and cells less varied; never do inference with it.
        n_steps, sampler
            See :func:`~dbdiffusion.diffusion.sample`; None means as few as the sampler needs.
        batch
            Category of the batch key to generate in; None draws batches as control cells have them.
        seed
            Same seed, same cells, whatever else is asked for in the call.
        context
            To generate in; needed, and only possible, with a ``context_key``.
        covariates
            Registered covariate to the category or number that all cells get; the others are as control cells have them.
        path
            Of a new h5ad file to write the cells to as they are made: for more than memory holds. The same cells.

        Returns
        -------
        AnnData
            In memory or, with ``path``, backed by the file. Counts in X (cells, G) as CSR; ``obs`` has the perturbation under
            the registered key, ``strategy`` (how it was placed) and ``library_size`` (of the matched control cell: divide by it
            for CP10K), with ``dbdiffusion_`` before the one that is the registered key; ``uns["dbdiffusion"]`` holds seed,
            guidance, sampler and version.

        Raises
        ------
        RuntimeError
            If a stage is not trained; the message names it.
        FileExistsError
            If there is a file at ``path``.
        KeyError
            If nothing places a target.
        ValueError
            If an option is out of range, or the cells do not fit into memory.

        Examples
        --------
        >>> cells = model.generate(unseen, n_cells=5)
        >>> cells.obs["perturbation"].value_counts().tolist()
        [5, 5]
        """
        if context is not None or self.contexts:
            view = self.in_context(context)  # type: ignore[attr-defined]
            way = (n_cells, guidance_scale, n_steps, sampler, batch, seed)
            return view.generate(targets, *way, covariates=covariates, path=path)
        names = self._canonical(listed_names(targets))
        n_cells = whole_number("n_cells", n_cells, 1)
        predictor = self.predictor()
        options = GenerationOptions(guidance_scale, sampler, n_steps, self._batch_code(batch), seed, self._fixed(covariates))
        if path is None:
            return self._fill(InMemory(n_cells * len(names)), predictor, names, n_cells, options)
        with on_disk(Path(path), len(predictor.screen.var_names)) as cells:
            self._fill(cells, predictor, names, n_cells, options)
        return ad.read_h5ad(path, backed="r")

    def _fill(self, cells: Any, predictor: Predictor, names: list[str], n_cells: int, options: GenerationOptions) -> Any:
        """Cells of all targets, a block at a time; returns what holds them."""
        screen, space = predictor.screen, predictor.space
        unseen = [name for name in names if name != screen.control]
        embeddings = dict(zip(unseen, space.embed(unseen), strict=True)) | {screen.control: space.control}
        libraries = []
        for name in progress("Generating cells")(names):
            seeded_by = space.separator.join(sorted(space.parts(name)))
            for counts, matched in predictor.generator.counts(embeddings[name], n_cells, seeded_by, options):
                cells.add(counts)
                libraries.append(screen.library[matched] * screen.depth_per_library)
        strategies = ["control" if name == screen.control else space.strategy_of(name) for name in names]
        columns = {"strategy": _repeated(strategies, n_cells), "library_size": np.concatenate(libraries)}
        key = self._perturbation_key  # which may have any name
        beside = {f"dbdiffusion_{name}" if name == key else name: values for name, values in columns.items()}
        columns = {key: _repeated(names, n_cells), **beside}
        obs = pd.DataFrame(columns, index=[f"generated{i}" for i in range(n_cells * len(names))])
        provenance = self._provenance(
            seed=options.seed,
            guidance_scale=options.guidance_scale,
            n_steps=steps_of(options.sampler, options.n_steps),
            sampler=options.sampler,
        )
        return cells.finish(obs, pd.DataFrame(index=screen.var_names), {"dbdiffusion": provenance})

    @property
    def _perturbation_key(self) -> str:
        return self.registry_["setup_args"]["perturbation_key"]

    def _provenance(self, **options: float | str) -> dict[str, float | str]:
        from importlib.metadata import version

        return {**options, "unseen_strategy": self.strategy, "version": version("dbdiffusion")}

    def _fixed(self, covariates: dict[str, Any] | None) -> tuple[tuple[str, int, float], ...]:
        fields = self.registry_["field_registries"]
        categorical = fields.get(REGISTRY_KEYS.CAT_COVS_KEY, {}).get("state_registry", {}).get("mappings", {})
        continuous = list(fields.get(REGISTRY_KEYS.CONT_COVS_KEY, {}).get("state_registry", {}).get("columns", ()))
        fixed = []
        if covariates is not None and not isinstance(covariates, Mapping):
            msg = f"`covariates` must be a dictionary, registered covariate to category or number, got {covariates!r}."
            raise ValueError(msg)
        for name, value in (covariates or {}).items():
            if name in categorical:
                categories = [str(category) for category in categorical[name]]
                code = categories.index(known_word(f"covariates[{name!r}]", str(value), categories))
                fixed.append((REGISTRY_KEYS.CAT_COVS_KEY, list(categorical).index(name), float(code)))
                continue
            name = known_word("covariates", str(name), [*categorical, *continuous])
            if not np.isfinite(_as_number(value)):
                msg = f"`covariates[{name!r}]` must be a finite number, got {value!r}."
                raise ValueError(msg)
            fixed.append((REGISTRY_KEYS.CONT_COVS_KEY, continuous.index(name), float(value)))
        return tuple(fixed)

    def _batch_code(self, batch: str | None) -> int | None:
        if batch is None:
            return None
        state = self.registry_["field_registries"][REGISTRY_KEYS.BATCH_KEY]["state_registry"]
        categories = [str(category) for category in state["categorical_mapping"]]
        return categories.index(known_word("batch", str(batch), categories))


def _repeated(words: list[str], n: int) -> pd.Categorical:
    """Each word n times, as categories in the order of the alphabet."""
    categories = sorted(set(words))
    return pd.Categorical.from_codes(np.repeat([categories.index(word) for word in words], n), categories)


def _as_number(value: Any) -> float:
    return float(value) if isinstance(value, int | float | np.number) else float("nan")
