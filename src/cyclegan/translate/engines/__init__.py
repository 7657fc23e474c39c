"""What computes a translation: torch, ONNX Runtime or OpenVINO, in the precision that was asked for and no other."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from typing import Any, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from cyclegan.errors import InputError
from cyclegan.system.devices import has_fast_bf16, resolve_device, why_slow

EngineName: TypeAlias = Literal["auto", "torch", "onnxruntime", "openvino"]
Precision: TypeAlias = Literal["auto", "fp32", "fp16", "bf16", "int8"]

# What each engine computes with the weights of a run. int8 must be calibrated on images, so it comes from an export.
PRECISIONS: dict[str, tuple[str, ...]] = {
    "torch": ("fp32", "fp16", "bf16"),
    "onnxruntime": ("fp32", "fp16"),
    "openvino": ("fp32", "fp16", "bf16"),
}

# `auto` takes bf16 only where it is this close to float32: less than two levels of 255, as a root mean square.
AUTO_DB = 40.0


@dataclass(frozen=True)
class Engine:
    """(N, C, H, W) float32 in [-1, 1] of a size that the network takes -> the same of the other domain, float32.

    network: the torch module behind it, for whoever must reach into its layers; None where there is none. It takes and
    gives float32, whatever it computes in. original: the float32 generator on the same device, for tiles, which are
    exact whatever the engine; None where only an export is there. reason: why `auto` took this precision, or why it is
    slow on this device, in words.
    """

    name: str
    precision: str
    device: torch.device
    compute: Callable[[Tensor], Tensor]
    network: nn.Module | None = None
    original: nn.Module | None = None
    reason: str = ""

    def __call__(self, images: Tensor) -> Tensor:
        return self.compute(images)

    def __str__(self) -> str:
        package = "torch" if self.name == "torch" else self.name
        words = f"{self.name} {version(package).partition('+')[0]} on {self.device}, {self.precision}"
        return f"{words} ({self.reason})" if self.reason else words


def check_choice(engine: str, precision: str | None) -> None:
    """Raises InputError unless both are names that there are, and go together."""
    if engine not in get_args(EngineName):
        raise InputError(f"engine is {engine!r}; expected {', '.join(get_args(EngineName))}.")
    if precision is not None and precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}; expected {', '.join(get_args(Precision))}.")


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

    engine: `auto` is torch. The others are faster in some precisions and on some machines, but they must be installed,
    and what a command does must not depend on that. precision: None is fp32. `auto` is bf16 where the chip has it, the
    result is 8-bit (`eight_bit`) and a test picture keeps AUTO_DB to float32; else fp32.
    Raises InputError if it is not installed, or cannot compute in this precision or on this device.
    """
    check_choice(engine, precision)
    name = "torch" if engine == "auto" else engine
    if name != "torch":
        place = torch.device("cpu")
        if device not in ("auto", "cpu"):
            raise InputError(f"engine {name} computes on the CPU, and device is {device}; use engine torch for that.")
        require(name)
    else:
        place = resolve_device(device)
    wanted = precision or "fp32"
    if wanted == "auto":
        return _open_auto(name, network, channels, multiple, place, eight_bit)
    if wanted not in PRECISIONS[name]:
        hint = f"choose {', '.join(PRECISIONS[name])}"
        if wanted == "int8":
            hint = "int8 is calibrated: cyclegan export --precision int8, and translate with the folder that it writes"
        raise InputError(f"engine {name} does not compute a run in {wanted}; {hint}.")
    if wanted != "fp32" and place.type == "mps":
        raise InputError(f"On mps only fp32 has been tried, and precision is {wanted}; use fp32 or --device cpu.")
    opened = _open(name, network, channels, multiple, wanted, place)
    return replace(opened, reason=why_slow(wanted, place)) if name == "torch" else opened


