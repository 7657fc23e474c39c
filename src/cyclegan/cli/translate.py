"""`cyclegan translate`."""

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclegan.cli.arguments import (
    DIRECTIONS,
    PRECISIONS,
    SELF_ENSEMBLES,
    WEIGHTS,
    add_argument,
    add_device,
    add_max_pixels,
    add_ray,
    check_ray,
    home_path,
)
from cyclegan.cli.streams import STREAM, StreamNames, files_for_streams
from cyclegan.errors import CycleganError, InputError
from cyclegan.system.terminal import say_result
from cyclegan.translate.progress import not_written

if TYPE_CHECKING:  # heavy imports wait until the command runs
    from cyclegan.cli.console_progress import ConsoleProgress
    from cyclegan.translate.options import TranslateOptions
    from cyclegan.translate.plan import TranslationPlan
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
  cyclegan translate runs/maps photos/ --out translated/ --shard 3/8   (one of eight machines or jobs)
  cyclegan translate runs/maps photos/ --out translated/ --ray auto    (on the cluster that Ray finds)
  cat x.png | cyclegan translate runs/maps - --out - > y.png
  cyclegan translate runs/maps scene.tif --out part.tif --window 2000 1000 512 512 --cog
  cyclegan translate hf:user/name photo.jpg --out translated/          (a model of the Hugging Face Hub)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "cyclegan translate RUN INPUT [INPUT ...] --out OUT [options]"
    add = partial(add_argument, parser)
    run_help = "Run directory, checkpoint, model directory, hf:user/name, or an export."
    add("run_directory", Path, run_help, metavar="RUN")
    paths_help = (
        "Images, animations, clips, volumes; folders or zips of them; patterns in quotes; or - for standard input."
    )
    add("paths", Path, paths_help, metavar="INPUT", nargs="+")
    out_help = "Folder for the results; for one input also a file (b.png, b.gif, b.mp4), or - for standard output."
    add("--out", str, out_help, metavar="OUT", required=True, action=_Out)
    add("--direction", DIRECTIONS, "Direction to translate", "a2b")
    add_device(parser)
    batch_help = "Images of one size translated together; auto: 1 on a CPU, up to 32 on a GPU"
    add("--batch-size", _batch_size, batch_help, "auto", metavar="COUNT")
    add("--skip-existing", bool, "Leave out what has a result in OUT already, to go on after a stop.")
    count_help = "Translate only the first COUNT images, and all clips (default: all)."
    add("--max-images", int, count_help, metavar="COUNT")
    shard_help = "Translate part I of N of the files: for an array of N jobs, or N machines that see the same files."
    add("--shard", str, shard_help, metavar="I/N")
    add_ray(parser)
    _add_size(parser.add_argument_group("large images"))
    _add_frames(parser.add_argument_group("clips, animations and frames"))
    _add_samples(parser.add_argument_group("colours, transparency, bands and pages"))
    _add_place(parser.add_argument_group("part of an image, and GeoTIFFs"))
    _add_medicine(parser.add_argument_group("slides, volumes and DICOM"))
    _add_arithmetic(parser.add_argument_group("model and arithmetic"))


def _add_size(group: argparse._ArgumentGroup) -> None:
    size = group.add_mutually_exclusive_group()
    side_help = (
        "Scale the shorter side to this for the network; the result has the input's size again "
        "(default: translate at the input's own size)."
    )
    add_argument(size, "--short-side", int, side_help, metavar="PIXELS")
    add_argument(size, "--scale-width", int, "The same for the width.", metavar="PIXELS")
    add = partial(add_argument, group)
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
    add_max_pixels(group)


def _add_frames(group: argparse._ArgumentGroup) -> None:
    add = partial(add_argument, group)
    stabilise_help = (
        "Reduce flicker in clips, animations, stacks of pages, and folders of frames, each a sequence in the natural "
        "order of its names."
    )
    add("--stabilise", bool, stabilise_help)
    frames_help = "Frames that --stabilise averages over (default: 6); more, such as 50, for a static camera."
    add("--memory-frames", float, frames_help, metavar="FRAMES")


def _add_samples(group: argparse._ArgumentGroup) -> None:
    add = partial(add_argument, group)
    background_help = "Put this colour behind transparent pixels (default: the result is as transparent as the input)."
    add("--background", str, background_help, metavar="COLOUR")
    profile_help = "Convert results back to the colour profile of their input (default: results are sRGB)."
    add("--keep-profile", bool, profile_help)
    add("--bands", str, "Bands to take, such as 4,3,2 (default: as in training).", metavar="BANDS")
    nodata_help = "Value that marks holes, nan, or none for no holes (default: what each file names). Holes stay holes."
    add("--nodata", str, nodata_help, metavar="VALUE")
    add("--page", int, "Page to take of files with several, from 1 on; of a whole slide, the level.", metavar="N")
    pages_help = "Translate every page of a TIFF with several, into a TIFF of as many (default: one image)."
    add("--pages", ("all",), pages_help)


