from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, RandomSampler

from dbdiffusion.diffusion import LatentDiffusion
from dbdiffusion.model._training import LatentDataModule, Latents, _Batches, _Shuffled, fit_linear_part, standardised

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


@pytest.mark.parametrize("drop_last", [False, True])
def test_minibatches_are_those_of_torch(drop_last):
    def sampler():
        return RandomSampler(range(B), generator=torch.Generator().manual_seed(0))

    ours, usual = (kind(sampler(), 50, drop_last) for kind in (_Batches, BatchSampler))
    assert [batch.tolist() for batch in ours] == list(usual)
    assert len(ours) == len(usual)


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


@pytest.mark.parametrize("seed", [0, 1])
def test_cells_are_shuffled_as_torch_would(seed):
    orders = []
    for kind in (_Shuffled, RandomSampler):
        torch.manual_seed(seed)
        sampler = kind(range(B))
        orders.append([list(sampler), list(sampler)])
    torch.manual_seed(seed)
    ours = _Shuffled(range(B))
    at_once = [ours.positions().tolist(), ours.positions().tolist()]
    assert orders[0] == orders[1] == at_once
    assert at_once[0] != at_once[1]
