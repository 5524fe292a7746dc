"""Where the measured perturbations and the targets lie, on two axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence


def places_of(view: Any, targets: Sequence[str]) -> pd.DataFrame:
    """Embeddings on the first two principal axes of the measured perturbations.

    Parameters
    ----------
    view
        A trained model, or what it is in a context.
    targets
        Names.

    Returns
    -------
    DataFrame
        One row a perturbation: ``target, status`` (``control``, ``measured`` or ``unseen``)``, x, y``.
    """
    space = view.predictor().space
    measured = [name for name in view.perturbation_names if space.is_measured(name)]
    unseen = [name for name in targets if not space.is_measured(name)]
    rows = space.embed(measured)
    centre = rows.mean(axis=0)
    axes = np.zeros((2, rows.shape[1]))
    found = np.linalg.svd(rows - centre, full_matrices=False)[2][:2]
    axes[: len(found)] = found
    blocks = [space.control[None], rows, *([space.embed(unseen)] if unseen else [])]
    x, y = axes @ (np.vstack(blocks) - centre).T
    status = ["control", *["measured"] * len(measured), *["unseen"] * len(unseen)]
    return pd.DataFrame({"target": ["control", *measured, *unseen], "status": status, "x": x, "y": y})
