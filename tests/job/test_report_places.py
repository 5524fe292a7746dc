"""Where perturbations lie: distances between measured ones are kept as well as two axes can."""

from types import SimpleNamespace

import numpy as np
import pytest

from dbdiffusion.job._report import places_of

MEASURED = ("A", "B", "C", "D")


def view_of(vectors):
    """A stand-in for a trained model: a space with embeddings (perturbations, E)."""
    space = SimpleNamespace(
        control=vectors["control"],
        is_measured=lambda name: name in MEASURED,
        embed=lambda names: np.array([vectors[name] for name in names]),
    )
    names = [name for name in vectors if name != "control"]
    return SimpleNamespace(predictor=lambda: SimpleNamespace(space=space), perturbation_names=names)


@pytest.mark.parametrize("n_embedding", [1, 2])
def test_distances_are_kept_where_two_axes_hold_them(n_embedding):
    rng = np.random.default_rng(0)
    vectors = {name: rng.normal(size=n_embedding) for name in ("control", *MEASURED, "NEW", "ADDED")}
    table = places_of(view_of(vectors), ["NEW", "A"])
    assert table[["target", "status"]].to_numpy().tolist() == [
        ["control", "control"], *([name, "measured"] for name in MEASURED), ["NEW", "unseen"]
    ]  # fmt: skip
    places, original = table[["x", "y"]].to_numpy(), np.array([vectors[name] for name in table["target"]])
    between = [np.linalg.norm(one[:, None] - one[None], axis=-1) for one in (places, original)]
    np.testing.assert_allclose(*between, atol=1e-12)


def test_the_first_axis_is_the_longest():
    rng = np.random.default_rng(1)
    vectors = {name: rng.normal(size=5) * [0.1, 0.1, 9, 0.1, 1] for name in ("control", *MEASURED)}
    table = places_of(view_of(vectors), [])
    measured = table[table["status"] == "measured"]
    assert measured["x"].var() > measured["y"].var()
    assert set(table["status"]) == {"control", "measured"}
