"""Everything that needs a GPU, as one command that writes one page.

Each section runs in a process of its own, with a limit on its time, and the page is written again after each, so that
an error or the end of the machine's time loses one section at most. It needs torch and this package, and pytest for
the tests.

    python benchmarks/gpu.py --markdown benchmarks/results/gpu.md                  about eight minutes
    python benchmarks/gpu.py --sections step profile --markdown gpu.md             two of the sections
    python benchmarks/gpu.py --sections quality --quality-minutes 5                256 px, a training for each preset
    python benchmarks/gpu.py --device cpu --small                                  a rehearsal, for an ordinary computer
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import describe_machine, write_page

from cyclegan.bench.plain import Case, plain_step

ROOT = Path(__file__).resolve().parent.parent

# Seconds that each section may take; the usual ones together less than eight minutes.
LIMITS = {"tests": 80, "step": 150, "translate": 50, "train": 50, "profile": 50, "compile": 95}
LIMITS |= {"host": 90, "quality": 3600}
USUAL = ("tests", "step", "translate", "train", "profile", "compile")

# What a step should reach, by batch size: times as fast as the plain one, or the share of the bf16 peak.
FASTER, OF_PEAK = {1: 9.0, 4: 4.0}, {16: 0.35}
PLAIN, TRIED = "plain, eager", "cuDNN tries its algorithms"

# Peaks for dense bf16 matrices in TFLOP/s, from the data sheets.
PEAKS = {"H100": 989, "H200": 989, "A100": 312, "L40S": 362, "4090": 165}

# Classes of kernels, by patterns in their names; the first that fits counts.
CLASSES = {
    "fused kernels": "^fused_(moments|forward|reduce_grads|backward)",
    "compiled kernels": "^triton_",
    "reflection padding": "reflection_pad",
    "copies and layouts": "copy|memcpy|nchwtonhwc|nhwctonchw|transpose|permute|contiguous",
    "convolutions": "conv|gemm|wgrad|dgrad|fprop|cutlass|cudnn|xmma|mma|sgemm|mkldnn",
    "layer norm": "layer_norm|layernorm",
    "instance norm": "batch_norm|bn_|instance_norm",
    "optimiser": "adam|lerp|multi_tensor|power",
    "concatenation": "cat",
    "fills": "fill|memset|zero",
    "additions": "add|residual",
}


# ---- sections: each returns lines of Markdown


def section_tests(options: argparse.Namespace) -> Iterator[str]:
    """The tests that are skipped without a GPU."""
    try:
        import pytest  # noqa: F401
    except ImportError:
        yield "Not measured: pytest is not installed here."
        return
    # In three processes, because most of the time Triton compiles on one core.
    of_networks = "generator or step"
    chosen = [
        ("cuda", "tests/test_recording.py", "tests/test_masks.py", "tests/test_on_device.py"),
        (of_networks, "tests/test_fused.py"),
        (f"not ({of_networks})", "tests/test_fused.py"),
    ]
    chosen = chosen if options.device.startswith("cuda") else chosen[:1]  # the interpreter takes minutes
    ends = time.monotonic() + LIMITS["tests"] - 8
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-k"]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen([*command, *each], cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        for each in chosen
    ]
    yield "```text"
    for (words, *files), process in zip(chosen, running, strict=True):
        end = ""
        try:
            text, _ = process.communicate(timeout=max(1, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
            end = " (stopped at its limit)"
        yield f"-k '{words}' {' '.join(files)}{end}"
        lines = text.splitlines()
        yield from [
            line for line in lines if re.match(r"(FAILED|ERROR|E  |\d+ (passed|failed|skipped))", line)
        ] or lines[-5:]
    yield "```"


def section_step(options: argparse.Namespace) -> Iterator[str]:
    """A training step of each kind, beside the plain eager one with the convolutions of torch's default (TF32)."""
    import torch

    every, first = (1, 4, 16), (1,)
    cases: list[tuple[str, dict[str, Any] | None, bool, tuple[int, ...]]] = [(PLAIN, None, False, (1, 4))]
    for preset in ("paper", "modern"):
        cases.append((f"{preset}, bf16, fused kernels", bf16(preset), True, every))
        cases.append((f"{preset}, bf16, torch's own", bf16(preset), False, every))
    not_recorded = {**bf16("paper"), "cuda_graphs": False}
    cases += [("paper, bf16, fused kernels, not recorded", not_recorded, True, first)]
    cases += [("paper, bf16, torch's own, not recorded", not_recorded, False, first)]
    cases += [(f"paper, bf16, fused kernels, {TRIED}", bf16("paper"), True, (1, 16))]
    cases += [("paper, fp32, fused kernels", {"preset": "paper"}, True, (1, 4))]
    cases += [("conservative, bf16, fused kernels", bf16("conservative"), True, first)]
    yield f"{kernels_in_words(options)}\n"
    yield "| step | batch | ms | images/s | faster than plain | of the bf16 peak | peak memory, MiB |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    plain: dict[int, float] = {}
    reached: dict[tuple[str, int], tuple[float, float | None]] = {}
    for label, settings, is_fused, batches in cases:
        for batch in batches:
            use_kernels(options, is_fused)
            torch.backends.cudnn.benchmark = label.endswith(TRIED)
            try:
                if settings is None:
                    call = plain_step(case_of(options), batch, options.device)
                else:
                    call = our_step(options, batch, settings)
                seconds, peak = timed(call, options)
            except RuntimeError as error:
                yield f"| {label} | {batch} | not measured: {str(error).splitlines()[0][:100]} | | | | |"
                continue
            plain.setdefault(batch, seconds)
            use_kernels(options, False)
            flops, share = (None, None) if settings is None else share_of_peak(options, settings, batch, seconds)
            shown = f"{flops / 1e12:.0f} TFLOP/s" if flops is not None and share is None else ""
            shown = shown if share is None else f"{share:.1%}"
            faster = f"{plain[batch] / seconds:.2f}x" if batch in (1, 4) else ""
            speed = f"{1000 * seconds:.1f} | {2 * batch / seconds:.1f}"
            reached[label, batch] = plain[batch] / seconds, share
            yield f"| {label} | {batch} | {speed} | {faster} | {shown} | {peak / 2**20:.0f} |"
            call = None
            empty_cache(options)
    yield from targets(reached)


