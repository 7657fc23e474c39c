"""Measures one point. Runs in its own process, so memory and crashes are isolated."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cyclegan.bench.points import Point, num_calls
from cyclegan.config import TrainConfig
from cyclegan.errors import InputError


def main() -> None:
    """argv: the point and its settings as JSON. The last line of stdout is the result as JSON."""
    given = json.loads(sys.argv[1])
    try:
        print(json.dumps(_measure(given)))
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def _measure(given: dict[str, Any]) -> dict[str, Any]:
    import torch

    # Code is loaded before memory is counted.
    for module in ("cyclegan.step.cuda_graphs", "cyclegan.step.precision", "cyclegan.translate.translator"):
        import_module(module)

    point, device = Point(**given["point"]), torch.device(given["device"])
    if given["threads"] is not None:
        torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    idle = peak_bytes(device)
    train = point.work == "train"
    call, precision, reason, opened = _step(given, point, device) if train else _translation(given, point, device)
    result: dict[str, Any] = {"precision": precision, "reason": reason}
    if call is None:  # `auto` chose a precision that is measured already
        return result

    # The first calls load libraries and choose algorithms; on a GPU they also capture the step.
    if train:
        result["start_seconds"] = time.time() - given["started"]
    for number in range(5 if device.type == "cuda" else 1):
        started = time.perf_counter()
        call()
        _wait(device)
        first = time.perf_counter() - started
        if number == 0 and not train:
            result["start_seconds"] = time.time() - given["started"]
    seconds = []
    for _ in range(num_calls(first)):
        started = time.perf_counter()
        call()
        _wait(device)
        seconds.append(time.perf_counter() - started)
    result |= {"seconds": statistics.median(seconds), "num_calls": len(seconds)}
    result["bytes"] = max(peak_bytes(device) - idle, 0)
    if opened is not None and given["model"] is not None:
        result["decibels"] = _decibels(given, opened)
    return result


def _step(given: dict[str, Any], point: Point, device: Any) -> tuple[Callable[[], object] | None, str, str, None]:
    import torch

    from cyclegan.bench.plain import Case, plain_step
    from cyclegan.step.cuda_graphs import make_step
    from cyclegan.step.precision import resolve_precision
    from cyclegan.step.state import TrainState
    from cyclegan.system.devices import keep_freed_memory

    config = TrainConfig.model_validate(given["config"])
    data = config.data.replace(crop_size=point.size, load_size=None)
    config = config.replace(data=data, batch_size=point.batch_size, precision=point.precision)
    config = config.replace(checkpoint_activations=point.checkpointed)
    if point.side == "plain":
        model = config.model
        widths = model.width, model.discriminator_width, model.discriminator_layers
        case = Case(point.size, model.blocks, *widths, model.channels_a, model.channels_b, config.uses_identity)
        return plain_step(case, point.batch_size, str(device)), "fp32", "", None
    choice = resolve_precision(config, device)
    if choice.precision in given["known"]:
        return None, choice.precision, choice.reason, None
    keep_freed_memory()  # as the command does
    state = TrainState.create(config.replace(precision=choice.precision), device)
    step = make_step(state)
    channels = config.model.channels_a, config.model.channels_b
    shapes = [(point.batch_size, count, point.size, point.size) for count in channels]
    a, b = (torch.rand(shape, device=device) * 2 - 1 for shape in shapes)
    return lambda: step(state, a, b), choice.precision, choice.reason, None


def _translation(given: dict[str, Any], point: Point, device: Any) -> tuple[Callable[[], object] | None, str, str, Any]:
    import torch

    from cyclegan.bench.plain import plain_generator
    from cyclegan.translate.engines import smooth_picture
    from cyclegan.translate.translator import Translator

    direction = given["direction"]
    if point.side == "plain":
        model = TrainConfig.model_validate(given["config"]).model
        ends = (model.channels_a, model.channels_b)
        network = plain_generator(model.blocks, model.width, *(ends if direction == "a2b" else ends[::-1]))
        network = network.eval().to(device)
        picture = smooth_picture(ends[0] if direction == "a2b" else ends[1], point.size)
        images = picture.expand(point.batch_size, -1, -1, -1).contiguous()

        def forward() -> object:
            with torch.no_grad():
                return network(images.to(device)).cpu()

        return forward, "fp32", "", None
    if point.side in given["exports"]:
        opened = Translator.load(point.side, direction=direction)
    else:
        load = {"engine": point.side, "precision": point.precision, "device": str(device)}
        opened = Translator.load(given["model"], direction=direction, **load)
    if opened.engine.precision in given["known"]:
        return None, opened.engine.precision, opened.engine.reason, None
    images = smooth_picture(opened.source.channels, point.size).expand(point.batch_size, -1, -1, -1).contiguous()
    return lambda: opened.translate_tensor(images), opened.engine.precision, opened.engine.reason, opened


def _decibels(given: dict[str, Any], opened: Any) -> float:
    """PSNR of the picture that `auto` tests with, between this engine and torch in float32 on the CPU."""
    from cyclegan.translate.engines import psnr, smooth_picture
    from cyclegan.translate.translator import Translator

    exact = Translator.load(given["model"], direction=given["direction"], device="cpu", engine="torch")
    multiple = exact.info.model.multiple
    picture = smooth_picture(exact.source.channels, -(-128 // multiple) * multiple)
    return min(psnr(exact.translate_tensor(picture), opened.translate_tensor(picture)), 200.0)


def _wait(device: Any) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def peak_bytes(device: Any) -> int:
    """Peak memory of this process so far, on the GPU if it computes there."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
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
