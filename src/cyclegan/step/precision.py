"""What is fastest on this machine: asked of the machine itself in a trial of seconds, and remembered."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cyclegan.config import TrainConfig
from cyclegan.networks import build_generator
from cyclegan.step.update import prepare
from cyclegan.system.atomic import write_bytes
from cyclegan.system.devices import has_fast_bf16, why_slow

# Shorter runs are over before a trial has paid for itself.
FEWEST_STEPS, FEWEST_MINUTES = 200, 1.0

# Each way is timed so often, in turn; the best time counts, because other programs only ever add to it.
_ROUNDS = 3


@dataclass(frozen=True)
class Choice:
    """The precision of a run, fp32, bf16 or fp16, and why."""

    precision: str
    reason: str


def choose(
    config: TrainConfig, device: torch.device, cache: Path | None = None, began_with: str | None = None
) -> Choice:
    """Resolve `precision = auto`.

    cache: the file of remembered trials; default: tuning.json in the user's folder for such things.
    began_with: the precision of a run that goes on; it stays, where the device has it.
    """
    if config.precision != "auto":
        slow = why_slow(config.precision, device)
        return Choice(config.precision, f"as asked; {slow}" if slow else "as asked")
    if began_with is not None:
        is_there = {"fp32": True, "bf16": has_fast_bf16(device), "fp16": device.type == "cuda"}
        if is_there[began_with]:
            return Choice(began_with, "as this run began")
    if device.type == "cuda":
        # Without bf16 the tensor cores of older chips know fp16, with a scale for the gradients.
        tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
        precision = "bf16" if has_fast_bf16(device) else "fp16" if tensor_cores else "fp32"
        return Choice(precision, "the fastest that this GPU has")
    if device.type != "cpu":
        return Choice("fp32", f"what is sure to work on {device.type}")
    if not has_fast_bf16(device):
        return Choice("fp32", "this CPU has no bf16 arithmetic")
    is_short = (config.steps is not None and config.steps < FEWEST_STEPS) or (
        config.minutes is not None and config.minutes < FEWEST_MINUTES
    )
    if is_short:
        return Choice("bf16", "this CPU has its arithmetic, and the run is too short to try")

    cache = cache or _user_cache() / "tuning.json"
    key = _key(config)
    remembered = _read(cache)
    if key not in remembered:
        remembered[key] = asdict(_try(config))
        with suppress(OSError):  # then the next run tries again
            write_bytes(cache, json.dumps(remembered, indent=2).encode())
    try:
        return Choice(**remembered[key])
    except TypeError:  # of another release
        return _try(config)


def _try(config: TrainConfig) -> Choice:
    """Time one training pass of a short generator in both precisions."""
    # One residual block stands for all: they are alike.
    model = config.model.replace(blocks=min(config.model.blocks, 1))
    multiple = model.multiple
    size = -(-max(config.data.crop_size, model.smallest_crop) // multiple) * multiple
    images = torch.zeros(config.batch_size, model.channels_a, size, size).uniform_()
    ways: dict[str, Callable[[], None]] = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        network = build_generator(model, model.channels_a, model.channels_b, seed=0).to(dtype)
        inputs = prepare(images, precision)

        ways[precision] = partial(_train_on, network, inputs)
    seconds = _time(ways)
    times = " and ".join(f"{1000 * value:.0f} ms in {name}" for name, value in seconds.items())
    return Choice(min(seconds, key=seconds.__getitem__), f"a short generator takes {times} on this CPU")


def _train_on(network: nn.Module, images: Tensor) -> None:
    torch.autograd.backward(network(images).abs().mean())


def _time(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds of each, after one call to get ready."""
    best = dict.fromkeys(ways, float("inf"))
    for round_ in range(_ROUNDS + 1):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            if round_ > 0:
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def _key(config: TrainConfig) -> str:
    """What a trial depends on: the machine, torch, its threads, and the shapes."""
    model = config.model
    kind = f"{model.generator} {model.depth if model.generator == 'unet' else ''} {model.channels_a}-{model.channels_b}"
    parts = " ".join([model.norm, *model.beyond_reference])
    shape = f"{kind} {model.width} {parts} {config.data.crop_size}px x{config.batch_size}"
    machine = f"{platform.node()} {cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"{machine}: {shape} {config.precision}"


def cpu_name() -> str:
    """The processor as its maker calls it, where the system says."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _user_cache() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "cyclegan"


def _read(cache: Path) -> dict[str, Any]:
    try:
        values = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
