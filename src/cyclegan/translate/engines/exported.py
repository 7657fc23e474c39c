"""Open the files of `cyclegan export`, as their config.json describes them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator

from cyclegan.config import MAX_SIDE, Config, Direction
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.formats import ImageFormat
from cyclegan.storage.model import ModelInfo
from cyclegan.system.devices import resolve_device
from cyclegan.system.json_files import read_json
from cyclegan.translate.engines import Engine
from cyclegan.translate.engines.registry import ENGINES, check_choice
from cyclegan.translate.engines.with_onnxruntime import open_onnxruntime
from cyclegan.translate.engines.with_openvino import open_openvino
from cyclegan.translate.engines.with_torch import open_exported_program


@dataclass(frozen=True)
class ExportFormat:
    """engine: what computes it. suffix: of its file. open: path, precision and device -> the engine of a file."""

    engine: str
    suffix: str
    open: Callable[[Path, str, torch.device], Engine]


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": ExportFormat("onnxruntime", ".onnx", lambda path, precision, _: open_onnxruntime(path, precision)),
    "web": ExportFormat("onnxruntime", ".onnx", lambda path, precision, _: open_onnxruntime(path, precision)),
    "openvino": ExportFormat("openvino", ".xml", lambda path, precision, _: open_openvino(path, precision)),
    "torch-export": ExportFormat("torch", ".pt2", open_exported_program),
}


class Side(Config):
    """One end of a network. Values of files, from low to high, become -1 to 1."""

    name: str = Field(max_length=1000)
    layout: Literal["NCHW"] = "NCHW"
    type: Literal["float32"] = "float32"
    range: tuple[float, float] = (-1.0, 1.0)
    image: ImageFormat


class Check(Config):
    """How far an exported network is from the one in torch and float32.

    sizes: N x H x W of the test images. images: what they show. decibels: PSNR of the worst; None if all are equal.
    """

    sizes: tuple[str, ...]
    images: str
    largest_difference: float
    decibels: float | None
    int8_layers: str | None = Field(None, description="which convolutions are in int8")


class Network(Config):
    """One direction: a file beside config.json."""

    file: str = Field(
        max_length=255, pattern=r"^[^/\\\x00]+\.[a-z0-9]+$", description="name of a file beside config.json"
    )
    input: Side
    output: Side
    check: Check


class ExportInfo(Config):
    """config.json of an export: everything that a program needs to run the files, independent of any library.

    Height and width of an input must be multiples of `multiple` and at least `smallest` pixels; the batch may have any
    size. Other sizes are padded by reflection at the right and bottom, and the result is cropped.
    """

    format_version: Literal[1] = 1
    export_format: Literal["onnx", "openvino", "torch-export", "web"]
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    multiple: int = Field(ge=1, le=MAX_SIDE)
    smallest: int = Field(ge=1, le=MAX_SIDE)
    networks: dict[Direction, Network] = Field(min_length=1)
    origin: ModelInfo

    @model_validator(mode="after")
    def _check(self) -> Self:
        for direction, network in self.networks.items():
            sides = zip(
                ("input", "output"), (network.input, network.output), self.origin.formats(direction), strict=True
            )
            for name, side, image in sides:
                if side.image != image:
                    raise ValueError(f"the {name} of {direction} is {side.image}, but its origin says {image}")
        return self


def find_export(path: Path) -> tuple[ExportInfo, Path, Direction | None] | None:
    """The export of a folder or of one of its files, the folder, and the direction for a file.

    None for anything else, such as a run. Raises InputError if config.json is missing or damaged.
    """
    is_file = path.suffix in (each.suffix for each in EXPORT_FORMATS.values()) and path.is_file()
    folder = path.parent if is_file else path
    config = folder / "config.json"
    try:
        if "export_format" not in read_json(config, dict[str, Any]):
            raise UnreadableError(f"{config} does not describe an export.")
    except UnreadableError as error:
        if is_file:
            raise InputError(f"{path} needs the config.json that was written beside it: {error}") from None
        return None
    try:
        info = read_json(config, ExportInfo)
    except UnreadableError as error:
        raise InputError(str(error)) from None
    if not is_file:
        return info, folder, None
    for direction, network in info.networks.items():
        if network.file == path.name:
            return info, folder, direction
    raise InputError(f"{folder / 'config.json'} does not name {path.name}; translate with the folder.")


def open_export(
    info: ExportInfo, folder: Path, direction: Direction, *, engine: str, precision: str | None, device: str
) -> Engine:
    """The engine of one direction. Raises InputError if the export is for another engine, precision or device."""
    check_choice(engine, precision)
    own_engine = EXPORT_FORMATS[info.export_format].engine
    if engine not in ("auto", own_engine):
        raise InputError(f"{folder} was exported for {own_engine}, and engine is {engine}; leave engine out.")
    if precision not in (None, "auto", info.precision):
        raise InputError(f"{folder} was exported in {info.precision}, and precision is {precision}; export it again.")
    if direction not in info.networks:
        raise InputError(f"{folder} has only the direction {next(iter(info.networks))}; pass that, not {direction}.")
    if ENGINES[own_engine].is_cpu_only and device not in ("auto", "cpu"):
        raise InputError(f"engine {own_engine} computes on the CPU, and device is {device}; leave device out.")
    path = folder / info.networks[direction].file
    if not path.is_file():
        raise InputError(f"{path} is missing; export it again.")
    opened = open_file(path, info.export_format, info.precision, device)
    described = info.networks[direction]
    sides = zip(("input", "output"), (described.input, described.output), opened.channels, strict=True)
    for name, side, count in sides:
        if count not in (None, side.image.channels):
            raise InputError(
                f"The {name} of {direction} in {folder / 'config.json'} has {side.image.channels} channels, "
                f"but {path.name} takes {count}."
            )
    return opened


def files_of_export(info: ExportInfo, folder: Path, direction: Direction) -> tuple[Path, ...]:
    """The files of one direction, config.json included."""
    path = folder / info.networks[direction].file
    weights = [path.with_suffix(".bin")] if info.export_format == "openvino" else []
    return (folder / "config.json", path, *weights)


def open_file(path: Path, export_format: str, precision: str, device: str = "cpu") -> Engine:
    """The engine of one exported file. device: ignored by engines that compute on the CPU."""
    info = EXPORT_FORMATS[export_format]
    place = torch.device("cpu") if ENGINES[info.engine].is_cpu_only else resolve_device(device)
    return info.open(path, precision, place)
