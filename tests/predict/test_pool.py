import numpy as np
import pytest
import scvi
from tiny import FATES, QUIET, screen_in_two_contexts, spoiled, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.predict import GenerationOptions, Recipe
from dbdiffusion.predict._pool import GENERATED, ReferencePool, predictors, reference_pool, references_of


@pytest.fixture(scope="module")
def paired():
    """A model of single knock-outs and pairs of them."""
    adata = tiny_screen(n_combinations=3)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    return trained_a_little(adata)


@pytest.fixture(scope="module")
def timed():
    adata = screen_in_two_contexts()
    DBDiffusion.setup_anndata(adata, batch_key="batch", context_key="time")
    return trained_a_little(adata)


@pytest.fixture(scope="module")
def unplaced():
    """A model whose measured perturbations are no measured genes, while its targets are."""
    return without_genes_of(14)


@pytest.fixture(scope="module")
def partly():
    """A model of 14 perturbations, eight of which are no measured genes."""
    return without_genes_of(8)


def without_genes_of(n):
    whole = tiny_screen(n_perturbations=14)
    gone = set(whole.uns["true_effects"].index[:n])
    adata = whole[:, [gene not in gone for gene in whole.var_names]].copy()
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    return trained_a_little(adata)


def trained_a_little(adata):
    scvi.settings.seed = 0
    model = tiny_model(adata)
    model.train(max_epochs=3, max_epochs_diffusion=3, **QUIET)
    return model


def with_other_cells(model, adata, folder):
    """The same networks and training axes, but a screen that was read from other cells."""
    model.save(folder, overwrite=True)
    other = DBDiffusion.load(folder, adata=adata)
    screen, contexts = other._read_screens()
    other.screen_, other._cached_screen = screen.to_dict(), screen
    if not model.contexts:
        other._predictors = {None: other._predictor_of(screen, axes=model.predictor().space.effects)}
        return [(model, other)]
    other._predictors = {
        name: other._predictor_of(known.screen, name, known.left_out, model.predictor(name).space.effects)
        for name, known in other._context_predictors(contexts, screen.left_out).items()
    }
    return [(model.in_context(name), other.in_context(name)) for name in contexts]


def pool_of(model, cross_fitting, n_cells):
    return reference_pool(model.predictor(), Recipe(GenerationOptions(), cross_fitting=cross_fitting, n_cells=n_cells))


def check_that_cells_have_no_part_in_their_prediction(model, name, fate, folder):
    left_out = model._screen().left_out
    fold = next(fold for fold in left_out.folds if name in fold.scored)
    for before, after in with_other_cells(model, spoiled(model.adata, name, fate), folder):
        clean, other = (one.reference_predictions(n_cells=24) for one in (before, after))
        columns = [GENERATED, *predictors(before.predictor().space, "embedding")]
        inside = clean["target"].isin(fold.scored).to_numpy()
        assert inside.sum() == len(fold.scored) * model.adata.n_vars
        for column in columns:
            assert np.array_equal(clean[column][inside], other[column][inside]), column
            assert not np.array_equal(clean[column][~inside], other[column][~inside]), column
        own = (clean["target"] == name).to_numpy()
        assert not np.array_equal(clean["observed"][own], other["observed"][own])
        assert np.array_equal(clean["observed"][~own], other["observed"][~own])


@pytest.mark.parametrize("fate", FATES)
def test_cells_of_a_reference_have_no_part_in_its_prediction_bit_for_bit(paired, fate, tmp_path):
    pair = next(name for name in paired.perturbation_names if "+" in name)
    check_that_cells_have_no_part_in_their_prediction(paired, pair.split("+")[0], fate, tmp_path / "model")


def test_cells_of_a_combination_have_no_part_in_its_prediction_bit_for_bit(paired, tmp_path):
    pair = next(name for name in paired.perturbation_names if "+" in name)
    check_that_cells_have_no_part_in_their_prediction(paired, pair, "other counts", tmp_path / "model")


def test_cells_of_a_reference_have_no_part_in_its_prediction_in_any_context(timed, tmp_path):
    check_that_cells_have_no_part_in_their_prediction(timed, timed.perturbation_names[3], "other counts", tmp_path / "model")


@pytest.mark.parametrize("cross_fitting", ["k_fold", "embedding", "in_sample"])
def test_every_measured_gene_is_a_reference(trained, cross_fitting):
    pool = pool_of(trained, cross_fitting, 32)
    assert pool.rows.tolist() == list(range(len(trained._screen().names)))
    assert pool.is_placed.all()
    shape = (len(pool.rows), trained.adata.n_vars)
    assert all(values.shape == shape and np.isfinite(values).all() for values in pool.predicted.values())


