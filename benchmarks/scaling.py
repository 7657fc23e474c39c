"""Folders of many files: seconds until the first step, peak memory, and images/s against loading processes.

The files are hard links to a few hundred small JPEGs, in a temporary folder (--place). Every number comes from a
separate process with a tiny network. "Again" is the same command a second time, as when a run resumes.

    python benchmarks/scaling.py --markdown benchmarks/results/scaling.md
    python benchmarks/scaling.py --counts 1000 --workers 0 2
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine, write_page

NUM_PICTURES = 300
TINY = {"width": 4, "blocks": 1, "discriminator_width": 4, "discriminator_layers": 1, "crop_size": 32, "load_size": 36}


def make_pictures(folder: Path, size: int, seed: int) -> list[Path]:
    """Write smooth random JPEGs, which compress about as well as photos."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for index in range(NUM_PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg", quality=85)
    return sorted(folder.iterdir())


def make_links(folder: Path, pictures: list[Path], count: int) -> None:
    folder.mkdir(parents=True)
    for index, source in zip(range(count), itertools.cycle(pictures), strict=False):
        os.link(source, f"{folder}/image_{index:07d}.jpg")


# ---- in a separate process


def peak_mib() -> float:
    import resource  # POSIX

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def start_training(place: Path) -> None:
    """Do what `cyclegan train` does up to the end of its first step."""
    from cyclegan.training import StepDone, train

    def end_after_first_step(event):
        if isinstance(event, StepDone):
            print(json.dumps({"at": time.time(), "mib": peak_mib()}), flush=True)
            os._exit(0)

    settings = {"preset": "paper", "device": "cpu", "tensorboard": False, "quiet": True, **TINY}
    train(place / "a", place / "b", out=place / "run", callbacks=[end_after_first_step], **settings)


def plan_translation(place: Path) -> None:
    """Do what `cyclegan translate` does before it reads the first image."""
    import torch

    from cyclegan import ModelConfig, Translator
    from cyclegan.images.formats import ImageFormat
    from cyclegan.storage.model import ModelInfo
    from cyclegan.video import plan_translation

    about = {"preprocess": "none", "load_size": 32, "crop_size": 32, "step": 0, "translate_with": "final"}
    info = ModelInfo(cyclegan_version="0", model=ModelConfig(), a=ImageFormat(), b=ImageFormat(), **about)
    translator = Translator(torch.nn.Identity(), info, "a2b", torch.device("cpu"))
    images, _ = plan_translation([place / "a"], place / "out", translator)
    assert images[-1][1].parent == place / "out"
    print(json.dumps({"at": time.time(), "mib": peak_mib()}))


def only_import(_place: Path) -> None:
    import cyclegan

    assert cyclegan.train is not None
    print(json.dumps({"at": time.time(), "mib": peak_mib()}))


def load(place: Path, num_workers: int, seconds: float) -> None:
    """Load batches of one image of each domain, resized to 286 pixels and cropped to 256, as fast as possible."""
    from cyclegan import DataConfig, ModelConfig
    from cyclegan.data.dataset import UnpairedDataset
    from cyclegan.data.image_folder import scan_folder
    from cyclegan.data.loader import batches

    data = DataConfig(crop_size=256, load_size=286)
    folders = [scan_folder(place / name, 3, None, data) for name in "ab"]
    dataset = UnpairedDataset(*folders, data, ModelConfig(), 1, 0)
    source = batches(dataset, 0, num_workers)
    for _ in range(10 + 4 * num_workers):
        next(source)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        next(source)
        count += 2
    print(json.dumps({"images_per_second": count / (time.perf_counter() - started)}))
    source.close()


CHILDREN = {"import": only_import, "train": start_training, "translate": plan_translation}


# ---- measuring


def child(*arguments: str) -> dict[str, float]:
    started = time.time()
    command = [sys.executable, __file__, "--child", *arguments]
    shown = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    if "at" in shown:
        shown["seconds"] = shown["at"] - started
    return shown


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        work, place, *more = sys.argv[2:]
        if work == "load":
            load(Path(place), int(more[0]), float(more[1]))
        else:
            CHILDREN[work](Path(place))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=[1000, 100_000, 1_000_000], help="files in a domain")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2, 4], help="loading processes")
    parser.add_argument("--seconds", type=float, default=10, help="of loading (default: 10)")
    parser.add_argument("--place", type=Path, help="folder for the temporary files (default: the system's)")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file as well")
    options = parser.parse_args()

    lines = ["# Folders of many files, and loading", ""]
    lines += [f"`{' '.join(['python benchmarks/scaling.py', *sys.argv[1:]])}`", ""]
    lines += [f"{describe_machine()}.", ""]
    if options.counts:
        lines += ["| files of each domain | work | seconds | peak MiB |", "|---|---|---|---|"]
        idle = child("import", ".")
        lines.append(f"| | `import cyclegan; cyclegan.train` | {idle['seconds']:.1f} | {idle['mib']:.0f} |")
    for count in options.counts:
        with tempfile.TemporaryDirectory(dir=options.place) as name:
            place = Path(name)
            for seed, domain in enumerate("ab"):
                make_links(place / domain, make_pictures(place / f"pictures_{domain}", 64, seed), count)
            for label, work in (
                ("`train`, to the first step", "train"),
                ("`train` again", "train"),
                ("`translate`, to the first image", "translate"),
            ):
                shown = child(work, name)
                lines.append(f"| {count:,} | {label} | {shown['seconds']:.1f} | {shown['mib']:.0f} |")
                print(lines[-1], file=sys.stderr)
    if options.workers:
        lines += ["", "| loading processes | images/s |", "|---|---|"]
        with tempfile.TemporaryDirectory(dir=options.place) as name:
            for seed, domain in enumerate("ab"):
                make_pictures(Path(name) / domain, 256, seed)
            for num_workers in options.workers:
                shown = child("load", name, str(num_workers), str(options.seconds))
                label = "0 (a thread of the training process)" if num_workers == 0 else str(num_workers)
                lines.append(f"| {label} | {shown['images_per_second']:.0f} |")
        lines += ["", "256-pixel JPEGs, decoded, brought to 286 pixels, cropped to 256; nothing else to do, no cache."]
    write_page("\n".join(lines) + "\n", options.markdown)


if __name__ == "__main__":
    main()
