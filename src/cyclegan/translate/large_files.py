"""Files of any size: translated in tiles, and what is done is kept on disk, so that a stopped command goes on."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cyclegan._version import __version__
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images.codecs import Array, read_as, write_image
from cyclegan.images.file_list import FileList
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import any_size, image_size, read_sizes
from cyclegan.translate.partial_result import PartialResult
from cyclegan.translate.tiff_regions import TiffSource, encode_rows, tile_side, write_tiff
from cyclegan.translate.tiling.budget import available_bytes, choose_plan, tiled_bytes, untiled_bytes
from cyclegan.translate.tiling.network import TiledNetwork, TilingPlan, TilingState, can_tile, has_instance_norm
from cyclegan.translate.tiling.pictures import (
    TILE,
    ArraySource,
    Source,
    approximate_statistics,
    check_tile,
    output_rows,
    picture_of,
    sample_size,
)
from cyclegan.translate.translator import Translator

StatisticsKind = Literal["exact", "crops", "reduced"]

# What is known of an image is written down at most so often, since a large activation takes seconds.
SAVE_SECONDS = 120.0

# Is told what is being done and the share that is done, 0 to 1.
OnProgress = Callable[[str, float], None]


@dataclass
class LargeResult:
    """notes: what a user should know, such as that work of an earlier call was taken up."""

    notes: list[str] = field(default_factory=list)


def needs_tiles(translator: Translator, path: Path, *, batch_size: int = 1) -> bool:
    """Whether an image cannot be translated as a whole in the memory that is available. Reads its header only."""
    return bool(find_large(translator, FileList(Path(), [str(path)]), batch_size=batch_size).any())


def find_large(translator: Translator, files: FileList, *, batch_size: int = 1) -> NDArray[np.bool_]:
    """`needs_tiles` of each file, (N,). A file whose header cannot be read is not large."""
    is_large = np.zeros(len(files), bool)
    if not len(files) or translator.engine.original is None or not can_tile(translator.original):
        return is_large
    available = available_bytes(translator.device)  # once: to ask takes as long as to look at an image
    if available is None:
        return is_large

    @cache
    def fits(height: int, width: int) -> bool:
        needed = batch_size * untiled_bytes(translator.original, height, width) + _held(translator, height, width)
        return needed <= available

    for index, size in enumerate(read_sizes(files)):
        is_large[index] = size is not None and not fits(*size)
    return is_large


def translate_large(
    translator: Translator,
    source: Path,
    target: Path,
    *,
    tile: int = TILE,
    statistics: StatisticsKind = "exact",
    on_progress: OnProgress = lambda _what, _share: None,
    save_seconds: float = SAVE_SECONDS,
) -> LargeResult:
    """Translate a file in tiles of `tile` pixels. The result has its size.

    statistics: exact, those of the whole image, so that the result is what it would be without tiles; or approximate
    and faster with less memory: those of full-resolution crops, or of a reduced image.
    A TIFF is read by region, and a TIFF is written as a tiled BigTIFF with the place on the earth of the input. What is
    done of it is kept in a hidden folder beside it, and the same call goes on after the last row of tiles.
    Raises InputError before any work if it does not fit into memory, UnreadableError if the file is damaged.
    """
    check_tile(tile, translator.original)
    to_tiff = target.suffix.lower() in (".tif", ".tiff")
    if to_tiff:
        if find_spec("tifffile") is None:
            raise InputError(
                f"{target} would be put together as a TIFF, which needs: pip install 'cyclegan[data]'; "
                "or give another --out, such as a .png."
            )
        tile = max(tile // 16 * 16, 16)  # TIFF tiles have sides of multiples of 16
    if not has_instance_norm(translator.original):
        statistics = "exact"  # there are none to gather

    with contextlib.ExitStack() as stack:
        reader: Source
        tags = []
        by_region = TiffSource.open(source, translator.source)
        if by_region is not None:
            stack.callback(by_region.close)
            reader, tags, decoded = by_region, by_region.geo_tags(), 0
        else:
            size = image_size(source)
            decoded = 0 if size is None else size[0] * size[1] * _pixel_bytes(translator.source)
            _check_memory(translator, source, size, tile, statistics, decoded, to_tiff=to_tiff)
            with any_size():
                reader = ArraySource(read_as(source, translator.source, translator.target))
            decoded = 0  # no longer part of what is available
        plan = _check_memory(
            translator, source, (reader.height, reader.width), tile, statistics, decoded, to_tiff=to_tiff
        )
        assert plan is not None
        job = _Job(translator, source, reader, plan, statistics, on_progress, save_seconds)
        if not to_tiff:
            rows = job.rows(None, first=0)
            write_image(target, np.concatenate(list(rows)))
            return LargeResult()
        notes: list[str] = []
        room = _room(translator, reader.height, reader.width, tile, decoded, to_tiff=to_tiff)

        def fits(plan: TilingPlan) -> bool:
            return room is None or tiled_bytes(translator.original, reader.height, reader.width, plan) <= room

        with PartialResult.open(target, job.key(), notes) as partial:
            job.plan = partial.plan(plan, notes, fits)
            count = -(-reader.height // tile)
            if partial.num_rows > 0:
                notes.append(f"{target.name}: {partial.num_rows} of {count} rows of tiles were done before.")
            side = tile_side(tile)
            try:
                if partial.num_rows < count:
                    for row in job.rows(partial, first=partial.num_rows):
                        partial.append(encode_rows(row, side))
            except (InputError, UnreadableError) as error:
                if not isinstance(error.__cause__, OSError):  # the file is bad, so that there is nothing to go on with
                    partial.remove()
                raise
            on_progress("writing", 1.0)
            shape = (reader.height, reader.width, translator.target.channels)
            write_tiff(target, partial.tiles(), shape, translator.target.dtype, side, tags)
            partial.remove()
        return LargeResult(notes)


class _Job:
    """One file on its way: statistics, then rows of tiles."""

    def __init__(
        self,
        translator: Translator,
        path: Path,
        reader: Source,
        plan: TilingPlan,
        statistics: StatisticsKind,
        on_progress: OnProgress,
        save_seconds: float,
    ) -> None:
        self.translator, self.path, self.reader, self.plan = translator, path, reader, plan
        self.statistics, self.on_progress, self.save_seconds = statistics, on_progress, save_seconds
        self._saved = time.monotonic()

    def key(self) -> str:
        """A digest of all that the result depends on."""
        digest = hashlib.sha256()
        translator, about = self.translator, self.path.stat()
        parts = [self.path.resolve(), about.st_size, about.st_mtime_ns, self.plan.side, self.statistics, __version__]
        parts += [translator.source, translator.target, translator.info.model, translator.device]
        digest.update("\n".join(str(part) for part in parts).encode())
        for name, values in translator.original.state_dict().items():
            digest.update(name.encode())
            digest.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def rows(self, partial: PartialResult | None, *, first: int) -> Iterator[Array]:
        """The result from row `first` of tiles on."""
        translator, plan = self.translator, self.plan
        network, model = translator.original, translator.info.model
        state = TilingState() if partial is None else partial.load(translator.device)
        if self.statistics != "exact" and not state.statistics:
            available = available_bytes(translator.device)

            def plan_of(height: int, width: int) -> TilingPlan:
                return choose_plan(network, height, width, plan.side, available=available, is_given=False)

            self.on_progress(f"statistics of {'crops' if self.statistics == 'crops' else 'the reduced image'}", 0.0)
            state.statistics = approximate_statistics(
                network, self.reader, translator.source, model, self.statistics, lambda _n, _s: None, plan_of
            )
            if partial is not None:
                partial.save(state)

        names: dict[str, int] = {}

        def on_share(name: str, share: float) -> None:
            names.setdefault(name, len(names) + 1)
            self.on_progress(f"statistics, pass {names[name]} of {tiled.num_passes}", share)

        def on_block(state: TilingState) -> None:
            if partial is not None and time.monotonic() - self._saved >= self.save_seconds:
                partial.save(state)
                self._saved = time.monotonic()

        picture = picture_of(self.reader, translator.source, network, model)
        tiled = TiledNetwork(network, picture, plan, state=state, on_share=on_share, on_block=on_block)
        output = tiled.output()
        if partial is not None and tiled.num_passes and time.monotonic() - self._saved >= self.save_seconds:
            partial.save(state)
        height, side = self.reader.height, plan.side
        count = -(-height // side)
        begin = 1 - tiled.output_share
        for index, row in enumerate(
            output_rows(output, height, self.reader.width, side, translator.target, first=first), first + 1
        ):
            yield row
            self.on_progress(f"row {index} of {count}", begin + tiled.output_share * index / count)


def _check_memory(
    translator: Translator,
    path: Path,
    size: tuple[int, int] | None,
    tile: int,
    statistics: StatisticsKind,
    decoded: int,
    *,
    to_tiff: bool,
) -> TilingPlan | None:
    """How the file is run; None if nobody knows its size yet. decoded: bytes of the input that will be in memory.

    Raises InputError if it does not fit.
    """
    if size is None:
        return None
    height, width = size
    given = statistics != "exact"
    available = available_bytes(translator.device)
    try:
        plan = choose_plan(
            translator.original,
            height,
            width,
            tile,
            available=available,
            is_given=given,
            held=_beside(translator, height, width, tile, decoded, to_tiff=to_tiff),
        )
        if given:
            small = sample_size(height, width, statistics)
            choose_plan(translator.original, *small, tile, available=available, is_given=False)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return plan


def _room(translator: Translator, height: int, width: int, tile: int, decoded: int, *, to_tiff: bool) -> int | None:
    """Bytes that are left for a plan now; None where nobody says."""
    available = available_bytes(translator.device)
    return None if available is None else available - _beside(translator, height, width, tile, decoded, to_tiff=to_tiff)


def _beside(translator: Translator, height: int, width: int, tile: int, decoded: int, *, to_tiff: bool) -> int:
    """Bytes of what a plan stands beside where the network computes: the decoded input, and rows of the result."""
    row = 3 * width * (tile if to_tiff else height) * _pixel_bytes(translator.target)
    return decoded + row if translator.device.type == "cpu" else 0


def _held(translator: Translator, height: int, width: int) -> int:
    """Bytes of an image, of its result, and of both as float32 tensors."""
    pixels = height * width
    values = translator.source.channels + translator.target.channels
    return pixels * (4 * values + _pixel_bytes(translator.source) + _pixel_bytes(translator.target))


def _pixel_bytes(image_format: ImageFormat) -> int:
    return int(image_format.channels * np.dtype(image_format.dtype).itemsize)
