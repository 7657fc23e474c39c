"""OpenVINO: its own graph on the CPU, with the requested precision forced."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclegan.errors import InputError
from cyclegan.system.json_files import cut
from cyclegan.translate.engines import Engine, require

# OpenVINO's name of the type that it computes in. By default it takes bf16 wherever the processor has it, for fp32 too.
# `open_openvino` chooses that of an int8 graph, whose other layers are in bf16 or float32.
HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}

# CPU features that a precision needs, as lscpu shows them.
_NEEDS = {"bf16": "avx512_bf16 or amx_bf16", "fp16": "amx_fp16"}


@cache
def openvino_core() -> Any:
    """The one openvino.Core of this process, with the CPU plugin loaded. Call this before others create a core.

    With its plugin a core installs an alternate stack for signal handlers, and removes it when it is deleted. If
    several cores are deleted out of order, the thread is left with a stack that no longer exists, and the next handled
    signal, such as the end of a child process, crashes the process. So this core is created first and never deleted.
    """
    core = require("openvino").Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # a core without a plugin has no stack yet
    return core


@cache
def can_compute(precision: str) -> bool:
    """Whether OpenVINO computes in this precision on this CPU. If not, it silently uses another one."""
    if precision in ("fp32", "int8"):
        return True
    openvino, core = require("openvino"), openvino_core()
    x = openvino.opset13.parameter([1], openvino.Type.f32)
    model = openvino.Model([openvino.opset13.relu(x)], [x], "probe")
    settings = {"INFERENCE_PRECISION_HINT": HINTS[precision]}
    return computes_in(core.compile_model(model, "CPU", settings)) == HINTS[precision]


def check_precision(precision: str, remedy: str) -> None:
    """Raises InputError, which ends with the remedy, if OpenVINO cannot compute in this precision on this CPU."""
    if not can_compute(precision):
        raise InputError(
            f"OpenVINO cannot compute in {precision} on this CPU, which has no {precision} arithmetic "
            f"({_NEEDS[precision]} on x86); {remedy}."
        )


def open_openvino(graph: Any, precision: str) -> Engine:
    """The engine of an openvino.Model, or of the path of an .xml file, with as many threads as torch.

    Raises InputError if the file is damaged, or if OpenVINO would compute in another precision.
    """
    openvino = require("openvino")
    core = openvino_core()
    remedy = "export it in fp32" if isinstance(graph, Path) else "use fp32, or engine torch"
    check_precision(precision, remedy)
    hint = HINTS["bf16" if can_compute("bf16") else "fp32"] if precision == "int8" else HINTS[precision]
    try:
        model = core.read_model(graph) if isinstance(graph, Path) else graph
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        where = graph if isinstance(graph, Path) else "The model"
        first = cut((str(error).strip().splitlines() or ["it is empty"])[-1], 250)
        raise InputError(f"{where} is not a model that openvino {openvino.__version__} reads: {first}") from None
    taken = computes_in(compiled)
    if taken != hint:
        raise InputError(f"OpenVINO computes in {taken} on this CPU, and {precision} was asked for; {remedy}.")

    def compute(images: Tensor) -> Tensor:
        # A copy, because the next call overwrites the memory of the result.
        return torch.from_numpy(compiled(images.contiguous().numpy())[0].copy())

    source, target = (_channels(end) for end in (model.input(0), model.output(0)))
    return Engine("openvino", precision, torch.device("cpu"), compute, channels=(source, target))


def _channels(end: Any) -> int | None:
    """The channels of the input or output of a model, if they are fixed."""
    shape = end.get_partial_shape()
    is_known = shape.rank.is_static and shape.rank.get_length() == 4 and shape[1].is_static
    return int(shape[1].get_length()) if is_known else None


def computes_in(compiled: Any) -> str:
    """The type that a compiled model computes in: f32, bf16 or f16."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
