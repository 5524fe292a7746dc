"""What two stages and perturbations add to the rows of scvi-tools, a to q."""

import numpy as np
import pandas as pd
import pytest
import torch
from dressed import SETUP, dressed_screen, fresh
from tiny import QUIET, tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out


def gene_of(model):
    """A gene that nobody perturbed."""
    return next(name for name in model._screen().var_names if name not in model.perturbation_names)


def test_row_a_losses_of_stage_two_are_in_the_history(dressed):
    assert len(dressed.history["diffusion_train_loss"]) == 2
    assert len(dressed.history["diffusion_validation_loss"]) == 2


def test_row_b_stage_two_leaves_every_number_of_the_vae():
    model = fresh()
    model.train_vae(max_epochs=1, **QUIET)
    before = {name: value.clone() for name, value in model.module.state_dict().items() if "diffusion" not in name}
    assert any("running_mean" in name for name in before)
    model.train_diffusion(max_epochs=2, early_stopping=True, enable_progress_bar=False)
    assert all(torch.equal(value, model.module.state_dict()[name]) for name, value in before.items())


def test_row_c_after_stage_one_the_error_names_stage_two(tmp_path):
    model = fresh()
    model.train_vae(max_epochs=1, **QUIET)
    model.save(tmp_path / "model")
    loaded = DBDiffusion.load(tmp_path / "model", adata=False)
    for ask in (loaded.generate, loaded.predict_effects, loaded.differential_expression_ppi):
        with pytest.raises(RuntimeError, match="Stage two"):
            ask(loaded.perturbation_names[0])


def test_row_e_an_unseen_perturbation_with_and_without_a_vector(dressed):
    assert np.isfinite(dressed.predict_effects(gene_of(dressed))["effect"]).all()
    with pytest.raises(KeyError, match="add_perturbations"):
        dressed.predict_effects("NO SUCH GENE")
    adata = dressed_screen()
    DBDiffusion.setup_anndata(adata, **SETUP)
    model = DBDiffusion(adata, **dressed.init_params_["non_kwargs"])
    model.module.load_state_dict(dressed.module.state_dict())
    model.is_vae_trained_ = model.is_trained_ = model.is_diffusion_trained_ = True
    model.screen_ = dressed.screen_
    names = [*model.perturbation_names, "NO SUCH GENE"]
    model.add_perturbations(["NO SUCH GENE"], pd.DataFrame(np.random.default_rng(0).random((len(names), 2)), index=names))
    assert model.generate("NO SUCH GENE", n_cells=2).n_obs == 2


def test_row_f_a_table_need_not_be_there_when_a_model_is_loaded(tmp_path):
    adata = dressed_screen()
    names = sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})
    adata.uns["vectors"] = pd.DataFrame(np.eye(len(names)), index=names)
    DBDiffusion.setup_anndata(adata, embedding_key="vectors")
    model = tiny_model(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    model.save(tmp_path / "model")
    loaded = DBDiffusion.load(tmp_path / "model", adata=dressed_screen())
    pd.testing.assert_frame_equal(loaded._user_vectors(), model._user_vectors())


def test_row_h_order_of_parts_does_not_matter(dressed):
    first, second = dressed.perturbation_names[:2]
    gene = gene_of(dressed)
    for a, b in ((first, second), (first, gene)):
        effects = [dressed.predict_effects(name)["effect"] for name in (f"{a}+{b}", f"{b}+{a}")]
        assert np.allclose(*effects)


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
def test_row_j_guided_cells_are_finite(dressed, scale):
    cells = dressed.generate([gene_of(dressed), dressed.perturbation_names[0]], n_cells=20, guidance_scale=scale)
    assert np.isfinite(cells.X.toarray()).all()


def test_row_k_cells_depend_on_the_seed_alone(dressed):
    names = [gene_of(dressed), dressed.perturbation_names[0]]
    alone = dressed.generate(names[1], n_cells=3, seed=5).X.toarray()
    together = dressed.generate(names, n_cells=600, seed=5)
    assert np.array_equal(alone, together[together.obs["perturbation"] == names[1]].X.toarray()[:3])
    assert not np.array_equal(alone, dressed.generate(names[1], n_cells=3, seed=6).X.toarray())


def test_row_m_no_cells_are_refused(dressed):
    with pytest.raises(ValueError, match="n_cells"):
        dressed.generate(gene_of(dressed), n_cells=0)
    with pytest.raises(ValueError, match="n_cells"):
        dressed.predict_effects(gene_of(dressed), n_cells=0)


def test_row_o_a_cell_without_counts():
    adata = dressed_screen()
    counts = adata.X.tolil()
    counts[0] = 0
    adata.X = counts.tocsr()
    model = fresh(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(model.generate(model.perturbation_names[0], n_cells=50).X.toarray()).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.5])
def test_row_p_counts_that_are_none_are_refused(value):
    adata = dressed_screen()
    adata.X.data[3] = value
    with pytest.raises(ValueError, match="raw UMIs"):
        DBDiffusion.setup_anndata(adata)


def test_combinations_of_three_in_any_order_with_parts_measured_and_not(trained, unseen):
    measured = trained.perturbation_names[:2]
    space = trained._space()
    parts = [*measured, unseen[0]]
    expected = space.control + sum(space.embed([part])[0] - space.control for part in parts)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        name = "+".join(parts[i] for i in order)
        np.testing.assert_allclose(space.embed([name])[0], expected)
    table = trained.predict_effects("+".join(parts), n_cells=64)
    assert np.isfinite(table["se"]).all()
    assert (table["status"] == "unseen").all()


def test_a_partial_table_is_completed_or_refused_as_the_user_says(unseen):
    adata = tiny_screen()
    adata, _ = hold_out(adata, unseen)
    measured = sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})
    rng = np.random.default_rng(0)
    names = [*measured[:-2], unseen[0]]
    adata.uns["vectors"] = pd.DataFrame(rng.standard_normal((len(names), 3)), index=names)
    DBDiffusion.setup_anndata(adata, embedding_key="vectors")
    model = train_quickly(tiny_model(adata), 2, 2)
    model.set_strategy("table")
    assert model.strategy_of(unseen[0]) == "table"
    with pytest.raises(KeyError, match="nothing places"):
        model.predict_effects(unseen[1], n_cells=16)
    model.set_strategy("auto")
    assert model.strategy_of(unseen[1]) not in ("none", "table", "table_knn")
    assert np.isfinite(model.predict_effects(unseen, n_cells=16)["effect"]).all()
