"""Laws of a screen's pairs: measured ones are differences of what was seen, unseen ones lie where those do."""

import numpy as np
import pytest
from tiny import tiny_screen

from dbdiffusion import DBDiffusion


@pytest.fixture(scope="module")
def model():
    screen = tiny_screen(n_combinations=8, n_perturbations=10, seed=2)
    DBDiffusion.setup_anndata(screen, batch_key="batch")
    model = DBDiffusion(screen, n_hidden=16, n_latent=5, n_embedding=6, n_diffusion_hidden=16, n_diffusion_blocks=1)
    model.train(max_epochs=2, max_epochs_diffusion=2, enable_progress_bar=False, accelerator="cpu")
    return model


pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_measured_pairs_are_differences_of_what_was_seen(model):
    found = model.interactions()
    pairs = [name for name in model.perturbation_names if "+" in name]
    assert found.pairs["pair"].tolist() == pairs
    assert set(found.pairs["status"]) == {"measured"}
    seen = model.observed_effects().pivot(index="target", columns="variable", values="effect")
    first, second = pairs[0].split("+")
    genes = found.genes[found.genes["pair"] == pairs[0]].set_index("variable")
    expected = seen.loc[pairs[0]] - seen.loc[first] - seen.loc[second]
    assert np.allclose(genes["effect"], expected[genes.index], atol=1e-6)
    assert (genes["q_value"] >= genes["p_value"] - 1e-12).all()
    assert len(found.genes) == len(pairs) * model.adata.n_vars


def test_the_order_of_parts_does_not_matter_and_unseen_ones_say_what_they_rest_on(model):
    pairs = [name for name in model.perturbation_names if "+" in name]
    turned = "+".join(reversed(pairs[0].split("+")))
    found = model.interactions([turned, "GENE58+GENE59"])
    assert found.pairs["status"].tolist() == ["measured", "unseen"]
    assert found.pairs["pair"][1] == "GENE58+GENE59"
    assert "measured pairs" in found.said


def test_a_measured_pair_whose_part_was_not_measured_is_not_called_unseen():
    screen = tiny_screen(n_combinations=8, n_perturbations=10, seed=2)
    pair = next(name for name in screen.obs["perturbation"].unique() if "+" in name)
    screen = screen[(screen.obs["perturbation"] != pair.split("+")[0]).to_numpy()].copy()
    DBDiffusion.setup_anndata(screen)
    model = DBDiffusion(screen, n_hidden=16, n_latent=5, n_embedding=6, n_diffusion_hidden=16, n_diffusion_blocks=1)
    model.train(max_epochs=1, max_epochs_diffusion=1, enable_progress_bar=False, accelerator="cpu")
    whole = model.interactions().pairs["pair"].tolist()
    with pytest.warns(UserWarning, match="a part of them was not"):
        found = model.interactions([pair, *whole]).pairs.set_index("pair")
    assert (found["status"] == "measured").all()
    assert found.loc[pair, "kind"] == "undecided"
    assert found.loc[pair, ["along", "ci_low", "p_value"]].isna().all()
    assert np.isfinite(found.loc[whole, "p_value"]).all()


def test_what_is_no_pair_is_refused_in_words(model, trained):
    with pytest.raises(ValueError, match=r"Interactions are of combinations.*'GENE58'"):
        model.interactions("GENE58")
    with pytest.raises(ValueError, match="holds none whose parts were all measured"):
        trained.interactions()
    with pytest.raises(KeyError, match="NOGENE"):
        model.interactions("GENE58+NOGENE")
