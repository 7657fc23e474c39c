"""Memory and time of `cyclegan evaluate` against the number of test images.

Test folders of any size are hard links to the earth tiles. A separate process scores each of them and reports its peak
memory. The results go to benchmarks/results/evaluate.md.

    python benchmarks/evaluate.py --images 100 1000 10000
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from machine import describe_machine

from cyclegan import train
from cyclegan._version import __version__
from cyclegan.datasets import download
from cyclegan.images.file_list import list_images
from cyclegan.storage.scores import read_scores
from cyclegan.system.atomic import write_bytes

HERE = Path(__file__).parent

# Small tiles and narrow networks, because the cost around the networks is measured.
TILE, NETWORKS = 72, {"width": 16, "blocks": 4, "discriminator_width": 16, "discriminator_layers": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000, 10000], help="test images of each domain")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of evaluate.md")
    parsed = parser.parse_args()

    lines = []
    with TemporaryDirectory() as place:
        root = Path(place)
        data = download("earth", root / "earth", size=TILE)
        run = train(
            data, out=root / "run", preset="paper", steps=1, crop_size=64, num_validation=0, quiet=True, **NETWORKS
        )
        for count in parsed.images:
            for name in ("testA", "testB"):
                link(data / name, root / str(count) / name, count)
            command = [sys.executable, "-m", "cyclegan", "evaluate", str(run), "--direction", "a2b"]
            folders = ["--a", str(root / str(count) / "testA"), "--b", str(root / str(count) / "testB")]
            out = root / f"scores{count}"
            subprocess.run([*command, *folders, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
            scores = read_scores(out)
            lines.append(
                f"| {count:,} | {scores.peak_mib:.0f} | {scores.seconds:.0f} | {1000 * scores.seconds / count:.0f} |"
            )
            print(lines[-1], flush=True)
    write_bytes(parsed.results / "evaluate.md", page(lines).encode())


def link(source: Path, target: Path, count: int) -> None:
    """Make `count` hard links to the images of a folder, evenly distributed over them."""
    target.mkdir(parents=True)
    paths = list_images(source)
    for number in range(count):
        os.link(paths[number % len(paths)], target / f"{number:06d}.png")


def page(lines: list[str]) -> str:
    return "\n".join(
        [
            "# Memory and time of an evaluation",
            "",
            f"`cyclegan evaluate --direction a2b` on {TILE}-pixel tiles, networks 16 wide with 4 blocks; cyclegan "
            f"{__version__}, {describe_machine()}. An image is read, translated there and back "
            "twice, and three sets of images go through the feature network: translations and both test folders (the "
            "training folder is small).",
            "",
            "| test images of each domain | peak memory, MiB | seconds | milliseconds an image |",
            "|---|---|---|---|",
            *lines,
            "",
            "What grows is about 10 KB for each image of each set: its features, its resamplings and its scores.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
