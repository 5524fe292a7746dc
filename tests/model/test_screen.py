import numpy as np
import pytest
import scipy.sparse as sp
from tiny import FATES, screen_in_two_contexts, spoiled, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.embedding import LeftOutSpaces
from dbdiffusion.model import _screen
from dbdiffusion.model._screen import ScreenReader

E = 6


def reader(adata, **setup):
    DBDiffusion.setup_anndata(adata, **setup)
    return ScreenReader(tiny_model(adata).adata_manager)


def test_pool_is_control_cells():
    adata = tiny_screen()
    screen = reader(adata, batch_key="batch").read()
    control = (adata.obs["perturbation"] == "control").to_numpy()
    assert np.array_equal(screen.library, np.asarray(adata.X.sum(1)).ravel()[control])
    assert np.array_equal(screen.covariates["batch"].ravel(), adata.obs["batch"].cat.codes[control])


def test_effects_without_some_perturbations_are_those_of_a_screen_without_their_cells():
    adata = tiny_screen(n_combinations=3)
    gone = {adata.obs["perturbation"].iloc[-1], next(n for n in adata.obs["perturbation"] if n != "control")}
    names, observed = reader(adata, batch_key="batch").effects(without=gone)
    assert not gone & set(names)
    expected = reader(adata[~adata.obs["perturbation"].isin(gone)].copy(), batch_key="batch").effects()
    assert names == expected[0]
    for name, values in expected[1].__dict__.items():
        np.testing.assert_allclose(getattr(observed, name), values, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("fate", FATES)
def test_gene_space_without_a_perturbation_ignores_its_cells_bit_for_bit(fate):
    adata = tiny_screen()
    name = str(adata.obs["perturbation"].iloc[-1])
    (without,) = reader(adata).gene_vectors((name,))
    whole, again = reader(spoiled(adata, name, fate)).gene_vectors((), (name,))
    assert np.array_equal(without, again)
    assert whole.shape != again.shape or not np.allclose(whole, again, atol=1e-4)


def test_a_sample_of_the_cells_is_drawn_perturbation_by_perturbation(monkeypatch):
    monkeypatch.setattr(_screen, "MAX_GENE_SPACE_CELLS", 130)  # ten of each
    monkeypatch.setattr(_screen, "MAX_GENE_SPACE_CONTROL", 40)
    adata = tiny_screen()
    name = str(adata.obs["perturbation"].iloc[-1])
    first = reader(adata)
    rows = first._rows_for_gene_space()
    assert np.bincount(first.codes[rows])[first.categories.index("control")] == 40
    assert set(np.delete(np.bincount(first.codes[rows]), first.categories.index("control"))) == {10}
    other = spoiled(adata, name, "half removed")
    second = reader(other)
    rest = [list(one.obs_names[r][one.obs["perturbation"].iloc[r] != name]) for one, r in
            ((adata, rows), (other, second._rows_for_gene_space()))]  # fmt: skip
    assert rest[0] == rest[1]
    assert np.array_equal(first.gene_vectors((name,))[0], second.gene_vectors((name,))[0])


def left_out_predictions(of_screen, setup):
    """Every strategy's predictions of every perturbation without its fold, by context."""
    read = reader(of_screen, **setup)
    whole = read.read()
    screens = [read.read(context, whole.vectors) for context in read.contexts] or [whole]
    joint = None
    if read.contexts:
        names = tuple(name for screen in screens for name in screen.names)
        joint = names, np.concatenate([screen.observed.effect for screen in screens])
    answers = {}
    for context, screen in zip(read.contexts or [""], screens, strict=True):
        spaces = LeftOutSpaces(screen, E, whole.left_out, joint=joint)
        for fold, (space, rows) in enumerate(spaces.folds()):
            names = [screen.names[row] for row in rows]
            for strategy in ("best", "ridge", "knn", "cluster"):
                ranking = (strategy, *space.ranking) if strategy != "best" else space.ranking
                predicted = space.with_ranking(ranking).predict_effect(names)
                answers[context, fold, strategy] = predicted, space.embed(names), space.ranking
    return answers, whole.left_out


def check_that_it_has_no_part_in_its_own(adata, name, fates, **setup):
    """Folds that do without a perturbation predict the same, bit for bit; the others do not."""
    answers, left_out = left_out_predictions(adata, setup)
    for fate in fates:
        again = left_out_predictions(spoiled(adata, name, fate), setup)[0]
        assert again.keys() == answers.keys()
        moved = 0
        for (context, fold, strategy), (predicted, embedding, ranking) in answers.items():
            other = again[context, fold, strategy]
            if name in left_out.folds[fold].excluded:
                assert np.array_equal(other[0], predicted), (fate, context, left_out.folds[fold], strategy)
                assert np.array_equal(other[1], embedding)
                assert other[2] == ranking or not left_out.inner[fold]  # parts that were measured need no strategy
            else:
                moved += not np.array_equal(other[0], predicted)
        assert moved > 0


@pytest.mark.parametrize("setup", [{}, {"batch_key": "batch"}], ids=["", "batches"])
def test_cells_of_a_single_perturbation_have_no_part_in_its_prediction(setup):
    adata = tiny_screen(n_combinations=3)
    pair = next(name for name in adata.obs["perturbation"] if "+" in name)
    check_that_it_has_no_part_in_its_own(adata, pair.split("+")[0], FATES, **setup)


def test_cells_of_a_combination_have_no_part_in_its_prediction_nor_in_those_of_its_parts():
    adata = tiny_screen(n_combinations=3)
    pair = next(name for name in adata.obs["perturbation"] if "+" in name)
    folds = reader(adata).read().left_out.folds
    assert sum(pair in fold.excluded for fold in folds) >= 2
    check_that_it_has_no_part_in_its_own(adata, pair, FATES, batch_key="batch")


def test_cells_of_a_perturbation_have_no_part_in_its_prediction_in_any_context():
    adata = screen_in_two_contexts()
    name = str(adata.obs["perturbation"].iloc[-1])
    check_that_it_has_no_part_in_its_own(adata, name, FATES[:2], batch_key="batch", context_key="time")


@pytest.mark.parametrize("key", ["batch_key", "context_key"])
@pytest.mark.parametrize("max_cells", [20_000, 300])
def test_gene_space_ignores_what_differs_between_batches_and_contexts(monkeypatch, key, max_cells):
    monkeypatch.setattr(_screen, "MAX_GENE_SPACE_CELLS", max_cells)
    adata = tiny_screen()
    adata.obs["side"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    marker = np.random.default_rng(0).random(adata.n_vars) < 0.3
    x = adata.X.toarray()
    x[np.ix_(adata.obs["side"] == "a", marker)] += 20
    adata.X = sp.csr_matrix(x)

    def of_sides(**setup):
        (vectors,) = reader(adata, **setup).gene_vectors(())
        return np.abs((vectors[marker] @ vectors[marker].T).mean() - (vectors[marker] @ vectors[~marker].T).mean())

    assert of_sides(**{key: "side"}) < 0.3 * of_sides()


def test_effects_of_a_batch_effect_alone_are_small():
    adata = tiny_screen(effect_size=0.0)
    rng = np.random.default_rng(0)
    adata.obs["side"] = np.where(rng.random(adata.n_obs) < 0.5, "a", "b")
    _, observed = reader(adata, batch_key="side").effects()
    z = observed.effect / np.sqrt(observed.variance + observed.control_variance)
    assert 0.8 < np.median(np.abs(z)) / 0.6745 < 1.2
