"""What may come of anything that a user brings: a result, or an error that was raised on purpose and says so in words."""

import contextlib
import hashlib
import traceback
import warnings

import numpy as np
import scipy.sparse as sp
from hypothesis import event

WORDED = (ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, FileNotFoundError, FileExistsError)


@contextlib.contextmanager
def result_or_worded_error():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
            event("a result")
        except WORDED as error:
            check_words(error)
            event(type(error).__name__)


def check_words(error):
    """It was raised in so many words by this package or scvi-tools, and did not merely pass through them."""
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    words = str(error.args[0]) if error.args else ""
    said = f"{type(error).__name__} from {innermost.filename}:{innermost.lineno}: {words}"
    assert "/dbdiffusion/" in innermost.filename or "/scvi/" in innermost.filename, said
    assert str(innermost.line).startswith("raise"), said
    assert len(words.split()) >= 3, said


def fingerprint(adata):
    """Hash of all that the user brought."""
    digest = hashlib.sha256()
    for matrix in (adata.X, *adata.layers.values()):
        for part in (matrix.data, matrix.indices, matrix.indptr) if sp.issparse(matrix) else (np.ascontiguousarray(matrix),):
            digest.update(np.asarray(part).tobytes())
        kind = (getattr(matrix, "format", "dense"), isinstance(matrix, sp.sparray))  # scvi-tools makes slices whole, in place
        digest.update(str((kind, matrix.dtype, matrix.shape)).encode())
    own = [not str(name).startswith("_scvi") for name in adata.obs]
    digest.update(repr([(name, column.dtype, column.tolist()) for name, column in adata.obs.loc[:, own].items()]).encode())
    digest.update(repr((list(adata.obs_names), list(adata.var_names), sorted(map(str, adata.layers)))).encode())
    digest.update(repr({key: value for key, value in adata.uns.items() if not key.startswith("_scvi")}).encode())
    return digest.hexdigest()
