import numpy as np
import pandas as pd
import pytest
from tiny import observed_effects

from dbdiffusion.embedding import ALL_STRATEGIES, fit_space
from dbdiffusion.screen import GeneSpace

G, E, R = 23, 3, 5
GENES = [f"GENE{i:02d}" for i in range(G)]
NAMES = (*GENES[:12], "GENE00+GENE01", "GENE03+GENE02", "DRUG")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def genes(rng):
    return GeneSpace(pd.Index(GENES), rng.standard_normal((G, R)))


@pytest.fixture
def space(rng, genes):
    return fit_space(NAMES, observed_effects(rng.standard_normal((len(NAMES), G))), genes, E, ("ridge", "mean"))


@pytest.fixture
def vectors(rng):
    names = ["DRUG", "OTHER DRUG", *GENES[2:9], "GENE20"]
    return pd.DataFrame(rng.standard_normal((len(names), 2)), index=names)


def test_measured_perturbations_are_where_they_were_measured(space):
    np.testing.assert_allclose(space.embed(list(NAMES)), space.embedding)
    np.testing.assert_allclose(space.embed(["DRUG", "GENE04"]), space.embedding[[14, 4]])
    assert all(space.strategy_of(name) == "measured" for name in NAMES)


def test_predicted_effects_are_read_off_the_embeddings(rng, genes):
    effect = rng.standard_normal((len(NAMES), G))
    space = fit_space(NAMES, observed_effects(effect), genes, 64, ("ridge",))
    np.testing.assert_allclose(space.predict_effect(list(NAMES)), effect, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "swapped"),
    [("GENE00+GENE01", "GENE01+GENE00"), ("GENE03+GENE02", "GENE02 + GENE03"), ("GENE05+GENE20", "GENE20+GENE05")],
)
def test_the_order_of_a_combination_does_not_matter(space, name, swapped):
    first, second = space.embed([name, swapped])
    np.testing.assert_allclose(first, second, atol=1e-12)
    assert space.is_measured(name) == space.is_measured(swapped)


def test_a_measured_combination_is_not_the_sum_of_its_parts(space):
    combination, a, b = space.embed(["GENE01+GENE00", "GENE00", "GENE01"])
    np.testing.assert_allclose(combination, space.embedding[12])
    assert np.linalg.norm(combination - (a + b - space.control)) > 0.1


@pytest.mark.parametrize("parts", [("GENE04", "GENE05"), ("GENE04", "GENE15"), ("GENE15", "GENE16", "DRUG")])
def test_combinations_add_their_parts(space, parts):
    together = space.embed(["+".join(parts)])[0]
    expected = space.control + sum(vector - space.control for vector in space.embed(list(parts)))
    np.testing.assert_allclose(together, expected, atol=1e-12)


def test_effects_of_parts_add_up_to_what_components_can_say(space):
    a, b, both = space.predict_effect(["GENE04", "GENE05", "GENE04+GENE05"])
    zero = space.effects.to_effect(space.control[None])[0]
    np.testing.assert_allclose(both - zero, (a - zero) + (b - zero), atol=1e-12)


def test_a_misspelt_name_is_refused_with_close_ones(space):
    with pytest.raises(KeyError, match=r"'GENE99'.*Did you mean .*GENE.*embedding_key.*add_perturbations.*measured genes"):
        space.embed(["GENE04", "GENE99"])
    with pytest.raises(KeyError, match="'gibberish'") as caught:
        space.embed(["GENE04+gibberish"])
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("DRUG", True), ("GENE20", True), ("GENE20+DRUG", True), ("OTHER DRUG", False), ("GENE20+OTHER DRUG", False), ("", False)],
)
def test_can_embed_says_what_embed_does(space, name, answer):
    assert space.can_embed(name) == answer
    if answer:
        assert np.isfinite(space.embed([name])).all()
    else:
        with pytest.raises(KeyError):
            space.embed([name])


