import mudata
import numpy as np
import pandas as pd
import pytest
import scvi
from tiny import CONTEXTS, QUIET, screen_in_two_contexts, tiny_guides, tiny_model, tiny_screen

import dbdiffusion
from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out

EARLY, LATE = CONTEXTS


def trained_with_a_seed(data, n_epochs):
    scvi.settings.seed = 0
    model = tiny_model(data)
    model.train(max_epochs=n_epochs, max_epochs_diffusion=n_epochs, **QUIET)
    return model


@pytest.fixture(scope="module")
def hidden():
    return list(tiny_screen(seed=1).uns["true_effects"].index[:2])


@pytest.fixture(scope="module")
def timed(hidden):
    adata, _ = hold_out(screen_in_two_contexts(), hidden)
    DBDiffusion.setup_anndata(adata, batch_key="batch", context_key="time")
    return trained_with_a_seed(adata, 40)


def test_contexts_are_named_and_told_to_the_diffusion(timed):
    assert timed.contexts == (EARLY, LATE)
    assert timed.module.n_context == 2
    conditions = [timed.predictor(name).generator.conditions.of(np.ones((1, 3)))[0].numpy() for name in timed.contexts]
    assert np.array_equal(conditions[0][-2:], [1, 0])
    assert np.array_equal(conditions[1][-2:], [0, 1])


def test_effects_are_those_of_the_context_alone(timed):
    observed = timed.observed_effects()
    for name in timed.contexts:
        cells = timed.adata[(timed.adata.obs["time"] == name).to_numpy()].copy()
        DBDiffusion.setup_anndata(cells, batch_key="batch")
        alone = tiny_model(cells).observed_effects()
        here = observed[observed["context"] == name]
        np.testing.assert_allclose(here["effect"], alone["effect"], atol=1e-6)
        np.testing.assert_allclose(here["p_value"], alone["p_value"], atol=1e-6)


def test_an_unseen_perturbation_is_predicted_in_every_context(timed, hidden):
    table = timed.predict_effects(hidden, n_cells=64)
    assert table.groupby("context", sort=False).size().to_dict() == {
        name: len(hidden) * timed.adata.n_vars for name in timed.contexts
    }
    assert (table["status"] == "unseen").all()
    early = timed.predict_effects(hidden, n_cells=64, context=EARLY)
    pd.testing.assert_frame_equal(early, table[table["context"] == EARLY].reset_index(drop=True))
    assert timed.in_context(EARLY).predict_effects(hidden, n_cells=64)["effect"].equals(early["effect"])
    wide = table.pivot_table(index=["target", "variable"], columns="context", values="mean_control", observed=True)
    assert not np.allclose(wide[EARLY], wide[LATE])


def test_cells_are_generated_in_one_context(timed, hidden):
    cells = {name: timed.generate(hidden[0], n_cells=200, context=name) for name in timed.contexts}
    control = {}
    for name in timed.contexts:
        rows = (timed.adata.obs["time"] == name) & (timed.adata.obs["perturbation"] == "control")
        control[name] = np.asarray(timed.adata[rows.to_numpy()].X.mean(axis=0)).ravel()
    means = {name: np.asarray(one.X.mean(axis=0)).ravel() for name, one in cells.items()}
    for here, there in ((EARLY, LATE), (LATE, EARLY)):
        assert np.corrcoef(means[here], control[here])[0, 1] > np.corrcoef(means[here], control[there])[0, 1] + 0.1


def test_calibration_answers_for_one_context(timed):
    assert timed.in_context(LATE).calibration(n_cells=64).tuned.loc["single", "n_reference"] == 11
    assert len(timed.in_context(LATE).null_calibration(n_splits=3).table) == 3
    for ask in (timed.calibration, timed.null_calibration, timed.reference_predictions):
        with pytest.raises(ValueError, match=r"in_context\('early'\)"):
            ask()


