"""OME-TIFF: a TIFF whose description is OME-XML, with its pyramid in SubIFDs, as viewers of microscopy expect."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import IO

from cyclegan.config import MAX_CHANNELS
from cyclegan.errors import InputError
from cyclegan.images.filetypes import pillow, tiled_tiff
from cyclegan.images.filetypes.ome_xml import TYPES, describe
from cyclegan.images.filetypes.pyramids import DEFLATE, JPEG, TileCodec
from cyclegan.images.filetypes.tiled_tiff import tile_side
from cyclegan.images.raster import Raster
from cyclegan.images.regions import TiledImage, TiledWriter

SUFFIXES = (".ome.tif", ".ome.tiff")

# What an OME-TIFF holds: numpy type -> numbers of channels.
HOLDS = {name: tuple(range(1, MAX_CHANNELS + 1)) for name in TYPES}

# Side of the tiles of images that are written at once.
_SIDE = 256


def write_tiles(
    target: Path | IO[bytes], tiles: Iterable[bytes], image: TiledImage, *, codec: TileCodec = DEFLATE
) -> None:
    """Write an OME-TIFF with its pyramid from compressed tiles; complete or absent.

    Raises InputError for a type that OME-XML has no name for.
    """
    if image.dtype not in TYPES:
        raise InputError(f"An OME-TIFF cannot hold {image.dtype}; it holds {', '.join(TYPES)}. Choose another --out.")
    description = describe(image.shape, image.dtype, image.metadata)
    tiled_tiff.write_tiles(target, tiles, image, codec=codec, description=description)


def write(file: IO[bytes], raster: Raster) -> None:
    """Write an image in memory, without loss."""
    values = pillow.with_alpha(raster)
    image = TiledImage(values.shape, values.dtype.name, _SIDE, raster.alpha is not None, raster.metadata)
    write_tiles(file, DEFLATE.encode(values, _SIDE), image)


# Without loss; and with a tenth of the size, for 8-bit grey and RGB.
_of_codec = partial(TiledWriter, "tifffile", 16, tile_side)
TILED_OME = _of_codec(DEFLATE.encode, write_tiles, lossy=_of_codec(JPEG.encode, partial(write_tiles, codec=JPEG)))
