from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dbdiffusion.diffusion import LatentDiffusion
from dbdiffusion.model._training import DiffusionPlan, DiffusionRecipe, _appended

D, E = 5, 3


@pytest.fixture
def conditions():
    return torch.tensor([[0.5, 0.5, 0.5], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])


@pytest.mark.parametrize("n_steps", [3, 4, 9])
def test_the_average_moves_as_far_in_few_large_steps_as_in_many(conditions, n_steps):
    diffusion = LatentDiffusion(D, E, n_hidden=8, n_blocks=1)
    plan = DiffusionPlan(diffusion, conditions, max_steps=10, recipe=DiffusionRecipe(ema_decay=0.9))
    with torch.no_grad():
        for start, end in zip(diffusion.averaged.parameters(), diffusion.denoiser.parameters(), strict=True):
            start.zero_()
            end.fill_(1.0)
    remaining = 1.0
    for step in range(1, n_steps + 1):
        plan._trainer = SimpleNamespace(global_step=step)
        remaining *= min(0.9, (1 + step) / (10 + step))
        plan.on_train_batch_end()
    plan.on_validation_start()
    moved = torch.cat([p.flatten() for p in diffusion.averaged.parameters()])
    torch.testing.assert_close(moved, torch.full_like(moved, 1 - remaining))


def test_only_the_denoiser_in_training_is_free(conditions):
    diffusion, other = LatentDiffusion(D, E, 8, 1), LatentDiffusion(D, E, 8, 1)
    module = torch.nn.ModuleDict({"vae": torch.nn.Linear(2, 2), "diffusion": diffusion, "fold": other})
    DiffusionPlan(diffusion, conditions, max_steps=10, module=module).setup("fit")
    free = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert free == {f"diffusion.denoiser.{name}" for name, _ in diffusion.denoiser.named_parameters()}


def test_learning_rate_warms_up_and_ends_at_zero(conditions):
    plan = DiffusionPlan(LatentDiffusion(D, E, 8, 1), conditions, max_steps=1000)
    rates = [plan._learning_rate(step) for step in range(1001)]
    assert rates[0] < 0.05
    assert max(rates) > 0.95
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.argmax(rates) < 110


def test_the_plan_knows_its_hook_and_its_parts(conditions):
    plan = DiffusionPlan(LatentDiffusion(D, E, 8, 1), conditions, max_steps=10)
    plan._current_fx_name = "training_step"
    assert plan._current_fx_name == "training_step"
    plan.diffusion = LatentDiffusion(D, E, 16, 1)
    assert plan.get_submodule("diffusion") is plan.diffusion
    assert "conditions" in dict(plan.named_buffers())


@pytest.mark.parametrize(
    "options",
    [
        {"condition_dropout": -0.1},
        {"condition_dropout": 1.0},
        {"lr": "fast"},
        {"n_steps": 0},
        {"n_warmup_steps": 0.5},
        {"learning_rate": 1e-3},
    ],
)
def test_a_recipe_names_the_option_that_cannot_be(options):
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        DiffusionRecipe.of(options)


def test_a_recipe_asks_for_steps_whatever_the_cells(conditions):
    data = SimpleNamespace(n_train=70, batch_size=10)
    assert [DiffusionRecipe(n_steps=n).epochs_for(data) for n in (1, 21, 700)] == [1, 3, 100]


def test_means_are_trained_on_where_draws_are_not_asked_for(conditions):
    batch = (torch.zeros(4, D), torch.full((4, D), 1e6), torch.zeros(4, dtype=torch.long))
    losses = [
        DiffusionPlan(LatentDiffusion(D, E, 8, 1), conditions, 10, DiffusionRecipe(draws_latents=draws))._loss(batch, 0.0)
        for draws in (True, False)
    ]
    assert losses[0] > 1e3 > losses[1]


def test_history_is_appended_under_a_prefix():
    first = _appended({}, {"train_loss": pd.DataFrame({"train_loss": [1.0, 2.0]})})
    again = _appended(first, {"train_loss": pd.DataFrame({"train_loss": [3.0]})})
    assert again["diffusion_train_loss"]["diffusion_train_loss"].tolist() == [1.0, 2.0, 3.0]
    assert again["diffusion_train_loss"].index.tolist() == [0, 1, 2]