def targets(reached: dict[tuple[str, int], tuple[float, float | None]]) -> Iterator[str]:
    """What was wanted, and what the fastest step of each batch size reached."""
    yield ""
    for batch, wanted in FASTER.items():
        steps = [(faster, label) for (label, of), (faster, _) in reached.items() if of == batch and label != PLAIN]
        found = "not measured" if not steps else f"{max(steps)[1]}: {max(steps)[0]:.2f}x"
        yield f"* batch {batch}: at least {wanted:g}x the plain step is wanted; {found}"
    for batch, share_wanted in OF_PEAK.items():
        shares = [(share, label) for (label, of), (_, share) in reached.items() if of == batch and share is not None]
        found = "not measured" if not shares else f"{max(shares)[1]}: {max(shares)[0]:.1%}"
        yield f"* batch {batch}: at least {share_wanted:.0%} of the bf16 peak is wanted; {found}"


def section_compile(options: argparse.Namespace) -> Iterator[str]:
    """A recorded step whose networks torch.compile has compiled: what it takes to start, and what it gains."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # nothing is there yet
        for preset in ("paper", "modern"):
            started = time.perf_counter()
            call = our_step(options, 1, {**bf16(preset), "compile": True})
            call()
            yield f"* {preset}, bf16, batch 1: the first step takes {time.perf_counter() - started:.0f} s"
            seconds, peak = timed(call, options)
            yield f"* {preset}, bf16, batch 1: later steps take {1000 * seconds:.1f} ms, {peak / 2**20:.0f} MiB"


def section_translate(options: argparse.Namespace) -> Iterator[str]:
    """Translation of images in memory, and from files to files."""
    import numpy as np
    from PIL import Image

    from cyclegan import Translator, translate_folder

    side, count = case_of(options).size, 16 if options.small else 320
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = tiny_run(folder, options, steps=1)
        translator = Translator.load(run, device=options.device, precision="auto")
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
        images = [Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC) for each in coarse]
        yield f"{count} images of {side} px, {translator.engine}\n"
        yield "| | batch | images/s |"
        yield "|---|---:|---:|"
        for batch in (1, 8, 32):
            list(translator.translate_each(images[:batch] * 3, batch_size=batch))
            started = time.perf_counter()
            for _ in translator.translate_each(images, batch_size=batch):
                pass
            yield f"| from memory to memory | {batch} | {count / (time.perf_counter() - started):.0f} |"
        (folder / "in").mkdir()
        for index, image in enumerate(images):
            image.save(folder / "in" / f"{index:04}.jpg", quality=90)
        for batch in (1, "auto"):
            started = time.perf_counter()
            translate_folder(translator, folder / "in", folder / f"out{batch}", batch_size=batch)
            yield f"| from JPEG to JPEG | {batch} | {count / (time.perf_counter() - started):.0f} |"


def section_train(options: argparse.Namespace) -> Iterator[str]:
    """`cyclegan train` itself, with loading and logging."""
    for preset in ("paper", "modern"):
        with tempfile.TemporaryDirectory() as name:
            run = tiny_run(Path(name), options, preset=preset, minutes=0.05 if options.small else 0.3)
            lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
            speeds = [line["images_per_second"] for line in lines if "images_per_second" in line]
        yield f"* {preset}, precision auto, batch 1: {statistics.median(speeds[-10:]):.1f} images/s"


def section_profile(options: argparse.Namespace) -> Iterator[str]:
    """Where the time of a step goes, by kinds of kernels."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = options.device.startswith("cuda")
    for preset, is_fused in (("paper", False), ("paper", True), ("modern", False), ("modern", True)):
        use_kernels(options, is_fused)
        call = our_step(options, 1, bf16(preset))
        timed(call, options, fewest=3)
        with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as found:
            for _ in range(3):
                call()
            if on_gpu:
                torch.cuda.synchronize()
        spent, calls = Counter[str](), Counter[str]()
        longest = Counter[str]()
        for event in found.key_averages():
            took = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            kind = next((kind for kind, names in CLASSES.items() if re.search(names, event.key.lower())), "others")
            spent[kind] += took / 3000
            calls[kind] += event.count // 3
            longest[event.key] += took / 3000
        kernels = "fused kernels" if is_fused else "torch's own"
        yield f"\n{preset}, bf16, batch 1, {kernels}: {sum(calls.values())} kernels, {sum(spent.values()):.1f} ms\n"
        yield "| kernels | ms a step | calls |"
        yield "|---|---:|---:|"
        yield from (f"| {kind} | {took:.2f} | {calls[kind]} |" for kind, took in spent.most_common())
        if not is_fused:
            continue
        yield "\nThe longest:\n"
        yield from (f"* {took:.2f} ms `{name[:110]}`" for name, took in longest.most_common(12))


