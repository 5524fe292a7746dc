"""``python -m dbdiffusion``."""

from __future__ import annotations

import logging
import sys
import warnings

from dbdiffusion._arguments import parse_arguments


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked; a worded error and exit code 2 on bad input, 1 if the main job fails at its end, 130 on Ctrl-C."""
    parsed = parse_arguments(arguments)
    from scvi import settings

    # takes seconds: not before they are sound
    from dbdiffusion.job import HalfDoneError, answer_question, readable, run_job, verdicts_of

    if parsed.quiet:
        settings.verbosity = logging.WARNING
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dbdiffusion").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    try:
        if parsed.command != "run":
            table, words = answer_question(parsed)
            print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
            print(f"\n{words}" if words else "")
            return 0
        summary = run_job(parsed)
    except KeyboardInterrupt:
        print("error: interrupted; nothing was written.", file=sys.stderr)
        return 130
    except HalfDoneError as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return 1
    except (ValueError, KeyError, OSError, RuntimeError, TypeError, ImportError, ArithmeticError, MemoryError) as error:
        print(f"error: {_line(error)}", file=sys.stderr)
        return 2
    print(readable(summary["targets"]).dropna(axis=1, how="all").to_string(float_format=lambda value: f"{value:.3f}"))
    print(f"\nSeconds: {summary['seconds']}", *verdicts_of(summary), f"Report: {parsed.out / 'report.html'}", sep="\n")
    return 0


def _line(error: Exception) -> str:
    """What an error says, in one line; a ``KeyError`` would put it in quotes."""
    words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(words.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
