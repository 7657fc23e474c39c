"""How many pixels an image may have. Checked from its header, before it is decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

from PIL import Image

from cyclegan.errors import UnreadableError
from cyclegan.system.advice import advise
from cyclegan.system.arguments import check_int
from cyclegan.system.memory import free_memory

# Twice the side of the largest camera, and a few gigabytes when it is decoded. A file of some kilobytes can claim it.
DEFAULT_MAX_PIXELS = 2**30

# Bytes that an image takes while it is decoded, in bytes of its values: those of the decoder, and a copy.
_COPIES = 2

# Smaller images fit into any memory, and the system is not asked.
_SMALL_BYTES = 2**28

_max_pixels: ContextVar[int] = ContextVar("max_pixels", default=DEFAULT_MAX_PIXELS)


@contextmanager
def pixel_limit(max_pixels: int | None) -> Iterator[None]:
    """In the block, also in threads of `prefetch`, images may have so many pixels; None changes nothing.

    Raises InputError unless it is a whole number from 1 on.
    """
    if max_pixels is None:
        yield
        return
    check_int("max_pixels", max_pixels, least=1)
    token = _max_pixels.set(int(max_pixels))
    try:
        yield
    finally:
        _max_pixels.reset(token)


def check_pixels(height: int, width: int, pixel_bytes: int = 3) -> None:
    """Raises UnreadableError for an image that has more pixels than are allowed, or does not fit into memory.

    pixel_bytes: bytes of a pixel's values when it is decoded.
    """
    most = _max_pixels.get()
    if height * width > most:
        advice = advise(
            f"raise it with --max-pixels {height * width} (in Python max_pixels) if you trust the file",
            "make it smaller first",
        )
        raise UnreadableError(f"it has {width:,}x{height:,} pixels, more than the limit of {most:,}; {advice}")
    needed = _COPIES * height * width * pixel_bytes
    if needed > _SMALL_BYTES and (free := free_memory()) is not None and needed > free:
        raise UnreadableError(
            f"it has {width:,}x{height:,} pixels and takes about {needed / 2**30:.1f} GiB to decode, and "
            f"{free / 2**30:.1f} GiB are free"
        )


_lock = Lock()
_num_blocks = 0
_limit_of_pillow: int | None = None


@contextmanager
def without_pixel_limit() -> Iterator[None]:
    """Lift Pillow's own limit, which is one for the whole process, so that ours is the only one.

    Blocks may overlap in threads; after the last one the limit is what the host program has set.
    """
    global _num_blocks, _limit_of_pillow
    with _lock:
        if _num_blocks == 0:
            _limit_of_pillow, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _num_blocks += 1
    try:
        yield
    finally:
        with _lock:
            _num_blocks -= 1
            if _num_blocks == 0:
                Image.MAX_IMAGE_PIXELS = _limit_of_pillow
