"""Laws of the questions of a trained model: what is ranked, suggested, written and added is what its parts say."""

import copy
import json
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tiny import screen_in_two_contexts, tiny_model

from dbdiffusion import DBDiffusion, ScreenWarning, rectify, to_anndata
from dbdiffusion.inference import Projection
from dbdiffusion.predict._ranking import suggested

FEW = {"n_cells": 32}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_a_ranking_is_the_effect_along_the_direction(trained, unseen):
    genes = trained.adata.var_names
    weights = pd.Series(np.random.default_rng(0).standard_normal(7), genes[10:17])
    names = [*unseen, *trained.perturbation_names[:4]]
    table = trained.rank_targets(weights, names, confidence=0.8, **FEW).set_index("target")
    effects = trained.predict_effects(names, **FEW).pivot(index="target", columns="variable", values="effect")
    assert np.allclose(table.loc[names, "effect"], effects.loc[names, weights.index] @ weights)
    assert table.loc[unseen, "status"].tolist() == ["unseen"] * 2
    assert (table["ci_low"] < table["effect"]).all()
    assert (table["effect"] < table["ci_high"]).all()
    assert (table["effect"].diff().dropna() <= 0).all()
    told = table.attrs["single"]
    assert told["n_reference"] == len(trained.perturbation_names)
    assert table.loc[unseen, "p_value"].min() >= told["least_p_value"] - 1e-12
    assert {"share", "precision", "chance"} <= set(told["head"][0])
    trust = trained.target_confidence(unseen, **FEW).set_index("target")
    assert np.allclose(table.loc[unseen, "correlation"], trust.loc[unseen, "correlation"])
    assert table.loc[names[2:], "correlation"].isna().all()


def test_sides_of_a_direction_mirror_each_other(trained, unseen):
    weights = dict.fromkeys(trained.adata.var_names[:9], 1.0)
    up = trained.rank_targets(weights, unseen, 0.02, **FEW).set_index("target").loc[unseen]
    down = (
        trained.rank_targets({g: -w for g, w in weights.items()}, unseen, -0.02, "less", **FEW).set_index("target").loc[unseen]
    )
    assert np.allclose(up["p_value"], down["p_value"])
    assert np.allclose(up["effect"], -down["effect"])
    assert np.allclose(up["ci_low"], -down["ci_high"])


def test_a_candidate_in_the_direction_is_marked(trained, unseen):
    table = trained.rank_targets([unseen[0]], unseen, **FEW).set_index("target")
    assert table["own_gene_in_direction"].to_dict() == {unseen[0]: True, unseen[1]: False}


