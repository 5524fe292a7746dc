import numpy as np
import pandas as pd
import pytest
import torch
from tiny import QUIET, tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out


@pytest.fixture(scope="module")
def whole():
    return tiny_screen(n_perturbations=8)


@pytest.fixture(scope="module")
def later(whole):
    """Perturbations that only the query measures."""
    return list(whole.uns["true_effects"].index[:2])


@pytest.fixture(scope="module")
def reference(whole, later):
    adata, _ = hold_out(whole, later)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    return train_quickly(tiny_model(adata), 3, 3)


@pytest.fixture
def query_cells(whole, later):
    kept = [*later, "control", whole.uns["true_effects"].index[3]]
    return whole[whole.obs["perturbation"].isin(kept)].copy()


def mapping(model):
    return list(model.adata_manager.get_state_registry("perturbation")["categorical_mapping"])


def test_old_codes_are_kept_and_rows_appended(reference, query_cells, later):
    model = DBDiffusion.load_query_data(query_cells, reference)
    assert mapping(model) == [*mapping(reference), *sorted(later)]
    assert model.perturbation_names == [*reference.perturbation_names, *sorted(later)]
    table, old = model.perturbation_embeddings(), reference.perturbation_embeddings()
    pd.testing.assert_frame_equal(table.loc[old.index], old)
    assert set(later) <= set(table.index)


def test_indices_flags_and_history_are_reset(reference, query_cells):
    model = DBDiffusion.load_query_data(query_cells, reference)
    assert model.train_indices is None
    assert model.validation_indices is None
    assert model.history_ is None
    assert model.cross_fit_ is None
    assert len(reference.train_indices) + len(reference.validation_indices) == reference.adata.n_obs
    assert reference.cross_fit_ is not None


def test_without_new_batches_it_answers_at_once(reference, query_cells, later):
    model = DBDiffusion.load_query_data(query_cells, reference)
    for key, value in reference.module.state_dict().items():
        if "folds" not in key:
            assert torch.equal(value, model.module.state_dict()[key]), key
    table = model.differential_expression_ppi([*later, reference.perturbation_names[0]])
    assert set(table["status"]) == {"measured"}
    assert model.generate(later, n_cells=3).n_obs == 6
    own = model.observed_effects().query("target == @later[0]").set_index("variable")["effect"]
    told = table.query("target == @later[0]").set_index("variable")["effect"]
    assert np.allclose(told[own.index], own)


def test_effects_of_the_reference_stay_and_an_unseen_one_is_rectified_by_more(reference, query_cells):
    model = DBDiffusion.load_query_data(query_cells, reference)
    name = reference.perturbation_names[-1]
    before, after = (m.predict_effects(name)["effect"] for m in (reference, model))
    assert np.allclose(before, after)
    gene = next(g for g in query_cells.var_names if g not in model.perturbation_names)
    n_before, n_after = (m.predict_effects(gene)["n_reference"].iloc[0] for m in (reference, model))
    assert n_after == n_before + 2


def test_stage_two_is_fine_tuned_from_the_present_weights(reference, query_cells, later):
    model = DBDiffusion.load_query_data(query_cells, reference)
    latent = model.get_latent_representation()
    linear = model.module.diffusion.linear.clone()
    model.train_diffusion(max_epochs=1, plan_kwargs={"lr": 1e-12, "weight_decay": 0.0}, **QUIET)
    assert torch.equal(linear, model.module.diffusion.linear)
    for key, value in reference.module.diffusion.denoiser.state_dict().items():
        assert torch.allclose(value, model.module.diffusion.denoiser.state_dict()[key], atol=1e-6)
    assert np.array_equal(latent, model.get_latent_representation())
    assert set(later) <= set(model.perturbation_names)
    assert "diffusion_train_loss" in model.history
    model.train_diffusion(max_epochs=1, warm_start=False, **QUIET)
    assert not torch.equal(linear, model.module.diffusion.linear)
    assert set(model.perturbation_embeddings().index) == {"control", *model.perturbation_names}


def test_new_batches_need_stage_one_with_the_old_frozen(reference, query_cells, later):
    query_cells.obs["batch"] = "a new batch"
    model = DBDiffusion.load_query_data(query_cells, reference)
    with pytest.raises(RuntimeError, match="train_vae"):
        model.generate(later[0])
    model.train_vae(max_epochs=2, **QUIET)
    old_cells = reference.adata.copy()
    assert np.array_equal(model.get_latent_representation(old_cells), reference.get_latent_representation())
    assert model.is_diffusion_trained_
    assert model.generate(later[0], n_cells=3, batch="a new batch").n_obs == 3
    weight = "decoder.px_decoder.fc_layers.Layer 0.0.weight"
    before, after = reference.module.state_dict()[weight], model.module.state_dict()[weight]
    assert after.shape[1] == before.shape[1] + 1
    assert torch.equal(before, after[:, : before.shape[1]])
    model.train_diffusion(max_epochs=1, **QUIET)
    assert np.isfinite(model.predict_effects(later)["effect"]).all()


