"""ONNX Runtime: an ONNX graph on the CPU."""

from pathlib import Path

import torch
from torch import Tensor

from cyclegan.errors import InputError
from cyclegan.system.json_files import cut
from cyclegan.translate.engines import Engine, require
from cyclegan.translate.engines.graphs import INPUT, OUTPUT


def open_onnxruntime(graph: bytes | Path, precision: str) -> Engine:
    """The engine of an ONNX file, or of its content, with as many threads as torch. Raises InputError for damage."""
    runtime = require("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(
            graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # it has its own type for each cause
        where = graph if isinstance(graph, Path) else "The graph"
        reason = cut(" ".join(str(error).split()), 250)
        raise InputError(f"{where} is not a model that onnxruntime {runtime.__version__} reads: {reason}") from None
    ends = (session.get_inputs(), session.get_outputs())
    if [end.name for side in ends for end in side] != [INPUT, OUTPUT]:
        raise InputError(f"{graph if isinstance(graph, Path) else 'The graph'} is not a graph of cyclegan export.")
    channels = [side[0].shape[1] if len(side[0].shape) == 4 else None for side in ends]
    source, target = (count if isinstance(count, int) else None for count in channels)

    def compute(images: Tensor) -> Tensor:
        (result,) = session.run([OUTPUT], {INPUT: images.contiguous().numpy()})
        return torch.from_numpy(result)

    return Engine("onnxruntime", precision, torch.device("cpu"), compute, channels=(source, target))
