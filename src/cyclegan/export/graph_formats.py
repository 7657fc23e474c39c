"""Export ONNX, OpenVINO and torch-export: a graph for each direction, compared with torch, and config.json."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cyclegan._version import __version__
from cyclegan.config import Direction
from cyclegan.data.domains import find_folders, holds_domains
from cyclegan.errors import InputError
from cyclegan.export.int8 import INT8_LAYERS, Images, quantise_onnx, quantise_openvino, read_images
from cyclegan.images.pages import is_folder
from cyclegan.images.tensors import pad_to_multiple
from cyclegan.storage.model import ModelInfo, load_generator, read_info
from cyclegan.storage.run import read_run_config, run_of
from cyclegan.system.atomic import atomic_path
from cyclegan.system.devices import has_fast_bf16, why_slow
from cyclegan.translate.engines import psnr, require, smooth_picture
from cyclegan.translate.engines.exported import EXPORT_FORMATS, Check, ExportInfo, Network, Side, open_file
from cyclegan.translate.engines.graphs import (
    INPUT,
    OUTPUT,
    save_onnx,
    save_openvino,
    to_exported_program,
    to_onnx,
    to_openvino,
    with_half_weights,
)
from cyclegan.translate.engines.with_openvino import check_precision

PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torch-export": ("fp32", "fp16", "bf16"),
    # Browsers compute in fp32: fp16 is how weights are stored.
    "web": ("fp32", "fp16", "int8"),
}

_INSTEAD = {
    ("onnx", "bf16"): "few runtimes of ONNX compute bf16; take --precision fp16, or --format openvino",
    ("web", "bf16"): "browsers compute in fp32; take --precision fp16, which stores weights in half the size",
    ("torch-export", "int8"): "torch-export has no int8 here; take --format openvino or onnx",
}

# Least agreement of a graph with torch in float32, in dB with a peak of 2. A right graph in these precisions is tens of
# dB better; a wrong one (another padding, another norm) is below 20.
LEAST_DB = {"fp32": 80.0, "fp16": 40.0, "bf16": 30.0, "int8": 20.0}
GOOD_INT8_DB = 30.0


def _calibration_images(path: Path, folder: Path | None, info: ModelInfo, direction: Direction) -> Images:
    """The images that calibrate int8: those of `folder`, or else those that the run of `path` was trained on.

    Raises InputError if there are none.
    """
    folders = None
    if folder is None:
        run = run_of(path)
        config = None if run is None else read_run_config(run)
        try:
            if config is None or config.a is None:
                raise InputError(f"{path} names no training folder")
            folders = find_folders(config.a, config.b)
        except InputError as error:
            reason = str(error).rstrip(".")
            raise InputError(f"int8 needs images to be calibrated on: {reason}; give --calibrate FOLDER.") from None
    elif holds_domains(folder):
        folders = find_folders(folder)
    if folders is not None:
        folder = folders.a if direction == "a2b" else folders.b
    assert folder is not None
    return read_images(folder, info.formats(direction)[0], info.model.multiple, info.model.smallest_side)


def export_graphs(
    model: Path,
    out: Path,
    format: str,
    directions: Sequence[Direction],
    weights: str | None,
    precision: str,
    path: Path,
    calibrate: Path | None,
    say: Callable[[str], None],
) -> tuple[list[Path], list[str]]:
    """`cyclegan.export.export_model` for the formats of PRECISIONS. path: what the model belongs to."""
    if precision not in PRECISIONS[format]:
        raise InputError(f"--format {format} does not go with --precision {precision}: {_INSTEAD[format, precision]}.")
    if format in ("onnx", "web"):
        require("onnxruntime", "onnx", "onnxscript")
    elif format == "openvino":
        require("openvino", *(["nncf"] if precision == "int8" else []))
        # A graph that cannot be compared with torch here is not written.
        check_precision(
            precision, "use --precision fp32, or export on a CPU that has it, where the graph can be checked"
        )
    info = read_info(model)
    if calibrate is not None and not is_folder(calibrate):
        raise InputError(f"There is no folder {calibrate}; expected images for --calibrate.")
    if calibrate is not None and len(directions) == 2 and not holds_domains(calibrate):
        raise InputError(
            f"{calibrate} holds images of one domain, and two directions were asked for; "
            "give --direction, or a folder that holds trainA and trainB."
        )
    names = [f"{direction}{EXPORT_FORMATS[format].suffix}" for direction in directions]
    extra = [f"{direction}.bin" for direction in directions] if format == "openvino" else []
    wanted = [*names, *extra, "config.json"]
    for name in wanted:
        if (out / name).exists():
            raise InputError(f"{out / name} already exists; remove it or choose another --out.")
    slow = why_slow(precision, torch.device("cpu")) if format == "torch-export" else ""
    if slow:
        say(
            f"Each graph is checked on this CPU, which can take minutes in {precision}: {slow}. "
            "To translate on such a CPU, use --precision fp32."
        )
    notes: list[str] = []
    with atomic_path(out, merge=True) as folder:
        folder.mkdir()
        networks: dict[Direction, Network] = {}
        for direction, name in zip(directions, names, strict=True):
            network, _ = load_generator(model, direction, weights)
            images = _calibration_images(path, calibrate, info, direction) if precision == "int8" else None
            networks[direction] = _export_one(network, info, direction, folder / name, format, precision, images)
            notes.append(_words(direction, networks[direction].check, precision))
        description = ExportInfo(
            export_format=format,
            precision=precision,
            multiple=info.model.multiple,
            smallest=info.model.smallest_side,
            networks=networks,
            origin=info,
        )
        (folder / "config.json").write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return [out / name for name in wanted], notes


def _export_one(
    network: nn.Module,
    info: ModelInfo,
    direction: Direction,
    path: Path,
    format: str,
    precision: str,
    images: Images | None,
) -> Network:
    """Write one direction, for int8 with these images, and compare it with torch."""
    source, target = info.formats(direction)
    multiple, smallest = info.model.multiple, info.model.smallest_side
    sides = Side(name=INPUT, image=source), Side(name=OUTPUT, image=target)
    about = {
        "cyclegan_version": __version__,
        "direction": direction,
        "precision": precision,
        "multiple": str(multiple),
        "smallest": str(smallest),
        "preprocess": info.preprocess,
        "input": sides[0].model_dump_json(),
        "output": sides[1].model_dump_json(),
    }
    if images is not None:
        quantise = quantise_openvino if format == "openvino" else quantise_onnx
        quantise(network, images, source.channels, multiple, path, about)
        pictures, what = list(images.held_out), f"{len(images.held_out)} images that it was not calibrated on"
    else:
        _write(network, source.channels, multiple, path, format, precision, about)
        pictures, what = _test_pictures(source.channels, multiple), "test pictures"
    engine = open_file(path, format, precision)
    sizes, decibels, largest = [], [], 0.0
    with torch.inference_mode():
        for picture in pictures:
            height, width = picture.shape[-2:]
            padded = pad_to_multiple(picture, multiple, smallest)
            exact, other = (each(padded)[..., :height, :width] for each in (network, engine))
            if not bool(torch.isfinite(exact).all()):
                raise InputError(f"The network of {direction} gives NaN or infinity; use another checkpoint.")
            if not bool(torch.isfinite(other).all()):
                raise InputError(f"The {format} graph of {direction} gives no numbers in {precision}; take fp32.")
            sizes.append(f"{len(picture)}x{height}x{width}")
            decibels.append(psnr(exact, other))
            largest = max(largest, float((exact - other).abs().max()))
    worst = min(decibels)
    if worst < LEAST_DB[precision]:
        raise InputError(
            f"The {format} graph of {direction} in {precision} is only within {worst:.1f} dB of torch at "
            f"{sizes[decibels.index(worst)]}, and {LEAST_DB[precision]:.0f} dB is expected; take a higher --precision."
        )
    check = Check(
        sizes=tuple(dict.fromkeys(sizes)),
        images=what,
        largest_difference=largest,
        decibels=None if worst == float("inf") else round(worst, 2),
        int8_layers=INT8_LAYERS if images is not None else None,
    )
    return Network(file=path.name, input=sides[0], output=sides[1], check=check)


def _test_pictures(channels: int, multiple: int) -> list[Tensor]:
    """Batches of one to three images: square, oblong, and of sizes that need padding."""
    side = max(32, multiple)
    sizes = [(1, side, side), (2, side + 1, 2 * side - 3), (3, 2 * side - 1, side - 5), (1, multiple, 3 * side)]
    return [
        torch.cat([smooth_picture(channels, height, width, seed=seed) for seed in range(count)])
        for count, height, width in sizes
    ]


def _write(
    network: nn.Module, channels: int, multiple: int, path: Path, format: str, precision: str, about: dict[str, str]
) -> None:
    if format == "web":
        graph = to_onnx(network, channels, multiple, "fp32")
        save_onnx(with_half_weights(graph) if precision == "fp16" else graph, path, about)
    elif format == "onnx":
        save_onnx(to_onnx(network, channels, multiple, precision), path, about)
    elif format == "openvino":
        save_openvino(to_openvino(network, channels, multiple), path, about, half=precision != "fp32")
    else:
        program = to_exported_program(network, channels, multiple, precision)
        content = io.BytesIO()  # on a full disk, torch's own writer ends the process
        torch.export.save(program, content, extra_files={"cyclegan.json": json.dumps(about)})
        path.write_bytes(content.getbuffer())


def _words(direction: str, check: Check, precision: str) -> str:
    near = "no difference" if check.decibels is None else f"{check.decibels:.1f} dB"
    line = (
        f"{direction}: {near} to torch in fp32, largest difference {check.largest_difference:.2g} in [-1, 1], on "
        f"{check.images} of {', '.join(check.sizes)}."
    )
    if check.int8_layers:
        line += f" In int8: {check.int8_layers}."
    if precision == "int8" and check.decibels is not None and check.decibels < GOOD_INT8_DB:
        closer = "--format openvino --precision bf16" if has_fast_bf16(torch.device("cpu")) else "--precision fp32"
        line += f" Less than {GOOD_INT8_DB:.0f} dB shows; {closer} is closer."
    return line
