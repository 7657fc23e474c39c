"""`cyclegan translate`."""

import argparse
import contextlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclegan.cli.arguments import DIRECTIONS, PRECISIONS, WEIGHTS, add_argument, add_device, add_max_pixels, home_path
from cyclegan.cli.streams import STREAM, read_input
from cyclegan.errors import CycleganError, InputError
from cyclegan.system.terminal import is_terminal_output, say_result, send_file
from cyclegan.translate.progress import MAX_NAMED, FolderProgress, OnProgress, Skipped, not_written

if TYPE_CHECKING:  # heavy imports wait until the command runs
    from cyclegan.translate.folder import TranslateOptions
    from cyclegan.translate.translator import Translator

SUMMARY = "Translate images and clips with a trained run."

EXAMPLES = """examples:
  cyclegan translate runs/maps photo.jpg --out translated/
  cyclegan translate runs/maps maps/ --out photos/ --direction b2a --batch-size 8
  cyclegan translate runs/maps clip.mp4 --out clip_b.mp4 --stabilise
  cyclegan translate runs/maps frames/ --out frames_b/ --stabilise
  cyclegan translate runs/maps stack.tif --out stack_b.tif --pages all
  cyclegan translate runs/ct ct_series/ --out derived_series/          (DICOM files; also brain.nii.gz --out gm.nii.gz)
  cyclegan translate runs/maps huge.tif --out map.tif --tile 1024 --statistics crops
  cyclegan translate runs/stain slide.svs --out slide.ome.tif --mpp 0.5
  cyclegan translate runs/maps 'photos/**/*.jpg' --out translated/ --skip-existing
  cat x.png | cyclegan translate runs/maps - --out - > y.png
  cyclegan translate runs/maps scene.tif --out part.tif --window 2000 1000 512 512 --cog
  cyclegan translate hf:user/name photo.jpg --out translated/          (a model of the Hugging Face Hub)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = partial(add_argument, parser)
    run_help = "Run directory, checkpoint, model directory, hf:user/name, or an export."
    add("run_directory", Path, run_help, metavar="RUN")
    paths_help = "Images, animations, clips, folders or zips to mirror, patterns in quotes, or - for standard input."
    add("paths", Path, paths_help, metavar="INPUT", nargs="+")
    out_help = "Folder for the results; for one input also a file (b.png, b.gif, b.mp4), or - for standard output."
    add("--out", str, out_help, metavar="OUT", required=True, action=_Out)
    add("--direction", DIRECTIONS, "Direction to translate", "a2b")
    add("--batch-size", int, "Images of one size translated together", 1)
    add_device(parser)
    engine_help = "Engine; auto: torch, or the engine that an export was made for"
    add("--engine", ("auto", "torch", "onnxruntime", "openvino"), engine_help, "auto")
    precision_help = (
        "Arithmetic; auto: bf16 where the processor has it, the result is 8-bit and within 40 dB of fp32; else fp32"
    )
    add("--precision", ("auto", *PRECISIONS), precision_help, "auto")
    add("--weights", WEIGHTS, "Weights to use (default: those that the run was configured for).")
    count_help = "Translate only the first COUNT images, and all clips (default: all)."
    add("--max-images", int, count_help, metavar="COUNT")
    add("--skip-existing", bool, "Leave out what has a result in OUT already, to go on after a stop.")
    add_max_pixels(parser)
    size = parser.add_mutually_exclusive_group()
    side_help = (
        "Scale the shorter side to this for the network; the result has the input's size again "
        "(default: translate at the input's own size)."
    )
    add_argument(size, "--short-side", int, side_help, metavar="PIXELS")
    add_argument(size, "--scale-width", int, "The same for the width.", metavar="PIXELS")
    tile_help = (
        "Translate in squares of this side, without seams; none: never; auto: only images that do not fit into "
        "memory as a whole"
    )
    add("--tile", _tile, tile_help, "auto", metavar="PIXELS")
    statistics_help = (
        "Normalise tiles with statistics of the whole image, or, with less memory and nearly the same result, of "
        "full-resolution crops or of a reduced image"
    )
    add("--statistics", ("exact", "crops", "reduced"), statistics_help, "exact")
    stabilise_help = (
        "Reduce flicker in clips, animations, stacks of pages, and folders of frames, each a sequence in the natural "
        "order of its names."
    )
    add("--stabilise", bool, stabilise_help)
    frames_help = "Frames that --stabilise averages over (default: 6); more, such as 50, for a static camera."
    add("--memory-frames", float, frames_help, metavar="FRAMES")
    group = parser.add_argument_group("how files are read and written")
    files = partial(add_argument, group)
    files("--bands", str, "Bands to take, such as 4,3,2 (default: as in training).", metavar="BANDS")
    page_help = "Page to take of files with several, from 1 on; of a whole slide, the level."
    files("--page", int, page_help, metavar="N")
    mpp_help = (
        "Microns per pixel at which whole slides are read (default: as in training, else their level 0, the finest)."
    )
    files("--mpp", float, mpp_help, metavar="MICRONS")
    pages_help = "Translate every page of a TIFF with several, into a TIFF of as many (default: one image)."
    files("--pages", ("all",), pages_help)
    axis_help = "Slices that volumes are translated in (default: as in training, else axial)."
    files("--axis", ("axial", "coronal", "sagittal"), axis_help)
    patient_help = (
        "What DICOM files and volumes take over of the patient: none replaces names and UIDs and copies only listed "
        "attributes without names, dates and texts; keep copies all"
    )
    files("--patient-data", ("none", "keep"), patient_help, "none")
    nodata_help = "Value of holes; nan, or none for no holes (default: what each file names). Holes stay holes."
    files("--nodata", str, nodata_help, metavar="VALUE")
    background_help = "Put this colour behind transparent pixels (default: the result is as transparent as the input)."
    files("--background", str, background_help, metavar="COLOUR")
    profile_help = "Convert results back to the colour profile of their input (default: results are sRGB)."
    files("--keep-profile", bool, profile_help)
    compression_help = "Of an .ome.tif written in tiles; auto: JPEG for 8-bit results of slides, else lossless"
    files("--compression", ("auto", "lossless", "jpeg"), compression_help, "auto")
    window_help = "Translate only this part of each image: first column and row from 0 on, width and height in pixels."
    files("--window", int, window_help, nargs=4, metavar=("COL", "ROW", "WIDTH", "HEIGHT"))
    bounds_help = "The same by coordinates on the earth, in the system of each file. Needs cyclegan[geo]."
    files("--bounds", float, bounds_help, nargs=4, metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"))
    cog_help = "Write TIFFs with overviews, as cloud-optimised GeoTIFFs. Needs cyclegan[geo]."
    group.add_argument("--cog", "--overviews", action="store_true", help=cog_help)


class _Out(argparse.Action):
    """Sets `out`, a path, and `out_text`, which has the slash that a path loses."""

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, text: Any, _option: str | None = None
    ) -> None:
        namespace.out, namespace.out_text = home_path(text), text


def _tile(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return text if text == "auto" else None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of pixels, auto or none")
    return int(text)


def run(parsed: argparse.Namespace) -> None:
    progress = _ConsoleProgress(parsed)
    try:
        with _streams(parsed, progress):
            is_complete = _translate(parsed, progress)
    except KeyboardInterrupt as stop:
        partial = progress.resumable
        kept = f"; the same command resumes {partial}" if partial else ", no partial file is left"
        raise KeyboardInterrupt(f"Stopped; images and clips that are done are kept{kept}.") from stop
    if not is_complete:
        raise SystemExit(1)


@contextlib.contextmanager
def _streams(parsed: argparse.Namespace, progress: "_ConsoleProgress") -> Iterator[None]:
    """Put files in the place of `-` for the block: standard input before it, standard output after it."""
    from_stdin, to_stdout = STREAM in parsed.paths, parsed.out == STREAM
    if not from_stdin and not to_stdout:
        yield
        return
    if from_stdin and len(parsed.paths) > 1:
        raise InputError(f"The inputs are - and {len(parsed.paths) - 1} more; give standard input alone.")
    if to_stdout and is_terminal_output():
        raise InputError("--out is -, and standard output is a terminal; send it to a file or a program: > y.png")
    with tempfile.TemporaryDirectory(prefix="cyclegan-") as folder, progress.renaming(folder):
        place = Path(folder)
        if from_stdin:
            parsed.paths = [read_input(place)]
        if to_stdout:
            parsed.out, parsed.out_text = place / "stdout", ""
        yield
        if to_stdout:
            written = [path for path in place.glob("stdout/*") if path.is_file()]
            if written:
                send_file(written[0])


def _translate(parsed: argparse.Namespace, progress: "_ConsoleProgress") -> bool:
    """Returns whether everything could be translated."""
    from cyclegan.images.limits import pixel_limit
    from cyclegan.images.remote import check_local, local_copy
    from cyclegan.system.arguments import check_int
    from cyclegan.system.atomic import is_place_lost
    from cyclegan.translate.folder import TranslateOptions, translate_plan, without_useless_stabilising
    from cyclegan.translate.output_names import check_folder_name
    from cyclegan.translate.plan import describe_other_files, input_suffixes
    from cyclegan.translate.translator import Translator
    from cyclegan.video import VIDEO_SUFFIXES, plan_translation

    options = TranslateOptions(**{field.name: getattr(parsed, field.name) for field in fields(TranslateOptions)})
    options.check(lambda field: f"--{field.replace('_', '-')}")
    for name in ("max_images", "max_pixels"):
        if (value := getattr(parsed, name)) is not None:
            check_int(f"--{name.replace('_', '-')}", value, least=1)
    check_local("--out", parsed.out)
    check_folder_name(parsed.out_text, input_suffixes() + VIDEO_SUFFIXES)
    translator = Translator.load(
        parsed.run_directory,
        direction=parsed.direction,
        device=parsed.device,
        weights=parsed.weights,
        engine=parsed.engine,
        precision=parsed.precision,
    )
    paths = [local_copy(path, progress.note, suffixes=VIDEO_SUFFIXES) for path in parsed.paths]
    images, clips = plan_translation(paths, parsed.out, translator, all_pages=parsed.pages is not None)
    if other_files := describe_other_files(images, clips):
        progress.messages.warning(other_files)
    images = images[: parsed.max_images]
    if progress.to_stdout and (len(images) != 1 or clips):
        raise InputError(
            f"--out - is one image, and the input is {len(images)} images and {len(clips)} clips; give a folder."
        )
    progress.note(f"Engine: {translator.engine}")
    translator = options.apply_reading(translator)
    options = without_useless_stabilising(options, translator, progress)
    is_only_input = len(images) + len(clips) == 1
    for source, _ in clips:
        options.check_single(source)
    with pixel_limit(parsed.max_pixels):
        result = translate_plan(translator, images, options, progress, is_only_input=is_only_input)
    is_complete = not result.skipped and not result.damage
    for source, target in clips:
        if options.skip_existing and target.is_file() and target.stat().st_size:
            progress.note(f"{target} is there already.")
            continue
        try:
            is_complete &= _translate_clip(translator, source, target, options, progress)
        except (CycleganError, OSError) as error:  # one bad clip of several does not stop the others
            if is_only_input or is_place_lost(error if isinstance(error, OSError) else error.__cause__, clips.out):
                raise
            progress.skipped([(source, not_written(target, error))], 1)
            is_complete = False
    return is_complete


def _translate_clip(
    translator: "Translator",
    source: Path,
    target: Path,
    options: "TranslateOptions",
    progress: "_ConsoleProgress",
) -> bool:
    """Returns whether all of the clip could be translated."""
    from cyclegan.video import translate_video

    with progress.translating_frames(source) as on_frame:
        clip = translate_video(translator, source, target, on_frame=on_frame, **options.network_options)
    for note in (*clip.notes, *clip.damage):
        progress.messages.warning(note)
    say_result(f"{clip.num_frames} frames, {clip.seconds:.2f} s, translated into {target}")
    return not clip.damage


class _ConsoleProgress(FolderProgress):
    """Progress on the terminal. resumable: the large image that a stop has left half done."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        from cyclegan.system.messages import Messages

        self.resumable: Path | None = None
        self._out, self._direction = parsed.out, parsed.direction
        self.to_stdout = parsed.out == STREAM
        self._folder: str | None = None
        self.messages = Messages("translate")
        self._console = self.messages.console

    @contextlib.contextmanager
    def renaming(self, folder: str) -> Iterator[None]:
        """Show files of a temporary folder as standard input or output, in messages and errors of the block."""
        self._folder = folder
        try:
            yield
        except (CycleganError, OSError) as error:
            if folder not in str(error):
                raise
            raise InputError(self._shown(str(error))) from error

    def _shown(self, text: str) -> str:
        if self._folder is None:
            return text
        text = re.sub(re.escape(f"{self._folder}/stdout/") + r"[\w.]+", "standard output", text)
        return re.sub(re.escape(f"{self._folder}/stdin") + r"[\w.]*", "standard input", text)

    def note(self, message: str) -> None:
        self.messages.info(self._shown(message))

    def scanning(self) -> contextlib.AbstractContextManager[object]:
        return self.messages.status("Reading the sizes of the images ...")

    @contextlib.contextmanager
    def translating(self, num_images: int) -> Iterator[Callable[[Path], None]]:
        from rich.progress import Progress

        with Progress(console=self._console) as bar:
            task = bar.add_task(f"Translating {self._direction}", total=num_images)
            yield lambda _source: bar.advance(task)

    @contextlib.contextmanager
    def translating_large(self, source: Path, target: Path) -> Iterator[OnProgress]:
        from cyclegan.system.progress import show_time_left
        from cyclegan.translate.partial_result import partial_folder

        try:
            with show_time_left(self._console, source.name) as on_progress:
                yield on_progress
        except KeyboardInterrupt:
            if partial_folder(target).exists():
                self.resumable = target
            raise

    @contextlib.contextmanager
    def translating_frames(self, source: Path) -> Iterator[Callable[[int, int | None], None]]:
        from cyclegan.system.progress import show_time_left

        began = time.monotonic()
        with show_time_left(self._console, source.name) as on_progress:

            def on_frame(done: int, expected: int | None) -> None:
                total, rate = max(expected or 0, done), done / max(time.monotonic() - began, 1e-6)
                on_progress(f"frame {done} of {total}, {rate:.1f} frames/s", done / max(total, 1))

            yield on_frame

    def damaged(self, message: str) -> None:
        self.messages.warning(message)

    def written_frames(self, num_frames: int, target: Path) -> None:
        say_result(f"{num_frames} {'frame' if num_frames == 1 else 'frames'} translated into {target}")

    def skipped(self, images: Sequence[Skipped], num_images: int) -> None:
        for path, reason in images[:MAX_NAMED]:
            where = "" if reason.startswith(str(path)) else f"{path}: "
            self.messages.warning(self._shown(f"Left out: {where}{reason}"))
        if len(images) > MAX_NAMED:
            self.messages.warning(f"Left out: {len(images) - MAX_NAMED} more, {len(images)} of {num_images} in all.")

    def existing(self, num_existing: int, num_images: int) -> None:
        self._say(f"{num_existing} of {num_images} images are in {self._out} already")

    def written(self, num_images: int, target: Path | None, tile: int | None) -> None:
        what = f"{num_images} {'image' if num_images == 1 else 'images'} translated"
        place = self._out if target is None else self._shown(str(target))
        where = "to standard output" if self.to_stdout else f"into {place}"
        self._say(f"{what} {where}" if tile is None else f"{what} in tiles of {tile} pixels {where}")

    def _say(self, text: str) -> None:
        """Show a sentence of the result, on standard error if standard output is the result itself."""
        if self.to_stdout:
            self.messages.info(text)
        else:
            say_result(text)
