"""`cyclegan compare`."""

import argparse
from pathlib import Path

from cyclegan.errors import InputError

SUMMARY = "Show the scores of several runs side by side."

EXAMPLES = """examples:
  cyclegan compare runs/maps runs/maps_wide
  cyclegan compare runs/seed0 runs/seed1 runs/seed2 --out seeds.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_directories", metavar="RUN", type=Path, nargs="+", help="Two or more run directories that were evaluated."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("compare.html"), help="Page to write (default: compare.html).", metavar="FILE"
    )


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.report.compare import compare, print_comparison

    if parsed.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out is {parsed.out}; expected a name that ends in .html.")
    print_comparison(compare(*parsed.run_directories, out=parsed.out))
    print(parsed.out)
