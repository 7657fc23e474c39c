"""Check that the scores of spectra order pictures as people do.

Degrades real training images of a domain in known ways, scores them against its test images, and prints a table; then
the same for translations of trained runs. The data are those of benchmarks/quality.py.

    python benchmarks/spectrum.py --data benchmarks/work/data --tasks shadedrelief etopo1 drawings --out spectrum.md
    python benchmarks/spectrum.py --data benchmarks/work/data --tasks etopo1 --run paper=runs/paper --run x=runs/x
"""

import argparse
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cyclegan.images.codecs import read_image
from cyclegan.images.file_list import evenly_spaced, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.tensors import to_tensor
from cyclegan.metrics.round_trip import as_stored
from cyclegan.metrics.spectrum import Pattern, patterns, spectrum_distance, spectrum_features, strongest_pattern
from cyclegan.system.atomic import write_bytes
from cyclegan.translate.translator import Translator

LEVEL = 1 / 127.5  # one of 255 grey levels in [-1, 1]


# ---- what is done to images; all take and give (N, C, H, W) in [-1, 1]


def smoothed(images: Tensor, sigma: float) -> Tensor:
    """Blur with a Gaussian of this standard deviation in pixels."""
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    weights /= weights.sum()
    kernel = (weights[:, None] * weights).expand(images.shape[1], 1, -1, -1)
    padded = functional.pad(images, (reach,) * 4, mode="reflect")
    return functional.conv2d(padded, kernel, groups=images.shape[1])