def _open(name: str, network: nn.Module, channels: int, multiple: int, precision: str, place: torch.device) -> Engine:
    opened = _open_named(name, network, channels, multiple, precision, place)
    return replace(opened, original=network.to(place))


def _open_named(
    name: str, network: nn.Module, channels: int, multiple: int, precision: str, place: torch.device
) -> Engine:
    if name == "torch":
        from cyclegan.translate.engines.with_torch import open_torch

        return open_torch(network, precision, place)
    if name == "onnxruntime":
        from cyclegan.translate.engines.graphs import to_onnx
        from cyclegan.translate.engines.with_onnxruntime import open_onnxruntime

        graph = to_onnx(network, channels, multiple, precision)
        return open_onnxruntime(graph.SerializeToString(), precision)
    from cyclegan.translate.engines.graphs import to_openvino
    from cyclegan.translate.engines.with_openvino import check_precision, open_openvino

    check_precision(precision, "use fp32, or engine torch")  # before the graph is made
    return open_openvino(to_openvino(network, channels, multiple), precision)


def _open_auto(
    name: str, network: nn.Module, channels: int, multiple: int, place: torch.device, eight_bit: bool
) -> Engine:
    exact = _open(name, network, channels, multiple, "fp32", place)
    if "bf16" not in PRECISIONS[name]:
        return replace(exact, reason="this engine computes bf16 on no CPU")
    if not has_fast_bf16(place) or not _has_bf16(name):
        return replace(exact, reason=f"this {place.type.upper()} has no arithmetic in bf16")
    if not eight_bit:
        return replace(exact, reason="the result has more than 8 bits, which bf16 would not keep")
    small = _open(name, network, channels, multiple, "bf16", place)
    picture = smooth_picture(channels, -(-128 // multiple) * multiple).to(place)
    with torch.inference_mode():
        decibels = psnr(exact(picture), small(picture))
    if decibels < AUTO_DB:
        return replace(exact, reason=f"bf16 keeps only {decibels:.0f} dB of this model, less than {AUTO_DB:.0f}")
    return replace(small, reason=f"built into this {place.type.upper()}; {decibels:.0f} dB to fp32 on a test picture")


def _has_bf16(name: str) -> bool:
    """Whether an engine that knows bf16 computes in it on this machine."""
    if name != "openvino":
        return True
    from cyclegan.translate.engines.with_openvino import can_compute

    return can_compute("bf16")


def require(package: str, *others: str) -> Any:
    """Import an engine's package. Raises InputError with the line that installs it if it or one of `others` lacks."""
    extra = {"onnxruntime": "onnx", "onnx": "onnx", "onnxscript": "onnx"}.get(package, "openvino")
    # OpenVINO's tools report each use to their maker unless this package is absent. Ours tell nobody anything.
    sys.modules.setdefault("openvino_telemetry", cast(Any, None))
    for name in (*others, package):
        try:
            module = import_module(name)
        except ImportError:
            raise InputError(f"{name} is not installed; run pip install 'cyclegan[{extra}]'.") from None
    return module


def smooth_picture(channels: int, height: int, width: int | None = None, seed: int = 0) -> Tensor:
    """(1, channels, height, width) in [-1, 1]: coarse and fine noise together, which looks like no photo but has its
    spectrum. The same for each seed everywhere."""
    width = width or height
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, channels, height, width)
    for cells in (2, 4, 8, 16, 32):
        noise = torch.rand(1, channels, cells, cells, generator=generator) - 0.5
        picture += nn.functional.interpolate(noise, (height, width), mode="bilinear", align_corners=False) * 4 / cells
    return (picture + 0.1 * (torch.rand(picture.shape, generator=generator) - 0.5)).clamp_(-1, 1)


def psnr(exact: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in [-1, 1], so with a peak of 2; infinite if they are equal."""
    error = float((exact.float() - other.float()).square().mean())
    return float("inf") if error == 0 else float(10 * torch.tensor(4 / error, dtype=torch.float64).log10())
