"""Scenes that are too large to be decoded for each crop: only the pixels of the crop are read."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cyclegan.data.pixels import Pixels
from cyclegan.errors import UnreadableError
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.filetypes.sample_reader import SampleReader
from cyclegan.images.formats import ImageFormat
from cyclegan.images.regions import Box

# Images with fewer bytes are decoded as a whole.
LEAST_BYTES = 64 * 2**20

# Files of this size on disk may be that large; a VRT is a small text.
_LEAST_FILE_BYTES = 2**20


@dataclass(frozen=True)
class Scene:
    """A file whose parts are read by themselves. height, width: in pixels."""

    path: Path
    image_format: ImageFormat
    height: int
    width: int

    def cropped(self, top: int, left: int, size: int) -> Pixels:
        """A square. Raises UnreadableError or InputError as reading the whole file does."""
        reader = file_format_of(self.path).regions.open(self.path, self.image_format)
        if reader is None:
            raise UnreadableError(f"{self.path} has changed")
        with closing(reader):
            raster = reader.read_raster(Box(top, top + size, left, left + size))
        return Pixels(raster.values, raster.valid)


def open_scene(path: Path, image_format: ImageFormat, *, free_bytes: int = 0) -> Scene | None:
    """A file as a scene, if its parts are the same as those of the whole decoded image.

    None for a file whose decoded image has less than 64 MB or fits into the free bytes of a cache, and for one that is
    not read by region, or whose lossy compression two decoders may decode differently.
    Raises UnreadableError for a damaged file, InputError if a package is missing.
    """
    file_format = file_format_of(path)
    try:
        if path.stat().st_size < _LEAST_FILE_BYTES and path.suffix.lower() != ".vrt":
            return None
        size = file_format.shortcuts.size
        height, width = (size and size(str(path))) or (0, 0)
    except Exception:  # reading the file reports the error
        return None
    if height * width * image_format.pixel_bytes <= max(LEAST_BYTES, free_bytes):
        return None
    reader = file_format.regions.open(path, image_format)
    if reader is None:
        return None
    with closing(reader):
        is_exact = isinstance(reader, SampleReader) and reader.is_exact
        return Scene(path, image_format, reader.height, reader.width) if is_exact else None
