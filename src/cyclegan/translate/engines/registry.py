"""The engines. A new engine is one row of `ENGINES`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor, nn

from cyclegan.errors import InputError
from cyclegan.system.devices import has_fast_bf16, resolve_device
from cyclegan.system.json_files import shown
from cyclegan.translate.engines import Engine, psnr, require, smooth_picture, with_openvino
from cyclegan.translate.engines.graphs import to_onnx, to_openvino
from cyclegan.translate.engines.with_onnxruntime import open_onnxruntime
from cyclegan.translate.engines.with_torch import open_torch

# Network, its channels, the multiple of its sizes, precision and device -> an engine.
OpenNetwork: TypeAlias = Callable[[nn.Module, int, int, str, torch.device], Engine]


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """One engine.

    open: make the engine of a network.
    precisions: what it computes with the weights of a run. int8 is calibrated on images, so it comes from an export.
    package: what must be installed. is_cpu_only: whether it computes on the CPU alone.
    can_compute: whether it computes in one of its precisions on this machine.
    """

    open: OpenNetwork
    precisions: tuple[str, ...]
    package: str
    is_cpu_only: bool = True
    can_compute: Callable[[str], bool] = lambda _: True


def _open_onnxruntime(network: nn.Module, channels: int, multiple: int, precision: str, _: torch.device) -> Engine:
    return open_onnxruntime(to_onnx(network, channels, multiple, precision).SerializeToString(), precision)


def _open_openvino(network: nn.Module, channels: int, multiple: int, precision: str, _: torch.device) -> Engine:
    with_openvino.check_precision(precision, "use fp32, or engine torch")  # before the conversion, which takes time
    return with_openvino.open_openvino(to_openvino(network, channels, multiple), precision)


ENGINES: dict[str, EngineInfo] = {
    "torch": EngineInfo(
        open=lambda network, _channels, _multiple, precision, device: open_torch(network, precision, device),
        precisions=("fp32", "fp16", "bf16"),
        package="torch",
        is_cpu_only=False,
    ),
    "onnxruntime": EngineInfo(open=_open_onnxruntime, precisions=("fp32", "fp16"), package="onnxruntime"),
    "openvino": EngineInfo(
        open=_open_openvino,
        precisions=("fp32", "fp16", "bf16"),
        package="openvino",
        can_compute=lambda precision: with_openvino.can_compute(precision),
    ),
}

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")

# `auto` takes bf16 only where it is this close to float32: less than two levels of 255, as a root mean square.
AUTO_DB = 40.0


def check_choice(engine: str, precision: str | None) -> None:
    """Raises InputError unless both are known names."""
    if not isinstance(engine, str) or engine not in ("auto", *ENGINES):
        raise InputError(f"engine is {shown(engine)}; expected {', '.join(('auto', *ENGINES))}.")
    if precision is not None and (not isinstance(precision, str) or precision not in PRECISIONS):
        raise InputError(f"precision is {shown(precision)}; expected {', '.join(PRECISIONS)}.")


def open_engine(
    network: nn.Module,
    channels: int,
    multiple: int,
    *,
    engine: str = "auto",
    precision: str | None = None,
    device: str = "auto",
    eight_bit: bool = True,
) -> Engine:
    """An engine that computes a network, (N, channels, H, W) with H and W multiples of `multiple`.

    engine: `auto` is torch, whatever is installed; `cyclegan.translate.engine_choice` chooses where the amount of work
    is known. precision: None is fp32; `auto` is bf16 where the processor has it, the result is 8-bit (`eight_bit`) and
    a test picture keeps AUTO_DB to float32, else fp32.
    Raises InputError if it is not installed, or cannot compute in this precision or on this device.
    """
    check_choice(engine, precision)
    name = "torch" if engine == "auto" else engine
    info = ENGINES[name]
    if info.is_cpu_only:
        if device not in ("auto", "cpu"):
            raise InputError(f"engine {name} computes on the CPU, and device is {device}; use engine torch for that.")
        require(info.package)
    place = torch.device("cpu") if info.is_cpu_only else resolve_device(device)
    wanted = precision or "fp32"

    def open_in(precision: str) -> Engine:
        return replace(info.open(network, channels, multiple, precision, place), original=network.to(place))

    if wanted == "auto":
        test_picture = smooth_picture(channels, -(-128 // multiple) * multiple)
        return _open_auto(info, open_in, test_picture, place, eight_bit)
    if wanted not in info.precisions:
        hint = f"choose {', '.join(info.precisions)}"
        if wanted == "int8":
            hint = "int8 is calibrated: cyclegan export --precision int8, and translate with the folder that it writes"
        raise InputError(f"engine {name} does not compute a run in {wanted}; {hint}.")
    if wanted != "fp32" and place.type == "mps":
        raise InputError(f"On mps only fp32 has been tried, and precision is {wanted}; use fp32 or --device cpu.")
    return open_in(wanted)


def _open_auto(
    info: EngineInfo, open_in: Callable[[str], Engine], test_picture: Tensor, device: torch.device, eight_bit: bool
) -> Engine:
    exact = open_in("fp32")
    if "bf16" not in info.precisions:
        return replace(exact, reason="this engine computes bf16 on no CPU")
    if not has_fast_bf16(device) or not info.can_compute("bf16"):
        return replace(exact, reason=f"this {device.type.upper()} has no arithmetic in bf16")
    if not eight_bit:
        return replace(exact, reason="the result has more than 8 bits, which bf16 would not keep")
    fast = open_in("bf16")
    test_picture = test_picture.to(device)
    with torch.inference_mode():
        decibels = psnr(exact(test_picture), fast(test_picture))
    if math.isnan(decibels):
        return replace(exact, reason="bf16 gives values that are not finite")
    if decibels < AUTO_DB:
        return replace(exact, reason=f"bf16 keeps only {decibels:.0f} dB of this model, less than {AUTO_DB:.0f}")
    return replace(fast, reason=f"built into this {device.type.upper()}; {decibels:.0f} dB to fp32 on a test picture")
