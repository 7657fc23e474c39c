"""What translating files takes beside the network: processor time by part, and files/s without a network.

A GPU translates hundreds of images/s of 256 pixels. To keep up, the parts of a file must take less than the cores have,
and the part that holds Python's lock (the GIL), as well as the one thread that feeds the network, less than one core.
The lock is sampled by ten lines of C, if there is a compiler `cc`. Processor times hold on a busy machine, files/s do
not.

    python benchmarks/host.py --markdown benchmarks/results/host.md
    python benchmarks/host.py --cores 1 2 4 8 16 --place /data/scratch
"""

import argparse
import ctypes
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import describe_machine, write_page

WRITING = "write, flush and rename"

SAMPLER = """
#include <pthread.h>
#include <time.h>
void *_PyThreadState_UncheckedGet(void);
static volatile int running; static volatile long held, all; static pthread_t thread;
static void *sample(void *unused) {
  struct timespec pause = {0, 50000};
  for (; running; all++) { held += _PyThreadState_UncheckedGet() != 0; nanosleep(&pause, 0); }
  return unused;
}
void start(void) { running = 1; held = all = 0; pthread_create(&thread, 0, sample, 0); }
double stop(void) { running = 0; pthread_join(thread, 0); return all ? (double)held / all : 0; }
"""


class Lock:
    """The share of time in which some thread holds the lock; None without a compiler."""

    def __init__(self, place: Path) -> None:
        (place / "lock.c").write_text(SAMPLER)
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(place / "lock.so"), str(place / "lock.c"), "-lpthread"]
        try:
            subprocess.run(command, check=True, capture_output=True)
            self.library = ctypes.CDLL(str(place / "lock.so"))
            self.library.stop.restype = ctypes.c_double
        except (OSError, subprocess.CalledProcessError):
            self.library = None

    def during(self, work: Callable[[], None]) -> float | None:
        if self.library is None:
            work()
            return None
        self.library.start()
        work()
        return float(self.library.stop())