def jpeg(images: Tensor, quality: int) -> Tensor:
    """RGB images after JPEG."""
    results = []
    for image in images:
        file = io.BytesIO()
        values = ((image.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
        Image.fromarray(values).save(file, "JPEG", quality=quality)
        results.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 127.5 - 1)
    return torch.stack(results)


def resampled(images: Tensor, *, smooth: bool) -> Tensor:
    """Halved and doubled: with low-pass filters, or as plain strides do, every second pixel and squares of two."""
    if not smooth:
        return functional.interpolate(images[..., ::2, ::2], scale_factor=2, mode="nearest")
    half = functional.interpolate(images, scale_factor=0.5, mode="bicubic", antialias=True)
    return functional.interpolate(half, scale_factor=2, mode="bicubic")


def noisy(images: Tensor, levels: float, generator: torch.Generator) -> Tensor:
    """White noise of a standard deviation in grey levels."""
    return images + levels * LEVEL * torch.randn(images.shape, generator=generator)


def checkered(images: Tensor, strength: float) -> Tensor:
    """Scaled by the place in squares of two pixels, as a transposed convolution of uneven overlap does."""
    scale = torch.ones(images.shape[-2:])
    scale[::2, ::2] += strength
    scale[1::2, 1::2] += strength / 2
    return (images + 1) * scale / scale.mean() - 1


def flat_and_dark(images: Tensor) -> Tensor:
    """(N, 1, H, W) from 0 to 1: the flatter and darker half of the places, where generators oscillate."""
    grey = images.mean(1, keepdim=True)
    mean = smoothed(grey, 3)
    spread = smoothed((grey - mean).square(), 3)
    low = (spread <= spread.median()) & (mean <= mean.median())
    return smoothed(low.float(), 1.5)


def striped(images: Tensor, levels: float, period: float, generator: torch.Generator, *, one_direction: bool) -> Tensor:
    """Coloured stripes in flat and dark places only. levels: their amplitude."""
    height, width = images.shape[-2:]
    down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = math.pi * torch.rand(1 if one_direction else len(images), generator=generator).expand(len(images))
    phases = 2 * math.pi * torch.rand(len(images), generator=generator)
    waves = torch.stack(
        [
            torch.sin(2 * math.pi * (across * math.cos(angle) + down * math.sin(angle)) / period + phase)
            for angle, phase in zip(angles.tolist(), phases, strict=True)
        ]
    )
    colours = torch.tensor([1.0, -0.5, 0.5])[:, None, None]
    return images + levels * LEVEL * waves[:, None] * flat_and_dark(images) * colours


def dotted(images: Tensor, levels: float, period: float) -> Tensor:
    """Dots at equal distances, at edges only."""
    height, width = (torch.arange(side) for side in images.shape[-2:])
    down, across = (((torch.cos(2 * math.pi * side / period) + 1) / 2).square() for side in (height, width))
    dots = down[:, None] * across
    grey = images.mean(1, keepdim=True)
    edges = (grey - smoothed(grey, 2)).abs()
    places = smoothed((edges > edges.quantile(0.85)).float(), 2)
    return images + 2 * levels * LEVEL * (dots - dots.mean()) * places


def ringing(images: Tensor, strength: float, period: float = 4.0) -> Tensor:
    """Waves that run along all edges and fade within 6 pixels."""
    side = torch.arange(-8, 9.0)
    radius = (side[:, None].square() + side.square()).sqrt()
    kernel = torch.cos(2 * math.pi * radius / period) * torch.exp(-radius / 6)
    kernel = kernel - kernel.mean()
    kernel = (kernel / kernel.abs().sum()).expand(images.shape[1], 1, -1, -1)
    padded = functional.pad(images, (8,) * 4, mode="reflect")
    return images + strength * functional.conv2d(padded, kernel, groups=images.shape[1])


def degraded(images: Tensor, seed: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Every kind by its name, as 8-bit files would hold it."""
    generator = torch.Generator().manual_seed(seed)
    kinds: list[tuple[str, Tensor]] = [("as they are", images)]
    kinds += [(f"JPEG {quality}", jpeg(images, quality)) for quality in (90, 50, 20)]
    kinds += [(f"blur, sigma {sigma:g}", smoothed(images, sigma)) for sigma in (0.5, 1, 2)]
    kinds += [(f"noise, {levels} levels", noisy(images, levels, generator)) for levels in (2, 8)]
    kinds += [("half size and back, smooth", resampled(images, smooth=True))]
    kinds += [("half size and back, plain", resampled(images, smooth=False))]
    kinds += [(f"transposed convolution, {100 * share:g} %", checkered(images, share)) for share in (0.02, 0.1)]
    has_places = flat_and_dark(images).mean() > 0.02
    for period in (2.5, 6) if has_places else ():
        for one in (True, False):
            direction = "one direction" if one else "any direction"
            kinds += [
                (
                    f"stripes of {period:g} px, {levels} levels, {direction}",
                    striped(images, levels, period, generator, one_direction=one),
                )
                for levels in (6, 12, 24)
            ]
    kinds += [(f"dots of 3 px at edges, {levels} levels", dotted(images, levels, 3)) for levels in (6, 12, 24)]
    kinds += [(f"ringing of 4 px, {strength:g}", ringing(images, strength)) for strength in (0.5, 1, 2)]
    for name, changed in kinds:
        yield name, as_stored(changed.clamp(-1, 1), ImageFormat())


# ---- scores and the page


def load(folder: Path, count: int | None = None) -> Tensor:
    """Images of a folder, or so many at equal distances: (N, 3, H, W) in [-1, 1]."""
    paths = list(list_images(folder))
    paths = paths if count is None else evenly_spaced(paths, count)
    return torch.stack([to_tensor(read_image(path, 3), ImageFormat()) for path in paths])


def describe(pattern: Pattern) -> str:
    """The pattern in words, where there is one."""
    if pattern.excess < 0.5:
        return ""
    return f"{pattern.period:.1f} px, {pattern.stripes or 'several directions'}"


def row(name: str, images: Tensor, real: Tensor) -> str:
    """A row of a table. real: features of the images that they are compared with."""
    features = spectrum_features(images)
    distance, pattern = (
        "{:.2f} | {:.2f} to {:.2f}".format(*score(features, real, num_bootstrap=200))
        for score in (spectrum_distance, patterns)
    )
    return f"| {name} | {distance} | {pattern} | {describe(strongest_pattern(features, real))} |"


def table(rows: list[str]) -> list[str]:
    head = "| images | spectrum, dB | 95 % | patterns, dB | 95 % | strongest pattern |"
    return [head, "|---|---:|---:|---:|---:|---|", *rows, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of tasks with trainA to testB")
    parser.add_argument("--tasks", nargs="+", default=["shadedrelief", "etopo1", "drawings"])
    parser.add_argument("--domains", nargs="+", default=["B"], help="domains to degrade: A, B")
    parser.add_argument(
        "--run", action="append", default=[], metavar="NAME=DIR", help="a run of the last task to score"
    )
    parser.add_argument("--out", type=Path, help="page to write; default: print it")
    options = parser.parse_args()
    torch.set_num_threads(1)

    lines: list[str] = []
    for task in options.tasks:
        for domain in options.domains:
            test = load(options.data / task / f"test{domain}")
            train = load(options.data / task / f"train{domain}", len(test))
            real = spectrum_features(test)
            rows = [row(name, images, real) for name, images in degraded(train)]
            lines += [
                f"## {task}, {domain}: {len(test)} training images, degraded, against {len(test)} test images",
                "",
            ]
            lines += table(rows)
    task = options.data / options.tasks[-1]
    if options.run:
        domains = {name: load(task / f"test{name}") for name in "AB"}
        for direction, source, target in (("a2b", "A", "B"), ("b2a", "B", "A")):
            real = spectrum_features(domains[target])
            rows = [row("real images", load(task / f"train{target}", len(real)), real)]
            rows += [row("input", domains[source], real)]
            for run in options.run:
                name, _, folder = run.partition("=")
                translator = Translator.load(folder, direction=direction, device="cpu")
                output = torch.cat([translator.translate_tensor(batch) for batch in domains[source].split(16)])
                rows.append(row(name, as_stored(output, ImageFormat()), real))
            lines += [f"## {task.name}, {direction}: translations of runs", "", *table(rows)]
    page = "\n".join(lines)
    if options.out is None:
        print(page)
    else:
        write_bytes(options.out, page.encode())


if __name__ == "__main__":
    main()