def test_saved_and_loaded_it_predicts_the_same(timed, hidden, tmp_path):
    timed.save(str(tmp_path / "model"))
    loaded = DBDiffusion.load(str(tmp_path / "model"), adata=False)
    assert loaded.contexts == timed.contexts
    pd.testing.assert_frame_equal(loaded.predict_effects(hidden, n_cells=64), timed.predict_effects(hidden, n_cells=64))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.set_strategy("mean"),
        lambda model: model.train_diffusion(max_epochs=2, **QUIET),
        lambda model: model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET),
        lambda model: model.add_perturbations(["NEW"], pd.DataFrame(np.eye(9), index=["NEW", *model.perturbation_names[:8]])),
    ],
)
def test_a_kept_view_is_never_stale(small, change):
    adata = small.copy()
    DBDiffusion.setup_anndata(adata, batch_key="batch", context_key="time")
    model = trained_with_a_seed(adata, 1)
    target = next(g for g in adata.var_names if g not in model.perturbation_names)
    kept = model.in_context(LATE)
    before = kept.predict_effects(target, n_cells=16, lam=1.0)
    change(model)
    fresh = model.in_context(LATE)
    pd.testing.assert_frame_equal(
        kept.predict_effects(target, n_cells=16, lam=1.0), fresh.predict_effects(target, n_cells=16, lam=1.0)
    )
    assert kept.strategy_of(target) == fresh.strategy_of(target)
    assert kept.perturbation_names == fresh.perturbation_names
    assert np.array_equal(kept.generate(target, n_cells=9).X.toarray(), fresh.generate(target, n_cells=9).X.toarray())
    if model.strategy == "auto" and "NEW" not in model.perturbation_names:
        assert not np.allclose(kept.predict_effects(target, n_cells=16, lam=1.0)["effect"], before["effect"])
    model.train_vae(max_epochs=1, **QUIET)
    with pytest.raises(RuntimeError, match="train_diffusion"):
        kept.predict_effects(target)


def test_what_contexts_cannot_do_is_said(timed, hidden):
    with pytest.raises(ValueError, match="Did you mean"):
        timed.predict_effects(hidden, context="earl")
    with pytest.raises(ValueError, match="`context` must be one of"):
        timed.generate(hidden)
    with pytest.raises(ValueError, match="embedding"):
        timed.cross_fit()
    with pytest.raises(NotImplementedError, match="contexts"):
        DBDiffusion.load_query_data(timed.adata.copy(), timed)


def test_a_model_without_contexts_refuses_to_be_asked_for_one(trained, hidden):
    assert trained.contexts == ()
    with pytest.raises(ValueError, match="context_key"):
        trained.predict_effects(hidden, context="early")


def test_every_context_needs_control():
    adata = screen_in_two_contexts()
    late_control = (adata.obs["time"] == LATE) & (adata.obs["perturbation"] == "control")
    with pytest.raises(ValueError, match=r"late.*have fewer"):
        DBDiffusion.setup_anndata(adata[~late_control.to_numpy()].copy(), context_key="time")


GUIDED = {"rna_layer": "rna", "guide_layer": "guide", "batch_key": "rna"}


def as_mudata(adata):
    """The screen with its guides; the perturbations themselves are not told."""
    rna = adata.copy()
    del rna.obs["perturbation"]
    return mudata.MuData({"rna": rna, "guide": tiny_guides(adata)})


@pytest.fixture(scope="module")
def small():
    adata = screen_in_two_contexts()
    return adata[adata.obs["perturbation"].isin(["control", *sorted(set(adata.obs["perturbation"]))[:12]]).to_numpy()].copy()


@pytest.fixture(scope="module")
def timed_anndata(small):
    adata = small.copy()
    DBDiffusion.setup_anndata(adata, batch_key="batch", context_key="time")
    return trained_with_a_seed(adata, 2)


@pytest.fixture(scope="module")
def timed_mudata(small):
    mdata = as_mudata(small)
    DBDiffusion.setup_mudata(mdata, batch_key="batch", context_key="time", modalities={**GUIDED, "context_key": "rna"})
    return trained_with_a_seed(mdata, 2)


def test_mudata_answers_in_contexts_as_anndata_bit_for_bit(timed_mudata, timed_anndata):
    both = timed_mudata, timed_anndata
    assert timed_mudata.contexts == (EARLY, LATE)
    assert np.array_equal(*(model.get_latent_representation() for model in both))
    names = timed_anndata.perturbation_names
    gene = next(g for g in timed_anndata.adata.var_names if g not in names)
    for ask in (
        lambda model: model.observed_effects(),
        lambda model: model.differential_expression_ppi([names[0], gene], n_cells=64),
        lambda model: model.predict_effects(gene, n_cells=64, context=LATE),
        lambda model: model.in_context(LATE).calibration(n_cells=64).table,
        lambda model: model.in_context(LATE).null_calibration(n_splits=3).p_values,
        lambda model: model.in_context(EARLY).reference_predictions(n_cells=64),
    ):
        pd.testing.assert_frame_equal(*map(ask, both), check_exact=True)
    cells = [model.generate(gene, n_cells=5, context=LATE).X.toarray() for model in both]
    assert np.array_equal(*cells)


