import mudata
import numpy as np
from tiny import QUIET, tiny_guides, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion


def test_every_kind_of_column_reaches_the_rna_and_the_mudata_stays():
    rna = tiny_screen(n_perturbations=4)
    rna.obs["phase"] = np.linspace(0, 1, rna.n_obs)
    rna.obs["lane"] = np.where(np.arange(rna.n_obs) % 2, "a", "b")
    mdata = mudata.MuData({"rna": rna, "guide": tiny_guides(rna)})
    mdata.obs["donor"] = np.where(np.arange(rna.n_obs) % 3, "x", "y")
    DBDiffusion.setup_mudata(
        mdata,
        batch_key="donor",
        continuous_covariate_keys=["phase"],
        categorical_covariate_keys=["lane"],
        modalities={
            "rna_layer": "rna",
            "guide_layer": "guide",
            "continuous_covariate_keys": "rna",
            "categorical_covariate_keys": "rna",
        },
    )
    model = tiny_model(mdata)
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    columns = list(mdata.obs)
    seen = model._validate_anndata()
    assert {"donor", "lane", "phase", "perturbation"} <= set(seen.obs)
    assert np.array_equal(seen.obs["perturbation"].astype(str), rna.obs["perturbation"].astype(str))
    assert seen is model._validate_anndata()
    table = model.differential_expression(groupby="donor", group1="x", silent=True)
    assert set(table.index) == set(rna.var_names)
    moved = model.get_normalized_expression(transform_batch="y", indices=[3, 1])
    assert list(moved.index) == list(rna.obs_names[[3, 1]])
    assert list(mdata.obs) == columns
    model.differential_abundance(sample_key="donor")
    assert set(mdata.obsm["da_log_probs"].columns) == {"x", "y"}


def test_another_mudata_takes_the_place_and_the_model_is_still_saved_as_one(tmp_path):
    rna = tiny_screen(n_perturbations=4)
    pair = [mudata.MuData({"rna": rna.copy(), "guide": tiny_guides(rna)}) for _ in range(2)]
    modalities = {"rna_layer": "rna", "guide_layer": "guide"}
    DBDiffusion.setup_mudata(pair[0], modalities=modalities)
    model = tiny_model(pair[0])
    model.train_vae(max_epochs=1, **QUIET)
    latent = model.get_latent_representation()
    model.adata = pair[1]
    model.deregister_manager()
    assert np.array_equal(model.get_latent_representation(), latent)
    model.save(tmp_path / "model")
    model.export_weights(tmp_path / "weights")
    for loaded in (
        DBDiffusion.load(tmp_path / "model", adata=pair[0]),
        DBDiffusion.load_weights(tmp_path / "weights", pair[0]),
    ):
        assert np.array_equal(loaded.get_latent_representation(), latent)
