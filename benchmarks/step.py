"""Seconds and peak memory of one training step: this project beside a plain eager float32 step.

The plain step, cyclegan.bench.plain, is written straight from the paper. All sides run in separate processes that take
turns on the same images, so the ratio holds when the speed of the machine drifts.

    python benchmarks/step.py                              demo, 64, 128 and 256 px on the CPU (20 minutes on two cores)
    python benchmarks/step.py --cases demo --rounds 5
    python benchmarks/step.py --cases 512 --sides plain fp32 forgetful --rounds 1        memory against time
    python benchmarks/step.py --cases demo 256 --neighbour                while another program keeps all cores busy
    python benchmarks/step.py --device cuda --cases 256 --batch-size 4 --markdown benchmarks/results/step_cuda.md
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from machine import describe_machine, write_page

from cyclegan.bench.plain import Case, plain_step

CASES = {
    "demo": Case(64, 4, width=16, discriminator_width=16, discriminator_layers=2),
    "64": Case(64, 6),
    "128": Case(128, 6),
    "256": Case(256, 9),
    "512": Case(512, 9),
}

# The sides beside the plain one: settings of our step.
OURS = {
    "fp32": {"precision": "fp32"},
    "auto": {"precision": "auto"},
    "bf16": {"precision": "bf16"},
    "forgetful": {"precision": "fp32", "checkpoint_activations": True},
    "forgetful auto": {"precision": "auto", "checkpoint_activations": True},
}

# Peaks for dense matrices from the data sheets in TFLOP/s, to report the share that is reached.
PEAKS = {"H100": {"bf16": 989, "fp16": 989, "fp32": 67}, "H200": {"bf16": 989, "fp16": 989, "fp32": 67}}
PEAKS |= {"A100": {"bf16": 312, "fp16": 312, "fp32": 19.5}}


# ---- this project


def our_config(case: Case, batch: int, settings: dict):
    from cyclegan.config import make_config

    sizes = {"crop_size": case.size, "blocks": case.blocks, "width": case.width, "batch_size": batch, "steps": 1000}
    sizes |= {"discriminator_width": case.discriminator_width, "discriminator_layers": case.discriminator_layers}
    return make_config({**sizes, **settings}, preset="paper")


def our_step(case: Case, batch: int, device: str, settings: dict) -> tuple[Callable[[], None], str]:
    """The step of `cyclegan train`, and the precision that it chose."""
    import torch

    from cyclegan.step import TrainState
    from cyclegan.step.cuda_graphs import make_step
    from cyclegan.step.precision import resolve_precision
    from cyclegan.system.devices import keep_freed_memory

    keep_freed_memory()
    config = our_config(case, batch, settings)
    choice = resolve_precision(config, torch.device(device))
    state = TrainState.create(config.replace(precision=choice.precision), device)
    step = make_step(state)
    a, b = (torch.rand(batch, 3, case.size, case.size, device=device) * 2 - 1 for _ in range(2))
    return lambda: step(state, a, b) and None, choice.precision


def count_flop(case: Case, batch: int) -> float:
    """Floating-point operations of our step, forward and backward, as torch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cyclegan.step import TrainState, train_step
    from cyclegan.step.execution import Execution

    small = Case(64, case.blocks, case.width, case.discriminator_width, case.discriminator_layers)
    state = TrainState.create(our_config(small, 1, {}))
    state.execution = Execution(state, side_by_side=False)
    a, b = (torch.rand(1, 3, 64, 64) for _ in range(2))
    with FlopCounterMode(display=False) as counter:
        train_step(state, a, b)
    return counter.get_total_flops() * batch * (case.size / 64) ** 2  # all of it is proportional to the pixels


# ---- measuring


