"""`cyclegan download`."""

import argparse
from pathlib import Path

SUMMARY = "Get a dataset by its name."

EXAMPLES = """examples:
  cyclegan download earth --out data/earth
  cyclegan download earth --variant etopo1 --out data/etopo1
  cyclegan download earth16 --out data/earth16             (elevation in metres, one 16-bit channel)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="earth: satellite photos and maps; earth16: photos and 16-bit elevation"
    )
    parser.add_argument(
        "--variant",
        default="shadedrelief",
        help="maps of earth: shadedrelief (pale relief), or etopo1 (coloured heights and depths) "
        "(default: shadedrelief)",
    )
    parser.add_argument("--out", type=Path, help="folder to make (default: data/NAME, or data/NAME-VARIANT)")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.datasets import download

    folder = parsed.name if parsed.variant == "shadedrelief" else f"{parsed.name}-{parsed.variant}"
    print(download(parsed.name, parsed.out or Path("data") / folder, variant=parsed.variant))
