"""Whatever a user brings ends in a result or a worded error of this package or scvi-tools, and the AnnData stays as it was."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from tiny import QUIET, tiny_model
from worded import fingerprint, result_or_worded_error

from dbdiffusion import DBDiffusion

N, G = 36, 9
GENES = [f"GENE{i}" for i in range(G)]
A_FIFTH = 2 * settings.default.max_examples // 5  # of the examples of both files, 2,000 with --slow
NAMES = st.sampled_from(
    ["GENE1", "GENE2", "GENE1+GENE2", "GENE2+GENE1", "a/b", "+", "GENE1+", " ", "", "é\u0301ß", "control", "nan", "1", "0.5"]
)
ANY_NAME = NAMES | st.text(max_size=5)


@st.composite
def perturbations(draw):
    """A column: control cells and some names, as one of the types that columns have."""
    names = draw(st.lists(ANY_NAME, min_size=0, max_size=4))
    control = draw(st.sampled_from(["control", "control", "control", "non-targeting", "0"]))
    n_control = draw(st.sampled_from([0, 1, 2, 12]))
    cells = [control] * n_control + [names[i % len(names)] if names else control for i in range(N - n_control)]
    kind = draw(st.sampled_from(["object", "category", "category", "missing", "int", "float", "bool", "mixed"]))
    column = pd.Series(cells, dtype=object)
    if kind == "category":
        return column.astype("category")
    if kind == "missing":
        column[draw(st.integers(0, N - 1))] = draw(st.sampled_from([None, np.nan]))
    if kind == "mixed":
        column[draw(st.integers(0, N - 1))] = draw(st.sampled_from([1, 2.5, True, ("a", "b")]))
    if kind in ("int", "float", "bool"):
        return pd.Series(np.arange(N) % draw(st.integers(1, 3))).astype(kind)
    return column


@st.composite
def counts(draw):
    """A matrix, mostly one of counts."""
    x = (
        np.random.default_rng(draw(st.integers(0, 3)))
        .poisson(draw(st.sampled_from([0.0, 0.3, 3.0])), (N, G))
        .astype(np.float32)
    )
    flaw = draw(st.sampled_from([None] * 6 + [np.nan, np.inf, -1.0, 0.5]))
    if flaw is not None:
        x[draw(st.integers(0, N - 1)), 0] = flaw
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make = draw(
            st.sampled_from(
                [
                    np.array,
                    sp.csr_matrix,
                    sp.csc_matrix,
                    sp.csr_array,
                    lambda a: a.astype(int),
                    lambda a: a > 0,
                    lambda a: a.astype(np.float64),
                ]
            )
        )
        return make(x)


COLUMNS = st.sampled_from(
    [
        lambda: np.arange(N) % 2,
        lambda: np.array(["x", "y/z"])[np.arange(N) % 2],
        lambda: pd.Categorical(np.array(["ü", " "])[np.arange(N) % 2]),
        lambda: np.where(np.arange(N) % 2, np.nan, 1.0),
        lambda: np.array([None, *["x"] * (N - 1)], dtype=object),
        lambda: np.linspace(0.5, 2, N),
        lambda: np.full(N, np.inf),
        lambda: np.zeros(N),
        lambda: -np.ones(N),
        lambda: np.array([f"cell{i}" for i in range(N)]),
    ]
)
TABLES = st.sampled_from(
    [
        lambda: pd.DataFrame(np.eye(3), index=GENES[:3]),
        lambda: pd.DataFrame(np.eye(G), index=GENES, columns=range(G)),
        lambda: pd.DataFrame([["a"], ["b"]], index=GENES[:2]),
        lambda: pd.DataFrame([[np.nan], [1.0]], index=GENES[:2]),
        lambda: pd.DataFrame([[np.inf], [1.0]], index=GENES[:2]),
        lambda: pd.DataFrame([[1.0], [2.0]], index=["GENE1", "GENE1"]),
        lambda: pd.DataFrame(np.eye(2), index=[0, 1]),
        lambda: pd.DataFrame(index=GENES),
        lambda: {"GENE1": np.ones(3)},
        lambda: np.eye(3),
        lambda: None,
    ]
)
ARGUMENTS = {
    "batch_key": st.sampled_from(["one", "missing", 3]),
    "labels_key": st.sampled_from(["one", "two"]),
    "size_factor_key": st.sampled_from(["one", "two", "missing"]),
    "categorical_covariate_keys": st.sampled_from([["one"], ["one", "two"], "one", [], ["missing"]]),
    "continuous_covariate_keys": st.sampled_from([["one"], ["one", "two"], "two", [], ["missing"]]),
    "embedding_key": st.sampled_from(["vectors", "missing", 1]),
    "combination_sep": st.sampled_from(["|", "", "++", " ", "/"]),
    "layer": st.sampled_from(["missing", "halves", 3]),
    "context_key": st.sampled_from(["one", "two", "missing", 3, "perturbation"]),
    "control": st.sampled_from(["control", "0", "1", "False", "", None, 0]),
    "perturbation_key": st.sampled_from(["missing", "", None]),
}


ODD_GENES = st.sampled_from([["x"] * G, [f"a/{i}" for i in range(G)], [f"é{i}" for i in range(G)], ["", *GENES[1:]]])
SOUND_COLUMN = pd.Series(["control"] * 12 + ["GENE1", "GENE2", "GENE1+GENE2"] * 8, dtype=object)
ASPECTS = ("column", "counts", "genes", "columns", "table", "arguments", "twice")
TWICE = st.sampled_from(["perturbation", "one", "unused", "genes", "cells"])


def told_twice(adata, what):
    """Two columns, genes or cells of one name."""
    if what == "genes":
        adata.var_names = [*adata.var_names[:-1], adata.var_names[0]]
    elif what == "cells":
        adata.obs_names = [*adata.obs_names[:-1], adata.obs_names[0]]
    else:
        columns = adata.obs if what in adata.obs else adata.obs.assign(unused=1)
        adata.obs = pd.concat([columns, columns[[what]]], axis=1)


@st.composite
def screens(draw):
    """A sound screen, but for up to two aspects."""
    odd = draw(st.sets(st.sampled_from(ASPECTS), max_size=2))
    x = draw(counts()) if "counts" in odd else np.random.default_rng(0).poisson(2.0, (N, G)).astype(np.float32)
    genes = draw(ODD_GENES) if "genes" in odd else GENES
    adata = ad.AnnData(x, obs=pd.DataFrame(index=[f"cell{i}" for i in range(N)]), var=pd.DataFrame(index=list(genes)))
    column = draw(perturbations()) if "column" in odd else SOUND_COLUMN
    adata.obs["perturbation"] = column.array if draw(st.booleans()) else column.to_numpy()
    for name in ("one", "two"):
        adata.obs[name] = draw(COLUMNS)() if "columns" in odd else np.arange(N) % 2
    adata.layers["halves"] = np.full((N, G), 0.5, dtype=np.float32)
    adata.uns["vectors"] = draw(TABLES)() if "table" in odd else pd.DataFrame(np.eye(G), index=GENES)
    setup = {"embedding_key": "vectors"} if "table" in odd else {}
    if "twice" in odd:
        told_twice(adata, draw(TWICE))
    if "columns" in odd:
        keys = draw(st.sets(st.sampled_from([name for name in ARGUMENTS if name.endswith(("_key", "_keys"))]), max_size=2))
        sound = {"batch_key": "one", "labels_key": "one", "size_factor_key": "two", "embedding_key": "vectors"}
        sound |= {"context_key": "one"}
        sound |= {
            "categorical_covariate_keys": ["one"],
            "continuous_covariate_keys": ["one"],
            "perturbation_key": "perturbation",
        }
        setup |= {name: sound[name] for name in keys}
    if "arguments" in odd:
        setup |= {name: draw(ARGUMENTS[name]) for name in draw(st.sets(st.sampled_from(sorted(ARGUMENTS)), max_size=2))}
    return adata, setup


@settings(deadline=None, max_examples=A_FIFTH, suppress_health_check=list(HealthCheck))
@given(screens())
def test_any_screen_trains_or_is_refused_in_words(screen):
    adata, setup = screen
    before = fingerprint(adata)
    with result_or_worded_error():
        DBDiffusion.setup_anndata(adata, **setup)
        model = tiny_model(adata, n_hidden=4, n_latent=2, n_embedding=2, n_diffusion_hidden=4, n_folds=2)
        model.train_vae(max_epochs=1, early_stopping=False, **QUIET)
        model.train_diffusion(max_epochs=1, **QUIET)
        names = model.perturbation_names[:1]
        table = model.predict_effects([*names, "GENE8"], n_cells=4, n_steps=2)
        assert table["effect"].notna().all()
        assert np.isfinite(model.generate([*names, "GENE8"], n_cells=2, n_steps=2).X.toarray()).all()
    assert fingerprint(adata) == before


KNOWN = st.sampled_from(["GENE01", "GENE02", "GENE01+GENE02", "GENE01++GENE02", "+".join(["GENE01"] * 4)])
HOLDERS = st.sampled_from(
    [list, tuple, set, iter, np.array, pd.Series, pd.Index, lambda names: [names], lambda names: np.str_(names[0])]
)
TARGETS = st.lists(KNOWN | ANY_NAME, max_size=3) | st.none() | st.integers() | st.text(max_size=5) | st.binary()
TARGETS |= st.sampled_from(
    [[1], [["GENE01"]], [("GENE01",)], [None], [float("nan")], 3, 0.5, {}, {"GENE01": 1}, [[]], object()]
)


@settings(deadline=None, max_examples=A_FIFTH, suppress_health_check=list(HealthCheck))
@given(
    TARGETS,
    st.dictionaries(
        st.sampled_from(
            ["confidence", "n_cells", "guidance_scale", "n_steps", "lfc_threshold", "seed", "lam", "fdr", "sampler"]
        ),
        st.sampled_from([-1, 0, 0.5, 1, 2, 3.0, 1e38, float("nan"), float("inf"), None, "a word", True, np.int64(3), [2], {}]),
        max_size=1,
    ),
    HOLDERS,
)  # fmt: skip
def test_any_target_is_answered_or_refused_in_words(dressed, targets, options, hold):
    if isinstance(targets, list) and targets:
        try:
            targets = hold(targets)
        except (TypeError, ValueError):  # a set of lists, an array of unlike ones: there is no such thing to hand over
            reject()
    with result_or_worded_error():
        dressed.check_targets(targets)
    with result_or_worded_error():
        table = dressed.differential_expression_ppi(targets, **{"n_cells": 4, "n_steps": 2, **options})
        assert set(table["status"]) <= {"measured", "unseen"}
    with result_or_worded_error():
        asked = {name: value for name, value in options.items() if name in ("guidance_scale", "n_steps", "seed", "n_cells")}
        assert dressed.generate(targets, **{"n_cells": 2, "n_steps": 2, **asked}).n_vars == 60


@pytest.mark.parametrize("size", ["cells", "genes"])
def test_an_empty_screen_is_refused_in_words(size):
    adata = ad.AnnData(np.zeros((0 if size == "cells" else 6, 0 if size == "genes" else 6), dtype=np.float32))
    adata.obs["perturbation"] = ["control"] * adata.n_obs
    with pytest.raises(ValueError, match=r"genes are needed|control"):
        DBDiffusion.setup_anndata(adata)
