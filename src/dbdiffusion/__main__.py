"""``python -m dbdiffusion``."""

from __future__ import annotations

import logging
import sys
import warnings


def main(arguments: list[str] | None = None) -> int:
    """Run the main job; a worded error and exit code 2 on bad input."""
    from dbdiffusion.job import parse_arguments, readable, run_job

    parsed = parse_arguments(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dbdiffusion").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    try:
        summary = run_job(parsed)
    except (ValueError, KeyError, FileExistsError, FileNotFoundError) as error:
        print(f"error: {error.args[0] if error.args else error}", file=sys.stderr)
        return 2
    print(readable(summary["targets"]).dropna(axis=1, how="all").to_string(float_format=lambda value: f"{value:.3f}"))
    print(f"\nSeconds: {summary['seconds']}\nReport: {parsed.out / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