def test_an_unknown_name_is_not_placed_by_default(space):
    assert not space.with_ranking(("mean",)).can_embed("OTHER DRUG")


def test_mean_alone_places_anything(space):
    anything = space.with_ranking(("mean",), places_anything=True)
    of_single_ones = space.embedding[[*range(12), 14]].mean(axis=0)
    np.testing.assert_allclose(anything.embed(["OTHER DRUG", "GENE20"]), np.tile(of_single_ones, (2, 1)), atol=1e-12)
    assert anything.strategy_of("OTHER DRUG") == "mean"
    np.testing.assert_allclose(anything.embed(["DRUG"])[0], space.embedding[14])


def test_the_mean_is_that_of_combinations_only_where_nothing_else_was_measured(rng, genes):
    names = ("GENE00+GENE01", "GENE03+GENE02", "DRUG+GENE05")
    space = fit_space(names, observed_effects(rng.standard_normal((3, G))), genes, E, ("mean",))
    np.testing.assert_allclose(space.embed(["GENE07"])[0], space.embedding.mean(axis=0), atol=1e-12)


def test_leaving_out_places_by_genes_on_the_same_axes(space):
    left = space.leave_out("GENE04")
    assert not left.is_measured("GENE04")
    assert space.is_measured("GENE04")
    assert left.effects is space.effects
    np.testing.assert_allclose(left.embed(["GENE05", "GENE03+GENE02"]), space.embed(["GENE05", "GENE03+GENE02"]))
    moved = space.leave_out("GENE04").embedding
    np.testing.assert_allclose(moved, np.delete(space.embedding, 4, axis=0))
    assert np.linalg.norm(left.embed(["GENE04"]) - space.embed(["GENE04"])) > 0.01


def test_what_was_left_out_does_not_influence_its_place(space):
    changed = np.array(space.embedding)
    changed[4] += 100.0
    other = type(space)(space.names, changed, space.effects, space.genes, None, "+", ("ridge",))
    here, there = (s.leave_out("GENE04").embed(["GENE04"]) for s in (space, other))
    np.testing.assert_allclose(here, there, atol=1e-12)


def test_a_left_out_combination_adds_its_measured_parts(space):
    left = space.leave_out("GENE00+GENE01")
    expected = space.embedding[0] + space.embedding[1] - space.control
    np.testing.assert_allclose(left.embed(["GENE01+GENE00"])[0], expected, atol=1e-12)


def test_the_separator_is_the_users(rng, genes):
    names = (*GENES[:6], "GENE00_GENE01")
    space = fit_space(names, observed_effects(rng.standard_normal((7, G))), genes, E, ("ridge",), separator="_")
    assert space.parts("GENE04_GENE05") == ("GENE04", "GENE05")
    assert space.is_measured("GENE01_GENE00")
    assert space.parts("GENE04+GENE05") == ("GENE04+GENE05",)
    assert not space.can_embed("GENE04+GENE05")


def test_a_gene_whose_name_holds_the_separator_is_no_combination(rng):
    names = [*GENES[:-1], "HLA+A"]
    genes = GeneSpace(pd.Index(names), rng.standard_normal((G, R)))
    space = fit_space(GENES[:6], observed_effects(rng.standard_normal((6, G))), genes, E, ("ridge",))
    assert space.parts("HLA+A") == ("HLA+A",)
    assert space.strategy_of("HLA+A") == "ridge"


def test_own_genes_are_the_measured_genes_that_are_hit(space):
    assert space.own_genes("GENE07").tolist() == [7]
    assert sorted(space.own_genes("GENE03+GENE02")) == [2, 3]
    assert space.own_genes("GENE03+DRUG").tolist() == [3]
    assert space.own_genes("DRUG").tolist() == []


