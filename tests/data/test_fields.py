import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scvi import REGISTRY_KEYS

from dbdiffusion import DBDiffusion
from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import PerturbationField, UserVectorsField, simulate_screen, vectors_from_state

E = 3


@pytest.fixture
def screen():
    return simulate_screen(n_genes=31, n_perturbations=4, n_cells_per_perturbation=7, n_control_cells=11, n_modules=5, seed=1)


@pytest.fixture
def vectors(screen):
    names = [*screen.uns["true_effects"].index, "DRUG"]
    return pd.DataFrame(np.random.default_rng(0).standard_normal((len(names), E)), index=names)


def manager_of(adata, **options):
    DBDiffusion.setup_anndata(adata, **options)
    return DBDiffusion._get_most_recent_anndata_manager(adata)


def decode(manager, state):
    categories = np.asarray(state[PerturbationField.CATEGORICAL_MAPPING_KEY])
    return categories[manager.get_from_registry(REGISTRY.PERTURBATION).ravel().astype(int)]


def test_codes_and_state_name_every_cell(screen):
    manager = manager_of(screen, combination_sep="_")
    state = manager.get_state_registry(REGISTRY.PERTURBATION)
    assert state[PerturbationField.CONTROL] == "control"
    assert state[PerturbationField.SEPARATOR] == "_"
    assert np.array_equal(decode(manager, state), screen.obs["perturbation"].astype(str))


def test_other_names_of_column_and_control(screen):
    screen.obs["guide"] = screen.obs.pop("perturbation").astype(str).replace("control", "non-targeting")
    manager = manager_of(screen, perturbation_key="guide", control="non-targeting")
    state = manager.get_state_registry(REGISTRY.PERTURBATION)
    assert state[PerturbationField.CONTROL] == "non-targeting"
    assert np.array_equal(decode(manager, state), screen.obs["guide"])


def test_setup_adds_codes_and_nothing_else(screen, vectors):
    screen.uns["vectors"] = vectors
    before = screen.copy()
    manager_of(screen, embedding_key="vectors")
    added = set(screen.obs) - set(before.obs)
    assert all(column.startswith("_scvi_") for column in added)
    pd.testing.assert_frame_equal(screen.obs[before.obs.columns], before.obs)
    np.testing.assert_array_equal(screen.X.toarray(), before.X.toarray())
    pd.testing.assert_frame_equal(screen.uns["vectors"], before.uns["vectors"])


def test_control_is_marked_in_the_view(screen):
    manager = manager_of(screen)
    field = next(field for field in manager.fields if isinstance(field, PerturbationField))
    view = field.view_state_registry(manager.get_state_registry(REGISTRY.PERTURBATION))
    assert view.caption == "control: control"


def test_vectors_live_in_the_state_and_never_reach_the_loader(screen, vectors):
    screen.uns["vectors"] = vectors
    manager = manager_of(screen, embedding_key="vectors")
    assert not manager.data_registry.get(REGISTRY.EMBEDDING)
    assert REGISTRY_KEYS.X_KEY in manager.data_registry
    state = manager.get_state_registry(REGISTRY.EMBEDDING)
    kept = vectors_from_state(state)
    assert list(kept.index) == list(vectors.index)
    np.testing.assert_allclose(kept.to_numpy(), vectors.to_numpy())
    assert state[UserVectorsField.SOURCE] == "vectors"
    assert manager.summary_stats["n_perturbation_vectors"] == 5


def test_the_state_is_a_copy(screen, vectors):
    screen.uns["vectors"] = vectors
    manager = manager_of(screen, embedding_key="vectors")
    expected = vectors.to_numpy().copy()
    screen.uns["vectors"].iloc[:] = 0.0
    np.testing.assert_allclose(vectors_from_state(manager.get_state_registry(REGISTRY.EMBEDDING)), expected)


def test_without_vectors_there_is_no_state(screen):
    manager = manager_of(screen)
    assert not manager.get_state_registry(REGISTRY.EMBEDDING)
    assert vectors_from_state(manager.get_state_registry(REGISTRY.EMBEDDING)) is None


def test_vectors_of_genes_alone_are_accepted(screen):
    gene = screen.var_names.difference(screen.uns["true_effects"].index)[0]
    screen.uns["vectors"] = pd.DataFrame(np.ones((1, E)), index=[gene])
    state = manager_of(screen, embedding_key="vectors").get_state_registry(REGISTRY.EMBEDDING)
    assert list(state[UserVectorsField.NAMES]) == [gene]


def test_the_view_names_source_and_size(screen, vectors):
    screen.uns["vectors"] = vectors
    manager = manager_of(screen, embedding_key="vectors")
    field = next(field for field in manager.fields if isinstance(field, UserVectorsField))
    view = field.view_state_registry(manager.get_state_registry(REGISTRY.EMBEDDING))
    cells = [next(iter(column.cells)) for column in view.columns]
    assert cells == ["adata.uns['vectors']", "5", "3"]
    assert field.view_state_registry({}) is None


def test_transfer_keeps_codes_and_vectors(screen, vectors):
    screen.uns["vectors"] = vectors
    manager = manager_of(screen, embedding_key="vectors")
    state = manager.get_state_registry(REGISTRY.PERTURBATION)
    some = screen[screen.obs["perturbation"] != state[PerturbationField.CATEGORICAL_MAPPING_KEY][0]]
    other = ad.AnnData(some.X[::-1].copy(), obs=some.obs[["perturbation"]].iloc[::-1].astype(str), var=some.var)
    transferred = manager.transfer_fields(other)
    new_state = transferred.get_state_registry(REGISTRY.PERTURBATION)
    assert np.array_equal(decode(transferred, state), other.obs["perturbation"])
    assert new_state[PerturbationField.CONTROL] == "control"
    assert new_state[PerturbationField.SEPARATOR] == "+"
    np.testing.assert_allclose(vectors_from_state(transferred.get_state_registry(REGISTRY.EMBEDDING)), vectors)


def test_cells_of_an_unknown_perturbation_are_not_transferred_silently(screen):
    manager = manager_of(screen)
    other = screen.copy()
    other.obs["perturbation"] = np.where(np.arange(other.n_obs) < 3, "NEW", other.obs["perturbation"].astype(str))
    with pytest.raises(ValueError, match="NEW"):
        manager.transfer_fields(other)


def test_a_missing_table_is_named(screen, vectors):
    screen.uns["vectors"] = vectors
    with pytest.raises(KeyError, match=r"`embedding_key` 'vector' is not in adata\.uns.*'vectors'"):
        DBDiffusion.setup_anndata(screen, embedding_key="vector")


def test_a_transposed_table_is_refused(screen, vectors):
    screen.uns["vectors"] = vectors.T
    with pytest.raises(ValueError, match=r"none of.*transposed"):
        DBDiffusion.setup_anndata(screen, embedding_key="vectors")


def test_tables_and_columns_are_checked(screen, vectors):
    screen.uns["vectors"] = vectors.to_numpy()
    with pytest.raises(TypeError, match=r"adata\.uns\['vectors'\] must be a DataFrame"):
        DBDiffusion.setup_anndata(screen, embedding_key="vectors")
    with pytest.raises(ValueError, match="'ctrl'"):
        DBDiffusion.setup_anndata(screen, control="ctrl")
    with pytest.raises(KeyError, match="'guide'"):
        DBDiffusion.setup_anndata(screen, perturbation_key="guide")