def test_a_combination_of_measured_parts_is_predicted_by_their_sum(paired):
    pool, space = pool_of(paired, "embedding", 8), paired._space()
    linear = next(name for name in pool.predicted if name != GENERATED)
    spaces = paired.predictor().left_out
    for way, rows in spaces.folds():
        for row in (row for row in rows if pool.is_combination[row]):
            parts = way.embed(list(space.parts(pool.names[row])))
            expected = way.effects.to_effect(way.control + (parts - way.control).sum(axis=0, keepdims=True))[0]
            np.testing.assert_allclose(pool.predicted[linear][row], expected)
    assert pool.is_combination.sum() == 3


def test_left_out_predictions_differ_from_in_sample_ones(trained):
    pools = {way: pool_of(trained, way, 64) for way in ("embedding", "in_sample")}
    observed = trained._screen().observed.effect
    left_out, in_sample = (pools[way].predicted[GENERATED] for way in ("embedding", "in_sample"))
    assert ((in_sample - left_out) * (observed - left_out)).sum() > 0  # told the effect, it moves towards it


def test_means_of_observed_effects_carry_the_controls_error_and_the_generator_is_taken_to_carry_none(trained):
    for way, share in {"embedding": 0.0, "in_sample": 1.0}.items():
        pool = pool_of(trained, way, 8)
        references = references_of(trained.predictor(), pool, np.arange(len(pool.rows)))
        assert dict(zip(pool.predicted, references.control_shares, strict=True)) == {
            name: share if name == GENERATED else 1.0 for name in pool.predicted
        }


def test_in_sample_has_no_linear_predictor(trained):
    assert list(pool_of(trained, "in_sample", 8).predicted) == [GENERATED]


def test_parts_bring_their_own_noise_into_the_prediction_of_a_combination(paired):
    pool = pool_of(paired, "embedding", 8)
    references = references_of(paired.predictor(), pool, np.arange(len(pool.rows)))
    variance = dict(zip(pool.names, references.variance, strict=True))
    for name, of_parts in zip(pool.names, references.part_variance, strict=True):
        expected = sum(variance[part] for part in name.split("+")) if "+" in name else 0
        np.testing.assert_allclose(of_parts, np.broadcast_to(expected, of_parts.shape))


def test_references_are_of_the_targets_kind():
    def of_kinds(is_combination):
        n = len(is_combination)
        return ReferencePool(np.arange(n), (), {}, np.array(is_combination, dtype=bool), np.ones(n, dtype=bool))

    pool = of_kinds([0, 0, 0, 0, 1, 1, 1])
    assert pool.select(combination=True).tolist() == [4, 5, 6]
    assert pool.select(combination=False).tolist() == [0, 1, 2, 3]
    assert of_kinds([0, 0, 0, 1, 1]).select(combination=True).tolist() == [0, 1, 2, 3, 4]


def test_what_nothing_places_is_predicted_by_the_mean_of_the_others(unplaced):
    pool = pool_of(unplaced, "embedding", 8)
    assert pool.rows.tolist() == list(range(14))
    assert not pool.is_placed.any()
    screen = unplaced._screen()
    for fold in screen.left_out.folds:
        kept = [i for i, name in enumerate(screen.names) if name not in fold.excluded]
        for name in fold.scored:
            row = screen.names.index(name)
            np.testing.assert_allclose(pool.predicted["mean"][row], screen.observed.effect[kept].mean(axis=0), atol=1e-10)


def test_a_screen_on_which_nothing_can_be_placed_is_answered(unplaced):
    gene = next(iter(unplaced.adata.var_names))
    table = unplaced.predict_effects(gene, n_cells=32)
    assert (table["status"] == "unseen").all()
    assert (table["n_reference"] == 14).all()
    assert np.isfinite(table[["effect", "se", "ci_low", "ci_high", "p_value", "lam", "tau"]]).all(axis=None)
    assert (table["ci_low"] < table["ci_high"]).all()
    assert np.isfinite(list(table.attrs["weights"]["single"].values())).all()
    calibration = unplaced.calibration(n_cells=32)
    assert table.attrs["rectifier_mean"]["single"]["n_placed"] == calibration.tuned.loc["single", "n_placed"] == 0
    tuned = calibration.tuned.loc["single"]
    assert (tuned["n_reference"], tuned["n_placed"]) == (14, 0)
    assert 0.85 < calibration.table.set_index("level").loc[0.95, "coverage"] <= 1
    assert not unplaced.embedding_scores().index.isin(["ridge", "knn", "cluster"]).any()


