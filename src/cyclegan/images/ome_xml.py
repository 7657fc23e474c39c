"""OME-XML: the description of an OME-TIFF.

It follows the schema of June 2016 (https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/).
"""

import math
from contextlib import suppress
from dataclasses import replace
from xml.etree import ElementTree

from cyclegan._version import __version__
from cyclegan.images.raster import Metadata

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"

# numpy types and their names.
TYPES = {name: name for name in ("int8", "int16", "int32", "uint8", "uint16", "uint32")}
TYPES |= {"float32": "float", "float64": "double"}

MICRONS_PER_INCH = 25400.0

# Microns in units of length, besides those that are no length at all, such as pixels.
_UNITS = {"\N{MICRO SIGN}m": 1.0, "\N{GREEK SMALL LETTER MU}m": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


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
    about = {"ID": "Pixels:0", "DimensionOrder": "XYCZT", "Type": TYPES[dtype]}
    about |= {"SizeX": str(width), "SizeY": str(height), "SizeC": str(channels), "SizeZ": "1", "SizeT": "1"}
    about |= {"BigEndian": "false", "Interleaved": "true"}
    if metadata.resolution is not None:  # the unit is microns
        for axis, inches in zip("XY", metadata.resolution, strict=True):
            about[f"PhysicalSize{axis}"] = f"{MICRONS_PER_INCH / inches:.9g}"
    pixels = ElementTree.SubElement(image, "Pixels", about)
    ElementTree.SubElement(pixels, "Channel", {"ID": "Channel:0:0", "SamplesPerPixel": str(channels)})
    ElementTree.SubElement(pixels, "TiffData", {"IFD": "0", "PlaneCount": "1"})
    # Without an encoding, what is not ASCII becomes references.
    return b'<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(ome)


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
        found.append(MICRONS_PER_INCH / microns if microns > 0 else math.nan)
    return (found[0], found[1]) if all(map(math.isfinite, found)) else None
