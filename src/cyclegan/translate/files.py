"""Translate the files of a plan: decode, compute and write at the same time, a few files ahead of each other."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.filetypes.overviews import write_finished
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import decoded_bytes
from cyclegan.images.raster import Raster
from cyclegan.images.resizing import scale
from cyclegan.images.windows import Window, read_part
from cyclegan.system.atomic import is_place_lost
from cyclegan.system.prefetch import MAX_BYTES, num_cores, prefetch
from cyclegan.translate.plan import TranslationPlan, sequences
from cyclegan.translate.progress import not_written
from cyclegan.translate.results import ResultMaker, translate_items
from cyclegan.translate.stabilise import MEMORY_FRAMES
from cyclegan.translate.translator import BatchSize, Translator, batch_limits

# Threads that decode, and as many that write: compressing a PNG takes longer than translating it on a GPU, and so does
# waiting for a disk.
_MAX_THREADS = 16


@dataclass(frozen=True)
class _Image:
    """A decoded file. height, width: of the file; the array is at the network's scale.

    given: its transparency, holes and metadata, without its values.
    """

    source: Path
    target: Path
    height: int
    width: int
    array: Array
    given: Raster


def translate_files(
    translator: Translator,
    plan: Sequence[tuple[Path, Path]],
    *,
    batch_size: BatchSize = 1,
    short_side: int | None = None,
    scale_width: int | None = None,
    stabilise: bool = False,
    memory_frames: float = MEMORY_FRAMES,
    keep_profile: bool = False,
    background: str | None = None,
    window: Window | None = None,
    cog: bool = False,
    counts: ResultMaker | None = None,
    on_done: Callable[[Path], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> list[tuple[Path, str]]:
    """Translate and write every file of a plan. Returns the files that could not be translated, with reasons.

    These are files that cannot be read, images whose translation is not finite, and results that cannot be written.

    Threads decode files ahead of the network and write results behind it, a few at a time.
    batch_size, short_side, scale_width, stabilise, memory_frames, keep_profile, background, cog: as in
    `cyclegan.translate.folder.translate_folder`. window: the part of each file that is translated; default: all of it.
    on_done: called with each source that is written or skipped. on_note: called with sentences on what was converted,
    and on what results cannot keep; counts: includes these numbers instead, for a sentence about several calls.
    Raises InputError if both short_side and scale_width are given, or if no result can be written any more, because
    the disk is full or the output folder is lost.
    """
    if short_side is not None and scale_width is not None:
        raise InputError(f"short_side is {short_side} and scale_width is {scale_width}; pass one of them.")
    failed: list[tuple[Path, str]] = []
    parts = sequences(plan) if stabilise else [plan]
    num_threads = min(_MAX_THREADS, num_cores())
    most, max_pixels = batch_limits(batch_size, translator.device)

    def read(item: tuple[Path, Path]) -> _Image:
        raster = read_part(item[0], translator.source, translator.target, window)
        array = raster.values
        scaled = scale(array, short_side=short_side, width=scale_width)
        return _Image(*item, array.shape[0], array.shape[1], scaled, replace(raster, values=array[:0]))

    # One queue for all parts, so that the network does not wait at the end of each.
    reading = prefetch(
        read,
        itertools.chain.from_iterable(parts),
        num_threads=num_threads,
        max_items=num_threads + 2 * most,
        size_of=lambda image: image.array.nbytes,
        # A decoder holds the whole image, at whatever scale the network takes it.
        estimate=lambda item: decoded_bytes(item[0], translator.source),
        max_bytes=MAX_BYTES,
    )

    def readable(count: int) -> Iterator[_Image]:
        for item, future in itertools.islice(reading, count):
            try:
                yield future.result()
            except (InputError, UnreadableError, MemoryError) as error:
                failed.append((item[0], str(error) or "it does not fit into memory"))
                on_done(item[0])

    def results() -> Iterator[tuple[_Image, Array]]:
        for part in parts:
            images = readable(len(part))
            if most > 1 and not stabilise:
                images = _grouped_by_size(images, most, max_pixels)
            items = ((image, image.array) for image in images)
            for image, result in translate_items(
                translator,
                items,
                batch_size=batch_size,
                stabilise=stabilise,
                memory_frames=memory_frames,
                on_note=on_note,
            ):
                if isinstance(result, InputError):
                    failed.append((image.source, str(result)))
                    on_done(image.source)
                else:
                    yield image, result

    maker = ResultMaker(translator.target, keep_profile=keep_profile, background=background)

    def write(image: _Image, array: Array) -> None:
        size, suffix = (image.height, image.width), image.target.suffix
        output = maker.make(array, image.given, file_format_of(image.target).keeps, suffix, size)
        write_finished(image.target, output, cog=cog)

    try:
        out = (plan if isinstance(plan, TranslationPlan) else TranslationPlan.of(plan)).out
        failed += _write_all(results(), write, translator.target, out, num_threads, on_done)
    finally:
        reading.close()
    if counts is not None:
        counts.include(maker)
    else:
        for sentence in maker.sentences():
            on_note(sentence)
    return failed


def _grouped_by_size(images: Iterable[_Image], most: int, max_pixels: int | None) -> Iterator[_Image]:
    """The same images, reordered so that those of one size follow each other once they fill a batch.

    most, max_pixels: of a batch.
    """
    groups: dict[tuple[int, ...], list[_Image]] = {}
    num_waiting, num_bytes = 0, 0
    for image in images:
        shape = image.array.shape
        pixels = shape[0] * shape[1]
        full = most if max_pixels is None else max(1, min(most, max_pixels // pixels))
        groups.setdefault(shape, []).append(image)
        num_waiting, num_bytes = num_waiting + 1, num_bytes + image.array.nbytes
        while len(groups.get(shape, ())) == full or num_waiting >= 4 * most or num_bytes > MAX_BYTES:
            # The full group, else the one that has waited longest.
            ready = groups.pop(shape if len(groups.get(shape, ())) == full else next(iter(groups)))
            num_waiting, num_bytes = num_waiting - len(ready), num_bytes - sum(each.array.nbytes for each in ready)
            yield from ready
    for ready in groups.values():
        yield from ready


def _write_all(
    results: Iterable[tuple[_Image, Array]],
    write: Callable[[_Image, Array], None],
    image_format: ImageFormat,
    out: Path,
    num_threads: int,
    on_done: Callable[[Path], None],
) -> list[tuple[Path, str]]:
    """Write results in threads, at the size of their files, all below `out`. Returns those that cannot be written.

    Raises InputError if nothing can be written there any more.
    """
    num_done = 0
    failed: list[tuple[Path, str]] = []

    def finish() -> None:
        nonlocal num_done
        image, _, future = writing.popleft()
        try:
            future.result()
        except Exception as error:  # of the disk, or any of an encoder
            if is_place_lost(error, out):
                num_done += sum(not other.cancel() and other.exception() is None for *_, other in writing)
                raise InputError(not_written(image.target, error, num_done)) from error
            failed.append((image.source, not_written(image.target, error)))
        else:
            num_done += 1
        on_done(image.source)

    pool, itemsize = ThreadPoolExecutor(num_threads), np.dtype(image_format.dtype).itemsize
    # The second value is the bytes that an image holds until it is written, the array at the file's size included.
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
    return failed
