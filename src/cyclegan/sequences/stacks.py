"""Stacks: TIFF files of several pages, each one picture."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.filetypes.tiff import TiffFile, page_of
from cyclegan.images.filetypes.tiff_tags import read_layout
from cyclegan.images.formats import ImageFormat
from cyclegan.images.interpret import interpret_as
from cyclegan.images.raster import Metadata, Raster
from cyclegan.sequences.formats import Frame, PictureSequence, SequenceTarget, check_size

# A classic TIFF holds 4 GiB; some of it is needed for what is not pixels.
_BIG_BYTES = 2**32 - 2**26

# ImageJ, as OME-TIFF, keeps the axes of the stack and the size of a voxel in the description of the first page.
_IMAGEJ = "ImageJ="


@dataclass(frozen=True)
class StackDetails:
    """What a stack takes over from a stack: how its first page is stored, and its OME-XML."""

    is_compressed: bool
    samples: int
    ome_xml: str | None


def is_stack(path: Path) -> bool:
    """Whether a TIFF has more than one page that is a picture by itself; overviews and masks are none."""
    layout = read_layout(path, may_be_cut=True)
    return len(layout.pages) > 1 or not layout.is_whole


@contextmanager
def read_stack(path: Path, image_format: ImageFormat) -> Iterator[PictureSequence]:
    """The pages of a TIFF. They must have one size.

    Raises InputError if the model cannot take them, UnreadableError if the file is damaged.
    """
    try:
        layout = read_layout(path, may_be_cut=True)
    except Exception as error:  # decoders raise errors of many kinds
        raise UnreadableError(f"{path} is damaged: {error}") from error
    first, count = layout.pages[0], len(layout.pages)
    for number, page in enumerate(layout.pages, 1):
        if (page.height, page.width, page.orientation >= 5) != (first.height, first.width, first.orientation >= 5):
            raise InputError(
                f"{path} has pages of different sizes: page 1 has {first.width}x{first.height} pixels, page {number} "
                f"has {page.width}x{page.height}; translate them one by one with --page."
            )
    height, width = (first.width, first.height) if first.orientation >= 5 else (first.height, first.width)
    check_size(path, height, width, image_format.pixel_bytes)
    with TiffFile(path, layout) as file:
        details = StackDetails(first.is_compressed, first.samples, first.ome_xml)
        has_alpha = any(page.has_alpha for page in layout.pages) and image_format.channels != first.samples
        sequence = PictureSequence(path, height, width, count, iter(()), carried=details, has_alpha=has_alpha)
        sequence.frames = _frames(file, sequence, image_format)
        yield sequence


def _frames(file: TiffFile, sequence: PictureSequence, image_format: ImageFormat) -> Iterator[Frame]:
    path, count = sequence.path, len(file.layout.pages)
    for index, page in enumerate(file.layout.pages):
        try:
            found = file.read(page)
        except InputError:
            raise
        except Exception as error:  # decoders raise errors of many kinds
            if index == 0:
                raise UnreadableError(f"{path} is damaged: {error}") from error
            sequence.damage.append(
                f"{path.name} is damaged after page {index} of {count}; the pages before it are kept."
            )
            return
        raster = interpret_as(path, found, image_format)
        if str(raster.values.dtype) != image_format.dtype:
            raise InputError(
                f"Page {index + 1} of {path} is {found.values.shape[2]} x {found.values.dtype}, and the model takes "
                f"{image_format}: convert the file."
            )
        yield Frame(raster)
    if not file.layout.is_whole:
        sequence.damage.append(f"The end of {path.name} is missing; the {count} pages that are there are kept.")


def write_stack(place: Path, frames: Iterator[Frame], target: SequenceTarget) -> None:
    """Write a TIFF with a page for each frame, compressed without loss if the source was, with the metadata of each.

    The descriptions of ImageJ and OME-TIFF are kept where they are still true.
    """
    import tifffile

    source, values = target.source, target.image_format
    details = source.carried if isinstance(source.carried, StackDetails) else None
    page_bytes = source.height * source.width * (values.pixel_bytes + source.has_alpha * values.pixel_bytes)
    is_big = source.num_frames is None or source.num_frames * page_bytes > _BIG_BYTES
    is_compressed = details is None or details.is_compressed
    with tifffile.TiffWriter(place, bigtiff=is_big) as writer:
        for index, frame in enumerate(frames):
            raster = frame.raster
            metadata = raster.metadata
            if index == 0:
                metadata = _described(metadata, raster, target, details)
            pixels, options = page_of(replace(raster, metadata=metadata))
            compression = "adobe_deflate" if is_compressed else None
            writer.write(pixels, metadata=None, contiguous=False, compression=compression, **options)


def _described(metadata: Metadata, raster: Raster, target: SequenceTarget, details: StackDetails | None) -> Metadata:
    """The metadata of the first page, with a description that is true of the result."""
    description = metadata.description or ""
    if description.startswith(_IMAGEJ):
        # The range of the display is one of the source's values.
        kept = [line for line in description.splitlines() if not line.startswith(("min=", "max="))]
        return replace(metadata, description="\n".join(kept) + "\n")
    if details is None or details.ome_xml is None:
        return metadata
    if raster.values.shape[2] + (raster.alpha is not None) != details.samples:
        target.source.notes.append(f"{target.path.name} has other channels than its source, so its OME axes are lost.")
        return metadata
    dtype = str(raster.values.dtype).replace("float32", "float").replace("float64", "double")
    changed = re.sub(r'(<Pixels\b[^>]*?\bType=")[^"]*"', rf'\g<1>{dtype}"', details.ome_xml)
    return replace(metadata, description=re.sub(r'\s(SignificantBits|UUID)="[^"]*"', "", changed))
