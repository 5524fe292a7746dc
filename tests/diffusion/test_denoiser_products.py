from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dbdiffusion.diffusion import LatentDiffusion, draw_noise
from dbdiffusion.diffusion import _denoiser as products

B, D, E, H, P = 7, 5, 3, 64, 4
needs_fused = pytest.mark.skipif(not products._has_fused_products(), reason="a CPU with matrix instructions for bfloat16")


def of_a_layer(h, stream):
    torch.manual_seed(1)
    layer = nn.Linear(H, H).requires_grad_(requires_grad=False).to(torch.bfloat16)
    return (
        products.product(h, layer.weight, layer.bias),
        products.activated_product(h, layer),
        products.added_product(h, layer, stream),
    )


def plain(h, stream):
    with torch.enable_grad():
        return tuple(out.detach() for out in of_a_layer(h, stream))


@needs_fused
@pytest.mark.parametrize("broadcast", [False, True])
@torch.no_grad()
def test_fused_products_are_the_plain_ones_within_a_rounding(broadcast):
    torch.manual_seed(0)
    h = torch.randn(P, B, H).to(torch.bfloat16)
    stream = torch.randn(1 if broadcast else P, B, H).to(torch.bfloat16)
    kept = h.clone(), stream.clone()
    assert products._fuses(h)
    for fused, separate in zip(of_a_layer(h, stream), plain(h, stream), strict=True):
        torch.testing.assert_close(fused, separate, rtol=2**-6, atol=2**-7)
    assert torch.equal(h, kept[0])
    assert torch.equal(stream, kept[1])


@torch.no_grad()
def test_only_bfloat16_without_gradients_is_fused():
    h = torch.randn(B, H)
    assert not products._fuses(h)
    with torch.enable_grad():
        assert not products._fuses(h.to(torch.bfloat16))


@torch.no_grad()
def test_without_fused_kernels_the_plain_operations_run(monkeypatch):
    h, stream = torch.ones(B, H).to(torch.bfloat16), torch.ones(B, H).to(torch.bfloat16)
    monkeypatch.setattr(products, "_has_fused_products", lambda: False)
    assert not products._fuses(h)
    for ours, separate in zip(of_a_layer(h, stream), plain(h, stream), strict=True):
        assert torch.equal(ours, separate)


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [({"amx_bf16": True}, True), ({"amx_bf16": False, "avx512_bf16": True}, True), ({"avx512_f": True}, False), ({}, False)],
)
def test_either_kind_of_instructions_makes_bfloat16_fast(monkeypatch, capabilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert products.has_fast_bfloat16.__wrapped__() is fast


@needs_fused
def test_missing_or_failing_kernels_are_noticed(monkeypatch):
    def refuses(*_args):
        msg = "could not create a primitive descriptor"
        raise RuntimeError(msg)

    for broken in (SimpleNamespace(), SimpleNamespace(_linear_pointwise=refuses)):
        monkeypatch.setattr(products, "_ONEDNN", broken)
        assert products._has_fused_products.__wrapped__() is False


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_cell_does_not_depend_on_what_is_sampled_with_it(bfloat16, guidance_scale):
    torch.manual_seed(0)
    diffusion = LatentDiffusion(D, E, n_hidden=128, n_blocks=2)
    for parameter in diffusion.averaged.parameters():
        nn.init.normal_(parameter, std=0.1)
    diffusion.use_bfloat16(bfloat16)
    conditions, noise = torch.randn(P, E), draw_noise(B, D, "dpm++", None, seed=0)
    together = diffusion.sample(conditions[:, None], noise[:, None], guidance_scale)
    alone = [diffusion.sample(condition[None], noise, guidance_scale) for condition in conditions]
    tolerance = 5e-3 if bfloat16 else 1e-5  # products of few and of many rows may round one number in thousands differently
    torch.testing.assert_close(together, torch.stack(alone), rtol=tolerance, atol=tolerance)


def test_bfloat16_stays_near_single_precision():
    torch.manual_seed(0)
    diffusion = LatentDiffusion(D, E, n_hidden=128, n_blocks=2)
    for parameter in diffusion.averaged.parameters():
        nn.init.normal_(parameter, std=0.1)
    latents = []
    for choice in (False, True):
        diffusion.use_bfloat16(choice)
        latents.append(diffusion.sample(torch.ones(1, E), draw_noise(100, D, "dpm++", None, seed=0)))
    assert (latents[0] - latents[1]).abs().mean() < 0.01 * latents[0].std()
