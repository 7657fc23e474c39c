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


def check_pixels(height: int, width: int, pixel_bytes: int = 3, *, slices: int = 1) -> None:
    """Raises UnreadableError for an image that has more pixels than are allowed, or does not fit into memory.

    pixel_bytes: bytes of a pixel's values when it is decoded. slices: images that are decoded together, as those of a
    compressed volume are.
    """
    most, count = _max_pixels.get(), height * width * slices
    num_bytes = (_COPIES if slices == 1 else 1) * count * pixel_bytes
    if count <= most and num_bytes <= _SMALL_BYTES:  # no text for a million images that are fine
        return
    size = f"{width:,}x{height:,}" if slices == 1 else f"{slices:,} slices of {width:,}x{height:,}"
    apart = "" if slices == 1 else "unpack the file, so that each slice is read alone"
    if count > most:
        advice = advise(
            f"raise it with --max-pixels {count} (in Python max_pixels) if you trust the file",
            apart or "make it smaller first",
        )
        raise UnreadableError(f"it has {size} pixels, more than the limit of {most:,}; {advice}")
    check_memory(f"it has {size} pixels and takes", num_bytes, "decode", f"; {apart}" if apart else "")


def check_memory(what: str, num_bytes: int, verb: str, remedy: str = "") -> None:
    """Raises UnreadableError if so many bytes are not free. The other arguments are parts of its sentence."""
    if num_bytes > _SMALL_BYTES and (free := free_memory()) is not None and num_bytes > free:
        raise UnreadableError(
            f"{what} about {num_bytes / 2**30:.1f} GiB to {verb}, and {free / 2**30:.1f} GiB are free{remedy}"
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
