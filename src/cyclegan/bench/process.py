"""Measures one point. Runs in its own process, so memory and crashes are isolated.

All code is imported here, before memory is counted.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cyclegan.bench.plain import Case, plain_generator, plain_step
from cyclegan.bench.points import Point, num_calls
from cyclegan.config import TrainConfig
from cyclegan.errors import InputError
from cyclegan.step.cuda_graphs import make_step
from cyclegan.step.precision import resolve_precision
from cyclegan.step.state import TrainState
from cyclegan.system.devices import keep_freed_memory
from cyclegan.system.terminal import print_result, say
from cyclegan.translate.engines import psnr, smooth_picture
from cyclegan.translate.translator import Translator


@dataclass(frozen=True)
class _Work:
    """A call to time, with its precision and the reason for it. translator: None for training and the plain side."""

    call: Callable[[], object]
    precision: str = "fp32"
    reason: str = ""
    translator: Translator | None = None


def main() -> None:
    """argv: the point and its settings as JSON. The last line of stdout is the result as JSON."""
    try:
        print_result(json.dumps(_measure(json.loads(sys.argv[1]))))
    except InputError as error:
        say(str(error))
        raise SystemExit(2) from None


def _measure(given: dict[str, Any]) -> dict[str, Any]:
    point, device = Point(**given["point"]), torch.device(given["device"])
    if given["threads"] is not None:
        torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    idle = peak_bytes(device)
    train = point.work == "train"
    work = _step(given, point, device) if train else _translation(given, point, device)
    result: dict[str, Any] = {"precision": work.precision, "reason": work.reason}
    if work.precision in given["known"]:  # `auto` chose a precision that is measured already
        return result

    def timed_call() -> float:
        started = time.perf_counter()
        work.call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    # The first calls load libraries and choose algorithms; on a GPU they also capture the step.
    if train:
        result["start_seconds"] = time.monotonic() - given["started"]
    for number in range(5 if device.type == "cuda" else 1):
        first = timed_call()
        if number == 0 and not train:
            result["start_seconds"] = time.monotonic() - given["started"]
    seconds = [timed_call() for _ in range(num_calls(first))]
    result |= {"seconds": statistics.median(seconds), "num_calls": len(seconds)}
    result["bytes"] = max(peak_bytes(device) - idle, 0)
    if work.translator is not None and given["model"] is not None:
        result["decibels"] = _decibels(given, work.translator)
    return result


def _step(given: dict[str, Any], point: Point, device: torch.device) -> _Work:
    config = TrainConfig.model_validate(given["config"])
    model, data = config.model, config.data.replace(crop_size=point.size, load_size=None)
    config = config.replace(
        data=data,
        batch_size=point.batch_size,
        precision=point.precision,
        checkpoint_activations=point.checkpointed,
    )
    channels = model.channels_a, model.channels_b
    if point.side == "plain":
        widths = model.width, model.discriminator_width, model.discriminator_layers
        case = Case(point.size, model.blocks, *widths, *channels, config.uses_identity)
        return _Work(plain_step(case, point.batch_size, str(device)))
    choice = resolve_precision(config, device)
    if choice.precision in given["known"]:
        return _Work(lambda: None, choice.precision, choice.reason)
    keep_freed_memory()  # as the command does
    state = TrainState.create(config.replace(precision=choice.precision), device)
    step = make_step(state)
    shapes = [(point.batch_size, count, point.size, point.size) for count in channels]
    a, b = (torch.rand(shape, device=device) * 2 - 1 for shape in shapes)
    return _Work(lambda: step(state, a, b), choice.precision, choice.reason)


def _translation(given: dict[str, Any], point: Point, device: torch.device) -> _Work:
    direction = given["direction"]

    def images(channels: int) -> torch.Tensor:
        return smooth_picture(channels, point.size).expand(point.batch_size, -1, -1, -1).contiguous()

    if point.side == "plain":
        model = TrainConfig.model_validate(given["config"]).model
        ends = (model.channels_a, model.channels_b) if direction == "a2b" else (model.channels_b, model.channels_a)
        network = plain_generator(model.blocks, model.width, *ends).eval().to(device)
        batch = images(ends[0])
        return _Work(torch.no_grad()(lambda: network(batch.to(device)).cpu()))
    if point.side in given["exports"]:
        translator = Translator.load(point.side, direction=direction)
    else:
        translator = Translator.load(
            given["model"], direction=direction, engine=point.side, precision=point.precision, device=str(device)
        )
    batch = images(translator.source.channels)
    engine = translator.engine
    return _Work(lambda: translator.translate_tensor(batch), engine.precision, engine.reason, translator)


def _decibels(given: dict[str, Any], translator: Translator) -> float:
    """PSNR of the picture that `auto` tests with, between this engine and torch in float32 on the CPU."""
    exact = Translator.load(given["model"], direction=given["direction"], device="cpu", engine="torch")
    multiple = exact.info.model.multiple
    picture = smooth_picture(exact.source.channels, -(-128 // multiple) * multiple)
    return min(psnr(exact.translate_tensor(picture), translator.translate_tensor(picture)), 200.0)


def peak_bytes(device: torch.device) -> int:
    """Peak memory of this process so far, on the GPU if it computes there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        # The other number of Linux, ru_maxrss, begins with the memory of the process that started this one.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        if sys.platform == "win32":
            return 0
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
