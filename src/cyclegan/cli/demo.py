"""`cyclegan demo`."""

import argparse
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from cyclegan.cli import studio
from cyclegan.cli.arguments import add_argument
from cyclegan.system.terminal import ask, can_ask, print_result, say, shell_quote

# Of the extra `serve`.
_STUDIO_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")

SUMMARY = "Train on satellite photos and maps for ten minutes and show the result; --quick skips the training."

EXAMPLES = """examples:
  cyclegan demo
  cyclegan demo --quick
  cyclegan demo --out runs/demo --minutes 3

At the end it asks whether to open the studio, a page in the browser where you drop images of your own. In scripts it
prints the command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    add("--out", Path, "Folder for all results (default: runs/demo, or runs/quick).")
    add("--quick", bool, "Translate and score with an installed model, in under a minute.")
    add("--data", Path, "Folder of the dataset, which is built if it is missing", Path("data/earth"))
    add("--minutes", float, "Minutes of training (default: those of the preset demo).")
    add("--seed", int, "Seed of the training (default: 0).")
    add("--fresh", bool, "Move an earlier demo aside and start over.")
    add("--no-studio", bool, "Do not offer the studio at the end.")


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.demo.run import demo, quick_demo
    from cyclegan.errors import InputError
    from cyclegan.system.devices import keep_freed_memory

    if parsed.quick:
        given = {"--minutes": parsed.minutes, "--seed": parsed.seed, "--fresh": parsed.fresh or None}
        for flag, value in given.items():
            if value is not None:
                raise InputError(f"--quick does not train, so {flag} is not for it; leave one of them out.")
        out = parsed.out or Path("runs/quick")
        print_result(quick_demo(out, parsed.data))
    else:
        keep_freed_memory()
        out = parsed.out or Path("runs/demo")
        print_result(demo(out, parsed.data, minutes=parsed.minutes, seed=parsed.seed or 0, fresh=parsed.fresh))
    if not parsed.no_studio:
        _offer_studio(out)


def _offer_studio(folder: Path) -> None:
    """Ask somebody at a terminal whether to open the studio on the result; print its command to everybody else."""
    command = f"cyclegan studio {shell_quote(folder)}"
    if any(find_spec(package) is None for package in _STUDIO_PACKAGES):
        say(f"Translate images of your own in the browser: pip install 'cyclegan[serve]', then {command}")
    elif not can_ask():
        say(f"Translate images of your own in the browser: {command}")
    elif ask("Translate images of your own in the browser: open the studio?"):
        parser = argparse.ArgumentParser()
        studio.add_arguments(parser)
        studio.run(parser.parse_args(["--", str(folder)]))
    else:
        say(f"Later: {command}")
