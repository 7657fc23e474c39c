"""`cyclegan bench`."""

import argparse
from functools import partial
from pathlib import Path

from cyclegan.cli.arguments import add_argument, add_device, home_path
from cyclegan.config import PRESETS
from cyclegan.errors import InputError

SUMMARY = "Measure the speed and memory of training and translation on this machine."

EXAMPLES = """examples:
  cyclegan bench
  cyclegan bench --preset demo --minutes 1
  cyclegan bench runs/maps --sizes 256 512 1024 --batch-sizes 1 4 --minutes 20
  cyclegan bench runs/maps --work translate --export exported/int8

Measures every size at one batch size, and every batch size at one size, each in its own process. Points that would
exceed --minutes or the free memory are left out, with a note. Writes bench.json, bench.md and bench.png into --out;
docs/guides/bench.md explains them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    run_help = "Run directory, checkpoint, model directory or exported folder (default: random weights of --preset)."
    add("run_directory", Path, run_help, metavar="RUN", nargs="?")
    add("--preset", tuple(PRESETS), "Networks if no RUN is given (default: paper).")
    add("--out", Path, "Folder for the results", Path("bench"))
    size_help = "Sides of the images in pixels (default: the crop size, half of it and twice)."
    add("--sizes", int, size_help, metavar="PX", nargs="+")
    add("--batch-sizes", int, "Batch sizes", [1, 2, 4, 8], nargs="+")
    add("--work", ("train", "translate"), "Work to measure (default: both; an export only translates).", nargs="+")
    add_device(parser)
    add("--minutes", float, "Time for all measurements in minutes", 3.0)
    more_help = "More exports of the same model, such as one in int8."
    parser.add_argument("--export", type=home_path, nargs="+", default=[], metavar="DIR", help=more_help)


def run(parsed: argparse.Namespace) -> None:
    if parsed.run_directory is not None and parsed.preset is not None:
        raise InputError(
            f"The networks are given twice, by {parsed.run_directory} and by --preset {parsed.preset}; leave one out."
        )
    for flag, values in (("--sizes", parsed.sizes or []), ("--batch-sizes", parsed.batch_sizes)):
        if any(value < 1 for value in values):
            raise InputError(f"{flag} has {min(values)}; expected numbers from 1 on.")
    if not 0 < parsed.minutes < float("inf"):
        raise InputError(f"--minutes is {parsed.minutes:g}; expected a number above 0.")
    if parsed.out.exists() and not parsed.out.is_dir():
        raise InputError(f"--out is {parsed.out}, which is a file; expected a folder.")

    import tempfile

    from cyclegan.bench.measuring import measure
    from cyclegan.bench.output import write
    from cyclegan.bench.subject import find_subject
    from cyclegan.bench.view import show
    from cyclegan.system.atomic import check_writable
    from cyclegan.system.devices import resolve_device
    from cyclegan.system.messages import make_console
    from cyclegan.system.signals import AnnouncedStop

    progress = make_console(stderr=True)
    with tempfile.TemporaryDirectory() as workplace:
        device = resolve_device(parsed.device)
        subject = find_subject(parsed.run_directory, parsed.preset or "paper", parsed.export, Path(workplace))
        if parsed.work and "train" in parsed.work and subject.config is None:
            raise InputError(
                f"{parsed.run_directory} is an export, which is not trained; give the run it was exported from."
            )
        works = parsed.work or (("train", "translate") if subject.config is not None else ("translate",))
        sizes = sorted(set(parsed.sizes or subject.sizes(trained="train" in works)))
        for size in sizes:
            subject.check_size(size, trained="train" in works)
        batch_sizes = sorted(set(parsed.batch_sizes))
        check_writable(parsed.out)  # before minutes of work
        with progress.status("measuring") as status:

            def say(line: str) -> None:
                status.update(line)
                if not progress.is_terminal or "left out" in line or "failed" in line:
                    progress.print(line, soft_wrap=True)

            done = measure(
                subject,
                sizes=sizes,
                batch_sizes=batch_sizes,
                works=works,
                device=device,
                minutes=parsed.minutes,
                say=say,
            )
        show(done, make_console())
        for path in write(done, parsed.out):
            progress.print(str(path), soft_wrap=True)
    if done.stopped:
        raise AnnouncedStop
    if not done.measured:
        raise SystemExit(1)
