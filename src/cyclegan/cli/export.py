"""`cyclegan export`."""

import argparse
from pathlib import Path

SUMMARY = "Write a model in the format of another program."

EXAMPLES = """examples:
  cyclegan export runs/maps --format reference --out checkpoints/maps
  cyclegan export runs/maps/best --format reference --out checkpoints/maps_best --weights average

reference: latest_net_G_A.pth, latest_net_G_B.pth and the discriminators latest_net_D_A.pth and latest_net_D_B.pth, as
junyanz/pytorch-CycleGAN-and-pix2pix loads them from its folder checkpoints/NAME."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="run directory, checkpoint or model directory")
    parser.add_argument("--format", choices=("reference",), required=True, help="what to write")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--direction", choices=("a2b", "b2a", "both"), default="both", help="default: both")
    parser.add_argument("--weights", choices=("final", "average"), help="default: what the run was configured for")


def run(parsed: argparse.Namespace) -> None:
    import sys

    from cyclegan.export import export

    exported = export(
        parsed.run_directory,
        parsed.out,
        format=parsed.format,
        direction=parsed.direction,
        weights=parsed.weights,
    )
    for note in exported.notes:
        print(note, file=sys.stderr)
    for path in exported.files:
        print(path)
