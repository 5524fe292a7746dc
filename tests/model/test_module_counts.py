import pytest
import torch
from scvi.distributions import NegativeBinomial, NegativeBinomialMixture, Poisson, ZeroInflatedNegativeBinomial

from dbdiffusion.model._module import sample_counts

MEAN, DISPERSION = 10 * torch.rand(7, 11, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 3, 11)
DISTRIBUTIONS = {
    "poisson": Poisson(rate=MEAN),
    "nb": NegativeBinomial(mu=MEAN, theta=DISPERSION),
    "zinb": ZeroInflatedNegativeBinomial(mu=MEAN, theta=DISPERSION, zi_logits=torch.zeros(7, 11)),
    "no counts": NegativeBinomial(mu=0 * MEAN, theta=DISPERSION),
    "enormous": NegativeBinomial(mu=1e12 * MEAN, theta=DISPERSION),
}


@pytest.mark.parametrize("kind", sorted(DISTRIBUTIONS))
def test_counts_are_those_that_scvi_draws_from_the_shared_generator(kind):
    counts = DISTRIBUTIONS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = counts.sample()
    before = torch.get_rng_state()
    drawn = sample_counts(counts, torch.Generator().manual_seed(5))
    assert torch.equal(drawn, expected)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.isfinite(drawn).all()


def test_another_distribution_is_refused():
    mixture = NegativeBinomialMixture(MEAN, MEAN, DISPERSION, torch.zeros(7, 11))
    with pytest.raises(TypeError, match="NegativeBinomialMixture"):
        sample_counts(mixture, torch.Generator())
