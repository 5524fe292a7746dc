"""Products with weights, and what follows each of them in the same pass where the CPU can.

Where a CPU multiplies bfloat16 in hardware, a product takes less time than reading and writing what comes before and after it.
There oneDNN's fused kernels, which torch's own compiler calls too, add the bias, activate and add the residual stream on the
way. They have no derivative, so training takes the plain operations, and so does every device without those instructions.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

_ONEDNN: Any = torch.ops.mkldnn


@cache
def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AMX, AVX512-BF16); False where torch cannot tell.

    Examples
    --------
    >>> has_fast_bfloat16() in (True, False)
    True
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name, False)) for name in ("amx_bf16", "avx512_bf16"))


def product(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The plain product h W^T + b, (B, H) to (B, O); torch's own would first write the bias over all of (B, O)."""
    if not _fuses(h):
        return nn.functional.linear(h, weight, bias)
    return _ONEDNN._linear_pointwise(h, weight.to(h.dtype), bias.to(h.dtype), "none", [], "")


def activated_product(h: Tensor, layer: nn.Linear) -> Tensor:
    """SiLU of the layer's product, (B, H) to (B, O)."""
    if not _fuses(h):
        return silu(layer(h))
    return _ONEDNN._linear_pointwise(h, layer.weight.to(h.dtype), layer.bias.to(h.dtype), "swish", [], "")


def added_product(h: Tensor, layer: nn.Linear, stream: Tensor) -> Tensor:
    """The layer's product (B, H) to (B, O), plus a residual stream that broadcasts to it."""
    if not _fuses(h):
        return layer(h).add_(stream)
    stream = stream.expand(*h.shape[:-1], layer.out_features).contiguous()
    return _ONEDNN._linear_pointwise.binary(h, stream, layer.weight.to(h.dtype), layer.bias.to(h.dtype), "add")


def silu(h: Tensor) -> Tensor:
    """In place unless a gradient needs what came in: getting fresh memory can take longer than computing."""
    return nn.functional.silu(h, inplace=not torch.is_grad_enabled())


def _fuses(h: Tensor) -> bool:
    return (
        h.dtype is torch.bfloat16
        and h.device.type == "cpu"
        and not torch.is_grad_enabled()
        and bool(torch.backends.mkldnn.enabled)
        and _has_fused_products()
    )


@cache
def _has_fused_products() -> bool:
    """Whether the kernels are there and work: they are not public, and oneDNN may be told to spare these instructions."""
    if not has_fast_bfloat16():
        return False
    h, weight, bias = (torch.ones(shape, dtype=torch.bfloat16, device="cpu") for shape in ((1, 2), (3, 2), 3))
    try:
        kinds = [_ONEDNN._linear_pointwise(h, weight, bias, kind, [], "") for kind in ("none", "swish")]
        kinds.append(_ONEDNN._linear_pointwise.binary(h, bias[None], weight, bias, "add"))
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = [3, 3 / (1 + math.exp(-3)), 4]
    return all(abs(kind[0, 0].item() / value - 1) < 0.01 for kind, value in zip(kinds, expected, strict=True))
