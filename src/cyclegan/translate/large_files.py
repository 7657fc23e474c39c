"""Translate files of any size in tiles, and keep finished rows on disk, so that a stopped command can be resumed."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from cyclegan._version import __version__
from cyclegan.errors import CycleganError, InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.codecs import read_raster, write_image
from cyclegan.images.file_formats import file_format_of
from cyclegan.images.file_list import FileList
from cyclegan.images.filetypes.overviews import write_cog
from cyclegan.images.filetypes.pillow import with_alpha
from cyclegan.images.formats import ImageFormat
from cyclegan.images.headers import image_size, read_sizes
from cyclegan.images.limits import check_pixels
from cyclegan.images.pages import stat_file
from cyclegan.images.raster import Raster
from cyclegan.images.regions import ArraySource, Box, ImageSource, RasterSource, RegionReader, TiledImage, TiledWriter
from cyclegan.images.windows import Window, WindowReader, open_part
from cyclegan.translate.partial_result import PartialResult
from cyclegan.translate.progress import OnProgress, not_written
from cyclegan.translate.results import ResultMaker
from cyclegan.translate.self_ensemble import View
from cyclegan.translate.tiling.budget import available_bytes, choose_plan, gib, plans, tiled_bytes, untiled_bytes
from cyclegan.translate.tiling.network import TiledNetwork, TilingPlan, TilingState, has_instance_norm, why_no_tiles
from cyclegan.translate.tiling.pictures import (
    TILE,
    check_tile,
    mean_plane,
    output_rows,
    picture_of,
    sample,
    sample_size,
)
from cyclegan.translate.tiling.planes import Plane, Statistics
from cyclegan.translate.translator import Translator

StatisticsKind = Literal["exact", "crops", "reduced"]
Compression = Literal["auto", "lossless", "jpeg"]

# Seconds between two saves of the state: saving a large activation takes seconds itself.
SAVE_SECONDS = 120.0


@dataclass(frozen=True)
class LargeResult:
    """about_work: sentences such as that the work of an earlier call was resumed. maker: counts what was lost.

    notes: all that a user should know.
    """

    maker: ResultMaker
    about_work: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        return [*self.about_work, *self.maker.sentences()]


def find_large(
    translator: Translator, files: FileList, *, batch_size: int = 1, window: Window | None = None
) -> NDArray[np.bool_]:
    """Whether each image is too large to be translated as a whole in the available memory, (N,), by its header.

    window: the part of each that is translated. A file whose header cannot be read is not large.
    """
    # By names, since there may be a million.
    has_rule = np.array([file_format_of(name).regions.only is not None for name in files.names()], bool)
    is_large = np.zeros(len(files), bool)
    for index in np.flatnonzero(has_rule).tolist():
        is_large[index] = only_regions(files[index], translator.source)
    if not len(files) or translator.engine.original is None or why_no_tiles(translator.original) is not None:
        return is_large
    available = available_bytes(translator.device)  # once: it takes as long as probing an image
    if available is None:
        return is_large

    @cache
    def fits(height: int, width: int) -> bool:
        return _whole_bytes(translator, height, width, batch_size) <= available

    for index, size in enumerate(read_sizes(files)):
        if size is not None and window is not None:
            size = window.size(files[index], *size)
        is_large[index] |= size is not None and not fits(*size)
    return is_large


def why_too_large(
    translator: Translator, path: Path, *, batch_size: int = 1, window: Window | None = None
) -> str | None:
    """Why an image that `find_large` finds too large is not translated as a whole.

    None if reading it as a whole says more: it can be read by region only, has more pixels than are allowed, or its
    header is damaged.
    """
    size, available = image_size(path), available_bytes(translator.device)
    if window is not None and size is not None:
        size = window.size(path, *size)
    if size is None or available is None or only_regions(path, translator.source):
        return None
    try:
        check_pixels(*size)
    except UnreadableError:
        return None
    return (
        f"{path} needs {gib(_whole_bytes(translator, *size, batch_size))} as a whole ({size[1]}x{size[0]} pixels), and "
        f"{gib(available)} are available; leave out --tile none, and it is translated in tiles."
    )


def _whole_bytes(translator: Translator, height: int, width: int, batch_size: int) -> int:
    """Peak of the translation of a batch of images of this size as a whole, with one image and its result."""
    return batch_size * untiled_bytes(translator.original, height, width) + _image_bytes(translator, height, width)


def only_regions(path: Path, source: ImageFormat) -> bool:
    """Whether a file can be translated in tiles only, as whole slides are."""
    only = file_format_of(path).regions.only
    return only is not None and only(path, source)


def translate_large(
    translator: Translator,
    source: Path,
    target: Path,
    *,
    tile: int = TILE,
    statistics: StatisticsKind = "exact",
    keep_profile: bool = False,
    background: str | None = None,
    compression: Compression = "auto",
    window: Window | None = None,
    cog: bool = False,
    on_progress: OnProgress = lambda _what, _share: None,
    save_seconds: float = SAVE_SECONDS,
) -> LargeResult:
    """Translate a file in tiles of `tile` pixels. The result has its size.

    statistics: `exact` uses those of the whole image, so that the result equals the one without tiles. `crops` and
    `reduced` approximate them from full-resolution crops or a reduced image, faster and with less memory.
    A TIFF is read by region. A TIFF is written as a tiled BigTIFF; its finished rows are kept in a hidden folder beside
    it, and the same call resumes after the last one. keep_profile, background: as in `make_output`.
    compression: `jpeg` or `lossless`, for an OME-TIFF; auto: JPEG for 8-bit results of whole slides without marked
    holes, else lossless.
    window: the part of the file that is translated; default: all of it. cog: write a TIFF with overviews as a COG.
    Raises InputError before any work if it does not fit into memory, UnreadableError if the file is damaged.
    """
    translation = TiledTranslation.of(
        translator,
        source,
        target,
        tile=tile,
        statistics=statistics,
        keep_profile=keep_profile,
        background=background,
        compression=compression,
        window=window,
        cog=cog,
        on_progress=on_progress,
        save_seconds=save_seconds,
    )
    with translation.open_source() as image:
        plan = translation.choose_plan(image.height, image.width)
        if translation.writer is None:
            values = np.concatenate(list(translation.rows(image, plan)))
            maker = translation.maker()
            given = image.read_raster(Box(0, image.height, 0, image.width))
            output = translation.output(values, given, maker)
            with _encoding(target):
                write_image(target, output)
            return LargeResult(maker)
        return translation.write_tiles(image, plan, translation.writer)


def _tiled_writer(translator: Translator, source: Path, target: Path, compression: Compression) -> TiledWriter | None:
    """How the target is written in tiles, or None.

    Raises InputError if a package is missing, and if the target cannot be compressed so.
    """
    file_format = file_format_of(target)
    made = translator.target
    if not file_format.can_hold(made.channels, made.dtype, made.alpha):
        raise InputError(f"{target}: files of this kind cannot hold {made}; choose another --out.")
    tiled = file_format.regions.writer
    lossy = tiled and tiled.lossy
    if translator.target.dtype != "uint8" or translator.target.channels not in (1, 3):
        lossy = None
    if compression == "jpeg" and lossy is None:
        raise InputError(
            f"{target} with {translator.target} cannot be compressed as JPEG; that is for 8-bit grey and RGB in "
            "an .ome.tif. Choose lossless."
        )
    is_slide = only_regions(source, translator.source)
    has_marks = translator.source.nodata_of(None) is not None  # of holes, whose values JPEG would change
    is_lossy = compression == "jpeg" or (compression == "auto" and is_slide and lossy is not None and not has_marks)
    writer = lossy if is_lossy else tiled
    if writer is not None and find_spec(writer.package) is None:
        raise InputError(
            f"{target} would be written in tiles by {writer.package}, which needs: pip install "
            f"'{file_format.install}'; or give another --out, such as a .png."
        )
    return writer


@contextlib.contextmanager
def _encoding(target: Path) -> Iterator[None]:
    """Let any error of an encoder be an InputError that names the target. Those of the disk stay as they are."""
    try:
        yield
    except (CycleganError, OSError):
        raise
    except Exception as error:
        raise InputError(not_written(target, error)) from error


def row_bytes(translator: Translator, width: int, num_rows: int) -> int:
    """Bytes of rows of pixels of the result: as values, as they are put together, and as they are encoded."""
    return 3 * width * num_rows * translator.target.pixel_bytes


def _image_bytes(translator: Translator, height: int, width: int) -> int:
    """Bytes of an image and its result, in the types of their files and as float32 tensors."""
    values = translator.source.channels + translator.target.channels
    return height * width * (4 * values + translator.source.pixel_bytes + translator.target.pixel_bytes)


def _rows_of(image: RegionReader, box: Box, *, has_holes: bool) -> Raster:
    """Rows of the input. All have a mask or none has, so that all rows of the result have the same channels."""
    given = image.read_raster(box)
    if not has_holes or given.valid is not None:
        return given
    return replace(given, valid=np.ones(given.values.shape[:2], bool))


@dataclass(frozen=True, kw_only=True)
class TiledTranslation:
    """The translation of one file in tiles, as `translate_large` writes it. writer: how its target is written in tiles,
    or None.
    """

    translator: Translator
    source: Path
    target: Path
    tile: int
    statistics: StatisticsKind = "exact"
    writer: TiledWriter | None
    keep_profile: bool = False
    background: str | None = None
    window: Window | None = None
    cog: bool = False
    on_progress: OnProgress = lambda _what, _share: None
    save_seconds: float = SAVE_SECONDS

    @classmethod
    def of(
        cls,
        translator: Translator,
        source: Path,
        target: Path,
        *,
        tile: int = TILE,
        statistics: StatisticsKind = "exact",
        compression: Compression = "auto",
        **options: Any,
    ) -> Self:
        """The arguments, and errors for the target, are those of `translate_large`."""
        check_tile(tile, translator.original)
        writer = _tiled_writer(translator, source, target, compression)
        if writer is not None:
            tile = max(tile // writer.multiple * writer.multiple, writer.multiple)
        if not has_instance_norm(translator.original):
            statistics = "exact"  # there are none to gather
        return cls(
            translator=translator,
            source=source,
            target=target,
            tile=tile,
            statistics=statistics,
            writer=writer,
            **options,
        )

    @contextlib.contextmanager
    def open_source(self) -> Iterator[RegionReader]:
        """The part of the input that is translated, by region where its format allows that, else decoded."""
        source_format = self.translator.source
        with open_part(self.source, source_format, self.window) as reader:
            if reader is not None:
                yield reader
                return
        size = image_size(self.source)
        if size is not None:
            check_pixels(*size, source_format.pixel_bytes)
        if size is not None and self.window is None:
            self.choose_plan(*size, decoded_bytes=size[0] * size[1] * source_format.pixel_bytes)  # before decoding
        whole = RasterSource(read_raster(self.source, source_format, self.translator.target))
        if self.window is None:
            yield whole
        else:
            yield WindowReader(whole, *self.window.box(self.source, whole.height, whole.width))

    def choose_plan(self, height: int, width: int, *, decoded_bytes: int = 0) -> TilingPlan:
        """The fastest plan that fits into memory. decoded_bytes: of an input that is still to be decoded.

        Raises InputError if none fits.
        """
        network, is_given = self.translator.original, self.statistics != "exact"
        available = available_bytes(self.translator.device)
        held = self._held_bytes(height, width, decoded_bytes)
        try:
            plan = choose_plan(
                network,
                height,
                width,
                self.tile,
                available=available,
                is_given=is_given,
                held=held,
                num_views=len(self.translator.views),
            )
            if is_given:
                small = sample_size(height, width, self.statistics)
                choose_plan(network, *small, self.tile, available=available, is_given=False)
        except InputError as error:
            raise InputError(f"{self.source}: {error}") from None
        return plan

    def _fits(self, height: int, width: int, plan: TilingPlan) -> bool:
        """Whether a plan fits into the memory that is available now. The input is decoded."""
        available = available_bytes(self.translator.device)
        if available is None:
            return True
        needed = tiled_bytes(self.translator.original, height, width, plan, len(self.translator.views))
        return needed <= available - self._held_bytes(height, width, 0)

    def _held_bytes(self, height: int, width: int, decoded_bytes: int) -> int:
        """Bytes beside those of the network on its device: the decoded input, and rows of the result."""
        if self.translator.device.type != "cpu":
            return 0
        return decoded_bytes + row_bytes(self.translator, width, height if self.writer is None else self.tile)

    def maker(self) -> ResultMaker:
        return ResultMaker(self.translator.target, keep_profile=self.keep_profile, background=self.background)

    def output(self, values: Array, given: Raster, maker: ResultMaker) -> Raster:
        """Rows of the result as they are written, with what belongs to the same rows of the input."""
        return maker.make(values, given, file_format_of(self.target).keeps, self.target.suffix)

    def write_tiles(self, image: RegionReader, plan: TilingPlan, writer: TiledWriter) -> LargeResult:
        """Write the target from tiles, which are kept on disk until it is complete."""
        notes: list[str] = []
        height, width = image.height, image.width
        num_rows, side = -(-height // self.tile), writer.tile_side(self.tile)
        has_holes = image.has_holes()
        with PartialResult.open(self.target, self._key(plan), notes) as partial:
            possible = plans(self.translator.original, is_given=self.statistics != "exact")
            plan = partial.plan(plan, possible, lambda plan: self._fits(height, width, plan))
            if partial.num_rows > 0:
                notes.append(f"{self.target.name}: {partial.num_rows} of {num_rows} rows of tiles were done before.")
            try:
                if partial.num_rows < num_rows:
                    for row in self.rows(image, plan, partial):
                        top = partial.num_rows * self.tile
                        partial.append(self.encode_rows(image, row, top, side, has_holes=has_holes))
            except (InputError, UnreadableError) as error:
                if not isinstance(error.__cause__, OSError):  # the file is bad: there is nothing to resume
                    partial.remove()
                raise
            self.on_progress("writing", 1.0)
            num_tiles = -(-height // side) * -(-width // side)
            tiled, maker = self.describe_tiles(image, side, has_holes=has_holes)
            tiles = self._reported(partial.tiles(), num_tiles)
            with _encoding(self.target):
                whole = partial.whole if self.cog else self.target
                writer.write(whole, tiles, tiled)
                if self.cog:
                    self.on_progress("overviews", 1.0)
                    write_cog(whole, self.target)
            partial.remove()
        return LargeResult(maker, notes)

    def encode_rows(self, image: RegionReader, row: Array, top: int, side: int, *, has_holes: bool) -> list[bytes]:
        """Rows of the result from row `top` on, (rows, width, C), as compressed tiles of so many pixels.

        has_holes: whether the image has. What belongs to the same rows of the input is read.
        """
        assert self.writer is not None
        given = _rows_of(image, Box(top, top + len(row), 0, image.width), has_holes=has_holes)
        return self.writer.encode_rows(with_alpha(self.output(row, given, self.maker())), side)

    def describe_tiles(self, image: RegionReader, side: int, *, has_holes: bool) -> tuple[TiledImage, ResultMaker]:
        """What the tiles of `encode_rows` are the tiles of, and what is lost of the input."""
        height, width, maker = image.height, image.width, self.maker()
        # What all rows have in common, by the first one.
        first = _rows_of(image, Box(0, 1, 0, width), has_holes=has_holes)
        dtype = self.translator.target.dtype
        sample = self.output(np.zeros((1, width, self.translator.target.channels), dtype), first, maker)
        shape = (height, width, with_alpha(sample).shape[2])
        return TiledImage(shape, dtype, side, sample.alpha is not None, sample.metadata), maker

    def _reported(self, tiles: Iterator[bytes], count: int) -> Iterator[bytes]:
        """The tiles as they are; progress is reported as they pass, since a pyramid takes minutes."""
        for index, tile in enumerate(tiles):
            if index % 1000 == 999:
                self.on_progress(f"writing, {index / count:.0%}", 1.0)
            yield tile

    def _key(self, plan: TilingPlan) -> str:
        """A digest of everything that the result depends on."""
        digest = hashlib.sha256()
        translator = self.translator
        parts: list[object] = [
            self.source.resolve(),
            *stat_file(str(self.source)),
            plan.side,
            self.statistics,
            __version__,
        ]
        parts += [translator.source, translator.target, translator.info.model, translator.device]
        tiled = file_format_of(self.target).regions.writer
        parts += [self.keep_profile, self.background, self.writer is (tiled and tiled.lossy)]
        parts += [translator.source.model_dump_json(), self.window, translator.self_ensemble]
        for path in file_format_of(self.source).regions.also_reads(self.source):
            parts += [path, path.stat().st_size, path.stat().st_mtime_ns]
        digest.update(os.fsencode("\n".join(str(part) for part in parts)))
        for name, values in translator.original.state_dict().items():
            digest.update(name.encode())
            digest.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def rows(self, image: RegionReader, plan: TilingPlan, partial: PartialResult | None = None) -> Iterator[Array]:
        """The result in rows of tiles. partial: where the state is saved, and whose rows are left out.

        The state of several views is not saved: it is computed again after a stop.
        """
        translator, views = self.translator, self.translator.views
        first = 0 if partial is None else partial.num_rows
        own = partial if len(views) == 1 else None
        outputs = [
            (view, *self._output(image, plan, view, (number, len(views)), own)) for number, view in enumerate(views)
        ]
        output = mean_plane([(view, plane) for view, plane, _ in outputs], image.height, image.width)
        output_share = outputs[0][2]
        num_rows, begin = -(-image.height // plan.side), 1 - output_share
        rows = output_rows(
            output,
            image.height,
            image.width,
            plan.side,
            translator.target,
            check=lambda tile: translator.check_finite(tile, precision="fp32"),
            first=first,
        )
        for index, row in enumerate(rows, first + 1):
            yield row
            self.on_progress(f"row {index} of {num_rows}", begin + output_share * index / num_rows)

    def _output(
        self,
        image: RegionReader,
        plan: TilingPlan,
        view: View,
        which: tuple[int, int],
        partial: PartialResult | None,
    ) -> tuple[Plane, float]:
        """The translation of a view, to be read by region, after all passes before it; and its share of the work.

        which: the number of the view from 0 on, and how many there are. partial: where the state is saved.
        """
        translator, (number, num_views) = self.translator, which
        network, model = translator.original, translator.info.model
        state = TilingState() if partial is None else partial.load(translator.device)
        if self.statistics != "exact" and not state.statistics:
            state.statistics = self._approximate_statistics(image, view)
            if partial is not None:
                partial.save(state)

        passes: dict[str, int] = {}  # name -> number
        saved_at = time.monotonic()
        of_view = f"view {number + 1} of {num_views}, " if num_views > 1 else ""

        def on_share(name: str, share: float) -> None:
            passes.setdefault(name, len(passes) + 1)
            done = (share + number * (1 - tiled.output_share)) / num_views
            self.on_progress(f"statistics, {of_view}pass {passes[name]} of {tiled.num_passes}", done)

        def save_sometimes(state: TilingState) -> None:
            nonlocal saved_at
            if partial is not None and time.monotonic() - saved_at >= self.save_seconds:
                partial.save(state)
                saved_at = time.monotonic()

        picture = picture_of(image, translator.source, network, model, view)
        tiled = TiledNetwork(network, picture, plan, state=state, on_share=on_share, on_block=save_sometimes)
        output = tiled.output()
        if tiled.num_passes:
            save_sometimes(state)
        return output, tiled.output_share

    def _approximate_statistics(self, image: ImageSource, view: View) -> Statistics:
        """The statistics of every instance norm over a view of a smaller picture."""
        network, source_format = self.translator.original, self.translator.source
        self.on_progress(f"statistics of {'crops' if self.statistics == 'crops' else 'the reduced image'}", 0.0)
        small = ArraySource(sample(image, self.statistics))
        available = available_bytes(self.translator.device)
        plan = choose_plan(network, small.height, small.width, self.tile, available=available, is_given=False)
        picture = picture_of(small, source_format, network, self.translator.info.model, view)
        tiled = TiledNetwork(network, picture, plan)
        tiled.output()
        return tiled.state.statistics
