"""Persistence, queries, minified data, hub and docs: rows 16 to 19, 25, 30, 31, 40, 47 to 49."""

import ast
import functools
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from dressed import dressed_screen, fresh
from tiny import QUIET

import dbdiffusion
from dbdiffusion import DBDiffusion

SOURCE = Path(dbdiffusion.__file__).parent


def test_row_16_save_and_load_with_prefix_and_data(dressed, tmp_path):
    dressed.save(tmp_path / "model", prefix="a_", save_anndata=True)
    loaded = DBDiffusion.load(tmp_path / "model", prefix="a_")
    assert np.array_equal(loaded.get_latent_representation(), dressed.get_latent_representation())
    assert np.array_equal(loaded.validation_indices, dressed.validation_indices)
    assert loaded.is_trained_
    assert loaded.is_diffusion_trained_
    DBDiffusion.view_setup_args(str(tmp_path / "model"), prefix="a_")
    assert DBDiffusion.load_registry(str(tmp_path / "model"), prefix="a_")["model_name"] == "DBDiffusion"


def test_row_17_other_genes_or_batches_are_refused(dressed, tmp_path):
    dressed.save(tmp_path / "model")
    with pytest.raises(ValueError, match="genes must be the 60 known"):
        DBDiffusion.load(tmp_path / "model", adata=dressed_screen(n_genes=50))
    other = dressed_screen()
    other.obs["batch"] = "elsewhere"
    with pytest.raises(ValueError, match="elsewhere"):
        DBDiffusion.load(tmp_path / "model", adata=other)
    import scvi

    with pytest.raises(ValueError, match="different class"):
        scvi.model.SCVI.load(str(tmp_path / "model"), adata=False)


def test_row_25_a_checkpoint_is_fetched_from_a_url(dressed, tmp_path):
    dressed.save(tmp_path / "served")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/model.pt"
        loaded = DBDiffusion.load(tmp_path / "fetched", adata=False, backup_url=url)
        server.shutdown()
    assert loaded.perturbation_names == dressed.perturbation_names


def test_row_30_genes_are_padded_and_sorted(dressed):
    reference_genes = DBDiffusion.prepare_query_anndata(None, dressed, return_reference_var_names=True)
    assert list(reference_genes) == list(dressed.adata.var_names)
    some = dressed_screen()[:, 5:][:, ::-1].copy()
    prepared = DBDiffusion.prepare_query_anndata(some, dressed, inplace=False)
    assert list(prepared.var_names) == list(reference_genes)
    assert prepared[:, :5].X.sum() == 0
    few = dressed_screen()[:, :10].copy()
    with pytest.warns(UserWarning, match="less than 80%"):
        DBDiffusion.prepare_query_anndata(few, dressed)
    few = dressed_screen()[:, :10].copy()
    few.var_names = [f"other{i}" for i in range(10)]
    with pytest.raises(ValueError, match="No reference var names"):
        DBDiffusion.prepare_query_anndata(few, dressed)


def test_row_31_what_a_query_freezes_stays(dressed):
    query = dressed_screen()
    query.obs["batch"] = "new"
    model = DBDiffusion.load_query_data(query, dressed)
    before = {name: value.clone() for name, value in model.module.state_dict().items() if name.startswith("z_encoder")}
    model.train_vae(max_epochs=1, **QUIET)
    for name, value in model.module.state_dict().items():
        if name in before and "num_batches" not in name:
            assert torch.equal(value, before[name]), name
    assert model.summary_stats.n_batch == dressed.summary_stats.n_batch + 1
    free = DBDiffusion.load_query_data(query, dressed, unfrozen=True)
    before = {name: value.clone() for name, value in free.module.state_dict().items() if name.startswith("z_encoder")}
    free.train_vae(max_epochs=1, **QUIET)
    assert not all(torch.equal(value, free.module.state_dict()[name]) for name, value in before.items())


def test_row_40_minified_data_keep_the_latents():
    model = fresh()
    model.train_vae(max_epochs=1, **QUIET)
    model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = model.get_latent_representation(return_dist=True)
    latent, columns = model.get_latent_representation(), set(model.adata.obs)
    model.minify_adata()
    assert np.array_equal(model.get_latent_representation(), latent)
    assert columns <= set(model.adata.obs)
    for name in ("get_elbo", "get_reconstruction_error", "get_marginal_ll"):
        with pytest.raises(ValueError, match="currently does not support minified data"):
            getattr(model, name)()


def own_functions():
    bases = [base for base in DBDiffusion.__mro__ if base.__module__.startswith("dbdiffusion")]
    for name in sorted({name for base in bases for name in vars(base)}):
        member = getattr(DBDiffusion, name)
        if not name.startswith("_") and callable(member):
            yield name, member


@pytest.mark.parametrize(("name", "member"), own_functions())
def test_row_48_docstrings_are_whole(name, member):
    assert member.__doc__, name
    assert "%(" not in member.__doc__


def test_row_49_no_warning_is_made_and_thrown_away():
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
                assert not node.value.func.id.endswith("Warning"), f"{file.name}:{node.lineno}"
