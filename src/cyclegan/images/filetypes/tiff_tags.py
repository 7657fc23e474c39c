"""What a TIFF says about itself, from its tags alone: its pages, how their samples are stored, and its metadata."""

import io
import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from cyclegan.images.filetypes.ome_xml import without_ome
from cyclegan.images.raster import Metadata, Tag

# Where a picture lies on the earth: ModelPixelScale, ModelTiepoint, ModelTransformation, the GeoKeys, RPC coefficients.
# And what GDAL keeps of it and of its bands.
PLACE_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
GDAL_METADATA, GDAL_NODATA = 42112, 42113

_MAX_PAGES = 100_000

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Compression of the tag 259.
NO_COMPRESSION, WEBP = 1, 50001

_NUMBER = re.compile(r"[-+]?(nan|inf|(\d+[.,]?\d*|[.,]\d+)(e[-+]?\d+)?)")

_KINDS = {1: "uint", 2: "int", 3: "float"}

# Photometric interpretations: how samples are colours.
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, MASK, CMYK, YCBCR, LAB = 0, 1, 2, 3, 4, 5, 6, 8
LAB_KINDS = (LAB, 9, 10)  # signed a and b, unsigned ones (ICC), and those of faxes (ITU)


@dataclass(frozen=True)
class TiffPage:
    """One page. position: its place in the chain of pages. dtype: numpy type of samples; None for an unusual one.

    samples: of one pixel. extra: the meaning of those beyond its colours, as in `Metadata.extra_samples`.
    has_gaps: whether strips or tiles are not in the file, because they are empty, or fewer hold all of the image.
    ome_xml: the description of an OME-TIFF; `metadata` has what it means for a single image.
    """

    position: int
    height: int
    width: int
    dtype: str | None
    bits: int
    samples: int
    photometric: int
    extra: tuple[int, ...]
    orientation: int
    metadata: Metadata
    compression: int = NO_COMPRESSION
    has_gaps: bool = False
    ome_xml: str | None = None

    @property
    def is_compressed(self) -> bool:
        return self.compression != NO_COMPRESSION

    @property
    def has_alpha(self) -> bool:
        return bool(self.extra) and self.extra[-1] in (1, 2)

    @property
    def is_picture(self) -> bool:
        """Whether Pillow returns all samples of this page as an 8-bit picture."""
        if self.dtype != "uint8" or self.has_gaps:  # of which Pillow repeats the tile before
            return False
        colours = {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, PALETTE: 1, RGB: 3, CMYK: 4, YCBCR: 3, LAB: 3}.get(
            self.photometric
        )
        may_be_transparent = self.photometric in (MIN_IS_BLACK, RGB) and self.bits == 8
        return self.samples == colours or (may_be_transparent and self.samples == (colours or 0) + 1 and self.has_alpha)