def section_host(options: argparse.Namespace) -> Iterator[str]:
    """What files take beside the network, by part and on all cores."""
    from cyclegan.system.prefetch import num_cores

    command = [sys.executable, str(ROOT / "benchmarks" / "host.py"), "--cores", *dict.fromkeys(("1", str(num_cores())))]
    command += ["--count", "20", "--size", "64", "--rounds", "1"] if options.small else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    yield from done.stdout.splitlines()[4:] or done.stderr.splitlines()[-5:]


def section_quality(options: argparse.Namespace) -> Iterator[str]:
    """Trainings of 256 px for some minutes each, scored on images that they have not seen."""
    command = [sys.executable, str(ROOT / "benchmarks" / "quality.py"), "--minutes", str(options.quality_minutes)]
    command += ["--recipes", "paper", "modern", "conservative", "--seeds", "0", "--label", "gpu256"]
    command += ["--set", "crop_size=256", "precision=bf16", "width=64", "blocks=9", f"device={options.device}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    yield from done.stdout.splitlines()[-40:] or done.stderr.splitlines()[-5:]


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
    "tests": section_tests,
    "step": section_step,
    "translate": section_translate,
    "train": section_train,
    "profile": section_profile,
    "compile": section_compile,
    "host": section_host,
    "quality": section_quality,
}