def _add_place(group: argparse._ArgumentGroup) -> None:
    add = partial(add_argument, group)
    window_help = "Translate only this part of each image: first column and row from 0 on, width and height in pixels."
    add("--window", int, window_help, nargs=4, metavar=("COL", "ROW", "WIDTH", "HEIGHT"))
    bounds_help = "The same by coordinates on the earth, and all pixels that they touch. Needs cyclegan[geo]."
    add("--bounds", float, bounds_help, nargs=4, metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"))
    crs_help = (
        "Coordinate system of --bounds, such as EPSG:4326 for longitudes and latitudes (default: each file's own)."
    )
    add("--bounds-crs", str, crs_help, metavar="CRS")
    cog_help = "Write TIFFs with overviews, as cloud-optimised GeoTIFFs. Needs cyclegan[geo]."
    group.add_argument("--cog", "--overviews", action="store_true", help=cog_help)


def _add_medicine(group: argparse._ArgumentGroup) -> None:
    add = partial(add_argument, group)
    mpp_help = (
        "Microns per pixel at which whole slides are read (default: as in training, else their level 0, the finest)."
    )
    add("--mpp", float, mpp_help, metavar="MICRONS")
    compression_help = (
        "Compression of an .ome.tif written in tiles; auto: JPEG for 8-bit results of slides, else lossless"
    )
    add("--compression", ("auto", "lossless", "jpeg"), compression_help, "auto")
    axis_help = "Slices that volumes are translated in (default: as in training, else axial)."
    add("--axis", ("axial", "coronal", "sagittal"), axis_help)
    patient_help = (
        "What DICOM files and volumes copy of the patient. none: only listed attributes, without names, dates and "
        "texts, and with new UIDs; keep: all"
    )
    add("--patient-data", ("none", "keep"), patient_help, "none")


def _add_arithmetic(group: argparse._ArgumentGroup) -> None:
    add = partial(add_argument, group)
    add("--weights", WEIGHTS, "Weights to use (default: those that the run was configured for).")
    engine_help = (
        "Engine; auto: torch, or where the work takes minutes the fastest that is installed; of an export its own"
    )
    add("--engine", ("auto", "torch", "onnxruntime", "openvino"), engine_help, "auto")
    ensemble_help = (
        "Average translations of the image mirrored (2 times the work), mirrored and moved by 2 pixels (4 times), or "
        "mirrored and turned in all ways (8 times; for images without an up)"
    )
    add("--self-ensemble", SELF_ENSEMBLES, ensemble_help, "none")
    precision_help = (
        "Arithmetic; auto: bf16 where the processor has it, the result is 8-bit and within 40 dB of fp32; else fp32"
    )
    add("--precision", ("auto", *PRECISIONS), precision_help, "auto")


class _Out(argparse.Action):
    """Sets `out`, a path, and `out_text`, which has the slash that a path loses."""

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, text: Any, _option: str | None = None
    ) -> None:
        try:
            namespace.out, namespace.out_text = home_path(text), text
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from None