def make_photos(folder: Path, count: int, size: int) -> list[Path]:
    """JPEGs cut from the picture of the earth (extra `earth`), else from a smooth one with some noise."""
    import numpy as np
    from PIL import Image

    from cyclegan import InputError
    from cyclegan.datasets.earth import open_world

    folder.mkdir()
    rng = np.random.default_rng(0)
    try:
        with open_world("bmng.jpg") as opened:
            world = opened.convert("RGB")
    except InputError:
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).resize((2048, 2048))
        world = Image.fromarray((np.asarray(coarse) // 2 + rng.integers(0, 16, (2048, 2048, 1))).astype(np.uint8))
    for index in range(count):
        left, top = (int(rng.integers(0, side - size)) for side in world.size)
        world.crop((left, top, left + size, top + size)).save(folder / f"{index:04}.jpg", quality=90)
    return sorted(folder.iterdir())


def make_translator():
    """A translator whose network returns its input."""
    import torch

    from cyclegan import ModelConfig, Translator
    from cyclegan.images.formats import ImageFormat
    from cyclegan.storage.model import ModelInfo
    from cyclegan.translate.engines import Engine

    formats = {"a": ImageFormat(), "b": ImageFormat()}
    sizes = {"preprocess": "none", "load_size": 256, "crop_size": 256}
    info = ModelInfo(cyclegan_version="", model=ModelConfig(), step=0, translate_with="final", **formats, **sizes)
    return Translator(Engine("torch", "fp32", torch.device("cpu"), lambda images: images), info, "a2b")


def parts_of(paths: list[Path], out: Path, translator) -> dict[str, Callable[[int], object]]:
    """What happens to the file of an index, part by part."""
    from cyclegan.images.file_formats import file_format_of
    from cyclegan.images.headers import decoded_bytes
    from cyclegan.images.tensors import from_tensor, to_tensor
    from cyclegan.images.windows import read_part
    from cyclegan.system.atomic import write_bytes
    from cyclegan.translate.results import ResultMaker

    maker, keeps = ResultMaker(translator.target), file_format_of("x.png").keeps
    rasters = [read_part(path, translator.source, translator.target, None) for path in paths]
    tensors = [to_tensor(raster.values, translator.source) for raster in rasters]
    outputs = [maker.make(each.values, each, keeps, ".png", each.values.shape[:2]) for each in rasters]

    def encode(index: int, suffix: str) -> bytes:
        buffer = io.BytesIO()
        file_format_of(f"x{suffix}").write(buffer, outputs[index])
        return buffer.getvalue()

    encoded = [encode(index, ".png") for index in range(len(paths))]
    return {
        "header": lambda i: decoded_bytes(paths[i], translator.source),
        "read and decode a JPEG": lambda i: read_part(paths[i], translator.source, translator.target, None),
        "values to a tensor": lambda i: to_tensor(rasters[i].values, translator.source),
        "tensor to values": lambda i: from_tensor(tensors[i], translator.target),
        "what belongs to the result": lambda i: maker.make(
            rasters[i].values, rasters[i], keeps, ".png", rasters[i].values.shape[:2]
        ),
        "encode a PNG": lambda i: encode(i, ".png"),
        "encode a JPEG": lambda i: encode(i, ".jpg"),
        WRITING: lambda i: write_bytes(out / f"{i}.png", encoded[i]),
    }


def measure_parts(options: argparse.Namespace, place: Path) -> list[str]:
    paths, out = make_photos(place / "in", options.count, options.size), place / "out"
    lock = Lock(place)
    lines = ["| part | processor, ms a file | of it under the lock | waiting |", "|---|---:|---:|---:|"]
    for name, work in parts_of(paths, out, make_translator()).items():
        found = []
        began = time.perf_counter()
        for index in range(len(paths)):
            work(index)
        turns = 1 + int(0.3 / (time.perf_counter() - began))  # the lock is sampled for a while

        def run_all(work=work, found=found, turns=turns) -> None:
            spent, began = time.thread_time(), time.perf_counter()
            for _ in range(turns):
                for index in range(len(paths)):
                    work(index)
            found.append(((time.thread_time() - spent) / turns, (time.perf_counter() - began) / turns))

        shares = [lock.during(run_all) for _ in range(options.rounds)]
        (spent, took), share = min(zip(found, shares, strict=True))
        each = 1000 / len(paths)
        # Writing alone waits, for the disk; elsewhere waiting is for another program.
        held = "" if share is None else f"{min(share * (took if name == WRITING else spent), spent) * each:.3f}"
        waiting = max(took - spent, 0) * each
        lines.append(f"| {name} | {spent * each:.3f} | {held} | {waiting:.2f} |")
    return lines


def measure_pipeline(options: argparse.Namespace, place: Path) -> dict[str, float | None]:
    """Files/s of `translate_files` on some cores, and milliseconds a file."""
    from cyclegan.translate.files import translate_files
    from cyclegan.translate.plan import TranslationPlan

    paths, translator, lock = make_photos(place / "in", 100, options.size), make_translator(), Lock(place)
    targets = [place / "out" / f"{turn}_{path.stem}{options.suffix}" for turn in range(4) for path in paths]
    plan = TranslationPlan.of(list(zip(paths * 4, targets, strict=True)))
    found = []

    def run_all() -> None:
        main, spent, began = time.thread_time(), time.process_time(), time.perf_counter()
        assert not translate_files(translator, plan, batch_size=options.batch_size)
        found.append((time.perf_counter() - began, time.process_time() - spent, time.thread_time() - main))

    run_all()
    shares = [lock.during(run_all) for _ in range(options.rounds)]
    (took, spent, main), share = min(zip(found[1:], shares, strict=True))
    each = 1000 / len(plan)
    return {"rate": len(plan) / took, "all": spent * each, "main": main * each, "lock": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels of a side (default: 256)")
    parser.add_argument("--count", type=int, default=200, help="files of the table of parts (default: 200)")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts (default: 3)")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--place", type=Path, help="folder for the files (default: the one for temporary files)")
    parser.add_argument("--markdown", type=Path, help="write the page to this file as well")
    parser.add_argument("--pipeline", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--suffix", default=".png", help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, default=32, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pipeline is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.pipeline])

    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.place) as name:
        if options.pipeline is not None:
            print(json.dumps(measure_pipeline(options, Path(name))))
            return
        lines = measure_parts(options, Path(name))
    columns = ("result", "cores", "files/s", "processor, ms a file", "main thread", "lock held")
    lines += ["", f"| {' | '.join(columns)} |", "|---|" + "---:|" * 5]
    for suffix in (".png", ".jpg"):
        for cores in options.cores:
            command = [sys.executable, __file__, *sys.argv[1:], "--pipeline", str(cores), "--suffix", suffix]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            shown = json.loads(done.stdout.splitlines()[-1])
            held = "" if shown["lock"] is None else f"{shown['lock']:.0%} of the time"
            rate, spent, thread = (f"{shown[key]:.{digits}f}" for key, digits in (("rate", 0), ("all", 2), ("main", 2)))
            lines.append(f"| {suffix} | {cores} | {rate} | {spent} | {thread} | {held} |")
    rounds = f"The fastest of {options.rounds} rounds"
    head = f"JPEGs of {options.size} pixels, batches of 32; {describe_machine()}. {rounds}."
    write_page("\n".join(["# Files beside the network", "", head, "", *lines, ""]), options.markdown)


if __name__ == "__main__":
    main()
