import pytest
from dressed import SETUP, fresh
from tiny import QUIET


@pytest.fixture(scope="package")
def dressed():
    """Both stages trained on a screen with batch, labels and size factors; tests must not change it."""
    model = fresh(setup=SETUP)
    model.train(
        max_epochs=2,
        max_epochs_diffusion=2,
        vae_kwargs={"check_val_every_n_epoch": 1, "train_size": 0.5},
        diffusion_kwargs={"check_val_every_n_epoch": 1},
        **QUIET,
    )
    return model
