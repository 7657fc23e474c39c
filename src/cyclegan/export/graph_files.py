"""Write graphs to files, with the metadata that other programs need."""

from pathlib import Path
from typing import Any

from cyclegan.translate.engines import require


def save_onnx(graph: Any, path: Path, about: dict[str, str]) -> None:
    """Write one file that includes the weights."""
    require("onnx").helper.set_model_props(graph, {f"cyclegan.{key}": value for key, value in about.items()})
    path.write_bytes(graph.SerializeToString())


def save_openvino(model: Any, path: Path, about: dict[str, str], *, half: bool) -> None:
    """Write an .xml and a .bin. half: store weights in fp16, also those of bf16."""
    for key, value in about.items():
        model.set_rt_info(value, ["cyclegan", key])
    require("openvino").save_model(model, path, compress_to_fp16=half)
