"""`cyclegan demo`."""

import argparse
from pathlib import Path

SUMMARY = "Train on satellite photos and maps for ten minutes and show the result."

EXAMPLES = """examples:
  cyclegan demo
  cyclegan demo --out runs/demo --minutes 3"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="run directory (default: runs/demo)")
    parser.add_argument("--data", type=Path, default=Path("data/earth"), help="its dataset (default: data/earth)")
    parser.add_argument("--minutes", type=float, help="minutes of training (default: that of the preset demo)")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--fresh", action="store_true", help="move an earlier demo aside and start anew")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.demo import demo
    from cyclegan.distributed import keep_freed_memory

    keep_freed_memory()
    print(demo(parsed.out, parsed.data, minutes=parsed.minutes, seed=parsed.seed, fresh=parsed.fresh))
