import warnings

import mudata
import numpy as np
import pytest
import scvi
from tiny import QUIET, tiny_guides, tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion, ScreenWarning

MODALITIES = {"rna_layer": "rna", "guide_layer": "guide", "batch_key": "rna"}


@pytest.fixture(scope="module")
def rna():
    return tiny_screen(n_perturbations=5)


@pytest.fixture(scope="module")
def trained_on_mudata(rna):
    mdata = mudata.MuData({"rna": rna.copy(), "guide": tiny_guides(rna)})
    DBDiffusion.setup_mudata(mdata, modalities=MODALITIES, batch_key="batch")
    scvi.settings.seed = 0
    return train_quickly(tiny_model(mdata), 2, 2)


@pytest.fixture(scope="module")
def trained_on_anndata(rna):
    adata = rna.copy()
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    scvi.settings.seed = 0
    return train_quickly(tiny_model(adata), 2, 2)


def seeded(function, **options):
    scvi.settings.seed = 0
    return function(**options)


def test_mudata_gives_the_weights_and_effects_of_anndata(trained_on_mudata, trained_on_anndata):
    names = trained_on_anndata.perturbation_names
    assert trained_on_mudata.perturbation_names == names
    assert np.array_equal(trained_on_mudata.get_latent_representation(), trained_on_anndata.get_latent_representation())
    gene = next(g for g in trained_on_anndata.adata.var_names if g not in names)
    tables = [model.differential_expression_ppi([names[0], gene]) for model in (trained_on_mudata, trained_on_anndata)]
    assert tables[0]["variable"].tolist() == tables[1]["variable"].tolist()
    assert np.allclose(tables[0]["effect"], tables[1]["effect"])
    cells = [model.generate(gene, n_cells=5) for model in (trained_on_mudata, trained_on_anndata)]
    assert np.array_equal(cells[0].X.toarray(), cells[1].X.toarray())
    assert np.allclose(*(model.observed_effects()["effect"] for model in (trained_on_mudata, trained_on_anndata)))


def test_scvis_answers_on_mudata_are_those_of_the_rna(trained_on_mudata, trained_on_anndata, rna):
    both = trained_on_mudata, trained_on_anndata
    genes = list(rna.var_names[[3, 1]])
    first, second = (seeded(model.get_normalized_expression, gene_list=genes) for model in both)
    assert set(first.columns) == set(genes)
    assert np.allclose(first, second)
    assert all(model.get_normalized_expression().shape == rna.shape for model in both)
    assert np.allclose(*(seeded(model.get_elbo).item() for model in both))
    sample = trained_on_mudata.posterior_predictive_sample(gene_list=genes, n_samples=2)
    assert sample.shape == (rna.n_obs, 2, 2)
    name = trained_on_anndata.perturbation_names[0]
    options = {"groupby": "perturbation", "group1": name, "group2": "control", "silent": True}
    tables = [model.differential_expression(**options) for model in both]
    assert set(tables[0].index) == set(rna.var_names)
    raw = [table.loc[rna.var_names, "raw_mean1"] for table in tables]
    assert np.allclose(*raw)
    correlation = trained_on_mudata.get_feature_correlation_matrix(n_samples=2, correlation_type="pearson")
    assert list(correlation.index) == list(rna.var_names)


def test_save_and_load_with_and_without_mudata(trained_on_mudata, rna, tmp_path):
    gene = next(g for g in rna.var_names if g not in trained_on_mudata.perturbation_names)
    expected = trained_on_mudata.predict_effects(gene)["effect"]
    trained_on_mudata.save(tmp_path / "model", save_anndata=True)
    for adata in (None, False, mudata.MuData({"rna": rna.copy(), "guide": tiny_guides(rna)})):
        loaded = DBDiffusion.load(tmp_path / "model", adata=adata)
        assert np.allclose(expected, loaded.predict_effects(gene)["effect"])
    assert np.array_equal(loaded.get_latent_representation(), trained_on_mudata.get_latent_representation())


