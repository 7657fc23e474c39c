"""Translate files: which file becomes which, and the work itself."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.codecs import read_as, write_image
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import decoded_bytes
from cyclegan.images.resizing import cast, resize, scale
from cyclegan.system.prefetch import MAX_BYTES, num_cores, prefetch
from cyclegan.translate.plan import sequences
from cyclegan.translate.stabilise import MEMORY_FRAMES
from cyclegan.translate.translator import Translator

# Threads that decode, and as many that write: a PNG takes longer to compress than a GPU takes to translate.
_MOST_THREADS = 8


def translate_files(
    translator: Translator,
    plan: Sequence[tuple[Path, Path]],
    *,
    batch_size: int = 1,
    short_side: int | None = None,
    scale_width: int | None = None,
    stabilise: bool = False,
    memory_frames: float = MEMORY_FRAMES,
    on_done: Callable[[Path], None] = lambda _: None,
) -> list[tuple[Path, str]]:
    """Translate and write every file of a plan. Returns the files that could not be read, and why.

    Files are decoded ahead of the network and written behind it in threads, a few at a time.
    short_side: pixels to which the shorter side is brought for the network; the result has the input's size again.
    scale_width: the same for the width. Raises InputError if both are given.
    stabilise: each folder is a sequence of frames (see `sequences`), and flicker is reduced as in
    `cyclegan.translate.stabilise`; memory_frames: its time constant.
    """
    if short_side is not None and scale_width is not None:
        scale(np.zeros((1, 1, 1), np.uint8), short_side=short_side, width=scale_width)  # raises
    failed: list[tuple[Path, str]] = []
    parts = sequences(plan) if stabilise else [plan]
    num_threads = min(_MOST_THREADS, num_cores())

    def read(item: tuple[Path, Path]) -> _Image:
        array = read_as(item[0], translator.source, translator.target)
        scaled = scale(array, short_side=short_side, width=scale_width)
        return _Image(*item, array.shape[0], array.shape[1], scaled)

    # One look ahead over all parts, so that the network need not wait where one ends.
    reading = prefetch(
        read,
        itertools.chain.from_iterable(parts),
        num_threads=num_threads,
        max_items=num_threads + 2 * batch_size,
        size_of=lambda image: image.array.nbytes,
        # A decoder holds the whole image, however small the network takes it.
        estimate=lambda item: decoded_bytes(item[0], translator.source),
        max_bytes=MAX_BYTES,
    )

    def readable(count: int) -> Iterator[_Image]:
        for item, future in itertools.islice(reading, count):
            try:
                yield future.result()
            except (InputError, UnreadableError) as error:
                failed.append((item[0], str(error)))
                on_done(item[0])

    waiting: deque[_Image] = deque()

    def arrays(images: Iterable[_Image]) -> Iterator[Array]:
        for image in images:
            waiting.append(image)
            yield image.array

    def translated() -> Iterator[tuple[_Image, Array]]:
        for part in parts:
            images = readable(len(part))
            if batch_size > 1 and not stabilise:
                images = _sizes_together(images, batch_size)
            for result in translator.translate(
                arrays(images), batch_size=batch_size, stabilise=stabilise, memory_frames=memory_frames
            ):
                yield waiting.popleft(), np.asarray(result)

    try:
        _write_behind(translated(), translator.target, num_threads, on_done)
    finally:
        reading.close()
    return failed


@dataclass(frozen=True)
class _Image:
    """A decoded file on its way: height and width are those of the file, the array is at the network's scale."""

    source: Path
    target: Path
    height: int
    width: int
    array: Array


def _sizes_together(images: Iterable[_Image], batch_size: int) -> Iterator[_Image]:
    """The same images, those of one size behind one another as soon as they fill a batch; the others after a while."""
    groups: dict[tuple[int, ...], list[_Image]] = {}
    num_waiting, num_bytes = 0, 0
    for image in images:
        shape = image.array.shape
        groups.setdefault(shape, []).append(image)
        num_waiting, num_bytes = num_waiting + 1, num_bytes + image.array.nbytes
        while len(groups.get(shape, ())) == batch_size or num_waiting >= 4 * batch_size or num_bytes > MAX_BYTES:
            # The full group, else the one that has waited longest.
            ready = groups.pop(shape if len(groups.get(shape, ())) == batch_size else next(iter(groups)))
            num_waiting, num_bytes = num_waiting - len(ready), num_bytes - sum(each.array.nbytes for each in ready)
            yield from ready
    for ready in groups.values():
        yield from ready


def _write_behind(
    results: Iterable[tuple[_Image, Array]],
    image_format: ImageFormat,
    num_threads: int,
    on_done: Callable[[Path], None],
) -> None:
    """Write results at the size of their files. Raises InputError for a disk that takes no more."""
    done = 0

    def write(image: _Image, array: Array) -> None:
        array = resize(array, image.height, image.width)
        if array.dtype.kind == "f":  # bicubic resizing overshoots at edges
            array = array.clip(image_format.low, image_format.high)
        write_image(image.target, cast(array, image_format.dtype))

    def finish() -> None:
        nonlocal done
        image, _, future = writing.popleft()
        try:
            future.result()
        except OSError as error:
            done += sum(not other.cancel() and other.exception() is None for *_, other in writing)
            raise InputError(
                f"{image.target} could not be written: {error.strerror or error}. {done} images are done and kept."
            ) from error
        done += 1
        on_done(image.source)

    pool, itemsize = ThreadPoolExecutor(num_threads), np.dtype(image_format.dtype).itemsize
    # With the bytes that each holds until it is written, the array at the size of the file included.
    writing: deque[tuple[_Image, int, Future[None]]] = deque()
    try:
        for image, array in results:
            size = image.array.nbytes + array.nbytes
            if array.shape[:2] != (image.height, image.width):
                size += image.height * image.width * array.shape[2] * itemsize
            while writing and (
                writing[0][2].done()
                or len(writing) >= 2 * num_threads
                or sum(size for _, size, _ in writing) + size > MAX_BYTES
            ):
                finish()
            writing.append((image, size, pool.submit(write, image, array)))
        while writing:
            finish()
    finally:
        pool.shutdown(cancel_futures=True)
