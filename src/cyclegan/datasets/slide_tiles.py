"""Cut tiles for training from whole slides: by tissue, not by glass."""

import csv
import io
import math
import os
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.codecs import write_image
from cyclegan.images.file_list import evenly_spaced, list_files, without_slide_parts
from cyclegan.images.filetypes.dicom import SUFFIXES as DICOM_SUFFIXES
from cyclegan.images.filetypes.dicom import is_slide
from cyclegan.images.filetypes.slides import SUFFIXES, SlideReader, SlideScale, choose_scale, open_slide
from cyclegan.images.raster import Raster
from cyclegan.images.regions import Box
from cyclegan.images.tissue import find_tissue, shares
from cyclegan.system.arguments import MAX_SIDE, check_choice, check_float, check_int, check_path, real_path
from cyclegan.system.atomic import write_bytes
from cyclegan.system.json_files import read_json
from cyclegan.system.prefetch import num_cores, prefetch

# Microns per pixel that tiles have by default: those of a scan with an objective of 20x.
MPP = 0.5

# Tissue is looked for in a picture of the slide whose longer side has about so many pixels.
_OVERVIEW_SIDE = 1536

# The plan of a slide's tiles, beside them; hidden, so that nobody takes it for an image.
_PLAN = ".tiles.json"

# The scale of all tiles of a folder, for the training; hidden likewise.
_SCALE = ".scale.json"

# Relative difference up to which tiles have one scale.
_SAME_SCALE = 0.03

_COLUMNS = ("slide", "file", "x", "y", "level", "mpp", "tissue")


