import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

from dbdiffusion.data import check_door, check_genes, check_kind, undone_if_it_fails

N, G = 7, 5
GENES = [f"GENE{i}" for i in range(G)]


@pytest.fixture
def screen():
    counts = np.random.default_rng(0).poisson(2.0, (N, G)).astype(np.float32)
    adata = ad.AnnData(counts, obs=pd.DataFrame(index=[f"c{i}" for i in range(N)]), var=pd.DataFrame(index=GENES))
    adata.layers["log"] = np.log1p(counts) + 0.1
    return adata


@pytest.mark.parametrize(
    ("brought", "match"),
    [
        (GENES[::-1], "another order"),
        (GENES[:-1], r"1 of them are absent, as \['GENE4'\]"),
        ([*GENES, "OTHER"], r"1 others, as \['OTHER'\]"),
        ([*GENES[:-1], "OTHER"], "absent"),
        ([*GENES, GENES[0]], "more than once"),
        ([], "absent"),
    ],
)
def test_genes_that_differ_are_refused_by_how_they_differ(brought, match):
    check_genes(GENES, GENES)
    with pytest.raises(ValueError, match=match):
        check_genes(brought, GENES)
    with pytest.raises(ValueError, match="do this instead"):
        check_genes(brought, GENES, "do this instead")


@pytest.mark.parametrize("other", [None, "file.h5ad", np.eye(3), pd.DataFrame(), 3])
def test_what_is_neither_anndata_nor_mudata_is_refused(other, screen):
    check_kind(screen)
    check_kind(mudata.MuData({"rna": screen}), is_mudata=True)
    for is_mudata in (False, True):
        with pytest.raises(TypeError, match=type(other).__name__):
            check_kind(other, is_mudata=is_mudata)


def test_each_is_shown_its_own_way_in(screen):
    with pytest.raises(TypeError, match="setup_mudata"):
        check_kind(mudata.MuData({"rna": screen}))
    with pytest.raises(TypeError, match="setup_anndata"):
        check_kind(screen, is_mudata=True)


def test_a_door_answers_with_totals_and_checks_genes_and_counts(screen):
    np.testing.assert_array_equal(check_door(screen, None, GENES), screen.X.sum(axis=1))
    np.testing.assert_array_equal(check_door(screen, None, None), screen.X.sum(axis=1))
    with pytest.raises(ValueError, match="fractional"):
        check_door(screen, "log", GENES)
    with pytest.raises(ValueError, match="another order"):
        check_door(screen, None, GENES[::-1])


def test_minified_cells_have_no_counts_to_check(screen):
    screen.uns["_scvi_adata_minify_type"] = "latent_posterior_parameters"
    assert check_door(screen, None, GENES) is None
    with pytest.raises(ValueError, match="another order"):
        check_door(screen, None, GENES[::-1])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_failed_registration_wrote_is_taken_back(screen, error):
    screen.obs["_scvi_batch"], screen.obs["own"] = np.arange(N), "x"
    screen.uns["_scvi_uuid"] = "before"
    mdata = mudata.MuData({"rna": screen})
    before = [holder.obs.copy() for holder in (mdata, screen)]

    def fail():
        with undone_if_it_fails(mdata):
            screen.obs["_scvi_batch"] = 0
            screen.obs["_scvi_perturbation"] = 1
            screen.obsm["_scvi_extra"] = np.ones((N, 2))
            screen.uns["_scvi_uuid"] = "after"
            mdata.obs["_scvi_guide_calls"] = "A"
            mdata.uns["_scvi_manager_uuid"] = "after"
            raise error

    with pytest.raises(error):
        fail()
    for holder, obs in zip((mdata, screen), before, strict=True):
        pd.testing.assert_frame_equal(holder.obs[obs.columns], obs)
        assert set(holder.obs) == set(obs)
        assert not [key for key in holder.obsm if key.startswith("_scvi")]
    assert screen.uns["_scvi_uuid"] == "before"
    assert "_scvi_manager_uuid" not in mdata.uns


def test_what_succeeds_stays(screen):
    with undone_if_it_fails(screen):
        screen.obs["_scvi_perturbation"] = 1
    assert "_scvi_perturbation" in screen.obs
