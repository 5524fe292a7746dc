"""Write the checkpoint of the installed scvi-tools: ``python tests/model/checkpoints/make.py``, once a version.

``test_model_checkpoints.py`` loads all of them on every version.
"""

import json
import sys
from pathlib import Path

import scvi

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tiny import tiny_model, tiny_screen, train_quickly  # noqa: E402

from dbdiffusion import DBDiffusion  # noqa: E402


def checkpoint_screen():
    return tiny_screen(n_genes=20, n_perturbations=5, n_cells_per_perturbation=12, n_control_cells=30)


def main():
    adata = checkpoint_screen()
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    scvi.settings.seed = 0
    model = train_quickly(tiny_model(adata, n_hidden=8, n_latent=3, n_embedding=3, n_diffusion_hidden=8, n_folds=2), 3, 3)
    folder = HERE / f"scvi-tools-{scvi.__version__}"
    model.save(folder / "checkpoint", overwrite=True)
    model.export_weights(folder / "weights", overwrite=True)
    names = [model.perturbation_names[0], next(g for g in adata.var_names if g not in model.perturbation_names)]
    expected = {
        "names": names,
        "effects": model.predict_effects(names)["effect"].tolist(),
        "latent": model.get_latent_representation().mean(axis=0).tolist(),
    }
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
