import numpy as np
import pandas as pd
import pytest
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out

EARLY, LATE = "early", "late"


def screen_in_two_contexts():
    """The same perturbations twice; late, the genes are dealt out anew, so that effects differ."""
    first, second = tiny_screen(seed=1), tiny_screen(seed=1)
    order = np.random.default_rng(5).permutation(first.n_vars)
    second.X = second.X[:, order]
    second.obs_names = second.obs_names + "late"
    import anndata as ad

    both = ad.concat([first, second])
    both.obs["time"] = np.repeat([EARLY, LATE], [first.n_obs, second.n_obs])
    return both


@pytest.fixture(scope="module")
def hidden():
    return list(tiny_screen(seed=1).uns["true_effects"].index[:2])


@pytest.fixture(scope="module")
def timed(hidden):
    adata, _ = hold_out(screen_in_two_contexts(), hidden)
    DBDiffusion.setup_anndata(adata, batch_key="batch", context_key="time")
    model = tiny_model(adata)
    model.train(max_epochs=15, max_epochs_diffusion=15, **QUIET)
    return model


def test_contexts_are_named_and_told_to_the_diffusion(timed):
    assert timed.contexts == (EARLY, LATE)
    assert timed.module.n_context == 2
    conditions = [timed.in_context(name)._as_condition(np.ones((1, 3)))[0].numpy() for name in timed.contexts]
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
