"""OME-TIFF: a TIFF whose description is OME-XML, with its pyramid in SubIFDs, as viewers of microscopy expect.

The XML follows the schema of June 2016 (https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/).
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

from cyclegan._version import __version__
from cyclegan.config import MAX_CHANNELS
from cyclegan.errors import InputError
from cyclegan.images import pillow
from cyclegan.images.pyramids import DEFLATE, JPEG, TileCodec, write_pyramid
from cyclegan.images.raster import Metadata, Raster
from cyclegan.images.regions import TiledWriter
from cyclegan.images.tiff import extra_samples, tifffile_options
from cyclegan.images.tiff_regions import tile_side

SUFFIXES = (".ome.tif", ".ome.tiff")

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_TYPES = {name: name for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")}
_TYPES |= {"float32": "float", "float64": "double"}

# What an OME-TIFF holds: numpy type -> numbers of channels.
HOLDS = {name: tuple(range(1, MAX_CHANNELS + 1)) for name in _TYPES}

_MICRONS_PER_INCH = 25400.0

# Microns in units of length of OME-XML, besides those that are no length at all, such as pixels.
_UNITS = {"\N{MICRO SIGN}m": 1.0, "\N{GREEK SMALL LETTER MU}m": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}

# Side of the tiles of images that are written at once.
_SIDE = 256


def describe(shape: tuple[int, int, int], dtype: str, metadata: Metadata) -> bytes:
    """The OME-XML of one image (H, W, C), in ASCII: its size, type, physical size of a pixel, and description."""
    height, width, channels = shape
    ome = ElementTree.Element(
        "OME",
        {
            "xmlns": _SCHEMA,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{_SCHEMA} {_SCHEMA}/ome.xsd",
            "Creator": f"cyclegan {__version__}",
        },
    )
    image = ElementTree.SubElement(ome, "Image", {"ID": "Image:0"})
    if metadata.description:
        ElementTree.SubElement(image, "Description").text = "".join(filter(_is_xml, metadata.description))
    about = {"ID": "Pixels:0", "DimensionOrder": "XYCZT", "Type": _TYPES[dtype]}
    about |= {"SizeX": str(width), "SizeY": str(height), "SizeC": str(channels), "SizeZ": "1", "SizeT": "1"}
    about |= {"BigEndian": "false", "Interleaved": "true"}
    if metadata.resolution is not None:  # the unit is microns
        for axis, inches in zip("XY", metadata.resolution, strict=True):
            about[f"PhysicalSize{axis}"] = f"{_MICRONS_PER_INCH / inches:.9g}"
    pixels = ElementTree.SubElement(image, "Pixels", about)
    ElementTree.SubElement(pixels, "Channel", {"ID": "Channel:0:0", "SamplesPerPixel": str(channels)})
    ElementTree.SubElement(pixels, "TiffData", {"IFD": "0", "PlaneCount": "1"})
    return b'<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(ome, "us-ascii").split(b"?>", 1)[-1].lstrip()


def _is_xml(character: str) -> bool:
    return character in "\t\n\r" or (character >= " " and not "\ud800" <= character <= "\udfff")


def without_ome(metadata: Metadata) -> Metadata:
    """Metadata whose description is OME-XML, as what it means: a resolution and the image's own description.

    The XML names sizes, types and channels of the file that it was written for, which another file does not have.
    """
    text = metadata.description
    if text is None or "<OME" not in text[:2000] or not text.rstrip("\0 \n").endswith("OME>"):
        return metadata
    description, resolution = None, metadata.resolution
    # A declaration of entities could make the text endless; OME-XML has none.
    if "<!ENTITY" not in text:
        with suppress(ElementTree.ParseError, ValueError):
            root = ElementTree.fromstring(text.strip("\0 \n").encode())
            description = root.findtext("./{*}Image/{*}Description")
            pixels = root.find("./{*}Image/{*}Pixels")
            if resolution is None and pixels is not None:
                resolution = _resolution_of(pixels)
    return replace(metadata, description=description, resolution=resolution)


def _resolution_of(pixels: ElementTree.Element) -> tuple[float, float] | None:
    found = []
    for axis in "XY":
        microns = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        microns *= _UNITS.get(pixels.get(f"PhysicalSize{axis}Unit", "\N{MICRO SIGN}m"), math.nan)
        found.append(_MICRONS_PER_INCH / microns if microns > 0 else math.nan)
    return (found[0], found[1]) if all(map(math.isfinite, found)) else None


def write_tiles(
    target: Path | IO[bytes],
    tiles: Iterable[bytes],
    shape: tuple[int, int, int],
    dtype: str,
    side: int,
    has_alpha: bool,
    metadata: Metadata,
    *,
    codec: TileCodec = DEFLATE,
) -> None:
    """Write an OME-TIFF with its pyramid from compressed tiles; complete or absent.

    Raises InputError for a type that OME-XML has no name for.
    """
    if dtype not in _TYPES:
        raise InputError(f"An OME-TIFF cannot hold {dtype}; it holds {', '.join(_TYPES)}. Choose another --out.")
    colours = shape[2] - has_alpha
    common: dict[str, Any] = {"photometric": "rgb" if colours in (3, 4) else "minisblack"}
    extra = extra_samples(colours, dtype, metadata, has_alpha=has_alpha)
    if extra:
        common["extrasamples"] = extra
    options = {**tifffile_options(metadata), "description": describe(shape, dtype, metadata)}
    write_pyramid(
        target, tiles, shape, dtype, side, codec=codec, nodata=metadata.nodata, options=options, common=common
    )


def write(file: IO[bytes], raster: Raster) -> None:
    """Write an image in memory, without loss."""
    values = pillow.with_alpha(raster)
    tiles, dtype = DEFLATE.encode(values, _SIDE), values.dtype.name
    write_tiles(file, tiles, values.shape, dtype, _SIDE, raster.alpha is not None, raster.metadata)


# Without loss; and with a tenth of the size, for 8-bit grey and RGB.
LOSSLESS = TiledWriter("tifffile", 16, tile_side, DEFLATE.encode, write_tiles)
LOSSY = TiledWriter("tifffile", 16, tile_side, JPEG.encode, partial(write_tiles, codec=JPEG))
