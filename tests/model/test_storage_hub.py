import numpy as np
import pytest
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion

pytest.importorskip("huggingface_hub")


def test_round_trip_with_a_card_of_its_own(trained, unseen, tmp_path):
    from scvi.hub import HubModel

    folder = tmp_path / "model"
    trained.hub_model(folder, "cc-by-4.0", "A simulated screen.", authors=["A. Author"], save_anndata=True)
    again = HubModel(str(folder))
    card = again.model_card.content
    for word in ("library_name: scvi-tools", "license: cc-by-4.0", "model_cls_name:DBDiffusion", "A simulated screen."):
        assert word in card
    for word in (
        "both stages",
        "A. Author",
        "pickle",
        trained.perturbation_names[0],
        "| n_latent | `5` |",
        "| batch_key | `batch` |",
    ):
        assert word in card
    loaded = again.model
    assert isinstance(loaded, DBDiffusion)
    assert np.array_equal(loaded.generate(unseen, n_cells=3).X.toarray(), trained.generate(unseen, n_cells=3).X.toarray())


def test_the_card_says_which_stage_is_missing(tmp_path):
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    with pytest.raises(ValueError, match=r"model\.train"):
        model.hub_model(tmp_path / "model", "mit", "Nothing.")
    model.train_vae(max_epochs=1, **QUIET)
    assert "stage one (the VAE) only" in model.hub_model(tmp_path / "model", "mit", "Half.").model_card.content