def test_a_model_saved_before_mudata_had_contexts_is_loaded(trained_on_mudata, rna, tmp_path):
    trained_on_mudata.save(tmp_path / "now")
    old = DBDiffusion.load(tmp_path / "now", adata=mudata.MuData({"rna": rna.copy(), "guide": tiny_guides(rna)}))
    del old.registry_["setup_args"]["context_key"]
    old.save(tmp_path / "old")
    loaded = DBDiffusion.load(tmp_path / "old", adata=False)
    assert "context_key" not in loaded.registry_["setup_args"]
    loaded = DBDiffusion.load(tmp_path / "old", adata=mudata.MuData({"rna": rna.copy(), "guide": tiny_guides(rna)}))
    for model in (old, loaded):
        assert model.contexts == ()
        assert np.array_equal(model.get_latent_representation(), trained_on_mudata.get_latent_representation())


def test_other_mudata_and_a_query(trained_on_mudata, rna, tmp_path):
    other = tiny_screen(n_perturbations=5)
    other.obs["perturbation"] = other.obs["perturbation"].astype(str).replace(trained_on_mudata.perturbation_names[0], "GENE57")
    query = mudata.MuData({"rna": other, "guide": tiny_guides(other)})
    with pytest.raises(ValueError, match="load_query_data"):
        trained_on_mudata.get_latent_representation(query)
    trained_on_mudata.save(tmp_path / "model")
    for reference in (trained_on_mudata, tmp_path / "model"):
        model = DBDiffusion.load_query_data(query, reference)
        assert model.perturbation_names == [*trained_on_mudata.perturbation_names, "GENE57"]
        model.train_diffusion(max_epochs=1, **QUIET)
        assert model.predict_effects("GENE57")["status"].eq("measured").all()
    short = mudata.MuData({"rna": other[:, :-1].copy(), "guide": tiny_guides(other)})
    with pytest.raises(ValueError, match="prepare_query_anndata"):
        DBDiffusion.load_query_data(short, trained_on_mudata)


def test_view_of_the_setup_names_the_guides(trained_on_mudata, capsys):
    trained_on_mudata.view_anndata_setup()
    assert "perturbation" in capsys.readouterr().out


def test_mudata_is_not_minified(trained_on_mudata):
    with pytest.raises(NotImplementedError, match="setup_anndata"):
        trained_on_mudata.minify_adata()


def test_a_layer_of_a_modality(rna):
    changed = rna.copy()
    changed.layers["counts"] = changed.X.copy()
    changed.X = changed.X.multiply(0.5).tocsr()
    mdata = mudata.MuData({"rna": changed, "guide": tiny_guides(rna)})
    with pytest.raises(ValueError, match="fractional"):
        DBDiffusion.setup_mudata(mdata, modalities=MODALITIES)
    DBDiffusion.setup_mudata(mdata, rna_layer="counts", modalities=MODALITIES)
    effects = tiny_model(mdata).observed_effects()["effect"]
    DBDiffusion.setup_anndata(changed, layer="counts")
    assert np.allclose(effects, tiny_model(changed).observed_effects()["effect"])


def test_an_anndata_set_up_for_scvi_alone_is_not_set_up_for_us(rna):
    adata = rna.copy()
    scvi.model.SCVI.setup_anndata(adata)
    with pytest.raises(ValueError, match=r"DBDiffusion\.setup_anndata"):
        DBDiffusion(adata)


@pytest.mark.parametrize(("name", "meant"), [("batch", "batch_key"), ("labels", "labels_key"), ("xyz", None)])
def test_an_argument_that_there_is_not_is_refused_in_words(rna, name, meant):
    match = f"no argument '{name}'" + (f".*Did you mean '{meant}'" if meant else "")
    with pytest.raises(TypeError, match=match):
        DBDiffusion.setup_anndata(rna.copy(), **{name: "batch"})
    with pytest.raises(TypeError, match=match):
        DBDiffusion.setup_mudata(mudata.MuData({"rna": rna.copy()}), modalities={"rna_layer": "rna"}, **{name: "batch"})


def test_a_slice_is_refused_in_words(rna):
    with pytest.raises(ValueError, match=r"a slice of another AnnData. Please run `adata = adata.copy\(\)`"):
        DBDiffusion.setup_anndata(rna[:20])


def test_totals_of_all_genes_are_noticed_unless_they_are_used(rna):
    screen = rna.copy()
    screen.obs["total_counts"] = 3.0 * np.asarray(rna.X.sum(axis=1)).ravel() + 1
    with pytest.warns(ScreenWarning, match="times the totals of X"):
        DBDiffusion.setup_anndata(screen)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScreenWarning)
        DBDiffusion.setup_anndata(screen, size_factor_key="total_counts")