def test_where_some_are_placed_all_count_as_references(partly):
    tuned = partly.calibration(n_cells=32).tuned.loc["single"]
    assert (tuned["n_reference"], tuned["n_placed"]) == (14, 6)
    placed = np.isin(partly._screen().names, partly.adata.var_names)
    pool = pool_of(partly, "embedding", 8)
    np.testing.assert_array_equal(pool.is_placed, placed)
    references = references_of(partly.predictor(), pool, np.arange(14))
    np.testing.assert_array_equal(references.placed, placed)
    gene = next(gene for gene in partly.adata.var_names if gene not in partly.perturbation_names)
    assert (partly.predict_effects(gene, n_cells=32)["n_reference"] == 14).all()
    baseline = partly.predict_effects(gene, n_cells=32, lam=0.0)
    np.testing.assert_allclose(baseline["effect"], _mean_without_own_genes(partly))


def _mean_without_own_genes(model):
    """Mean observed effect (G,) over the perturbations that do not hit the gene."""
    screen = model._screen()
    others = np.array([screen.var_names != name for name in screen.names])
    return np.where(others, screen.observed.effect, 0).sum(axis=0) / others.sum(axis=0)


def test_a_perturbation_with_a_single_cell_is_no_reference():
    adata = tiny_screen()
    name = str(adata.obs["perturbation"].iloc[-1])
    lonely = (adata.obs["perturbation"] == name).to_numpy()
    adata = adata[~lonely | (np.cumsum(lonely) == 1)].copy()
    DBDiffusion.setup_anndata(adata)
    model = trained_a_little(adata)
    pool = pool_of(model, "embedding", 8)
    assert set(pool.names) == set(model._screen().names) - {name}
    gene = next(gene for gene in adata.var_names if gene not in model.perturbation_names)
    table = model.predict_effects([gene, name, f"{name}+{gene}", f"{name}+{pool.names[0]}"], n_cells=16)
    assert np.isfinite(table["effect"]).all()
    assert np.isfinite(table.loc[table["target"] == gene, "se"]).all()
    for space, _ in model.predictor().left_out.folds():
        assert np.isfinite(space.effects.gene_scale).all()


def test_the_baseline_of_a_pair_is_the_sum_of_its_measured_parts_where_gene_space_cannot_learn_too(paired, monkeypatch):
    predictor = paired.predictor()
    screen, space = predictor.screen, predictor.space
    singles = [name for name in screen.names if "+" not in name]
    pair = next(f"{a}+{b}" for a in singles for b in singles if a < b and not space.is_measured(f"{a}+{b}"))
    expected = sum(screen.observed.effect[screen.names.index(part)] for part in pair.split("+"))
    along_axes = space.with_ranking(("ridge",)).predict_effect([pair])[0]
    np.testing.assert_array_equal(predictor.baselines(pair)["ridge"], along_axes)
    assert np.corrcoef(along_axes, expected)[0, 1] > 0.5
    monkeypatch.setattr(type(space), "can_learn", lambda *_: False)
    np.testing.assert_array_equal(predictor.baselines(pair)["ridge"], expected)


def test_a_part_with_a_single_cell_takes_its_pairs_out_of_the_references_and_no_intervals_from_others():
    """Its noise is not known, so neither is that of a sum that it is in."""
    adata = tiny_screen(n_perturbations=16, n_combinations=7)
    names = [name for name in adata.obs["perturbation"].unique() if name != "control"]
    pairs = [name for name in names if "+" in name]
    in_pairs = {part for pair in pairs for part in pair.split("+")}
    part = next(name for name in names if name in in_pairs)
    free = [name for name in names if "+" not in name and name not in in_pairs][:2]
    own = np.flatnonzero((adata.obs["perturbation"] == part).to_numpy())
    adata = adata[~np.isin(np.arange(adata.n_obs), own[1:])].copy()
    DBDiffusion.setup_anndata(adata)
    model = trained_a_little(adata)
    pool = pool_of(model, "embedding", 8)
    assert {name for name in pairs if part in name.split("+")}.isdisjoint(pool.names)
    table = model.predict_effects("+".join(free), n_cells=8)
    assert np.isfinite(table[["se", "ci_low", "ci_high"]]).all(axis=None)
