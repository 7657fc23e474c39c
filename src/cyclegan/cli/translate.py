"""`cyclegan translate`."""

import argparse
from pathlib import Path

from cyclegan.config import InputError

SUMMARY = "Translate images with a trained run."

EXAMPLES = """examples:
  cyclegan translate runs/maps photo.jpg --out translated/
  cyclegan translate runs/maps maps/ --out photos/ --direction b2a --batch-size 8
  cyclegan translate hf:user/name photo.jpg --out translated/          (a model of the Hugging Face Hub)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_directory", metavar="RUN", type=Path, help="run directory, checkpoint, model directory or hf:user/name"
    )
    parser.add_argument("paths", metavar="INPUT", type=Path, nargs="+", help="image files, or folders to mirror")
    parser.add_argument("--out", type=Path, required=True, help="folder for the translated images")
    parser.add_argument("--direction", choices=("a2b", "b2a"), default="a2b", help="default: a2b")
    parser.add_argument("--batch-size", type=int, default=1, help="images of one size in a call (default: 1)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default: auto)")
    parser.add_argument("--weights", choices=("final", "average"), help="default: what the run was configured for")
    parser.add_argument(
        "--max-images", type=int, metavar="COUNT", help="translate only the first COUNT images (default: all)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="bring the shorter side to this for the network; the result has the input's size again "
        "(default: translate at the input's own size)",
    )
    size.add_argument("--scale-width", type=int, metavar="PIXELS", help="the same for the width")


def run(parsed: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from cyclegan.translate import Translator, plan_outputs, translate_files

    for flag, value in (("--short-side", parsed.short_side), ("--scale-width", parsed.scale_width)):
        if value is not None and value < 1:
            raise InputError(f"{flag} is {value}; expected at least 1 pixel.")
    if parsed.max_images is not None and parsed.max_images < 1:
        raise InputError(f"--max-images is {parsed.max_images}; expected at least 1.")
    if parsed.batch_size < 1:
        raise InputError(f"--batch-size is {parsed.batch_size}; expected at least 1.")
    translator = Translator.load(
        parsed.run_directory, direction=parsed.direction, device=parsed.device, weights=parsed.weights
    )
    plan = plan_outputs(parsed.paths, parsed.out, translator)[: parsed.max_images]
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with Progress(console=console) as progress:
        task = progress.add_task(f"Translating {parsed.direction}", total=len(plan))
        failed = translate_files(
            translator,
            plan,
            batch_size=parsed.batch_size,
            short_side=parsed.short_side,
            scale_width=parsed.scale_width,
            on_done=lambda _: progress.advance(task),
        )
    for path, reason in failed:
        console.print(f"Left out: {path}: {reason}", style="yellow")
    print(f"{len(plan) - len(failed)} images translated into {parsed.out}")
    if failed:
        raise SystemExit(1)
