"""`cyclegan demo`."""

import argparse
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import add_argument

SUMMARY = "Train on satellite photos and maps for ten minutes and show the result; --quick skips the training."

EXAMPLES = """examples:
  cyclegan demo
  cyclegan demo --quick
  cyclegan demo --out runs/demo --minutes 3"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    add("--out", Path, "Folder for all results (default: runs/demo, or runs/quick).")
    add("--quick", bool, "Translate and score with an installed model, in under a minute.")
    add("--data", Path, "Folder of the dataset, which is built if it is missing", Path("data/earth"))
    add("--minutes", float, "Minutes of training (default: those of the preset demo).")
    add("--seed", int, "Seed of the training (default: 0).")
    add("--fresh", bool, "Move an earlier demo aside and start over.")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.demo.run import demo, quick_demo
    from cyclegan.errors import InputError
    from cyclegan.system.devices import keep_freed_memory
    from cyclegan.system.terminal import print_result

    if parsed.quick:
        given = {"--minutes": parsed.minutes, "--seed": parsed.seed, "--fresh": parsed.fresh or None}
        for flag, value in given.items():
            if value is not None:
                raise InputError(f"--quick does not train, so {flag} is not for it; leave one of them out.")
        print_result(quick_demo(parsed.out or Path("runs/quick"), parsed.data))
        return
    keep_freed_memory()
    out = parsed.out or Path("runs/demo")
    print_result(demo(out, parsed.data, minutes=parsed.minutes, seed=parsed.seed or 0, fresh=parsed.fresh))
