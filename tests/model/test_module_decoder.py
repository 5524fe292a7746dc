import numpy as np
import pytest
import torch

from dbdiffusion import DBDiffusion
from dbdiffusion._keys import BATCH
from dbdiffusion.model._module import VAEDecoder
from dbdiffusion.predict import Matched


@pytest.fixture
def decoder(trained):
    return trained.predictor().generator.decoder


def matched(n):
    library = torch.linspace(400, 900, n)[:, None]
    return Matched(library, {BATCH: torch.zeros(n, 1)}, 1e4 / library)


@torch.no_grad()
def test_expected_expression_is_the_mean_of_sampled_counts(trained, decoder):
    n, draws = 3, 4000
    z, cells = torch.randn(n, trained.module.n_latent, generator=torch.Generator().manual_seed(0)), matched(n)
    expected = decoder.expected(z, cells)
    counts = decoder.sample(z.repeat(draws, 1), cells.repeated(draws), torch.Generator().manual_seed(1))
    sampled = torch.log1p(counts * cells.repeated(draws).scale).unflatten(0, (draws, n))
    error = sampled.std(0) / np.sqrt(draws)
    assert ((sampled.mean(0) - expected) / error).abs().mean() < 1.2


@torch.no_grad()
def test_cells_do_not_depend_on_who_else_is_decoded(trained, decoder):
    z, cells = torch.ones(5, trained.module.n_latent), matched(5)
    one = Matched(cells.library[:1], {BATCH: cells.covariates[BATCH][:1]}, cells.scale[:1])
    torch.testing.assert_close(decoder.expected(z, cells)[:1], decoder.expected(z[:1], one))


@torch.no_grad()
def test_batches_change_what_is_decoded(trained, decoder):
    z, cells = torch.ones(1, trained.module.n_latent), matched(1)
    other = Matched(cells.library, {BATCH: torch.ones(1, 1)}, cells.scale)
    assert not torch.allclose(decoder.expected(z, cells), decoder.expected(z, other))


@pytest.mark.parametrize("dispersion", ["gene", "gene-cell"])
@torch.no_grad()
def test_differences_are_those_of_expected_expression(screen, dispersion):
    adata = screen.copy()
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    model = DBDiffusion(adata, n_latent=3, dispersion=dispersion)
    decoder = VAEDecoder(model.module.eval())
    z, cells = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), matched(4)
    others = z + torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    found = decoder.differences(z, cells)(others)
    exact = decoder.expected(others.flatten(0, 1), cells.repeated(2)).unflatten(0, (2, 4)) - decoder.expected(z, cells)
    torch.testing.assert_close(found, exact, atol=3e-5, rtol=0)
