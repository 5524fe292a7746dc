import pytest
import torch

from dbdiffusion.diffusion import LatentDiffusion, draw_noise

D, E = 5, 3


def fitted():
    torch.manual_seed(0)
    diffusion = LatentDiffusion(D, E, n_hidden=16, n_blocks=1)
    diffusion.set_linear_part(
        torch.randn(D), torch.rand(D) + 0.5, torch.randn(E, D), torch.randn(E), torch.ones(E), torch.randn(D)
    )
    return diffusion


def test_restore_undoes_standardise():
    diffusion, z, condition = fitted(), torch.randn(7, D), torch.randn(7, E)
    assert torch.allclose(diffusion.restore(diffusion.standardise(z, condition), condition), z, atol=1e-5)


def test_an_untrained_network_leaves_the_linear_part():
    diffusion, condition = fitted(), torch.randn(1, E)
    noise = torch.randn(1, 20_000, D)
    z = diffusion.sample(condition.expand(20_000, -1), noise, n_steps=25)
    expected = diffusion.mean + ((condition - diffusion.origin) @ diffusion.linear)[0]
    assert (z.mean(0) - expected).abs().max() < 0.05


def test_guidance_moves_the_linear_part_too():
    diffusion, x, condition = fitted(), torch.randn(7, D), torch.randn(7, E)
    null, conditional = diffusion.restore(x, condition, 0.0), diffusion.restore(x, condition, 1.0)
    assert torch.allclose(null, diffusion.restore(x, condition + 1, 0.0))
    assert torch.allclose(diffusion.restore(x, condition, 2.5), null + 2.5 * (conditional - null), atol=1e-5)


@pytest.mark.parametrize("sampler", ["dpm++", "ddpm"])
@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 2.5])
def test_conditions_that_share_noise_are_sampled_as_if_alone(sampler, guidance_scale):
    diffusion, conditions, noise = fitted(), torch.randn(4, E), draw_noise(7, D, sampler, 10, seed=0)
    for parameter in diffusion.averaged.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    options = {"sampler": sampler, "n_steps": 10, "guidance_scale": guidance_scale}
    together = diffusion.sample(conditions[:, None], noise[:, None], **options)
    alone = [diffusion.sample(condition.expand(7, -1), noise, **options) for condition in conditions]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)


def test_average_follows_and_is_what_is_sampled():
    diffusion = fitted()
    with torch.no_grad():
        for parameter in diffusion.denoiser.parameters():
            parameter.add_(1.0)
    before = diffusion.sample(torch.zeros(4, E), torch.ones(1, 4, D), n_steps=3)
    diffusion.update_average(decay=0.0)
    after = diffusion.sample(torch.zeros(4, E), torch.ones(1, 4, D), n_steps=3)
    assert not torch.allclose(before, after)
    pairs = zip(diffusion.averaged.parameters(), diffusion.denoiser.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_reset_draws_new_weights():
    diffusion = fitted()
    before = diffusion.denoiser.network.inlet.weight.clone()
    diffusion.is_fitted.fill_(True)
    diffusion.reset()
    assert not torch.equal(before, diffusion.denoiser.network.inlet.weight)
    assert torch.equal(diffusion.averaged.network.inlet.weight, diffusion.denoiser.network.inlet.weight)
    assert not diffusion.is_fitted


def test_the_linear_part_can_be_forgotten_and_the_weights_stay():
    diffusion = LatentDiffusion(n_latent=5, n_condition=3, n_hidden=8, n_blocks=1)
    before = {key: value.clone() for key, value in diffusion.state_dict().items()}
    assert not diffusion.has_linear_part
    diffusion.set_linear_part(
        torch.ones(5), torch.full((5,), 2.0), torch.ones(3, 5), torch.ones(3), torch.full((3,), 2.0), torch.ones(5)
    )
    assert diffusion.has_linear_part
    diffusion.forget_linear_part()
    assert not diffusion.has_linear_part
    assert all(torch.equal(value, diffusion.state_dict()[key]) for key, value in before.items())


def test_a_sampling_embeds_its_condition_once(monkeypatch):
    diffusion, calls = fitted(), []
    embed = diffusion.averaged.network.embed_condition
    monkeypatch.setattr(diffusion.averaged.network, "embed_condition", lambda condition: calls.append(1) or embed(condition))
    diffusion.sample(torch.randn(7, E), torch.randn(1, 7, D), guidance_scale=2.5, n_steps=5)
    assert len(calls) == 1
