"""Standard input in the place of a file, as in `cat x.png | cyclegan translate RUN - --out - > y.png`."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path

from cyclegan.errors import CycleganError, InputError

# Standard input or output on a command line.
STREAM = Path("-")

# The first bytes of files that Pillow does not always know.
_BEGINNINGS = {b"II*\0": ".tif", b"MM\0*": ".tif", b"II+\0": ".tif", b"MM\0+": ".tif", b"\x93NUMPY": ".npy"}


def read_input(folder: Path) -> Path:
    """Write standard input to a file in `folder`, named by its content.

    Raises InputError if it is a terminal, empty, or not an image of a known format.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "The input is -, and nothing is sent to standard input: cat x.png | cyclegan translate RUN - ..."
        )
    path = folder / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    if not path.stat().st_size:
        raise InputError("Standard input is empty; expected an image.")
    return path.rename(path.with_suffix(_suffix_by_content(path)))


def _suffix_by_content(path: Path) -> str:
    from PIL import Image

    from cyclegan.images.codecs import probe_image
    from cyclegan.images.file_formats import FILE_FORMATS, image_suffixes

    with path.open("rb") as file:
        beginning = file.read(8)
    for content, suffix in _BEGINNINGS.items():
        if beginning.startswith(content):
            return suffix
    with suppress(OSError, ValueError), Image.open(path) as picture:
        formats = Image.registered_extensions()
        return next((suffix for suffix in image_suffixes() if formats.get(suffix) == picture.format), "")
    # The formats of other packages: the first one whose reader takes it.
    for file_format in FILE_FORMATS.values():
        named = path.with_suffix(file_format.suffixes[0])
        named.symlink_to(path)
        with suppress(CycleganError):
            probe_image(named)
            return named.suffix
        named.unlink()
    raise InputError("Standard input is not an image of a known format, or it is damaged.")
