"""`cyclegan report`."""

import argparse
from pathlib import Path

from cyclegan.cli.arguments import add_argument
from cyclegan.errors import InputError

SUMMARY = "Write the page of a run again, or its losses as a table."

EXAMPLES = """examples:
  cyclegan report runs/maps                        (writes runs/maps/report.html from what the run holds now)
  cyclegan report runs/maps --csv losses.csv       (writes the losses alone, for a spreadsheet or pandas)

Both are made from log.jsonl and may be written while the run is trained."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_argument(parser, "run_directory", Path, "Run directory.", metavar="RUN")
    add_argument(parser, "--csv", Path, "Write the losses to this file, one line for each of the log.", metavar="FILE")


def run(parsed: argparse.Namespace) -> None:
    if parsed.csv is not None and (parsed.csv.suffix.lower() != ".csv" or parsed.csv.is_dir()):
        raise InputError(f"--csv is {parsed.csv}; expected the name of a file that ends in .csv.")
    if not (parsed.run_directory / "log.jsonl").is_file():
        raise InputError(f"{parsed.run_directory} has no log.jsonl; expected a run directory.")
    from cyclegan.report.losses import write_losses
    from cyclegan.report.run import write_run_report
    from cyclegan.system.terminal import print_result

    if parsed.csv is not None:
        write_losses(parsed.run_directory, parsed.csv)
        print_result(parsed.csv)
    else:
        print_result(write_run_report(parsed.run_directory))
