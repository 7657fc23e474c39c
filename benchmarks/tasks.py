"""The tasks of the quality benchmark: real images of three kinds, split into train, val and test. Not a command.

Recipes are chosen by `val`; `test` is scored once, with the chosen ones. The training images of A and B show different
things, so none of them are paired. Those of val and test show the same things under the same names, so every
translation has a ground truth.
"""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from PIL import Image

from cyclegan.datasets import download
from cyclegan.datasets.earth import EARTH_VARIANTS, read_world, tile_saver
from cyclegan.datasets.fetching import fetch, workplace
from cyclegan.errors import InputError
from cyclegan.system.messages import Messages

# The package of the drawings, coloured and as outlines, and their authors.
OPENMOJI = "https://registry.npmjs.org/openmoji/-/openmoji-17.0.0.tgz"
WHOSE = "OpenMoji 17.0.0, the open-source emoji and icon project, CC BY-SA 4.0"

# Side of a tile of the earth in pixels: 8 degrees of the world.
TILE = 120


def build_earth(out: Path, size: int, variant: str) -> None:
    """Build satellite photos (A) and maps (B), in squares of 8 degrees. Every other test block is val."""
    block, work = 300, out.with_name(f".{out.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    download("earth", work, variant=variant, size=size, tile=TILE, block=block, stride=20)
    names = sorted(path.name for path in (work / "testA").iterdir())
    blocks = sorted({_block(name, block) for name in names}, key=lambda place: (place[1], place[0]))
    for_val = set(blocks[1::2])
    for domain in "AB":
        (work / f"val{domain}").mkdir()
        for name in names:
            if _block(name, block) in for_val:
                (work / f"test{domain}" / name).rename(work / f"val{domain}" / name)
    work.rename(out)


def _block(name: str, side: int) -> tuple[int, int]:
    """Column and row of the block of a tile such as x0300_y1200.png; rows begin at a sixth of the world."""
    left, top = _corner(name)
    return left // side, (top - 450) // side


def _corner(name: str) -> tuple[int, int]:
    """Left and top of a tile such as x0300_y1200.png in the world."""
    left, top = (int(part[1:]) for part in Path(name).stem.split("_"))
    return left, top


def build_paired_earth(out: Path, size: int, variant: str) -> None:
    """`build_earth` with all training tiles in both domains, so that each has its counterpart."""
    work = out.with_name(f".{out.name}.unpaired")
    shutil.rmtree(work, ignore_errors=True)
    build_earth(work, size, variant)
    pictures = {"A": "bmng.jpg", "B": EARTH_VARIANTS[variant][0]}
    names = {domain: [path.name for path in (work / f"train{domain}").iterdir()] for domain in "AB"}
    for domain, other in ("AB", "BA"):
        save = tile_saver(read_world(pictures[domain]), size)
        for name in names[other]:
            left, top = _corner(name)
            save((left, top, left + TILE, top + TILE), work / f"train{domain}" / name)
    work.rename(out)


def build_drawings(out: Path, size: int, *, paired: bool = False) -> None:
    """Build drawings from OpenMoji: coloured emoji (A), and their outlines in the same places (B), black on white.

    Flags and variants of another drawing, such as skin tones, are left out. paired: train on every drawing in both
    domains.
    """
    try:
        import resvg_py
    except ImportError:
        raise InputError("The task drawings is made from SVG files; install resvg-py: pip install resvg-py") from None
    messages = Messages("datasets")
    with workplace(out, "package", messages) as work:
        received = fetch(OPENMOJI, work, begins=(b"\x1f\x8b",), messages=messages)
        with tarfile.open(received.path) as archive:
            # File by file, because the safe filter of extractall came with Python 3.11.4.
            for member in archive:
                parts = PurePosixPath(member.name).parts
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None and parts[0] == "package" and ".." not in parts:
                    target = work.joinpath(*parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content.read())
        received.path.unlink()
        package, done = work / "package", work / "images"
        with (package / "data" / "openmoji.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = sorted(
            row["hexcode"]
            for row in rows
            if row["group"] != "flags" and not row["skintone"] and "-200D-" not in row["hexcode"]
        )
        for index, name in enumerate(names):
            # Neighbours in this order are often alike. Of twenty, one is for val, two for test, eight for training in A
            # and nine for training in B.
            role = index % 20
            split = "val" if role == 4 else "test" if role in (9, 19) else "train"
            for domain, style in (("A", "color"), ("B", "black")):
                if split == "train" and not paired and (role < 10) != (domain == "A"):
                    continue
                folder = done / f"{split}{domain}"
                folder.mkdir(parents=True, exist_ok=True)
                drawing = package / style / "svg" / f"{name}.svg"
                png = resvg_py.svg_to_bytes(
                    svg_path=str(drawing), background="#ffffff", width=4 * size, height=4 * size
                )
                with Image.open(io.BytesIO(png)) as picture:
                    smaller = picture.convert("RGB").resize((size, size), Image.Resampling.BOX)
                smaller.save(folder / f"{name}.png")
        about = {"name": "drawings", "a": f"{WHOSE}, color", "b": f"{WHOSE}, black", "saved_pixels": size}
        (done / "about.json").write_text(json.dumps(about, indent=2) + "\n")
        done.rename(out)
        shutil.rmtree(package)


# Each function builds a folder of images with this side in pixels, and writes about.json last.
TASKS: dict[str, Callable[[Path, int], None]] = {
    "shadedrelief": lambda out, size: build_earth(out, size, "shadedrelief"),
    "etopo1": lambda out, size: build_earth(out, size, "etopo1"),
    "drawings": build_drawings,
}

# The same with paired training images, for benchmarks/paired.py.
PAIRED: dict[str, Callable[[Path, int], None]] = {
    "shadedrelief": lambda out, size: build_paired_earth(out, size, "shadedrelief"),
    "etopo1": lambda out, size: build_paired_earth(out, size, "etopo1"),
    "drawings": lambda out, size: build_drawings(out, size, paired=True),
}
