"""Convert a network to the graphs of other programs, with dynamic batch, height and width, and save them."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cyclegan.networks.layers import DTYPES
from cyclegan.translate.engines import require
from cyclegan.translate.engines.with_torch import SixteenBit

# Names of a graph's input and output.
INPUT, OUTPUT = "image", "translation"

# Supported by runtimes since 2022, and has all operations that the networks need.
OPSET = 18


def to_exported_program(
    network: nn.Module, channels: int, multiple: int, precision: str
) -> torch.export.ExportedProgram:
    """A program in fp32, fp16 or bf16, float32 in and out: (N, channels, H, W), H and W multiples of `multiple`."""
    if precision != "fp32":
        network = SixteenBit(network, DTYPES[precision], for_export=True)
    # Two images, because torch.export takes a batch of one for a fixed size. It also needs a largest side.
    example = torch.zeros(2, channels, 16 * multiple if multiple < 16 else 2 * multiple, 3 * max(16, multiple))
    most = (1 << 20) // multiple
    sides = [multiple * torch.export.Dim(name, min=2 if multiple < 8 else 1, max=most) for name in ("rows", "columns")]
    sizes = {0: torch.export.Dim("batch", min=1, max=1 << 16), 2: sides[0], 3: sides[1]}
    with quiet():
        return torch.export.export(network.eval(), (example,), dynamic_shapes=(sizes,), strict=False)


def to_onnx(network: nn.Module, channels: int, multiple: int, precision: str) -> Any:
    """An onnx.ModelProto in fp32 or fp16, float32 in and out. Raises InputError if a package is missing."""
    require("onnx", "onnxscript")
    if precision != "fp32":
        network = SixteenBit(network, DTYPES[precision], for_export=True)
    side = 2 * max(16, multiple)
    sizes = {0: "batch", 2: "height", 3: "width"}
    with quiet():
        program = torch.onnx.export(
            network.eval(),
            (torch.zeros(2, channels, side, side + max(8, multiple)),),
            dynamo=True,
            dynamic_shapes=(sizes,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def to_openvino(network: nn.Module, channels: int, multiple: int) -> Any:
    """An openvino.Model in float32, directly from torch, because ONNX would split its norms into many operations."""
    openvino = require("openvino")
    with quiet():
        model = openvino.convert_model(
            network.eval(),
            example_input=torch.zeros(2, channels, max(64, multiple), 2 * max(64, multiple)),
            input=[("x", [-1, channels, -1, -1])],
        )
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    return model


# Smaller tensors, such as biases, stay as they are: nothing would be saved.
_FEWEST_HALVED = 256


def with_half_weights(graph: Any) -> Any:
    """The onnx.ModelProto with its weights stored in fp16, half the size, and cast to float32 when it is loaded.

    It computes in float32, which every runtime can. Weights beyond the range of fp16 stay as they are.
    """
    onnx = require("onnx")
    halved = onnx.ModelProto.FromString(graph.SerializeToString())
    weights, casts = [], []
    most = np.finfo(np.float16).max
    for tensor in halved.graph.initializer:
        values, name = onnx.numpy_helper.to_array(tensor), f"{tensor.name}.fp16"
        if values.dtype != np.float32 or values.size < _FEWEST_HALVED or np.abs(values).max() > most:
            weights.append(tensor)
            continue
        weights.append(onnx.numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(onnx.helper.make_node("Cast", [name], [tensor.name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    halved.graph.ClearField("initializer")
    halved.graph.initializer.extend(weights)
    halved.graph.ClearField("node")
    halved.graph.node.extend(nodes)
    return halved


def save_onnx(graph: Any, path: Path, about: dict[str, str]) -> None:
    """Write one file that includes the weights."""
    require("onnx").helper.set_model_props(graph, {f"cyclegan.{key}": value for key, value in about.items()})
    path.write_bytes(graph.SerializeToString())


def save_openvino(model: Any, path: Path, about: dict[str, str], *, half: bool) -> None:
    """Write an .xml and a .bin. half: store weights in fp16, also those of bf16."""
    for key, value in about.items():
        model.set_rt_info(value, ["cyclegan", key])
    openvino = require("openvino")
    try:
        openvino.save_model(model, path, compress_to_fp16=half)
        openvino.Core().read_model(path)  # on a full disk it may write too little without an error
    except RuntimeError as error:
        _raise_disk_error(path, path.with_suffix(".bin"))
        raise OSError(f"{path} could not be written by OpenVINO: {error}") from error


def _raise_disk_error(*paths: Path) -> None:
    """Raise the OSError that kept a library from writing these files, if there is one, by writing more than it did."""
    written = sum(path.stat().st_size for path in paths if path.exists())
    for path in paths:
        path.unlink(missing_ok=True)
    with paths[0].open("wb") as file:
        for _ in range(written // 2**20 + 2):
            file.write(bytes(2**20))
        file.flush()
        os.fsync(file.fileno())
    paths[0].unlink()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters, which log a lot, also about packages that are not needed."""
    loggers = [
        logging.getLogger(None if name == "root" else name)
        for name in ("torch.onnx", "torch.export", "onnxscript", "nncf", "onnx_ir", "root")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
