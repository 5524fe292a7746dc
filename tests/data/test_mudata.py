import mudata
import numpy as np
import pandas as pd
import pytest
from tiny import tiny_guides, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion._keys import REGISTRY

MODALITIES = {"rna_layer": "rna", "guide_layer": "guide"}


@pytest.fixture
def rna():
    return tiny_screen(n_perturbations=5, n_combinations=2)


@pytest.fixture
def mdata(rna):
    return mudata.MuData({"rna": rna.copy(), "guide": tiny_guides(rna)})


def manager_of(mdata, **options):
    DBDiffusion.setup_mudata(mdata, **options)
    return DBDiffusion._get_most_recent_anndata_manager(mdata)


def names_of(manager):
    mapping = manager.get_state_registry(REGISTRY.PERTURBATION)["categorical_mapping"]
    return np.asarray(mapping)[manager.get_from_registry(REGISTRY.PERTURBATION).ravel().astype(int)]


def sorted_parts(names):
    return ["+".join(sorted(str(name).split("+"))) for name in names]


def test_calls_of_guides_are_the_simulated_perturbations(mdata, rna):
    assert list(names_of(manager_of(mdata, modalities=MODALITIES))) == sorted_parts(rna.obs["perturbation"])


def test_a_column_of_a_modality_or_of_mudata(mdata, rna):
    expected = list(rna.obs["perturbation"].astype(str))
    modalities = {"rna_layer": "rna", "perturbation_key": "rna"}
    assert list(names_of(manager_of(mdata, modalities=modalities))) == expected
    mdata.obs["guides"] = rna.obs["perturbation"].to_numpy()
    assert list(names_of(manager_of(mdata, perturbation_key="guides"))) == expected


def test_only_codes_are_added(mdata):
    before = mdata.copy()
    manager_of(mdata, modalities=MODALITIES)
    assert all(name.startswith("_scvi") for name in set(mdata.obs) - set(before.obs))
    for name in ("rna", "guide"):
        assert np.array_equal(mdata[name].X.toarray(), before[name].X.toarray())
        pd.testing.assert_frame_equal(mdata[name].var, before[name].var)


def test_vectors_of_a_user_stay_out_of_the_loader(mdata, rna):
    genes = [name for name in rna.obs["perturbation"].cat.categories if name in set(rna.var_names)]
    mdata.uns["vectors"] = pd.DataFrame(np.eye(len(genes)), index=genes)
    manager = manager_of(mdata, modalities=MODALITIES, embedding_key="vectors")
    assert not manager.data_registry.get(REGISTRY.EMBEDDING)
    assert list(manager.get_state_registry(REGISTRY.EMBEDDING)["names"]) == genes


def test_cells_without_a_guide_are_refused_with_advice(mdata):
    counts = mdata["guide"].X.toarray()
    counts[:3] = 0
    mdata["guide"].X = counts
    with pytest.raises(ValueError, match=r"3 of \d+ cells.*call_perturbations"):
        DBDiffusion.setup_mudata(mdata, modalities=MODALITIES)


def test_modalities_must_exist_and_hold_the_same_cells(mdata, rna):
    with pytest.raises(ValueError, match="'protein' is not in mdata"):
        DBDiffusion.setup_mudata(mdata, modalities={"rna_layer": "protein"})
    with pytest.raises(ValueError, match="rna_layer"):
        DBDiffusion.setup_mudata(mdata, modalities={"guide_layer": "guide"})
    unpaired = mudata.MuData({"rna": rna[5:].copy(), "guide": tiny_guides(rna)})
    with pytest.raises(ValueError, match="intersect_obs"):
        DBDiffusion.setup_mudata(unpaired, modalities=MODALITIES)
