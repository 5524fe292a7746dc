"""Numbers of a training: whatever it computes in, the weights of the model have 32 bits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


@contextlib.contextmanager
def keeping_single_precision(module: nn.Module, precision: str | int | None) -> Iterator[None]:
    """Put the weights back to 32 bits after a training; Lightning leaves them as ``precision`` says.

    Parameters
    ----------
    module
        Trained in the block.
    precision
        Of the trainer.

    Raises
    ------
    ValueError
        For 16 bits throughout, which would round the weights for good.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Linear(2, 3)
    >>> with keeping_single_precision(module, "64-true"):
    ...     module = module.double()
    >>> module.weight.dtype
    torch.float32
    """
    if str(precision).endswith("16-true"):
        msg = (
            f"`precision` {precision!r} would round the weights for good; use '16-mixed' or 'bf16-mixed', which compute in "
            "16 bits and keep the weights in 32."
        )
        raise ValueError(msg)
    try:
        yield
    finally:
        module.float()