# ---- what sections share


def case_of(options: argparse.Namespace) -> Case:
    """The networks of the paper at 256 px, or small ones for a rehearsal."""
    return Case(32, 1, width=8, discriminator_width=8, discriminator_layers=2) if options.small else Case(256, 9)


def sizes_of(case: Case) -> dict[str, Any]:
    sizes = {"crop_size": case.size, "blocks": case.blocks, "width": case.width}
    return sizes | {"discriminator_width": case.discriminator_width, "discriminator_layers": case.discriminator_layers}


def bf16(preset: str) -> dict[str, Any]:
    return {"preset": preset, "precision": "bf16"}


def our_step(
    options: argparse.Namespace,
    batch: int,
    settings: dict[str, Any],
    *,
    case: Case | None = None,
    device: str | None = None,
    side_by_side: bool = True,
) -> Callable[[], None]:
    """The step of `cyclegan train` on random images."""
    import torch

    from cyclegan.config import make_config
    from cyclegan.step import TrainState
    from cyclegan.step.cuda_graphs import make_step
    from cyclegan.step.execution import Execution

    case, device = case or case_of(options), device or options.device
    config = make_config({**sizes_of(case), "batch_size": batch, "steps": 1000, **settings})
    state = TrainState.create(config, device)
    state.execution = Execution(state, side_by_side=side_by_side)
    step = make_step(state)
    a, b = (torch.rand(batch, 3, case.size, case.size, device=device) * 2 - 1 for _ in range(2))
    return lambda: step(state, a, b) and None


def timed(call: Callable[[], None], options: argparse.Namespace, fewest: int = 10) -> tuple[float, int]:
    """The median seconds of a call after some that warm up, and the peak of the GPU's memory in bytes."""
    import torch

    on_gpu = options.device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(6):  # a step is recorded in its fourth call
        call()
    seconds: list[float] = []
    while len(seconds) < fewest or (sum(seconds) < 2 and len(seconds) < 60):
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), torch.cuda.max_memory_allocated() if on_gpu else 0


def share_of_peak(
    options: argparse.Namespace, settings: dict[str, Any], batch: int, seconds: float
) -> tuple[float | None, float | None]:
    """The operations of a step a second as torch counts them, and their share of the chip's bf16 peak, if known."""
    if settings.get("precision") != "bf16" or not options.device.startswith("cuda"):
        return None, None
    flops = operations_of(options, settings["preset"]) * batch / seconds
    name = describe_machine(options.device)
    peak = next((peak for chip, peak in PEAKS.items() if chip in name), None)
    return flops, None if peak is None else flops / 1e12 / peak


_OPERATIONS: dict[str, float] = {}


