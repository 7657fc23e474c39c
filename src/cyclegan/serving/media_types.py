"""Types of the images that the server answers with, and the choice among them by what a client accepts (RFC 9110)."""

import re
from collections.abc import Iterator

from cyclegan.images.file_formats import can_hold
from cyclegan.images.formats import ImageFormat
from cyclegan.serving.problems import Problem

# By the suffix that a file of the type has.
MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".tif": "image/tiff",
    ".npy": "application/x-npy",
    ".jxl": "image/jxl",
    ".jp2": "image/jp2",
    ".j2k": "image/x-jp2-codestream",
    ".heic": "image/heic",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".tga": "image/x-tga",
    ".ppm": "image/x-portable-pixmap",
    ".pgm": "image/x-portable-graymap",
    ".pnm": "image/x-portable-anymap",
    ".pfm": "image/x-portable-floatmap",
}

# What a client chooses from; the others are answers to images of their own type.
OFFERED = (".png", ".jpg", ".webp", ".avif", ".tif", ".npy")


class Accepted:
    """The types that a client accepts. header: of Accept; empty: all."""

    def __init__(self, header: str = "") -> None:
        self._ranges = [*_ranges(header)]

    def choose(self, own: str, target: ImageFormat) -> str:
        """The suffix of the answer: the accepted type that can hold the result, `own` if it is among the best.

        own: the suffix of the input's type, or of its substitute. Raises Problem if there is none.
        """
        choices = [
            own,
            *(suffix for suffix in OFFERED if can_hold(suffix, target.channels, target.dtype, target.alpha)),
        ]
        best = max(choices, key=self._quality)  # the first of equals
        if self._quality(best) > 0:
            return best
        raise Problem(
            406,
            f"None of the accepted types holds {target}; accept one of "
            f"{', '.join(dict.fromkeys(MEDIA_TYPES[suffix] for suffix in choices))}.",
        )

    def _quality(self, suffix: str) -> float:
        """How much a type is wanted, 0 to 1: by the range that names it most exactly."""
        if not self._ranges:
            return 1.0
        name = MEDIA_TYPES[suffix]
        matching = {name: 2, f"{name.partition('/')[0]}/*": 1, "*/*": 0}
        found = [(matching[wanted], quality) for wanted, quality in self._ranges if wanted in matching]
        return max(found)[1] if found else 0.0


def _ranges(header: str) -> Iterator[tuple[str, float]]:
    """Media ranges with their quality. What is no media range is passed over."""
    for part in header.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        if re.fullmatch(r"[\w.+*-]+/[\w.+*-]+", name):
            values = [re.fullmatch(r"q=(0(\.\d*)?|1(\.0*)?)", each) for each in parameters]
            quality = next((float(value[1]) for value in values if value is not None), 1.0)
            yield name, quality
