from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dbdiffusion.diffusion import LatentDiffusion
from dbdiffusion.model._training import DiffusionPlan, LatentDataModule, Latents, _appended, fit_linear_part, standardised

B, D, E = 240, 5, 3


@pytest.fixture
def latents():
    """Latents whose mean is linear in the condition, three conditions and control."""
    torch.manual_seed(0)
    conditions = torch.tensor([[0.5, 0.5, 0.5], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    weights = torch.randn(E, D)
    code = torch.arange(B) % 4
    mean = (conditions[code] - conditions[0]) @ weights + 0.01 * torch.randn(B, D)
    return Latents(mean, torch.full((B, D), 0.3), code), conditions, weights


def test_linear_part_recovers_a_linear_map(latents):
    cells, conditions, weights = latents
    diffusion = LatentDiffusion(D, E, n_hidden=8, n_blocks=1)
    fit_linear_part(diffusion, cells, conditions, conditions[0])
    shift = (conditions - conditions[0]) @ diffusion.linear
    assert torch.allclose(shift, (conditions - conditions[0]) @ weights, atol=0.05)
    remainder = diffusion.standardise(cells.mean, conditions[cells.code])
    assert (remainder.mean(0).abs() < 0.02).all()


def test_standardised_remainder_has_unit_variance_with_posterior(latents):
    cells, conditions, _ = latents
    diffusion = LatentDiffusion(D, E, n_hidden=8, n_blocks=1)
    fit_linear_part(diffusion, cells, conditions, conditions[0])
    z = cells.mean.repeat(50, 1) + 0.3 * torch.randn(50 * B, D)
    remainder = diffusion.standardise(z, conditions[cells.code].repeat(50, 1))
    assert torch.allclose(remainder.std(0), torch.ones(D), atol=0.03)


def test_standardised_latents_are_those_of_their_draws(latents):
    cells, conditions, _ = latents
    diffusion = LatentDiffusion(D, E, n_hidden=8, n_blocks=1)
    fit_linear_part(diffusion, cells, conditions, conditions[0])
    once, noise = standardised(cells, diffusion, conditions), torch.randn(B, D)
    drawn = diffusion.standardise(cells.mean + cells.sd * noise, conditions[cells.code])
    torch.testing.assert_close(once.mean + once.sd * noise, drawn, rtol=1e-4, atol=1e-5)
    assert torch.equal(once.code, cells.code)


@pytest.mark.parametrize("n_steps", [3, 4, 9])
def test_the_average_moves_as_far_in_few_large_steps_as_in_many(latents, n_steps):
    diffusion = LatentDiffusion(D, E, n_hidden=8, n_blocks=1)
    plan = DiffusionPlan(diffusion, latents[1], max_steps=10, ema_decay=0.9)
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


def test_minibatches_cover_every_training_cell_once(latents):
    cells, _, _ = latents
    data = LatentDataModule(cells, np.arange(200), np.arange(200, 240), batch_size=50)
    seen = torch.cat([batch[0] for batch in data.train_dataloader()])
    assert len(seen) == 200
    assert torch.equal(seen.sort(dim=0).values, cells.mean[:200].sort(dim=0).values)
    assert sum(len(batch[0]) for batch in data.val_dataloader()) == 40


@pytest.mark.parametrize(("n_processes", "n_batches"), [(1, 1), (2, 2)])
def test_a_process_with_few_cells_keeps_its_incomplete_minibatch(latents, n_processes, n_batches):
    data = LatentDataModule(latents[0], np.arange(90), np.empty(0, dtype=int), batch_size=50)
    data.trainer = SimpleNamespace(world_size=n_processes)
    assert len(data.train_dataloader()) == n_batches


def test_only_the_denoiser_in_training_is_free(latents):
    diffusion, other = LatentDiffusion(D, E, 8, 1), LatentDiffusion(D, E, 8, 1)
    module = torch.nn.ModuleDict({"vae": torch.nn.Linear(2, 2), "diffusion": diffusion, "fold": other})
    DiffusionPlan(diffusion, latents[1], max_steps=10, module=module).setup("fit")
    free = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert free == {f"diffusion.denoiser.{name}" for name, _ in diffusion.denoiser.named_parameters()}


def test_learning_rate_warms_up_and_ends_at_zero(latents):
    _, conditions, _ = latents
    plan = DiffusionPlan(LatentDiffusion(D, E, 8, 1), conditions, max_steps=1000)
    rates = [plan._learning_rate(step) for step in range(1001)]
    assert rates[0] < 0.05
    assert max(rates) > 0.95
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert np.argmax(rates) < 110


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_condition_dropout_is_a_share(latents, dropout):
    with pytest.raises(ValueError, match="condition_dropout"):
        DiffusionPlan(LatentDiffusion(D, E, 8, 1), latents[1], 10, condition_dropout=dropout)


def test_history_is_appended_under_a_prefix():
    first = _appended({}, {"train_loss": pd.DataFrame({"train_loss": [1.0, 2.0]})})
    again = _appended(first, {"train_loss": pd.DataFrame({"train_loss": [3.0]})})
    assert again["diffusion_train_loss"]["diffusion_train_loss"].tolist() == [1.0, 2.0, 3.0]
    assert again["diffusion_train_loss"].index.tolist() == [0, 1, 2]
