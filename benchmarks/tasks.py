"""The tasks of the quality benchmark: real images of three kinds, with held-out truth, cut into train, val and test.

`val` is what recipes are chosen by; `test` is scored once, with what was chosen. Images of A and of B that are trained
on show different things, so nothing there is paired; those of val and of test show the same things and have the same
names, so that every translation has its truth.
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
from cyclegan.datasets.earth import EARTH_VARIANTS, cut_tile, read_world
from cyclegan.datasets.fetching import fetch, workplace
from cyclegan.errors import InputError
from cyclegan.system.messages import Messages

# A package of drawings, of each the finished one and its lines alone, and whose they are.
OPENMOJI = "https://registry.npmjs.org/openmoji/-/openmoji-17.0.0.tgz"
WHOSE = "OpenMoji 17.0.0, the open-source emoji and icon project, CC BY-SA 4.0"

# Side of a tile of the earth: 8 degrees of the world, in its pixels.
TILE = 120


def build_earth(out: Path, size: int, variant: str) -> None:
    """Satellite photo (A) and map (B), in squares of 8 degrees. Every other test block is val."""
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
    """Column and row of the block that x0300_y1200.png lies in; the rows of blocks begin at a sixth of the world."""
    left, top = _corner(name)
    return left // side, (top - 450) // side


def _corner(name: str) -> tuple[int, int]:
    """Left and top of x0300_y1200.png in the world."""
    left, top = (int(part[1:]) for part in Path(name).stem.split("_"))
    return left, top


def build_paired_earth(out: Path, size: int, variant: str) -> None:
    """`build_earth` with all training tiles in both domains, so that each has its truth."""
    work = out.with_name(f".{out.name}.unpaired")
    shutil.rmtree(work, ignore_errors=True)
    build_earth(work, size, variant)
    pictures = {"A": "bmng.jpg", "B": EARTH_VARIANTS[variant][0]}
    names = {domain: [path.name for path in (work / f"train{domain}").iterdir()] for domain in "AB"}
    for domain, other in ("AB", "BA"):
        world = read_world(pictures[domain])
        for name in names[other]:
            left, top = _corner(name)
            tile = cut_tile(world, (left, top, left + TILE, top + TILE), size)
            tile.save(work / f"train{domain}" / name)
    work.rename(out)


def build_drawings(out: Path, size: int, *, paired: bool = False) -> None:
    """Emoji of OpenMoji: finished drawings (A) and their lines alone (B), black on white, in exactly the same places.

    Flags, and what repeats another drawing with another skin or with a part exchanged, are left out. paired: train on
    every drawing in both domains.
    """
    try:
        import resvg_py
    except ImportError:
        raise InputError("The task drawings is made from SVG files; install resvg-py: pip install resvg-py") from None
    messages = Messages("datasets")
    with workplace(out, messages) as work:
        received = fetch(OPENMOJI, work, begins=(b"\x1f\x8b",), messages=messages)
        with tarfile.open(received.path) as archive:
            # File by file: what keeps extractall from writing elsewhere came with Python 3.11.4.
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
            # Neighbours in this order are often alike. Of twenty, one is val, two are test, and eight and nine are
            # trained on in A and in B.
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


# Each makes a folder with about.json last of all, of images with sides of so many pixels.
TASKS: dict[str, Callable[[Path, int], None]] = {
    "shadedrelief": lambda out, size: build_earth(out, size, "shadedrelief"),
    "etopo1": lambda out, size: build_earth(out, size, "etopo1"),
    "drawings": build_drawings,
}

# The same with the truth of every training image: not what these tasks are for, but how far one could get.
PAIRED: dict[str, Callable[[Path, int], None]] = {
    "shadedrelief": lambda out, size: build_paired_earth(out, size, "shadedrelief"),
    "etopo1": lambda out, size: build_paired_earth(out, size, "etopo1"),
    "drawings": lambda out, size: build_drawings(out, size, paired=True),
}
