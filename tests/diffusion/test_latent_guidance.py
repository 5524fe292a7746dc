import pytest
import torch

from dbdiffusion.diffusion import Denoiser, GuidedDenoiser

D, E = 5, 3


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    denoiser = Denoiser(D, E, n_hidden=16, n_blocks=1)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return denoiser


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.5])
def test_guidance_is_linear_between_null_and_conditional(denoiser, scale):
    z, t, condition = torch.randn(7, D), torch.randint(0, 1000, (7,)), torch.randn(7, E)
    null, conditional = denoiser(z, t, None), denoiser(z, t, condition)
    guided = GuidedDenoiser(denoiser, scale)(z, t, condition)
    assert torch.allclose(guided, null + scale * (conditional - null), atol=1e-5)


def test_scale_one_costs_one_pass(denoiser):
    calls = []
    counted = lambda z, t, c: calls.append(c) or z  # noqa: E731
    GuidedDenoiser(counted, 1.0)(torch.zeros(1, D), torch.zeros(1, dtype=torch.long), torch.zeros(1, E))
    assert len(calls) == 1
    assert calls[0] is not None


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_impossible_scale_is_refused(denoiser, scale):
    with pytest.raises(ValueError, match="guidance_scale"):
        GuidedDenoiser(denoiser, scale)
