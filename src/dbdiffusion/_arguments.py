"""The command line of ``python -m dbdiffusion``."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Examples
    --------
    >>> parse_arguments(["--hold-out", "MYC", "--seed", "3"]).hold_out
    ['MYC']
    """
    parser = argparse.ArgumentParser(
        prog="python -m dbdiffusion",
        description="Predict and test effects of perturbations that were not measured. Without a file: a simulated screen.",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--h5ad", type=Path, metavar="FILE", help="screen with raw counts; default: a simulated one")
    data.add_argument("--perturbation-key", default="perturbation", metavar="K", help="column of obs (%(default)s)")
    data.add_argument("--control", default="control", metavar="C", help="category of unperturbed cells (%(default)s)")
    data.add_argument("--layer", metavar="L", help="layer with the counts; default: X")
    data.add_argument("--batch-key", metavar="B", help="column of obs with experimental batches")
    data.add_argument(
        "--context-key", metavar="K", help="column of obs with contexts (cell lines, times) to answer for in each"
    )
    data.add_argument("--size-factor-key", metavar="K", help="column of obs with total counts or size factors")
    data.add_argument("--embedding-key", metavar="K", help="key of uns with your own perturbation or gene vectors")
    data.add_argument("--alignment", type=float, default=1.0, metavar="A", help="of the simulated screen, 0 to 1 (%(default)s)")
    what = parser.add_argument_group("what to predict")
    what.add_argument("--hold-out", nargs="+", default=[], metavar="NAME", help="measured perturbations to hide and predict")
    what.add_argument("--hold-out-n", type=int, metavar="N", help="hide this many, at random; simulated screen: 8")
    what.add_argument("--targets", nargs="+", default=[], metavar="NAME", help="unmeasured perturbations to predict")
    what.add_argument("--strategy", default="auto", metavar="S", help="how unseen perturbations are placed (%(default)s)")
    what.add_argument(
        "--cross-fitting", choices=["embedding", "k_fold"], default="embedding", help="of the references (%(default)s)"
    )
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="output folder (%(default)s)")
    run.add_argument("--overwrite", action="store_true", help="replace a folder that is not empty")
    run.add_argument("--seed", type=int, default=0, help="of everything (%(default)s)")
    run.add_argument("--max-epochs", type=int, metavar="N", help="of the VAE; default by the number of cells")
    run.add_argument("--max-epochs-diffusion", type=int, metavar="N", help="of the diffusion, and of each fold")
    run.add_argument("--n-cells", type=int, default=500, metavar="N", help="generated cells a target to write (%(default)s)")
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args(arguments)
