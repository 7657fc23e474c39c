"""Resolve `precision = auto`: time both precisions for a few seconds on this CPU, and remember the result."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from cyclegan.config import TrainConfig
from cyclegan.networks import build_generator
from cyclegan.step.execution import prepare
from cyclegan.system.devices import has_fast_bf16, why_slow
from cyclegan.system.trials import recall, remember, trial_file, trial_key

# Shorter runs end before a trial has saved its own time.
FEWEST_STEPS, FEWEST_MINUTES = 200, 1.0

# Timed rounds. The best time counts, because other programs only ever add to it.
_ROUNDS = 3


@dataclass(frozen=True)
class Choice:
    """The precision of a run, fp32, bf16 or fp16, and the reason for it."""

    precision: Annotated[str, Field(pattern="^(fp32|bf16|fp16)$")]
    reason: str


def resolve_precision(
    config: TrainConfig, device: torch.device, cache: Path | None = None, began_with: str | None = None
) -> Choice:
    """Choose the precision of a run; `precision = auto` becomes the fastest on this device.

    cache: the file of earlier trials; default: tuning.json in the user's cache folder.
    began_with: the precision of a run that is resumed, which is kept if the device supports it.
    """
    if config.precision != "auto":
        slow = why_slow(config.precision, device)
        return Choice(config.precision, f"as requested; {slow}" if slow else "as requested")
    if began_with is not None:
        supported = {"fp32": True, "bf16": has_fast_bf16(device), "fp16": device.type == "cuda"}
        if supported[began_with]:
            return Choice(began_with, "as in the first session of this run")
    if device.type == "cuda":
        # The tensor cores of older GPUs have fp16 but no bf16.
        tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
        precision = "bf16" if has_fast_bf16(device) else "fp16" if tensor_cores else "fp32"
        return Choice(precision, "the fastest that this GPU has")
    if device.type != "cpu":
        return Choice("fp32", f"the safe choice on {device.type}")
    if not has_fast_bf16(device):
        return Choice("fp32", "this CPU has no bf16 arithmetic")
    is_short = (config.steps is not None and config.steps < FEWEST_STEPS) or (
        config.minutes is not None and config.minutes < FEWEST_MINUTES
    )
    if is_short:
        return Choice("bf16", "this CPU has bf16 arithmetic, and the run is too short for a trial")

    cache, key = cache or trial_file("tuning.json"), _key(config)
    choice = recall(cache, key, _CHOICE)
    if choice is None:
        choice = _try(config)
        remember(cache, key, choice, _CHOICE)
    return choice


def _try(config: TrainConfig) -> Choice:
    """Time forward and backward passes of a short generator in both precisions."""
    # All residual blocks are alike, so one is enough.
    model = config.model.replace(blocks=min(config.model.blocks, 1))
    multiple = model.multiple
    size = -(-max(config.data.crop_size, model.smallest_crop) // multiple) * multiple
    images = torch.zeros(config.batch_size, model.channels_a, size, size).uniform_()
    candidates: dict[str, Callable[[], None]] = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        network = build_generator(model, model.channels_a, model.channels_b, seed=0).to(dtype)
        candidates[precision] = partial(_forward_backward, network, prepare(images, precision))
    seconds = _time(candidates)
    times = " and ".join(f"{1000 * value:.0f} ms in {name}" for name, value in seconds.items())
    return Choice(min(seconds, key=seconds.__getitem__), f"a short generator takes {times} on this CPU")


def _forward_backward(network: nn.Module, images: Tensor) -> None:
    torch.autograd.backward(network(images).abs().mean())


def _time(candidates: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds of a call of each, after one call to warm up."""
    best = dict.fromkeys(candidates, float("inf"))
    for round_ in range(_ROUNDS + 1):
        for name, work in candidates.items():
            started = time.perf_counter()
            work()
            if round_ > 0:
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def _key(config: TrainConfig) -> str:
    """Everything that a trial depends on: the machine, torch, its threads, the networks and the shapes."""
    model = config.model
    settings = " ".join(f"{name}={value}" for name, value in model.generator_settings.items() if name != "blocks")
    kind = f"{model.generator} {model.channels_a}-{model.channels_b} {settings}"
    shape = f"{kind} {config.data.crop_size}px x{config.batch_size}"
    return trial_key(f"{shape} {config.precision}")


_CHOICE = TypeAdapter(Choice)
