"""`cyclegan translate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cyclegan.errors import InputError

if TYPE_CHECKING:  # heavy imports wait until the command runs
    from rich.console import Console

    from cyclegan.translate.plan import TranslationPlan
    from cyclegan.translate.translator import Translator

SUMMARY = "Translate images and clips with a trained run."

EXAMPLES = """examples:
  cyclegan translate runs/maps photo.jpg --out translated/
  cyclegan translate runs/maps maps/ --out photos/ --direction b2a --batch-size 8
  cyclegan translate runs/maps clip.mp4 --out clip_b.mp4 --stabilise
  cyclegan translate runs/maps frames/ --out frames_b/ --stabilise
  cyclegan translate runs/maps huge.tif --out map.tif --tile 1024 --statistics crops
  cyclegan translate hf:user/name photo.jpg --out translated/          (a model of the Hugging Face Hub)"""


# Files that are named one by one when they cannot be translated.
_MOST_TOLD = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_directory",
        metavar="RUN",
        type=Path,
        help="run directory, checkpoint, model directory, hf:user/name, or what cyclegan export wrote",
    )
    parser.add_argument("paths", metavar="INPUT", type=Path, nargs="+", help="images, clips, or folders to mirror")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for what is translated; of one input also a file (b.png, b.mp4)",
    )
    parser.add_argument("--direction", choices=("a2b", "b2a"), default="a2b", help="default: a2b")
    parser.add_argument("--batch-size", type=int, default=1, help="images of one size in a call (default: 1)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default: auto)")
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "onnxruntime", "openvino"),
        default="auto",
        help="what computes; auto: torch, and of an export what it was made for (default: auto)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "fp16", "bf16", "int8"),
        default="auto",
        help="auto: bf16 where the chip has it, the result is 8-bit and it is within 40 dB of fp32; else fp32 "
        "(default: auto)",
    )
    parser.add_argument("--weights", choices=("final", "average"), help="default: what the run was configured for")
    parser.add_argument(
        "--max-images",
        type=int,
        metavar="COUNT",
        help="translate only the first COUNT images, and all clips (default: all)",
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
    parser.add_argument(
        "--tile",
        type=_tile,
        default="auto",
        metavar="PIXELS",
        help="translate in squares of this side, seamlessly; none: never; auto: where an image does not fit into "
        "memory as a whole (default)",
    )
    parser.add_argument(
        "--statistics",
        choices=("exact", "crops", "reduced"),
        default="exact",
        help="what tiles are normalised with: statistics of the whole image, or, with less memory and nearly "
        "the same, of full-resolution crops or of a reduced image (default: exact)",
    )
    parser.add_argument(
        "--stabilise",
        action="store_true",
        help="less flicker in clips and in folders of frames, each a sequence in the natural order of its names",
    )
    parser.add_argument(
        "--memory-frames",
        type=float,
        metavar="FRAMES",
        help="what --stabilise remembers (default: 6); more, as 50, for a camera that stands still",
    )


def _tile(text: str) -> int | str:
    if text in ("auto", "none"):
        return text
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of pixels, auto or none")
    return int(text)


def run(parsed: argparse.Namespace) -> None:
    import contextlib
    import sys

    from cyclegan.system.progress import signals_interrupt

    with signals_interrupt():
        try:
            _translate(parsed)
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):  # the terminal may be gone
                begun = getattr(parsed, "begun", None)
                kept = f"; the same command goes on with {begun}" if begun else ", nothing half-made is left"
                print(f"Stopped; images and clips that are done are kept{kept}.", file=sys.stderr)
            raise


def _translate(parsed: argparse.Namespace) -> None:
    from rich.console import Console

    from cyclegan.translate.stabilise import MEMORY_FRAMES, check_memory, needs_stabilising
    from cyclegan.translate.translator import Translator
    from cyclegan.video import plan_translation

    for flag, value in (("--short-side", parsed.short_side), ("--scale-width", parsed.scale_width)):
        if value is not None and value < 1:
            raise InputError(f"{flag} is {value}; expected at least 1 pixel.")
    if parsed.max_images is not None and parsed.max_images < 1:
        raise InputError(f"--max-images is {parsed.max_images}; expected at least 1.")
    if parsed.batch_size < 1:
        raise InputError(f"--batch-size is {parsed.batch_size}; expected at least 1.")
    if parsed.memory_frames is not None and not parsed.stabilise:
        raise InputError("--memory-frames is for --stabilise; give both.")
    parsed.memory_frames = MEMORY_FRAMES if parsed.memory_frames is None else parsed.memory_frames
    check_memory(parsed.memory_frames)
    translator = Translator.load(
        parsed.run_directory,
        direction=parsed.direction,
        device=parsed.device,
        weights=parsed.weights,
        engine=parsed.engine,
        precision=parsed.precision,
    )
    images, clips = plan_translation(parsed.paths, parsed.out, translator)
    images = images[: parsed.max_images]
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Engine: {translator.engine}")
    if parsed.stabilise and not needs_stabilising(translator.network):
        parsed.stabilise = False
        console.print(
            "--stabilise changes nothing here: without instance norm this model translates a frame the same whatever "
            "the others show."
        )

    is_whole = True
    images, large = _split_large(parsed, translator, images, console)
    if images:
        is_whole = _translate_images(parsed, translator, images, console)
    for source, target in large:
        is_only = len(images) + len(large) + len(clips) == 1
        is_whole &= _translate_large(parsed, translator, source, target, console, is_only=is_only)
    for source, target in clips:
        is_only = len(images) + len(large) + len(clips) == 1
        is_whole &= _translate_clip(parsed, translator, source, target, console, is_only=is_only)
    if not is_whole:
        raise SystemExit(1)


def _translate_images(
    parsed: argparse.Namespace, translator: "Translator", plan: "TranslationPlan", console: "Console"
) -> bool:
    """Returns whether all images could be translated."""
    from rich.progress import Progress

    from cyclegan.translate.files import translate_files
    from cyclegan.translate.plan import sequences

    alone: list[Path] = []
    if parsed.stabilise:
        alone = [part[0][0] for part in sequences(plan) if len(part) == 1]
    if alone:
        one = len(alone) == 1
        names = f"{alone[0]} is a single picture" if one else f"{len(alone)} pictures stand alone"
        console.print(f"{names}: no sequence of frames, so --stabilise does nothing for {'it' if one else 'them'}.")
    with Progress(console=console) as progress:
        task = progress.add_task(f"Translating {parsed.direction}", total=len(plan))
        failed = translate_files(
            translator,
            plan,
            batch_size=parsed.batch_size,
            short_side=parsed.short_side,
            scale_width=parsed.scale_width,
            stabilise=parsed.stabilise,
            memory_frames=parsed.memory_frames,
            on_done=lambda _: progress.advance(task),
        )
    for path, reason in failed[:_MOST_TOLD]:
        place = "" if reason.startswith(str(path)) else f"{path}: "
        console.print(f"Left out: {place}{reason}", style="yellow")
    if len(failed) > _MOST_TOLD:
        console.print(
            f"Left out: {len(failed) - _MOST_TOLD} more, {len(failed)} of {len(plan)} in all.", style="yellow"
        )
    done = len(plan) - len(failed)
    print(f"{done} {'image' if done == 1 else 'images'} translated into {parsed.out}")
    return not failed


def _split_large(
    parsed: argparse.Namespace, translator: "Translator", plan: "TranslationPlan", console: "Console"
) -> tuple["TranslationPlan", "TranslationPlan"]:
    """A plan as what is translated as a whole and what is in tiles."""
    import numpy as np

    from cyclegan.translate.large_files import find_large
    from cyclegan.translate.tiling.pictures import check_tile

    is_scaled = parsed.short_side is not None or parsed.scale_width is not None
    if isinstance(parsed.tile, int):
        if is_scaled or parsed.stabilise:
            other = "--stabilise" if parsed.stabilise else "--short-side and --scale-width"
            raise InputError(
                f"--tile {parsed.tile} is for images by themselves and at their own size, {other} is not; give one."
            )
        check_tile(parsed.tile, translator.original)
        if plan:
            console.print(f"Images are translated in tiles of {parsed.tile} pixels, in float32.")
        return plan[:0], plan
    if parsed.tile == "none" or is_scaled:
        return plan, plan[:0]
    with console.status("Looking at the images ..."):
        is_large = find_large(translator, plan.sources, batch_size=parsed.batch_size)
    if not is_large.any():
        return plan, plan[:0]
    large = plan.take(np.flatnonzero(is_large))
    if parsed.stabilise:
        raise InputError(
            f"{large[0][0]} is too large to be translated as a whole, and --stabilise cannot do it in tiles; "
            "pass --short-side."
        )
    return plan.take(np.flatnonzero(~is_large)), large


def _translate_large(
    parsed: argparse.Namespace,
    translator: "Translator",
    source: Path,
    target: Path,
    console: "Console",
    *,
    is_only: bool,
) -> bool:
    """Returns whether a file could be translated in tiles."""
    from cyclegan.errors import UnreadableError
    from cyclegan.system.progress import show_time_left
    from cyclegan.translate.large_files import translate_large
    from cyclegan.translate.tiling.pictures import TILE

    tile = TILE if parsed.tile == "auto" else parsed.tile
    if parsed.tile == "auto":
        console.print(f"{source} is too large to be translated as a whole: in tiles of {tile} pixels, in float32.")
    try:
        with show_time_left(console, source.name) as told:
            result = translate_large(
                translator, source, target, tile=tile, statistics=parsed.statistics, on_progress=told
            )
    except KeyboardInterrupt:
        if target.with_name(f".{target.name}.partial").exists():
            parsed.begun = target
        raise
    except (InputError, UnreadableError) as error:
        if is_only and isinstance(error, InputError):
            raise
        place = "" if str(error).startswith(str(source)) else f"{source}: "
        console.print(f"Left out: {place}{error}", style="yellow")
        return False
    for note in result.notes:
        console.print(note)
    print(f"1 image translated in tiles of {tile} pixels into {target}")
    return True


def _translate_clip(
    parsed: argparse.Namespace,
    translator: "Translator",
    source: Path,
    target: Path,
    console: "Console",
    *,
    is_only: bool,
) -> bool:
    """Returns whether all of the clip could be translated. One bad clip of several does not end the others."""
    import time

    from cyclegan.system.progress import show_time_left
    from cyclegan.video import translate_video

    began = time.monotonic()

    try:
        with show_time_left(console, source.name) as told:

            def count(frames: int, of: int | None) -> None:
                expected, rate = max(of or 0, frames), frames / max(time.monotonic() - began, 1e-6)
                told(f"frame {frames} of {expected}, {rate:.1f} frames/s", frames / max(expected, 1))

            clip = translate_video(
                translator,
                source,
                target,
                batch_size=parsed.batch_size,
                short_side=parsed.short_side,
                scale_width=parsed.scale_width,
                stabilise=parsed.stabilise,
                memory_frames=parsed.memory_frames,
                on_frame=count,
            )
    except InputError as error:
        if is_only:
            raise
        console.print(f"Left out: {error}", style="yellow")
        return False
    for note in (*clip.notes, *clip.damage):
        console.print(note, style="yellow")
    print(f"{clip.num_frames} frames, {clip.seconds:.2f} s, translated into {target}")
    return not clip.damage
