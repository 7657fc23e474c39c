"""Measure the points of a benchmark, one process after another, as far as time and memory allow."""

import json
import os
import platform
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from cyclegan._version import __version__
from cyclegan.bench.plain import PLAIN_NETWORKS
from cyclegan.bench.points import Measured, Missing, Point, cross, expect, find_lack, in_order
from cyclegan.bench.subject import Subject, engine_of
from cyclegan.networks import build_discriminator, build_generator, count_parameters
from cyclegan.step.terms import active_penalties, active_terms
from cyclegan.system.devices import cpu_name, has_fast_bf16
from cyclegan.system.prefetch import num_cores
from cyclegan.translate.tiling.budget import available_bytes

# Size of the probe of each work, from which the first points are estimated.
_PROBE_PIXELS = 64

# For each engine: the packages it needs, the extra that installs them, and its precisions.
_ENGINES = {
    "onnxruntime": (("onnx", "onnxscript", "onnxruntime"), "onnx", ("fp32",)),
    "openvino": (("openvino",), "openvino", ("fp32", "bf16")),
}


@dataclass
class Benchmark:
    """All results.

    base: (size, batch) where both curves cross. choices: what `auto` chose at each point. start_seconds: of the command
    itself. stopped: by Ctrl-C. seconds_short: of the points that were left out because time was short.
    """

    subject: Subject
    machine: dict[str, Any]
    base: tuple[int, int]
    minutes: float
    measured: list[Measured] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    choices: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    start_seconds: float | None = None
    stopped: bool = False
    seconds_short: float = 0.0


def measure(
    subject: Subject,
    *,
    sizes: Sequence[int],
    batch_sizes: Sequence[int],
    works: Sequence[str],
    device: torch.device,
    minutes: float,
    say: Callable[[str], None],
) -> Benchmark:
    """Measure training steps and translations (`works`) against image size in pixels and against batch.

    Both curves cross at the crop size and the run's batch, where these are asked for. say: called with a line for every
    point. A point that fails, or does not fit into the memory or the minutes that are left, goes to `missing`. Ctrl-C
    ends the measuring and keeps its results.
    """
    began = time.monotonic()
    crop = subject.info.crop_size
    batch = subject.config.batch_size if subject.config is not None else 1
    base = (
        crop if crop in sizes else sorted(sizes)[(len(sizes) - 1) // 2],
        batch if batch in batch_sizes else min(batch_sizes),
    )
    done = Benchmark(subject, describe_machine(device), base, minutes)
    if subject.config is not None and subject.config.threads is not None:
        done.machine["threads"] = subject.config.threads
    ways = [
        *(_train_ways(done) if "train" in works else []),
        *(_translate_ways(done, device) if "translate" in works else []),
    ]
    points = [
        replace(way, size=size, batch_size=number) for size, number in cross(sizes, batch_sizes, *base) for way in ways
    ]
    # What `auto` takes in translation depends on the model and the machine, not on the size.
    points = [p for p in points if (p.work, p.precision) != ("translate", "auto") or p.place == base]
    if not points:
        return done
    try:
        done.start_seconds = start_seconds()
        known: list[Measured] = []
        for probe in (_probe(points, work, subject) for work in dict.fromkeys(point.work for point in points)):
            say(f"A first look: {probe}")
            looked = run_point(probe, subject, device, (), 60 * minutes + 60)
            if isinstance(looked, Missing):
                done.missing.append(looked)
                done.notes.append("Nothing else was tried, because the first look at this machine failed.")
                say(f"{probe}: failed, {looked.why}")
                return done
            known.append(looked)
        fixed = _fixed_bytes(subject)
        for number, point in enumerate(in_order(points, base), 1):
            left = 60 * minutes - (time.monotonic() - began)
            place = f"[{number}/{len(points)}] {point}"
            if any(m.point == point for m in done.measured):  # `auto` chose it before
                continue
            expected = expect(point, known, fixed)
            found: Measured | Missing | None = find_lack(point, expected, left, available_bytes(device))
            if found is None:
                say(place)
                # A point that takes ten times as long as expected never ends.
                limit = max(10 * expected[0], 60 * minutes, 60)
                same = [m.point for m in done.measured if replace(m.point, precision=point.precision) == point]
                found = run_point(point, subject, device, [p.precision for p in same], limit)
            if isinstance(found, Missing):
                done.missing.append(found)
                done.seconds_short += expected[0] if found.kind == "time" else 0
                say(f"{place}: {'failed' if found.kind == 'failed' else 'left out'}, {found.why}")
                continue
            if point.precision == "auto":
                done.choices.append(found)
            if found.num_calls > 0:
                done.measured.append(found)
                # The next `auto` is expected from it, too.
                known += [found, replace(found, point=point)]
    except KeyboardInterrupt:
        done.stopped = True
    return done


def run_point(
    point: Point, subject: Subject, device: torch.device, known: Sequence[str], limit_seconds: float
) -> Measured | Missing:
    """Measure one point in its own process, so that memory and crashes are isolated.

    known: precisions that are measured already; if `auto` chooses one of them, nothing is measured again.
    """
    config, model = subject.config, subject.model
    given = {
        "point": asdict(point),
        "device": str(device),
        "config": config.model_dump(mode="json") if config is not None else None,
        "model": str(model) if model is not None else None,
        "direction": subject.direction,
        "exports": [str(folder) for folder, _ in subject.exports],
        "threads": config.threads if config is not None else None,
        "known": list(known) if point.precision == "auto" else [],
        "started": time.monotonic(),  # counts from the same moment in every process of a machine
    }
    command = [sys.executable, "-P", "-m", "cyclegan.bench.process", json.dumps(given)]
    started = time.monotonic()
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=_environment(), timeout=limit_seconds
        )
    except subprocess.TimeoutExpired:
        return Missing(point, f"it was stopped after {limit_seconds:.0f} s", "failed")
    if child.returncode == -2:  # Ctrl-C reaches both, the child perhaps first
        raise KeyboardInterrupt
    if child.returncode != 0:
        return Missing(point, _reason(child.returncode, child.stderr), "failed")
    result = json.loads(child.stdout.splitlines()[-1])
    taken = replace(point, precision=result.pop("precision"))
    return Measured(taken, **result, wall_seconds=time.monotonic() - started)


