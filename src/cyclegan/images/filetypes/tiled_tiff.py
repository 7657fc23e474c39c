"""TIFFs that are written from compressed tiles, so that the image need not fit into memory."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import IO

from cyclegan.images.filetypes.pyramids import DEFLATE, TileCodec, write_pyramid
from cyclegan.images.filetypes.tiff import channel_options, tifffile_options
from cyclegan.images.regions import TiledImage, TiledWriter


def tile_side(side: int) -> int:
    """The largest side of TIFF tiles, up to 512, that divides `side`, a multiple of 16."""
    return next(size for size in (512, 256, 128, 64, 32, 16) if side % size == 0)


def write_tiles(
    target: Path | IO[bytes],
    tiles: Iterable[bytes],
    image: TiledImage,
    *,
    codec: TileCodec = DEFLATE,
    levels: int | None = None,
    description: bytes | None = None,
) -> None:
    """Write a tiled BigTIFF from what `codec.encode` returned for the whole image; complete or absent.

    levels: as in `write_pyramid`. description: instead of that of the metadata.
    """
    metadata, colours = image.metadata, image.shape[2] - image.has_alpha
    options = tifffile_options(metadata) | ({} if description is None else {"description": description})
    write_pyramid(
        target,
        tiles,
        image.shape,
        image.dtype,
        image.side,
        codec=codec,
        levels=levels,
        nodata=metadata.nodata,
        options=options,
        common=channel_options(colours, image.dtype, metadata, has_alpha=image.has_alpha),
    )


# A plain TIFF, without copies.
TILED_TIFF = TiledWriter("tifffile", 16, tile_side, DEFLATE.encode, partial(write_tiles, levels=0))