def measure(options: argparse.Namespace) -> dict[str, float | str]:
    """Measure in a separate process: the median time of a call, and the peak memory above that of an idle process."""
    import torch

    # Load all modules first, so that only the work itself is measured.
    import cyclegan.step.cuda_graphs
    import cyclegan.step.precision  # noqa: F401

    torch.manual_seed(0)
    case, batch, device = CASES[options.cases[0]], options.batch_size, options.device
    idle = peak_bytes(device)
    precision = "fp32"
    if options.side == "plain":
        call = plain_step(case, batch, device)
    else:
        call, precision = our_step(case, batch, device, OURS[options.side])
    started = time.perf_counter()
    for _ in range(5 if device.startswith("cuda") else 2):  # until it is recorded or traced
        call()
        if time.perf_counter() - started > 20:
            break
    seconds: list[float] = []
    while len(seconds) < options.fewest or (sum(seconds) < 3 and len(seconds) < 100):
        started = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "bytes": peak_bytes(device) - idle, "precision": precision}


def peak_bytes(device: str) -> int:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    import resource  # POSIX

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def run_side(options: argparse.Namespace, case: str, side: str) -> dict[str, float | str]:
    command = [sys.executable, __file__, "--side", side, "--cases", case, "--batch-size", str(options.batch_size)]
    command += ["--device", options.device, "--fewest", str(options.fewest)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def table(options: argparse.Namespace) -> list[str]:
    rows, machine = [], describe_machine(options.device)
    for case in options.cases:
        taken: dict[str, list[dict]] = {side: [] for side in options.sides}
        for _ in range(options.rounds):
            for side, results in taken.items():
                results.append(run_side(options, case, side))
        for side, results in taken.items():
            pairs = list(zip(taken[options.sides[0]], results, strict=True))
            seconds = statistics.median(r["seconds"] for r in results)
            mebibytes = statistics.median(r["bytes"] for r in results) / 2**20
            faster = [base["seconds"] / ours["seconds"] for base, ours in pairs]
            memory = statistics.median(ours["bytes"] / max(base["bytes"], 1) for base, ours in pairs)
            precision = results[0]["precision"]
            row = f"| {case} | {side} | {precision} | {seconds:.3f} | {2 * options.batch_size / seconds:.1f} "
            row += f"| {statistics.median(faster):.2f}x ({min(faster):.2f}-{max(faster):.2f}) "
            row += f"| {mebibytes:.0f} | {memory:.2f}x |"
            if options.device.startswith("cuda"):
                flops = count_flop(CASES[case], options.batch_size) / seconds / 1e12
                peak = next((p[precision] for name, p in PEAKS.items() if name in machine), None)
                row += f" {flops:.1f} | {'?' if peak is None else f'{flops / peak:.1%}'} |"
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["demo", "64", "128", "256"], choices=list(CASES))
    parser.add_argument("--sides", nargs="+", default=["plain", "fp32", "auto"], choices=["plain", *OURS])
    parser.add_argument("--batch-size", type=int, default=1, help="images of each domain (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (default: 3)")
    parser.add_argument("--fewest", type=int, default=3, help="timed steps of each process at least (default: 3)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--neighbour", action="store_true", help="another process trains on all cores meanwhile")
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    parser.add_argument("--side", choices=("plain", "neighbour", *OURS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "neighbour":
        call = plain_step(CASES["64"], 1, "cpu")
        while True:
            call()
    if options.side:
        print(json.dumps(measure(options)))
        return

    neighbour = None
    if options.neighbour:
        neighbour = subprocess.Popen([sys.executable, __file__, "--side", "neighbour"])
    try:
        rows = table(options)
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()

    import cyclegan

    beside = ", beside another program that trains the plain 64 px networks on all cores" if options.neighbour else ""
    head = (
        f"cyclegan {cyclegan.__version__}, {describe_machine(options.device)}, batch {options.batch_size}, "
        f"{options.rounds} rounds, medians (and extremes){beside}\n\n"
        "| case | side | precision | s a step | images/s | faster | MiB | memory |"
    )
    line = "|---|---|---|---|---|---|---|---|"
    if options.device.startswith("cuda"):
        head, line = f"{head} TFLOP/s | of peak |", f"{line}---|---|"
    write_page("\n".join([head, line, *rows]) + "\n", options.markdown)


if __name__ == "__main__":
    main()