def _environment() -> dict[str, str]:
    """The environment of a process that imports this package, not one in the current folder."""
    home = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))}


def _reason(code: int, err: str) -> str:
    """Why a process failed, in one line."""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    if "can't allocate memory" in err or "OutOfMemoryError" in err or "MemoryError" in err:
        return "there was not enough memory"
    if code == -9:
        return "the system killed it, which most often means that memory ran out"
    if code < 0:
        return f"it was ended by signal {-code}"
    return lines[-1].removesuffix(".") if lines else f"it ended with code {code}"


def _probe(points: Sequence[Point], work: str, subject: Subject) -> Point:
    """A small point of this work, to see how fast the machine is."""
    ways = [point for point in points if point.work == work]
    way = next((point for point in ways if point.side in ("ours", "torch")), ways[0])
    multiple = subject.info.model.multiple
    size = -(-max(_PROBE_PIXELS, subject.info.model.smallest_crop) // multiple) * multiple
    return replace(way, size=min(size, *(point.size for point in points)), batch_size=1)


def _fixed_bytes(subject: Subject) -> dict[str, int]:
    """Memory that does not grow with images: weights; in training also gradients, two moments and averages."""
    model = subject.info.model
    channels = (model.channels_a, model.channels_b)
    num_g = sum(count_parameters(build_generator(model, *ends)) for ends in (channels, channels[::-1]))
    num_d = sum(count_parameters(build_discriminator(model, count)) for count in channels)
    return {"train": 4 * (5 * num_g + 4 * num_d), "translate": 2 * num_g}


def _train_ways(done: Benchmark) -> list[Point]:
    config = done.subject.config
    if config is None:
        return []
    ways = [Point("train", "ours", "fp32")]
    if (why := _why_not_plain(done.subject)) is None:
        ways.append(Point("train", "plain", "fp32"))
    else:
        done.notes.append(f"Nothing to compare a training step with: {why}.")
    ways.append(Point("train", "ours", "auto"))
    if not config.model.uses_batch_norm:
        ways.append(Point("train", "ours", "auto", checkpointed=True))
    else:
        done.notes.append("--checkpoint-activations is not for norm batch.")
    return ways


def _why_not_plain(subject: Subject) -> str | None:
    """How this model differs from the plain networks of the paper; None if it does not."""
    model, config = subject.info.model, subject.config
    if any(getattr(model, name) != value for name, value in PLAIN_NETWORKS.items()):
        return "plain eager networks are a resnet and patch discriminators with instance norm, and these are others"
    if model.reference_incompatibilities:
        return f"plain eager networks have no {' and no '.join(model.reference_incompatibilities)}"
    if config is None:
        return "an export is compared with nothing"
    if config.adversarial == "wgan-gp" or 0 in (
        config.adversarial_weight,
        config.cycle_weight_a,
        config.cycle_weight_b,
    ):
        return "a plain eager step has least squares and both cycle losses, and this run has others"
    if active_penalties(config) or any(not term.in_paper for term in active_terms(config)):
        return "a plain eager step has the losses of the paper, and this run has more"
    return None


def _translate_ways(done: Benchmark, device: torch.device) -> list[Point]:
    subject, ways = done.subject, []
    if subject.model is not None:
        ways.append(Point("translate", "torch", "fp32"))
        if _why_not_plain(subject) is None:
            ways.append(Point("translate", "plain", "fp32"))
        if has_fast_bf16(device):
            ways.append(Point("translate", "torch", "bf16"))
        else:
            done.notes.append(f"torch bf16 is left out: this {device.type.upper()} has no bf16 arithmetic.")
        ways.append(Point("translate", "torch", "auto"))
        for engine, (packages, extra, precisions) in _ENGINES.items():
            if any(find_spec(package) is None for package in packages):
                done.notes.append(f"{engine} is not installed; pip install 'cyclegan[{extra}]'.")
            elif device.type != "cpu":
                done.notes.append(f"{engine} computes on the CPU; --device cpu measures it.")
            else:
                fast = [name for name in precisions if name == "fp32" or has_fast_bf16(device)]
                ways += [Point("translate", engine, name) for name in fast]
    else:
        done.notes.append("An export only translates; give the run it was made from to measure training.")
    for folder, export in subject.exports:
        if device.type == "cpu" or engine_of(export) == "torch":
            ways.append(Point("translate", str(folder), export.precision))
        else:
            done.notes.append(f"{folder} is for {engine_of(export)}, which computes on the CPU; use --device cpu.")
    return ways


def start_seconds() -> float:
    """Seconds that `cyclegan --version` takes: the best of three."""
    command = [sys.executable, "-P", "-m", "cyclegan", "--version"]
    start = partial(subprocess.run, command, check=True, capture_output=True, env=_environment())
    return min(timeit.repeat(start, number=1, repeat=3))


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions of this machine, without its name."""
    packages = [name for name in ("onnxruntime", "openvino") if find_spec(name) is not None]
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return {
        "cpu": cpu_name(),
        "cores": num_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": memory,
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {"cyclegan": __version__, "torch": torch.__version__} | {name: version(name) for name in packages},
    }
