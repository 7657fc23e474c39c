"""Graphs in int8, with ranges of activations measured on images.

Only convolutions are in int8. Inputs of norms are not: their channels differ by orders of magnitude, so one scale for
all of them loses the small ones, which the norm then amplifies. Nor are the sums of residual blocks, which would carry
every error to the end.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from cyclegan.errors import InputError, MissingPackageError, UnreadableError
from cyclegan.images.codecs import read_as
from cyclegan.images.file_list import evenly_spaced, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import pad_to_multiple, to_tensor
from cyclegan.translate.engines import require
from cyclegan.translate.engines.graphs import INPUT, quiet, save_onnx, save_openvino, to_onnx, to_openvino
from cyclegan.translate.engines.with_openvino import openvino_core

NUM_CALIBRATION = 24
NUM_HELD_OUT = 6
# Larger images are cropped to this: the ranges are the same, and it saves memory and time.
MOST_PIXELS = 256

INT8_LAYERS = "all convolutions but the last"


@dataclass(frozen=True)
class Images:
    """(1, C, H, W) in [-1, 1]. calibration: of sizes that the network takes. held_out: others, also of odd sizes."""

    calibration: tuple[Tensor, ...]
    held_out: tuple[Tensor, ...]


def read_images(folder: Path, image_format: ImageFormat, multiple: int, smallest: int) -> Images:
    """Evenly spaced images of a folder. Raises InputError if fewer than two can be used."""
    most = max(MOST_PIXELS, multiple)
    tensors: list[Tensor] = []
    reason = ""
    for path in evenly_spaced(list_images(folder, image_format.axis), NUM_CALIBRATION + NUM_HELD_OUT):
        try:
            tensor = to_tensor(read_as(path, image_format), image_format)
        except MissingPackageError:
            raise
        except (InputError, UnreadableError) as error:  # training passes over such files, too
            reason = f" (the last error: {error})"
            continue
        top, left = (max(0, side - most) // 2 for side in tensor.shape[-2:])
        tensors.append(tensor[None, :, top : top + most, left : left + most])
    if len(tensors) < 2:
        count = f"{len(tensors)} images that can be used{reason}"
        raise InputError(f"{folder} holds {count}; int8 needs at least 2, better 30.")
    every = max(2, len(tensors) // NUM_HELD_OUT)
    held_out = tensors[every - 1 :: every][:NUM_HELD_OUT]
    others = [tensor for tensor in tensors if not any(tensor is held for held in held_out)]
    # Every other one loses a few rows and columns, so that the check includes sizes that need padding.
    odd = [
        tensor[..., : tensor.shape[-2] - 3 * (i % 2) or None, : tensor.shape[-1] - 5 * (i % 2) or None]
        if min(tensor.shape[-2:]) > 16
        else tensor
        for i, tensor in enumerate(held_out)
    ]
    return Images(tuple(pad_to_multiple(tensor, multiple, smallest) for tensor in others), tuple(odd))


def quantise_openvino(
    network: nn.Module, images: Images, channels: int, multiple: int, path: Path, about: dict[str, str]
) -> None:
    """Write an int8 graph of OpenVINO."""
    nncf = require("nncf")
    openvino_core()  # before those that nncf makes
    model = to_openvino(network, channels, multiple)
    kinds = ("Convolution", "ConvolutionBackpropData")
    convolutions = [op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() in kinds]
    with quiet():
        nncf.set_log_level(40)
        quantised = nncf.quantize(
            model,
            nncf.Dataset([{INPUT: image.numpy()} for image in images.calibration]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images.calibration),
            ignored_scope=nncf.IgnoredScope(names=convolutions[-1:], types=["Add", "MVN"], validate=False),
        )
    save_openvino(quantised, path, about, half=False)


def quantise_onnx(
    network: nn.Module, images: Images, channels: int, multiple: int, path: Path, about: dict[str, str]
) -> None:
    """Write an int8 graph of ONNX (QuantizeLinear, DequantizeLinear)."""
    onnx, _ = require("onnx"), require("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    graph = to_onnx(network, channels, multiple, "fp32")
    convolutions = [node.name for node in graph.graph.node if node.op_type in ("Conv", "ConvTranspose")]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images: Iterator[Tensor] = iter(images.calibration)

        def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT: image.numpy()}

    with tempfile.TemporaryDirectory(dir=path.parent) as place, quiet():
        target = Path(place) / "int8.onnx"
        quantize_static(
            graph,
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "ConvTranspose"],
            nodes_to_quantize=convolutions[:-1],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # The result of a convolution goes into a norm: see above.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Conv", "ConvTranspose"]},
        )
        save_onnx(onnx.load(str(target)), path, about)
