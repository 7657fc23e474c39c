"""`translate --ray local` beside the plain command, on the same cores: throughput, and memory of the command.

    taskset -c 0 python benchmarks/ray_files.py      # one core for everything, about fifteen minutes
    python benchmarks/ray_files.py --short           # a look at whether it runs

Writes benchmarks/results/ray_files.md. Both take turns in one process; the start of the cluster and of its actors is
measured apart.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from machine import describe_machine
from PIL import Image

from cyclegan import Translator, train, translate_folder
from cyclegan.cluster import translate_on_cluster
from cyclegan.cluster.connection import connected
from cyclegan.translate.progress import FolderProgress

RESULT = Path(__file__).parent / "results" / "ray_files.md"
TINY = {"width": 4, "blocks": 1}
PAPER = {"width": 64, "blocks": 9}


class Times(FolderProgress):
    """Seconds at which files were done."""

    def __init__(self):
        self.began, self.done = time.perf_counter(), []

    @contextmanager
    def translating(self, _num_images):
        yield lambda _source: self.done.append(time.perf_counter() - self.began)

    def rate(self, skipped):
        """Files a second, without the start and the first files."""
        return (len(self.done) - skipped) / (self.done[-1] - self.done[skipped - 1])


def make_run(folder, side, **model):
    """A run of one step, and a picture of this side."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir(parents=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / name / "0.png")
    small = {"crop_size": 16, "load_size": 18, "num_samples": 0, "num_validation": 0, "tensorboard": False}
    small |= {"discriminator_width": 4, "discriminator_layers": 1}
    train(folder / "a", folder / "b", out=folder / "run", quiet=True, steps=1, device="cpu", **small, **model)
    return folder / "run", (folder / "a" / "0.png").read_bytes()


def fill(folder, picture, count):
    for index in range(count):
        place = folder / f"{index // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"photo_{index:07d}.png").write_bytes(picture)
    return folder


def compare(work, run, photos, rounds, skipped):
    """Rates of the plain call and on a cluster, which take turns, and seconds until the first results."""
    rates, starts = {"plain": [], "ray": []}, []
    translator = Translator.load(run, device="cpu", precision="fp32")
    began = time.perf_counter()
    with connected("local"):
        cluster_start = time.perf_counter() - began
        for _ in range(rounds):
            for name in rates:
                out, times = work / name, Times()
                shutil.rmtree(out, ignore_errors=True)
                if name == "plain":
                    translate_folder(translator, photos, out, progress=times)
                else:
                    translate_on_cluster(run, photos, out, device="cpu", precision="fp32", progress=times)
                    starts.append(times.done[0])
                rates[name].append(times.rate(skipped))
    return rates, cluster_start, statistics.median(starts)


def memory(run, photos, out):
    """Peaks in MiB of this process and of Ray's store, in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import ray_files; "
    code += f"ray_files.measure_memory({str(run)!r}, {str(photos)!r}, {str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_mib():
    """Peak memory of this process; that of `resource` has the one of the process that started it."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def measure_memory(run, photos, out):
    peak, ended = 0.0, threading.Event()

    def sample():
        nonlocal peak
        from ray._private.internal_api import memory_summary

        while not ended.wait(0.5):
            found = re.search(r"Plasma memory usage (\d+) MiB", memory_summary(stats_only=True))
            peak = max(peak, float(found[1]) if found else 0.0)

    before = peak_mib()
    began = time.perf_counter()
    with connected("local"):
        thread = threading.Thread(target=sample)
        thread.start()
        try:
            result = translate_on_cluster(run, photos, out, device="cpu", precision="fp32")
        finally:
            ended.set()
            thread.join()
    seconds = time.perf_counter() - began
    rss = peak_mib()
    print(json.dumps({"done": result.num_done, "before": before, "rss": rss, "store": peak, "seconds": seconds}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few files, one round, and no page")
    short = parser.parse_args().short
    lines = ["# Translating by Ray on one machine", "", f"{describe_machine()}.", ""]
    with tempfile.TemporaryDirectory(prefix="ray_files", dir="/tmp") as folder:
        work = Path(folder)
        lines += ["Files a second, without the start, median (least to most) of rounds in which both take turns:", ""]
        lines += ["| network, files | plain | `--ray local` | ratio of the medians | ratios of the rounds |"]
        lines += ["|---|---|---|---|---|"]
        # Model, side of the pictures, how many, rounds.
        cases = {"tiny": (TINY, 64, 1024, 5), "paper": (PAPER, 128, 24, 3)}
        starts = []
        for name, (model, side, count, rounds) in cases.items():
            count, rounds = (count // 2, 1) if short else (count, rounds)
            run, picture = make_run(work / name, side, **model)
            photos = fill(work / name / "photos", picture, count)
            rates, *start = compare(work, run, photos, rounds, count // 8)
            starts.append(start)
            cells = [f"{statistics.median(r):.3g} ({min(r):.3g} to {max(r):.3g})" for r in rates.values()]
            ratio = statistics.median(rates["ray"]) / statistics.median(rates["plain"])
            each = ", ".join(f"{b / a:.2f}" for a, b in zip(*rates.values(), strict=True))
            what = f"{model['width']} channels, {model['blocks']} blocks; {count} PNGs of {side} px"
            lines.append(f"| {what} | {cells[0]} | {cells[1]} | {ratio:.2f} | {each} |")
            print(lines[-1], flush=True)
        lines += [
            "",
            f"Start of a cluster: {min(start for start, _ in starts):.1f} s; of actors, until the first results: ",
        ]
        lines[-1] += (
            f"{min(first for _, first in starts):.1f} s (the least of what was measured; both wait for imports)."
        )
        lines += ["", "Memory of the command in MiB, network of 4 channels, PNGs of 24 px:", ""]
        lines += ["| files | peak of the command | of it before the work | peak of Ray's store | seconds |"]
        lines += ["|---|---|---|---|---|"]
        run, picture = make_run(work / "small", 24, **TINY)
        for count in (1000,) if short else (10_000, 100_000):
            photos = fill(work / f"photos {count}", picture, count)
            found = memory(run, photos, work / f"out {count}")
            assert found["done"] == count
            row = f"| {count:,} | {found['rss']:.0f} | {found['before']:.0f} | {found['store']:.0f} |"
            lines.append(f"{row} {found['seconds']:.0f} |")
            print(lines[-1], flush=True)
            shutil.rmtree(photos), shutil.rmtree(work / f"out {count}")
    if not short:
        RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
