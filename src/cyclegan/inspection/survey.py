"""Survey a folder of images: decode every file once, and keep thumbnails and samples of its pixels."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cyclegan.config import AS_IT_IS, Reading
from cyclegan.data.preprocessing import LEAST_VALID
from cyclegan.errors import InputError, UnreadableError
from cyclegan.images import Array
from cyclegan.images.drawing import displayable, mark_holes
from cyclegan.images.file_formats import image_suffixes
from cyclegan.images.file_list import is_slice, list_images
from cyclegan.images.formats import ImageFormat
from cyclegan.images.identical import equal_files
from cyclegan.images.pages import is_folder
from cyclegan.images.raster import LUMA, Raster
from cyclegan.images.resizing import resize
from cyclegan.images.tensors import to_tensor
from cyclegan.images.thumbnails import THUMBNAIL, FloatArray, three_channels, to_unit
from cyclegan.inspection.duplicates import Fingerprints
from cyclegan.inspection.seen_file import SeenFile, load, look_at_file, sampled
from cyclegan.system.prefetch import num_cores, prefetch
from cyclegan.system.terminal import printable

# Steps of the histograms, over values of 0..1.
BINS = 32

# Pictures whose channels differ by less everywhere have no visible colour: two steps of 8 bits.
_NO_COLOUR = 2 / 255

# Least share of samples that a value needs to be suspected of marking holes.
_LEAST_SUSPECT = 0.005

# Files whose thumbnails and samples are converted to 0..1 at once.
_BLOCK = 2048

# Called with how many files are done and how many there are.
OnFile = Callable[[int, int], None]


@dataclass(frozen=True)
class Size:
    """Pixels of an upright image, and a file of this size (or how many have it)."""

    width: int
    height: int
    file: Path = Path()
    count: int = 1


@dataclass(frozen=True)
class Colour:
    """Averages over the images of a folder, of values brought to 0..1, and histograms over 0..1 as shares.

    brightness: Rec. 601 luma. contrast: standard deviation of the brightness within an image. saturation: the largest
    of red, green and blue, less the smallest. channels: means of red, green and blue, or of the first three channels.
    """

    brightness: float
    contrast: float
    saturation: float
    channels: tuple[float, float, float]
    brightness_histogram: tuple[float, ...]
    saturation_histogram: tuple[float, ...]


@dataclass(frozen=True)
class Holes:
    """Pixels without a value: "no data", NaN, transparent or masked out.

    num_images: images that have some. num_mostly_hole: of these, images with values in less than half of their pixels.
    share: of all pixels of the folder. marked: what marks them, and in how many images.
    """

    num_images: int
    num_mostly_hole: int
    share: float
    marked: dict[str, int]


@dataclass(frozen=True)
class Places:
    """Where the images of a folder lie on the earth. num_images: those that say so, or that name their bands.

    systems, pixels, bands: coordinate systems, sides of pixels and names of bands, as in
    `cyclegan.images.places.Place`, and in how many images. metres: the smallest and the largest pixels, if known.
    in_degrees: how many lie in degrees.
    """

    num_images: int
    systems: dict[str, int]
    pixels: dict[str, int]
    bands: dict[str, int]
    metres: tuple[float, float] | None
    in_degrees: int


@dataclass(frozen=True)
class Suspect:
    """A value that may mark holes although no file says so: an extreme far from all others, in many pixels.

    share: of the sampled values. low, high: the extremes of all others.
    """

    value: float
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class FolderReport:
    """One folder. files: those that can be decoded, relative to `root`. unreadable: file and reason of the others.

    formats, kinds, dtypes: how many files are what. deep_channels: channels of the files that are not 8-bit pictures,
    whose channels cannot be converted. num_grey: pictures without colour. low, high: the values that count as black
    and white here. middle: what 99.8 % of the values lie within; None for 8-bit files alone. reading, channels: how the
    files were read. holes: None if there are none; they are in no other number. suspect: None if there is none.
    clipped: share of the sampled values of files that are not 8-bit that lie outside `low` and `high`. air: the slices
    of volumes and DICOM images that have a single value. places: None if no file says where it lies.
    """

    root: Path
    files: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]
    ignored: dict[str, int]
    num_bytes: int
    formats: dict[str, int]
    kinds: dict[str, int]
    dtypes: dict[str, int]
    deep_channels: dict[int, int]
    num_grey: int
    num_sizes: int
    smallest: Size
    largest: Size
    most_common: Size
    short_side: int
    aspect: float
    low: float
    high: float
    middle: tuple[float, float] | None
    colour: Colour
    reading: Reading = AS_IT_IS
    channels: int = 3
    holes: Holes | None = None
    suspect: Suspect | None = None
    clipped: float = 0.0
    places: Places | None = None
    air: frozenset[Path] = frozenset()

    def __len__(self) -> int:
        return len(self.files)


def survey_folder(
    root: Path,
    value_range: tuple[float, float] | None = None,
    on_file: OnFile = lambda *_: None,
    *,
    reading: Reading = AS_IT_IS,
    channels: int = 3,
) -> tuple[FolderReport, Fingerprints]:
    """Decode every image below a folder, also in subfolders, a few at a time, and summarise them.

    value_range: values that count as black and white in files that are not 8-bit; default: the extremes of the folder.
    reading, channels: how files are read, as in training; those that cannot give these channels are read with their
    own.
    Of files with the same bytes only the first is decoded. Memory: the images that are being decoded, and for each file
    a path, a thumbnail and samples, under 5 KB of 8-bit files and 20 KB of most others. Raises InputError for a folder
    without readable images.
    """
    check_folder(root)
    paths = list_images(root, reading.axis)
    ignored = paths.left_out
    if not paths:
        there = ", ".join(f"{count} of type {suffix}" for suffix, count in ignored.items())
        instead = f" (but {there})" if there else ""
        raise InputError(f"{root} holds no images{instead}; expected files of type {' '.join(image_suffixes())}.")
    seen: list[SeenFile] = []
    unreadable: list[tuple[Path, str]] = []
    same_as = {index: group[0] for group in equal_files(paths) for index in group}
    of_first: dict[int, SeenFile] = {}

    def look(index: int) -> SeenFile:
        path, first = paths[index], of_first.get(same_as.get(index, -1))
        # Another suffix may be decoded in another way.
        if first is not None and first.file.suffix == path.suffix:
            return replace(first, file=path.relative_to(root))
        return look_at_file(path, root, reading, channels)

    num_threads = min(4, num_cores())  # decoders release Python's lock
    ahead = prefetch(look, range(len(paths)), num_threads=num_threads, max_items=2 * num_threads)
    for done, (index, future) in enumerate(ahead, 1):
        try:
            seen.append(future.result())
            if same_as.get(index) == index:
                of_first[index] = seen[-1]
        except (InputError, UnreadableError, OSError) as error:
            reason = str(error).removeprefix(f"{paths[index]} ").removeprefix(f"{paths[index]}: ")  # it is named beside
            unreadable.append((paths[index].relative_to(root), printable(reason)))
        on_file(done, len(paths))
    if not seen:
        name, reason = unreadable[0]
        raise InputError(
            f"None of the {len(paths)} images in {root} can be read; the first is {printable(name)}: {reason}"
        )
    return _summarise(root, seen, tuple(unreadable), ignored, value_range, reading, channels)


def check_folder(path: Path) -> None:
    """Raises InputError if the folder is missing or a file."""
    if not is_folder(path):
        what = f"{path} is a file" if path.exists() else f"There is no folder {path}"
        raise InputError(f"{what}; expected a folder of images, or a zip of them.")


def _summarise(
    root: Path,
    seen: list[SeenFile],
    unreadable: tuple[tuple[Path, str], ...],
    ignored: dict[str, int],
    value_range: tuple[float, float] | None,
    reading: Reading,
    channels: int,
) -> tuple[FolderReport, Fingerprints]:
    deep = [image for image in seen if image.dtype != "uint8"]
    low, high, middle, suspect, clipped = 0.0, 255.0, None, None, 0.0
    if all(image.hole_share == 1 for image in seen):
        raise InputError(f"All pixels of the {len(seen)} images in {root} are holes (no data); nothing is left.")
    if deep:
        extremes = min(image.low for image in deep), max(image.high for image in deep)
        low, high = value_range or extremes
        values = np.concatenate([sampled(image) for image in deep])
        if values.size:  # else all valid pixels lie between the samples
            bottom, top = np.quantile(values, [0.001, 0.999])
            middle = (float(bottom), float(top))
            suspect = _suspected(values, *extremes)
            clipped = float(((values < low) | (values > high)).mean())

    thumbnails, num_grey, colour = _averages(seen, low, high)
    sizes = Counter((image.width, image.height) for image in seen)
    (common_width, common_height), common_count = sizes.most_common(1)[0]
    by_area = sorted(seen, key=lambda image: image.width * image.height)
    smallest, largest = (Size(image.width, image.height, image.file) for image in (by_area[0], by_area[-1]))
    report = FolderReport(
        root=root,
        files=tuple(image.file for image in seen),
        unreadable=unreadable,
        ignored=ignored,
        # A volume counts once, not with each of its slices.
        num_bytes=sum({_stored_in(image.file): image.num_bytes for image in seen}.values()),
        formats=_count(image.format for image in seen),
        kinds=_count(image.kind for image in seen),
        dtypes=_count(image.dtype for image in seen),
        deep_channels=dict(Counter(image.deep_channels for image in seen if image.deep_channels is not None)),
        num_grey=num_grey,
        num_sizes=len(sizes),
        smallest=smallest,
        largest=largest,
        most_common=Size(common_width, common_height, count=common_count),
        short_side=int(np.median([min(image.width, image.height) for image in seen])),
        aspect=round(float(np.median([image.width / image.height for image in seen])), 3),
        low=low,
        high=high,
        middle=middle,
        colour=colour,
        reading=reading,
        channels=channels,
        holes=_holes(seen),
        suspect=suspect,
        clipped=clipped,
        places=_places(seen),
        air=frozenset(image.file for image in seen if not image.digest),
    )
    return report, Fingerprints(report.files, tuple(image.digest for image in seen), thumbnails)


def _stored_in(file: Path) -> Path:
    return file.parent if is_slice(file.as_posix()) else file


def _count(names: Iterable[str]) -> dict[str, int]:
    """The most frequent first."""
    return dict(Counter(names).most_common())


def _holes(seen: list[SeenFile]) -> Holes | None:
    found = [image for image in seen if image.valid is not None]
    if not found:
        return None
    missing = sum(image.hole_share * image.width * image.height for image in found)
    share = missing / sum(image.width * image.height for image in seen)
    num_mostly_hole = sum(1 - image.hole_share < LEAST_VALID for image in found)
    return Holes(len(found), num_mostly_hole, share, _count(image.marked_by for image in found))


def _places(seen: list[SeenFile]) -> Places | None:
    found = [image.place for image in seen if image.place is not None]
    if not found:
        return None
    metres = [place.metres for place in found if place.metres]
    return Places(
        len(found),
        _count(place.system for place in found),
        _count(place.pixel for place in found if place.pixel),
        _count(place.bands for place in found if place.bands),
        (min(metres), max(metres)) if metres else None,
        sum(place.in_degrees for place in found),
    )


def _suspected(values: Array, low: float, high: float) -> Suspect | None:
    """An extreme of a folder that may mark holes. values: samples of all images."""
    for extreme in (low, high):
        marked = values == extreme
        others = values[~marked].astype(np.float64)
        share = float(marked.mean())
        if share < _LEAST_SUSPECT or not others.size:
            continue
        bottom, top = float(others.min()), float(others.max())
        gap = bottom - extreme if extreme == low else extreme - top
        if gap > top - bottom > 0:
            return Suspect(extreme, share, bottom, top)
    return None


def _averages(seen: list[SeenFile], low: float, high: float) -> tuple[NDArray[np.uint16], int, Colour]:
    """All thumbnails, how many are without colour, and the averages, some files at a time. low, high: as reported."""
    all_thumbnails = np.empty((len(seen), THUMBNAIL, THUMBNAIL, 3), np.uint16)
    num_grey, brightness, contrast, saturation, channels = 0, 0.0, 0.0, 0.0, np.zeros(3)
    histograms, num_samples = np.zeros((2, BINS)), 0
    num_counted = sum(_is_counted(image) for image in seen)
    for start in range(0, len(seen), _BLOCK):
        block = seen[start : start + _BLOCK]
        thumbnails = np.stack([to_unit(image.thumbnail, image.dtype, low, high) for image in block])
        samples = np.stack([to_unit(image.samples, image.dtype, low, high) for image in block])
        all_thumbnails[start : start + _BLOCK] = np.rint(thumbnails * 65535)
        num_grey += int(((thumbnails.max(3) - thumbnails.min(3)).max((1, 2)) < _NO_COLOUR).sum())
        luma = samples @ LUMA.astype(np.float32)
        spread = samples.max(3) - samples.min(3)
        for bright, spreads, colours in _without_holes(block, luma, spread, thumbnails):
            share = len(bright) / num_counted
            brightness += share * float(bright.mean())
            contrast += share * float(bright.std(tuple(range(1, bright.ndim))).mean())
            saturation += share * float(spreads.mean())
            channels += share * colours.mean(tuple(range(colours.ndim - 1)))
            histograms += [np.histogram(values, BINS, (0, 1))[0] for values in (bright, spreads)]
            num_samples += bright.size
    red, green, blue = channels.tolist()
    shares = [tuple(row) for row in (histograms / max(num_samples, 1)).tolist()]
    return all_thumbnails, num_grey, Colour(brightness, contrast, saturation, (red, green, blue), *shares)


def _is_counted(image: SeenFile) -> bool:
    """Whether an image has any value where it is looked at. Such images count alike."""
    return image.valid is None or bool(image.valid.any((1, 2)).all())


def _without_holes(
    block: list[SeenFile], luma: FloatArray, spread: FloatArray, thumbnails: FloatArray
) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """The brightness, the spread and the colours of images: of all without holes at once, of others one by one."""
    plain = np.array([image.valid is None for image in block])
    if plain.any():
        yield luma[plain], spread[plain], thumbnails[plain]
    for index in np.flatnonzero(~plain).tolist():
        valid = block[index].valid
        if valid is not None and _is_counted(block[index]):
            yield luma[index][valid[1]][None], spread[index][valid[1]][None], thumbnails[index][valid[0]][None]


def picture(report: FolderReport, file: Path) -> Image.Image:
    """One image of a folder as 8-bit RGB for display, with its holes marked.

    Raises UnreadableError or InputError if it can no longer be read.
    """
    raster = read_again(report, file)
    mask = None if raster.valid is None else torch.from_numpy(np.array(raster.valid))
    return displayable(mark_holes(unit_tensor(report, raster.values), mask))


def read_again(report: FolderReport, file: Path) -> Raster:
    """An image of a folder, read as in the survey. Raises UnreadableError or InputError."""
    return load(report.root / file, report.reading, report.channels)[0]


def unit_tensor(report: FolderReport, values: Array, side: int | None = None) -> Tensor:
    """(3, H, W) in [-1, 1]; resized to a square if a side is given."""
    array = three_channels(values)
    low, high = (0.0, 255.0) if array.dtype == np.uint8 else (report.low, report.high)
    if side is not None:
        array = resize(array, side, side)
    high = high if low < high else low + 1
    return to_tensor(array, ImageFormat(channels=3, low=low, high=high))
