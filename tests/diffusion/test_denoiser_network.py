import torch

from dbdiffusion.diffusion import ResidualMLP

B, D, E = 7, 5, 3


def test_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    network = ResidualMLP(D, E, n_hidden=16, n_blocks=2)
    for parameter in network.parameters():  # film and outlet start at zero, which blocks gradients on purpose
        torch.nn.init.normal_(parameter)
    hidden = network.embed_condition(torch.randn(B, E)) + network.null_condition
    network(torch.randn(B, D), torch.rand(B), hidden).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_starts_as_zero():
    network = ResidualMLP(D, E, n_hidden=16, n_blocks=2)
    out = network(torch.randn(B, D), torch.rand(B), network.null_condition.expand(B, -1))
    assert torch.equal(out, torch.zeros(B, D))


def test_null_condition_is_not_the_zero_condition():
    torch.manual_seed(0)
    network = ResidualMLP(D, E, n_hidden=16, n_blocks=1)
    assert not torch.allclose(network.null_condition.expand(B, -1), network.embed_condition(torch.zeros(B, E)))


def test_a_dropped_condition_is_the_null_condition_and_gradients_follow():
    torch.manual_seed(0)
    network = ResidualMLP(n_latent=5, n_condition=3, n_hidden=8, n_blocks=1)
    condition, dropped = torch.randn(7, 3), torch.arange(7)[:, None] % 3 == 0
    embedded = network.embed_condition(condition, dropped)
    expected = torch.where(dropped, network.null_condition, network.embed_condition(condition))
    torch.testing.assert_close(embedded, expected)
    weights = [network.null_condition, network.condition.weight, network.condition.bias]
    for ours, plain in zip(
        torch.autograd.grad((embedded**2).sum(), weights), torch.autograd.grad((expected**2).sum(), weights), strict=True
    ):
        torch.testing.assert_close(ours, plain)


def test_film_scales_by_one_more_than_the_weights_say():
    torch.manual_seed(0)
    network = ResidualMLP(D, E, n_hidden=16, n_blocks=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    z, t, hidden = torch.randn(B, D), torch.rand(B), network.embed_condition(torch.randn(B, E))
    films = network.film(torch.nn.functional.silu(network.time(t) + hidden)).chunk(4, dim=-1)
    h = network.inlet(z)
    for block, scale, shift in zip(network.blocks, films[::2], films[1::2], strict=True):
        h = h + block.second(torch.nn.functional.silu(block.first(shift + (1 + scale) * block.norm(h))))
    torch.testing.assert_close(network(z, t, hidden), network.outlet(h))
    assert "no_film" not in network.state_dict()


def test_saving_memory_changes_neither_answers_nor_inputs():
    torch.manual_seed(0)
    network = ResidualMLP(D, E, n_hidden=16, n_blocks=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    given = [torch.randn(B, D), torch.rand(B), network.embed_condition(torch.randn(B, E)).detach()]
    kept = [tensor.clone() for tensor in given]
    with_gradients = network(*given)
    with torch.no_grad():
        assert torch.equal(network(*given), with_gradients)
    assert all(torch.equal(one, other) for one, other in zip(given, kept, strict=True))