def test_the_context_is_a_column_of_mudata_or_of_a_modality(small, timed_anndata):
    mdata = mudata.MuData({"rna": small.copy()})
    mdata.obs["when"] = small.obs["time"].to_numpy()
    modalities = {"rna_layer": "rna", "perturbation_key": "rna", "batch_key": "rna"}
    DBDiffusion.setup_mudata(mdata, batch_key="batch", context_key="when", modalities=modalities)
    model = tiny_model(mdata)
    pd.testing.assert_frame_equal(model.observed_effects(), timed_anndata.observed_effects(), check_exact=True)


def test_a_mudata_with_contexts_is_saved_loaded_and_transferred(timed_mudata, small, tmp_path):
    gene = next(g for g in small.var_names if g not in timed_mudata.perturbation_names)
    expected = timed_mudata.predict_effects(gene, n_cells=64)
    timed_mudata.save(tmp_path / "model")
    for data in (False, as_mudata(small)):
        loaded = DBDiffusion.load(tmp_path / "model", adata=data)
        assert loaded.contexts == timed_mudata.contexts
        pd.testing.assert_frame_equal(loaded.predict_effects(gene, n_cells=64), expected)
    other = as_mudata(small[::2].copy())
    assert timed_mudata.get_latent_representation(other).shape == (other.n_obs, 5)
    groups = timed_mudata.differential_expression(groupby="time", group1=EARLY, group2=LATE, silent=True)
    assert set(groups.index) == set(small.var_names)
    other["rna"].obs["time"] = "noon"
    with pytest.raises(ValueError, match="noon"):
        timed_mudata.get_latent_representation(other)


def test_contexts_of_a_mudata_that_cannot_be_used_are_named(small):
    located = {**GUIDED, "context_key": "rna"}
    mdata = as_mudata(small)
    with pytest.raises(KeyError, match="Did you mean 'time'"):
        DBDiffusion.setup_mudata(mdata, context_key="tine", modalities=located)
    with pytest.raises(KeyError, match="`context_key` 'time' is not in adata"):
        DBDiffusion.setup_mudata(mdata, context_key="time", modalities={**GUIDED, "context_key": "guide"})
    with pytest.raises(TypeError, match="`context_key` must be text or None"):
        DBDiffusion.setup_mudata(mdata, context_key=1, modalities=located)
    with pytest.raises(KeyError, match="`perturbation_key` 'perturbation' is not in"):
        DBDiffusion.setup_mudata(mdata, context_key="time", modalities={"rna_layer": "rna", "context_key": "rna"})
    mdata["rna"].obs["time"] = mdata["rna"].obs["time"].where(np.arange(mdata.n_obs) > 0)
    with pytest.raises(ValueError, match="missing values"):
        DBDiffusion.setup_mudata(mdata, context_key="time", modalities=located)
    late_control = ((small.obs["time"] == LATE) & (small.obs["perturbation"] == "control")).to_numpy()
    with pytest.raises(ValueError, match=r"late.*have fewer"):
        DBDiffusion.setup_mudata(as_mudata(small[~late_control].copy()), context_key="time", modalities=located)
    assert not [name for name in mdata.obs if name.startswith("_scvi")]


def test_by_default_each_context_answers_for_what_it_measured_or_can_place(recwarn):
    """A perturbation of no measured gene that one context measured has no answer in the other, and takes no other's."""
    adata = screen_in_two_contexts()
    labels = adata.obs["perturbation"].astype(str)
    name = sorted(set(labels) - {"control"})[0]
    adata = adata[~((labels == name) & (adata.obs["time"] == LATE)).to_numpy()].copy()
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace({name: "NO_GENE"})
    DBDiffusion.setup_anndata(adata, context_key="time")
    model = trained_with_a_seed(adata, 2)
    table = model.differential_expression_ppi(n_cells=8)
    assert set(table.loc[table["target"] == "NO_GENE", "context"]) == {EARLY}
    assert set(table.loc[table["context"] == LATE, "target"]) == set(model.perturbation_names) - {"NO_GENE"}
    assert any("NO_GENE" in str(one.message) for one in recwarn)
    assert set(model.target_confidence(n_cells=8)["context"]) <= {EARLY, LATE}


def test_of_a_table_of_contexts_each_one_s_rows_say_what_is_told_apart_there(timed, hidden):
    table = timed.predict_effects(hidden, n_cells=8)
    for name in CONTEXTS:
        alone = timed.in_context(name).predict_effects(hidden, n_cells=8)
        told = dbdiffusion.to_anndata(table[table["context"] == name]).obs["told_apart"]
        assert told.to_dict() == alone.attrs["told_apart"]
    table.attrs["told_apart"] = {EARLY: dict.fromkeys(hidden, True), LATE: dict.fromkeys(hidden, False)}
    assert not dbdiffusion.to_anndata(table[table["context"] == LATE]).obs["told_apart"].any()
