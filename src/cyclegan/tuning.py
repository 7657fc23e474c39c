"""What is fastest on this machine: asked of the machine itself in a trial of seconds, and remembered."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cyclegan.config import TrainConfig
from cyclegan.distributed import has_fast_bf16
from cyclegan.files import write_bytes
from cyclegan.networks import build_generator
from cyclegan.parallel import Pair
from cyclegan.step import run_network

# Shorter runs are over before a trial has paid for itself.
FEWEST_STEPS, FEWEST_MINUTES = 200, 1.0

# Each way is timed so often, in turn; the best time counts, because other programs only ever add to it.
_ROUNDS = 3


@dataclass(frozen=True)
class Choice:
    """How a run computes, and why.

    precision: fp32, bf16 or fp16. side_by_side: whether a CPU works on both directions at once.
    """

    precision: str
    side_by_side: bool
    reason: str


def choose(config: TrainConfig, device: torch.device, cache: Path | None = None) -> Choice:
    """Resolve what the configuration leaves open, `precision = auto` and the use of the cores of a CPU.

    cache: the file of remembered trials; default: tuning.json in the user's folder for such things.
    """
    asked = config.precision
    if device.type == "cuda":
        if asked != "auto":
            return Choice(asked, False, "as asked")
        # Without bf16 the tensor cores of older chips know fp16, with a scale for the gradients.
        tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
        precision = "bf16" if has_fast_bf16(device) else "fp16" if tensor_cores else "fp32"
        return Choice(precision, False, "the fastest of this GPU")
    if device.type != "cpu":
        return Choice("fp32" if asked == "auto" else asked, False, "as asked" if asked != "auto" else "safe everywhere")

    open_precision = asked == "auto" and has_fast_bf16(device)
    untried = Choice(
        ("bf16" if open_precision else "fp32") if asked == "auto" else asked,
        True,
        "as asked"
        if asked != "auto"
        else "built into this CPU"
        if open_precision
        else "this CPU has no bf16 arithmetic",
    )
    short = (config.steps is not None and config.steps < FEWEST_STEPS) or (
        config.minutes is not None and config.minutes < FEWEST_MINUTES
    )
    if short or (torch.get_num_threads() == 1 and not open_precision):
        return untried
    cache = cache or _user_cache() / "tuning.json"
    key = _key(config)
    remembered = _read(cache)
    if key not in remembered:
        remembered[key] = asdict(
            _try(config, ("fp32", "bf16") if open_precision else (untried.precision,), untried.reason)
        )
        with suppress(OSError):  # then the next run tries again
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(cache, json.dumps(remembered, indent=2).encode())
    try:
        return Choice(**remembered[key])
    except TypeError:  # of another release
        return untried


def _try(config: TrainConfig, precisions: tuple[str, ...], reason: str) -> Choice:
    """Time a pass there and back through two generators: in each precision, then on the cores in both ways."""
    # One residual block stands for all: they are alike.
    model = config.model.replace(blocks=min(config.model.blocks, 1))
    generators = [build_generator(model, c, c, seed=0) for c in (model.channels_a, model.channels_b)]
    size = config.data.crop_size
    images = [torch.zeros(config.batch_size, c, size, size).uniform_() for c in (model.channels_a, model.channels_b)]

    def both(precision: str, *, side_by_side: bool) -> Callable[[], object]:
        def work(index: int) -> None:
            torch.autograd.backward(run_network(generators[index], images[index], precision).abs().mean())

        pair = Pair(side_by_side=side_by_side)
        return lambda: pair(lambda: work(0), lambda: work(1))

    # Two threads of Python only pay where there are two to share among.
    seconds = _time({precision: both(precision, side_by_side=True) for precision in precisions})
    precision = min(precisions, key=seconds.__getitem__)
    if len(precisions) > 1:
        times = ", ".join(f"{seconds[name] * 1000:.0f} ms in {name}" for name in precisions)
        reason = f"a pass through a short generator takes {times}"
    ways = _time({str(way): both(precision, side_by_side=way) for way in (True, False)})
    return Choice(precision, ways["True"] <= ways["False"], reason)


def _time(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
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
    shape = f"{model.generator} {model.width} {model.norm} {config.data.crop_size}px x{config.batch_size}"
    machine = f"{platform.node()} {_cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    return f"{machine}: {shape} {config.precision}"


def _cpu_name() -> str:
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