def test_an_unfrozen_query_trains_stage_two_anew(reference, query_cells, later):
    model = DBDiffusion.load_query_data(query_cells, reference, unfrozen=True)
    model.train_vae(max_epochs=1, **QUIET)
    assert len(model.history["elbo_train"]) == 1
    with pytest.raises(RuntimeError, match="train_diffusion"):
        model.generate(later[0])
    model.train_diffusion(max_epochs=1, **QUIET)
    assert set(model.perturbation_names) >= {*later, *reference.perturbation_names}


def test_from_a_folder_saved_and_loaded_again(reference, query_cells, later, tmp_path):
    reference.save(tmp_path / "reference")
    model = DBDiffusion.load_query_data(query_cells, tmp_path / "reference")
    effects = model.predict_effects(later)["effect"]
    model.save(tmp_path / "query")
    loaded = DBDiffusion.load(tmp_path / "query", adata=query_cells)
    assert np.allclose(effects, loaded.predict_effects(later)["effect"])
    assert np.allclose(model.perturbation_embeddings(), loaded.perturbation_embeddings())
    loaded.train_diffusion(max_epochs=1, **QUIET)
    assert set(loaded.perturbation_names) == set(model.perturbation_names)


def test_k_fold_cross_fitting_of_a_query(reference, query_cells):
    model = DBDiffusion.load_query_data(query_cells, reference)
    model.cross_fit(max_epochs=1, batch_size=64)
    gene = next(g for g in query_cells.var_names if g not in model.perturbation_names)
    assert np.isfinite(model.predict_effects(gene, cross_fitting="k_fold")["effect"]).all()


def test_after_stage_one_only(whole, later, query_cells):
    adata, _ = hold_out(whole, later)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    first = tiny_model(adata)
    with pytest.raises(RuntimeError, match="Stage one"):
        DBDiffusion.load_query_data(query_cells, first)
    first.train_vae(max_epochs=1, **QUIET)
    model = DBDiffusion.load_query_data(query_cells, first)
    model.train_diffusion(max_epochs=1, **QUIET)
    assert set(later) <= set(model.perturbation_names)


def test_vectors_of_new_perturbations_come_along(whole, later, query_cells):
    names = list(whole.uns["true_effects"].index)
    table = pd.DataFrame(np.random.default_rng(0).standard_normal((len(names) + 1, 3)), index=[*names, "DRUG"])
    adata, _ = hold_out(whole, later)
    adata.uns["vectors"] = table.drop(index=["DRUG"])
    DBDiffusion.setup_anndata(adata, embedding_key="vectors")
    first = train_quickly(tiny_model(adata), 1, 1)
    query_cells.uns["vectors"] = table
    model = DBDiffusion.load_query_data(query_cells, first)
    assert np.isfinite(model.predict_effects("DRUG")["effect"]).all()
    query_cells.uns["vectors"] = table.iloc[:, :2]
    with pytest.raises(ValueError, match="3 columns"):
        DBDiffusion.load_query_data(query_cells, first)


def test_a_combination_in_another_order_is_the_same_perturbation():
    adata = tiny_screen(n_perturbations=5, n_combinations=2)
    name = next(n for n in adata.obs["perturbation"].cat.categories if "+" in n)
    DBDiffusion.setup_anndata(adata)
    first = train_quickly(tiny_model(adata), 1, 1)
    cells = tiny_screen(n_perturbations=5, n_combinations=2)
    turned = "+".join(reversed(name.split("+")))
    cells.obs["perturbation"] = cells.obs["perturbation"].astype(str).replace(name, turned)
    model = DBDiffusion.load_query_data(cells, first)
    assert model._screen().names == first._screen().names
    assert np.allclose(model.predict_effects(turned)["effect"], first.predict_effects(name)["effect"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a[:, ::-1].copy(), "another order"),
        (lambda a: a[:, :-1].copy(), "absent"),
        (lambda a: a[a.obs["perturbation"] != "control"].copy(), "`control`"),
    ],
)
def test_other_genes_or_no_control_are_refused(reference, query_cells, change, match):
    with pytest.raises(ValueError, match=match):
        DBDiffusion.load_query_data(change(query_cells), reference)


def test_prepared_cells_are_taken(reference, query_cells, later):
    some = query_cells[:, :-3].copy()
    DBDiffusion.prepare_query_anndata(some, reference)
    assert DBDiffusion.load_query_data(some, reference).generate(later[0], n_cells=2).n_obs == 2