def _batch_size(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number, or auto") from None


def _tile(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return text if text == "auto" else None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of pixels, auto or none")
    return int(text)


def run(parsed: argparse.Namespace) -> None:
    from cyclegan.cli.console_progress import ConsoleProgress

    streams = StreamNames()
    progress = ConsoleProgress(parsed.out, parsed.direction, streams)
    uses_streams = STREAM in (*parsed.paths, parsed.out)
    try:
        if parsed.ray is not None:
            is_complete = _translate_on_cluster(parsed, progress)
        else:
            with files_for_streams(parsed.paths, parsed.out, streams) as (paths, out):
                is_complete = _translate(parsed, paths, out, progress)
    except KeyboardInterrupt as stop:
        if uses_streams:  # what standard input was cannot be read again
            raise KeyboardInterrupt("Stopped.") from stop
        partial = progress.resumable
        kept = f"; the same command resumes {partial}" if partial else ", no partial file is left"
        raise KeyboardInterrupt(f"Stopped; images and clips that are done are kept{kept}.") from stop
    if not is_complete:
        raise SystemExit(1)


def _translate(parsed: argparse.Namespace, paths: list[Path], out: Path, progress: "ConsoleProgress") -> bool:
    """Returns whether everything could be translated."""
    from cyclegan.images.limits import pixel_limit
    from cyclegan.images.remote import check_local, local_copy
    from cyclegan.translate.engine_choice import choose_engine
    from cyclegan.translate.folder import translate_plan
    from cyclegan.translate.folder_name import check_folder_name
    from cyclegan.translate.inputs import leave_out_unusable
    from cyclegan.translate.plan import describe_other_files, input_suffixes
    from cyclegan.translate.translator import Translator
    from cyclegan.video import VIDEO_SUFFIXES, plan_translation

    options = _options(parsed)
    check_local("--out", out)
    check_folder_name(parsed.out_text, input_suffixes() + VIDEO_SUFFIXES)
    translator = Translator.load(
        parsed.run_directory,
        direction=parsed.direction,
        device=parsed.device,
        weights=parsed.weights,
        engine=parsed.engine,
        precision=parsed.precision,
    )
    paths = [local_copy(path, progress.note, suffixes=VIDEO_SUFFIXES) for path in paths]
    translator, options = options.apply(translator, progress.note)
    usable, unusable = leave_out_unusable(paths, out, input_suffixes() + VIDEO_SUFFIXES)
    images, clips = plan_translation(usable, out, translator, all_pages=parsed.pages is not None)
    if unusable:
        progress.skipped(unusable, len(paths))
    if other_files := describe_other_files(images, clips):
        progress.messages.warning(other_files)
    images = images[: parsed.max_images]
    if parsed.engine == "auto":
        translator = choose_engine(translator, images, options, on_note=progress.note)
    images, clips = options.take_shard(images), options.take_shard(clips)
    if parsed.out == STREAM and (len(images) != 1 or clips):
        raise InputError(f"--out - is one file, and the input is {len(images) + len(clips)}; give a folder.")
    for source, _ in clips:
        options.check_single(source)
    progress.note(f"Engine: {translator.engine}")
    is_only_input = len(images) + len(clips) == 1 and not unusable
    with pixel_limit(parsed.max_pixels):
        result = translate_plan(translator, images, options, progress, is_only_input=is_only_input)
    are_clips_complete = _translate_clips(translator, clips, options, progress, is_only_input=is_only_input)
    return are_clips_complete and not (unusable or result.skipped or result.damage)


def _translate_on_cluster(parsed: argparse.Namespace, progress: "ConsoleProgress") -> bool:
    """Returns whether everything could be translated."""
    from cyclegan.cluster import translate_on_cluster

    if STREAM in (*parsed.paths, parsed.out):
        raise InputError("--ray is for files, and - is a stream; leave out one of them.")
    result = translate_on_cluster(
        parsed.run_directory,
        parsed.paths,
        parsed.out_text,
        ray=parsed.ray,
        direction=parsed.direction,
        device=parsed.device,
        engine=parsed.engine,
        precision=parsed.precision,
        weights=parsed.weights,
        options=_options(parsed),
        cpus_per_actor=parsed.cpus_per_actor,
        gpus_per_actor=parsed.gpus_per_actor,
        max_images=parsed.max_images,
        max_pixels=parsed.max_pixels,
        progress=progress,
    )
    return not result.num_failed and not result.damage


def _options(parsed: argparse.Namespace) -> "TranslateOptions":
    """The options of a command. Raises InputError for values that cannot be used."""
    from cyclegan.system.arguments import check_int
    from cyclegan.translate.options import TranslateOptions

    check_ray(parsed)
    options = TranslateOptions(**{field.name: getattr(parsed, field.name) for field in fields(TranslateOptions)})
    options.check(lambda field: f"--{field.replace('_', '-')}")
    for name in ("max_images", "max_pixels"):
        if (value := getattr(parsed, name)) is not None:
            check_int(f"--{name.replace('_', '-')}", value, least=1)
    return options


def _translate_clips(
    translator: "Translator",
    clips: "TranslationPlan",
    options: "TranslateOptions",
    progress: "ConsoleProgress",
    *,
    is_only_input: bool,
) -> bool:
    """Returns whether all clips could be translated. is_only_input: the error of a clip is raised."""
    from cyclegan.system.atomic import is_place_lost

    is_complete = True
    for source, target in clips:
        if options.skip_existing and target.is_file() and target.stat().st_size:
            progress.note(f"{target} is there already.")
            continue
        try:
            is_complete &= _translate_clip(translator, source, target, options, progress)
        except (CycleganError, OSError) as error:  # one bad clip of several does not stop the others
            if is_only_input or is_place_lost(error, clips.out):
                raise
            progress.skipped([(source, not_written(target, error))], 1)
            is_complete = False
    return is_complete


def _translate_clip(
    translator: "Translator",
    source: Path,
    target: Path,
    options: "TranslateOptions",
    progress: "ConsoleProgress",
) -> bool:
    """Returns whether all of the clip could be translated."""
    from cyclegan.video import translate_video

    with progress.translating_frames(source) as on_frame:
        clip = translate_video(translator, source, target, on_frame=on_frame, **options.for_network)
    for note in (*clip.notes, *clip.damage):
        progress.messages.warning(note)
    say_result(f"{clip.num_frames} frames, {clip.seconds:.2f} s, translated into {target}")
    return not clip.damage
