"""`cyclegan bench`."""

import argparse
from pathlib import Path

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
    parser.add_argument(
        "run_directory",
        metavar="RUN",
        type=Path,
        nargs="?",
        help="Run directory, checkpoint, model directory or exported folder (default: random weights of --preset).",
    )
    parser.add_argument("--preset", choices=tuple(PRESETS), help="Networks if no RUN is given (default: paper).")
    parser.add_argument(
        "--out", type=Path, default=Path("bench"), metavar="DIR", help="Folder for the results (default: bench/)."
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="PX",
        help="Sides of the images in pixels (default: the crop size, half of it and twice).",
    )
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="Batch sizes (default: 1 2 4 8)."
    )
    parser.add_argument(
        "--work",
        choices=("train", "translate"),
        nargs="+",
        help="Work to measure (default: both; an export only translates).",
    )
    parser.add_argument("--device", default="auto", help="Device: cpu, cuda, cuda:1, mps or auto (default: auto).")
    parser.add_argument(
        "--minutes", type=float, metavar="N", default=3.0, help="Time for all measurements in minutes (default: 3)."
    )
    parser.add_argument(
        "--export",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="More exports of the same model, such as one in int8.",
    )


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

    from rich.console import Console

    from cyclegan.bench.measuring import measure
    from cyclegan.bench.output import write
    from cyclegan.bench.subject import find_subject
    from cyclegan.bench.view import show
    from cyclegan.system.devices import resolve_device
    from cyclegan.system.progress import signals_interrupt

    progress = Console(stderr=True, highlight=False, markup=False)
    with signals_interrupt(), tempfile.TemporaryDirectory() as workplace:
        device = resolve_device(parsed.device)
        subject = find_subject(parsed.run_directory, parsed.preset or "paper", parsed.export, Path(workplace))
        if parsed.work and "train" in parsed.work and subject.config is None:
            raise InputError(f"{parsed.run_directory} is an export, which is not trained; give the run it was made of.")
        works = parsed.work or (("train", "translate") if subject.config is not None else ("translate",))
        sizes = sorted(set(parsed.sizes or subject.sizes(trained="train" in works)))
        for size in sizes:
            subject.check_size(size, trained="train" in works)
        batch_sizes = sorted(set(parsed.batch_sizes))
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
        show(done, Console(highlight=False, markup=False))
        for path in write(done, parsed.out):
            progress.print(str(path))
    if done.stopped:
        raise KeyboardInterrupt
    if not done.measured:
        raise SystemExit(1)
