"""The type of an image file by its content, for files without a name, such as standard input and uploads."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from PIL import Image

from cyclegan.errors import CycleganError
from cyclegan.images.codecs import probe_image
from cyclegan.images.file_formats import FILE_FORMATS, image_suffixes
from cyclegan.images.filetypes.dicom import is_dicom
from cyclegan.images.limits import without_pixel_limit

# The first bytes of common files, and of those that Pillow does not always know. A photo of a phone may hold further
# pictures behind its own (MPO), and is a JPEG all the same.
_BEGINNINGS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
    b"\x93NUMPY": ".npy",
}


def suffix_by_content(path: Path, names: Collection[str] = tuple(FILE_FORMATS)) -> str | None:
    """The suffix of the image format that a file has, by its content; None if it has none of them.

    The folder of the file is for this call: it puts links to the file there.
    names: rows of `FILE_FORMATS` that are tried. What only Pillow knows, under a suffix of no row, has the suffix "".
    """
    if "dicom" in names and is_dicom(path):  # whose first 128 bytes are free, and may be those of a TIFF
        return FILE_FORMATS["dicom"].suffixes[0]
    with path.open("rb") as file:
        beginning = file.read(12)
    for content, suffix in _BEGINNINGS.items():
        if beginning.startswith(content):
            return suffix
    if beginning[:4] == b"RIFF" and beginning[8:] == b"WEBP":
        return ".webp"
    with suppress(OSError, ValueError, SyntaxError), without_pixel_limit(), Image.open(path) as picture:
        formats = Image.registered_extensions()
        return next((suffix for suffix in image_suffixes() if formats.get(suffix) == picture.format), "")
    # The formats of other packages: the first one whose reader takes it.
    for name in names:
        named = path.with_suffix(FILE_FORMATS[name].suffixes[0])
        named.symlink_to(path)
        try:
            with suppress(CycleganError):
                probe_image(named)
                return named.suffix
        finally:
            named.unlink()
    return None
