import torch

from dbdiffusion.diffusion import Denoiser, GaussianDenoiser, LatentDiffusion, draw_noise, noise_schedule

D, E = 5, 3


def test_schedule_preserves_variance_and_signal_falls():
    alpha, sigma = noise_schedule()
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(alpha))
    assert (alpha.diff() < 0).all()
    assert alpha[0] > 0.999
    assert alpha[-1] < 0.01


def test_untrained_denoiser_is_the_oracle_of_a_standard_normal():
    denoiser = Denoiser(D, E, n_hidden=8, n_blocks=1)
    oracle = GaussianDenoiser(torch.zeros(D), torch.eye(D))
    z, t = torch.randn(7, D), torch.randint(0, 1000, (7,))
    assert torch.allclose(denoiser(z, t, None), oracle(z, t, None), atol=1e-5)


def test_loss_learns_a_condition_and_ignores_a_dropped_one():
    torch.manual_seed(0)
    condition = torch.randint(0, 2, (512, 1)).float() * 2 - 1
    losses = {}
    for dropout in (0.0, 0.999):
        denoiser = Denoiser(1, 1, n_hidden=32, n_blocks=1)
        optimizer = torch.optim.Adam(denoiser.parameters(), 3e-3)
        for _ in range(150):
            optimizer.zero_grad()
            z = 0.9 * condition + 0.4359 * torch.randn(512, 1)
            loss = denoiser.loss(z, condition, dropout)
            loss.backward()
            optimizer.step()
        losses[dropout] = loss.item()
    assert losses[0.0] < 0.75 * losses[0.999]


def test_gaussian_oracle_minimises_squared_error():
    torch.manual_seed(0)
    covariance = torch.tensor([[2.0, 0.8], [0.8, 1.0]])
    oracle = GaussianDenoiser(torch.tensor([1.0, -1.0]), covariance)
    z_0 = torch.distributions.MultivariateNormal(oracle.mean, covariance).sample((20_000,))
    t = torch.full((20_000,), 400)
    z_t = oracle.alpha[t, None] * z_0 + oracle.sigma[t, None] * torch.randn_like(z_0)
    error = z_0 - oracle(z_t, t, None)
    assert (error.mean(0).abs() < 0.03).all()
    assert ((error[:, :, None] * z_t[:, None]).mean(0).abs() < 0.03).all()  # error is orthogonal to what was seen


def test_bfloat16_moves_moments_by_less_than_three_percent():
    torch.manual_seed(0)
    diffusion = LatentDiffusion(2, 1, n_hidden=64, n_blocks=2)
    optimizer = torch.optim.Adam(diffusion.denoiser.parameters(), 3e-3)
    condition = torch.zeros(512, 1)
    for _ in range(200):
        optimizer.zero_grad()
        diffusion.denoiser.loss(
            torch.randn(512, 2) * torch.tensor([0.6, 1.2]) + torch.tensor([0.5, -0.5]), condition, 0.1
        ).backward()
        optimizer.step()
    diffusion.update_average(decay=0.0)
    noise = draw_noise(20_000, 2, "dpm++", None, seed=0)
    moments = {}
    for choice in (False, True):
        diffusion.use_bfloat16(choice)
        z = diffusion.sample(torch.zeros(1, 1), noise)
        assert z.dtype == torch.float32
        moments[choice] = torch.cat([z.mean(0), z.std(0)])
    assert not torch.equal(moments[True], moments[False])
    assert (moments[True] - moments[False]).abs().max() < 0.03 * 0.6


def test_training_in_bfloat16_learns_the_same_loss():
    losses = {}
    for choice in (False, True):
        torch.manual_seed(0)
        diffusion = LatentDiffusion(2, 1, n_hidden=64, n_blocks=2)
        diffusion.use_bfloat16(choice)
        optimizer = torch.optim.Adam(diffusion.denoiser.parameters(), 3e-3)
        history = []
        for _ in range(150):
            optimizer.zero_grad()
            loss = diffusion.denoiser.loss(0.5 * torch.randn(256, 2), torch.zeros(256, 1), 0.1)
            loss.backward()
            optimizer.step()
            history.append(loss.item())
        losses[choice] = sum(history[-50:]) / 50
    assert abs(losses[True] / losses[False] - 1) < 0.02