def test_too_few_references_are_said_in_words(trained, unseen):
    with pytest.warns(UserWarning, match="needs 19 references"):
        table = trained.rank_targets(trained.adata.var_names[3], unseen, **FEW)
    assert np.isinf(table["ci_low"]).all()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"direction": "NOGENE"}, KeyError, "not measured"),
        ({"direction": []}, ValueError, "names no gene"),
        ({"alternative": "up"}, ValueError, "`alternative` must be one of"),
        ({"threshold": np.nan}, ValueError, "`threshold`"),
        ({"alternative": "two-sided", "threshold": -1}, ValueError, "-1"),
        ({"candidates": ["NOGENE"]}, KeyError, "NOGENE"),
        ({"candidates": "control"}, ValueError, "Control 'control'"),
        ({"confidence": 2}, ValueError, "`confidence`"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_anything_is_generated(trained, options, error, words):
    given = {"direction": trained.adata.var_names[3], "candidates": None} | options
    with pytest.raises(error, match=words):
        trained.rank_targets(**given, **FEW)


def test_candidates_are_all_that_can_be_asked(trained, unseen):
    table = trained.candidates()
    assert set(table.loc[table["status"] == "measured", "target"]) == set(trained.perturbation_names)
    assert set(table["target"]) == {*trained.adata.var_names, *trained.perturbation_names}
    row = table.set_index("target").loc[unseen[0]]
    space = trained.predictor().space
    cosine = space.similarity([unseen[0]])[0]
    assert row["similarity"] == pytest.approx(cosine.max())
    assert row["nearest"] == space.names[cosine.argmax()]
    assert (table.loc[table["status"] == "measured", "nearest"] != table.loc[table["status"] == "measured", "target"]).all()
    assert trained.candidates(unseen)["target"].tolist() == unseen
    with pytest.raises(KeyError, match="NOGENE"):
        trained.candidates(["NOGENE"])


def test_suggestions_are_unmeasured_and_leave_less_and_less_uncertain(trained):
    table = trained.suggest_targets(5)
    assert not set(table["target"]) & set(trained.perturbation_names)
    assert table["target"].is_unique
    assert (np.diff(table["uncertainty"]) < 0).all()
    assert np.diff(table["uncertainty"]) == pytest.approx(-table["gain"][1:])
    pd.testing.assert_frame_equal(table, trained.suggest_targets(5))
    some = [*trained.candidates().query("status == 'unseen'")["target"][:4]]
    assert set(trained.suggest_targets(4, some)["target"]) == set(some)
    with pytest.raises(ValueError, match=r"at most the number of candidates.* 4, got 5"):
        trained.suggest_targets(5, some)
    with pytest.raises(ValueError, match="`n` must be a whole number"):
        trained.suggest_targets(0)


def test_suggestions_from_next_to_nothing_are_warned_of(trained):
    predictor = trained.predictor()
    space = predictor.space
    lone = replace(space, names=space.names[:2], embedding=space.embedding[:2], _rows={}, _learnable={})
    with pytest.warns(ScreenWarning, match="Only 2 of 2 measured perturbations have a vector"):
        suggested(replace(predictor, space=lone), 2)


def test_a_mistyped_argument_is_named_before_anything_is_written(trained, unseen, tmp_path):
    with pytest.raises(TypeError, match=r"no argument 'confidense'\. Did you mean 'confidence'"):
        trained.predict_effects(unseen[0], confidense=0.9)
    with pytest.raises(TypeError, match="no argument 'options'"):
        trained.predict_effects(unseen[0], options=3)
    with pytest.raises(TypeError, match=r"no argument 'n_cell'\. Did you mean 'n_cells'"):
        trained.write_effects(tmp_path / "effects.zarr", unseen, n_cell=8)
    assert not list(tmp_path.iterdir())


def test_the_confidence_that_is_advised_can_be_had():
    none = np.zeros(13)
    words = " ".join(Projection(none, none, none).said(3, 0.2, 0.95))
    advised = float(words.split("at most ")[1].split()[0].rstrip("."))
    low, high = Projection(none, none, none).interval(none, advised)
    assert np.isfinite(low).all()
    assert np.isfinite(high).all()


def test_a_store_holds_the_table_however_the_work_was_shared(trained, unseen, tmp_path):
    names = [*unseen, *trained.perturbation_names[:3]]
    expected = to_anndata(trained.predict_effects(names, **FEW))
    whole = ad.read_zarr(trained.write_effects(tmp_path / "a.zarr", names, chunk=2, **FEW))
    assert whole.obs_names.tolist() == names
    for part in ((2, 3), (3, 3), (1, 3)):
        trained.write_effects(tmp_path / "b.zarr", names, chunk=2, part=part, **FEW)
    with pytest.raises(ValueError, match="of other options"):
        trained.write_effects(tmp_path / "b.zarr", names, chunk=2, n_cells=48)
    shared = ad.read_zarr(trained.write_effects(tmp_path / "b.zarr", names, chunk=2, **FEW))
    for layer in expected.layers:
        assert np.allclose(whole.layers[layer], expected.layers[layer], equal_nan=True, rtol=1e-5, atol=1e-7)
        assert np.array_equal(shared.layers[layer], whole.layers[layer], equal_nan=True)
    pd.testing.assert_frame_equal(shared.obs, whole.obs)
    with pytest.raises(FileExistsError, match="exists already"):
        trained.write_effects(tmp_path / "b.zarr", names, **FEW)


@pytest.mark.parametrize("part", [3, (0, 2), (3, 2), (1, 0), "12"])
def test_a_part_that_cannot_be_is_refused(trained, unseen, tmp_path, part):
    with pytest.raises(ValueError, match="`part"):
        trained.write_effects(tmp_path / "a.zarr", unseen, part=part, **FEW)


def reference_table(model, unseen, rng, noise=0.02):
    """The observed effects without their noise, as far as can be had: of the truth, plus noise of a predictor."""
    truth = model.truth_of_test
    return truth.loc[[*model.perturbation_names, *unseen]] + noise * rng.standard_normal(
        (len(model.perturbation_names) + 2, truth.shape[1])
    )


@pytest.fixture
def model(trained, screen):
    copied = copy.deepcopy(trained)
    copied.truth_of_test = screen.uns["true_effects"][list(trained.adata.var_names)]
    return copied


def test_a_predictor_that_knows_gets_the_weight_and_noise_none(model, unseen):
    rng = np.random.default_rng(0)
    good = reference_table(model, unseen, rng)
    noise = pd.DataFrame(0.1 * rng.standard_normal(good.shape), good.index, good.columns)
    truth = model.truth_of_test.loc[unseen].to_numpy().ravel()
    before = model.predict_effects(unseen, **FEW)
    assert model.add_predictor("noise", noise) > 1
    beside_noise = model.predict_effects(unseen, **FEW)
    assert beside_noise.attrs["weights"]["single"]["noise"] < 0.05
    for figure in ("effect", "se"):
        assert ((beside_noise[figure] - before[figure]) ** 2).mean() <= 0.01**2 * (before[figure] ** 2).mean()
    model.add_predictor("good", good.iloc[::-1])
    after = model.predict_effects(unseen, **FEW)
    assert after.attrs["weights"]["single"]["good"] > 0.5
    assert ((after["effect"] - truth) ** 2).mean() < 0.6 * ((before["effect"] - truth) ** 2).mean()
    assert "good" in model.reference_predictions(**FEW)
    model.remove_predictor("good")
    model.remove_predictor("noise")
    pd.testing.assert_frame_equal(model.predict_effects(unseen, **FEW), before)


def test_an_added_predictor_is_saved_with_the_model(model, unseen, tmp_path):
    model.add_predictor("good", reference_table(model, unseen, np.random.default_rng(1)))
    del model.truth_of_test
    expected = model.predict_effects(unseen, **FEW)
    model.save(tmp_path / "model", save_anndata=True)
    loaded = DBDiffusion.load(tmp_path / "model")
    assert np.allclose(loaded.predict_effects(unseen, **FEW)["effect"], expected["effect"], atol=1e-6)


def test_tables_that_cannot_be_are_refused_and_leave_the_model_as_it_was(model, unseen):
    rng = np.random.default_rng(2)
    good = reference_table(model, unseen, rng)
    seen = model.observed_effects().pivot(index="target", columns="variable", values="effect")[good.columns]
    cheat = good.copy()
    cheat.loc[seen.index] = seen
    cases = [
        ("cheat", cheat, ValueError, "'cheat'.*without its cells"),
        ("few", good.iloc[2:], KeyError, "lack 2 of"),
        ("genes", good.iloc[:, 1:], KeyError, "lacks 1 of the"),
        ("knn", good, ValueError, "'knn' is the name of a predictor"),
        ("list", [1], TypeError, "got list"),
    ]
    for name, table, error, words in cases:
        with pytest.raises(error, match=words):
            model.add_predictor(name, table)
    assert not model.own_predictors_
    model.add_predictor("mine", good.drop(index=unseen[1]))
    with pytest.raises(KeyError, match=f"'{unseen[1]}'.*no row in the predictions of 'mine'"):
        model.predict_effects(unseen, **FEW)
    with pytest.raises(KeyError, match="No predictor 'min' was added"):
        model.remove_predictor("min")


def test_rectify_gives_the_numbers_of_the_model_for_the_same_inputs(trained, unseen):
    table = trained.reference_predictions(**FEW)
    wide = {name: table.pivot(index="target", columns="variable", values=name) for name in table.columns[2:]}
    screen = trained.predictor().screen
    names = list(screen.names)
    recipe_names = [name for name in wide if name != "observed"]
    from dbdiffusion.predict import GenerationOptions, Recipe, predictions, references_of

    predictor, recipe = trained.predictor(), Recipe(GenerationOptions(seed=0), **FEW)
    pool = predictor.references(recipe)
    references = references_of(predictor, pool, np.arange(len(names)))
    of_targets = predictions(predictor, predictor.generator, [(predictor.space, unseen)], recipe)[0]
    genes = list(screen.var_names)
    tables = {
        name: pd.concat([wide[name].loc[names, genes], pd.DataFrame(of_targets[name], unseen, genes)]) for name in recipe_names
    }
    rectified = rectify(
        wide["observed"].loc[names, genes],
        tables,
        unseen,
        se=pd.DataFrame(np.sqrt(screen.observed.variance), names, genes),
        control_se=pd.Series(np.sqrt(references.control_variance), genes),
        halves=screen.halves,
        control_norm_cv=references.control_norm_cv,
        control_share=references.control_share,
    )
    expected = trained.predict_effects(unseen, **FEW)
    assert np.allclose(rectified["effect"], expected["effect"], atol=1e-6)
    assert rectified.attrs["weights"]["single"] == pytest.approx(expected.attrs["weights"]["single"])


def test_contexts_are_ranked_each_and_other_questions_ask_for_one():
    both = screen_in_two_contexts()
    DBDiffusion.setup_anndata(both, batch_key="batch", context_key="time")
    model = tiny_model(both)
    train_quickly_without_folds(model)
    names = model.perturbation_names[:2]
    table = model.rank_targets(both.var_names[0], names, confidence=0.8, **FEW)
    assert table.groupby("context").size().to_dict() == {"early": 2, "late": 2}
    with pytest.raises(ValueError, match="one at a time"):
        model.suggest_targets(2)
    assert len(model.in_context("late").suggest_targets(2)) == 2
    genes = both.var_names
    target = next(gene for gene in genes if gene not in model.perturbation_names)
    rows = [*model.perturbation_names, target]
    rng = np.random.default_rng(0)
    noise = {name: pd.DataFrame(0.1 * rng.standard_normal((len(rows), len(genes))), rows, genes) for name in ("early", "late")}
    with pytest.raises(ValueError, match=r"each of \['early', 'late'\], got DataFrame"):
        model.add_predictor("mine", noise["early"])
    with pytest.raises(ValueError, match=r"got a dictionary of \['early'\]"):
        model.add_predictor("mine", {"early": noise["early"]})
    seen = model.in_context("late").observed_effects().pivot(index="target", columns="variable", values="effect")
    cheat = pd.concat([seen.loc[rows[:-1], genes], noise["late"].tail(1)])
    with pytest.raises(ValueError, match="without its cells"):
        model.add_predictor("mine", {"early": noise["early"], "late": cheat})
    assert model.own_predictors_ is None
    before = model.in_context("late").predict_effects(target, **FEW)["effect"]
    errors = model.add_predictor("mine", noise)
    assert {name: error > 1 for name, error in errors.items()} == {"early": True, "late": True}
    late = model.in_context("late")
    after = late.predict_effects(target, **FEW)
    assert after.attrs["weights"]["single"]["mine"] < 0.1  # by chance, of fourteen references
    assert np.sqrt(((after["effect"] - before) ** 2).mean()) <= 0.1 * np.sqrt((before**2).mean())
    pool = late.reference_predictions(**FEW).pivot(index="target", columns="variable", values="mine")
    assert np.allclose(pool[genes], noise["late"].loc[pool.index])


def train_quickly_without_folds(model):
    model.train(max_epochs=3, max_epochs_diffusion=3, enable_progress_bar=False, accelerator="cpu")


def test_parameters_of_a_table_are_kept(trained, unseen):
    effects = to_anndata(trained.predict_effects(unseen, **FEW))
    assert json.loads(effects.uns["parameters"])["n_cells"] == FEW["n_cells"]