@dataclass(frozen=True)
class TiffLayout:
    """The pages of a file, without the reduced copies that are its overviews. masks: positions of its mask pages.

    is_whole: whether the chain of pages leads to its end; if not, more pages are missing.
    """

    pages: tuple[TiffPage, ...]
    masks: tuple[int, ...]
    is_whole: bool = True


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF does."""
    with path.open("rb") as file:
        return file.read(4) in _SIGNATURES


def read_layout(path: Path, *, may_be_cut: bool = False) -> TiffLayout:
    """The pages of a file by their tags. Raises an error of any kind for a file that is no TIFF or is damaged.

    may_be_cut: no error if only later pages are missing, because the end of the file is.
    """
    pages: list[TiffPage] = []
    masks: list[int] = []
    is_whole = True
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        header = file.read(8)
        if header[:4] not in _SIGNATURES:
            raise ValueError("it is no TIFF")
        if 43 in header[2:4]:
            header += file.read(8)
        tags = ImageFileDirectory_v2(header)
        seen: set[int] = set()
        for position in range(_MAX_PAGES):
            if tags.next in seen or not tags.next:
                break
            seen.add(tags.next)
            file.seek(tags.next)
            # Where the end is missing, Pillow warns and gives no tags.
            is_there = tags.next + 2 <= size
            if is_there:
                tags.load(file)
            if not is_there or 257 not in tags:
                if not (may_be_cut and pages):
                    raise ValueError(f"its end is missing, with the tags of page {position + 1}")
                is_whole = False
                break
            kind = int(tags.get(254, 0))
            if kind & 4:
                masks.append(position)
            elif not kind & 1:
                pages.append(_page_of(tags, position))
    if not pages:
        raise ValueError("it holds no page")
    return TiffLayout(tuple(pages), tuple(masks), is_whole)


def _page_of(tags: ImageFileDirectory_v2, position: int) -> TiffPage:
    samples = int(tags.get(277, 1))
    bits = _numbers(tags.get(258, (1,)))
    formats = _numbers(tags.get(339, (1,)))
    dtype = None
    if len(set(bits)) == 1 and len(set(formats)) == 1:
        name = f"{_KINDS.get(formats[0], '')}{bits[0]}"
        if bits[0] in (1, 2, 4) and formats[0] == 1:
            dtype = "uint8"
        elif name in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64") or name in (
            "float16",
            "float32",
            "float64",
        ):
            dtype = name
    extra = tuple(_numbers(tags.get(338, ())))
    names = _band_names(tags.get(GDAL_METADATA), samples)
    if names and extra[-1:] == (2,) and not may_be_alpha(names[-1]):
        extra = (*extra[:-1], 0)
    if 258 not in tags and tags.get(262) == RGB:  # a tag that lies is passed over, and one bit is the default
        raise ValueError("its tag of the bits of a sample is missing")
    described = _metadata_of(tags, extra)
    orientation = int(tags.get(274, 1))
    if described.resolution is not None and orientation >= 5:  # of the upright image
        described = replace(described, resolution=described.resolution[::-1])
    metadata = without_ome(described)
    return TiffPage(
        position=position,
        height=int(tags[257]),
        width=int(tags[256]),
        dtype=dtype,
        bits=bits[0],
        samples=samples,
        photometric=int(tags.get(262, MIN_IS_BLACK)),
        extra=extra,
        orientation=orientation,
        metadata=metadata,
        compression=int(tags.get(259, NO_COMPRESSION)),
        has_gaps=_has_gaps(tags, samples * bits[0]),
        ome_xml=None if metadata is described else described.description,
    )


def _has_gaps(tags: ImageFileDirectory_v2, pixel_bits: int) -> bool:
    """As in `TiffPage`. Raises ValueError if strips or tiles are missing."""
    kind, offsets, counts = ("tiles", 324, 325) if 324 in tags else ("strips", 273, 279)
    if offsets not in tags or counts not in tags:
        return False
    height, width = int(tags[257]), int(tags[256])
    rows, columns = (int(tags[323]), int(tags[322])) if kind == "tiles" else (int(tags.get(278, height)), width)
    if min(height, width, rows, columns) < 1:
        raise ValueError(f"it says that it has {height} rows and {width} columns, in {kind} of {rows} rows")
    sizes = _numbers(tags[counts])
    needed = -(-height // rows) * -(-width // columns)
    if int(tags.get(284, 1)) == 2:
        needed *= int(tags.get(277, 1))
    if len(sizes) >= needed:
        return 0 in sizes
    is_whole = int(tags.get(259, NO_COMPRESSION)) == NO_COMPRESSION and sum(sizes) >= height * width * pixel_bits // 8
    if not is_whole:
        raise ValueError(f"it has {len(sizes):,} of the {needed:,} {kind} that its {height:,} rows need")
    return True


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(int(each) for each in value) if isinstance(value, tuple) else (int(value),)


def _number_of(text: str) -> float | None:
    """The number that a text begins with, as GDAL reads it; None if there is none."""
    text = text.lstrip().lower()
    for windows, value in (("1.#inf", math.inf), ("-1.#inf", -math.inf), ("1.#", math.nan), ("-1.#", math.nan)):
        if text.startswith(windows):
            return value
    found = _NUMBER.match(text)
    return None if found is None else float(found[0].replace(",", "."))


def _metadata_of(tags: ImageFileDirectory_v2, extra: tuple[int, ...]) -> Metadata:
    profile, description = tags.get(34675), tags.get(270)
    kept = tuple(tag for code in (*PLACE_TAGS, GDAL_METADATA) if (tag := _tag_of(tags, code)) is not None)
    return Metadata(
        profile=profile if isinstance(profile, bytes) else None,
        resolution=_resolution_of(tags),
        description=_text(description) if isinstance(description, str) else None,
        tags=kept,
        nodata=_number_of(str(tags[GDAL_NODATA])) if GDAL_NODATA in tags else None,
        extra_samples=extra or None,
        band_names=_band_names(tags.get(GDAL_METADATA), int(tags.get(277, 1))),
    )


def _text(value: str) -> str | None:
    """Text of a tag, which Pillow reads as Latin-1; it is UTF-8 where that is possible."""
    text = value.strip("\0")
    with suppress(UnicodeError):
        text = text.encode("latin-1").decode()
    return text or None


def _resolution_of(tags: ImageFileDirectory_v2) -> tuple[float, float] | None:
    """Pixels per inch, if the file says so."""
    unit = {2: 1.0, 3: 2.54}.get(int(tags.get(296, 2)))
    with suppress(TypeError, ValueError, ZeroDivisionError, KeyError):
        across, down = float(tags[282]), float(tags[283])
        if unit is not None and all(math.isfinite(part) and part > 0 for part in (across, down)):
            return across * unit, down * unit
    return None


def _tag_of(tags: ImageFileDirectory_v2, code: int) -> Tag | None:
    """A tag as tifffile writes it."""
    if code not in tags:
        return None
    kind, value = tags.tagtype[code], tags[code]
    if isinstance(value, str | bytes):
        return code, kind, 0 if isinstance(value, str) else len(value), value, True
    values = value if isinstance(value, tuple) else (value,)
    return code, kind, len(values), values, True


def _items(xml: Any) -> list[ElementTree.Element]:
    """What GDAL_METADATA holds; nothing if it is damaged or absent."""
    with suppress(ElementTree.ParseError, ValueError, TypeError):
        return list(ElementTree.fromstring(str(xml).strip("\0")).iter("Item")) if xml else []
    return []


def _band_names(xml: Any, count: int) -> tuple[str, ...]:
    """The descriptions of bands that GDAL keeps, empty for a band without one; none if no band has one."""
    names = [""] * count
    for item in _items(xml):
        place = item.get("sample", "")
        if item.get("role") == "description" and place.isdigit() and int(place) < count:
            names[int(place)] = (item.text or "").strip()
    return tuple(names) if any(names) else ()


# Names that a band of transparency may have; tools number bands without a name.
_ALPHA = re.compile(r"|a|.*(alpha|transparen|opacity|mask).*|band[ _]?\d+|\d+", re.IGNORECASE)


def may_be_alpha(name: str) -> bool:
    """Whether a band of this name may be transparency.

    GDAL takes the fourth band of each new 8-bit file for transparency, unless its author says otherwise; a name of its
    own, such as `nir`, says so.
    """
    return _ALPHA.fullmatch(name.strip()) is not None


def describe_result(metadata: Metadata, channels: int) -> Metadata:
    """The metadata of a result of `channels`, without what GDAL keeps of single bands, such as their statistics.

    Names of bands stay if the result has as many channels.
    """
    names = metadata.band_names if len(metadata.band_names) == channels else ()
    text = next((tag[3] for tag in metadata.tags if tag[0] == GDAL_METADATA), None)
    root = ElementTree.Element("GDALMetadata")
    root.extend(item for item in _items(text) if item.get("sample") is None)
    for number, name in enumerate(names):
        if name:
            about = {"name": "DESCRIPTION", "sample": str(number), "role": "description"}
            ElementTree.SubElement(root, "Item", about).text = name
    tags = [tag for tag in metadata.tags if tag[0] != GDAL_METADATA]
    if len(root):
        tags.append((GDAL_METADATA, 2, 0, ElementTree.tostring(root, encoding="unicode"), True))
    return replace(metadata, tags=tuple(tags), band_names=names)


def invert(values: Any, bits: int) -> Any:
    """Samples for which 0 is white, as samples for which 0 is black."""
    if values.dtype.kind != "u":
        return values
    largest = 2**bits - 1 if bits <= 8 * values.dtype.itemsize else np.iinfo(values.dtype).max
    return values.dtype.type(largest) - values