def operations_of(options: argparse.Namespace, preset: str) -> float:
    """Floating-point operations of a step with batch 1."""
    from torch.utils.flop_counter import FlopCounterMode

    if preset not in _OPERATIONS:
        # All of it is proportional to the pixels: counted on the CPU at a quarter of the side.
        case = case_of(options)
        small = replace(case, size=case.size // 4)
        settings = {"preset": preset, "precision": "fp32"}
        call = our_step(options, 1, settings, case=small, device="cpu", side_by_side=False)
        with FlopCounterMode(display=False) as counter:
            call()
        _OPERATIONS[preset] = counter.get_total_flops() * (case.size / small.size) ** 2
    return _OPERATIONS[preset]


def use_kernels(options: argparse.Namespace, on: bool) -> None:
    """Whether later steps use the fused kernels; never on a CPU."""
    from cyclegan.networks import fused

    fused.DEVICE_TYPES[:] = ["cuda"] if on and options.device.startswith("cuda") else []


def kernels_in_words(options: argparse.Namespace) -> str:
    """Whether the fused kernels work here, in a sentence for each type."""
    import torch

    from cyclegan.networks import fused

    use_kernels(options, True)
    device = torch.device(options.device)
    device = torch.device("cuda", device.index or 0) if device.type == "cuda" else device
    words = []
    for dtype in (torch.float32, torch.bfloat16):
        started = time.perf_counter()
        reason = fused.why_not_fused(device, dtype)
        seconds = time.perf_counter() - started
        words.append(f"{dtype}: {f'not used, {reason}' if reason else f'used, after a trial of {seconds:.1f} s'}")
    return f"Fused kernels: {'; '.join(words)}."


def empty_cache(options: argparse.Namespace) -> None:
    """Give memory of earlier steps back, so that it is not in the peak of the next."""
    import gc

    import torch

    gc.collect()
    if options.device.startswith("cuda"):
        torch.cuda.empty_cache()


def tiny_run(folder: Path, options: argparse.Namespace, **settings: Any) -> Path:
    """A run on random pictures with the networks of the benchmark."""
    import numpy as np
    from PIL import Image

    from cyclegan import train

    case, rng = case_of(options), np.random.default_rng(0)
    for domain in "ab":
        (folder / domain).mkdir()
        for index in range(32):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
            coarse.resize((case.size, case.size), Image.Resampling.BICUBIC).save(folder / domain / f"{index:02}.jpg")
    kept = {"num_validation": 0, "num_samples": 0, "tensorboard": False, "sample_steps": 10**9, "log_steps": 20}
    kept |= {"device": options.device, "precision": "auto", **sizes_of(case)}
    return train(folder / "a", folder / "b", out=folder / "run", quiet=True, **{**kept, **settings})


# ---- the page


def run_section(name: str, given: list[str]) -> tuple[str, float]:
    """The lines of a section, from a process of its own, and its seconds."""
    started = time.perf_counter()
    command = [sys.executable, __file__, *given, "--section", name]
    with tempfile.TemporaryFile("w+") as output:
        try:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=LIMITS[name], check=True)
            end = ""
        except subprocess.TimeoutExpired:
            end = f"\nStopped after its limit of {LIMITS[name]} s."
        except subprocess.CalledProcessError as error:
            end = f"\nEnded with status {error.returncode}."
        output.seek(0)
        text = output.read().strip()
    return text + end, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sections", nargs="+", default=list(USUAL), choices=list(SECTIONS), help="default: all but host and quality"
    )
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal (default: cuda)")
    parser.add_argument("--small", action="store_true", help="tiny networks and images, for a rehearsal")
    parser.add_argument("--quality-minutes", type=float, default=5, help="minutes of each training (default: 5)")
    parser.add_argument("--markdown", type=Path, help="write the page to this file as well, after each section")
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        for line in SECTIONS[options.section](options):
            print(line, flush=True)
        return

    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} sees no CUDA here; --device cpu --small is a rehearsal")
    given = ["--device", options.device, "--quality-minutes", str(options.quality_minutes)]
    given += ["--small"] if options.small else []
    networks = "tiny networks, a rehearsal" if options.small else "the networks of the paper, 256 px"
    page = f"# One GPU\n\n`benchmarks/gpu.py` on {describe_machine(options.device)}; {networks}.\n"
    for name in options.sections:
        text, seconds = run_section(name, given)
        page += f"\n## {name.capitalize()}\n\n{SECTIONS[name].__doc__} {seconds:.0f} s.\n\n{text}\n"
        if options.markdown is not None:
            write_page(page, options.markdown)
        else:
            print(f"{name}: {seconds:.0f} s", flush=True)
    if options.markdown is None:
        write_page(page, None)


if __name__ == "__main__":
    main()
