"""OpenVINO: its own graph on the CPU, with the precision forced that was asked for."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cyclegan.errors import InputError
from cyclegan.translate.engines import Engine, require

# What OpenVINO calls the type that it computes in. Left alone it takes bf16 wherever the chip has it, also for fp32.
# Of an int8 graph this is the type of what is not quantised.
HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "bf16"}


@cache
def openvino_core() -> Any:
    """The one openvino.Core of this process, with the plugin for CPUs loaded.

    With its plugin a core gives the thread a stack for signal handlers, and takes it away when it goes. Of several that
    go in another order than they came, one leaves the thread with a stack that is no longer there, and the next signal
    with a handler, such as the end of a child process, ends the process. So this one stays, below any that
    others make; make it before they do.
    """
    core = require("openvino").Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # a core without a plugin has no stack yet
    return core


def open_openvino(graph: Any, precision: str) -> Engine:
    """An openvino.Model, or the path of an .xml file. Uses as many threads as torch.

    Raises InputError if the file is damaged, or if OpenVINO would compute in another precision than this.
    """
    openvino = require("openvino")
    core = openvino_core()
    try:
        model = core.read_model(graph) if isinstance(graph, Path) else graph
        hint = HINTS[precision]
        if precision == "int8" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            hint = "f32"
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        where = graph if isinstance(graph, Path) else "The model"
        first = str(error).strip().splitlines()[-1]
        raise InputError(f"{where} is not a model that openvino {openvino.__version__} reads: {first}") from None
    taken = computes_in(compiled)
    if taken != hint:
        raise InputError(f"OpenVINO computes in {taken} on this CPU, and {precision} was asked for; use engine torch.")

    def compute(images: Tensor) -> Tensor:
        # A copy: the result lives in memory that the next call writes to.
        return torch.from_numpy(compiled(images.contiguous().numpy())[0].copy())

    return Engine("openvino", precision, torch.device("cpu"), compute)


def computes_in(compiled: Any) -> str:
    """The type that a compiled model computes in: f32, bf16 or f16."""
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
