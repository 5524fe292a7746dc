"""Inherited answers: rows 1, 4, 6 to 9, 14, 35, 36, 50, and scvi's own answers beside ours."""

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from dressed import SETUP, briefly, dressed_screen, fresh
from tiny import QUIET

from dbdiffusion import DBDiffusion

D = 5


def test_row_01_every_answer_runs_with_batches_labels_and_size_factors(dressed):
    n_cells, n_genes = dressed.adata.shape
    assert dressed.get_latent_representation().shape == (n_cells, D)
    assert np.isfinite(dressed.get_elbo().item())
    assert np.isfinite(dressed.get_reconstruction_error()["reconstruction_loss"].item())
    assert np.isfinite(dressed.get_marginal_ll(n_mc_samples=3).item())
    assert dressed.get_normalized_expression().shape == (n_cells, n_genes)
    assert dressed.get_feature_correlation_matrix(n_samples=2, correlation_type="pearson").shape == (n_genes, n_genes)
    assert dressed.get_latent_library_size(give_mean=False).shape == (n_cells, 1)
    assert dressed.posterior_predictive_sample().shape == (n_cells, n_genes)


def test_row_04_the_model_says_what_it_is(dressed, capsys):
    assert dressed.is_trained_
    print(dressed)
    shown = capsys.readouterr().out
    assert "DBDiffusion" in shown
    assert "n_latent: 5" in shown


def test_row_06_other_cells_and_some_cells(dressed):
    other = dressed_screen()[:30].copy()
    assert dressed.get_latent_representation(other).shape == (30, D)
    assert dressed.get_latent_representation(other, indices=[1, 2, 3]).shape == (3, D)
    some = dressed.get_normalized_expression(
        indices=[5, 1], library_size="latent", n_samples=2, return_mean=False, return_numpy=True
    )
    assert some.shape == (2, 2, 60)
    mean, variance = dressed.get_latent_representation(return_dist=True)
    assert mean.shape == variance.shape == (dressed.adata.n_obs, D)
    assert (variance > 0).all()


@pytest.mark.parametrize("batch", ["name", ["name", "other"], 0])
def test_row_07_expression_in_another_batch(dressed, batch):
    names = sorted(set(dressed.adata.obs["batch"].astype(str)))
    asked = {"name": names[0], "other": names[1]}
    batch = [asked[b] for b in batch] if isinstance(batch, list) else asked.get(batch, names[0])
    table = dressed.get_normalized_expression(transform_batch=batch, gene_list=list(dressed.adata.var_names[:3]))
    assert table.shape == (dressed.adata.n_obs, 3)
    assert (table.to_numpy() >= 0).all()


def test_row_08_posterior_predictive_samples(dressed):
    genes = list(dressed.adata.var_names[[7, 2]])
    sample = dressed.posterior_predictive_sample(n_samples=3, gene_list=genes, indices=[0, 1, 2, 3])
    assert sample.shape == (4, 2, 3)
    assert (sample.todense() == np.round(sample.todense())).all()


def test_row_09_parameters_of_the_likelihood(dressed):
    shape = dressed.adata.shape
    parameters = dressed.get_likelihood_parameters()
    assert parameters["mean"].shape == shape
    assert (parameters["dispersions"] > 0).all()
    assert dressed.get_likelihood_parameters(n_samples=2, give_mean=False)["mean"].shape == (2, *shape)
    assert "dropout" in briefly(fresh(gene_likelihood="zinb")).get_likelihood_parameters()


@pytest.mark.parametrize(
    "options",
    [
        {"groupby": "perturbation", "group1": "control"},
        {"groupby": "perturbation", "group1": "control", "mode": "change"},
        {"groupby": "lane"},
        {"idx1": [0, 1, 2, 3], "idx2": [8, 9, 10, 11], "mode": "vanilla"},
        {"idx1": "perturbation == 'control'", "mode": "change"},
        {"groupby": "perturbation", "group1": "control", "weights": "importance", "mode": "change"},
        {"groupby": "perturbation", "group1": "control", "batch_correction": True},
        {"groupby": "perturbation", "group1": "control", "filter_outlier_cells": True},
    ],
)
def test_row_14_scvis_differential_expression(dressed, options):
    table = dressed.differential_expression(**options, silent=True)
    assert set(table.index) == set(dressed.adata.var_names)
    assert np.isfinite(table["bayes_factor"]).all()


def test_scvis_differential_abundance(dressed):
    adata = dressed_screen()
    assert dressed.differential_abundance(adata, sample_key="donor") is None
    assert set(adata.obsm["da_log_probs"].columns) == {"d1", "d2"}
    assert np.isfinite(adata.obsm["da_log_probs"].to_numpy()).all()


def test_row_35_embedded_batches():
    model = briefly(fresh(batch_representation="embedding", batch_embedding_kwargs={"embedding_dim": 3}))
    assert model.get_batch_representation().shape == (model.adata.n_obs, 3)
    assert model.generate(model.perturbation_names[0], n_cells=3).n_obs == 3


def test_row_36_answers_from_a_loader(dressed):
    loader = dressed._make_data_loader(adata=dressed.adata, batch_size=50)
    assert np.allclose(dressed.get_latent_representation(dataloader=loader), dressed.get_latent_representation())
    assert np.isfinite(float(dressed.get_elbo(dataloader=loader)))


def test_row_50_posterior_predictive_checks():
    adata = dressed_screen()
    adata.X = adata.X.toarray()  # the check of scvi-tools compares matrices by `==`
    check = scvi.criticism.PosteriorPredictiveCheck(adata, {"model": briefly(fresh(adata))}, n_samples=2)
    check.coefficient_of_variation("cells")
    (table,) = check.metrics.values()
    assert {"model", "Raw"} <= set(table.columns)


def test_answers_are_scvis_own_for_the_same_weights():
    adata = dressed_screen()
    scvi.model.SCVI.setup_anndata(adata, **SETUP)
    theirs = scvi.model.SCVI(adata, gene_likelihood="nb", n_hidden=16, n_latent=D)
    theirs.train(max_epochs=1, batch_size=64, **QUIET)
    ours = DBDiffusion.from_scvi_model(theirs, n_embedding=4, n_diffusion_hidden=8, n_folds=2)
    ours.train_diffusion(max_epochs=1, **QUIET)

    def seeded(function, *arguments, **options):
        function.__self__._validate_anndata()  # scvi-tools draws random numbers when it registers anew
        scvi.settings.seed = 0
        return function(*arguments, **options)

    assert np.array_equal(theirs.get_latent_representation(), ours.get_latent_representation())
    for name in ("get_normalized_expression", "get_elbo", "posterior_predictive_sample", "get_marginal_ll"):
        options = {"n_mc_samples": 3} if name == "get_marginal_ll" else {}
        first, second = (seeded(getattr(model, name), **options) for model in (theirs, ours))
        first, second = (x.todense() if hasattr(x, "todense") else x for x in (first, second))
        assert np.allclose(np.asarray(first), np.asarray(second)), name
    options = {"groupby": "perturbation", "group1": "control", "silent": True}
    pd.testing.assert_frame_equal(
        seeded(theirs.differential_expression, **options), seeded(ours.differential_expression, **options)
    )


def test_an_untrained_model_answers_no_question_of_ours():
    model = fresh()
    with pytest.raises(RuntimeError, match="Stage one"):
        model.generate("GENE01")
    assert not model.module.diffusion.is_fitted
    assert torch.isfinite(model.module.diffusion.mean).all()
