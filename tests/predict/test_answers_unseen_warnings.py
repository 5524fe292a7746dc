import warnings

import numpy as np
import pytest
from tiny import tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion.inference import Estimate
from dbdiffusion.predict._answers import Answer, FewReferencesWarning, NotToldApartWarning, warn_of_few, warn_of_same


def answer(*, n_reference=20.0, told_apart=True, se=1.0):
    return Answer(Estimate(np.ones(3), np.full(3, se), np.ones(3)), 0.5, np.ones(3), n_reference, told_apart=told_apart)


def test_few_references_and_equal_answers_are_said_by_number_and_name():
    answers = {"A": answer(), "B": answer(n_reference=2.0), "C": answer(told_apart=False)}
    with pytest.warns(FewReferencesWarning, match="1 unseen perturbations \\('B'"):
        warn_of_few(answers)
    with pytest.warns(NotToldApartWarning, match="1 of 3 unseen perturbations \\('C'"):
        warn_of_same(answers)


def test_nothing_is_said_where_all_is_well_or_where_there_is_no_error_to_compare_with():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few({"A": answer()})
        warn_of_same({"A": answer(), "B": answer(told_apart=False, se=np.nan)})


def test_targets_that_no_cell_expresses_are_not_told_apart():
    """Their vectors are like none, so all of them get one answer."""
    adata = tiny_screen(n_perturbations=14)
    measured = set(adata.obs["perturbation"])
    silent = [gene for gene in adata.var_names if gene not in measured][:2]
    counts = adata.X.tolil()
    counts[:, adata.var_names.get_indexer(silent)] = 0
    adata.X = counts.tocsr()
    DBDiffusion.setup_anndata(adata)
    model = train_quickly(tiny_model(adata))
    with pytest.warns(NotToldApartWarning, match=silent[0]):
        table = model.predict_effects(silent, n_cells=16)
    effects = table.pivot(index="target", columns="variable", values="effect").to_numpy()
    np.testing.assert_allclose(effects[0], effects[1], rtol=1e-3, atol=1e-5)
    assert table.attrs["told_apart"] == dict.fromkeys(silent, False)
