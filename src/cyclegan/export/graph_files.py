"""Graphs into files, with what a program must know of them inside."""

from pathlib import Path
from typing import Any

from cyclegan.translate.engines import require


def save_onnx(graph: Any, path: Path, about: dict[str, str]) -> None:
    """One file, weights and all."""
    require("onnx").helper.set_model_props(graph, {f"cyclegan.{key}": value for key, value in about.items()})
    path.write_bytes(graph.SerializeToString())


def save_openvino(model: Any, path: Path, about: dict[str, str], *, half: bool) -> None:
    """An .xml and a .bin; half: weights in fp16, which holds those of bf16, too."""
    for key, value in about.items():
        model.set_rt_info(value, ["cyclegan", key])
    require("openvino").save_model(model, path, compress_to_fp16=half)
