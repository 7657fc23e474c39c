"""`cyclegan demo`."""

import argparse
from pathlib import Path

SUMMARY = "Train on satellite photos and maps for ten minutes and show the result; --quick skips the training."

EXAMPLES = """examples:
  cyclegan demo
  cyclegan demo --quick
  cyclegan demo --out runs/demo --minutes 3"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="Folder for all results (default: runs/demo, or runs/quick)."
    )
    parser.add_argument(
        "--quick", action="store_true", help="Translate and score with an installed model, in under a minute."
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/earth"),
        metavar="DIR",
        help="Folder of the dataset, which is built if it is missing (default: data/earth).",
    )
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="Minutes of training (default: those of the preset demo)."
    )
    parser.add_argument("--seed", type=int, metavar="N", help="Seed of the training (default: 0).")
    parser.add_argument("--fresh", action="store_true", help="Move an earlier demo aside and start anew.")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.demo.run import demo, quick_demo
    from cyclegan.errors import InputError
    from cyclegan.system.devices import keep_freed_memory

    if parsed.quick:
        given = {"--minutes": parsed.minutes, "--seed": parsed.seed, "--fresh": parsed.fresh or None}
        for flag, value in given.items():
            if value is not None:
                raise InputError(f"--quick does not train, so {flag} is not for it; leave one of them out.")
        print(quick_demo(parsed.out or Path("runs/quick"), parsed.data))
        return
    keep_freed_memory()
    out = parsed.out or Path("runs/demo")
    print(demo(out, parsed.data, minutes=parsed.minutes, seed=parsed.seed or 0, fresh=parsed.fresh))
