"""One image of a request: read, checked and put together again by the project's one reader and one writer.

All of it runs in threads; nothing here knows of HTTP but the media types and the statuses of problems.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Literal, TypeAlias

import numpy as np

from cyclegan.errors import InputError, MissingPackageError
from cyclegan.images import Array
from cyclegan.images.by_content import suffix_by_content
from cyclegan.images.codecs import encode_image, read_raster
from cyclegan.images.file_formats import FILE_FORMATS, file_format_of
from cyclegan.images.headers import image_size
from cyclegan.images.limits import pixel_limit
from cyclegan.images.raster import Metadata, Raster
from cyclegan.images.regions import Box, RegionReader
from cyclegan.sequences.registry import find_sequence
from cyclegan.serving.media_types import MEDIA_TYPES, Accepted
from cyclegan.serving.problems import Problem, of_upload, sentence
from cyclegan.serving.uploads import content_of, memory_file, upload_file
from cyclegan.system.advice import flags_of_command
from cyclegan.translate.large_files import TiledTranslation
from cyclegan.translate.plan import image_suffix
from cyclegan.translate.results import ResultMaker
from cyclegan.translate.tiling.budget import available_bytes, gib, untiled_bytes
from cyclegan.translate.tiling.network import TilingPlan, why_no_tiles
from cyclegan.translate.tiling.planes import calling_after_steps
from cyclegan.translate.translator import Translator

Tile: TypeAlias = int | Literal["auto", "none"]

# Files of one image that need no other file and no other program. A VRT names files of the machine.
FORMATS = tuple(name for name in FILE_FORMATS if name not in ("slide", "gdal"))

# Images with more pixels are translated in tiles, between which others have their turn.
LARGE_PIXELS = 2**20

# Side of these tiles in pixels: a layer of a tile takes a fraction of the time of an image of 256 pixels, and the large
# image no longer than with larger tiles. A local network runs over a tile in one go, which takes about twice that time.
LARGE_TILE = 256

# Rows of tiles that wait for their compression.
_MOST_ROWS = 4


@dataclass(frozen=True)
class Wish:
    """How a client wants an image. tile: see `Picture.is_tiled`. quality: 1 to 100, of JPEG, WebP and AVIF."""

    tile: Tile = "auto"
    quality: int | None = None
    accepted: Accepted = field(default_factory=Accepted)


@dataclass(frozen=True)
class Answer:
    """The file of a result, its media type, and sentences on what could not be kept."""

    content: bytes
    media_type: str
    notes: tuple[str, ...]


class Picture:
    """An upload on its way: `open`, `decode`, then `values` or `run` for a worker, `encode`, and always `close`.

    content: the bytes of the file; they are taken over. max_pixels: of the image. Methods may run in different threads,
    one at a time. Those that fail raise Problem.
    """

    translator: Translator

    def __init__(self, content: bytearray, wish: Wish, max_pixels: int) -> None:
        self._wish, self._max_pixels = wish, max_pixels
        self._content, self._stack = content, ExitStack()
        self._path, self._suffix, self._target = Path(), "", Path()
        self._size: tuple[int, int] | None = None
        self._given = Raster(np.empty((0, 0, 1), np.uint8), metadata=Metadata())
        self._tiled: _TiledPicture | None = None
        self.values: Array | None = None

    @property
    def is_large(self) -> bool:
        """Whether its size is unknown, or large: few of them are in memory at a time."""
        return self._size is None or self._size[0] * self._size[1] > LARGE_PIXELS

    def open(self, translator: Translator) -> None:
        """Look at the header: the type of the file, the size of the image, the type of the answer."""
        self.translator = translator
        self._path = self._stack.enter_context(upload_file(self._content))
        with self._limits():
            suffix = suffix_by_content(self._path, FORMATS)
            if not suffix:
                raise Problem(415, _unknown(self._path))
            self._path, self._suffix = self._path.rename(self._path.with_suffix(suffix)), suffix
            if (file_format := file_format_of(self._path)) is FILE_FORMATS["slide"]:
                raise Problem(415, "The image is a part of a whole slide in DICOM; translate the slide on a disk.")
            if file_format not in [FILE_FORMATS[name] for name in FORMATS]:
                raise Problem(415, _unknown(self._path))
            sequence = find_sequence(self._path)
            if sequence is not None and not sequence.is_picture(self._path):
                article = "an" if sequence.kind[0] in "aeiou" else "a"
                raise Problem(
                    415,
                    f"The image is {article} {sequence.kind}; send its pictures one at a time, or translate it as a "
                    "whole with `cyclegan translate`.",
                )
            self._size = image_size(self._path)
            if self._size is not None and self._size[0] * self._size[1] > self._max_pixels:
                height, width = self._size
                raise Problem(
                    413,
                    f"The image has {width:,}x{height:,} pixels, and the limit here is {_count(self._max_pixels)}; "
                    "make it smaller first.",
                )
            target = self._wish.accepted.choose(image_suffix(suffix, self.translator), self.translator.target)
            self._target = Path(f"image{target}")

    def decode(self) -> None:
        """Read the image: as a whole into `values`, or in tiles, by region where its type allows that."""
        with self._limits():
            if self._is_tiled():
                self._tiled = _TiledPicture.open(self._stack, self._tiles())
                return
            self._check_memory()
            raster = read_raster(self._path, self.translator.source, self.translator.target)
        self._stack.close()
        self._path = Path()
        self.values, self._given = raster.values, replace(raster, values=raster.values[:0])

    def run(self, pause: Callable[[], None], pool: Executor) -> None:
        """Translate it in tiles. pause: called between two steps. pool: compresses rows of tiles."""
        assert self._tiled is not None
        with self._limits():
            self._tiled.run(pause, pool)

    @property
    def is_open(self) -> bool:
        """Whether there is something to close."""
        return self._path.name != ""

    @property
    def is_in_tiles(self) -> bool:
        """Whether it is for `run`, once it is decoded."""
        return self._tiled is not None

    def encode(self, values: Array | None) -> Answer:
        """The file of the result. values: (H, W, C), the translation of `values`."""
        with self._limits():
            if self._tiled is not None:
                content, maker = self._tiled.content(self._wish.quality)
            else:
                assert values is not None
                maker = ResultMaker(self.translator.target)
                keeps = file_format_of(self._target).keeps
                output = maker.make(values, self._given, keeps, self._target.suffix)
                content = _encode(self._target, output, self._wish.quality)
            return Answer(content, MEDIA_TYPES[self._target.suffix], tuple(maker.sentences()))

    def close(self) -> None:
        """Close and forget the upload."""
        self._stack.close()
        self._path = Path()
        self._content.clear()
        self.values = self._tiled = None

    @contextmanager
    def _limits(self) -> Iterator[None]:
        """In the block, messages name no flags and no temporary file, and images have `max_pixels` at most."""
        with flags_of_command(()), pixel_limit(self._max_pixels), of_upload(str(self._path.parent)):
            try:
                yield
            except MissingPackageError as error:
                raise Problem(415, f"This server cannot read or write the type of the image: {error}") from error

    def _is_tiled(self) -> bool:
        """Whether the image is translated in tiles: where a side is given, and for auto if it is large and can be."""
        if self._wish.tile == "none":
            return False
        original = self.translator.engine.original
        can_be = original is not None and why_no_tiles(original) is None
        return self._wish.tile != "auto" or (self.is_large and can_be)

    def _tiles(self) -> TiledTranslation:
        side = self._wish.tile if isinstance(self._wish.tile, int) else LARGE_TILE
        return TiledTranslation.of(self.translator, self._path, self._target, tile=side)

    def _check_memory(self) -> None:
        """Raises Problem for an image that does not fit into memory as a whole."""
        original = self.translator.engine.original
        available = available_bytes(self.translator.device) if self.is_large else None
        if original is None or available is None or self._size is None:
            return
        needed = untiled_bytes(original, *self._size)
        if needed > available:
            advice = "leave out tile=none" if self._wish.tile == "none" else "make it smaller first"
            raise Problem(
                413, f"The image needs {gib(needed)} as a whole, and {gib(available)} are available; {advice}."
            )


@dataclass
class _TiledPicture:
    """An image that is translated in tiles. rows: of the result, or their compressed tiles, in order."""

    translation: TiledTranslation
    image: RegionReader
    plan: TilingPlan
    has_holes: bool
    rows: list[Array | Future[list[bytes]]] = field(default_factory=list)

    @classmethod
    def open(cls, stack: ExitStack, translation: TiledTranslation) -> "_TiledPicture":
        image = _Locked(stack.enter_context(translation.open_source()))
        try:
            plan = translation.choose_plan(image.height, image.width)
        except InputError as error:
            raise Problem(413, sentence(error, str(translation.source.parent))) from error
        return cls(translation, image, plan, translation.writer is not None and image.has_holes())

    @property
    def _side(self) -> int:
        """Of the tiles of the file."""
        assert self.translation.writer is not None
        return self.translation.writer.tile_side(self.translation.tile)

    def run(self, pause: Callable[[], None], pool: Executor) -> None:
        top = 0
        with calling_after_steps(pause):
            for row in self.translation.rows(self.image, self.plan):
                pause()
                if self.translation.writer is None:
                    self.rows.append(row)
                else:
                    encode = self.translation.encode_rows
                    self.rows.append(pool.submit(encode, self.image, row, top, self._side, has_holes=self.has_holes))
                    if len(self.rows) > _MOST_ROWS and isinstance(waiting := self.rows[-_MOST_ROWS], Future):
                        waiting.result()
                top += len(row)

    def content(self, quality: int | None) -> tuple[bytes, ResultMaker]:
        """The file of the result, and what was lost of the input."""
        translation, image = self.translation, self.image
        if translation.writer is None:
            values = np.concatenate([row for row in self.rows if not isinstance(row, Future)])
            self.rows.clear()
            maker = translation.maker()
            given = image.read_raster(Box(0, image.height, 0, image.width))
            return _encode(translation.target, translation.output(values, given, maker), quality), maker
        described, maker = translation.describe_tiles(image, self._side, has_holes=self.has_holes)
        tiles = (tile for row in self.rows if isinstance(row, Future) for tile in row.result())
        with memory_file() as file:
            translation.writer.write(file, tiles, described)
            return content_of(file), maker


class _Locked:
    """A reader that several threads may use."""

    def __init__(self, reader: RegionReader) -> None:
        self._reader, self._lock = reader, Lock()
        self.height, self.width, self.metadata = reader.height, reader.width, reader.metadata

    def read(self, box: Box) -> Array:
        with self._lock:
            return self._reader.read(box)

    def read_raster(self, box: Box) -> Raster:
        with self._lock:
            return self._reader.read_raster(box)

    def has_holes(self) -> bool:
        return self._reader.has_holes()

    def close(self) -> None:
        self._reader.close()


def _encode(target: Path, output: Raster, quality: int | None) -> bytes:
    with memory_file() as file:  # Pillow holds all threads up while it compresses a JPEG to anything but a file
        encode_image(target, output, file, quality=quality)
        return content_of(file)


def _count(pixels: int) -> str:
    return f"{pixels / 10**6:,.1f} megapixels" if pixels >= 10**6 else f"{pixels:,}"


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        beginning = file.read(4)
    if beginning == b"PK\3\4":
        return "The file is a zip; send one image at a time."
    return "The file is not an image of a known type, or it is damaged; send a PNG, JPEG, WebP, TIFF or .npy."
