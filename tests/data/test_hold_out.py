import anndata as ad
import numpy as np
import pandas as pd
import pytest

from dbdiffusion.data import hold_out

G = 5
NAMES = ["control", "MYC", "SPI1", "MYC+SPI1", "GATA1"]


@pytest.fixture
def screen():
    rng = np.random.default_rng(0)
    column = pd.Categorical(rng.permutation(np.repeat(NAMES, [11, 4, 3, 2, 7])))
    adata = ad.AnnData(
        rng.poisson(1.0, (27, G)).astype(np.float32),
        obs=pd.DataFrame({"perturbation": column}, index=[f"cell{i}" for i in range(27)]),
    )
    adata.obs["guide"] = column.astype(str)
    return adata


def test_every_cell_goes_to_one_side(screen):
    rest, held_out = hold_out(screen, ["MYC", "GATA1"])
    assert set(held_out.obs["perturbation"]) == {"MYC", "GATA1"}
    assert set(rest.obs["perturbation"]) == {"control", "SPI1", "MYC+SPI1"}
    assert sorted([*rest.obs_names, *held_out.obs_names]) == sorted(screen.obs_names)
    for part in (rest, held_out):
        np.testing.assert_array_equal(part.X, screen[part.obs_names].X)


def test_the_input_is_left_alone_and_copies_are_returned(screen):
    before = screen.copy()
    for part in hold_out(screen, ["MYC"]):
        assert not part.is_view
        part.X[:] = -1
        part.obs["perturbation"] = "changed"
        part.obs["new"] = 1
    np.testing.assert_array_equal(screen.X, before.X)
    pd.testing.assert_frame_equal(screen.obs, before.obs)


def test_another_column(screen):
    screen.obs = screen.obs.drop(columns="perturbation")
    _, held_out = hold_out(screen, ["SPI1"], perturbation_key="guide")
    assert set(held_out.obs["guide"]) == {"SPI1"}


def test_nothing_held_out(screen):
    rest, held_out = hold_out(screen, [])
    assert (rest.n_obs, held_out.n_obs) == (27, 0)


def test_an_unknown_name_is_refused_with_a_close_one(screen):
    with pytest.raises(KeyError, match=r"'GATA2' has no cells.*Did you mean 'GATA1'"):
        hold_out(screen, ["MYC", "GATA2"])
    with pytest.raises(KeyError, match="'xyzzy'") as caught:
        hold_out(screen, ["xyzzy"])
    assert "Did you mean" not in str(caught.value)
