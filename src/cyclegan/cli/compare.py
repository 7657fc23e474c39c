"""`cyclegan compare`."""

import argparse
from pathlib import Path

from cyclegan.cli.arguments import add_argument
from cyclegan.errors import InputError

SUMMARY = "Show the scores of several runs side by side."

EXAMPLES = """examples:
  cyclegan compare runs/maps runs/maps_wide
  cyclegan compare runs/seed0 runs/seed1 runs/seed2 --out seeds.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    runs_help = "Two or more run directories that were evaluated."
    add_argument(parser, "run_directories", Path, runs_help, metavar="RUN", nargs="+")
    add_argument(parser, "--out", Path, "Page to write", Path("compare.html"), metavar="FILE")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.report.compare import compare, print_comparison
    from cyclegan.system.terminal import print_result

    if parsed.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out is {parsed.out}; expected a name that ends in .html.")
    print_comparison(compare(*parsed.run_directories, out=parsed.out))
    print_result(parsed.out)