@pytest.mark.parametrize("strategy", ["table", "table_knn"])
def test_a_users_vectors_place_what_has_one(rng, genes, vectors, strategy):
    effect = rng.standard_normal((len(NAMES), G))
    space = fit_space(NAMES, observed_effects(effect), genes, E, (strategy, "knn"), vectors)
    assert space.strategy_of("OTHER DRUG") == strategy
    assert space.strategy_of("GENE20") == strategy
    assert space.strategy_of("GENE21") == "knn"
    assert space.strategy_of("GENE21+OTHER DRUG") == f"knn+{strategy}"
    assert space.strategy_of("GENE21+DRUG") == "knn+measured"
    np.testing.assert_allclose(space.embed(["GENE21"]), space.with_ranking(("knn",)).embed(["GENE21"]))


def test_a_table_that_determines_the_effects_is_learned(rng, genes):
    names = GENES[:20]
    vectors = pd.DataFrame(rng.standard_normal((21, 2)) * [1, 100] + [0, 5000], index=[*names, "NEW"])
    effect = vectors.to_numpy() @ rng.standard_normal((2, G)) * [1.0]
    space = fit_space(names, observed_effects(effect[:20]), genes, E, ("table",), vectors)
    error = space.predict_effect(["NEW"])[0] - effect[20]
    assert (error**2).mean() < 1e-3 * effect[:20].var(axis=0).mean()


def test_a_strategy_without_material_says_so(rng, genes, vectors):
    effect = observed_effects(rng.standard_normal((len(NAMES), G)))
    lonely = fit_space(NAMES, effect, genes, E, ("table",), vectors.loc[["DRUG", "OTHER DRUG"]])
    with pytest.raises(ValueError, match=r"'table' needs at least 2 measured.*got 1.*'mean'"):
        lonely.embed(["OTHER DRUG"])


@pytest.mark.parametrize("strategy", ALL_STRATEGIES)
def test_every_strategy_answers_alike_alone_and_together(rng, genes, strategy):
    vectors = pd.DataFrame(rng.standard_normal((G, 2)), index=GENES)
    space = fit_space(NAMES, observed_effects(rng.standard_normal((len(NAMES), G))), genes, E, (strategy,), vectors)
    targets = ["GENE20", "GENE15+GENE22", "GENE03"]
    together = space.embed(targets)
    np.testing.assert_allclose(together, np.vstack([space.embed([name]) for name in targets]), atol=1e-10)
    assert space.strategy_of("GENE20") == strategy


def test_the_first_strategy_of_the_ranking_that_can_place_is_taken(space):
    for ranking in (("knn", "ridge"), ("ridge", "knn"), ("cluster",)):
        assert space.with_ranking(ranking).strategy_of("GENE20") == ranking[0]


def test_located_cluster_shares_genes_with_the_target(rng):
    group = np.repeat([0, 1], 12)
    genes = GeneSpace(pd.Index([f"G{i}" for i in range(24)]), 5 * np.eye(2)[group] + 0.1 * rng.standard_normal((24, 2)))
    names = tuple(genes.names[[*range(10), *range(12, 22)]])
    measured = group[[*range(10), *range(12, 22)]]
    effect = 5 * np.eye(24)[measured] + 0.1 * rng.standard_normal((20, 24))
    space = fit_space(names, observed_effects(effect), genes, 2, ("cluster",))
    for target, expected in (("G11", 0), ("G23", 1)):
        rows = np.flatnonzero(space.located([target])[0])
        assert len(rows) >= 2
        assert set(measured[rows]) == {expected}


def test_later_perturbations_move_neither_axes_nor_rows(rng, genes):
    effect = rng.standard_normal((len(NAMES), G))
    first = fit_space(NAMES[:8], observed_effects(effect[:8]), genes, E, ("ridge",))
    both = fit_space(NAMES, observed_effects(effect), genes, E, ("ridge",), n_axes=8)
    np.testing.assert_allclose(both.embedding[:8], first.embedding)
    np.testing.assert_allclose(both.embedding[8:], first.effects.to_embedding(effect[8:]))
    np.testing.assert_allclose(both.control, first.control)
