import numpy as np
import pytest
import torch
from scipy import stats
from scvi.distributions import NegativeBinomial, Normal, Poisson, ZeroInflatedNegativeBinomial

from dbdiffusion.data import expected_log1p as reference
from dbdiffusion.model._module import differences_from, expected_log1p

MEAN = torch.tensor([[0.01, 0.3, 2.0, 20.0, 300.0]])


@pytest.mark.parametrize("scale", [0.3, 4.0, 50.0])
@pytest.mark.parametrize(
    "counts",
    [
        Poisson(rate=MEAN),
        NegativeBinomial(mu=MEAN, theta=torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0])),
        ZeroInflatedNegativeBinomial(mu=MEAN, theta=torch.full((5,), 2.0), zi_logits=torch.full((1, 5), -1.0)),
    ],
    ids=["poisson", "nb", "zinb"],
)
def test_agrees_with_sampled_counts(counts, scale):
    torch.manual_seed(0)
    sampled = torch.log1p(scale * counts.sample((100_000,)))
    error = sampled.std(0) / np.sqrt(100_000)
    exact = expected_log1p(counts, torch.tensor([[scale]]))
    assert ((exact - sampled.mean(0)).abs() < 4.5 * error + 3e-4 * exact).all()


@pytest.mark.parametrize("scale", [0.3, 4.0, 50.0])
@pytest.mark.parametrize("theta", [0.1, 2.0, 1000.0])
def test_has_four_digits(theta, scale):
    mean = np.array([1e-4, 1e-2, 1.0, 30.0, 200.0])
    k = np.arange(20_000)[:, None]
    exact = (stats.nbinom.pmf(k, theta, theta / (theta + mean)) * np.log1p(scale * k)).sum(axis=0)
    counts = NegativeBinomial(mu=torch.tensor(mean[None]).float(), theta=torch.full((1, 5), theta))
    assert np.allclose(expected_log1p(counts, torch.tensor([[scale]])).numpy(), exact, rtol=2e-4)


def test_rows_do_not_depend_on_how_many_there_are():
    mean = torch.rand(7, 40_000)  # three rows fit a block
    scale = torch.rand(7, 1)
    whole = expected_log1p(Poisson(rate=mean), scale)
    assert torch.equal(whole[4:5], expected_log1p(Poisson(rate=mean[4:5]), scale[4:5]))


def test_agrees_with_the_simulator():
    counts = NegativeBinomial(mu=MEAN, theta=torch.full((5,), 4.0))
    expected = reference(MEAN.numpy().astype(float), np.array([3.0]), 4.0)
    assert np.allclose(expected_log1p(counts, torch.tensor([[3.0]])).numpy(), expected, rtol=2e-3)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.5])  # of log means; with the last many lie beyond the nodes
@pytest.mark.parametrize("kind", ["poisson", "nb", "zinb"])
def test_differences_are_those_of_the_integrals(kind, spread):
    rng = torch.Generator().manual_seed(0)
    mean = (2 * torch.randn(60, 50, generator=rng)).exp()
    means = mean.repeat(3, 1) * (spread * torch.randn(180, 50, generator=rng)).exp()
    theta, scale = (1 + torch.randn(50, generator=rng)).exp(), (1 + torch.rand(60, 1, generator=rng)) * 3
    logits = torch.randn(180, 50, generator=rng)

    def counts(mu, logits):
        if kind == "poisson":
            return Poisson(rate=mu)
        of = {"mu": mu, "theta": theta}
        return NegativeBinomial(**of) if kind == "nb" else ZeroInflatedNegativeBinomial(**of, zi_logits=logits)

    one, others = counts(mean, logits[:60]), counts(means, logits)
    found = differences_from(one, scale)(others)
    exact = expected_log1p(others, scale.repeat(3, 1)).unflatten(0, (3, 60)) - expected_log1p(one, scale)
    assert found.shape == (3, 60, 50)
    assert torch.allclose(found, exact, atol=3e-5)
    assert (found - exact).mean(dim=1).abs().max() < 3e-6  # of a mean over cells, a fortieth of that of one


def test_nothing_differs_from_itself_by_nothing():
    one = NegativeBinomial(mu=MEAN, theta=torch.full((5,), 2.0))
    assert (differences_from(one, torch.tensor([[3.0]]))(one) == 0).all()


def test_refuses_what_are_no_counts():
    with pytest.raises(TypeError, match="negative binomial"):
        expected_log1p(Normal(MEAN, torch.ones_like(MEAN), normal_mu=MEAN), torch.ones(1, 1))
