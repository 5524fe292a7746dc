"""The command line of ``python -m dbdiffusion``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dbdiffusion import __version__

RUN = "run"
PROG = "python -m dbdiffusion"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; its first word is a command, or that of the main job is meant.

    Examples
    --------
    >>> parse_arguments(["--hold-out", "MYC", "--seed", "3"]).hold_out
    ['MYC']
    >>> parse_arguments(["suggest", "results/model", "5"]).n
    5
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = words.pop(0) if words and words[0] in COMMANDS else RUN
    parsed = COMMANDS[command]().parse_args(words)
    parsed.command = command
    return parsed


def _run_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Predict and test effects of perturbations that were not measured. Without a file: a simulated screen.",
        epilog=f"Other questions: {', '.join(f'`{PROG} {name} --help`' for name in COMMANDS if name != RUN)}.",
    )
    parser.add_argument("--version", action="version", version=f"dbdiffusion {__version__}")
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
    _many_arguments(what.add_mutually_exclusive_group(), " to write into effects.zarr, beside the report")
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
    return parser


def _effects_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{PROG} effects",
        description="Effects of many perturbations in a zarr store. A run that was killed goes on where it stopped.",
        epilog="Tasks of an array job each take a part; the same command without --part ends the store.",
    )
    _model_argument(parser)
    parser.add_argument("store", type=Path, metavar="STORE", help="folder to write, such as effects.zarr")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--targets", nargs="+", metavar="NAME", help="perturbations")
    _many_arguments(which)
    parser.add_argument("--part", type=part, metavar="I/N", help="only the I-th of N parts of the work, 1/N to N/N")
    parser.add_argument("--n-cells", type=int, default=256, metavar="N", help="generated cells to average over (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated means (%(default)s)")
    parser.add_argument("--context", metavar="NAME", help="of a model with contexts")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(out=None)
    return parser


def part(text: str) -> tuple[int, int]:
    """``"2/10"`` as two numbers.

    Examples
    --------
    >>> part("2/10")
    (2, 10)
    """
    i, _, n = text.partition("/")
    return int(i), int(n)


def _many_arguments(group: argparse._MutuallyExclusiveGroup, why: str = "") -> None:
    group.add_argument("--targets-file", type=Path, metavar="FILE", help=f"file of perturbations{why}, one a line")
    group.add_argument("--all-genes", action="store_true", help=f"all that can be asked{why}: genes, names with vectors")


def _rank_parser() -> argparse.ArgumentParser:
    parser = _question_parser("rank", "Which perturbations do this? Candidates ranked by their effect along a direction.")
    _model_argument(parser)
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument("--direction", nargs="+", metavar="GENE", help="a gene, or genes whose mean effect counts")
    direction.add_argument("--signature", type=Path, metavar="CSV", help="file of two columns, genes and their weights")
    parser.add_argument("--candidates", nargs="+", metavar="NAME", help="perturbations to rank; default: all that can be asked")
    parser.add_argument("--threshold", type=float, default=0.0, metavar="C", help="how far beyond which to go (%(default)s)")
    parser.add_argument(
        "--alternative", choices=["greater", "less", "two-sided"], default="greater", help="which side (%(default)s)"
    )
    parser.add_argument("--confidence", type=float, default=0.95, metavar="P", help="of the intervals (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated means (%(default)s)")
    parser.add_argument("--context", nargs="+", metavar="NAME", help="of a model with contexts; default: all")
    return parser


def _suggest_parser() -> argparse.ArgumentParser:
    parser = _question_parser("suggest", "Which perturbations to measure next, so that most is learnt about the others.")
    _model_argument(parser)
    parser.add_argument("n", type=int, metavar="N", help="how many")
    parser.add_argument("--candidates", nargs="+", metavar="NAME", help="perturbations to choose from; default: all")
    parser.add_argument("--context", metavar="NAME", help="of a model with contexts")
    return parser


def _compare_parser() -> argparse.ArgumentParser:
    parser = _question_parser("compare", "Was a prediction right? A table of effects beside what was measured later.")
    parser.add_argument("predicted", type=Path, metavar="CSV", help="table of predicted effects, such as results/effects.csv")
    observed = parser.add_mutually_exclusive_group(required=True)
    observed.add_argument("--h5ad", type=Path, metavar="FILE", help="new cells with control cells of their own, raw counts")
    observed.add_argument("--observed", type=Path, metavar="CSV", help="table of observed effects")
    parser.add_argument("--perturbation-key", metavar="K", help="column of obs of the new cells (perturbation)")
    parser.add_argument("--control", metavar="C", help="category of unperturbed cells (control)")
    parser.add_argument("--layer", metavar="L", help="layer with the counts; default: X")
    parser.add_argument("--batch-key", metavar="B", help="column of obs with experimental batches")
    parser.add_argument("--size-factor-key", metavar="K", help="column of obs with total counts or size factors")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the errors of the targets")
    return parser


def _question_parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{PROG} {name}", description=description)
    parser.add_argument("--out", type=Path, metavar="CSV", help="write the table here, too")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="folder of a saved model, such as results/model")


COMMANDS = {
    RUN: _run_parser,
    "rank": _rank_parser,
    "suggest": _suggest_parser,
    "compare": _compare_parser,
    "effects": _effects_parser,
}