@dataclass(frozen=True)
class TileOptions:
    """Which tiles are cut. size: pixels of a side. mpp: microns per pixel; or level: of the slide's pyramid.

    tissue: smallest share of a tile that is tissue. max_tiles: of one slide, spread evenly over its tissue; None: all.
    suffix: .png, or .jpg with quality 95.
    """

    size: int = 512
    mpp: float | None = None
    level: int | None = None
    tissue: float = 0.5
    max_tiles: int | None = 1000
    suffix: str = ".png"

    def check(self, name_of: Callable[[str], str] = str) -> None:
        """Raises InputError for values that cannot be used. name_of: a field -> its name in the message."""
        check_int(name_of("size"), self.size, least=16, most=MAX_SIDE // 16, unit=" pixels")
        if self.mpp is not None and check_float(name_of("mpp"), self.mpp, least=0) == 0:
            raise InputError(f"{name_of('mpp')} is 0; expected microns per pixel, such as {MPP}.")
        if self.level is not None:
            check_int(name_of("level"), self.level, least=0, most=1000)
        if self.mpp is not None and self.level is not None:
            raise InputError(
                f"{name_of('mpp')} is {self.mpp:g} and {name_of('level')} is {self.level}; give one of them."
            )
        if check_float(name_of("tissue"), self.tissue, least=0) > 1:
            raise InputError(f"{name_of('tissue')} is {self.tissue:g}; expected a share from 0 to 1.")
        if self.max_tiles is not None:
            check_int(name_of("max_tiles"), self.max_tiles, least=1)
        check_choice(name_of("suffix"), self.suffix, (".png", ".jpg"))


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Tile(_Record):
    """One tile. x, y: of its upper left corner, in pixels of level 0. tissue: the share of it that is tissue."""

    file: str
    x: NonNegativeInt
    y: NonNegativeInt
    tissue: NonNegativeFloat


class _Settings(_Record):
    size: PositiveInt
    mpp: PositiveFloat | None
    level: NonNegativeInt | None
    tissue: NonNegativeFloat
    max_tiles: PositiveInt | None
    suffix: str


class SlidePlan(_Record):
    """The tiles of one slide. slide: its name; num_bytes and modified: as it was. level, mpp: at which tiles are read.

    downsample: pixels of level 0 for one of a tile. num_found: tiles with enough tissue, of which `max_tiles` are cut.
    """

    slide: str
    num_bytes: NonNegativeInt
    modified: int
    settings: _Settings
    level: NonNegativeInt
    mpp: PositiveFloat | None
    downsample: PositiveFloat
    num_found: NonNegativeInt
    tiles: list[Tile]


class _Scale(_Record):
    """mpp: microns per pixel of all tiles."""

    mpp: PositiveFloat


@dataclass(frozen=True)
class CutTiles:
    """The result of `cut_tiles`. plans: by folder. overviews: the folder of their pictures. skipped: slide, reason."""

    out: Path
    overviews: Path
    plans: dict[Path, SlidePlan]
    skipped: tuple[tuple[Path, str], ...]


# Called with a slide, the number of its tiles that are done, and of all of them.
OnTile = Callable[[Path, int, int], None]


def cut_tiles(
    inputs: str | Path | Iterable[str | Path],
    out: str | Path,
    options: TileOptions | None = None,
    *,
    on_tile: OnTile = lambda _slide, _done, _count: None,
) -> CutTiles:
    """Write tiles of slides, or of all slides in folders, into one folder for each slide below `out`.

    Beside `out`, a folder OUT_overview gets a picture of each slide that shows its tiles; `out` gets tiles.csv, a table
    of all tiles. The same call continues after a stop, and adds slides that are new. Which tiles are cut depends on the
    slide and the options alone. A slide that cannot be used is left out, and named in the result.
    Raises InputError if an option is wrong, there are no slides, or `out` has tiles of other slides or options.
    """
    options = options or TileOptions()
    options.check()
    several = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    out = check_path("out", out)
    named = _find_slides([check_path("inputs", path) for path in several], out)
    overviews = out.with_name(f"{out.name}_overview")
    plans: dict[Path, SlidePlan] = {}
    skipped: list[tuple[Path, str]] = []
    for path, name in named:
        try:
            plans[out / name] = _cut_slide(path, out / name, overviews / f"{name}.jpg", options, on_tile)
        except (UnreadableError, _UnfitError) as error:
            skipped.append((path, str(error)))
    if plans:
        _write_table(out)
    return CutTiles(out, overviews, plans, tuple(skipped))


class _UnfitError(InputError):
    """A slide that has not what the options ask for; the others go on."""


def _find_slides(inputs: list[Path], out: Path) -> list[tuple[Path, str]]:
    """Slides, and the name of the folder of each one's tiles below `out`: its path below the folder that was given."""
    found: list[tuple[Path, str]] = []
    for path in inputs:
        if path.is_dir():
            files = without_slide_parts(list_files(path, (*SUFFIXES, ".tif", ".tiff", *DICOM_SUFFIXES)))
            usual = (*SUFFIXES, ".tif", ".tiff")
            slides = [name for name in files.names() if name.lower().endswith(usual) or is_slide(path / name)]
            if not slides:
                raise InputError(f"{path} holds no slides; expected files {', '.join(usual)} or slides in DICOM.")
            found += [(path / name, os.path.splitext(name)[0]) for name in slides]  # noqa: PTH122
        elif path.exists():
            found.append((path, path.stem))
        else:
            raise InputError(f"There is no slide or folder {path}.")
    taken: dict[Path, Path] = {}
    for path, name in found:
        place = real_path(out / name)
        if taken.setdefault(place, path) != path:
            raise InputError(
                f"{taken[place]} and {path} would both write tiles to {out / name}; cut them into two folders."
            )
    return found


def _cut_slide(path: Path, folder: Path, overview: Path, options: TileOptions, on_tile: OnTile) -> SlidePlan:
    with closing(open_slide(path)) as slide:
        scale = _scale(path, slide, options)
        reader = SlideReader(path, slide, scale)
        plan = _earlier_plan(path, folder, options)
        if plan is None:
            plan = _make_plan(path, slide, scale, overview, options)
            if plan.tiles:
                write_bytes(folder / _PLAN, plan.model_dump_json().encode())
        waiting = [tile for tile in plan.tiles if not (folder / tile.file).exists()]
        done, count = len(plan.tiles) - len(waiting), len(plan.tiles)

        def cut(tile: Tile) -> None:
            left, top = (round(corner / plan.downsample) for corner in (tile.x, tile.y))
            values = reader.read_directly(Box(top, top + options.size, left, left + options.size))
            write_image(folder / tile.file, Raster(values, metadata=reader.metadata))

        on_tile(path, done, count)
        for _, future in prefetch(cut, waiting, num_threads=num_cores(), max_items=2 * num_cores()):
            future.result()
            done += 1
            on_tile(path, done, count)
    return plan


def _scale(path: Path, slide: Any, options: TileOptions) -> SlideScale:
    mpp = options.mpp if options.level is not None or options.mpp is not None else MPP
    try:
        return choose_scale(path, slide, mpp=mpp, level=options.level or 0)
    except InputError as error:
        raise _UnfitError(str(error)) from None


def _earlier_plan(path: Path, folder: Path, options: TileOptions) -> SlidePlan | None:
    """The plan of an earlier call; None if there is none. Raises InputError if it is of something else."""
    file = folder / _PLAN
    if not file.exists():
        return None
    try:
        plan = read_json(file, SlidePlan)
    except UnreadableError as error:
        raise InputError(f"{error} Remove {folder}, then run the same command again.") from None
    about = path.stat()
    if (plan.slide, plan.num_bytes, plan.modified) != (path.name, about.st_size, about.st_mtime_ns):
        raise InputError(f"{folder} holds tiles of another slide, {plan.slide}; remove it, or choose another --out.")
    wanted = _Settings(**asdict(options))
    for name, value in plan.settings:
        now = getattr(wanted, name)
        if value != now:
            raise InputError(
                f"{folder} holds tiles with {name.replace('_', '-')} {value}, and this call has {now}; remove it, or "
                "choose another --out."
            )
    return plan


def _make_plan(path: Path, slide: Any, scale: SlideScale, overview: Path, options: TileOptions) -> SlidePlan:
    """Choose the tiles, and draw them."""
    picture, factor = _small_picture(path, slide)
    mask = find_tissue(picture)
    rows, columns = scale.height // options.size, scale.width // options.size
    corners = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    # From pixels of the tiles' scale to those of the small picture.
    ratio = scale.downsample / factor
    side = options.size * ratio
    places = corners.astype(np.float64) * side
    tissue = shares(mask, places[:, 0], places[:, 1], side)
    chosen = np.flatnonzero(tissue >= max(options.tissue, 1e-9))
    kept = chosen.tolist() if options.max_tiles is None else evenly_spaced(chosen.tolist(), options.max_tiles)
    tiles = []
    for index in kept:
        y, x = (round(corner * options.size * scale.downsample) for corner in corners[index].tolist())
        tiles.append(Tile(file=f"x{x:06d}_y{y:06d}{options.suffix}", x=x, y=y, tissue=round(float(tissue[index]), 4)))
    about = path.stat()
    write_bytes(overview, _draw(picture, mask, places[kept], side))
    return SlidePlan(
        slide=path.name,
        num_bytes=about.st_size,
        modified=about.st_mtime_ns,
        settings=_Settings(**asdict(options)),
        level=scale.level,
        mpp=None if scale.mpp is None else sum(scale.mpp) / 2,
        downsample=scale.downsample,
        num_found=len(chosen),
        tiles=tiles,
    )


def _small_picture(path: Path, slide: Any) -> tuple[Array, float]:
    """A picture of the whole slide, (h, w, 3), and the pixels of level 0 for one of it, in bounded memory."""
    whole = choose_scale(path, slide)
    wanted = max(1.0, max(whole.width, whole.height) / _OVERVIEW_SIDE)
    downsamples = [float(factor) for factor in slide.level_downsamples]
    level = max(index for index, factor in enumerate(downsamples) if factor <= wanted or index == 0)
    width, height = slide.level_dimensions[level]
    factor = max(1.0, wanted / downsamples[level])
    size = max(1, math.floor(width / factor)), max(1, math.floor(height / factor))
    reader = SlideReader(path, slide, SlideScale(level, downsamples[level] * factor, factor, *size, None))
    return reader.read(Box(0, size[1], 0, size[0])), downsamples[level] * factor


def _draw(picture: Array, mask: Array, corners: Array, side: float) -> bytes:
    """A JPEG of the slide: what is no tissue is faded, and each tile is framed."""
    faded = np.where(mask[..., None], picture, picture // 3 + 160).astype(np.uint8)
    drawn = Image.fromarray(faded)
    draw = ImageDraw.Draw(drawn)
    width = max(1, round(side / 24))
    for top, left in corners.tolist():
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline=(0, 120, 60), width=width)
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _write_table(out: Path) -> None:
    """tiles.csv, of all tiles below `out`, those of earlier calls included; and their scale, if it is one."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    scales: set[float | None] = set()
    for file in sorted(out.rglob(_PLAN)):
        with suppress(UnreadableError):
            plan = read_json(file, SlidePlan)
            folder = file.parent.relative_to(out)
            scales.add(plan.mpp)
            for tile in plan.tiles:
                mpp = "" if plan.mpp is None else f"{plan.mpp:.6g}"
                place = (folder / tile.file).as_posix()
                writer.writerow((plan.slide, place, tile.x, tile.y, plan.level, mpp, tile.tissue))
    write_bytes(out / "tiles.csv", text.getvalue().encode("utf-8", "surrogateescape"))
    known = [mpp for mpp in scales if mpp is not None]
    if known and len(known) == len(scales) and max(known) <= min(known) * (1 + _SAME_SCALE):
        middle = (max(known) + min(known)) / 2
        write_bytes(out / _SCALE, _Scale(mpp=float(f"{middle:.4g}")).model_dump_json().encode())
    else:
        (out / _SCALE).unlink(missing_ok=True)


def tiles_mpp(folder: Path) -> float | None:
    """Microns per pixel of the tiles that `cut_tiles` wrote into a folder; None if it is no such folder."""
    if not (folder / _SCALE).is_file():
        return None
    try:
        return read_json(folder / _SCALE, _Scale).mpp
    except UnreadableError:
        return None
