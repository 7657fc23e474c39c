"""Export a model directory with one set of weights, for any release that knows the architecture."""

from pathlib import Path

import torch
from torch import Tensor

from cyclegan.config import Direction
from cyclegan.errors import InputError
from cyclegan.storage.model import read_info, read_weights, save_model
from cyclegan.system.atomic import check_free


def export_directory(
    model: Path, out: Path, directions: tuple[Direction, ...], weights: str | None, precision: str
) -> tuple[list[Path], list[str]]:
    """Write config.json, a2b.safetensors and b2a.safetensors with the chosen weights; fp16 has half the size.

    The precision of a translator does not depend on the files.
    """
    if precision not in ("fp32", "fp16"):
        raise InputError(f"A model directory is fp32 or fp16, and precision is {precision}; choose one of them.")
    check_free(out)
    info = read_info(model)
    chosen = weights or info.translate_with
    dtype = torch.float16 if precision == "fp16" else torch.float32
    states: dict[str, dict[str, Tensor]] = {
        direction: {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in read_weights(model, direction, chosen).items()
        }
        for direction in directions
    }
    save_model(out, info.replace(directions=directions, averages=False, translate_with="final"), states)
    files = [out / "config.json", *(out / f"{direction}.safetensors" for direction in directions)]
    return files, [f"Weights: {chosen}, {precision}."]
